"""How long `train.py --resume` takes to its first batch, late in a long run.

    python scripts/benchmarks/resuming.py --step 100000 --steps_per_epoch 1000 90000

A short run leaves a checkpoint. A copy of it then stands at the step: the state is what a run of so many
steps would have written, but for weights and scores, which do not matter here. Seconds are counted from the
start of the program to the first batch that the loader hands over.
"""

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pandas as pd

from scripts.benchmarks.scale import TRAINING
from scripts.benchmarks.watching import ROOT, watch_training
from segbalance.data_processing.make_csv_file import ManifestOptions, make_csv_file, split_data_train
from segbalance.data_processing.manifest import read_manifest
from segbalance.errors import InputError
from segbalance.runtime.command_line import command, parse_options
from segbalance.sample_data.rendering import make_sample_data
from segbalance.train.checkpoints import checkpoint_name, newest_checkpoint, save_checkpoint
from segbalance.train.config_file import load_config, save_config
from segbalance.train.inputs import checked_plan, training_parts


@dataclass(frozen=True)
class ResumeOptions:
    """Options of the benchmark.

    Args:
        step: Training step at which the run goes on, counted from 0.
        steps_per_epoch: Lengths of an epoch to measure with; the farther from its epoch's start the step is,
            the more draws are gone through.
        rounds: Measurements of each; the median is shown.
    """

    step: int = 100_000
    steps_per_epoch: list[int] = field(default_factory=lambda: [1000, 90_000])
    rounds: int = 3

    def __post_init__(self):
        for name, values in (
            ("step", [self.step]), ("steps_per_epoch", self.steps_per_epoch), ("rounds", [self.rounds])
        ):  # fmt: skip
            if min(values) <= 0:
                raise InputError(f"{name} must be greater than 0, got {min(values)}")


def stopped_run(folder, csv_dir):
    """Trains a tiny run in `folder` to its end: a checkpoint to copy."""
    from segbalance.commands import train

    words = [*TRAINING, "--csv_dir", csv_dir, "--work_dir", folder, "--steps_per_epoch", 1]
    if train.main(words):
        raise RuntimeError("the short run failed")


def stand_at(run, step, steps_per_epoch):
    """Gives the run in a folder a checkpoint at `step`, with the positions that its draws have then."""
    epoch = step // steps_per_epoch
    config = load_config(run).replace(steps_per_epoch=steps_per_epoch, epochs=epoch + 1)
    manifest = read_manifest(config.data.csv_dir)
    reader, stream = training_parts(config, manifest, *checked_plan(config, manifest))
    for number in range(epoch):
        steps = stream.steps(number * steps_per_epoch)
        for _ in range(steps_per_epoch):
            next(steps)
        steps.close()
    checkpoint, _ = newest_checkpoint(run)
    state = checkpoint.state | {
        "step": step,
        "epoch": epoch,
        "positions": {str(epoch): stream.positions[epoch].tolist()},
    }

    def copy_variables(prefix):
        for path in checkpoint.path.glob("variables*"):
            shutil.copy(path, Path(prefix).with_name(path.name))

    save_checkpoint(run, checkpoint_name(epoch, step), copy_variables, state)
    save_config(config, run)


@command
def main(argv):
    """Measures each length of an epoch in turn and prints a table."""
    options = parse_options(ResumeOptions, argv, prog="benchmark_resume.py", description=__doc__)
    rows = []
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        folder = Path(folder)
        make_sample_data(folder / "data", scale=0.03, image_size=96, progress=False)
        make_csv_file(ManifestOptions(data_root=str(folder / "data"), csv_dir=str(folder / "csv_file")))
        split_data_train(str(folder / "csv_file"))
        stopped_run(folder / "run", folder / "csv_file")
        for length in options.steps_per_epoch:
            run = shutil.copytree(folder / "run", folder / f"run{length}")
            stand_at(run, options.step, length)
            for number in range(options.rounds):
                copy = shutil.copytree(run, folder / f"run{length}-{number}")
                figures = watch_training([ROOT / "train.py", "--resume", copy])
                rows.append({"steps_per_epoch": length, "step": options.step} | figures)
    table = pd.DataFrame(rows).groupby(["steps_per_epoch", "step"], as_index=False).median()
    columns = ["steps_per_epoch", "step", "seconds", "first_step_s", "peak_mb"]
    print(table[columns].to_string(index=False, float_format="{:.1f}".format))


if __name__ == "__main__":
    sys.exit(main())
