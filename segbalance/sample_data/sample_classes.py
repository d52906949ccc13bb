"""The sample data of a classification: rendered photos of one trinket each, four kinds, few of the last."""

import functools
import math
from pathlib import Path

import cv2
import numpy as np

from segbalance.sample_data.backdrops import BACKDROPS
from segbalance.sample_data.canvas import BLACK, FRAME, Canvas, Point, bump, choose
from segbalance.sample_data.hand_drawing import METALS, draw_trinket_at
from segbalance.sample_data.looks import LOOKS
from segbalance.sample_data.rendering import SPLITS, expose, photograph, write_png, write_whole_set

CLASS_SIZES = {"bead": 120, "button": 40, "coin": 12, "washer": 6}
VALIDATION_SIZE = 25
FEWEST = 2
RADIUS = (75, 125)


def draw_washer(
    canvas: Canvas, centre: np.ndarray, radius: float, light: Point, rng: np.random.Generator
) -> None:
    """A flat metal ring; the backdrop shows through its hole."""
    window = canvas.window([centre], 2 * radius)
    along, across = canvas.frame(centre, rng.uniform(0, math.pi), window)
    lit, _ = canvas.frame(centre, math.atan2(light[1], light[0]), window)
    from_centre = np.hypot(along, across * rng.uniform(1, 1.4))
    middle, half_width = 0.72 * radius, rng.uniform(0.2, 0.3) * radius
    distance = np.abs(from_centre - middle) - half_width
    canvas.paint(BLACK, 0.5 * np.clip(1 - np.maximum(distance, 0) / (0.3 * radius), 0, 1), window)
    coat = choose(rng, METALS) * (0.75 + 0.25 * lit / radius)
    canvas.paint(coat, canvas.cover(distance), window)
    canvas.paint(coat * 0.6, 0.5 * bump((distance + 0.1 * radius) / (0.08 * radius)), window)


def render_photo(seed: int, split: str, label: str, index: int, image_size: int = 300) -> np.ndarray:
    """One photo, uint8 (S, S, 3) RGB: a pure function of its arguments."""
    rng = np.random.default_rng([seed, SPLITS.index(split), list(CLASS_SIZES).index(label), index])
    look, canvas = LOOKS[choose(rng, sorted(LOOKS))], Canvas(image_size)
    azimuth = rng.uniform(0, 2 * math.pi)
    light = (math.cos(azimuth), math.sin(azimuth))
    canvas.image[:] = BACKDROPS[look.backdrop](canvas, rng)
    centre, radius = rng.uniform(0.37 * FRAME, 0.63 * FRAME, 2), rng.uniform(*RADIUS)
    if label == "washer":
        draw_washer(canvas, centre, radius, light, rng)
    else:
        draw_trinket_at(canvas, centre, label, radius, light, rng)
    return photograph(expose(canvas, look, light, rng), look, rng)


def photos_to_render(scale: float) -> list[tuple[str, str, int]]:
    """Every (split, class, index) of the set: the full sizes times `scale`, rounded, and two at least."""
    return [
        (split, label, index)
        for split in SPLITS
        for label, size in CLASS_SIZES.items()
        for index in range(max(FEWEST, round(scale * (size if split == "train" else VALIDATION_SIZE))))
    ]


def write_photo(folder: Path, photo: tuple[str, str, int], seed: int, image_size: int) -> None:
    """Renders one photo into its PNG file below `folder`."""
    split, label, index = photo
    pixels = render_photo(seed, split, label, index, image_size)
    write_png(folder / split / label / f"{label}_{index:04d}.png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def make_class_data(
    output: str | Path,
    seed: int = 0,
    scale: float = 1.0,
    image_size: int = 300,
    progress: bool = True,
    workers: int | None = None,
) -> dict[str, dict[str, int]]:
    """Writes the whole set below the folder `output`, or nothing; see rendering.make_sample_data.

    Returns:
        {class: {"train": images, "valid": images}}

    Raises:
        InputError: `output` is not empty, is a file, or cannot be made.
    """
    photos = photos_to_render(scale)
    write = functools.partial(write_photo, seed=seed, image_size=image_size)
    write_whole_set(output, write, photos, "photos", progress, workers)
    return {
        label: {split: sum(photo[:2] == (split, label) for photo in photos) for split in SPLITS}
        for label in CLASS_SIZES
    }
