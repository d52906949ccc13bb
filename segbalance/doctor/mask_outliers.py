"""Masks that differ from the rest of their subset so much that something is probably wrong with them."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

# Masks of a subset, below which nothing is said to be unusual in it.
FEWEST = 10
# Tukey's outer fences (Exploratory Data Analysis, 1977): 3 interquartile ranges beyond the quartiles are «far
# out»; of normally distributed values 2 in a million lie there.
FENCE = 3
# The least interquartile range of the log odds. It puts the fences at eight times the odds of a quartile or
# more: at a small coverage, an object seen from nearly three times the distance.
LEAST_RANGE = math.log(2)
MOSTLY, HARDLY = 0.75, 0.25  # shares of the border
Values = np.ndarray | pd.Series


def log_odds(coverage: Values, pixels: Values) -> np.ndarray:
    """log(foreground / background), finite for empty and full masks too (half a pixel more of each).

    Args:
        coverage: array of shares in [0, 1].
        pixels: array of the masks' numbers of pixels.
    """
    coverage, pixels = np.asarray(coverage, float), np.asarray(pixels, float)
    return np.log((coverage * pixels + 0.5) / ((1 - coverage) * pixels + 0.5))


def far_coverage(coverage: Values, pixels: Values, subsets: Values) -> np.ndarray:
    """Which masks cover far more or far less than the rest of their subset. Empty masks are left out.

    Args:
        coverage, pixels: as for `log_odds`; a coverage of NaN is left out too.
        subsets: array of names.

    Returns:
        int array: 1 far more, -1 far less, 0 neither
    """
    values, known = log_odds(coverage, pixels), np.nan_to_num(coverage) > 0
    far = np.zeros(len(values), int)
    for _, members in _large_groups(subsets, known):
        low, high = np.quantile(values[members], [0.25, 0.75])
        reach = FENCE * max(high - low, LEAST_RANGE)
        far[members[values[members] > high + reach]] = 1
        far[members[values[members] < low - reach]] = -1
    return far


def inverted(coverage: Values, border: Values, subsets: Values) -> np.ndarray:
    """Which masks mark most of their border and more than half of the photo, where the subset does neither.

    Full masks are left out: their complement shows nothing.

    Args:
        coverage, border: arrays of shares in [0, 1], of the whole mask and of its outermost pixels.
        subsets: array of names.

    Returns:
        bool array
    """
    coverage, border = np.asarray(coverage, float), np.asarray(border, float)
    found = np.zeros(len(coverage), bool)
    for _, members in _large_groups(subsets, np.nan_to_num(coverage) > 0):
        if np.median(coverage[members]) < 0.5 and np.median(border[members]) <= HARDLY:
            odd = (coverage[members] > 0.5) & (coverage[members] < 1) & (border[members] >= MOSTLY)
            found[members[odd]] = True
    return found


def _large_groups(subsets: Values, known: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(name, positions) of the subsets with at least FEWEST positions that are `known` (bool array)."""
    subsets = np.asarray(subsets)
    for name in np.unique(subsets[known]):
        members = np.flatnonzero(known & (subsets == name))
        if len(members) >= FEWEST:
            yield name, members
