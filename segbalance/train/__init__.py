"""Config -> model.fit -> a run folder.

What comes in is a `TrainConfig` and a `Manifest`; what goes out is a run folder: config.yaml, history.csv,
ledger.csv, the best and the last weights, metrics.json, checkpoints.

`options` holds the groups of options and their checks, `config` all of them with what a run fills in,
`config_file` reads and writes them; `inputs` what it reads, `fitting` the run itself. `callbacks` is what
happens around the epochs, `checkpointer` among them what saves the run in `checkpoints`, `background` writes
in a thread meanwhile; `progress` shows the epochs and `pace` knows when they end; `resuming` whether and where a stopped run goes on, `stopping` makes Ctrl-C and a time
limit requests that save first. `folder` knows the files of a run, `own_folder` keeps other runs out, and
`best_by` knows which epoch is the best; `kept_file` is a copy of own transforms, `trust` what they may not
bring about: weights are read, code is not.

At --resume: `commands/train.py` reads the run's config, `resuming` compares it with what is wanted and finds
the newest checkpoint, and `fitting` restores draws and variables, then goes on at the next step.
"""
