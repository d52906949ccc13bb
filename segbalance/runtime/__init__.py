"""The ground that everything runs on: command line, processes, memory.

`command_line` turns a dataclass into options and a function into a `main` with an exit status; `plain_yaml`
makes sure that a config file is data and nothing else. `workers` starts processes that import only what they
work with and that end with their parent. `memory` keeps freed blocks for the next array. `verbs` is the table
of commands and how a person types them here; `start_up_lines` keeps what TensorFlow says of itself off the
screen, `leaving` ends a program that has used it. `screen` says how much a person sees, and in which colours;
`progress` is a live bar, or lines in a log file. Nothing here knows of images.
"""
