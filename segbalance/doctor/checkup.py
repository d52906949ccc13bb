"""A data folder -> everything that is wrong or odd in it: the checks of make_csv_file, and comparisons."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segbalance.data_processing.class_table import read_classes
from segbalance.data_processing.description import read_description
from segbalance.data_processing.duplicates import groups
from segbalance.data_processing.inspection import PairFacts, inspect_pairs
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.make_csv_file import ManifestOptions
from segbalance.data_processing.manifest import Manifest, read_manifest
from segbalance.data_processing.mask_encoding import (
    MOST_VALUES,
    SEVERAL,
    MaskEncoding,
    has_fringes,
    mask_families,
    usual_encoding,
)
from segbalance.data_processing.pairs import Folders, Pair, Search, find_folders, find_pairs, likely_suffix
from segbalance.data_processing.splitting import BY_CLASS, split_names, subset_names
from segbalance.doctor.appearance import Appearance, look_at_pairs
from segbalance.doctor.diagnosis import Diagnosis
from segbalance.doctor.examined import Examined
from segbalance.doctor.look_alikes import check_copies, check_masks, check_sizes
from segbalance.errors import InputError
from segbalance.runtime.verbs import named

STRANGERS = {SEVERAL: "mask_with_several_values", "colours": "mask_with_colours"}


@dataclass(frozen=True)
class CheckupOptions:
    """What to look at.

    Args:
        data_root: Folder of the data, in either layout.
        csv_dir: Folder of its manifests, whose split and subsets then count. Without it: those of the
            data's own folders, or the split that data_processing.py would make.
        mask_suffix: What masks' names have behind their image's; the manifests' own by default.
        classes: CSV table id,name,colour for masks of several classes, or of unclear meaning; the
            manifests' own by default.
        ignore_index: Id in that table of pixels that count nowhere.
        smallest: Pixels of a photo's shorter side below which it counts as very small.
        largest: Megapixels above which a photo counts as very large.
    """

    data_root: str
    csv_dir: str | None = None
    mask_suffix: str | None = None
    classes: str | None = None
    ignore_index: int | None = None
    smallest: int = 32  # the network's encoder halves five times
    largest: float = 50.0  # 150 MB decoded, for each photo that is read at the same time

    def __post_init__(self) -> None:
        for name in ("smallest", "largest"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")


def examine_data(options: CheckupOptions, diagnosis: Diagnosis) -> Examined:
    """Checks the data and records all findings in `diagnosis`; nothing is written."""
    examined = Examined(Path(options.data_root).resolve())
    manifest, stored = _read_manifests(options, examined.data_root, diagnosis)
    try:
        folders = find_folders(examined.data_root)
    except InputError as error:
        diagnosis.add("layout", str(error))
        return examined
    search = _search(options, stored, examined, folders, diagnosis)
    table = read_classes(options.classes, options.ignore_index) if options.classes else None
    stored_encoding = manifest.encoding if manifest else None
    assert not isinstance(stored_encoding, LabelEncoding), "classifications are refused"
    most_values = (
        table.most_values if table else max(MOST_VALUES, len(stored_encoding.ids) if stored_encoding else 0)
    )
    facts = inspect_pairs(examined.data_root, search.pairs, search.findings, most_values=most_values)
    diagnosis.take(search.findings, examined.pairs.keys() | search.unpaired.keys())
    if not facts:
        return examined
    given = table.encoding([fact.mask for fact in facts.values()]) if table else None
    if given is None and stored.get("classes"):
        given = stored_encoding
    _find_encoding(given, facts, examined, diagnosis)
    examined.rows = _rows(facts, examined)
    _divide(examined, manifest, stored, diagnosis)
    seen = _look(facts, examined, diagnosis)
    check_sizes(examined.rows, options, diagnosis)
    check_masks(examined.rows, diagnosis)
    check_copies(examined, seen, diagnosis)
    return examined


def _read_manifests(
    options: CheckupOptions, data_root: Path, diagnosis: Diagnosis
) -> tuple[Manifest | None, dict[str, Any]]:
    """(Manifest or None, {option of data_processing.py: value} that they were made with)."""
    if options.csv_dir is None:
        return None, {}
    if not list(Path(options.csv_dir).glob("train*.csv")):
        raise InputError(
            f"--csv_dir {options.csv_dir} holds no manifests. Make them first with {named('prepare')}, or "
            "leave the option out."
        )
    try:
        stored = (read_description(options.csv_dir) or {}).get("options", {})
        manifest = read_manifest(options.csv_dir, data_root)
    except InputError as error:
        diagnosis.add("manifest_refused", str(error))
        return None, {}
    if not manifest.kind.with_masks:
        raise InputError(
            f"--csv_dir {options.csv_dir} is of a classification, and the doctor looks at images with masks. "
            f"{named('prepare')} --task classification checks every image."
        )
    return manifest, stored


def _search(
    options: CheckupOptions,
    stored: Mapping[str, Any],
    examined: Examined,
    folders: Sequence[Folders],
    diagnosis: Diagnosis,
) -> Search:
    """pairs.Search of the folders; what has no partner and what is no image is recorded."""
    suffix = stored.get("mask_suffix", "") if options.mask_suffix is None else options.mask_suffix
    search = find_pairs(examined.data_root, folders, suffix)
    examined.pairs = {path: pair for pair in search.pairs for path in (pair.image, pair.mask)}
    hint = None if suffix else likely_suffix(search.unpaired)
    hint = f"; or --mask_suffix {hint}" if hint else ""
    for path, expected in search.unpaired.items():
        is_mask = any(path.startswith(f"{place.masks}/") for place in folders)
        name = "mask_without_image" if is_mask else "image_without_mask"
        diagnosis.add(name, f"{path}  {expected}{hint}", path)
    for path in search.others:
        diagnosis.add("other_files", path)
    _check_names([*examined.pairs, *search.unpaired, *search.others], diagnosis)
    if not any(pair.split in (None, "train") for pair in search.pairs):
        diagnosis.add("no_pairs", str(examined.data_root))
    return search


def _check_names(paths: Iterable[str], diagnosis: Diagnosis) -> None:
    paths = sorted(paths)
    for found in groups([path.casefold() for path in paths]):
        alike = [paths[position] for position in found]
        diagnosis.add("names_differ_in_case", " = ".join(alike), *alike)


def _find_encoding(
    given: MaskEncoding | None, facts: Mapping[Pair, PairFacts], examined: Examined, diagnosis: Diagnosis
) -> None:
    """Sets the encoding, the one `given` by a table or that of most masks; the other masks are recorded."""
    summaries = {pair.mask: fact.mask for pair, fact in facts.items()}
    examined.fringed = has_fringes(summaries)
    if given is not None:
        examined.encoding = given
        examined.strangers = {path for path, summary in summaries.items() if not summary.fits(given)}
        for path in sorted(examined.strangers):
            diagnosis.add("mask_value_unnamed", path, path)
        return
    try:
        examined.encoding, strangers = usual_encoding(summaries)
    except InputError as error:
        diagnosis.add("masks_unclear" if mask_families(summaries)[0] else "no_foreground", str(error))
        return
    examined.strangers = set(strangers)
    for path, family in strangers.items():
        diagnosis.add(STRANGERS.get(family, "mask_encoding_differs"), f"{path}  {family}", path)


def _rows(facts: Mapping[Pair, PairFacts], examined: Examined) -> pd.DataFrame:
    encoding = examined.encoding

    def coverage(pair: Pair, fact: PairFacts) -> float:
        if encoding is None or pair.mask in examined.strangers or not fact.mask.fits(encoding):
            return float("nan")
        return fact.mask.coverage(encoding)

    return pd.DataFrame(
        {
            "images": [pair.image for pair in facts],
            "masks": [pair.mask for pair in facts],
            "type": [pair.folder for pair in facts],
            "split": [pair.split for pair in facts],
            "width": [fact.width for fact in facts.values()],
            "height": [fact.height for fact in facts.values()],
            "image_hash": [fact.image_hash for fact in facts.values()],
            "coverage": [coverage(pair, fact) for pair, fact in facts.items()],
            "kind": [fact.mask.kind for fact in facts.values()],
        }
    )


def _divide(
    examined: Examined, manifest: Manifest | None, stored: Mapping[str, Any], diagnosis: Diagnosis
) -> None:
    """Gives every row its subset and split: the manifests' own, or those that make_csv_file would give."""
    rows = examined.rows
    if manifest is not None:
        tables = [(table, "train") for table in manifest.train.values()] + [(manifest.valid, "valid")]
        places = {
            image: (kind, side)
            for table, side in tables
            for image, kind in zip(table["images"], table["type"], strict=True)
        }
        rows["type"] = [
            places.get(image, (kind, ""))[0] for image, kind in zip(rows["images"], rows["type"], strict=True)
        ]
        kept = ["test" if split == "test" else "" for split in rows["split"]]
        rows["split"] = [
            places.get(image, ("", side))[1] for image, side in zip(rows["images"], kept, strict=True)
        ]
        for image in rows["images"][rows["split"] == ""]:
            diagnosis.add("not_in_manifests", image, image)
    else:
        options = ManifestOptions(str(examined.data_root), **_of_split(stored))
        try:
            rows["type"] = subset_names(rows, options)
            rows["split"] = split_names(rows, options)
        except InputError as error:
            diagnosis.add("no_validation", str(error))
            rows["split"] = rows["split"].fillna("train")
    for name, subset in rows.groupby("type"):
        if (subset["split"] == "train").any() and not (subset["split"] == "valid").any():
            diagnosis.add("subset_without_validation", f"subset {name}  {len(subset)} photos")


def _of_split(stored: Mapping[str, Any]) -> dict[str, Any]:
    names = ("subset_by", "subset_bins", "valid_fraction", "seed", "group_by")
    options = {name: stored[name] for name in names if name in stored}
    if options.get("subset_by", "").startswith(BY_CLASS):  # the rows here know no classes
        del options["subset_by"]
    return options


def _look(facts: Mapping[Pair, PairFacts], examined: Examined, diagnosis: Diagnosis) -> list[Appearance]:
    """The Appearance of each row, in their order; rows that cannot be decoded after all are dropped."""
    rows = examined.rows
    known = dict(zip(rows["masks"], rows["coverage"].notna(), strict=True))
    encodings = {pair: examined.encoding if known[pair.mask] else None for pair in facts}
    seen = list(look_at_pairs(examined.data_root, encodings).values())
    damaged = np.array([isinstance(appearance, OSError) for appearance in seen])
    for position in np.flatnonzero(damaged):
        image = rows["images"].iloc[position]
        diagnosis.add("damaged_file", f"{image}  {seen[position]}", image)
    examined.rows = rows[~damaged].reset_index(drop=True)
    kept = [appearance for appearance in seen if not isinstance(appearance, OSError)]
    examined.rows["border"] = [appearance.border for appearance in kept]
    examined.rows["contrast"] = [appearance.contrast for appearance in kept]
    return kept
