"""Shows how the commands grow with the data: seconds and memory against the number of pairs.

A subject is what is measured. `manifests` is data_processing.py on pairs of small files, in a process of its
own. Its limit is the serial cost of reading and strictly decoding the two files of a pair, times the cores,
measured before and after the command, on the same files. `ratio` compares pairs per second with it, and
`cpu_ratio` the processor time of that decoding with all that the command took, which hardly depends on what
else the machine is doing.

    python scripts/benchmark_scale.py --pairs 1000 10000 100000 --output scale.png
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from command import command, parse_options
from errors import InputError
from image_files import open_strictly, read_bytes
from manifest import check_writable, write_atomically, write_json
from sample_data import SUBSET_SIZES, render_pair

RENDERED = 256  # distinct scenes; shifting them by a pixel each time makes the rest
SAMPLE = 2000  # pairs whose decoding is timed for the limit


@dataclass(frozen=True)
class ScaleOptions:
    """Options of the benchmark.

    Args:
        subject: What is measured.
        pairs: Numbers of pairs to measure, one after another.
        image_size: Width and height of the photos in pixels.
        image_type: Type of the photos; the masks are PNG files.
        folder: Where the data is made, and deleted at the end; the system's temporary folder by default.
        json: File for the table as JSON.
        output: File for the plot (PNG).
    """

    subject: Literal["manifests"] = "manifests"
    pairs: list[int] = field(default_factory=lambda: [1000, 10000, 100000])
    image_size: int = 64
    image_type: Literal["png", "jpg"] = "png"
    folder: str | None = None
    json: str | None = None
    output: str | None = None

    def __post_init__(self):
        if self.image_size < 16:
            raise InputError(f"image_size must be at least 16, got {self.image_size}; try 64")
        most = RENDERED * self.image_size**2
        for count in self.pairs:
            if not 10 <= count <= most:
                raise InputError(f"pairs must lie between 10 and {most}, got {count}")
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


SUBJECTS = {"manifests": measure_manifests}


def measure(count, options):
    """One row of the table: the subject at one number of pairs; its files are deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as folder:
        return {"subject": options.subject, "pairs": count} | SUBJECTS[options.subject](
            count, Path(folder), options
        )


def growth(table):
    """Bytes of peak memory that a further pair costs, from each size to the next; NaN for the first."""
    return table["peak_mb"].diff() / table["pairs"].diff() * 2**20


def draw(table, path):
    """Two panels, seconds and memory against the pairs, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(table["pairs"], table["seconds"], "o-", label=table["subject"].iloc[0])
    if "limit_pairs_per_s" in table:
        left.plot(table["pairs"], table["pairs"] / table["limit_pairs_per_s"], "--", label="limit")
    right.plot(table["pairs"], table["peak_mb"], "o-", label="the command's process")
    right.plot(table["pairs"], table["all_mb"], "o--", label="with its workers")
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
            check_writable(f"--{option}", Path(getattr(options, option)).parent)
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
        draw(table, options.output)


if __name__ == "__main__":
    sys.exit(main())
