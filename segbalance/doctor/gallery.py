"""The doctor's findings as one HTML page with pictures, which needs no network and runs no script."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from segbalance.data_processing.pairs import Pair
from segbalance.doctor.diagnosis import SEVERITIES, Diagnosis, Finding
from segbalance.doctor.examined import Examined
from segbalance.doctor.mask_fixes import NotFixable, changed_places, fixed_pair
from segbalance.files import images as image_files
from segbalance.reports.outlines import outlined_photo
from segbalance.reports.pages import picture_source, render

LONGEST = 240  # pixels of a picture's longer side
CROP = 48  # pixels of a mask that a close-up shows
OUTLINE = (60, 230, 60)  # RGB
PLACES_LISTED = 200  # of one kind; the rest is counted
FIXED_KINDS = ("grey_fringes", "mask_encoding_differs", "mask_with_colours", "exif_rotation")
PICTURES_OF_ONE = 4  # of a finding about several files


class Picture(NamedTuple):
    """A picture of the page: its data URI (None if there is none to show), and what it shows."""

    source: str | None
    caption: str
    description: str
    width: int = LONGEST
    height: int = LONGEST


def gallery_page(diagnosis: Diagnosis, examined: Examined | None, facts: Mapping[str, str], most: int) -> str:
    """The page as text.

    Args:
        diagnosis: Diagnosis.
        examined: checkup.Examined, or None if no data was looked at.
        facts: {fact of the environment: text}.
        most: findings of each kind that are shown as pictures.
    """
    sections = [
        {
            "name": name,
            "kind": kind,
            "findings": found,
            "figures": figures(name, found, examined, most) if examined else [],
            "listed": [finding.place for finding in found[:PLACES_LISTED]],
        }
        for name, (kind, found) in diagnosis.kinds().items()
    ]
    return render(
        "doctor.html",
        {},
        sections=sections,
        severities=SEVERITIES,
        counts={severity: diagnosis.count(severity) for severity in SEVERITIES},
        data_root=str(examined.data_root) if examined else None,
        pairs=len(examined.rows) if examined else 0,
        facts=facts,
        longest=LONGEST,
    )


def figures(
    name: str, found: Sequence[Finding], examined: Examined, most: int
) -> list[tuple[str, list[Picture]]]:
    """[(finding's place, list of Picture)] of the first `most` findings about files."""
    shown = [finding for finding in found if finding.paths][:most]
    return [(finding.place, _pictures(name, finding, examined)) for finding in shown]


def _pictures(name: str, finding: Finding, examined: Examined) -> list[Picture]:
    pictures: list[Picture] = []
    for path in finding.paths[:PICTURES_OF_ONE]:
        pair = examined.pairs.get(path)
        if pair and name in FIXED_KINDS and examined.encoding is not None:
            pictures += before_and_after(pair, examined)
        else:
            pictures.append(_photo_with_outline(path, pair, examined))
    return pictures


def _photo_with_outline(path: str, pair: Pair | None, examined: Examined) -> Picture:
    """The photo with the outline of its mask, as far as both can be read."""
    try:
        photo = image_files.read_image(examined.data_root / (pair.image if pair else path))
    except OSError:
        return Picture(None, path, f"{path} cannot be decoded")
    mask = _known_mask(pair, photo, examined)
    if mask is None:
        return _picture(outlined_photo(photo, [], LONGEST), path, f"{path}, without a mask")
    return _picture(
        outlined_photo(photo, [(mask, OUTLINE)], LONGEST), path, f"{path} with the outline of its mask"
    )


def _known_mask(pair: Pair | None, photo: np.ndarray, examined: Examined) -> np.ndarray | None:
    """bool (H, W) of the pair's mask, None where it cannot be read or does not lie on the photo."""
    if pair is None or examined.encoding is None or pair.mask in examined.strangers:
        return None
    try:
        mask = examined.encoding.read(examined.data_root / pair.mask) > 0
    except OSError:
        return None
    return mask if mask.shape == photo.shape[:2] else None


def before_and_after(pair: Pair, examined: Examined) -> list[Picture]:
    """Pictures of a pair as it is, and as scripts/fix_masks.py would make it (both ways if that is open)."""
    assert examined.encoding is not None, "there is nothing to correct them by"
    pictures: list[Picture] = []
    for drawn_on in (None, "stored", "displayed"):
        try:
            fix = fixed_pair(examined.data_root, pair, examined.encoding, examined.fringed, drawn_on=drawn_on)
        except (NotFixable, OSError) as error:
            reason = str(error)
            continue
        if fix is None:
            break
        name = "after" if drawn_on is None else f"after, --drawn_on {drawn_on}"
        if "exif" in fix.rules:
            shown = [
                _on_photo(pair, fix.before, "before", examined),
                _on_photo(pair, fix.after, name, examined),
            ]
        else:
            shown = close_ups(pair, fix.before, fix.after)
        pictures += shown[1:] if pictures else shown
        if drawn_on is None:
            break
    return pictures or [Picture(None, f"{pair.mask}: {reason}", f"{pair.mask} cannot be corrected: {reason}")]


def _on_photo(pair: Pair, mask: np.ndarray, name: str, examined: Examined) -> Picture:
    """The displayed photo with the mask's outline; the mask beside it, were it not of the photo's size."""
    photo = image_files.read_image(examined.data_root / pair.image)
    grey = mask if mask.ndim == 2 else mask.max(axis=-1)
    assert examined.encoding is not None, "there is nothing to correct them by"
    least = 128 if examined.encoding.kind == "threshold" else 1
    text = f"{pair.image} with the outline of its mask, {name}"
    if grey.shape != photo.shape[:2]:
        small = outlined_photo(np.dstack([grey] * 3), [], LONGEST)
        return _picture(small, f"{name}: {pair.mask}", f"{pair.mask}, {name}: not of the photo's size")
    return _picture(outlined_photo(photo, [(grey >= least, OUTLINE)], LONGEST), f"{name}: {pair.image}", text)


def close_ups(pair: Pair, before: np.ndarray, after: np.ndarray) -> list[Picture]:
    """The part of the mask where most pixels change, before and after, each pixel magnified."""
    changed = changed_places(before, after).astype(np.float32)
    near = cv2.boxFilter(changed, -1, (CROP, CROP), normalize=False, borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(near.argmax(), near.shape)
    top, left = max(int(row) - CROP // 2, 0), max(int(column) - CROP // 2, 0)
    count = int(changed.sum())
    pictures = []
    for name, mask in (("before", before), ("after", after)):
        part = mask[top : top + CROP, left : left + CROP]
        part = part if part.ndim == 3 else np.dstack([part] * 3)
        factor = max(LONGEST // max(part.shape[:2]), 1)
        large = np.repeat(np.repeat(part, factor, axis=0), factor, axis=1)
        text = f"{pair.mask}, magnified, {name}: {count} pixels change in all"
        pictures.append(_picture(large, f"{name}: {pair.mask}", text, exact=True))
    return pictures


def _picture(pixels: np.ndarray, caption: str, description: str, exact: bool = False) -> Picture:
    """Picture of uint8 (H, W, 3) RGB."""
    source = picture_source(pixels, exact)
    return Picture(source, caption, description, pixels.shape[1], pixels.shape[0])
