"""Where the time of training goes: the loader's stages, the model's step, and the one setting to change.

    python scripts/profile_loader.py --image_size 384 --batch_size 16

Takes the command line of train.py. The stages are timed on one thread on the images that training draws; then
come the loader alone, the model alone on one fixed batch, and both together.
"""

import dataclasses
import gc
import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd

from command import command, parse_options
from config import STRIDE, TrainConfig
from errors import InputError
from fast_transforms import FastCompose, apply_step
from image_files import decode_colour, decode_grey
from manifest import read_manifest, write_json
from quiet_albumentations import A
from transforms import reseed
from working_size import decode_photo, shrink_mask

LIGHT = {"default": "light"}
WORTH_IT = 1.05  # times; a setting that gains less is not named
PLAIN = -1
TURNS = 3
WARM_UP = 2  # steps or batches before the clock: tracing, the first look-ups, the batches made ahead
REST = "hand-over, threads"
ASSEMBLY = "batch assembly"
# What stays whatever the transforms are.
OWN_STAGES = {"draw", "read", "decode image", "decode mask", "Compose itself", ASSEMBLY, REST}


@dataclass(frozen=True)
class ProfileOptions(TrainConfig):
    """Options of the profile: those of train.py, and three more.

    Args:
        seconds: How long each measurement lasts.
        no_model: Measure the loader alone.
        json: JSON file for the figures as well.
    """

    seconds: float = 10.0
    no_model: bool = False
    json: str | None = None

    def _problems(self):
        yield from super()._problems()
        if self.seconds <= 0:
            yield f"seconds must be greater than 0, got {self.seconds}"


class Clock:
    """Seconds of each stage, summed up.

    `clock(stage, function, ...)` calls the function and adds what it took.
    """

    def __init__(self):
        self.seconds = defaultdict(float)

    def __call__(self, stage, function, *arguments, **named):
        started = time.perf_counter()
        result = function(*arguments, **named)
        self.seconds[stage] += time.perf_counter() - started
        return result


class TimedStep(A.BaseCompose):
    """A step of a Compose that reports to a Clock; a Compose itself, so that reseeding reaches the step."""

    def __init__(self, step, clock, stage, fast):
        super().__init__([step], p=1)
        self._clock, self._stage, self._fast = clock, stage, fast

    def __call__(self, **data):
        if not self._fast:
            return self._clock(self._stage, self.transforms[0], **data)
        pair = data["image"], data["mask"]
        image, mask = self._clock(self._stage, apply_step, self.transforms[0], *pair)
        return {"image": image, "mask": mask}


def step_names(transform):
    """The class name of each step of a Compose, those of a OneOf in brackets, repeated ones numbered."""
    names = []
    for step in transform.transforms:
        inside = [type(part).__name__ for part in getattr(step, "transforms", ())]
        name = type(step).__name__ + (f"({', '.join(inside)})" if inside else "")
        count = sum(other.split(" #")[0] == name for other in names)
        names.append(f"{name} #{count + 1}" if count else name)
    return names


def timed_transform(transform, clock):
    """The Compose, its own copy, with a clock on each step."""
    names, fast = step_names(transform), isinstance(transform, FastCompose)
    transform.transforms = [
        TimedStep(step, clock, name, fast) for step, name in zip(transform.transforms, names, strict=True)
    ]
    return transform


class SampleTimer:
    """Does what BatchReader does, stage by stage.

    Args:
        reader: BatchReader.
    """

    def __init__(self, reader):
        self.reader = reader
        self.clock = Clock()
        self.samples = 0
        self.batch = None
        self._transforms = {}

    def sample(self, index, position, plain):
        """One transformed pair: uint8 (S, S, 3) and (S, S)."""
        clock, samples = self.clock, self.reader.samples
        sample = clock("draw", self.reader.sample, index, position, plain)
        files = clock("read", self._read, sample.image, sample.mask)
        image, _ = clock("decode image", decode_photo, files[0], sample.image, samples.pairs.working_size)
        encoding, size = samples.encodings[index], image.shape[1::-1]
        mask = clock("decode mask", self._decode_mask, encoding, files[1], size)
        transform = self._transform(index, plain)
        before = sum(self.clock.seconds.values())
        started = time.perf_counter()
        reseed(transform, sample.seed)
        changed = transform(image=image, mask=mask)
        steps = sum(self.clock.seconds.values()) - before
        clock.seconds["Compose itself"] += time.perf_counter() - started - steps
        clock(ASSEMBLY, self._keep, changed["image"], changed["mask"])
        self.samples += 1
        return changed["image"], changed["mask"]

    def milliseconds(self):
        """{stage: milliseconds of one core per image}."""
        return {stage: 1000 * total / self.samples for stage, total in self.clock.seconds.items()}

    def _read(self, *paths):
        return [Path(path).read_bytes() for path in paths]

    def _decode_mask(self, encoding, content, size):
        pixels = (decode_colour if encoding.kind == "colours" else decode_grey)(content)
        return shrink_mask(encoding.decode(pixels), size)

    def _transform(self, index, plain):
        key = PLAIN if plain else index
        if key not in self._transforms:
            self._transforms[key] = timed_transform(
                self.reader.samples.new_transform(index, plain), self.clock
            )
        return self._transforms[key]

    def _keep(self, image, mask):
        if self.batch is None:
            self.batch = np.empty_like(image), np.empty_like(mask)
        self.batch[0][...], self.batch[1][...] = image, mask


def time_samples(timer, stream, seconds):
    """Times the images that training draws first, from the beginning each time it is called."""
    steps = stream.steps()
    end = time.perf_counter() + seconds
    while not timer.samples or time.perf_counter() < end:
        draws, plain = next(steps)
        for item, (index, position) in enumerate(zip(*stream.draws.split(draws), strict=True)):
            timer.sample(int(index), int(position), bool(plain[item]))
    steps.close()


def measure_in_turn(readers, stream, seconds):
    """Stages and rates of the loader, in several turns, so that a busy machine is busy for all of them.

    Args:
        readers: {name: BatchReader}; the stages are those of the first.
        seconds: for each of the measurements, all turns together.

    Returns:
        ({stage: milliseconds of one core per image}, {name: images per second, median of the turns})
    """
    timer, rates = SampleTimer(next(iter(readers.values()))), {name: [] for name in readers}
    for _ in range(TURNS):
        time_samples(timer, stream, seconds / TURNS)
        for name, reader in readers.items():
            rates[name].append(measure_loader(reader, stream, seconds / TURNS))
    return timer.milliseconds(), {name: float(np.median(turns)) for name, turns in rates.items()}


def measure_loader(reader, stream, seconds):
    """Images per second of the training dataset with nothing behind it."""
    from dataloader import training_batches

    batches = iter(training_batches(reader, stream))
    for _ in range(WARM_UP):
        next(batches)
    # Batches are made two at a time; an even number of them keeps the halves of a pair together.
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() < started + seconds:
        for _ in range(2):
            next(batches)
        count += 2
    rate = count * stream.batch_size / (time.perf_counter() - started)
    del batches  # an iterator that lives at exit ends the process with status 134
    gc.collect()
    return rate


def measure_steps(model, dataset, batch_size, seconds):
    """Images per second of `model.fit` on an endless dataset."""
    from legacy_keras import tf

    class Stopwatch(tf.keras.callbacks.Callback):
        ends = []

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(time.perf_counter())
            if len(self.ends) > WARM_UP and self.ends[-1] > self.ends[WARM_UP - 1] + seconds:
                self.model.stop_training = True

    Stopwatch.ends = ends = []
    model.fit(dataset, steps_per_epoch=1_000_000, epochs=1, verbose=0, callbacks=[Stopwatch()])
    gc.collect()
    return batch_size * (len(ends) - WARM_UP) / (ends[-1] - ends[WARM_UP - 1])


def measure_model(config, manifest, plan, strategy, reader, stream):
    """Images per second of the model on one fixed batch, and of training as a whole."""
    from dataloader import training_batches
    from legacy_keras import tf
    from train import build_model, valid_tables

    with strategy.scope():
        model = build_model(config, valid_tables(manifest), plan)
    steps = stream.steps()
    batch = reader.read(*next(steps))
    steps.close()
    fixed = tf.data.Dataset.from_tensors(batch).repeat()
    alone = measure_steps(model, fixed, config.batch_size, config.seconds)
    together = measure_steps(model, training_batches(reader, stream), config.batch_size, config.seconds)
    return alone, together


@dataclass(frozen=True)
class Advice:
    """The one setting to change.

    Args:
        setting: as on the command line; None where none gains enough.
        reason: half a sentence.
        images_per_s: expected of training with it (of the loader, where no model was measured).
        gain: images per second more than without it.
    """

    setting: str | None
    reason: str
    images_per_s: float
    gain: float


def training_rate(loader, model, shared):
    """Images per second of training from those of loader and model alone (None: no model).

    On a CPU the two take turns at the same cores (`shared`), so that their times add up; a GPU works while
    the CPU loads, and the slower of the two decides.
    """
    if model is None:
        return loader
    return 1 / (1 / loader + 1 / model) if shared else min(loader, model)


def choose_advice(stages, rates, image_size, shared):
    """Which setting to change, from measured numbers alone.

    Args:
        stages: {stage: ms of one core per image} of the loader as it is, REST included.
        rates: images per second, {"loader", "light" (the loader under the transforms `light`, None where it
            has them), "model", "training"}; the last two None where not measured.
        image_size: pixels.
        shared: True where model and loader share the cores.

    Returns:
        Advice
    """
    loader, model = rates["loader"], rates["model"]
    expected = training_rate(loader, model, shared)
    now = rates["training"] or expected
    heaviest = max((stage for stage in stages if stage not in OWN_STAGES), key=stages.get)
    reason = f"{heaviest} takes {stages[heaviest] / sum(stages.values()):.0%} of the loader's time"
    smaller = image_size * 2 // 3 // STRIDE * STRIDE
    setting, faster = None, expected
    if model is not None and model < loader:
        reason = "the step's time goes with the number of pixels (not measured), at some cost in detail"
        if smaller:
            setting = f"--image_size {smaller}"
            faster = training_rate(loader, model * (image_size / smaller) ** 2, shared)
    elif rates["light"] is not None:
        setting = """--transforms '{"default": "light"}'"""
        faster = training_rate(rates["light"], model, shared)
    if faster < WORTH_IT * expected:
        return Advice(None, reason, now, 0.0)
    # `training_rate` gives the ratio alone: what it gets wrong must not count as a gain.
    return Advice(setting, reason, now * faster / expected, now * (faster / expected - 1))


def stage_table(stages):
    """DataFrame: stage, ms_per_image (of one core), share."""
    table = pd.DataFrame({"stage": list(stages), "ms_per_image": list(stages.values())})
    return table.assign(share=table["ms_per_image"] / table["ms_per_image"].sum())


def verdict(rates, advice, shared):
    """Yields the lines under the table."""
    cores = os.cpu_count()
    yield f"loader alone     {rates['loader']:8.1f} images/s on {cores} cores"
    if rates["light"] is not None:
        yield f"loader, light    {rates['light']:8.1f} images/s with the transforms `light`"
    if rates["model"] is not None:
        yield f"model alone      {rates['model']:8.1f} images/s on one fixed batch"
        yield f"both together    {rates['training']:8.1f} images/s"
        slower = "model" if rates["model"] < rates["loader"] else "loader"
        yield f"bottleneck: the {slower}" + (
            "; both work on the same cores, so that their times add up" if shared else ""
        )
    if advice.setting is None:
        yield f"no setting gains a twentieth: {advice.reason}"
    else:
        yield f"change: {advice.setting} ({advice.reason})"
        yield f"expected: {advice.images_per_s:.1f} images/s, {advice.gain:+.1f}"


def light_reader(config, manifest, plan):
    """The run's BatchReader under the transforms `light`, or None where it could not be lighter."""
    from train import checked_plan, training_parts

    if set(config.transforms.values()) <= {"light", "valid"}:
        return None
    light = dataclasses.replace(config, transforms=LIGHT)
    return training_parts(light, manifest, plan, checked_plan(light, manifest)[1])[0]


@command
def main(argv):
    """Measures and prints the table."""
    options = parse_options(ProfileOptions, argv, prog="profile_loader.py", description=__doc__, config=True)
    manifest = read_manifest(options.csv_dir, options.data_root)
    import train

    config = train.resolved(options, manifest, Path("."))
    plan, transforms = train.checked_plan(config, manifest)
    strategy, config = train.prepare_tensorflow(config)
    reader, stream = train.training_parts(config, manifest, plan, transforms)
    try:
        measure(config, manifest, plan, strategy, reader, stream)
    except OSError as error:
        raise InputError(f"{error} (found while reading)") from None


def measure(config, manifest, plan, strategy, reader, stream):
    """Takes all measurements, prints them and writes --json."""
    from legacy_keras import tf

    shared = not tf.config.get_visible_devices("GPU")
    readers = {"loader": reader, "light": light_reader(config, manifest, plan)}
    readers = {name: reader for name, reader in readers.items() if reader is not None}
    stages, measured = measure_in_turn(readers, stream, config.seconds)
    rates = dict.fromkeys(("loader", "light", "model", "training")) | measured
    stages[REST] = 1000 * os.cpu_count() / rates["loader"] - sum(stages.values())
    if not config.no_model:
        both = measure_model(config, manifest, plan, strategy, reader, stream)
        rates["model"], rates["training"] = both
    advice = choose_advice(stages, rates, config.image_size, shared)
    table = stage_table(stages)
    shown = table.rename(columns={"ms_per_image": "ms per image"})
    formatters = {"ms per image": "{:.3f}".format, "share": "{:.1%}".format}
    print(shown.to_string(index=False, formatters=formatters))
    print("\n".join(["", *verdict(rates, advice, shared)]))
    if config.json:
        figures = {f"{name}_images_per_s": rate for name, rate in rates.items()}
        content = {"stages": table.to_dict("records")} | figures | {"advice": dataclasses.asdict(advice)}
        write_json(Path(config.json), content)


if __name__ == "__main__":
    sys.exit(main())
