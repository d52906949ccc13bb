"""Shows how the commands grow with the data: seconds and memory against the number of pairs.

A subject is what is measured, in a process of its own.

`manifests` is data_processing.py on pairs of small files. Its limit is the serial cost of reading and
strictly decoding the two files of a pair, times the cores, measured before and after the command, on the same
files. `ratio` compares pairs per second with it, and `cpu_ratio` the processor time of that decoding with all
that the command took, which hardly depends on what else the machine is doing.

`train` is train.py as it stands, with a small network, on manifests of so many training rows and a tenth as
many for validation. Every row has paths of its own, but a few files stand behind them, by links to their
folders. train.py runs in a terminal of its own: its progress bar tells when the first step is done, just
after the first batch arrived, and when to look at the memory of a longer run.

    python scripts/benchmarks/scale.py --pairs 1000 10000 100000 --json manifests.json
    python scripts/benchmarks/scale.py --subject train --pairs 1000 10000 100000 1000000 --steps 2000 \\
        --earlier manifests.json --output scale.png
"""

import io
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd

from scripts.benchmarks.large_data import RENDERED, write_manifests, write_pairs
from scripts.benchmarks.watching import ROOT, run_measured, watch_training
from segbalance.errors import InputError
from segbalance.files.images import open_strictly, read_bytes
from segbalance.files.writing import check_output, write_atomically, write_json
from segbalance.runtime.command_line import command, parse_options

SAMPLE = 2000  # pairs whose decoding is timed for the limit
TRAINING = (
    "--image_size 32 --batch_size 8 --epochs 1 --backbone resnet18 --encoder_weights none "
    "--decoder_filters 16 8 8 4 4 --report false"
).split()
TITLES = {"manifests": "data_processing.py", "train": "train.py to its first batch"}


@dataclass(frozen=True)
class ScaleOptions:
    """Options of the benchmark.

    Args:
        subject: What is measured.
        pairs: Numbers of pairs to measure, one after another.
        image_size: Width and height of the photos in pixels.
        image_type: Type of the photos; the masks are PNG files.
        steps: Of `train`, at least 10: memory towards the end of so many steps is compared with that after a
            tenth.
        folder: Where the data is made, and deleted at the end; the system's temporary folder by default.
        json: File for the table as JSON.
        earlier: Such files of earlier runs, to be drawn too.
        output: File for the plot (PNG).
    """

    subject: Literal["manifests", "train"] = "manifests"
    pairs: list[int] = field(default_factory=lambda: [1000, 10000, 100000])
    image_size: int = 64
    image_type: Literal["png", "jpg"] = "png"
    steps: int | None = None
    folder: str | None = None
    json: str | None = None
    earlier: list[str] = field(default_factory=list)
    output: str | None = None

    def __post_init__(self):
        if self.image_size < 16:
            raise InputError(f"image_size must be at least 16, got {self.image_size}; try 64")
        most = RENDERED * self.image_size**2
        for count in self.pairs:
            if not 10 <= count <= most:
                raise InputError(f"pairs must lie between 10 and {most}, got {count}")
        if self.steps is not None and self.steps < 10:
            raise InputError(f"steps must be at least 10, got {self.steps}; try 2000")
        for path in self.earlier:
            if not os.path.isfile(path):
                raise InputError(f"--earlier {path}: there is no such file")
        if self.folder is not None and not os.path.isdir(self.folder):
            raise InputError(f"--folder {self.folder}: there is no such folder")


def decoding_cost(pairs):
    """(seconds, processor seconds) of reading and strictly decoding one pair in one thread, on average."""
    some = pairs[:: max(1, len(pairs) // SAMPLE)]
    started, processor = time.perf_counter(), time.process_time()
    for paths in some:
        for path in paths:
            open_strictly(read_bytes(path))
    return np.array([time.perf_counter() - started, time.process_time() - processor]) / len(some)


def measure_manifests(count, folder, options):
    """Figures of data_processing.py on `count` pairs, made in `folder`."""
    pairs = write_pairs(folder / "data", count, options)
    before = decoding_cost(pairs)
    program, tables = ROOT / "data_processing.py", folder / "csv_file"
    figures = run_measured([program, "--data_root", folder / "data", "--csv_dir", tables])
    seconds, processor = (before + decoding_cost(pairs)) / 2
    rate, limit = count / figures["seconds"], os.cpu_count() / seconds
    return figures | {
        "pairs_per_s": rate,
        "limit_pairs_per_s": limit,
        "ratio": rate / limit,
        "cpu_ratio": processor * count / figures["cpu_s"],
    }


def measure_train(count, folder, options):
    """Figures of train.py on manifests of `count` training rows, made in `folder`."""
    write_manifests(folder, count, options)
    steps = () if options.steps is None else (options.steps // 10, options.steps)
    length = ["--steps_per_epoch", max(options.steps or 1, -(-count // 8))]
    words = [ROOT / "train.py", "--csv_dir", folder / "csv_file", "--work_dir", folder / "run"]
    return watch_training([*words, *TRAINING, *length], steps)


SUBJECTS = {"manifests": measure_manifests, "train": measure_train}


def measure(count, options):
    """One row of the table: the subject at one number of pairs; its files are deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as folder:
        return {"subject": options.subject, "pairs": count} | SUBJECTS[options.subject](
            count, Path(folder), options
        )


def growth(table):
    """Bytes of peak memory that a further pair costs, from each size to the next; NaN for the first."""
    return table["peak_mb"].diff() / table["pairs"].diff() * 2**20


def read_earlier(paths):
    """The tables of files that --json wrote. Raises InputError where one of them is no such file."""
    tables = []
    for path in paths:
        try:
            table = pd.DataFrame(json.loads(Path(path).read_text()))
            tables.append(table.dropna(subset=["subject", "pairs", "seconds", "peak_mb"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"--earlier {path} is no file that --json wrote: {error}") from None
    return tables


def draw(table, path):
    """Two panels, seconds and memory against the pairs of each subject, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for subject, rows in table.groupby("subject"):
        title, rows = TITLES[subject], rows.sort_values("pairs")
        (line,) = left.plot(rows["pairs"], rows["seconds"], "o-", label=title)
        right.plot(rows["pairs"], rows["peak_mb"], "o-", color=line.get_color(), label=title)
        if subject == "manifests":
            limit = rows["pairs"] / rows["limit_pairs_per_s"]
            left.plot(rows["pairs"], limit, "--", color=line.get_color(), label="its limit")
            right.plot(rows["pairs"], rows["all_mb"], "--", color=line.get_color(), label="with its workers")
    for axis, title in ((left, "seconds"), (right, "peak memory (MB)")):
        axis.set(title=title, xlabel="pairs", xscale="log", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    plt.close(figure)
    write_atomically(path, content.getvalue())


@command
def main(argv):
    """Measures the subject at every size, prints the table and draws it."""
    options = parse_options(ScaleOptions, argv, prog="benchmark_scale.py", description=__doc__)
    for option in ("json", "output"):
        if getattr(options, option):
            check_output(f"--{option}", getattr(options, option))
    earlier = read_earlier(options.earlier)
    rows = []
    for count in options.pairs:
        rows.append(measure(count, options))
        print(f"{count} pairs: {rows[-1]['seconds']:.1f} s", file=sys.stderr)
    table = pd.DataFrame(rows)
    table["bytes_per_pair"] = growth(table)
    print(table.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if options.json:
        write_json(options.json, table.astype(object).where(table.notna(), None).to_dict("records"))
    if options.output:
        draw(pd.concat([*earlier, table]), options.output)


if __name__ == "__main__":
    sys.exit(main())
