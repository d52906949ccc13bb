"""Pictures larger than the model's input: predicted in overlapping tiles, blended without seams."""

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from segbalance.dataloader.working_size import Size
from segbalance.prediction.photo_rows import ReadRows

MARGIN = 0.25  # of an overlap: what a tile sees least of is left to its neighbour


def tile_starts(length: int, tile: int, overlap: int) -> np.ndarray:
    """Where tiles begin: evenly spread, the last one ends with the picture.

    Args:
        length: pixels of the picture.
        tile: pixels of a tile.
        overlap: pixels that neighbours share at least, fewer than `tile`.

    Returns:
        int64 (tiles,)
    """
    if length <= tile:
        return np.zeros(1, np.int64)
    count = 1 + math.ceil((length - tile) / (tile - overlap))
    return np.linspace(0, length - tile, count).round().astype(np.int64)


def tile_weights(starts: np.ndarray, tile: int) -> np.ndarray:
    """How much each tile counts at each of its pixels; over all tiles this adds up to 1.

    Where two tiles overlap, one fades into the other along a Hann window (Pielawski and Wählby 2020,
    Introducing Hann windows for reducing edge-effects in patch-based image segmentation, PLoS ONE 15(3)).
    A quarter of the overlap at either end is left to the other tile altogether: there a network sees
    padding in place of the picture. At the edge of the picture nothing fades.

    Args:
        starts: int64 (tiles,) from `tile_starts`.

    Returns:
        float32 (tiles, tile)
    """
    weights = np.ones((len(starts), tile))
    for left, right in zip(range(len(starts) - 1), range(1, len(starts)), strict=True):
        shared = tile - int(starts[right] - starts[left])
        if shared:
            rise = _rise(shared)
            weights[right, :shared] *= rise
            weights[left, tile - shared :] *= rise[::-1]
    total = np.zeros(starts[-1] + tile)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    return np.stack([w / total[s : s + tile] for s, w in zip(starts, weights, strict=True)]).astype(
        np.float32
    )


def _rise(length: int) -> np.ndarray:
    """float64 (length,) from 0 to 1: half a Hann window between two margins."""
    margin = int(MARGIN * length)
    ramp = length - 2 * margin
    half = np.sin(np.pi / 2 * (np.arange(ramp) + 0.5) / ramp) ** 2
    return np.concatenate([np.zeros(margin), half, np.ones(margin)])


def stitched_bands(
    read: ReadRows,
    size: Size,
    tile: int,
    overlap: int,
    predict: Callable[[np.ndarray], np.ndarray],
    batch_size: int,
) -> Iterator[np.ndarray]:
    """Probabilities of a whole picture, a band of rows after the other.

    In memory are one row of tiles and the rows that the next one still adds to.

    Args:
        read: as `open_rows` gives it.
        size: (W, H).
        tile: side of the model's input.
        overlap: pixels that neighbouring tiles share at least.
        predict: Predictor.
        batch_size: tiles that the model gets at once.

    Yields:
        float32 (R, W) in [0, 1], or (R, W, C) of C > 1 classes, H rows in all.
    """
    width, height = size
    columns, rows = (tile_starts(length, tile, overlap) for length in size)
    across, down = tile_weights(columns, tile), tile_weights(rows, tile)
    pending, top = np.empty(0, np.float32), 0
    for start, weights in zip(rows.tolist(), down, strict=True):
        if start > top:
            yield np.minimum(pending[: start - top, :width], 1)  # their weights add up to 1 but for rounding
            pending[: top + tile - start] = pending[start - top :].copy()
            pending[top + tile - start :] = 0
            top = start
        photo = padded(read(start, min(start + tile, height)), tile)
        for first in range(0, len(columns), batch_size):
            places = columns[first : first + batch_size].tolist()
            found = without_single_class(predict(np.stack([photo[:, x : x + tile] for x in places])))
            if not pending.size:
                pending = np.zeros((tile, max(width, tile), *found.shape[3:]), np.float32)
            for x, probability, weight in zip(places, found, across[first : first + batch_size], strict=True):
                share = (weights[:, None] * weight).reshape(tile, tile, *[1] * (probability.ndim - 2))
                pending[:, x : x + tile] += probability * share
    yield np.minimum(pending[: height - top, :width], 1)


def without_single_class(probabilities: np.ndarray) -> np.ndarray:
    """(..., 1) -> (...), the probability of the foreground; those of several classes stay as they are."""
    return probabilities[..., 0] if probabilities.shape[-1] == 1 else probabilities


def padded(photo: np.ndarray, tile: int) -> np.ndarray:
    """uint8 (H, W, 3) mirrored at its right and lower edge up to at least `tile` pixels."""
    missing = [max(0, tile - side) for side in photo.shape[:2]]
    if not any(missing):
        return photo
    return cv2.copyMakeBorder(photo, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)


def shrunk_rows(read: ReadRows, size: Size, times: int) -> tuple[ReadRows, Size]:
    """`read` and `size` of a picture that is `times` smaller, each pixel the mean of a square.

    Where the sides are no multiple of `times`, the last row and column are repeated.

    Args:
        read: as `open_rows` gives it.
        size: (W, H).
        times: 1 or more.
    """
    if times == 1:
        return read, size
    width, height = (math.ceil(side / times) for side in size)

    def read_shrunk(top: int, bottom: int) -> np.ndarray:
        photo = read(top * times, min(bottom * times, size[1]))
        below, right = (bottom - top) * times - len(photo), width * times - size[0]
        photo = cv2.copyMakeBorder(photo, 0, below, 0, right, cv2.BORDER_REPLICATE)
        return cv2.resize(photo, (width, bottom - top), interpolation=cv2.INTER_AREA)

    return read_shrunk, (width, height)
