"""Compares the loader with the tutorial's recipe and with the limit of the machine, in turn.

Each contestant runs in a process of its own, round after round; ratios are taken within a round. The limit is
the serial cost of reading, decoding and transforming one pair times the cores, measured in the same round;
`cores` is what as many processes as cores, which share nothing, reach together at the same work.

    python scripts/benchmark_loader.py --data_root D
"""

import gc
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd

from command import command, parse_options
from errors import InputError
from manifest import read_manifest, write_json


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the benchmark.

    Args:
        csv_dir: Folder of the manifests.
        image_size: Side of the output in pixels.
        batch_size: Images a batch.
        batches: Batches that are timed.
        rounds: Rounds of all contestants.
        contestant: Runs one contestant in this process and prints its figures as JSON (used by the others).
        json: File for the table as JSON.
    """

    csv_dir: str = "csv_file"
    image_size: int = 384
    batch_size: int = 16
    batches: int = 210
    rounds: int = 3
    contestant: str | None = None
    json: str | None = None

    def __post_init__(self):
        for name in ("image_size", "batch_size", "batches", "rounds"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if self.contestant is not None and self.contestant not in CONTESTANTS:
            raise InputError(f"contestant {self.contestant!r} is unknown; known: {', '.join(CONTESTANTS)}")


def subsets_of(options):
    """The training subsets with the tutorial's transforms."""
    from train import loader_subsets
    from transforms import train_transform

    manifest = read_manifest(options.csv_dir)
    transforms = dict.fromkeys(manifest.train, train_transform(options.image_size))
    return loader_subsets(manifest, manifest.train, transforms)


def ours(options, subsets):
    """Draws mixed, pixels read where a batch needs them."""
    from balancing import balance_plan
    from config import TrainConfig
    from dataloader import training_dataset

    return training_dataset(
        subsets,
        balance_plan({subset.name: len(subset) for subset in subsets}, TrainConfig()),
        image_size=options.image_size,
        batch_size=options.batch_size,
        steps_per_epoch=-(-sum(map(len, subsets)) // options.batch_size),
        seed=0,
        processes=int(os.environ.get("PROC", os.cpu_count())),
    )[0]


def tutorial(options, subsets):
    """Decode and augment, shuffle and repeat the pixels, then mix the subsets: the tutorial's order."""
    from legacy_keras import tf
    from transforms import apply_transform

    def loader(subset):
        def pixels(image, mask):
            from image_files import read_image

            changed = apply_transform(
                subset.transform, read_image(image.decode()), subset.encoding.read(mask.decode())
            )
            return changed[0], changed[1][..., None]

        paths = tf.data.Dataset.from_tensor_slices((subset.images, subset.masks))
        decoded = paths.map(
            lambda image, mask: tf.numpy_function(pixels, [image, mask], [tf.uint8, tf.uint8]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return decoded.shuffle(100000).repeat()

    mixed = tf.data.Dataset.sample_from_datasets(
        [loader(subset) for subset in subsets], [1 / len(subsets)] * len(subsets), seed=0
    )
    return mixed.batch(options.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def measure_pipeline(options, build):
    """Seconds to the first batch, images per second and peak memory of a tf.data pipeline."""
    dataset = build(options, subsets_of(options))
    started = time.perf_counter()
    batches = iter(dataset)
    next(batches)
    first = time.perf_counter() - started
    for _ in range(options.batches - 1):
        next(batches)
    # From the start, for a pipeline that fills a buffer first would look fast while it empties it.
    rate = options.batches * options.batch_size / (time.perf_counter() - started)
    del batches  # an iterator that lives at exit ends the process with status 134
    gc.collect()
    return {"images_per_s": rate, "first_batch_s": first, "peak_mb": peak_memory()}


def measure_limit(options, _):
    """Images per second that all cores could read and transform if nothing else cost anything."""
    from draws import Draws
    from reading import BatchReader

    subsets = subsets_of(options)
    reader = BatchReader(subsets, options.image_size, Draws([len(subset) for subset in subsets], 0), 1)
    count = options.batches * options.batch_size // 4
    quotas = [round(count / len(subsets))] * len(subsets)
    started = time.perf_counter()
    for index, quota in enumerate(quotas):
        for position in range(quota):
            reader.samples.read(reader.sample(index, position))
    serial = (time.perf_counter() - started) / sum(quotas)
    return {"images_per_s": os.cpu_count() / serial, "first_batch_s": None, "peak_mb": peak_memory()}


def measure_cores(options, _):
    """Images per second of one independent process for each core, all at once."""
    processes = [start_contestant("limit", options) for _ in range(os.cpu_count())]
    rates = [finish_contestant("limit", process)["images_per_s"] / os.cpu_count() for process in processes]
    return {"images_per_s": sum(rates), "first_batch_s": None, "peak_mb": peak_memory()}


def peak_memory():
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CONTESTANTS = {
    "ours": (measure_pipeline, ours),
    "tutorial": (measure_pipeline, tutorial),
    "limit": (measure_limit, None),
    "cores": (measure_cores, None),
}


def start_contestant(name, options):
    """Starts one contestant in a process of its own."""
    arguments = [
        f"--{field}={getattr(options, field)}" for field in ("csv_dir", "image_size", "batch_size", "batches")
    ]
    return subprocess.Popen(
        [sys.executable, __file__, f"--contestant={name}", *arguments], stdout=subprocess.PIPE, text=True
    )


def finish_contestant(name, process):
    """Waits for a contestant; returns its figures."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"contestant {name} ended with status {process.returncode}")
    return json.loads(output.splitlines()[-1])


def summarise(rounds):
    """Table of the contestants: medians, and the ratio of ours to each within a round with its range."""
    frames = {name: pd.DataFrame([figures[name] for figures in rounds]).astype(float) for name in CONTESTANTS}
    rows = []
    for name, frame in frames.items():
        ratio = frames["ours"]["images_per_s"] / frame["images_per_s"]
        rows.append(
            {"name": name}
            | frame.median().to_dict()
            | {"ours_over_it": ratio.median(), "lowest": ratio.min(), "highest": ratio.max()}
        )
    return pd.DataFrame(rows)


@command
def main(argv):
    """Runs all contestants in turn and prints their table."""
    options = parse_options(BenchmarkOptions, argv, prog="benchmark_loader.py", description=__doc__)
    if options.contestant:
        measure, build = CONTESTANTS[options.contestant]
        print(json.dumps(measure(options, build)))
        return
    rounds = []
    for number in range(options.rounds):
        rounds.append(
            {name: finish_contestant(name, start_contestant(name, options)) for name in CONTESTANTS}
        )
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    table = summarise(rounds)
    print(table.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if options.json:
        write_json(options.json, table.astype(object).where(table.notna(), None).to_dict("records"))


if __name__ == "__main__":
    sys.exit(main())
