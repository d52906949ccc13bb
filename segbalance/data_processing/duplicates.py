"""Photos that are the same or look the same, found without comparing each with each."""

from collections import defaultdict
from collections.abc import Hashable, Iterable

import numpy as np

MOST_BITS = 7  # of 64; Krawetz (hackerfactor.com, «Looks Like It», 2011): up to 5 alike, from 10 on different
CLOSEST = 4  # candidates kept for each photo from each byte of its hash
AT_ONCE = 4_000_000  # comparisons held in memory
# Of the grey levels of two thumbnails. Compressing, shrinking, brightening or a little noise leave 0.99 and
# more; two photos with the same light and background reach about 0.9.
LEAST_CORRELATION = 0.97


def groups(keys: Iterable[Hashable]) -> list[list[int]]:
    """Lists of the positions that share a key, of two positions or more, in the order of the first.

    A key of None belongs to no group.
    """
    places: defaultdict[Hashable, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        if key is not None:
            places[key].append(position)
    return [found for found in places.values() if len(found) > 1]


def look_alikes(
    hashes: np.ndarray, thumbnails: np.ndarray, others: np.ndarray
) -> dict[int, tuple[int, float]]:
    """For each photo of one side the one of the other side that looks the same, if there is one.

    Hashes that differ in at most 7 bits of 64 agree in one byte at least, so only photos that share a byte
    are compared (Norouzi, Punjani, Fleet: Fast Search in Hamming Space with Multi-Index Hashing, 2012);
    of those that come close, the thumbnails decide.

    Args:
        hashes: uint8 (photos, 8), perceptual hashes.
        thumbnails: uint8 (photos, height, width), grey.
        others: bool (photos,), True on the other side.

    Returns:
        {position on the other side: (position on this side, correlation)}
    """
    ours, theirs = np.flatnonzero(~others), np.flatnonzero(others)
    found: dict[int, tuple[int, float]] = {}
    for mine, other in close_hashes(hashes[ours], hashes[theirs]):
        mine, other = int(ours[mine]), int(theirs[other])
        correlation = thumbnail_correlation(thumbnails[mine], thumbnails[other])
        if correlation >= max(LEAST_CORRELATION, found.get(other, (0, 0))[1]):
            found[other] = (mine, correlation)
    return dict(sorted(found.items()))


def close_hashes(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of positions (i in `first`, j in `second`) whose hashes differ in at most MOST_BITS bits.

    Of each j the closest few only, so that their number grows with the photos and not with their pairs.

    Args:
        first, second: uint8 (n, 8) and (m, 8).

    Returns:
        sorted list of (i, j)
    """
    found: set[tuple[int, int]] = set()
    for byte in range(first.shape[1] if len(first) and len(second) else 0):
        left, right = _by_value(first[:, byte]), _by_value(second[:, byte])
        for value in left.keys() & right.keys():
            step = max(AT_ONCE // len(right[value]), 1)
            for start in range(0, len(left[value]), step):
                found |= _closest(first, second, left[value][start : start + step], right[value])
    return sorted(found)


def _by_value(column: np.ndarray) -> dict[int, np.ndarray]:
    """{value: positions that hold it} of a uint8 array."""
    order = np.argsort(column, kind="stable")
    values, starts = np.unique(column[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))


def _closest(
    first: np.ndarray, second: np.ndarray, left: np.ndarray, right: np.ndarray
) -> set[tuple[int, int]]:
    """Set of (i, j) within MOST_BITS, i of the positions `left` and j of `right`, CLOSEST for each j."""
    bits = np.bitwise_count(_as_number(first[left])[:, None] ^ _as_number(second[right])[None])
    # One number for distance and place: of equally close ones the first.
    keys = bits.astype(np.int32) * len(left) + np.arange(len(left), dtype=np.int32)[:, None]
    if len(left) > CLOSEST:
        keys = np.partition(keys, CLOSEST - 1, axis=0)[:CLOSEST]
    distances, places = np.divmod(keys, len(left))
    ranks, columns = np.nonzero(distances <= MOST_BITS)
    return set(zip(left[places[ranks, columns]].tolist(), right[columns].tolist(), strict=True))


def _as_number(hashes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(hashes).view(np.uint64)[:, 0]


def thumbnail_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the grey levels of two uint8 thumbnails of one shape, in [-1, 1]; 0 for a blank one."""
    one, other = (np.float64(thumbnail).ravel() - thumbnail.mean() for thumbnail in (one, other))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale else 0.0
