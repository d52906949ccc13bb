"""Pairs at working size: large photos are shrunk as they are decoded, and their masks with them.

A photo of 12 megapixels that ends at a few hundred pixels must not be augmented at 12 megapixels. Small
photos stay as they are.
"""

import math
from pathlib import Path

import cv2
import numpy as np

from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.files import images as image_files
from segbalance.files.pixel_limit import JPEG_START, MAX_PIXELS, check_pixels, open_lazily

# OpenCV's names for decoding at an eighth, a quarter and half of the size.
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
LARGEST_SHIFT = 0.25  # pixels at working size

Size = tuple[int, int]  # width, height


def working_shape(size: Size, working_size: int) -> Size:
    """(width, height) at working size: the long side is `working_size`, nothing grows; 0 changes nothing."""
    longest = max(size)
    if not working_size or longest <= working_size:
        return size[0], size[1]
    width, height = (max(1, round(side * working_size / longest)) for side in size)
    return width, height


def reduction(size: Size, working_size: int) -> int:
    """The largest of 8, 4, 2 and 1 by which a JPEG of this (width, height) may be decoded smaller.

    A decoder rounds the reduced size up, so its last row and column show what lies outside of the photo, and
    stretching the result would shift it against its mask; where that were to be seen, the answer is less.
    """
    target = working_shape(size, working_size)

    def shift(side: int, goal: int, factor: int) -> float:
        return (math.ceil(side / factor) * factor / side - 1) * goal

    for factor in REDUCED:
        shifts = [shift(side, goal, factor) for side, goal in zip(size, target, strict=True)]
        if min(side // factor - goal for side, goal in zip(size, target, strict=True)) >= 0:
            if max(shifts) <= LARGEST_SHIFT:
                return factor
    return 1


def decode_photo(
    content: bytes, path: str | Path, working_size: int = 0, *, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, Size]:
    """Decodes the bytes of a photo at working size; `path` is for the OSError.

    Args:
        max_pixels: of the file, whatever the working size.

    Returns:
        (uint8 (H, W, 3) RGB, its full (width, height)), turned upright by its EXIF tag.
    """
    size, factor = (0, 0), 1
    if working_size and content.startswith(JPEG_START):
        check_pixels(content, max_pixels, path)
        size = _jpeg_size(content, path)
        factor = reduction(size, working_size)
    if factor == 1:
        photo = image_files.decode_colour(content, path, max_pixels=max_pixels)
        size = photo.shape[1::-1]
    else:
        reduced = image_files.decode_unchecked(content, REDUCED[factor], path)
        photo = cv2.cvtColor(reduced, cv2.COLOR_BGR2RGB)
    return shrink_photo(photo, working_shape(size, working_size)), size


def _jpeg_size(content: bytes, path: str | Path) -> Size:
    try:
        return image_files.upright_size(open_lazily(content))
    except Exception as error:  # whatever Pillow raises on a damaged header
        raise OSError(f"{path} cannot be decoded") from error


def shrink_photo(photo: np.ndarray, size: Size) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 of this (width, height), which is not larger; averages over areas."""
    return photo if photo.shape[1::-1] == size else cv2.resize(photo, size, interpolation=cv2.INTER_AREA)


def shrink_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """uint8 (H, W) class ids -> the ids in the middle of each pixel of this (width, height)."""
    if mask.shape[::-1] == size:
        return mask
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)


def read_photo(
    image_path: str | Path,
    working_size: int = 0,
    *,
    max_pixels: int = MAX_PIXELS,
    expected_size: Size | None = None,
) -> tuple[np.ndarray, Size]:
    """Reads a photo at working size: (uint8 (H, W, 3) RGB, its full (width, height)).

    Args:
        expected_size: as in `read_pair`.

    Raises:
        OSError: as `read_pair` does.
    """
    photo, size = decode_photo(
        image_files.read_bytes(image_path), image_path, working_size, max_pixels=max_pixels
    )
    if expected_size and all(expected_size) and size != tuple(expected_size):
        raise OSError(
            f"{image_path} is {size[0]}x{size[1]}, but {expected_size[0]}x{expected_size[1]} in its row; "
            "it was replaced since the manifests were made, or the row is wrong"
        )
    return photo, size


def read_pair(
    image_path: str | Path,
    mask_path: str | Path,
    encoding: MaskEncoding,
    working_size: int = 0,
    *,
    max_pixels: int = MAX_PIXELS,
    expected_size: Size | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a photo and its mask at working size: uint8 (H, W, 3) RGB and uint8 (H, W) class ids.

    Args:
        expected_size: full (width, height) of the photo as displayed; None or (0, 0) where it may have any.

    Raises:
        OSError: a file is missing, cannot be decoded or does not fit the encoding, has more than
            `max_pixels`, or the sizes differ.
    """
    photo, size = read_photo(image_path, working_size, max_pixels=max_pixels, expected_size=expected_size)
    mask = encoding.read(mask_path, max_pixels=max_pixels)
    if mask.shape[::-1] != size:
        raise OSError(
            f"{image_path} is {size[0]}x{size[1]}, its mask {mask.shape[1]}x{mask.shape[0]}; "
            "make the manifests again"
        )
    return photo, shrink_mask(mask, photo.shape[1::-1])
