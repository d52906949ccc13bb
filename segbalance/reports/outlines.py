"""Photos shrunk for looking at, with the outlines of their masks."""

from collections.abc import Iterable

import cv2
import numpy as np


def outlined_photo(
    photo: np.ndarray, masks: Iterable[tuple[np.ndarray, tuple[int, ...]]], longest: int
) -> np.ndarray:
    """The photo with its longer side at `longest` pixels, and outlines of one pixel: uint8 (h, w, 3).

    Args:
        photo: uint8 (H, W, 3) RGB.
        masks: (bool or 0/1 mask (H, W), colour as (red, green, blue)).
    """
    scale = longest / max(photo.shape[:2])
    size = (max(round(photo.shape[1] * scale), 1), max(round(photo.shape[0] * scale), 1))
    picture = np.ascontiguousarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA))
    for mask, colour in masks:
        small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour, 1)
    return picture
