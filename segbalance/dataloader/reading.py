"""Reads, decodes and transforms the pairs of a batch, on threads or in worker processes.

Threads share Python's interpreter lock, which all that happens between two calls of OpenCV needs; processes
share nothing and get on as fast as there are cores. The batches are the same.
"""

import itertools
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from segbalance.balancing.skipping import BadFiles, BadPair, SkippedDraw, UnreadablePair
from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.reading_processes import (
    ALIGNMENT,
    Filled,
    ReadingProcesses,
    batch_arrays,
    batch_bytes,
    fill_places,
)
from segbalance.dataloader.samples import Sample, SampleReader, Subset

if TYPE_CHECKING:
    from segbalance.balancing.draws import Draws

BATCHES_AHEAD = 2  # at least, in the making at once, so that all find work across the end of a batch


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
