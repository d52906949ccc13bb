"""Pairs and images inspected: every file read once, on all cores, and checked."""

import contextlib
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image

from segbalance.data_processing.mask_encoding import (
    MOST_VALUES,
    MaskSummary,
    is_grey,
    summarise_colours,
    summarise_grey,
)
from segbalance.data_processing.pairs import Pair
from segbalance.errors import Findings
from segbalance.files import images as image_files
from segbalance.files.pixel_limit import MAX_PIXELS, TooManyPixels, claimed_size, pixel_advice
from segbalance.runtime.progress import progress_of
from segbalance.runtime.workers import worker_pool

AT_ONCE = 4096  # pairs handed to the pool at once, so that memory stays bounded
FEWEST_FOR_WORKERS = 2000  # pairs; of fewer, starting the workers takes longer than they save
CHUNK = 64  # pairs handed to a worker process together
COPY_DIFFERENCE = 3.0  # mean difference in grey levels up to which a mask is a copy of its image
EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
OTHER_MODES = {"I;16": "16-bit grey", "I;16B": "16-bit grey", "I": "32-bit grey", "F": "floating point"}
Problem = tuple[str, str, str]  # headline, place, advice: of errors.Findings
Item = TypeVar("Item")
Facts = TypeVar("Facts")


class ImageFacts(NamedTuple):
    """What one reading of an image's file tells; size in pixels, as displayed, hash of the file's bytes."""

    width: int
    height: int
    image_hash: str


class PairFacts(NamedTuple):
    """What one reading of a pair's files tells; sizes in pixels, hashes of the files' bytes."""

    width: int
    height: int
    image_hash: str
    mask_hash: str
    mask: MaskSummary


def inspect_pairs(
    data_root: str | Path,
    pairs: Sequence[Pair],
    findings: Findings,
    workers: int | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    most_values: int = MOST_VALUES,
) -> dict[Pair, PairFacts]:
    """Reads every file of `pairs` once, in parallel, and collects what is wrong in `findings`.

    Args:
        workers: number of processes, 0 for threads in this one; by default what is faster.
        max_pixels: of a file, by its header; one with more is a finding and not decoded.
        most_values: of a mask, up to which they are counted.

    Returns:
        {Pair: PairFacts} of the pairs without a finding, in the order of `pairs`.
    """
    inspect = functools.partial(_inspect, os.fspath(data_root), max_pixels, most_values)
    return _inspect_all(inspect, pairs, findings, workers, "pair")


def inspect_images(
    data_root: str | Path,
    images: Sequence[str],
    findings: Findings,
    workers: int | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, ImageFacts]:
    """As `inspect_pairs`, for images without masks: {path: ImageFacts}."""
    inspect = functools.partial(_inspect_image, os.fspath(data_root), max_pixels)
    return _inspect_all(inspect, images, findings, workers, "image")


def _inspect_all(
    inspect: Callable[[Item], tuple[Facts | None, list[Problem]]],
    items: Sequence[Item],
    findings: Findings,
    workers: int | None,
    unit: str,
) -> dict[Item, Facts]:
    """{item: facts} of the items in which `inspect`, which returns (facts, problems), finds no problem."""
    facts: dict[Item, Facts] = {}
    with (
        progress_of(None, "reading", len(items), unit) as shown,
        _pool(usual_workers(len(items)) if workers is None else workers) as pool,
    ):
        blocks = (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))
        begun = ((block, pool.map(inspect, block, chunksize=CHUNK)) for block in blocks)
        # Each block is handed over before the results of the one before are taken: no worker waits.
        for (block, results), _ in itertools.pairwise(itertools.chain(begun, [None])):  # type: ignore[misc]  # None is the last
            for item, (fact, problems) in zip(block, results, strict=True):
                shown.update()
                for problem in problems:
                    findings.add(*problem)
                if fact is not None:
                    facts[item] = fact
    return facts


def usual_workers(pairs: int) -> int:
    """Number of processes for so many pairs: 0 where they would take longer to start than they save."""
    cores = os.cpu_count() or 1
    return cores if cores > 1 and pairs >= FEWEST_FOR_WORKERS else 0


def _pool(workers: int) -> contextlib.AbstractContextManager[Executor]:
    return worker_pool(workers) if workers else ThreadPoolExecutor(os.cpu_count())


def _inspect(
    data_root: str, max_pixels: int, most_values: int, pair: Pair
) -> tuple[PairFacts | None, list[Problem]]:
    """(PairFacts, problems) of one pair; a problem is (headline, place, advice)."""
    advice = "Replace the damaged files, or move image and mask away."
    contents, pictures, pixels, problems = _open_files(data_root, (pair.image, pair.mask), max_pixels, advice)
    if problems:
        return None, problems
    image, mask = pictures
    problems = _mismatch(pair, image, mask) or _unusable_mask(pair, mask)
    if problems:
        return None, problems
    lossy = image_files.is_lossy(contents[1], mask)
    pixels = decoded_mask(contents[1], mask, pixels, lossy, max_pixels=max_pixels)
    if pixels.ndim == 2:
        summary = summarise_grey(pixels, lossy, most_values)
    else:
        summary = summarise_colours(pixels, most_values)
    if mask.mode == "P":
        summary = summary._replace(indices=_filled_places(mask.histogram()))
    # Few greys, like a mask's; comparing every clean mask would cost its decoding again.
    clean = pixels.ndim == 2 and summary.values is not None
    if contents[0] == contents[1] or not clean and _is_copy(contents[0], pixels, max_pixels):
        advice = "Expected a mask of the image; put the right file there."
        return None, [("masks that are a copy of their image", f"{pair.mask} = {pair.image}", advice)]
    image_hash, mask_hash = (hashlib.sha256(content).hexdigest() for content in contents)
    return PairFacts(*image_files.upright_size(image), image_hash, mask_hash, summary), []


def _filled_places(histogram: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((place, count) for place, count in enumerate(histogram) if count)


def _inspect_image(data_root: str, max_pixels: int, path: str) -> tuple[ImageFacts | None, list[Problem]]:
    """(ImageFacts, problems) of one image without mask."""
    advice = "Replace the damaged files, or move them away."
    contents, pictures, _, problems = _open_files(data_root, (path,), max_pixels, advice)
    if problems:
        return None, problems
    size = image_files.upright_size(pictures[0])
    return ImageFacts(*size, hashlib.sha256(contents[0]).hexdigest()), []


def _open_files(
    data_root: str, paths: Sequence[str], max_pixels: int, advice: str
) -> tuple[list[bytes], list[Image.Image], np.ndarray | None, list[Problem]]:
    """(bytes, PIL images, pixels of the last as `open_strictly` gives them, problems) of some files."""
    problems: list[Problem] = []
    contents: list[bytes] = []
    pictures: list[Image.Image] = []
    pixels = None
    for path in paths:
        content = None
        try:
            content = image_files.read_bytes(os.path.join(data_root, path))
            contents.append(content)
            picture, pixels = image_files.open_strictly(content, path, max_pixels=max_pixels)
            pictures.append(picture)
        except TooManyPixels:
            place = f"{path}  {_size(claimed_size(contents[-1]))}"
            problems.append(("images with too many pixels", place, pixel_advice(max_pixels)))
        except OSError as error:
            reason = "the file is empty" if content == b"" else _reason(error)
            problems.append(("files that cannot be decoded", f"{path}  {reason}", advice))
    return contents, pictures, pixels, problems


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)  # without the number and the path, which is shown anyway
    return "not an image" if text.startswith("cannot identify image file") else text


def _mismatch(pair: Pair, image: Image.Image, mask: Image.Image) -> list[Problem]:
    """Problems of size and orientation between image and mask, both PIL images."""
    image_size, mask_size = image_files.upright_size(image), image_files.upright_size(mask)
    turned = image_files.orientation(image)
    # A mask of the turned image's size was drawn on the image as displayed: nothing is wrong then.
    ambiguous = image_size != mask_size or image.size == image_size
    if turned != image_files.orientation(mask) and ambiguous:
        place = (
            f"{pair.image}  EXIF orientation {turned}, displayed {_size(image_size)}; "
            f"{pair.mask}  EXIF orientation {image_files.orientation(mask)}, {_size(mask_size)}"
        )
        advice = (
            "Save the images upright, without the EXIF tag; turn the masks too where they were drawn on the "
            "unturned image."
        )
        return [("pairs of which only one file has an EXIF rotation", place, advice)]
    if image_size != mask_size:
        place = f"{pair.image} {_size(image_size)}, {pair.mask} {_size(mask_size)}"
        return [
            ("pairs of different size", place, "Expected equal sizes; save the masks in their image's size.")
        ]
    return []


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _unusable_mask(pair: Pair, mask: Image.Image) -> list[Problem]:
    if mask.mode not in EIGHT_BIT_MODES:
        advice = "Expected 8-bit grey, palette or RGB; save the masks as 8-bit PNG."
        place = f"{pair.mask}  {OTHER_MODES.get(mask.mode, mask.mode)}"
        return [("masks of an unusable type", place, advice)]
    if mask.has_transparency_data and mask.convert("RGBA").getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]  # one channel
        advice = "Transparency has no meaning here; flatten the masks to grey or RGB."
        return [("masks with transparent pixels", pair.mask, advice)]
    return []


def decoded_mask(
    content: bytes, mask: Image.Image, pixels: np.ndarray | None, lossy: bool, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """uint8 (H, W) of a grey mask, (H, W, 3) RGB of another, as training will read them.

    `mask` and `pixels` are what `open_strictly` gave for its bytes.
    """
    if pixels is None:
        pixels = image_files.decode_picture(content, mask, max_pixels=max_pixels)
    if pixels.ndim == 2 or not is_grey(pixels, lossy):
        return pixels
    return image_files.decode_grey(content, max_pixels=max_pixels)


def _is_copy(image_content: bytes, mask_pixels: np.ndarray, max_pixels: int) -> bool:
    """True if uint8 mask pixels (H, W) or (H, W, 3) look like the image whose file's bytes are given."""
    if mask_pixels.ndim == 2 and len(np.unique(mask_pixels[::7, ::7])) < 16:
        return False  # few greys too, but for the fringes of JPEG
    image_grey = image_files.decode_grey(image_content, max_pixels=max_pixels)
    mask_grey = mask_pixels if mask_pixels.ndim == 2 else cv2.cvtColor(mask_pixels, cv2.COLOR_RGB2GRAY)
    if image_grey.shape != mask_grey.shape:
        return False
    return cv2.absdiff(image_grey, mask_grey).mean() < COPY_DIFFERENCE
