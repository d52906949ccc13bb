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
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from segbalance.data_processing.description import VERSION
from segbalance.data_processing.manifest import COLUMNS, write_tables
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.errors import InputError
from segbalance.files.images import open_strictly, read_bytes
from segbalance.files.writing import check_output, write_atomically, write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.sample_data.rendering import SUBSET_SIZES, render_pair

RENDERED = 256  # distinct scenes; shifting them by a pixel each time makes the rest
SAMPLE = 2000  # pairs whose decoding is timed for the limit
TRAINING = (
    "--image_size 32 --batch_size 8 --epochs 1 --backbone resnet18 --encoder_weights none "
    "--decoder_filters 16 8 8 4 4 --report false"
).split()
PROGRESS = re.compile(rb"(\d+)/\d+ \[")
# Runs a program as it is, and says when its loader has read the first batch.
TOLD = f"""
import runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = {str(ROOT)!r}
from segbalance.dataloader import reading
read = reading.BatchReader.read
def told(self, *batch):
    pixels = read(self, *batch)
    print("<first batch>", flush=True)
    reading.BatchReader.read = read
    return pixels
reading.BatchReader.read = told
runpy.run_path(sys.argv[0], run_name="__main__")
"""
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


def write_pairs(root, count, options):
    """Writes `count` pairs of different content in the layout Images/<subset>/ with Masks/<subset>/.

    Returns:
        list of (image path, mask path), both str.
    """
    subsets = list(SUBSET_SIZES)
    scenes = [
        render_pair(0, "train", subsets[number % len(subsets)], number, options.image_size)
        for number in tqdm(range(min(count, RENDERED)), desc="rendering", delay=2)
    ]
    for kind in ("Images", "Masks"):
        for name in subsets:
            Path(root, kind, name).mkdir(parents=True)
    return [
        write_pair(root, number, *scenes[number % len(scenes)], options)
        for number in tqdm(range(count), desc="writing", unit="pair", delay=2)
    ]


def write_pair(root, number, image, mask, options):
    """Writes a scene, uint8 (H, W, 3) and (H, W), shifted by its own number of pixels; returns both paths."""
    shift = divmod(number // RENDERED, options.image_size)
    name = f"{number % len(SUBSET_SIZES)}/{number:07d}"
    paths = Path(root, "Images", f"{name}.{options.image_type}"), Path(root, "Masks", f"{name}.png")
    for path, pixels in zip(paths, (image[..., ::-1], mask), strict=True):
        path.write_bytes(cv2.imencode(path.suffix, np.roll(pixels, shift, (0, 1)))[1])
    return tuple(map(str, paths))


def decoding_cost(pairs):
    """(seconds, processor seconds) of reading and strictly decoding one pair in one thread, on average."""
    some = pairs[:: max(1, len(pairs) // SAMPLE)]
    started, processor = time.perf_counter(), time.process_time()
    for paths in some:
        for path in paths:
            open_strictly(read_bytes(path))
    return np.array([time.perf_counter() - started, time.process_time() - processor]) / len(some)


def run_measured(words):
    """Runs a command to its end.

    Returns:
        dict of its `seconds`, processor time `cpu_s` (with its workers) and highest memory: `peak_mb` of the
        command's own process, `all_mb` with its workers.
    """
    started, own, together = time.perf_counter(), 0, 0
    process = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL)
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        # Not ru_maxrss, which begins with what the parent held when it started the process.
        own, together = max(own, memory(process.pid, "VmHWM")), max(together, family_memory(process.pid))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{words[0]} ended with status {process.returncode}")
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": own,
        "all_mb": max(own, together),
    }


def memory(pid, field):
    """MB of a line in /proc/<pid>/status (VmHWM: the highest so far, VmRSS: now); 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0)


def processor_time(pid):
    """Seconds of processor time that a running process has taken, without its children."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def family_memory(pid):
    """Resident MB of a process and its descendants now; pages that they share count in each."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return memory(pid, "VmRSS") + sum(map(family_memory, children))


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


def write_scenes(folder, count, options):
    """Writes `count` pairs as folder/images/<number> and folder/masks/<number>.

    Returns:
        (names of the images, names of the masks, coverage of each), lists.
    """
    names, masks, coverages = [], [], []
    for kind in ("images", "masks"):
        Path(folder, kind).mkdir(parents=True)
    for number in range(count):
        image, mask = render_pair(0, "train", "0", number, options.image_size)
        names.append(f"{number:03d}.{options.image_type}")
        masks.append(f"{number:03d}.png")
        coverages.append(np.count_nonzero(mask) / mask.size)
        for path, pixels in (("images", names[-1]), image[..., ::-1]), (("masks", masks[-1]), mask):
            Path(folder, *path).write_bytes(cv2.imencode(Path(path[1]).suffix, pixels)[1])
    return names, masks, coverages


def linked_rows(root, split, subset, count, scenes, options):
    """`count` rows of a manifest, each with paths of its own; they lead to the few files of `scenes`.

    Args:
        scenes: (folder, what `write_scenes` gave for it).
    """
    folder, (images, masks, coverages) = scenes
    parts, scene = np.divmod(np.arange(count), len(images))
    for kind in ("images", "masks"):
        place = Path(root, split, kind, subset)
        place.mkdir(parents=True)
        for part in range(parts[-1] + 1):
            place.joinpath(f"{part:05d}").symlink_to(folder / kind, target_is_directory=True)
    places = list(zip(parts.tolist(), scene.tolist(), strict=True))
    return pd.DataFrame(
        {
            "images": [f"{split}/images/{subset}/{part:05d}/{images[number]}" for part, number in places],
            "masks": [f"{split}/masks/{subset}/{part:05d}/{masks[number]}" for part, number in places],
            "type": subset,
            "width": options.image_size,
            "height": options.image_size,
            "coverage": np.array(coverages)[scene],
        },
        columns=COLUMNS,
    )


def write_manifests(folder, count, options):
    """Writes folder/csv_file for `count` training rows and a tenth as many for validation; data beside it."""
    place = folder / "data" / "scenes"  # links out of the data root are refused
    scenes = place, write_scenes(place, min(count, RENDERED), options)
    shares = np.array(list(SUBSET_SIZES.values())) / sum(SUBSET_SIZES.values())
    tables, splits = {}, {"train": count, "valid": count // 10}
    for split, rows in splits.items():
        bounds = np.round(np.cumsum([0, *shares]) * rows).astype(int)
        parts = {
            subset: linked_rows(folder / "data", split, subset, size, scenes, options)
            for subset, size in zip(SUBSET_SIZES, np.diff(bounds).tolist(), strict=True)
            if size
        }
        tables[f"{split}.csv"] = pd.concat(parts.values())
        if split == "train":
            tables |= {f"train{subset}.csv": part for subset, part in parts.items()}
    description = {
        "version": VERSION,
        "data_root": str(folder / "data"),
        "mask_encoding": MaskEncoding().to_dict(),
    }
    write_tables(folder / "csv_file", tables, description)


def measure_train(count, folder, options):
    """Figures of train.py on manifests of `count` training rows, made in `folder`."""
    write_manifests(folder, count, options)
    steps = () if options.steps is None else (options.steps // 10, options.steps)
    length = ["--steps_per_epoch", max(options.steps or 1, -(-count // 8))]
    words = [ROOT / "train.py", "--csv_dir", folder / "csv_file", "--work_dir", folder / "run"]
    return watch_training([*words, *TRAINING, *length], steps)


def watch_training(words, steps=()):
    """Runs train.py in a terminal of its own until its progress bar has passed the last of `steps`.

    Args:
        steps: none, or two: the highest memory shortly before the second is compared with that shortly before
            the first, over half as many steps as the first.

    Returns:
        dict of `seconds` from the start to the first batch that the loader hands over; `first_step_s` to the
        end of the first step, and the processor time and the highest memory until then (see
        `run_measured`); `early_mb` and `late_mb` of the process before `steps`, and `late_over_early`.
    """
    started, figures, together, printed = time.perf_counter(), {}, 0, b""
    highest, last = {}, max(steps, default=1)  # {step: resident MB}
    first = None
    terminal, its_side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", TOLD, *map(str, words)], stdout=its_side)
    os.close(its_side)
    try:
        while max(highest, default=0) < last:
            if select.select([terminal], [], [], 0.05)[0]:
                printed = printed[-1000:] + read_terminal(terminal)
            together = max(together, family_memory(process.pid))
            step = max(map(int, PROGRESS.findall(printed)), default=0)
            if b"<first batch>" in printed and first is None:
                first = time.perf_counter() - started
            if step and not figures:
                own = memory(process.pid, "VmHWM")
                figures |= {
                    "seconds": first,
                    "first_step_s": time.perf_counter() - started,
                    "cpu_s": processor_time(process.pid),
                    "peak_mb": own,
                    "all_mb": max(own, together),
                }
            if step:
                highest[step] = max(highest.get(step, 0), memory(process.pid, "VmRSS"))
            if process.poll() is not None and step < last:
                raise RuntimeError(f"{words[0]} ended with status {process.returncode}: {printed.decode()}")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    if steps:
        early, late = (
            max(used for step, used in highest.items() if mark - steps[0] / 2 < step <= mark)
            for mark in (steps[0], max(highest))
        )
        figures |= {"early_mb": early, "late_mb": late, "late_over_early": late / early}
    return figures


def read_terminal(terminal):
    """What was printed to a terminal; nothing once the other side is closed."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


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
