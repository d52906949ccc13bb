"""Masks corrected: clean values, one encoding, upright. The data stays as it is; copies are made."""

import functools
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from segbalance.data_processing.inspection import EIGHT_BIT_MODES, PairFacts, decoded_mask
from segbalance.data_processing.mask_encoding import (
    SEVERAL,
    MaskEncoding,
    MaskSummary,
    mask_family,
    summarise_colours,
    summarise_grey,
)
from segbalance.data_processing.pairs import Pair
from segbalance.doctor.appearance import read_in_parallel
from segbalance.doctor.diagnosis import CHECKED, leading_path
from segbalance.errors import Findings
from segbalance.files import images as image_files

# The EXIF orientation that takes back what another does; the rest take themselves back.
INVERSE = {6: 8, 8: 6}
SAVED_AS: dict[str | None, dict[str, Any]] = {
    "JPEG": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "MPO": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "WEBP": {"format": "WEBP", "lossless": True},
}


class NotFixable(Exception):
    """Something is wrong with a pair that cannot be put right without a person; the message says what."""


class Fix(NamedTuple):
    """A pair put right.

    Args:
        rules: what was done, of `exif`, `threshold`, `values` and `palette`.
        before: the mask as it is read, uint8 (H, W) grey or (H, W, 3) RGB.
        after: the corrected mask, of the same kinds.
        changed: number of pixels that differ.
        photo: bytes of the photo upright and without its EXIF tag, None if it stays.
    """

    rules: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray
    changed: int
    photo: bytes | None = None


def fixed_pair(
    data_root: str | Path, pair: Pair, encoding: MaskEncoding, fringed: bool, drawn_on: str | None = None
) -> Fix | None:
    """What is to be changed about a pair, or None if nothing is.

    Args:
        encoding: MaskEncoding that the masks shall have.
        fringed: True if any mask of the data has grey fringes.
        drawn_on: where neither tags nor sizes tell it: whether the mask was drawn on the photo as `stored` or
            as `displayed`.

    Raises:
        NotFixable: it takes a person.
        OSError: a file cannot be decoded.
    """
    photo, _ = image_files.open_strictly(image_files.read_bytes(Path(data_root, pair.image)))
    content = image_files.read_bytes(Path(data_root, pair.mask))
    mask, pixels = image_files.open_strictly(content)
    if mask.mode not in EIGHT_BIT_MODES:
        raise NotFixable(f"a mask of an unusable type, {mask.mode}")
    lossy = image_files.is_lossy(content, mask)
    before = decoded_mask(content, mask, pixels, lossy)
    upright = _upright_mask(before, photo, mask, drawn_on)
    after, rule = _encoded(upright, lossy, encoding, fringed)
    tilted = not _agree(photo, mask)
    changed = int(changed_places(before, after).sum())
    if not tilted and not changed:
        return None
    rules = ("exif",) * tilted + ((rule,) if changed_places(upright, after).any() else ())
    return Fix(rules, before, after, changed, _upright_photo(photo) if _must_turn(photo) else None)


def suspects(
    pairs: Sequence[Pair], facts: Mapping[Pair, PairFacts], findings: Findings, encoding: MaskEncoding
) -> list[Pair]:
    """Those of `pairs` that a correction may help: masks not as `encode` writes them, EXIF on one side only.

    Args:
        facts, findings: what `inspect_pairs` returned and collected; other faults are not corrected here.
    """
    known = {pair.image: pair for pair in pairs}
    tilted = {
        known[path]
        for headline, places, _ in findings.kinds()
        if CHECKED.get(headline) == "exif_rotation"
        for place in places
        for path in leading_path(place, known.keys())
    }
    return [
        pair
        for pair in pairs
        if pair in tilted or (pair in facts and not is_clean(facts[pair].mask, encoding))
    ]


def is_clean(summary: MaskSummary, encoding: MaskEncoding) -> bool:
    """True if a mask holds nothing but the values that `encode` writes."""
    if encoding.kind == "threshold":
        values = {value for value, _ in summary.values or ((None, 0),)}
        return summary.kind != "colours" and values <= {0, 255}
    named = summary.named_values(encoding)
    return named is not None and named.keys() <= set(_written_values(encoding).values())


def _agree(photo: Image.Image, mask: Image.Image) -> bool:
    """True if photo and mask, PIL images, are displayed the same way up beyond doubt."""
    upright = image_files.upright_size(photo)
    return image_files.orientation(photo) == image_files.orientation(mask) or (
        upright == image_files.upright_size(mask) and photo.size != upright
    )


def _upright_mask(
    pixels: np.ndarray, photo: Image.Image, mask: Image.Image, drawn_on: str | None
) -> np.ndarray:
    """The mask as it lies on the displayed photo.

    Args:
        pixels: array (H, W, ...), the mask as its own EXIF tag turns it.
    """
    if _agree(photo, mask):
        ways = {"displayed": pixels}
    else:
        stored = turned(pixels, INVERSE.get(tag := image_files.orientation(mask), tag))
        ways = {"displayed": pixels, "stored": turned(stored, image_files.orientation(photo))}
    size = image_files.upright_size(photo)
    ways = {name: way for name, way in ways.items() if way.shape[1::-1] == size}
    if not ways:
        raise NotFixable(f"the mask's size is not the photo's, {size[0]}x{size[1]}")
    if len(ways) == 1:
        return next(iter(ways.values()))
    if drawn_on is None:
        raise NotFixable(
            "neither tags nor sizes tell whether the mask was drawn on the photo as stored or as displayed; "
            "look at it and pass --drawn_on"
        )
    return ways[drawn_on]


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An array (H, W, ...) as an EXIF orientation from 1 to 8 wants it displayed."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _must_turn(photo: Image.Image) -> bool:
    """True if beside a mask without EXIF tag nobody could tell which way up the photo is meant."""
    return image_files.orientation(photo) != 1 and image_files.upright_size(photo) == photo.size


def _upright_photo(photo: Image.Image) -> bytes:
    content, icc = io.BytesIO(), photo.info.get("icc_profile")
    way = SAVED_AS.get(photo.format, {"format": photo.format})
    ImageOps.exif_transpose(photo).save(content, icc_profile=icc, exif=b"", **way)
    return content.getvalue()


def _encoded(
    pixels: np.ndarray, lossy: bool, encoding: MaskEncoding, fringed: bool
) -> tuple[np.ndarray, str]:
    """(the mask's pixels under `encoding`, the rule that takes them there)."""
    grey = pixels.ndim == 2
    summary = summarise_grey(pixels, lossy) if grey else summarise_colours(pixels)
    family = mask_family(summary, fringed)
    if encoding.kind != "threshold" and summary.fits(encoding):
        as_named = np.dstack([pixels] * 3) if grey and encoding.kind == "colours" else pixels
        ids = encoding.decode(as_named)
    elif family == "0/255":
        ids = MaskEncoding().decode(pixels)
    elif family == SEVERAL:
        raise NotFixable("several grey values; a table of the --classes is needed")
    elif family == "colours":
        ids = _of_one_colour(pixels, summary)
    else:
        marked = pixels == int(family[2:]) if family else np.zeros(pixels.shape[:2], bool)
        ids = marked.astype(np.uint8)
    rule = "threshold" if family in ("", "0/255") and encoding.kind == "threshold" else "values"
    return encode(ids, encoding), rule if grey else "palette"


def _of_one_colour(pixels: np.ndarray, summary: MaskSummary) -> np.ndarray:
    colours = {value for value, _ in summary.values or ()}
    if len(colours) != 2 or 0 not in colours:
        raise NotFixable("several colours; a table of the --classes is needed")
    return np.asarray(pixels.any(axis=-1), np.uint8)


def encode(ids: np.ndarray, encoding: MaskEncoding) -> np.ndarray:
    """The inverse of `MaskEncoding.decode`: uint8 (H, W) of 0 and 1 -> grey (H, W) or RGB (H, W, 3)."""
    if encoding.kind == "threshold":
        return ids * np.uint8(255)
    first = _written_values(encoding)
    if encoding.kind == "values":
        return np.where(ids > 0, first[1], first[0]).astype(np.uint8)
    colours = [[int(str(first[number])[start : start + 2], 16) for start in (1, 3, 5)] for number in (0, 1)]
    return np.array(colours, np.uint8)[ids]


def _written_values(encoding: MaskEncoding) -> dict[int, int | str]:
    """{class id: the first of its values}"""
    return {class_id: value for value, class_id in reversed(encoding.ids)}


def changed_places(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """bool (H, W), where two masks differ, grey or RGB; everywhere if their sizes do."""
    if before.shape[:2] != after.shape[:2]:
        return np.ones(after.shape[:2], bool)
    before, after = (mask if mask.ndim == 3 else mask[..., None] for mask in (before, after))
    return (before != after).any(axis=-1)


def write_fixes(
    data_root: str | Path,
    pairs: Sequence[Pair],
    output: str | Path,
    encoding: MaskEncoding,
    fringed: bool,
    drawn_on: str | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Writes the corrected copies below the folder `output`, under their own paths (masks as .png).

    Returns:
        (list of dicts, one a file written: file, rule, pixels, changed, replaces;
        list of dicts of the masks that it takes a person to put right: file, reason)
    """
    fix = functools.partial(_write_fix, os.fspath(data_root), os.fspath(output), encoding, fringed, drawn_on)
    written, left = [], []
    for rows, reasons in read_in_parallel(fix, pairs, "correcting"):
        written += rows
        left += reasons
    return written, left


def _write_fix(
    data_root: str, output: str, encoding: MaskEncoding, fringed: bool, drawn_on: str | None, pair: Pair
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    try:
        fix = fixed_pair(data_root, pair, encoding, fringed, drawn_on)
    except (NotFixable, OSError) as error:
        return [], [{"file": pair.mask, "reason": str(error)}]
    if fix is None:
        return [], []
    path = Path(pair.mask).with_suffix(".png").as_posix()
    pixels = fix.after if fix.after.ndim == 2 else fix.after[..., ::-1]
    _write(Path(output, path), cv2.imencode(".png", pixels)[1].tobytes())
    size = fix.after.shape[0] * fix.after.shape[1]
    row = {"file": path, "rule": "+".join(fix.rules), "pixels": size, "changed": fix.changed}
    rows = [row | {"replaces": pair.mask}]
    if fix.photo is not None:
        _write(Path(output, pair.image), fix.photo)
        rows.append(
            {"file": pair.image, "rule": "exif", "pixels": size, "changed": size, "replaces": pair.image}
        )
    return rows, []


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
