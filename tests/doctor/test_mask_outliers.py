"""Masks unlike the rest of their subset, by fences that are worked out by hand."""

import math

import numpy as np
import pytest

from segbalance.doctor.mask_outliers import far_coverage, inverted, log_odds


def test_log_odds_by_hand_and_finite_at_the_ends():
    # 20 of 100 pixels: log(20.5 / 80.5); none: log(0.5 / 100.5).
    found = log_odds([0.2, 0.0, 1.0], [100, 100, 100])
    expected = [math.log(20.5 / 80.5), math.log(0.5 / 100.5), math.log(100.5 / 0.5)]
    np.testing.assert_allclose(found, expected)


def far(coverage, subsets=None):
    subsets = ["a"] * len(coverage) if subsets is None else subsets
    return far_coverage(coverage, [1_000_000] * len(coverage), subsets).tolist()


def test_the_fences_of_a_narrow_subset_are_eight_times_the_odds_away():
    # All odds are 1/9, so the fences lie at 8/9 (coverage 8/17 = 0.4706) and 1/72 (1/73 = 0.0137).
    assert far([0.1] * 20 + [0.46, 0.48, 0.0143, 0.0132]) == [0] * 20 + [0, 1, 0, -1]


def test_a_wide_subset_has_wide_fences():
    # Quartiles of the odds at 1/20 and 1/4: a range of log 5, so the upper fence is at 125/4.
    assert far([1 / 21] * 10 + [1 / 5] * 10 + [0.96, 0.98]) == [0] * 20 + [0, 1]


def test_each_subset_has_fences_of_its_own_and_small_ones_none():
    coverage = [0.02] * 12 + [0.6] * 12 + [0.02] * 8 + [0.9]
    subsets = ["far"] * 12 + ["near"] * 12 + ["few"] * 9
    assert far(coverage, subsets) == [0] * 33
    swapped = [0.6, *coverage[1:12], 0.02, *coverage[13:]]
    assert np.flatnonzero(far(swapped, subsets)).tolist() == [0, 12]


def test_empty_and_unknown_masks_are_left_out():
    assert far([0.1] * 20 + [0.0, float("nan"), 1.0]) == [0] * 20 + [0, 0, 1]
    assert far([0.0] * 20 + [0.1] * 8 + [0.9]) == [0] * 29, "too few with foreground"
    assert far([]) == []


@pytest.mark.parametrize(
    "coverage, border, expected",
    [(0.95, 1.0, True), (0.95, 0.7, False), (0.45, 1.0, False), (1.0, 1.0, False), (0.05, 0.0, False)],
)
def test_an_inverted_mask_marks_most_of_the_border_and_of_the_photo(coverage, border, expected):
    found = inverted([0.05] * 12 + [coverage], [0.0] * 12 + [border], ["a"] * 13)
    assert found.tolist() == [False] * 12 + [expected]


def test_where_most_masks_reach_the_border_none_counts_as_inverted():
    assert not inverted([0.6] * 12 + [0.95], [0.5] * 12 + [1.0], ["a"] * 13).any()
    assert not inverted([0.05] * 5 + [0.95], [0.0] * 5 + [1.0], ["a"] * 6).any(), "too few"
