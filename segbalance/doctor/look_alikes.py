"""Pairs compared with what is usual and with one another: odd photos, odd masks, copies."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from segbalance.data_processing.duplicates import (
    LEAST_CORRELATION,
    groups,
    look_alikes,
    thumbnail_correlation,
)
from segbalance.doctor.appearance import Appearance
from segbalance.doctor.diagnosis import Diagnosis
from segbalance.doctor.examined import Examined
from segbalance.doctor.mask_outliers import far_coverage, inverted

LEAST_CONTRAST = 1.0  # standard deviation in grey levels: less than one step of 255 is no visible structure
LARGEST_ASPECT = 5  # length over width: in a square, a circle becomes an ellipse of that ratio
FEWEST_PIXELS = 16  # of foreground and of background; smaller shapes may be alike by chance
# Intersection over union from which two masks of one photo are the same: a disc of 80 pixels' diameter, drawn
# one pixel smaller, has (39/40)**2.
SAME_MASK = 0.95


class SizeLimits(Protocol):
    """Those of CheckupOptions that say which photos count as very small or very large."""

    @property
    def smallest(self) -> int: ...
    @property
    def largest(self) -> float: ...


def check_sizes(rows: pd.DataFrame, options: SizeLimits, diagnosis: Diagnosis) -> None:
    """Records very small, very large, very long and blank photos."""
    row: Any
    for row in rows.itertuples():
        shorter, longer = sorted((row.width, row.height))
        megapixels = row.width * row.height / 1e6
        if shorter < options.smallest:
            diagnosis.add("small_image", f"{row.images}  {row.width}x{row.height}", row.images)
        elif longer > LARGEST_ASPECT * shorter:
            diagnosis.add("extreme_aspect", f"{row.images}  {row.width}x{row.height}", row.images)
        if megapixels > options.largest:
            place = f"{row.images}  {row.width}x{row.height}, {megapixels:.1f} megapixels"
            diagnosis.add("huge_image", place, row.images)
        if row.contrast < LEAST_CONTRAST:
            place = f"{row.images}  standard deviation {row.contrast:.2f} of 255 grey levels"
            diagnosis.add("blank_image", place, row.images)


def check_masks(rows: pd.DataFrame, diagnosis: Diagnosis) -> None:
    """Records empty, full, fringed, inverted masks, and such as cover far more or less than is usual."""
    pixels = rows["width"] * rows["height"]
    upside_down = inverted(rows["coverage"], rows["border"], rows["type"])
    usual = rows["coverage"].where(~upside_down)
    far = far_coverage(usual, pixels, rows["type"])
    row: Any
    medians = usual.groupby(rows["type"]).transform("median")
    for row, odd, reach, median in zip(rows.itertuples(), upside_down, far, medians, strict=True):
        place = f"{row.masks}  {row.coverage:.2%} of the photo"
        if row.coverage == 0:
            diagnosis.add("empty_mask", row.masks, row.masks)
        if row.coverage == 1:
            diagnosis.add("full_mask", row.masks, row.masks)
        if row.kind == "fringed" and not np.isnan(row.coverage):
            diagnosis.add("grey_fringes", row.masks, row.masks)
        if odd:
            diagnosis.add("inverted_mask", f"{place}, {row.border:.0%} of its border", row.masks)
        if reach:
            usually = f"usual in subset {row.type}: {median:.2%}"
            diagnosis.add("coverage_outlier", f"{place}, {usually}", row.masks)


def check_copies(examined: Examined, seen: Sequence[Appearance], diagnosis: Diagnosis) -> None:
    """Records photos and masks that stand there more than once, or nearly.

    Args:
        seen: Appearance of each row of `examined`.
    """
    _check_same_photos(examined, seen, diagnosis)
    _check_same_masks(examined.rows, seen, diagnosis)
    _check_look_alikes(examined.rows, seen, diagnosis)


def _check_same_photos(examined: Examined, seen: Sequence[Appearance], diagnosis: Diagnosis) -> None:
    rows = examined.rows
    for found in groups([appearance.photo for appearance in seen]):
        same = rows.iloc[found]
        images = same["images"].tolist()
        if _sides(same) > 1:
            crossing = same.groupby("image_hash")["split"].transform(_number_of_sides) > 1
            of_bytes = same["images"][crossing].tolist()
            if of_bytes:
                diagnosis.add("duplicate_across_splits", " = ".join(of_bytes), *of_bytes)
            if len(of_bytes) < len(images):
                diagnosis.add("same_pixels_across_splits", " = ".join(images), *images)
        others = _with_other_masks(examined, same, [seen[position].mask for position in found])
        if others:
            diagnosis.add("duplicate_with_other_mask", " = ".join(others), *others)
        elif _sides(same) == 1 and len(images) > 1:
            diagnosis.add("duplicate_within_split", " = ".join(images), *images)


def _sides(rows: pd.DataFrame) -> int:
    return _number_of_sides(rows["split"])


def _number_of_sides(splits: pd.Series) -> int:
    return splits[splits != ""].nunique()


def _with_other_masks(examined: Examined, same: pd.DataFrame, hashes: Sequence[bytes | None]) -> list[str]:
    """The masks of one photo's copies where they differ, the first one foremost; else none."""
    masks = dict(zip(same["masks"], hashes, strict=True))
    known = {path: key for path, key in masks.items() if key is not None}
    if len(set(known.values())) < 2:
        return []
    assert examined.encoding is not None, "no mask has a hash without it"
    first, *rest = known
    read = {path: examined.encoding.read(examined.data_root / path) > 0 for path in known}
    different = [path for path in rest if _overlap(read[first], read[path]) < SAME_MASK]
    return [first, *different] if different else []


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two bool masks of one shape; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def _check_same_masks(rows: pd.DataFrame, seen: Sequence[Appearance], diagnosis: Diagnosis) -> None:
    """Records masks that serve several photos which do not look the same."""
    pixels = rows["width"] * rows["height"]
    smaller = np.minimum(rows["coverage"], 1 - rows["coverage"]) * pixels
    telling = (smaller >= FEWEST_PIXELS).tolist()
    keys = [appearance.mask if told else None for appearance, told in zip(seen, telling, strict=True)]
    for found in groups(keys):
        first = seen[found[0]].thumbnail
        likeness = [thumbnail_correlation(first, seen[position].thumbnail) for position in found[1:]]
        copies = {seen[position].photo for position in found}
        if len(copies) > 1 and min(likeness) < LEAST_CORRELATION:
            masks = rows["masks"].iloc[found].tolist()
            diagnosis.add("mask_reused", " = ".join(masks), *masks)


def _check_look_alikes(rows: pd.DataFrame, seen: Sequence[Appearance], diagnosis: Diagnosis) -> None:
    """Records photos held out that look like one to train on, those that are the same apart."""
    clear = np.flatnonzero(
        (rows["contrast"] >= LEAST_CONTRAST) & rows["split"].isin(["train", "valid", "test"])
    )
    if not len(clear):
        return
    held_out = (rows["split"].iloc[clear] != "train").to_numpy()
    trained_on = {seen[position].photo for position in clear[~held_out]}
    hashes = np.stack([seen[position].perceptual_hash for position in clear.tolist()])
    thumbnails = np.stack([seen[position].thumbnail for position in clear.tolist()])
    for other, (ours, correlation) in look_alikes(hashes, thumbnails, held_out).items():
        if seen[clear[other]].photo not in trained_on:
            one, two = rows["images"].iloc[clear[other]], rows["images"].iloc[clear[ours]]
            diagnosis.add("near_duplicate", f"{one} = {two}  correlation {correlation:.3f}", one, two)
