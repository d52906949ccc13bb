"""How images are drawn: the share of each subset, and the endless, seekable order of draws.

A draw is one integer: `position * subsets + subset`, the position counting what that subset's loader has
handed out. Row and sample seed follow from it, so shuffling and mixing move integers, never pixels.
"""

import functools

import numpy as np

from errors import InputError

STRATEGIES = ("uniform", "none")
PERMUTATIONS_KEPT = 4  # of each subset; batches in flight straddle at most a few passes


def subset_shares(sizes, balance):
    """Share of each subset in the draws.

    Args:
        sizes: images of each subset.
        balance: `uniform` (the same for every subset, whatever its size) or `none` (by size, as a plain
            shuffle gives).

    Returns:
        float64 (subsets,), sum 1.
    """
    if not len(sizes) or min(sizes) < 1:
        raise InputError(f"every subset needs at least one image, got {list(sizes)}")
    weights = np.ones(len(sizes)) if balance == "uniform" else np.asarray(sizes, float)
    return weights / weights.sum()


class Draws:
    """What draw number `position` of each subset is: a row of its table and a seed for its transform.

    Each pass of a subset is a fresh permutation of its rows. Everything is a pure function of the seed,
    the subset and the position, from a counter-based generator (Salmon et al. 2011, «Parallel random
    numbers: as easy as 1, 2, 3»; numpy.random.Philox).

    Args:
        sizes: rows of each subset.
        seed: of the run.
    """

    def __init__(self, sizes, seed):
        self.sizes = np.asarray(sizes)
        self.seed = seed
        self._permutation = functools.lru_cache(PERMUTATIONS_KEPT * len(sizes))(self._new_permutation)

    def split(self, draws):
        """Subset and position of each draw, int64 arrays of the shape of `draws`."""
        return draws % len(self.sizes), draws // len(self.sizes)

    def row(self, subset, position):
        """Row of the subset's table."""
        number, place = divmod(position, int(self.sizes[subset]))
        return int(self._permutation(subset, number)[place])

    def sample_seed(self, subset, position):
        """Seed of the transform, an integer below 2**64."""
        return int(np.random.Philox(key=[self.seed, subset], counter=[position, 0, 0, 0]).random_raw())

    def _new_permutation(self, subset, number):
        # The last counter word keeps these streams apart from the sample seeds.
        stream = np.random.Philox(key=[self.seed, subset], counter=[0, 0, number, 1])
        return np.random.Generator(stream).permutation(np.int32(self.sizes[subset]))
