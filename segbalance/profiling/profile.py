"""How long the loader's stages take, and how many images per second loader, model and both together make."""

import gc
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.dataloader.pair_cache import NoCache
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import PLAIN, Sample
from segbalance.dataloader.working_size import Size, decode_photo, shrink_mask
from segbalance.files.images import decode_colour, decode_grey, read_bytes
from segbalance.transforms.fast import FastCompose, apply_step, by_name
from segbalance.transforms.pipelines import reseed
from segbalance.transforms.quiet_albumentations import A

# TensorFlow takes seconds to import: the functions below do so.
if TYPE_CHECKING:
    from segbalance.balancing.draws import Draws, DrawStream
    from segbalance.legacy_keras import tf

TURNS = 3
WARM_UP = 2  # steps or batches before the clock: tracing, the first look-ups, the batches made ahead
READING = ("read", "decode image", "decode mask")
CACHED_READ = "read from cache"
ASSEMBLY = "batch assembly"
REST = "hand-over, threads"
# What stays whatever the transforms are.
OWN_STAGES = {"draw", *READING, CACHED_READ, "Compose itself", ASSEMBLY, REST}


class Clock:
    """Seconds of each stage, summed up.

    `clock(stage, function, ...)` calls the function and adds what it took.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __call__(self, stage: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments, **named)
        self.seconds[stage] += time.perf_counter() - started
        return result


class TimedStep(A.BaseCompose):
    """A step of a Compose that reports to a Clock; a Compose itself, so that reseeding reaches the step."""

    def __init__(self, step: A.BasicTransform | A.BaseCompose, clock: Clock, stage: str, fast: bool) -> None:
        super().__init__([step], p=1)
        self._clock, self._stage, self._fast = clock, stage, fast

    def __call__(self, **data: Any) -> dict[str, Any]:
        if not self._fast:
            return self._clock(self._stage, self.transforms[0], **data)
        pair = data["image"], data.get("mask")
        return by_name(*self._clock(self._stage, apply_step, self.transforms[0], *pair))


def step_names(transform: A.Compose) -> list[str]:
    """The class name of each step of a Compose, those of a OneOf in brackets, repeated ones numbered."""
    names: list[str] = []
    for step in transform.transforms:
        inside = [type(part).__name__ for part in getattr(step, "transforms", ())]
        name = type(step).__name__ + (f"({', '.join(inside)})" if inside else "")
        count = sum(other.split(" #")[0] == name for other in names)
        names.append(f"{name} #{count + 1}" if count else name)
    return names


def timed_transform(transform: A.Compose, clock: Clock) -> A.Compose:
    """The Compose, its own copy, with a clock on each step."""
    names, fast = step_names(transform), isinstance(transform, FastCompose)
    transform.transforms = [
        TimedStep(step, clock, name, fast) for step, name in zip(transform.transforms, names, strict=True)
    ]
    return transform


class SampleTimer:
    """Does what BatchReader does, stage by stage."""

    def __init__(self, reader: BatchReader) -> None:
        self.reader = reader
        self.clock = Clock()
        self.samples = 0
        self.batch: tuple[np.ndarray, np.ndarray] | None = None
        self._transforms: dict[int, A.Compose] = {}

    def sample(self, index: int, position: int, plain: bool) -> tuple[np.ndarray, np.ndarray]:
        """One transformed pair: uint8 (S, S, 3) and (S, S), or (1, 1) of a label."""
        clock = self.clock
        sample = clock("draw", self.reader.sample, index, position, plain)
        if is_cached(self.reader):
            image, mask = clock(CACHED_READ, self.reader.samples.pair, sample)
        else:
            image, mask = self._read_pair(sample)
        label = mask if self.reader.mask_size == 1 else None  # which no transform gets to see
        transform = self._transform(index, plain)
        before = sum(clock.seconds.values())
        started = time.perf_counter()
        reseed(transform, sample.seed)
        changed = transform(**by_name(image, mask if label is None else None))
        steps = sum(clock.seconds.values()) - before
        clock.seconds["Compose itself"] += time.perf_counter() - started - steps
        image, mask = changed["image"], changed.get("mask", label)
        clock(ASSEMBLY, self._keep, image, mask)
        self.samples += 1
        return image, mask

    def milliseconds(self) -> dict[str, float]:
        """{stage: milliseconds of one core per image}."""
        return {stage: 1000 * total / self.samples for stage, total in self.clock.seconds.items()}

    def _read_pair(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """As `read_pair` does."""
        clock, samples = self.clock, self.reader.samples
        encoding = samples.encodings[sample.subset]
        paths = [sample.image, sample.mask] if encoding.in_files else [sample.image]
        files = clock("read", self._read, *paths)
        side, most = samples.pairs.working_size, samples.pairs.max_pixels
        image, _ = clock("decode image", decode_photo, files[0], sample.image, side, max_pixels=most)
        if not encoding.in_files:
            return image, encoding.read(sample.mask)
        size = image.shape[1::-1]
        return image, clock("decode mask", self._decode_mask, encoding, files[1], size)

    def _read(self, *paths: str | Path) -> list[bytes]:
        return [read_bytes(path) for path in paths]

    def _decode_mask(self, encoding: MaskEncoding, content: bytes, size: Size) -> np.ndarray:
        pixels = (decode_colour if encoding.kind == "colours" else decode_grey)(
            content, max_pixels=self.reader.samples.pairs.max_pixels
        )
        return shrink_mask(encoding.decode(pixels), size)

    def _transform(self, index: int, plain: bool) -> A.Compose:
        key = PLAIN if plain else index
        if key not in self._transforms:
            self._transforms[key] = timed_transform(
                self.reader.samples.new_transform(index, plain), self.clock
            )
        return self._transforms[key]

    def _keep(self, image: np.ndarray, mask: np.ndarray) -> None:
        if self.batch is None:
            self.batch = np.empty_like(image), np.empty_like(mask)
        self.batch[0][...], self.batch[1][...] = image, mask


class FirstSteps:
    """The first steps of training round and round, so that everything is measured on the same images.

    Args:
        steps: (draws, plain), as `DrawStream.steps` yields them.
        batch_size: draws a step.
    """

    def __init__(self, steps: list[tuple[np.ndarray, np.ndarray]], draws: "Draws", batch_size: int) -> None:
        self._steps, self.draws, self.batch_size = steps, draws, batch_size

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return iter(self._steps)

    def steps(self, first_step: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `DrawStream.steps`."""
        return itertools.islice(itertools.cycle(self._steps), first_step, None)


def first_steps(reader: BatchReader, stream: "DrawStream", seconds: float) -> FirstSteps:
    """The FirstSteps that a BatchReader reads in so many seconds; a cache holds their pairs afterwards."""
    steps = stream.steps()
    read: list[tuple[np.ndarray, np.ndarray]] = []
    reader.wait_until_ready()
    end = time.perf_counter() + seconds
    while not read or time.perf_counter() < end:
        read.append(next(steps))
        reader.read(*read[-1])
    steps.close()
    return FirstSteps(read, stream.draws, stream.batch_size)


def is_cached(reader: BatchReader) -> bool:
    """True if a BatchReader keeps pairs."""
    return not isinstance(reader.samples.pairs.cache, NoCache)


def time_samples(timer: SampleTimer, stream: FirstSteps, seconds: float) -> None:
    """Times the images of a FirstSteps, from the beginning each time it is called."""
    steps = stream.steps()
    end = time.perf_counter() + seconds
    while not timer.samples or time.perf_counter() < end:
        draws, plain = next(steps)
        for item, (index, position) in enumerate(zip(*stream.draws.split(draws), strict=True)):
            timer.sample(int(index), int(position), bool(plain[item]))


def measure_stages(reader: BatchReader, stream: FirstSteps, seconds: float) -> tuple[dict[str, float], float]:
    """Stages and rate of the loader, in turn, so that a busy machine is busy for both.

    Args:
        seconds: for each of the two.

    Returns:
        ({stage: milliseconds of one core per image}, images per second)
    """
    timer, rates = SampleTimer(reader), []
    for _ in range(TURNS):
        time_samples(timer, stream, seconds / TURNS)
        rates.append(measure_loader(reader, stream, seconds / TURNS))
    return timer.milliseconds(), float(np.median(rates))


def measure_ratio(reader: BatchReader, base: BatchReader, stream: FirstSteps, seconds: float) -> float:
    """How many times as many images per second `reader` reads as `base` does; both take turns.

    Args:
        seconds: for both together.
    """
    reader.wait_until_ready()
    if is_cached(reader):
        for draws, plain in stream:
            reader.read(draws, plain)
    turn, ratios = seconds / TURNS / 2, []
    for _ in range(TURNS):
        before = measure_loader(base, stream, turn)
        ratios.append(measure_loader(reader, stream, turn) / before)
    return float(np.median(ratios))


class LentReader:
    """A BatchReader that can be taken back from TensorFlow, which keeps every function that it has called."""

    def __init__(self, reader: BatchReader) -> None:
        self.image_size, self.mask_size = reader.image_size, reader.mask_size
        self._reader: BatchReader | None = reader

    def batches_ahead(self, batch_size: int) -> int:
        """As `BatchReader.batches_ahead`."""
        return self._lent().batches_ahead(batch_size)

    def read(
        self, draws: np.ndarray, plain: np.ndarray, step: int = -1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `BatchReader.read`."""
        return self._lent().read(draws, plain, step)

    def take_back(self) -> None:
        """Lets go of the reader."""
        self._reader = None

    def _lent(self) -> BatchReader:
        assert self._reader is not None, "it was taken back"
        return self._reader


def measure_loader(reader: BatchReader, stream: FirstSteps, seconds: float) -> float:
    """Images per second of the training dataset with nothing behind it."""
    from segbalance.dataloader.batches import training_batches

    lent = LentReader(reader)
    batches = iter(training_batches(lent, stream))
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
    lent.take_back()
    return rate


def measure_training(
    model: "tf.keras.Model", reader: BatchReader, stream: FirstSteps, seconds: float
) -> tuple[float, float]:
    """Images per second of a compiled model on one fixed batch, and of training as a whole."""
    from segbalance.dataloader.batches import training_batches
    from segbalance.legacy_keras import tf

    fixed = tf.data.Dataset.from_tensors(reader.read(*next(stream.steps()))).repeat()
    alone = measure_steps(model, fixed, stream.batch_size, seconds)
    together = measure_steps(model, training_batches(reader, stream), stream.batch_size, seconds)
    return alone, together


def measure_steps(
    model: "tf.keras.Model", dataset: "tf.data.Dataset", batch_size: int, seconds: float
) -> float:
    """Images per second of `model.fit` on an endless dataset."""
    from segbalance.legacy_keras import tf

    class Stopwatch(tf.keras.callbacks.Callback):
        ends: list[float] = []

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            self.ends.append(time.perf_counter())
            if len(self.ends) > WARM_UP and self.ends[-1] > self.ends[WARM_UP - 1] + seconds:
                self.model.stop_training = True

    ends: list[float] = []
    Stopwatch.ends = ends
    model.fit(dataset, steps_per_epoch=1_000_000, epochs=1, verbose=0, callbacks=[Stopwatch()])
    gc.collect()
    return batch_size * (len(ends) - WARM_UP) / (ends[-1] - ends[WARM_UP - 1])
