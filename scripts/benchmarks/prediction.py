"""How fast photos are predicted beside a plain loop, and how much memory tiles take.

    python scripts/benchmarks/prediction.py --work_dir runs/first --json predict.json
    python scripts/benchmarks/prediction.py --work_dir runs/first --races memory

The races `small` (rendered photos of 300x300) and `large` (JPEGs of 12 megapixels) take turns, round after
round, on the same files with the same weights: `plain` reads a photo, calls `model.predict`, enlarges the
answer and saves the mask, then goes on to the next one; `ours` is what scripts/predict.py does, tables and
counts included. Both decode as training did. `memory` predicts one picture of each size in tiles, each in
a process of its own, and gives the highest resident memory.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
import pandas as pd

from segbalance.commands import predict
from segbalance.data_processing.tasks import THRESHOLD
from segbalance.dataloader.working_size import decode_photo
from segbalance.errors import InputError
from segbalance.files.images import read_bytes
from segbalance.files.writing import check_output, write_json
from segbalance.prediction.tables import planned_jobs
from segbalance.runtime.command_line import command, parse_options
from segbalance.sample_data.rendering import render_pair
from segbalance.train.config_file import load_config

RACES = ("small", "large", "memory")
SMALL, LARGE = (300, 300), (4000, 3000)  # pixels
GRAIN = 4.0  # standard deviation of the noise in a large photo, in grey levels of 255
# What both would otherwise share with the first round: imports, tracing, the first allocation.
WARM_UP = 8


@dataclass(frozen=True)
class PredictBenchmarkOptions:
    """Options of the benchmark.

    Args:
        work_dir: Folder of the run whose network predicts.
        races: Which to run: small, large, memory.
        small_photos: Photos of 300x300 a round.
        large_photos: Photos of 12 megapixels a round.
        megapixels: Sizes of the pictures of the race `memory`.
        extension: File type of these pictures: jpg or png.
        rounds: Rounds of both contestants.
        batch_size: Photos that the model gets at once.
        json: File for the figures as JSON.
    """

    work_dir: str
    races: list[str] = field(default_factory=lambda: ["small", "large"])
    small_photos: int = 200
    large_photos: int = 24
    megapixels: list[float] = field(default_factory=lambda: [4, 16, 64, 100])
    extension: str = "jpg"
    rounds: int = 5
    batch_size: int = 8
    json: str | None = None

    def __post_init__(self):
        for name in ("small_photos", "large_photos", "rounds", "batch_size"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        unknown = [name for name in self.races if name not in RACES]
        if unknown:
            raise InputError(f"races {', '.join(unknown)} unknown; known: {', '.join(RACES)}")
        if self.extension not in ("jpg", "png"):
            raise InputError(f"extension must be jpg or png, got {self.extension}")
        if min(self.megapixels) <= 0:
            raise InputError(f"megapixels must be greater than 0, got {min(self.megapixels)}")


def write_photos(folder, count, size):
    """Writes rendered JPEG photos of this (width, height); returns their paths."""
    folder.mkdir()
    rng, paths = np.random.default_rng(0), []
    for index in range(count):
        photo, _ = render_pair(0, "valid", str(index % 5), index % 16, min(*size, 1024))
        if photo.shape[1::-1] != size:
            photo = enlarged(photo, size, rng)
        paths.append(folder / f"{index:05d}.jpg")
        save(photo, paths[-1])
    return paths


def enlarged(photo, size, rng):
    """uint8 (H, W, 3) of this (width, height), with the grain of a camera."""
    large = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)
    for start in range(0, size[1], 256):  # the noise of the whole would take eight times its memory
        rows = large[start : start + 256]
        grain = rng.standard_normal(rows.shape, np.float32) * GRAIN
        rows[:] = np.clip(rows + grain, 0, 255).astype(np.uint8)
    return large


def save(photo, path):
    """Writes uint8 (H, W, 3) RGB."""
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())


def plain_loop(network, working_size, paths, output):
    """Load, predict, save; one photo after the other."""
    output.mkdir()
    for path in paths:
        photo, size = decode_photo(read_bytes(path), path, working_size)
        small = cv2.resize(photo, network.input_shape[1:3], interpolation=cv2.INTER_LINEAR)
        probability = network.predict(small[None], verbose=0)[0, ..., 0]
        mask = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR) > THRESHOLD
        cv2.imwrite(str(output / f"{path.stem}.png"), mask.astype(np.uint8) * 255)


def our_way(predictor, options, paths, output):
    """What scripts/predict.py does once its model is loaded."""
    words = predict.PredictOptions(
        images=[str(path) for path in paths], output=str(output), work_dir=options.work_dir,
        batch_size=options.batch_size,
    )  # fmt: skip
    choice = words.choice(THRESHOLD, None)
    jobs = planned_jobs(words.images, words.output, choice)
    predict.predict_masks(words, jobs, choice, predictor, predictor.input_size)


def differing_pixels(first, second, paths):
    """The part of the pixels in which the masks of two folders differ."""
    differ = total = 0
    for path in paths:
        masks = [cv2.imread(str(folder / f"{path.stem}.png"), 0) for folder in (first, second)]
        differ += int((masks[0] != masks[1]).sum())
        total += masks[0].size
    return differ / total


def race(name, options, paths, folder):
    """Both contestants in turn; a row of figures."""
    from segbalance.prediction.predictor import RunPredictor, load_network

    network, config = load_network(options.work_dir), load_config(options.work_dir)
    predictor = RunPredictor(options.work_dir)
    ways = {
        "plain": lambda some, output: plain_loop(network, config.loading.working_size or 0, some, output),
        "ours": lambda some, output: our_way(predictor, options, some, output),
    }
    for way, run in ways.items():
        run(paths[:WARM_UP], folder / f"{name}-{way}-warm-up")
    seconds = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in list(ways)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            ways[way](paths, folder / f"{name}-{way}-{number}")
            seconds[way].append(time.perf_counter() - started)
    ratios = np.divide(seconds["plain"], seconds["ours"])
    return {
        "race": name,
        "photos": len(paths),
        "rounds": options.rounds,
        "plain_images_per_s": len(paths) / float(np.median(seconds["plain"])),
        "ours_images_per_s": len(paths) / float(np.median(seconds["ours"])),
        "ratio": float(np.median(ratios)),
        "lowest_ratio": float(ratios.min()),
        "highest_ratio": float(ratios.max()),
        "differing_pixels": differing_pixels(
            folder / f"{name}-plain-0", folder / f"{name}-ours-0/masks", paths
        ),
    }


MEASURED = """
import sys
sys.path[:0] = {paths!r}
from segbalance.commands import predict
status = predict.main({words!r})
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print("peak", peak[0])
sys.exit(status)
"""


def peak_memory(words):
    """MB (2**20 bytes) that predict.py has resident at most, in a process of its own. Linux only."""
    code = MEASURED.format(paths=[str(ROOT)], words=[str(word) for word in words])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"predict.py failed: {done.stderr}")
    return int(done.stdout.rsplit("peak ", 1)[1]) / 1024


def memory_row(options, megapixels, folder):
    """Figures of one picture, 4 wide to 3 high."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    size = (round(height * 4 / 3), height)
    picture = folder / f"{megapixels:g}.{options.extension}"
    photo, _ = render_pair(0, "valid", "0", 0, 1024)
    save(enlarged(photo, size, np.random.default_rng(0)), picture)
    started = time.perf_counter()
    words = ["--work_dir", options.work_dir, "--images", picture, "--output", folder / f"{megapixels:g}"]
    peak = peak_memory([*words, "--tile"])
    return {
        "megapixels": megapixels,
        "type": options.extension,
        "file_mb": picture.stat().st_size / 2**20,
        "pixels_mb": 3 * size[0] * size[1] / 2**20,
        "probabilities_mb": 4 * size[0] * size[1] / 2**20,
        "peak_mb": peak,
        "seconds": time.perf_counter() - started,
    }


@command
def main(argv):
    """Runs the races and prints their figures."""
    options = parse_options(PredictBenchmarkOptions, argv, prog="benchmark_predict.py", description=__doc__)
    classes = load_config(options.work_dir).filled_in.classes
    if classes:
        raise InputError(
            f"--work_dir {options.work_dir} tells {len(classes)} classes apart, and the plain loop knows "
            "background and foreground alone. Name a run of these."
        )
    if options.json:
        check_output("--json", options.json)
    figures = {"cores": os.cpu_count(), "speed": [], "memory": []}
    with tempfile.TemporaryDirectory(prefix="benchmark-predict-") as folder:
        folder = Path(folder)
        for name, count, size in (
            ("small", options.small_photos, SMALL),
            ("large", options.large_photos, LARGE),
        ):
            if name in options.races:
                paths = write_photos(folder / name, count, size)
                figures["speed"].append(race(name, options, paths, folder))
        for megapixels in options.megapixels if "memory" in options.races else ():
            figures["memory"].append(memory_row(options, megapixels, folder))
    for key in ("speed", "memory"):
        if figures[key]:
            print(pd.DataFrame(figures[key]).to_string(index=False, float_format="{:.3g}".format))
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    sys.exit(main())
