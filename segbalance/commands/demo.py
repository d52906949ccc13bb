"""The whole way on rendered sample data: photos, manifests, training from scratch, scores, pictures.

Everything lands under demo/. It runs the same commands that a person would, and shows them.
"""

import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from segbalance.commands import contact_sheet, prepare, train
from segbalance.commands import sample_data as make_sample_data
from segbalance.errors import InputError
from segbalance.files.locks import locked
from segbalance.files.writing import check_writable
from segbalance.runtime.command_line import DONE, command, parse_options
from segbalance.runtime.verbs import typed, usage
from segbalance.train.options import SEEDS

# A small network from random weights: what two cores learn in four minutes. The photos are small already.
SMALL = (
    "--backbone resnet18 --encoder_weights none --decoder_filters 64 48 32 16 8 --image_size 96 "
    "--working_size 0 "
    "--batch_size 4 --epochs 5 --steps_per_epoch 170 --learning_rate 0.002 --warmup_epochs 0.25 "
    """--transforms '{"default": "light"}'"""
)


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demo.

    Args:
        seed: Of the training run; the sample data stays the same.
        output: Folder for everything.
    """

    seed: int = 0
    output: str = "demo"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < SEEDS:
            raise InputError(f"seed must be from 0 to {SEEDS - 1}, got {self.seed}")
        check_writable("--output", self.output)


def run(program: ModuleType, verb: str, arguments: str) -> None:
    """Runs one command in this process, showing it as typed; leaves with its status if it fails."""
    print(f"\n$ {typed(verb)} {arguments}", flush=True)
    status = program.main(shlex.split(arguments))
    if status != DONE:
        raise SystemExit(status)


@command
def main(argv: list[str]) -> None:
    """Runs the demo."""
    options = parse_options(DemoOptions, argv, prog=usage("demo"), description=__doc__)
    started, folder = time.time(), Path(options.output)
    data, tables, work_dir = (shlex.quote(str(folder / name)) for name in ("data", "csv_file", "run"))
    with locked(folder, "demo", "--output"):
        if not (folder / "data").exists():
            run(make_sample_data, "sample-data", f"--output {data}")
        run(prepare, "prepare", f"--data_root {data} --csv_dir {tables}")
        shutil.rmtree(folder / "run", ignore_errors=True)  # the demo's own earlier run
        run(train, "train", f"--csv_dir {tables} --work_dir {work_dir} --seed {options.seed} {SMALL}")
        run(contact_sheet, "contact-sheet", f"--work_dir {work_dir}")
    took = time.time() - started
    print(f"\ndone in {took:.0f} s; look at report.html and contact_sheet.png in {folder / 'run'}")
