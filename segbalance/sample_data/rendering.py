"""The sample data set: rendered photos of hands and their masks, five subsets with five looks.

The masks show the nails, or six classes of which some are rare: in pixels, in images, or in both.
"""

import contextlib
import functools
import io
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image

from segbalance.errors import InputError
from segbalance.runtime.memory import keep_freed_memory
from segbalance.runtime.progress import progress_of
from segbalance.runtime.workers import worker_pool
from segbalance.sample_data.backdrops import BACKDROPS
from segbalance.sample_data.canvas import FRAME, NAIL, POLISH, Canvas, Point
from segbalance.sample_data.hand_drawing import LAMP, draw_hand, draw_trinket
from segbalance.sample_data.looks import LOOKS, Look

SUBSET_SIZES = {"0": 749, "1": 144, "2": 126, "3": 52, "4": 34}
VALIDATION_SIZE = 40
FEWEST = {"train": 2, "valid": 4}
SPLITS = tuple(FEWEST)
CLASSES = {  # {name: colour} in the order of the class ids
    "background": "#000000", "skin": "#f0b088", "nail": "#ff4fd0", "polish": "#d01c3a", "ring": "#ffd21f",
    "coin": "#2f9e44",
}  # fmt: skip
CLASS_TABLE = "classes.csv"
MASK_FORMATS = ("ids", "colours", "palette")
Item = TypeVar("Item")
Written = TypeVar("Written")


def expose(canvas: Canvas, look: Look, light: Point, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off to one side, its colour, and darker corners: uint8 (H, W, 3)."""
    x, y = canvas.x / FRAME - 0.5, canvas.y / FRAME - 0.5
    falloff = 1 + 0.25 * (x * light[0] + y * light[1]) - 0.3 * (x * x + y * y)
    gains = rng.uniform(*look.brightness) * (1 + rng.uniform(*look.warmth) * LAMP)
    pixels = np.clip(255 * canvas.image * falloff * gains, 0, 255)
    return cv2.merge([channel.astype(np.uint8) for channel in pixels])


def photograph(pixels: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    """The uint8 (H, W, 3) scene as a camera stores it: shaken at times, out of focus, compressed, noisy."""
    if rng.random() < 0.25:
        shake = cv2.getRotationMatrix2D((2, 2), rng.uniform(0, 180), 1)
        still = np.outer([0, 0, 1, 0, 0], [0, 1, 1, 1, 0]).astype(np.float32)
        line = cv2.warpAffine(still, shake, (5, 5))
        pixels = cv2.filter2D(pixels, -1, line / line.sum())
    pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(*look.blur) * len(pixels) / FRAME)
    quality = int(rng.integers(*look.jpeg_quality, endpoint=True))
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    grain = rng.standard_normal(pixels.shape, np.float32) * rng.uniform(*look.noise)
    stored = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert stored is not None, "it was just encoded"
    return np.clip(stored + grain + 0.5, 0, 255).astype(np.uint8)


def render_classes(
    seed: int, split: str, subset: str, index: int, image_size: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    """One photo and what it shows: uint8 (H, W, 3) RGB and uint8 (H, W) of class ids, those of CLASSES.

    A pure function of its arguments. Another `image_size` shows the same scene.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), int(subset), index])
    look, canvas = LOOKS[subset], Canvas(image_size)
    azimuth = rng.uniform(0, 2 * math.pi)
    light = (math.cos(azimuth), math.sin(azimuth))
    canvas.image[:] = BACKDROPS[look.backdrop](canvas, rng)
    for _ in range(rng.integers(*look.trinkets, endpoint=True)):
        draw_trinket(canvas, rng.uniform(*look.finger_radius) * rng.uniform(0.5, 0.9), light, rng)
    draw_hand(canvas, look, light, rng)
    return photograph(expose(canvas, look, light, rng), look, rng), canvas.ids


def render_pair(
    seed: int, split: str, subset: str, index: int, image_size: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    """The same photo and its nail mask, uint8 (H, W) of 0 and 255."""
    image, ids = render_classes(seed, split, subset, index, image_size)
    return image, np.uint8(255) * ((ids == NAIL) | (ids == POLISH))


class SubsetSummary(NamedTuple):
    """What was written of one subset: pairs of each part, and the mean coverage of their masks."""

    train: int
    valid: int
    coverage: float


def pairs_to_render(scale: float) -> list[tuple[str, str, int]]:
    """Every (split, subset, index) of the set: the full sizes times `scale`, rounded, and a few at least."""
    return [
        (split, subset, index)
        for split in SPLITS
        for subset, size in SUBSET_SIZES.items()
        for index in range(max(FEWEST[split], round(scale * (size if split == "train" else VALIDATION_SIZE))))
    ]


def encoded_mask(ids: np.ndarray, mask_format: str) -> bytes:
    """Class ids uint8 (H, W) as the bytes of a PNG: the ids themselves, colours, or a palette of these."""
    colours = np.array([tuple(bytes.fromhex(colour[1:])) for colour in CLASSES.values()], np.uint8)
    if mask_format == "palette":
        picture, file = Image.fromarray(ids, "P"), io.BytesIO()
        picture.putpalette(colours.tobytes())
        picture.save(file, "PNG")
        return file.getvalue()
    return cv2.imencode(".png", ids if mask_format == "ids" else colours[ids][..., ::-1])[1].tobytes()


def write_pair(
    folder: Path, pair: tuple[str, str, int], seed: int, image_size: int, mask_format: str | None
) -> float:
    """Renders one pair into its two PNG files below `folder`; returns the mask's coverage in [0, 1].

    Args:
        pair: (split, subset, index).
        mask_format: one of MASK_FORMATS for all classes; None for nails in white.
    """
    split, subset, index = pair
    render = render_classes if mask_format else render_pair
    image, mask = render(seed, split, subset, index, image_size)
    photo = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    masks = encoded_mask(mask, mask_format) if mask_format else cv2.imencode(".png", mask)[1].tobytes()
    for kind, content in (("images", photo), ("masks", masks)):
        path = folder / split / kind / subset / f"hand_{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return np.count_nonzero(mask) / mask.size


def class_table() -> str:
    """The text of classes.csv."""
    rows = [f"{number},{name},{colour}" for number, (name, colour) in enumerate(CLASSES.items())]
    return "\n".join(["id,name,colour", *rows]) + "\n"


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 (H, W) grey or (H, W, 3) BGR; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".png", pixels)
    path.write_bytes(data.tobytes())


@contextlib.contextmanager
def parallel_map(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` that keeps the order, over so many processes; an error in the block stops them early."""
    if workers == 1:
        keep_freed_memory()
        yield map
        return
    with worker_pool(workers) as pool:
        yield functools.partial(pool.map, chunksize=8)


def refuse_filled(output: Path) -> None:
    """Raises InputError unless `output` is missing or an empty folder."""
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output} is not empty; choose another folder, or delete it first")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file, expected a folder; choose another name")


def make_sample_data(
    output: str | Path,
    seed: int = 0,
    scale: float = 1.0,
    image_size: int = 300,
    progress: bool = True,
    workers: int | None = None,
    mask_format: str | None = None,
) -> dict[str, SubsetSummary]:
    """Writes the whole set below the folder `output`, or nothing.

    The photos depend on `seed` and `image_size` only; `scale` says how many there are, `workers` how many
    processes render them (by default as many as the cores and the job warrant). The masks show the nails;
    with a `mask_format`, one of MASK_FORMATS, all CLASSES, and classes.csv names them.

    Returns:
        {subset: SubsetSummary}.

    Raises:
        InputError: `output` is not empty, is a file, or cannot be made.
    """
    pairs = pairs_to_render(scale)
    write = functools.partial(write_pair, seed=seed, image_size=image_size, mask_format=mask_format)
    texts = {CLASS_TABLE: class_table()} if mask_format else {}
    return summaries(pairs, write_whole_set(output, write, pairs, "pairs", progress, workers, texts))


def write_whole_set(
    output: str | Path,
    write: Callable[[Path, Item], Written],
    items: Sequence[Item],
    unit: str,
    progress: bool = True,
    workers: int | None = None,
    texts: Mapping[str, str] | None = None,
) -> list[Written]:
    """Writes a set below the folder `output`, or nothing.

    Args:
        write: importable function of the folder and one of the list `items`.
        unit: what the progress counts.
        workers: number of processes; by default as many as the cores and the job warrant.
        texts: {name of a file in the folder: its text}.

    Returns:
        list of what `write` returned.

    Raises:
        InputError: as `make_sample_data` does.
    """
    output = Path(output).resolve()
    refuse_filled(output)
    workers = workers or min(os.cpu_count() or 1, 1 + len(items) // 60)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent)
    except OSError as error:
        raise InputError(
            f"cannot write to {output.parent}: {error.strerror}; choose another folder"
        ) from error
    with unfinished, parallel_map(workers) as ordered_map:
        folder = Path(unfinished.name, output.name)
        written = ordered_map(functools.partial(write, folder), items)
        results = list(progress_of(written, f"rendering {unit}", len(items), unit, shown=progress))
        for name, text in (texts or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        # Windows does not rename onto a folder, not even an empty one.
        if output.exists():
            output.rmdir()
        folder.rename(output)
    return results


def summaries(pairs: Sequence[tuple[str, str, int]], coverages: Sequence[float]) -> dict[str, SubsetSummary]:
    """{subset: SubsetSummary} from the parallel lists of pairs and of their coverage."""
    found: dict[str, dict[str, list[float]]] = {subset: {"train": [], "valid": []} for subset in SUBSET_SIZES}
    for (split, subset, _), coverage in zip(pairs, coverages, strict=True):
        found[subset][split].append(coverage)
    return {
        subset: SubsetSummary(len(of["train"]), len(of["valid"]), float(np.mean(of["train"] + of["valid"])))
        for subset, of in found.items()
    }
