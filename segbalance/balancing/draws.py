"""The endless, seekable order of draws.

A draw is one integer: `position * subsets + subset`, the position counting what that subset's loader has
handed out. Row and sample seed follow from it, so shuffling and mixing move integers, never pixels.

An order (`ExactBatches`, `OversampledPasses`, and `Mixture` in dataloader/batches.py) tells which subset
comes next. It finds its place again from the loaders' positions alone.
"""

import functools
import itertools
from collections.abc import Generator, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd

from segbalance.balancing.skipping import BadFiles, SkippedDraw

PERMUTATIONS_KEPT = 4  # of each subset; batches in flight straddle at most a few passes
# Last words of the generator's counter, which keep its streams apart.
SAMPLE_SEEDS, ROWS, PLACES_IN_A_BATCH, PLACES_IN_A_PASS = range(4)
Numbers = TypeVar("Numbers", int, np.ndarray)


def random_stream(seed: int, subset: int, number: int, purpose: int) -> np.random.Generator:
    """numpy.random.Generator that is a function of its arguments, from a counter-based generator.

    Salmon et al. 2011, «Parallel random numbers: as easy as 1, 2, 3»; numpy.random.Philox.
    """
    return np.random.Generator(np.random.Philox(key=[seed, subset], counter=[0, 0, number, purpose]))


class Draws:
    """What draw number `position` of each subset is: a row of its table and a seed for its transform.

    A pass of a subset is a fresh permutation of its rows; where a pass is longer than the table, it is as
    many permutations as fit and the beginning of one more, so that no row comes more than once oftener
    than another. Everything is a pure function of the seed, the subset and the position.

    Args:
        sizes: rows of each subset.
        seed: of the run.
        pass_lengths: draws of each subset in one of its passes, at least its rows; its rows by default.
    """

    def __init__(
        self,
        sizes: Sequence[int] | np.ndarray,
        seed: int,
        pass_lengths: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        self.sizes = [int(size) for size in sizes]
        self.seed = seed
        self.pass_lengths = [int(length) for length in (sizes if pass_lengths is None else pass_lengths)]
        self._permutation = functools.lru_cache(PERMUTATIONS_KEPT * len(sizes))(self._new_permutation)

    def split(self, draws: Numbers) -> tuple[Numbers, Numbers]:
        """Subset and position of each draw, int64 arrays of the shape of `draws`."""
        return draws % len(self.sizes), draws // len(self.sizes)

    def draw(self, subset: int, position: int) -> int:
        """The draw of that subset and position, an integer."""
        return position * len(self.sizes) + subset

    def row(self, subset: int, position: int) -> int:
        """Row of the subset's table."""
        number, place = self._permuted(subset, position)
        return int(self._permutation(subset, number)[place])

    def sample_seed(self, subset: int, position: int) -> int:
        """Seed of the transform, an integer below 2**64."""
        counter = [position, 0, 0, SAMPLE_SEEDS]
        return int(np.random.Philox(key=[self.seed, subset], counter=counter).random_raw())

    def later_positions(self, subset: int, position: int) -> Iterator[int]:
        """Yields the positions after `position` at which other rows come, each row once."""
        seen = {self.row(subset, position)}
        while len(seen) < self.sizes[subset]:
            position += 1
            row = self.row(subset, position)
            if row not in seen:
                seen.add(row)
                yield position

    def repeats(self, subset: int, start: int, stop: int) -> np.ndarray:
        """How often each row comes at the positions from `start` up to `stop`: int64 (rows,)."""
        size, length = self.sizes[subset], self.pass_lengths[subset]
        counts = np.zeros(size, np.int64)
        while start < stop:
            number, place = self._permuted(subset, start)
            taken = min(size - place, stop - start, length - start % length)
            if taken == size:
                counts += 1
            else:
                counts[self._permutation(subset, number)[place : place + taken]] += 1
            start += taken
        return counts

    def _permuted(self, subset: int, position: int) -> tuple[int, int]:
        """Number of the permutation that a position falls into, and the place in it."""
        size, length = self.sizes[subset], self.pass_lengths[subset]
        passes, place = divmod(position, length)
        number, place = divmod(place, size)
        return passes * -(-length // size) + number, place

    def _new_permutation(self, subset: int, number: int) -> np.ndarray:
        return random_stream(self.seed, subset, number, ROWS).permutation(np.int32(self.sizes[subset]))


class Order(Protocol):
    """Which subset comes next: ExactBatches, OversampledPasses, or Mixture in dataloader.py."""

    def epoch_batches(
        self, epoch: int, positions: np.ndarray, *, batch_size: int, steps: int
    ) -> Iterator[np.ndarray]: ...


class ExactBatches:
    """Every batch has `shares * batch_size` images of each subset, in random order.

    Where that is no whole number, it is the whole number below or above, and the places left over go to the
    subsets furthest behind, so that the numbers stay exact over time too.

    Args:
        shares: float (subsets,), sum 1.
        seed: of the run.
    """

    def __init__(self, shares: Sequence[float] | np.ndarray, seed: int) -> None:
        self.shares = np.asarray(shares)
        self.seed = seed

    def epoch_batches(
        self, epoch: int, positions: np.ndarray, *, batch_size: int, steps: int
    ) -> Iterator[np.ndarray]:
        """Yields the int64 (batch_size,) draws of the `steps` steps of an epoch; see `Mixture`."""
        positions = positions.copy()
        due = self.shares * batch_size
        least = np.floor(due + 1e-9)  # 0.2 * 15 may be a little below 3
        left_over = batch_size - int(least.sum())
        takes_turns = due - least > 1e-9
        for step in range(epoch * steps, (epoch + 1) * steps):
            counts = least.astype(np.int64)
            behind = np.where(takes_turns, (step + 1) * due - positions - least, -np.inf)
            counts[np.argsort(-behind, kind="stable")[:left_over]] += 1
            places = np.repeat(np.arange(len(counts)), counts)
            yield numbered(
                random_stream(self.seed, 0, step, PLACES_IN_A_BATCH).permutation(places), positions
            )


class OversampledPasses:
    """Passes in which each subset has exactly its number of draws, in random order; batches run across them.

    Args:
        pass_lengths: draws of each subset in one pass.
        seed: of the run.
    """

    def __init__(self, pass_lengths: Sequence[int] | np.ndarray, seed: int) -> None:
        self.pass_lengths = np.asarray(pass_lengths)
        self.seed = seed
        self._pass = functools.lru_cache(1)(self._new_pass)

    def epoch_batches(
        self, epoch: int, positions: np.ndarray, *, batch_size: int, steps: int
    ) -> Iterator[np.ndarray]:
        """Yields the int64 (batch_size,) draws of the `steps` steps of an epoch; see `Mixture`."""
        positions = positions.copy()
        for _ in range(steps):
            yield numbered(self._subsets(int(positions.sum()), batch_size), positions)

    def _subsets(self, start: int, count: int) -> np.ndarray:
        """The subsets of `count` draws from draw number `start` on, over all subsets and passes."""
        pieces = []
        while count:
            number, place = divmod(start, int(self.pass_lengths.sum()))
            pieces.append(self._pass(number)[place : place + count])
            start, count = start + len(pieces[-1]), count - len(pieces[-1])
        return np.concatenate(pieces)

    def _new_pass(self, number: int) -> np.ndarray:
        subsets = np.arange(len(self.pass_lengths), dtype=np.min_scalar_type(len(self.pass_lengths)))
        in_order = np.repeat(subsets, self.pass_lengths)
        return random_stream(self.seed, 0, number, PLACES_IN_A_PASS).permutation(in_order)


def numbered(subsets: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The draws of a sequence of subsets; moves `positions`, int64 (subsets,), on in place."""
    draws = np.empty(len(subsets), np.int64)
    for subset in range(len(positions)):
        (places,) = np.nonzero(subsets == subset)
        draws[places] = (positions[subset] + np.arange(len(places))) * len(positions) + subset
        positions[subset] += len(places)
    return draws


class DrawStream:
    """The draws of each training step, and where the loaders stand at the start of each epoch.

    Args:
        images: the image of each row, one sequence for each subset.
        batch_size: draws a step.
        steps_per_epoch: steps an epoch.
        augment: `all` draws; or `copies`, all but an image's first draw in an epoch.
        bad_files: BadFiles, which knows the draws that were skipped.
    """

    def __init__(
        self,
        order: Order,
        draws: Draws,
        images: Sequence[Sequence[str]],
        *,
        batch_size: int,
        steps_per_epoch: int,
        augment: str = "all",
        bad_files: BadFiles | None = None,
    ) -> None:
        self.order = order
        self.draws = draws
        self._images = images
        self.bad_files = bad_files or BadFiles()
        self.batch_size, self.steps_per_epoch, self.augment = batch_size, steps_per_epoch, augment
        self.positions = {0: np.zeros(len(images), np.int64)}

    @functools.cached_property
    def image_numbers(self) -> list[np.ndarray]:
        """Number of each row's image, int64 (rows,) for each subset; rows of the same image share it."""
        return [pd.factorize(np.array(list(rows), object))[0] for rows in self._images]

    def steps(self, first_step: int = 0) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """Yields (draws int64 (B,), plain bool (B,)) of each step from `first_step` (0 is the first) on.

        There is no end. A plain draw is only resized. Earlier epochs whose positions are not known yet are
        gone through as draws; no pixel is read for them.
        """
        first_epoch = first_step // self.steps_per_epoch
        known = max(epoch for epoch in self.positions if epoch <= first_epoch)
        for epoch in itertools.count(known):
            positions = self.positions[epoch].copy()
            last = (epoch + 1) * self.steps_per_epoch - 1
            seen = [np.zeros(len(rows), bool) for rows in self._images]
            batches = self.order.epoch_batches(
                epoch, positions.copy(), batch_size=self.batch_size, steps=self.steps_per_epoch
            )
            for step, batch in enumerate(batches, start=epoch * self.steps_per_epoch):
                positions += np.bincount(batch % len(positions), minlength=len(positions))
                if step == last:  # before its batch is handed out, for the epoch's end may come at once
                    self.positions[epoch + 1] = positions
                plain = self._first_draws(batch, seen)
                if step >= first_step:
                    yield batch, plain

    def repeats(self, epoch: int) -> list[np.ndarray]:
        """How often each image was delivered in a finished epoch: one int64 array for each subset."""
        bounds = zip(self.positions[epoch], self.positions[epoch + 1], self.skipped(epoch), strict=True)
        found = []
        for subset, (start, stop, skipped) in enumerate(bounds):
            rows = self.draws.repeats(subset, int(start), int(stop))
            for skip in skipped:
                rows[self.draws.row(subset, skip.position)] -= 1
                rows[self.draws.row(subset, skip.replaced_by)] += 1
            found.append(np.bincount(self.image_numbers[subset], rows).astype(int))
        return found

    def skipped(self, epoch: int) -> list[list[SkippedDraw]]:
        """The SkippedDraws of an epoch: one list for each subset."""
        found: list[list[SkippedDraw]] = [[] for _ in self._images]
        for skip in self.bad_files.skips():
            if skip.step // self.steps_per_epoch == epoch:
                found[self.draws.split(skip.draw)[0]].append(skip)
        return found

    def _first_draws(self, batch: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
        """Which draws are an image's first since `seen` was empty; none where all are augmented."""
        first = np.zeros(len(batch), bool)
        if self.augment == "copies":
            for item, (subset, position) in enumerate(zip(*self.draws.split(batch), strict=True)):
                image = self.image_numbers[subset][self.draws.row(int(subset), int(position))]
                first[item] = not seen[subset][image]
                seen[subset][image] = True
        return first
