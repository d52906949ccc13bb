"""Reads, decodes and transforms the pairs of a batch, on threads or in worker processes.

Threads share Python's interpreter lock, which all that happens between two calls of OpenCV needs; processes
share nothing and get on as fast as there are cores. The batches are the same.
"""

import copy
import math
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mask_encoding import MaskEncoding
from pair_cache import PairReader
from transforms import apply_transform, check_sample, reseed, valid_transform
from workers import SharedMemory, WorkerCrew

THRESHOLD = MaskEncoding()
PLAIN = -1  # place of the transform that only resizes
BATCHES_AHEAD = 2  # at least, in the making at once, so that all find work across the end of a batch
SAMPLES_A_CALL = 8  # of a process, at most
ALIGNMENT = 64  # bytes; TensorFlow takes over what is aligned to them and copies the rest


class Paths(Sequence):
    """Paths of files below a folder, put together when they are asked for, since there may be millions.

    Args:
        folder: that the names are relative to.
        names: sequence of str.
    """

    def __init__(self, folder, names):
        self._folder = os.fspath(folder)
        self._names = names

    def __len__(self):
        return len(self._names)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return Paths(self._folder, self._names[place])
        return os.path.join(self._folder, self._names[place])


@dataclass(frozen=True)
class Subset:
    """The pairs of one subset and what is done to them.

    Args:
        name: of the subset.
        images: sequence of the photos' paths.
        masks: sequence of their masks' paths.
        transform: Compose that delivers the model's input size.
        encoding: how the mask files encode class ids.
    """

    name: str
    images: Sequence
    masks: Sequence
    transform: object
    encoding: MaskEncoding = THRESHOLD

    def __len__(self):
        return len(self.images)


class Sample(NamedTuple):
    """What one place of a batch is made of.

    Args:
        subset: number of the subset.
        image: path of the photo.
        mask: path of its mask.
        seed: of the transform.
        plain: True where the pair is only resized.
    """

    subset: int
    image: str
    mask: str
    seed: int
    plain: bool


class SampleReader:
    """Reads and transforms single pairs; threads may share one, and worker processes get copies.

    Args:
        names: of the subsets.
        transforms: Compose of each subset.
        encodings: MaskEncoding of each subset.
        image_size: pixels of the output.
        pairs: PairReader.
    """

    def __init__(self, names, transforms, encodings, image_size, pairs):
        self.names = names
        self.encodings = encodings
        self.image_size = image_size
        self.pairs = pairs
        self._transforms = [*transforms, valid_transform(image_size)]  # the last at PLAIN
        self._own = threading.local()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_own"}

    def __setstate__(self, state):
        self.__dict__.update(state, _own=threading.local())

    def pair(self, sample):
        """The pair of a Sample as it is read: uint8 (H, W, 3) RGB and uint8 (H, W) class ids."""
        return self.pairs.read(sample.image, sample.mask, self.encodings[sample.subset])

    def read(self, sample):
        """The transformed pair of a Sample: uint8 (S, S, 3) RGB and uint8 (S, S) class ids."""
        image, mask = self.pair(sample)
        transform = self._own_transform(PLAIN if sample.plain else sample.subset)
        reseed(transform, sample.seed)
        image, mask = apply_transform(transform, image, mask)
        check_sample(f"of subset {self.names[sample.subset]}", image, mask, self.image_size)
        return image, mask

    def new_transform(self, subset, plain=False):
        """A copy of what a sample goes through, to be reseeded by its owner."""
        return copy.deepcopy(self._transforms[PLAIN if plain else subset])

    def _own_transform(self, place):
        # A Compose that is reseeded for each sample must not be shared between threads.
        copies = self._own.__dict__.setdefault("transforms", {})
        if place not in copies:
            copies[place] = copy.deepcopy(self._transforms[place])
        return copies[place]


class BatchReader:
    """Reads the batches that draws stand for.

    Args:
        subsets: list of Subset.
        image_size: pixels of the output.
        draws: Draws, which tells what each draw is.
        threads: number of threads; one a core by default.
        pairs: PairReader; by default files as they are, without a cache.
        processes: number of worker processes, 0 for threads alone. Threads read the first batch, for which
            the processes would come late, and go on until they have started. The batches depend on neither
            number.
    """

    def __init__(self, subsets, image_size, draws, threads=None, pairs=None, processes=0):
        self.subsets = subsets
        self.draws = draws
        self.image_size = image_size
        self.failure = None
        self.samples = SampleReader(
            [subset.name for subset in subsets],
            [subset.transform for subset in subsets],
            [subset.encoding for subset in subsets],
            image_size,
            pairs or PairReader(),
        )
        threads = threads or os.cpu_count()
        self.at_once = processes or threads
        self._threads = ThreadPoolExecutor(threads, "reader")
        self._processes = ReadingProcesses(self.samples, processes) if processes else None
        self._begun = False

    def ready(self):
        """False while worker processes are still starting; starts them."""
        return self._processes is None or self._processes.ready()

    def batches_ahead(self, batch_size):
        """How many batches to ask for at once, so that everyone has a sample to read and the next one."""
        return max(BATCHES_AHEAD, math.ceil(2 * self.at_once / batch_size))

    def wait_until_ready(self):
        """Waits until the worker processes have started; threads always have."""
        while not self.ready():
            time.sleep(0.02)

    def read(self, draws, plain):
        """Reads one batch.

        Args:
            draws: int64 (B,).
            plain: bool (B,), which of them are only resized.

        Returns:
            uint8 (B, S, S, 3) images, uint8 (B, S, S, 1) class ids, int32 (B,) subsets.
        """
        subsets, positions = self.draws.split(draws)
        try:
            samples = list(map(self.sample, subsets.tolist(), positions.tolist(), plain.tolist()))
            by_processes = self._processes and self._begun and self.ready()
            images, masks = (self._processes.read if by_processes else self._read_on_threads)(samples)
            self._begun = True
        except Exception as error:
            self.failure = error  # TensorFlow passes on no more than its text
            raise
        return images, masks, subsets.astype(np.int32)

    def sample(self, subset, position, plain=False):
        """The Sample that draw number `position` of a subset stands for."""
        row, pairs = self.draws.row(subset, position), self.subsets[subset]
        seed = self.draws.sample_seed(subset, position)
        return Sample(subset, pairs.images[row], pairs.masks[row], seed, plain)

    def _read_on_threads(self, samples):
        count, size = len(samples), self.image_size
        images, masks = batch_arrays(np.empty(batch_bytes(count, size) + ALIGNMENT, np.uint8), count, size)

        def fill(item):
            images[item], masks[item, ..., 0] = self.samples.read(samples[item])

        list(self._threads.map(fill, range(count)))
        return images, masks


def batch_bytes(count, size):
    """Bytes of `count` images of `size` pixels and their masks, from an aligned address on."""
    return math.ceil(3 * count * size**2 / ALIGNMENT) * ALIGNMENT + count * size**2


def batch_arrays(memory, count, size):
    """uint8 (count, size, size, 3) images and (count, size, size, 1) masks in uint8 (N,) `memory`."""
    start = -memory.ctypes.data % ALIGNMENT
    pixels = memory[start : start + batch_bytes(count, size)]
    images, masks = pixels[: 3 * count * size**2], pixels[len(pixels) - count * size**2 :]
    return images.reshape(count, size, size, 3), masks.reshape(count, size, size, 1)


class BatchMemory:
    """Memory of batches that other processes fill; what nobody holds any more is used again."""

    def __init__(self):
        self.shared = SharedMemory()
        self._free = defaultdict(list)  # {bytes: offsets}

    def take(self, size):
        """Memory that nobody uses.

        Returns:
            (offset in `shared`, uint8 (size,)); both are taken until the array and all of its views are gone.
        """
        try:
            offset = self._free[size].pop()
        except IndexError:
            offset = self.shared.extend(size)
        memory = np.frombuffer(self.shared.part(offset, size), np.uint8)
        weakref.finalize(memory, self._free[size].append, offset)
        return offset, memory


class ReadingProcesses:
    """Worker processes that read batches into memory which they share with this process.

    Args:
        samples: SampleReader.
        count: number of processes.
    """

    def __init__(self, samples, count):
        self._samples = samples
        self._count = count
        self._memory = BatchMemory()
        self._callers = ThreadPoolExecutor(count, "caller")
        self._crew = None
        self._lock = threading.Lock()

    def ready(self):
        """False while the processes are starting, which the first question makes them do."""
        with self._lock:
            if self._crew is None:
                state = self._samples, self._memory.shared
                self._crew = WorkerCrew(self._count, fill_batch, state)
        return self._crew.ready()

    def read(self, samples):
        """What `BatchReader.read` returns of images and masks, for a list of Sample."""
        count = len(samples)
        offset, memory = self._memory.take(batch_bytes(count, self._samples.image_size))
        a_call = max(1, min(SAMPLES_A_CALL, count // self._count))

        def call(first):
            self._crew.call(offset, count, first, samples[first : first + a_call])

        list(self._callers.map(call, range(0, count, a_call)))
        return batch_arrays(memory, count, self._samples.image_size)


def fill_batch(state, offset, count, first, samples):
    """Reads `samples` into a batch of `count` in shared memory, from place `first` on.

    Args:
        state: (SampleReader, SharedMemory).
        offset: of the batch in the memory.
    """
    reader, shared = state
    memory = np.frombuffer(shared.part(offset, batch_bytes(count, reader.image_size)), np.uint8)
    images, masks = batch_arrays(memory, count, reader.image_size)
    for item, sample in enumerate(samples, start=first):
        images[item], masks[item, ..., 0] = reader.read(sample)
