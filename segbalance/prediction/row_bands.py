"""Pictures as bands of rows from top to bottom: stretched, smoothed and counted without holding the whole.

Memory grows with a picture's width alone.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segbalance.dataloader.working_size import Size

BAND_PIXELS = 2**18  # of a stretched band: its passes stay in the processor's cache
NARROW = 4  # rows of a map of several classes that are widened at once, which takes memory for each class

Item = TypeVar("Item")


def stretched_bands(
    bands: Iterable[np.ndarray], size: Size, ratio: float, width: int
) -> Iterator[np.ndarray]:
    """Enlarges a map to the photo's size, bilinearly between pixel centres as cv2.resize does.

    Args:
        bands: float32 (R, w), or (R, w, C) with C > 1, a map of h rows from top to bottom.
        size: (W, H) of the result.
        ratio: rows of the map in one row of the result; h / H, or a little more where the map's last row
            reaches beyond the photo.
        width: that w columns become before they are cut to W; W, or a little more likewise.

    Yields:
        float32 (R, W) or (R, W, C)
    """
    columns, height = size
    middles = np.maximum((np.arange(height) + 0.5) * ratio - 0.5, 0)
    above = middles.astype(np.int64)
    below_weight = (middles - above).astype(np.float32)
    kept, first, done = None, 0, 0
    for band, is_last in with_last(bands):
        wide = cv2.resize(band, (width, len(band)), interpolation=cv2.INTER_LINEAR)[:, :columns]
        kept = wide if kept is None else np.concatenate([kept, wide])
        step = max(1, BAND_PIXELS // kept[0].size)
        end = first + len(kept) - 1
        ready = height if is_last else int(np.searchsorted(above, end))
        for start in range(done, ready, step):
            rows = slice(start, min(start + step, ready))
            upper = kept[np.minimum(above[rows], end) - first]
            lower = kept[np.minimum(above[rows] + 1, end) - first]
            lower -= upper
            lower *= below_weight[rows].reshape(-1, *[1] * (lower.ndim - 1))
            yield np.add(upper, lower, out=upper)
        done = ready
        if done < height:
            cut = min(int(above[done]), end + 1)  # of a smaller result, rows may be passed over
            kept, first = kept[cut - first :], cut


def narrow_bands(probability: np.ndarray) -> list[np.ndarray]:
    """The rows of a map: float32 (S, S) at once, those of (S, S, C) a few at a time."""
    rows = NARROW if probability.ndim == 3 else len(probability)
    return [probability[start : start + rows] for start in range(0, len(probability), rows)]


def most_probable(probability: np.ndarray, size: Size) -> np.ndarray:
    """Probabilities float32 (S, S, C) -> uint8 (H, W) class ids of a photo of `size` (W, H)."""
    bands = stretched_bands(narrow_bands(probability), size, len(probability) / size[1], size[0])
    return np.concatenate([band.argmax(axis=-1).astype(np.uint8) for band in bands])


def with_last(items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """Yields (item, True for the last one)."""
    before: list[Item] = []
    for item in items:
        if before:
            yield before.pop(), False
        before.append(item)
    for item in before:
        yield item, True


def disc(side: int) -> np.ndarray:
    """Kernel of morphology: uint8 (side, side), 1 inside of the circle; `side` is odd."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def smoothed_bands(bands: Iterable[np.ndarray], kernel: np.ndarray) -> Iterator[np.ndarray]:
    """Opens, then closes a mask: specks, thin spikes, then small holes and gaps go.

    Args:
        bands: uint8 (R, W) of 0 and 1.
        kernel: what `disc` gives.

    Yields:
        uint8 (R, W), the same pixels as from the whole mask at once.
    """
    reach = 4 * (len(kernel) // 2)  # rows that one row depends on: two operations of two steps each
    kept, first, done = None, 0, 0
    for band, is_last in with_last(bands):
        kept = band if kept is None else np.concatenate([kept, band])
        end = first + len(kept)
        ready = end if is_last else end - reach
        # Of shorter pieces, the rows around them would be the larger part.
        if is_last or ready - done >= 4 * reach:
            opened = cv2.morphologyEx(kept, cv2.MORPH_OPEN, kernel)
            smooth = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)
            yield smooth[done - first : ready - first]
            done = ready
            cut = max(first, done - reach)
            kept, first = kept[cut - first :], cut


class ObjectCounter:
    """Counts connected objects (diagonal neighbours touch) of a mask that comes in bands."""

    def __init__(self) -> None:
        self._areas: list[np.ndarray] = []
        self._found = 0
        self._touching: list[np.ndarray] = []
        self._bottom: np.ndarray | None = None

    def add(self, mask: np.ndarray) -> None:
        """The next uint8 (R, W) rows of 0 and 1."""
        ends = np.full((2, mask.shape[1]), -1)  # objects in the first and in the last row
        x, y, width, height = cv2.boundingRect(mask)
        if width:
            count, labels, statistics, _ = cv2.connectedComponentsWithStats(
                mask[y : y + height, x : x + width]
            )
            for end, row in enumerate((0, len(mask) - 1)):
                if y <= row < y + height:
                    label = labels[row - y]
                    ends[end, x : x + width] = np.where(label > 0, label - 1 + self._found, -1)
            self._areas.append(statistics[1:, cv2.CC_STAT_AREA])
            self._found += count - 1
        if self._bottom is not None:
            self._join(self._bottom, ends[0])
        self._bottom = ends[1]

    def _join(self, above: np.ndarray, below: np.ndarray) -> None:
        columns = len(above)
        for shift in (-1, 0, 1):
            upper = above[max(shift, 0) : columns + min(shift, 0)]
            lower = below[max(-shift, 0) : columns + min(-shift, 0)]
            both = (upper >= 0) & (lower >= 0)
            self._touching.append(np.unique(np.stack([upper[both], lower[both]]), axis=1))

    def areas(self) -> np.ndarray:
        """int64 (objects,) pixels of each object."""
        if not self._found:
            return np.empty(0, np.int64)
        areas = np.concatenate(self._areas)
        joined = np.concatenate([*self._touching, np.empty((2, 0), np.int64)], axis=1)
        graph = coo_array((np.ones(joined.shape[1]), tuple(joined)), shape=(self._found, self._found))
        objects, of = connected_components(graph, directed=False)
        return np.bincount(of, areas, objects).astype(np.int64)
