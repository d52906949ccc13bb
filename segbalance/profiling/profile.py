"""How long the loader's stages take, and how many images per second loader, model and both together make."""

import gc
import itertools
import time
from collections import defaultdict

import numpy as np

from segbalance.dataloader.pair_cache import NoCache
from segbalance.dataloader.reading import PLAIN
from segbalance.dataloader.working_size import decode_photo, shrink_mask
from segbalance.files.images import decode_colour, decode_grey, read_bytes
from segbalance.transforms.fast import FastCompose, apply_step, by_name
from segbalance.transforms.pipelines import reseed
from segbalance.transforms.quiet_albumentations import A

# TensorFlow takes seconds to import: the functions below do so.

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
        pair = data["image"], data.get("mask")
        return by_name(*self._clock(self._stage, apply_step, self.transforms[0], *pair))


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

    def milliseconds(self):
        """{stage: milliseconds of one core per image}."""
        return {stage: 1000 * total / self.samples for stage, total in self.clock.seconds.items()}

    def _read_pair(self, sample):
        """As `read_pair` does."""
        clock, samples = self.clock, self.reader.samples
        encoding = samples.encodings[sample.subset]
        paths = [sample.image, sample.mask] if encoding.in_files else [sample.image]
        files = clock("read", self._read, *paths)
        limits = samples.pairs.working_size, samples.pairs.max_pixels
        image, _ = clock("decode image", decode_photo, files[0], sample.image, *limits)
        if not encoding.in_files:
            return image, encoding.read(sample.mask)
        size = image.shape[1::-1]
        return image, clock("decode mask", self._decode_mask, encoding, files[1], size)

    def _read(self, *paths):
        return [read_bytes(path) for path in paths]

    def _decode_mask(self, encoding, content, size):
        pixels = (decode_colour if encoding.kind == "colours" else decode_grey)(
            content, max_pixels=self.reader.samples.pairs.max_pixels
        )
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


class FirstSteps:
    """The first steps of training round and round, so that everything is measured on the same images.

    Args:
        steps: list of (draws, plain), as `DrawStream.steps` yields them.
        draws: Draws.
        batch_size: draws a step.
    """

    def __init__(self, steps, draws, batch_size):
        self._steps, self.draws, self.batch_size = steps, draws, batch_size

    def __iter__(self):
        return iter(self._steps)

    def steps(self, first_step=0):
        """As `DrawStream.steps`."""
        return itertools.islice(itertools.cycle(self._steps), first_step, None)


def first_steps(reader, stream, seconds):
    """The FirstSteps that a BatchReader reads in so many seconds; a cache holds their pairs afterwards."""
    steps, read = stream.steps(), []
    reader.wait_until_ready()
    end = time.perf_counter() + seconds
    while not read or time.perf_counter() < end:
        read.append(next(steps))
        reader.read(*read[-1])
    steps.close()
    return FirstSteps(read, stream.draws, stream.batch_size)


def is_cached(reader):
    """True if a BatchReader keeps pairs."""
    return not isinstance(reader.samples.pairs.cache, NoCache)


def time_samples(timer, stream, seconds):
    """Times the images of a FirstSteps, from the beginning each time it is called."""
    steps = stream.steps()
    end = time.perf_counter() + seconds
    while not timer.samples or time.perf_counter() < end:
        draws, plain = next(steps)
        for item, (index, position) in enumerate(zip(*stream.draws.split(draws), strict=True)):
            timer.sample(int(index), int(position), bool(plain[item]))


def measure_stages(reader, stream, seconds):
    """Stages and rate of the loader, in turn, so that a busy machine is busy for both.

    Args:
        reader: BatchReader.
        stream: FirstSteps.
        seconds: for each of the two.

    Returns:
        ({stage: milliseconds of one core per image}, images per second)
    """
    timer, rates = SampleTimer(reader), []
    for _ in range(TURNS):
        time_samples(timer, stream, seconds / TURNS)
        rates.append(measure_loader(reader, stream, seconds / TURNS))
    return timer.milliseconds(), float(np.median(rates))


def measure_ratio(reader, base, stream, seconds):
    """How many times as many images per second `reader` reads as `base` does; both take turns.

    Args:
        reader, base: BatchReader.
        stream: FirstSteps.
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

    def __init__(self, reader):
        self.image_size, self.mask_size = reader.image_size, reader.mask_size
        self.batches_ahead = reader.batches_ahead
        self._reader = reader

    def read(self, *arguments):
        """As `BatchReader.read`."""
        return self._reader.read(*arguments)

    def take_back(self):
        """Lets go of the reader."""
        self._reader = self.batches_ahead = None


def measure_loader(reader, stream, seconds):
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


def measure_training(model, reader, stream, seconds):
    """Images per second of a compiled model on one fixed batch, and of training as a whole."""
    from segbalance.dataloader.batches import training_batches
    from segbalance.legacy_keras import tf

    fixed = tf.data.Dataset.from_tensors(reader.read(*next(stream.steps()))).repeat()
    alone = measure_steps(model, fixed, stream.batch_size, seconds)
    together = measure_steps(model, training_batches(reader, stream), stream.batch_size, seconds)
    return alone, together


def measure_steps(model, dataset, batch_size, seconds):
    """Images per second of `model.fit` on an endless dataset."""
    from segbalance.legacy_keras import tf

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
