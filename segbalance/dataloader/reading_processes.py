"""Worker processes that fill batches in memory which they share with this process."""

import itertools
import math
import threading
import weakref
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from segbalance.balancing.skipping import UnreadablePair
from segbalance.dataloader.samples import Sample, SampleReader
from segbalance.runtime.workers import SharedMemory, WorkerCrew
from segbalance.transforms.own_file import own_file_again

SAMPLES_A_CALL = 8  # of a process, at most
ALIGNMENT = 64  # bytes; TensorFlow takes over what is aligned to them and copies the rest

Filled = tuple[np.ndarray, np.ndarray, list[tuple[int, str]]]  # images, masks, (item, reason) of the bad


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
