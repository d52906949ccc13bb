"""What balancing brings a classification: the rendered sample set, trained in several ways.

    python scripts/compare_balance.py --balances none uniform --seeds 3

Every run has the same network, the same data and the same number of steps; each way is trained under several
seeds. The validation images are as many of each class, and the scores are those of the best epoch.
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from segbalance.balancing.plan import STRATEGIES
from segbalance.commands import prepare, train
from segbalance.commands import sample_data as make_sample_data
from segbalance.commands.demo import run
from segbalance.errors import InputError
from segbalance.files.locks import locked
from segbalance.files.writing import check_output, check_writable, write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.sample_data.rendering import refuse_filled
from segbalance.train.folder import best_epoch, json_rows, read_history

SCORE = "val_balanced_accuracy"
NEED_MORE = ("shares",)  # strategies that need options of their own
SETTINGS = (
    "--encoder_weights none --working_size 0 --cache ram --warmup_epochs 0.25 --report false "
    """--transforms '{"default": "light"}'"""
)


@dataclass(frozen=True)
class CompareBalanceOptions:
    """Options of the comparison.

    Args:
        output: Folder for data, manifests and runs; it must be new or empty.
        balances: Ways of balancing, as train.py --balance takes them.
        seeds: Number of seeds, from 0 on, of weights, draws and augmentation.
        scale: Size of the data set; 1 gives 178 training and 100 validation images.
        image_size: Side of the network's input in pixels.
        backbone: Encoder.
        batch_size: Images a step.
        epochs: Of every run; each is as long as the training images together.
        learning_rate: Highest learning rate.
        json: File for the printed table and the single runs as JSON.
    """

    output: str = "compare_balance"
    balances: list[str] = field(default_factory=lambda: ["none", "uniform"])
    seeds: int = 3
    scale: float = 1.0
    image_size: int = 64
    backbone: str = "mobilenet"
    batch_size: int = 8
    epochs: int = 12
    learning_rate: float = 0.001
    json: str | None = None

    def __post_init__(self) -> None:
        known = [name for name in STRATEGIES if name not in NEED_MORE]
        unknown = [name for name in self.balances if name not in known]
        if unknown or len(set(self.balances)) < len(self.balances):
            raise InputError(f"balances must be different ones of {', '.join(known)}; got {self.balances}")
        if self.seeds < 1:
            raise InputError(f"seeds must be at least 1, got {self.seeds}; try 3")

    def training(self, balance: str, seed: int) -> str:
        """The command line of one run, but for its folders."""
        options: dict[str, Any] = {"balance": balance, "seed": seed}
        for name in ("image_size", "backbone", "batch_size", "epochs", "learning_rate"):
            options[name] = getattr(self, name)
        return " ".join(f"--{name} {value}" for name, value in options.items())


def scores_of(folder: str | Path) -> dict[str, float]:
    """{column of history.csv: value} at the best epoch of a run, and its balanced accuracy at the last."""
    history = read_history(folder)
    best = best_epoch(history)
    scores = {name: float(best[name]) for name in map(str, history) if name.startswith("val_")}
    return {"epoch": int(best["epoch"])} | scores | {"last": float(history[SCORE].iloc[-1])}


def comparison(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a balance, with the mean and the spread of the balanced accuracy over the seeds.

    Args:
        runs: a row a run: balance, seed, and what `scores_of` gives.
    """
    rows = []
    for balance, own in runs.groupby("balance", sort=False):
        accuracy = own[SCORE]
        row = {"balance": balance, "seeds": len(own), "balanced_accuracy": accuracy.mean()}
        # Of a sample: divided by seeds - 1; a single seed has none.
        row |= {"standard_deviation": accuracy.std(), "lowest": accuracy.min(), "highest": accuracy.max()}
        row |= {"last_epoch": own["last"].mean()}
        recalls = [name for name in map(str, own) if name.startswith("val_recall_")]
        rows.append(row | {name.removeprefix("val_"): own[name].mean() for name in recalls})
    return pd.DataFrame(rows)


@command
def main(argv: list[str]) -> None:
    """Trains the runs and prints the table."""
    options = parse_options(CompareBalanceOptions, argv, prog=usage("compare-balance"), description=__doc__)
    folder = Path(options.output)
    check_writable("--output", folder.parent)
    refuse_filled(folder)
    if options.json:
        check_output("--json", options.json)
    data, tables = (shlex.quote(str(folder / name)) for name in ("data", "csv_file"))
    task = "--task classification"
    rows = []
    with locked(folder, "comparison", "--output"):
        run(make_sample_data, "sample-data", f"{task} --output {data} --scale {options.scale}")
        run(prepare, "prepare", f"{task} --data_root {data} --csv_dir {tables}")
        for seed in range(options.seeds):
            for balance in options.balances:
                work_dir = folder / f"{balance}_{seed}"
                folders = f"--csv_dir {tables} --work_dir {shlex.quote(str(work_dir))}"
                run(train, "train", f"{folders} {options.training(balance, seed)} {SETTINGS}")
                rows.append({"balance": balance, "seed": seed} | scores_of(work_dir))
    runs = pd.DataFrame(rows)
    table = comparison(runs)
    shown = table.rename(columns=lambda name: name.replace("_", " "))
    print(f"\n{shown.to_string(index=False, float_format='{:.3f}'.format, na_rep='-')}")
    if options.json:
        write_json(options.json, {"table": json_rows(table), "runs": json_rows(runs)})
