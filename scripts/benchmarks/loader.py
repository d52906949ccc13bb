"""Compares the loader with the tutorial's recipe, PyTorch, Grain and the limit of the machine, in turn.

Three races: rendered PNG photos of 300x300, augmented and delivered at 384x384 (`uncached`); the same
with decoded pixels in memory (`cached`); rendered JPEG photos of 12 megapixels (`large`). Each contestant
runs in a process of its own, round after round, and ratios are taken within a round.

`limit` is the serial cost of decoding and transforming a pair, times the cores; `cores` is what as many
processes as cores, which share nothing, reach together at that. `ours fast` augments with `train_fast`, all
others with the tutorial's transforms. In the race `large`, `ours` decodes to --working_size, `ours cached`
also keeps what it decoded, and all others augment at full size.

    pip install --extra-index-url https://download.pytorch.org/whl/cpu -e ".[bench]"
    python scripts/benchmarks/loader.py --json loader.json --output loader.png
"""

import gc
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import pandas as pd

from segbalance.data_processing.make_csv_file import ManifestOptions, make_csv_file, split_data_train
from segbalance.data_processing.manifest import read_manifest
from segbalance.errors import InputError
from segbalance.files.writing import check_output, write_atomically, write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.memory import family_memory
from segbalance.sample_data.rendering import make_sample_data, render_pair

LARGE = 4000, 3000  # pixels
LARGE_PAIRS = {"0": 12, "1": 6, "2": 6, "3": 4, "4": 4}
GRAIN = 4.0  # standard deviation of the noise in a large photo, in grey levels of 255
WARM_UP = 60  # batches before the clock, after all processes have started
BUFFERED = 6  # batches that a loader may hold finished: as many at least come before the clock
SAMPLING = 1.0  # seconds between two looks at the memory
WIDE = 20  # a larger ratio of the fastest to the slowest is drawn on a logarithmic axis
PEERS = {"pytorch": "torch", "grain threads": "grain", "grain processes": "grain"}
OURS = ("ours", "ours fast", "ours cached")
# {contestant: images that are timed, as a part of --images}: a large photo takes a hundred times as long.
SMALL = dict.fromkeys(
    ("ours", "ours fast", "tutorial", "pytorch", "grain threads", "grain processes", "limit", "cores"), 1
)
RACES = {
    "uncached": SMALL,
    "cached": SMALL,
    "large": {"ours": 1 / 10, "ours cached": 1 / 2}
    | dict.fromkeys(["tutorial", *PEERS, "ours full size", "limit"], 1 / 50),
}


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the benchmark.

    Args:
        races: Which races to run.
        contestants: Which contestants to run, by default all of a race.
        csv_dir: Manifests of your own data, in place of the rendered small photos.
        allow_outside: Read files that their rows name out of the data root, by `..` or a symbolic link.
        image_size: Side of the output in pixels.
        working_size: Long side of large photos after decoding, in pixels; twice image_size by default.
        batch_size: Images a batch; half as many of large photos.
        images: Images that are timed, a part of it where a large photo is augmented at full size.
        rounds: Rounds of all contestants.
        quick: A first look: one round on a tenth of the small photos, uncached by default.
        json: File for the table as JSON.
        output: File for the picture (PNG).
        run: Runs one contestant of one race in this process and prints its figures (used by the others).
    """

    races: list[str] = field(default_factory=list)
    contestants: list[str] = field(default_factory=list)
    csv_dir: str | None = None
    allow_outside: bool = False
    image_size: int = 384
    working_size: int | None = None
    batch_size: int = 16
    images: int = 2400
    rounds: int = 5
    quick: bool = False
    json: str | None = None
    output: str | None = None
    run: list[str] = field(default_factory=list)

    def __post_init__(self):
        for name in ("image_size", "batch_size", "images", "rounds"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if self.working_size is not None and self.working_size <= 0:
            raise InputError(f"working_size must be greater than 0, got {self.working_size}")
        known = {name for race in RACES.values() for name in race}
        if self.run and (len(self.run) != 2 or self.run[0] not in RACES or self.run[1] not in known):
            raise InputError(f"run must be a race and a contestant, got {' '.join(self.run)}")
        for option, given, names in (("races", self.races, RACES), ("contestants", self.contestants, known)):
            unknown = [name for name in given if name not in names]
            if unknown:
                raise InputError(f"{option} {', '.join(unknown)} unknown; known: {', '.join(sorted(names))}")

    def race_names(self):
        """The races to run."""
        return self.races or (["uncached"] if self.quick else list(RACES))

    def images_of(self, race):
        """{contestant: images that are timed} of a race."""
        share = 1 / 8 if self.quick else 1
        return {
            name: max(self.batch_size, round(part * share * self.images))
            for name, part in RACES[race].items()
            if (name in self.contestants if self.contestants else not (self.quick and name == "cores"))
        }


def race_of(options, race, contestant):
    """What a contestant is given."""
    from scripts.benchmarks.loader_contestants import Race
    from segbalance.train.inputs import loader_subsets
    from segbalance.transforms.pipelines import TRANSFORMS

    manifest = read_manifest(options.csv_dir, allow_outside=options.allow_outside)
    transform = TRANSFORMS["train_fast" if contestant == "ours fast" else "train"](options.image_size)
    small = race == "large" and contestant in ("ours", "ours cached")
    return Race(
        loader_subsets(manifest, manifest.train, dict.fromkeys(manifest.train, transform)),
        options.image_size,
        max(1, options.batch_size // 2) if race == "large" else options.batch_size,
        (options.working_size or 2 * options.image_size) if small else 0,
        race == "cached" or contestant == "ours cached",
    )


def measure_loader(race, contestant, images):
    """Seconds to the first batch, and images per second."""
    from scripts.benchmarks.loader_contestants import LIBRARIES, LOADERS

    name = "ours" if contestant.startswith("ours") else contestant
    importlib.import_module(LIBRARIES[name])  # before the clock, and before there are pixels to hold
    race.hold(name)
    started = time.perf_counter()
    batches, ready = LOADERS[name](race)
    next(batches)
    first = time.perf_counter() - started
    count = images // race.batch_size
    if name == "tutorial":  # from the start: it hands out what it made while the first batch was waited for
        timed = 1
    else:
        timed = 0
        while not ready():
            next(batches)
        for _ in range(max(BUFFERED, min(WARM_UP, count // 2))):
            next(batches)
        started = time.perf_counter()
    for _ in range(count - timed):
        next(batches)
    rate = count * race.batch_size / (time.perf_counter() - started)
    del batches  # an iterator that lives at exit may end the process with status 134
    gc.collect()
    return {"images_per_s": rate, "first_batch_s": first}


def measure_limit(race, contestant, images):
    """Images per second that all cores could decode and transform if nothing else cost anything."""
    from scripts.benchmarks.loader_contestants import Examples

    parts = [Examples(race, [subset]) for subset in race.subsets]

    def read(count):
        for number in range(count):
            part = parts[number % len(parts)]
            part[number // len(parts) % len(part)]

    read(min(WARM_UP, images // 4))
    count = max(len(parts), images // 4)
    started = time.perf_counter()
    read(count)
    return {"images_per_s": os.cpu_count() * count / (time.perf_counter() - started), "first_batch_s": None}


def start(options, race, contestant, images):
    """Starts a contestant in a process of its own."""
    passed_on = ("csv_dir", "allow_outside", "image_size", "batch_size")
    words = [f"--{name}={getattr(options, name)}" for name in passed_on]
    words += [f"--working_size={options.working_size}"] if options.working_size else []
    return subprocess.Popen(
        [sys.executable, __file__, *words, "--run", race, contestant, f"--images={images}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Waits for a contestant; returns its figures and the peak memory of all its processes in MB."""
    peak = 0
    while True:
        peak = max(peak, family_memory(process.pid))
        try:
            output, errors = process.communicate(timeout=SAMPLING)
            break
        except subprocess.TimeoutExpired:
            continue
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with status {process.returncode}:\n{errors}")
    return json.loads(output.splitlines()[-1]) | {"peak_mb": peak}


def run(options, race, contestant, images):
    """The figures of one contestant in one round."""
    if contestant != "cores":
        return finish(start(options, race, contestant, images))
    figures = [finish(one) for one in [start(options, race, "limit", images) for _ in range(os.cpu_count())]]
    rate = sum(one["images_per_s"] for one in figures) / os.cpu_count()
    return {"images_per_s": rate, "first_batch_s": None, "peak_mb": sum(one["peak_mb"] for one in figures)}


def run_all(options, folder):
    """Renders the photos and runs all rounds: a list of dicts of `race`, `name`, `round` and the figures."""
    rows, tables = [], {}
    for race in options.race_names():
        kind = "large" if race == "large" else "small"
        if kind not in tables:
            tables[kind] = (
                options.csv_dir
                if kind == "small" and options.csv_dir
                else render(folder / kind, kind, options.quick)
            )
    for number in range(options.rounds if not options.quick else 1):
        for race in options.race_names():
            own = replace(options, csv_dir=str(tables["large" if race == "large" else "small"]))
            for name, images in options.images_of(race).items():
                print(f"round {number + 1}: {race}, {name}", file=sys.stderr, flush=True)
                figures = run(own, race, name, images)
                rows.append({"race": race, "name": name, "round": number} | figures)
    return rows


def render(folder, kind, quick):
    """Renders the photos of a race below `folder`; returns the folder of their manifests."""
    if kind == "small":
        make_sample_data(folder / "data", scale=0.1 if quick else 1, progress=False)
    else:
        render_large(folder / "data")
    options = ManifestOptions(data_root=str(folder / "data"), csv_dir=str(folder / "csv_file"))
    make_csv_file(options)
    split_data_train(options.csv_dir)
    return options.csv_dir


def render_large(root):
    """Writes JPEG photos of 12 megapixels and their PNG masks: rendered hands, enlarged, with grain."""
    for subset, count in LARGE_PAIRS.items():
        for number in range(count):
            photo, mask = render_pair(0, "train", subset, number, 1000)
            photo = cv2.resize(photo, LARGE, interpolation=cv2.INTER_CUBIC)
            noise = np.random.default_rng(number).standard_normal(photo.shape, np.float32)
            photo = np.clip(photo + GRAIN * noise, 0, 255).astype(np.uint8)
            mask = cv2.resize(mask, LARGE, interpolation=cv2.INTER_NEAREST_EXACT)
            for part, pixels, suffix in (("Images", photo[..., ::-1], "jpg"), ("Masks", mask, "png")):
                path = Path(root, part, subset, f"hand_{number:04d}.{suffix}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cv2.imencode(path.suffix, pixels)[1])


def summarise(rows):
    """One row for each contestant of each race: medians, and by how much each of ours is faster than it.

    A ratio is taken within a round; `<ours>_over_it` is the median, with `_lowest` and `_highest`.
    """
    table = pd.DataFrame(rows)
    summary = table.groupby(["race", "name"], sort=False)[
        ["images_per_s", "first_batch_s", "peak_mb"]
    ].median()
    rates = table.pivot(index="round", columns=["race", "name"], values="images_per_s")
    for own in OURS:
        for race, name in summary.index:
            if (race, own) in rates and name != own:
                ratio = rates[race, own] / rates[race, name]
                column = f"{own.replace(' ', '_')}_over_it"
                summary.loc[(race, name), [column, f"{column}_lowest", f"{column}_highest"]] = (
                    ratio.median(), ratio.min(), ratio.max()
                )  # fmt: skip
    return summary.reset_index()


def printed(summary):
    """The summary as a table for the terminal and the README: a ratio with its range in one column."""
    table = summary[["race", "name"]].copy()
    table["images/s"] = summary["images_per_s"].map("{:.0f}".format)
    table["first batch (s)"] = summary["first_batch_s"].map("{:.2f}".format).replace("nan", "")
    table["peak (MB)"] = summary["peak_mb"].map("{:.0f}".format)
    for own in OURS:
        column = f"{own.replace(' ', '_')}_over_it"
        if column in summary:
            ranges = summary[[column, f"{column}_lowest", f"{column}_highest"]].itertuples(index=False)
            table[f"{own} / it"] = [
                "" if np.isnan(ratio) else f"{ratio:.2f} ({lowest:.2f} to {highest:.2f})"
                for ratio, lowest, highest in ranges
            ]
    return table.to_string(index=False)


def draw(rows, path):
    """Bars of the medians of images per second, a panel for each race; a dot for each round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = pd.DataFrame(rows)
    races = list(table["race"].unique())
    figure, panels = plt.subplots(
        1, len(races), figsize=(4.6 * len(races), 4), layout="constrained", squeeze=False
    )
    for race, panel in zip(races, panels[0], strict=True):
        own = table[table["race"] == race]
        medians = own.groupby("name", sort=False)["images_per_s"].median()[::-1]
        colours = ["tab:orange" if name in OURS else "tab:grey" for name in medians.index]
        panel.barh(medians.index, medians, color=colours, alpha=0.6)
        panel.plot(own["images_per_s"], own["name"], "k.", markersize=4)
        for name, rate in medians.items():
            panel.annotate(
                f" {rate:.0f}" if rate >= 10 else f" {rate:.1f}",
                (0, name),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
            )
        panel.set(title=race, xlabel="images per second")
        if medians.max() > WIDE * medians.min():
            panel.set_xscale("log")
        else:
            panel.set_xlim(left=0)
        panel.grid(axis="x", alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    plt.close(figure)
    write_atomically(path, content.getvalue())


def check_installed(options):
    """Raises InputError if a library that is to be compared with is missing."""
    wanted = {name for race in options.race_names() for name in options.images_of(race)}
    missing = {
        PEERS[name] for name in wanted if name in PEERS and importlib.util.find_spec(PEERS[name]) is None
    }
    if missing:
        raise InputError(
            f'not installed: {", ".join(sorted(missing))}. Run `pip install -e ".[bench]"`, or '
            "name the --contestants to run."
        )


@command
def main(argv):
    """Runs the races, all contestants in turn, and prints their table."""
    options = parse_options(BenchmarkOptions, argv, prog="benchmark_loader.py", description=__doc__)
    if options.run:
        race, contestant = options.run
        measure = measure_limit if contestant == "limit" else measure_loader
        print(json.dumps(measure(race_of(options, race, contestant), contestant, options.images)))
        return
    check_installed(options)
    if options.csv_dir is not None:
        read_manifest(options.csv_dir)
    for option in ("json", "output"):
        if getattr(options, option):
            check_output(f"--{option}", getattr(options, option))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        rows = run_all(options, Path(folder))
    summary = summarise(rows)
    print(printed(summary))
    if options.json:
        write_json(options.json, summary.astype(object).where(summary.notna(), None).to_dict("records"))
    if options.output:
        draw(rows, options.output)


if __name__ == "__main__":
    sys.exit(main())
