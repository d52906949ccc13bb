"""What photos are drawn on, and the shapes and colours that all drawing is made of.

Lengths are in pixels of a 300 x 300 photo, whatever size is rendered. Colours are RGB in [0, 1]; while a
photo is drawn, its channels come first: (3, H, W), and a single colour is (3, 1, 1).
"""

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any, TypeVar

import cv2
import numpy as np

FRAME = 300
# Class ids, in the order of rendering.CLASSES.
BACKGROUND, SKIN, NAIL, POLISH, RING, COIN = range(6)
Point = tuple[float, float] | np.ndarray  # (x, y)
Window = tuple[slice, slice] | tuple[EllipsisType]  # of a photo
Option = TypeVar("Option")


def colour(*channels: float) -> np.ndarray:
    """A float32 (3, 1, 1) colour."""
    return np.array(channels, np.float32).reshape(3, 1, 1)


BLACK, WHITE = colour(0, 0, 0), colour(1, 1, 1)


class Canvas:
    """A float32 (3, size, size) image, its class ids uint8 (size, size), and its pixels' coordinates."""

    def __init__(self, size: int) -> None:
        self.size, self.pixel = size, FRAME / size
        centres = (np.arange(size, dtype=np.float32) + 0.5) * self.pixel
        self.x, self.y = np.meshgrid(centres, centres)
        self.image = np.zeros((3, size, size), np.float32)
        self.ids = np.full((size, size), BACKGROUND, np.uint8)

    def cover(self, distance: np.ndarray) -> np.ndarray:
        """Share of each pixel that lies inside a shape, from its signed distance (negative inside)."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def paint(self, coat: np.ndarray, alpha: np.ndarray, window: Window = (...,)) -> None:
        """Lays the colour or colours `coat` over the window, where `alpha` in [0, 1] says how much."""
        part = self.image[:, *window]
        part += alpha * (coat - part)

    def window(self, points: Sequence[np.ndarray], reach: float) -> tuple[slice, slice]:
        """The slices that hold all (x, y) of `points` and `reach` around; empty outside the photo."""
        low = np.maximum((np.min(points, 0) - reach) / self.pixel, 0).astype(int)
        high = np.maximum((np.max(points, 0) + reach) / self.pixel + 1, 0).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def frame(self, origin: Point, angle: float, window: Window = (...,)) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates along and across the direction `angle`, seen from `origin` (x, y)."""
        return turn((self.x[window] - float(origin[0]), self.y[window] - float(origin[1])), angle)


def turn(vector: Sequence[Any] | np.ndarray, angle: float) -> tuple[Any, Any]:
    """The vector (x, y) as seen from a frame that is turned by `angle`: (along, across)."""
    x, y = vector
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def bump(x: np.ndarray) -> np.ndarray:
    """A smooth hill of height 1 at 0 that ends at -1 and 1; much cheaper than a Gaussian."""
    return np.square(np.maximum(1 - x * x, 0))


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Rises smoothly from 0 at x = 0 to 1 at x = 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def noise(rng: np.random.Generator, size: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth float32 (size, size) noise around 0 with `cells` (rows, columns) of detail."""
    return cv2.resize(rng.standard_normal(cells, np.float32), (size, size), interpolation=cv2.INTER_CUBIC)


def choose(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]
