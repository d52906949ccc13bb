"""What photo and mask look like: a second reading, of what it takes to compare pairs with one another."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import imagehash
import numpy as np
from PIL import Image

from segbalance.data_processing.inspection import AT_ONCE, CHUNK, usual_workers
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.pairs import Pair
from segbalance.files import images as image_files
from segbalance.runtime.progress import progress_of
from segbalance.runtime.workers import worker_pool

THUMBNAIL = 32  # pixels; the side that the perceptual hash works on
Item = TypeVar("Item")
Result = TypeVar("Result")


class Appearance(NamedTuple):
    """What is compared between pairs.

    Args:
        photo: hash of the decoded photo, its shape included.
        perceptual_hash: uint8 (8,), of which photos that look alike share most bits.
        thumbnail: uint8 (32, 32), grey.
        contrast: standard deviation of the photo's grey levels.
        mask: hash of the class ids, their shape included; None if they are not known.
        foreground: share in [0, 1] of the mask's pixels that are not background.
        border: the same share of the outermost pixels alone.
    """

    photo: bytes
    perceptual_hash: np.ndarray
    thumbnail: np.ndarray
    contrast: float
    mask: bytes | None = None
    foreground: float = float("nan")
    border: float = float("nan")


def look_at_pairs(
    data_root: str | Path, encodings: Mapping[Pair, MaskEncoding | None]
) -> dict[Pair, Appearance | OSError]:
    """Reads every pair once more, in parallel.

    Args:
        encodings: {Pair: MaskEncoding of its mask, or None if that is not known}.

    Returns:
        {Pair: Appearance, or the OSError that kept its files from being decoded}
    """
    look = functools.partial(_look, os.fspath(data_root))
    seen = read_in_parallel(look, list(encodings.items()), "comparing")
    return dict(zip(encodings, seen, strict=True))


def read_in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[Result]:
    """Yields function(item) of each of the list `items`, in their order, computed on all cores."""
    workers = usual_workers(len(items))
    pool: contextlib.AbstractContextManager[Executor]
    pool = worker_pool(workers) if workers else ThreadPoolExecutor(os.cpu_count())
    with progress_of(None, description, len(items), "pair") as shown, pool as executor:
        for start in range(0, len(items), AT_ONCE):
            for result in executor.map(function, items[start : start + AT_ONCE], chunksize=CHUNK):
                shown.update()
                yield result


def _look(data_root: str, item: tuple[Pair, MaskEncoding | None]) -> Appearance | OSError:
    pair, encoding = item
    try:
        content = image_files.read_bytes(os.path.join(data_root, pair.image))
        photo = image_files.decode_colour(content, pair.image)
        ids = None if encoding is None else encoding.read(os.path.join(data_root, pair.mask))
    except OSError as error:
        return error
    appearance = look_at_photo(photo)
    if ids is None:
        return appearance
    foreground = ids > 0
    border = np.concatenate([foreground[0], foreground[-1], foreground[:, 0], foreground[:, -1]])
    return appearance._replace(
        mask=_pixel_hash(ids), foreground=float(foreground.mean()), border=float(border.mean())
    )


def look_at_photo(photo: np.ndarray) -> Appearance:
    """Appearance of a photo, uint8 (H, W, 3) RGB, without its mask.

    The perceptual hash is pHash: the signs of the 8x8 lowest frequencies of the cosine transform against
    their median (Zauner: Implementation and Benchmarking of Perceptual Image Hash Functions, 2010).
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    bits = imagehash.phash(Image.fromarray(thumbnail)).hash
    contrast = float(cv2.meanStdDev(grey)[1][0, 0])
    return Appearance(_pixel_hash(photo), np.packbits(bits), thumbnail, contrast)


def _pixel_hash(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
