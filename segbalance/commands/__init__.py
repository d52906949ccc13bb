"""The commands, one file a verb: its options, its call, its printing.

What comes in is a command line, `main(argv)`; what goes out is an exit status (0 done, 1 failed, 2 wrong
input; the README has them all) and whatever the command writes. Options are a frozen dataclass, whose
docstring is the help. A command checks its options and asks a room for the work; what could be of use to
somebody without a command line belongs into that room.

The front doors and the files of scripts/ call these by their file names, `segbalance VERB` by their verbs.
"""
