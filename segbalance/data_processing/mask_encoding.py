"""How mask files encode class ids: found out from all masks of a data set, then used to read them.

Plain encodings are found without help: 0/255, 0/1, {0, v}, grey-fringed (JPEG or anti-aliased; threshold
at half) and black with one colour. Anything else needs a table of the classes.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from segbalance.data_processing.classes import IGNORED
from segbalance.errors import InputError, listing
from segbalance.files.images import read_grey, read_image, read_indices
from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.runtime.verbs import named

HALF = 128
MOST_VALUES = 16  # distinct values up to which a mask may be a table of classes
LARGEST_EXACT_COUNT = 2**24  # of float32, in which OpenCV counts, three times as fast as NumPy
TOE_SHARE = 0.02  # share of faint pixels (below half) that the toe of a grey fringe may take
NEAR_WHITE = 224
UNNAMED = 254  # marks values that the encoding does not name
SEVERAL = "several grey values"
GREY_SPREAD = 32  # difference of the channels that JPEG's chroma may leave in a grey mask


@dataclass(frozen=True)
class MaskEncoding:
    """How to turn the pixels of a mask file into class ids.

    Args:
        kind: `threshold` (grey at or above 128 is class 1), `values` (grey value -> id), `indices` (place
            in the file's palette -> id) or `colours` ("#rrggbb" -> id).
        ids: the table of all kinds but the first; an id may be IGNORED.
    """

    kind: str = "threshold"
    ids: tuple = ()
    in_files: ClassVar[bool] = True

    def mask_size(self, image_size: int) -> int:
        """Side of the masks that belong to photos of this side, in pixels."""
        return image_size

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "MaskEncoding":
        """The inverse of `to_dict`; raises InputError where manifest.json was damaged."""
        try:
            kind, table = stored["kind"], stored.get("ids", {})
            if kind not in READERS:
                raise ValueError(kind)
            key = str if kind == "colours" else int
            ids = tuple((key(value), int(class_id)) for value, class_id in table.items())
            if kind != "threshold" and not (ids and all(_is_entry(*entry) for entry in ids)):
                raise ValueError(ids)
            return cls(kind, ids)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise InputError(
                f"manifest.json: mask_encoding {stored!r} is not understood; expected a kind of threshold, "
                f"values, indices or colours with its ids. Make the manifests again with {named('prepare')}."
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """For manifest.json."""
        return {"kind": self.kind} | ({"ids": dict(self.ids)} if self.ids else {})

    def check_ids(self, known: set[int]) -> None:
        """Raises InputError where an id is not among the known ones."""
        unknown = {class_id for _, class_id in self.ids} - known
        if unknown:
            raise InputError(
                f"manifest.json: mask_encoding has the ids {sorted(unknown)}, which are not classes. "
                f"Make the manifests again with {named('prepare')}."
            )

    def describe(self) -> str:
        """One line for people."""
        if self.kind == "threshold":
            return f"grey, class 1 at or above {HALF}"
        if len(self.ids) > MOST_VALUES:
            return f"{len(self.ids)} {self.kind} with an id each"
        return f"{self.kind} " + ", ".join(f"{value} -> {class_id}" for value, class_id in self.ids)

    def read(self, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Reads a mask file as uint8 (H, W) of class ids.

        Raises:
            OSError: the file cannot be read, has more than `max_pixels`, or holds a value that the encoding
                does not name.
        """
        pixels = READERS[self.kind](path, max_pixels=max_pixels)
        ids = self.decode(pixels)
        if self.kind != "threshold" and UNNAMED in ids:
            raise OSError(f"{path} holds values that are not among the classes ({self.describe()})")
        return ids

    def decode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (H, W) grey or (H, W, 3) RGB -> uint8 (H, W) of ids, UNNAMED where the table has no entry."""
        if self.kind == "threshold":
            return cv2.threshold(pixels, HALF - 1, 1, cv2.THRESH_BINARY)[1]
        if self.kind in ("values", "indices"):
            table = np.full(256, UNNAMED, np.uint8)
            for value, class_id in self.ids:
                table[int(value)] = class_id
            return cv2.LUT(pixels, table)
        packed, ids = pack_colours(pixels), np.full(pixels.shape[:2], UNNAMED, np.uint8)
        for colour, class_id in self.ids:
            ids[packed == int(str(colour)[1:], 16)] = class_id
        return ids


# What reads the files of each kind.
READERS: dict[str, Callable[..., np.ndarray]] = {
    "threshold": read_grey,
    "values": read_grey,
    "indices": read_indices,
    "colours": read_image,
}


def _is_entry(value: int | str, class_id: int) -> bool:
    """True if a value (int) or colour (str) can have this class id."""
    right = 0 <= value <= 255 if isinstance(value, int) else re.fullmatch("#[0-9a-f]{6}", value)
    return bool(right) and (0 <= class_id < UNNAMED or class_id == IGNORED)


def pack_colours(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) RGB -> int32 (H, W), 0xrrggbb."""
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


class MaskSummary(NamedTuple):
    """What one mask says about its encoding, small enough to keep for every file.

    Args:
        kind: blank, toe, binary, fringed, levels or colours.
        values: (value, pixels) of each distinct grey value or 0xrrggbb, None if there are too many.
        pixels: number of pixels.
        bright: number of pixels at or above half.
        indices: (place in the palette, pixels) of a file that has one, else None.
    """

    kind: str
    values: tuple[tuple[int, int], ...] | None
    pixels: int
    bright: int = 0
    indices: tuple[tuple[int, int], ...] | None = None

    def named_values(self, encoding: MaskEncoding) -> dict[int | str, int] | None:
        """{value as `encoding` names it: pixels}; None if there are too many values, or none of its kind."""
        if encoding.kind == "indices":
            return None if self.indices is None else dict(self.indices)
        if self.values is None:
            return None
        if encoding.kind == "values":
            return None if self.kind == "colours" else dict(self.values)
        as_colour = 1 if self.kind == "colours" else 0x010101  # grey v is #vvvvvv
        return {f"#{value * as_colour:06x}": count for value, count in self.values}

    def fits(self, encoding: MaskEncoding) -> bool:
        """True if `encoding` gives every pixel a class id."""
        if encoding.kind == "threshold":
            return self.kind != "colours"
        named = self.named_values(encoding)
        return named is not None and set(named) <= set(dict(encoding.ids))

    def coverage(self, encoding: MaskEncoding) -> float:
        """Fraction of pixels in [0, 1] that are not background under `encoding`, which must fit.

        Ignored pixels are left out; 0 where all are.
        """
        if encoding.kind == "threshold":
            return self.bright / self.pixels
        counts = self.class_pixels(encoding)
        counted = self.pixels - counts.pop(IGNORED, 0)
        return sum(count for class_id, count in counts.items() if class_id) / max(counted, 1)

    def class_pixels(self, encoding: MaskEncoding) -> dict[int, int]:
        """{class id: pixels} under an `encoding` with a table, which must fit."""
        ids = dict(encoding.ids)
        counts: defaultdict[int, int] = defaultdict(int)
        named = self.named_values(encoding)
        assert named is not None, "the encoding does not fit"
        for value, count in named.items():
            counts[ids[value]] += count
        return counts


def is_grey(pixels: np.ndarray, lossy: bool) -> bool:
    """True if uint8 (H, W, 3) holds a grey picture; `lossy` allows for what JPEG does to the chroma."""
    spread = pixels.max(axis=-1) - pixels.min(axis=-1)
    if not lossy:
        return not spread.any()
    visible = pixels.max(axis=-1) > GREY_SPREAD
    return (spread[visible] > GREY_SPREAD).mean() < 0.2 if visible.any() else True


def summarise_colours(pixels: np.ndarray, most_values: int = MOST_VALUES) -> MaskSummary:
    """Summary of a colour mask, uint8 (H, W, 3) RGB."""
    values, counts = np.unique(pack_colours(pixels), return_counts=True)
    few = len(values) <= most_values
    kept = tuple(zip(values.tolist(), counts.tolist(), strict=True)) if few else None
    return MaskSummary("colours", kept, pixels.shape[0] * pixels.shape[1])


def summarise_grey(pixels: np.ndarray, lossy: bool = False, most_values: int = MOST_VALUES) -> MaskSummary:
    """Summary of a grey mask, uint8 (H, W); a `lossy` (JPEG) file is never taken for 0/1 or {0, v}."""
    histogram = grey_histogram(pixels)
    values = np.flatnonzero(histogram).tolist()
    counts = histogram[values].tolist()
    kind = _grey_kind(pixels, histogram, values, lossy)
    kept = tuple(zip(values, counts, strict=True)) if len(values) <= most_values else None
    bright = sum(count for value, count in zip(values, counts, strict=True) if value >= HALF)
    return MaskSummary(kind, kept, pixels.size, bright)


def grey_histogram(pixels: np.ndarray) -> np.ndarray:
    """Pixels of each grey level, int64 (256,), of uint8 (H, W)."""
    if pixels.size > LARGEST_EXACT_COUNT:
        return np.bincount(pixels.ravel(), minlength=256)
    return cv2.calcHist([pixels], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def _grey_kind(pixels: np.ndarray, histogram: np.ndarray, values: list[int], lossy: bool) -> str:
    foreground = values[1:] if values[0] == 0 else values
    if not foreground:
        return "blank"
    if len(foreground) == 1 and (foreground[0] == 255 or not lossy):
        return "binary"
    if foreground[-1] < HALF:
        return "toe" if histogram[1:].sum() < TOE_SHARE * pixels.size else "levels"
    return "levels" if _has_plateau(pixels, histogram, lossy) else "fringed"


def _has_plateau(pixels: np.ndarray, histogram: np.ndarray, lossy: bool) -> bool:
    """True if a middle grey fills 3x3 pixels somewhere: a class of its own, not the fringe of an edge."""
    margin = 8 if lossy else 0
    middle = np.where((np.arange(256) >= 32) & (np.arange(256) < NEAR_WHITE), histogram, 0)
    for value in np.argsort(middle)[-4:]:
        if middle[value]:
            same = cv2.inRange(pixels, int(value) - margin, int(value) + margin)
            if cv2.erode(same, np.ones((3, 3), np.uint8), borderValue=0).any():
                return True
    return False


def decide_encoding(summaries: Mapping[str, MaskSummary]) -> tuple[MaskEncoding, str]:
    """The one encoding of all masks.

    Args:
        summaries: MaskSummary of each mask by its path.

    Returns:
        (MaskEncoding, description of what was found).

    Raises:
        InputError: the masks contradict each other, are not plain, or hold no foreground at all.
    """
    fringed = has_fringes(summaries)
    families, silent = mask_families(summaries)
    if not families:
        raise InputError(
            f"none of the {len(silent)} masks has any foreground, for example {silent[0]}; "
            "expected some pixels that are not background. Are these the right masks?"
        )
    if SEVERAL in families and not fringed and "colours" not in families:
        voters = [path for paths in families.values() for path in paths]
        raise InputError(_mapping_needed(SEVERAL, summaries, voters, families[SEVERAL]))
    if len(families) > 1:
        raise InputError(_contradiction(families))
    ((family, paths),) = families.items()
    return _plain_encoding(family, summaries, paths)


def usual_encoding(summaries: Mapping[str, MaskSummary]) -> tuple[MaskEncoding, dict[str, str]]:
    """The encoding that most masks share, where some contradict it.

    Args:
        summaries: MaskSummary of each mask by its path.

    Returns:
        (MaskEncoding, {path: family} of the masks that were left out of the decision).

    Raises:
        InputError: what `decide_encoding` says of the masks that are left.
    """
    usual = dict(summaries)
    strangers: dict[str, str] = {}
    # More than once: without the strangers, a faint toe may no longer pass as one.
    while len(families := mask_families(usual)[0]) > 1:
        most = max(families, key=lambda name: len(families[name]))
        for name in families:
            if name != most:
                strangers |= dict.fromkeys(families[name], name)
        usual = {path: summary for path, summary in usual.items() if path not in strangers}
    return decide_encoding(usual)[0], strangers


def has_fringes(summaries: Mapping[str, MaskSummary]) -> bool:
    """True if any of the masks has grey fringes, so that faint ones may be the toe of such a fringe."""
    return any(summary.kind == "fringed" for summary in summaries.values())


def mask_families(summaries: Mapping[str, MaskSummary]) -> tuple[dict[str, list[str]], list[str]]:
    """({family: paths that vote for it}, paths that fit every encoding)."""
    fringed = has_fringes(summaries)
    families: defaultdict[str, list[str]] = defaultdict(list)
    for path, summary in summaries.items():
        families[mask_family(summary, fringed)].append(path)
    silent = families.pop("", [])
    return families, silent


def mask_family(summary: MaskSummary, fringed: bool) -> str:
    """What a mask votes for, as in 0/255, 0/1, colours; empty where it fits every encoding.

    Args:
        fringed: what `has_fringes` says of all masks.
    """
    if summary.kind == "blank" or (summary.kind == "toe" and fringed):
        return ""
    if summary.kind == "binary" and summary.values:
        value, count = summary.values[-1]
        if fringed and not summary.bright and count < TOE_SHARE * summary.pixels:
            return ""  # the toe of a fringe whose object lies outside the picture
        return "0/255" if value == 255 or (fringed and value >= NEAR_WHITE) else f"0/{value}"
    return {"fringed": "0/255", "colours": "colours"}.get(summary.kind, SEVERAL)


def _contradiction(families: Mapping[str, list[str]]) -> str:
    lines = [f"{name}  {len(paths)} of the masks, for example {paths[0]}" for name, paths in families.items()]
    return (
        f"masks of one data set encode the foreground in different ways:\n{listing(lines)}\n"
        "Expected one encoding; save all masks alike (0 background, 255 foreground), "
        "or give a table of the classes with --classes."
    )


def _plain_encoding(
    family: str, summaries: Mapping[str, MaskSummary], paths: list[str]
) -> tuple[MaskEncoding, str]:
    if family == "0/255":
        fringed = sum(summaries[path].kind == "fringed" for path in paths)
        return MaskEncoding(), f"0/255, {fringed} of {len(summaries)} grey-fringed" if fringed else "0/255"
    if family.startswith("0/"):
        value = int(family[2:])
        return MaskEncoding("values", ((0, 0), (value, 1))), family
    return _black_and_one_colour(summaries, paths)


def _black_and_one_colour(summaries: Mapping[str, MaskSummary], paths: list[str]) -> tuple[MaskEncoding, str]:
    counts, countless = _count_values(summaries, paths)
    foreground = sorted(set(counts) - {0})
    if len(foreground) == 1 and 0 in counts and not countless:
        name = f"#{foreground[0]:06x}"
        return MaskEncoding("colours", (("#000000", 0), (name, 1))), f"black and {name}"
    raise InputError(_mapping_needed("colours", summaries, paths, paths))


def _count_values(summaries: Mapping[str, MaskSummary], paths: list[str]) -> tuple[dict[int, int], list[str]]:
    """({value: pixels}, paths with too many values to count)."""
    counts: defaultdict[int, int] = defaultdict(int)
    for path in paths:
        for value, count in summaries[path].values or ():
            counts[value] += count
    return counts, [path for path in paths if summaries[path].values is None]


def _mapping_needed(
    family: str, summaries: Mapping[str, MaskSummary], paths: list[str], examples: list[str]
) -> str:
    name = "#{:06x}".format if family == "colours" else str
    counts, countless = _count_values(summaries, paths)
    total = sum(counts.values())
    found = [f"{name(value)}  {count / total:.2%} of the pixels" for value, count in sorted(counts.items())]
    found += [f"{path}  more than {MOST_VALUES} values" for path in countless]
    example = name(max(counts, default=255))
    return (
        f"the masks hold {family} of unclear meaning "
        f"({len(examples)} of them, for example {examples[0]}):\n"
        f"{listing(found, 2 * MOST_VALUES)}\n"
        "Expected black and one other value. Say what each value means with --classes classes.csv, a table "
        f"with the columns id,name,colour and rows such as 1,nail,{example} (id 0 is background); masks "
        "with more values than classes (lossy JPEG) must be saved again as PNG."
    )
