"""Shares, permutations and seeds: all of it without a pixel."""

import numpy as np
import pytest

from balancing import Draws, subset_shares
from errors import InputError

TUTORIAL = [749, 144, 126, 52, 34]


def test_uniform_gives_every_subset_the_same_whatever_its_size():
    np.testing.assert_allclose(subset_shares(TUTORIAL, "uniform"), [0.2] * 5)


def test_none_shares_by_size():
    # 749 + 144 + 126 + 52 + 34 = 1105
    np.testing.assert_allclose(subset_shares(TUTORIAL, "none"), np.array(TUTORIAL) / 1105)


@pytest.mark.parametrize("sizes", [[], [3, 0]])
def test_a_subset_without_images_is_an_error(sizes):
    with pytest.raises(InputError, match="every subset needs at least one image"):
        subset_shares(sizes, "uniform")


def test_each_pass_is_a_fresh_permutation():
    draws = Draws([7, 3], seed=0)
    passes = np.array([draws.row(0, position) for position in range(7 * 20)]).reshape(20, 7)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(7), (20, 1)))
    assert len({tuple(order) for order in passes}) > 15


def test_the_first_places_of_the_passes_are_spread_evenly():
    draws = Draws([10], seed=3)
    firsts = np.bincount([draws.row(0, 10 * number) for number in range(2000)], minlength=10)
    sigma = (2000 * 0.1 * 0.9) ** 0.5
    assert np.abs(firsts - 200).max() < 4 * sigma


def test_rows_and_seeds_depend_on_seed_subset_and_position_alone():
    def sequence(seed, subset):
        draws = Draws([50, 50], seed)
        return [(draws.row(subset, p), draws.sample_seed(subset, p)) for p in range(120)]

    backwards = Draws([50, 50], 1)
    late_first = [(backwards.row(0, p), backwards.sample_seed(0, p)) for p in reversed(range(120))]
    assert sequence(1, 0) == late_first[::-1]
    assert sequence(1, 0) != sequence(2, 0)
    assert sequence(1, 0) != sequence(1, 1)


def test_sample_seeds_do_not_repeat():
    draws = Draws([5, 5], seed=0)
    seeds = [draws.sample_seed(subset, position) for subset in (0, 1) for position in range(5000)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0


def test_split_undoes_the_encoding_of_a_draw():
    draws = Draws([4, 4, 4], seed=0)
    subsets, positions = draws.split(np.array([0, 1, 2, 3, 302]))
    assert subsets.tolist() == [0, 1, 2, 0, 2]
    assert positions.tolist() == [0, 0, 0, 1, 100]
