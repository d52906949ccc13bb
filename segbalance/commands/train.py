"""Config -> model.fit -> a run folder.

python train.py                      after make_csv_file, with the tutorial's defaults
python train.py --config run.yaml    options from a file; the command line wins
python train.py --resume runs/first  goes on where a run stopped
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from segbalance.errors import InputError
from segbalance.reports.report import write_report
from segbalance.runtime.command_line import command
from segbalance.runtime.verbs import typed, usage
from segbalance.train.config import CONFIG, TrainConfig, load_config, parse_config
from segbalance.train.fitting import train
from segbalance.train.inputs import with_transforms
from segbalance.train.resuming import resumed_config
from segbalance.train.trust import trusted_transforms


@dataclass(frozen=True)
class TrainOptions(TrainConfig):
    """Options of a training run.

    Args:
        resume: Folder of a run to go on with, by the options that it was begun with. --epochs may be another
            number.
        force: Goes on in spite of another config or other manifests than the run's.
    """

    resume: str | None = None
    force: bool = False

    def config(self):
        """The TrainConfig in it."""
        return TrainConfig(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)}
        )


def run(config, resumption=None, force=False):
    """Trains as `train` does, and writes the report."""
    config, manifest = train(config, resumption, force)
    if config.report:
        print(f"report: {_report(config, manifest)}")


def _report(config, manifest):
    """Writes the report of a run that has ended; returns its path."""
    try:
        return write_report(config, manifest)[0]
    except InputError as error:
        raise InputError(
            f"{error}\nThe training itself is finished and saved; only its report is missing. Make it with: "
            f"{typed('report')} --work_dir {config.work_dir}"
        ) from None


@command
def main(argv, transforms_file=None):
    """Trains a network on the manifests; `transforms_file` is the clone's transforms.py, if any."""

    def parse(words):
        return parse_config(TrainOptions, words, prog=usage("train"), description=__doc__)

    options = parse(argv)
    if options.resume is None:
        run(with_transforms(options.config(), transforms_file))
        return
    stored = Path(options.resume, CONFIG)
    if stored.is_file() and not any(word.partition("=")[0] == "--transforms" for word in argv):
        trusted_transforms(load_config(options.resume).transforms, None, stored)
    wanted = parse(["--config", str(stored), *argv]).config() if stored.is_file() else options.config()
    # The folder may come from elsewhere, and must not widen what may be read.
    wanted = dataclasses.replace(wanted, allow_outside=options.allow_outside, max_pixels=options.max_pixels)
    wanted = with_transforms(wanted, transforms_file)
    config, resumption, warnings = resumed_config(options.resume, wanted, options.force)
    print("".join(f"{warning}\n" for warning in warnings), end="")
    run(config, resumption, options.force)
