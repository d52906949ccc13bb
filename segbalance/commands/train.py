"""Config -> model.fit -> a run folder.

python train.py                      after make_csv_file, with the tutorial's defaults
python train.py --config run.yaml    options from a file; the command line wins
python train.py --resume runs/first  goes on where a run stopped
"""

from dataclasses import dataclass
from pathlib import Path

from segbalance.data_processing.manifest import Manifest
from segbalance.errors import InputError
from segbalance.reports.report import write_report
from segbalance.runtime.command_line import command, program_start
from segbalance.runtime.screen import Verbosity, set_verbosity
from segbalance.runtime.verbs import typed, usage
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import CONFIG, load_config, parse_config
from segbalance.train.fitting import train
from segbalance.train.inputs import with_transforms
from segbalance.train.own_folder import new_run_folder, resumed_folder
from segbalance.train.resuming import Resumption, resumed_config
from segbalance.train.trust import trusted_transforms

# What most people need, in the order of the help's first screen.
FIRST = (
    *("csv_dir", "work_dir", "resume", "balance", "image_size", "architecture", "backbone"),
    *("encoder_weights", "batch_size", "epochs", "learning_rate", "loss", "num_workers", "device"),
    *("mixed_precision", "log", "max_minutes", "quiet", "verbose"),
)


@dataclass(frozen=True)
class TrainOptions:
    """A training run, or how one goes on.

    Args:
        resume: Folder of a run to go on with, by the options that it was begun with. --epochs may be another
            number.
        force: Goes on in spite of another config or other manifests than the run's.
        quiet: Print only warnings, errors and the result.
        verbose: Print TensorFlow's own lines too.
    """

    config: TrainConfig
    resume: str | None = None
    force: bool = False
    quiet: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise InputError("quiet and verbose exclude each other; leave one out")

    @property
    def verbosity(self) -> Verbosity:
        """How much is printed."""
        return Verbosity(Verbosity.USUAL + self.verbose - self.quiet)


def run(config: TrainConfig, resumption: Resumption | None = None, force: bool = False) -> None:
    """Trains as `train` does, and writes the report."""
    config, manifest = train(config, resumption, force, program_start())
    if config.run.report:
        print(f"report: {_report(config, manifest)}")


def _report(config: TrainConfig, manifest: Manifest) -> Path:
    """Writes the report of a run that has ended; returns its path."""
    try:
        return write_report(config, manifest)[0]
    except InputError as error:
        raise InputError(
            f"{error}\nThe training itself is finished and saved; only its report is missing. Make it with: "
            f"{typed('report')} --work_dir {config.run.work_dir}"
        ) from None


@command
def main(argv: list[str], transforms_file: str | Path | None = None) -> None:
    """Trains a network on the manifests; `transforms_file` is the clone's transforms.py, if any."""

    def parse(words: list[str]) -> TrainOptions:
        return parse_config(TrainOptions, words, prog=usage("train"), description=__doc__, first=FIRST)

    options = parse(argv)
    set_verbosity(options.verbosity)
    if options.resume is None:
        with new_run_folder(options.config.run.work_dir) as folder:
            config = options.config.replace(work_dir=str(folder))
            run(with_transforms(config, transforms_file))
        return
    stored, before = Path(options.resume, CONFIG), load_config(options.resume)
    if not any(word.partition("=")[0] == "--transforms" for word in argv):
        trusted_transforms(before.data.transforms, None, stored)
    with resumed_folder(options.resume):
        wanted = parse(["--config", str(stored), *argv]).config
        own = options.config.data
        # The folder may come from elsewhere, and must not widen what may be read.
        wanted = wanted.replace(allow_outside=own.allow_outside, max_pixels=own.max_pixels)
        wanted = with_transforms(wanted, transforms_file)
        config, resumption, warnings = resumed_config(options.resume, wanted, options.force)
        print("".join(f"{warning}\n" for warning in warnings), end="")
        run(config, resumption, options.force)
