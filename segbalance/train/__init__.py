"""Config -> model.fit -> a run folder.

What comes in is a `TrainConfig` and a `Manifest`; what goes out is a run folder: config.yaml, history.csv,
ledger.csv, the best and the last weights, metrics.json, checkpoints.

`options` holds the groups of options and their checks, `config` all of them with what a run fills in,
`config_file` reads and writes them; `inputs` what it reads, `fitting` the run itself. `callbacks` is what
happens around the epochs, `checkpointer` among them what saves the run in `checkpoints`, `background` writes
meanwhile; `start_lines`, `progress` and `pace` are what a person sees, `loggers` and `worst_examples` what
TensorBoard does; `resuming` whether and where a stopped run goes on, `stopping` makes Ctrl-C and a time limit
requests that save first. `folder` knows the files of a run, `own_folder` keeps other runs out, `best_by` the
best epoch; `kept_file` is a copy of own transforms, `trust` what they may not bring about.

At --resume: `commands/train.py` reads the config, `resuming` compares it with what is wanted, finds the
newest checkpoint, and `fitting` restores draws and variables, then goes on at the next step.
"""
