"""Reads, decodes and transforms the pairs of a batch, on threads or in worker processes.

Threads share Python's interpreter lock, which all that happens between two calls of OpenCV needs; processes
share nothing and get on as fast as there are cores. The batches are the same.
"""

import copy
import itertools
import math
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import cv2
import numpy as np

from segbalance.balancing.skipping import BadFiles, BadPair, SkippedDraw, UnreadablePair
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.working_size import Size
from segbalance.runtime.workers import SharedMemory, WorkerCrew
from segbalance.transforms.own_file import own_file_again
from segbalance.transforms.pipelines import apply_transform, check_sample, reseed, valid_transform
from segbalance.transforms.quiet_albumentations import A

if TYPE_CHECKING:
    import pandas as pd

    from segbalance.balancing.draws import Draws

BY_THRESHOLD = MaskEncoding()
PLAIN = -1  # place of the transform that only resizes
BATCHES_AHEAD = 2  # at least, in the making at once, so that all find work across the end of a batch
SAMPLES_A_CALL = 8  # of a process, at most
ALIGNMENT = 64  # bytes; TensorFlow takes over what is aligned to them and copies the rest

Filled = tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]  # images, masks, (item, reason) of the bad


class Paths(Sequence[str]):
    """Paths of files below a folder, put together when they are asked for, since there may be millions.

    Args:
        folder: that the names are relative to.
        names: sequence of str.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | np.ndarray) -> None:
        self._folder = os.fspath(folder)
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> "Paths": ...

    def __getitem__(self, place: int | slice) -> "str | Paths":
        if isinstance(place, slice):
            return Paths(self._folder, self.names[place])
        return os.path.join(self._folder, self.names[place])


@dataclass(frozen=True)
class Subset:
    """The pairs of one subset and what is done to them.

    Args:
        name: of the subset.
        images: sequence of the photos' paths.
        masks: sequence of their masks' paths, or of their labels.
        transform: Compose that delivers the model's input size.
        encoding: how the mask files, or labels, encode class ids.
        sizes: int32 (pairs, 2), the width and height that each photo must have, 0 where it may have any; None
            where all may.
        csv_file: that the rows stand in, for messages.
        lines: sequence of the line of each row in it.
    """

    name: str
    images: Sequence[str]
    masks: Sequence[str]
    transform: A.Compose
    encoding: MaskEncoding | LabelEncoding = BY_THRESHOLD
    sizes: np.ndarray | None = None
    csv_file: str | Path = ""
    lines: "Sequence[int] | pd.Index" = ()

    def __len__(self) -> int:
        return len(self.images)


class Sample(NamedTuple):
    """What one place of a batch is made of.

    Args:
        subset: number of the subset.
        image: path of the photo.
        mask: path of its mask, or its label.
        seed: of the transform.
        plain: True where the pair is only resized.
        size: (width, height) that the photo must have; None or (0, 0) where it may have any.
    """

    subset: int
    image: str
    mask: str
    seed: int
    plain: bool
    size: Size | None = None


class SampleReader:
    """Reads and transforms single pairs; threads may share one, and worker processes get copies.

    Args:
        names: of the subsets.
        transforms: Compose of each subset.
        encodings: MaskEncoding of each subset, or LabelEncoding of all.
        image_size: pixels of the output.
        pairs: PairReader.
    """

    def __init__(
        self,
        names: Sequence[str],
        transforms: Sequence[A.Compose],
        encodings: Sequence[MaskEncoding | LabelEncoding],
        image_size: int,
        pairs: PairReader,
    ) -> None:
        self.names = names
        self.encodings = encodings
        self.image_size = image_size
        self.mask_size = encodings[0].mask_size(image_size)
        self.pairs = pairs
        self._transforms = [*transforms, valid_transform(image_size)]  # the last at PLAIN
        self._own = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_own"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local())

    def pair(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """The pair of a Sample as it is read: uint8 (H, W, 3) RGB and uint8 (H, W) or (1, 1) class ids.

        Raises:
            UnreadablePair: of its files, with the path.
        """
        try:
            return self.pairs.read(sample.image, sample.mask, self.encodings[sample.subset], sample.size)
        except OSError as error:
            named = error.strerror and error.filename
            reason = f"{error.filename}: {error.strerror}" if named else str(error)
        except cv2.error as error:  # of headers that claim sizes beyond its limits
            reason = f"{sample.image} or its mask cannot be decoded: {error.err}"
        raise UnreadablePair(reason)

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """As `pair`, but transformed: uint8 (S, S, 3) RGB and uint8 (S, S) or (1, 1) class ids."""
        image, mask = self.pair(sample)
        transform = self._own_transform(PLAIN if sample.plain else sample.subset)
        reseed(transform, sample.seed)
        labelled = not self.encodings[sample.subset].in_files
        image, moved = apply_transform(transform, image, None if labelled else mask)
        check_sample(f"of subset {self.names[sample.subset]}", image, moved, self.image_size)
        return image, mask if moved is None else moved

    def new_transform(self, subset: int, plain: bool = False) -> A.Compose:
        """A copy of what a sample goes through, to be reseeded by its owner."""
        return copy.deepcopy(self._transforms[PLAIN if plain else subset])

    def _own_transform(self, place: int) -> A.Compose:
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
        bad_files: BadFiles; by default one that stops at the first.
    """

    def __init__(
        self,
        subsets: Sequence[Subset],
        image_size: int,
        draws: "Draws",
        threads: int | None = None,
        pairs: PairReader | None = None,
        processes: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        self.subsets = subsets
        self.draws = draws
        self.image_size = image_size
        self.mask_size = subsets[0].encoding.mask_size(image_size)
        self.bad_files = bad_files or BadFiles()
        self.failure: Exception | None = None
        self.samples = SampleReader(
            [subset.name for subset in subsets],
            [subset.transform for subset in subsets],
            [subset.encoding for subset in subsets],
            image_size,
            pairs or PairReader(),
        )
        threads = threads or os.cpu_count() or 1
        self.at_once = processes or threads
        self._threads = ThreadPoolExecutor(threads, "reader")
        self._processes = ReadingProcesses(self.samples, processes) if processes else None
        self._begun = False

    def ready(self) -> bool:
        """False while worker processes are still starting; starts them."""
        return self._processes is None or self._processes.ready()

    def batches_ahead(self, batch_size: int) -> int:
        """How many batches to ask for at once, so that everyone has a sample to read and the next one."""
        return max(BATCHES_AHEAD, math.ceil(2 * self.at_once / batch_size))

    def wait_until_ready(self) -> None:
        """Waits until the worker processes have started; threads always have."""
        while not self.ready():
            time.sleep(0.02)

    def read(
        self, draws: np.ndarray, plain: np.ndarray, step: int = -1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reads one batch.

        Args:
            draws: int64 (B,).
            plain: bool (B,), which of them are only resized.
            step: training step, for the record of what is skipped.

        Returns:
            uint8 (B, S, S, 3) images, uint8 (B, S, S, 1) or (B, 1, 1, 1) class ids, int32 (B,) subsets.

        Raises:
            InputError: BadFiles stops at a pair that cannot be read, or a transform does not fit.
        """
        subsets, positions = self.draws.split(draws)
        try:
            samples = list(map(self.sample, subsets.tolist(), positions.tolist(), plain.tolist()))
            processes = self._processes if self._begun and self.ready() else None
            read = processes.read if processes else self._read_on_threads
            images, masks, unreadable = read(samples)
            for item, reason in unreadable:
                draw, sample = int(draws[item]), samples[item]
                images[item], masks[item, ..., 0] = self._read_another(draw, sample, reason, int(step), item)
            self._begun = True
        except Exception as error:
            self.failure = error  # TensorFlow passes on no more than its text
            raise
        return images, masks, subsets.astype(np.int32)

    def row(self, subset: int, position: int) -> int:
        """Row of the subset's table that a draw stands for; of a skipped one, that of what took its place."""
        draw = self.draws.draw(subset, position)
        return self.draws.row(subset, self.bad_files.position(draw, position))

    def sample(self, subset: int, position: int, plain: bool = False) -> Sample:
        """The Sample that draw number `position` of a subset stands for."""
        seed = self.draws.sample_seed(subset, position)
        return self._sample(subset, self.row(subset, position), seed, plain)

    def _sample(self, subset: int, row: int, seed: int, plain: bool) -> Sample:
        pairs = self.subsets[subset]
        size = None if pairs.sizes is None else tuple(pairs.sizes[row].tolist())
        return Sample(subset, pairs.images[row], pairs.masks[row], seed, plain, size)

    def _bad_pair(self, subset: int, row: int, reason: str) -> BadPair:
        pairs = self.subsets[subset]
        line = int(pairs.lines[row]) if len(pairs.lines) else 0
        image, mask = (getattr(paths, "names", paths)[row] for paths in (pairs.images, pairs.masks))
        return BadPair(pairs.name, image, mask, str(pairs.csv_file), line, reason)

    def _read_another(
        self, draw: int, sample: Sample, reason: str, step: int, item: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What takes the place of a draw whose Sample cannot be read, as SampleReader.read gives it."""
        subset, position = self.draws.split(draw)
        start = self.bad_files.position(draw, position)
        bad = first = self._bad_pair(subset, self.draws.row(subset, start), reason)
        for later in self.draws.later_positions(subset, start):
            self.bad_files.meet(bad)
            row = self.draws.row(subset, later)
            # Its own seed, for the later draw comes too and must not be the same picture again.
            sample = self._sample(subset, row, sample.seed, sample.plain)
            try:
                pair = self.samples.read(sample)
            except UnreadablePair as error:
                bad = self._bad_pair(subset, row, str(error))
                continue
            self.bad_files.record(SkippedDraw(step, item, draw, position, later, *first))
            return pair
        self.bad_files.meet(bad)
        self.bad_files.give_up(self.subsets[subset].name)

    def _read_on_threads(self, samples: Sequence[Sample]) -> Filled:
        """(images, masks, unreadable) of a list of Sample; the last is [(item, reason)]."""
        shape = len(samples), self.image_size, self.mask_size
        images, masks = batch_arrays(np.empty(batch_bytes(*shape) + ALIGNMENT, np.uint8), *shape)

        def fill(item: int) -> list[tuple[int, str]]:
            return fill_places(self.samples, images, masks, item, samples[item : item + 1])

        unreadable = list(itertools.chain.from_iterable(self._threads.map(fill, range(len(samples)))))
        return images, masks, unreadable


def batch_bytes(count: int, size: int, mask_size: int | None = None) -> int:
    """Bytes of `count` images of `size` pixels and their masks, from an aligned address on.

    Args:
        mask_size: pixels of a side of the masks; `size` by default.
    """
    return math.ceil(3 * count * size**2 / ALIGNMENT) * ALIGNMENT + count * (mask_size or size) ** 2


def batch_arrays(
    memory: np.ndarray, count: int, size: int, mask_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (count, size, size, 3) images and (count, mask_size, mask_size, 1) masks in uint8 `memory`."""
    mask_size = mask_size or size
    start = -memory.ctypes.data % ALIGNMENT
    pixels = memory[start : start + batch_bytes(count, size, mask_size)]
    images, masks = pixels[: 3 * count * size**2], pixels[len(pixels) - count * mask_size**2 :]
    return images.reshape(count, size, size, 3), masks.reshape(count, mask_size, mask_size, 1)


class BatchMemory:
    """Memory of batches that other processes fill; what nobody holds any more is used again."""

    def __init__(self) -> None:
        self.shared = SharedMemory()
        self._free: defaultdict[int, list[int]] = defaultdict(list)  # {bytes: offsets}

    def take(self, size: int) -> tuple[int, np.ndarray]:
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

    def __init__(self, samples: SampleReader, count: int) -> None:
        self._samples = samples
        self._count = count
        self._memory = BatchMemory()
        self._callers = ThreadPoolExecutor(count, "caller")
        self._crew: WorkerCrew | None = None
        self._lock = threading.Lock()

    def ready(self) -> bool:
        """False while the processes are starting, which the first question makes them do."""
        with self._lock:
            if self._crew is None:
                state = self._samples, self._memory.shared
                self._crew = WorkerCrew(self._count, fill_batch, state, own_file_again())
        return self._crew.ready()

    def read(self, samples: Sequence[Sample]) -> Filled:
        """(images, masks, unreadable) of a list of Sample; the last is [(item, reason)]."""
        crew, count = self._crew, len(samples)
        assert crew is not None, "`ready` starts it"
        shape = count, self._samples.image_size, self._samples.mask_size
        offset, memory = self._memory.take(batch_bytes(*shape))
        a_call = max(1, min(SAMPLES_A_CALL, count // self._count))

        def call(first: int) -> list[tuple[int, str]]:
            return crew.call(offset, count, first, samples[first : first + a_call])

        unreadable = list(itertools.chain.from_iterable(self._callers.map(call, range(0, count, a_call))))
        return *batch_arrays(memory, *shape), unreadable


def fill_batch(
    state: tuple[SampleReader, SharedMemory], offset: int, count: int, first: int, samples: Sequence[Sample]
) -> list[tuple[int, str]]:
    """Reads `samples` into a batch of `count` in shared memory, from place `first` on.

    Args:
        state: (SampleReader, SharedMemory).
        offset: of the batch in the memory.

    Returns:
        As `fill_places` does.
    """
    reader, shared = state
    shape = count, reader.image_size, reader.mask_size
    memory = np.frombuffer(shared.part(offset, batch_bytes(*shape)), np.uint8)
    images, masks = batch_arrays(memory, *shape)
    return fill_places(reader, images, masks, first, samples)


def fill_places(
    reader: SampleReader, images: np.ndarray, masks: np.ndarray, first: int, samples: Sequence[Sample]
) -> list[tuple[int, str]]:
    """Reads `samples` with a SampleReader into the arrays of a batch, from place `first` on.

    Returns:
        [(item, reason)] of those whose pair cannot be read.
    """
    unreadable = []
    for item, sample in enumerate(samples, start=first):
        try:
            images[item], masks[item, ..., 0] = reader.read(sample)
        except UnreadablePair as error:
            unreadable.append((item, str(error)))
    return unreadable
