"""The rows of manifests: what a person's rows leave out is filled in, and every wrong one is named."""

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segbalance.data_processing.classes import IGNORED, Classes, names_of
from segbalance.data_processing.inspection import inspect_pairs
from segbalance.data_processing.mask_encoding import MaskEncoding, decide_encoding
from segbalance.data_processing.pairs import Pair, find_folders, find_pairs
from segbalance.data_processing.tasks import FOREGROUND
from segbalance.errors import Findings, InputError, visible
from segbalance.files.data_root import LEADS_OUT, STAY_INSIDE, DataRoot
from segbalance.runtime.verbs import named, typed

COLUMNS = list(FOREGROUND.columns)
RANGES = {"width": (1, 10**6), "height": (1, 10**6), "coverage": (0, 1)}  # of a row's numbers
NUMBERS = list(RANGES)
AGAIN = f"Make the manifests again: {typed('prepare')} --data_root <folder> --overwrite"


@dataclass(frozen=True)
class ReadTables:
    """The tables of a manifest as they were read, and what their rows go by.

    Args:
        tables: {path of the CSV file: DataFrame with the task's columns}.
        root: the data root.
        description: content of manifest.json.
        classes: as it has them; None for one foreground.
        subset_names: {path of the CSV file: subset} of those that hold one.
        missing_train: whether rows of train may name files that are not there.
        max_pixels: of a file that has to be read, by its header.
    """

    tables: Mapping[Path, pd.DataFrame]
    root: DataRoot
    description: Mapping[str, Any]
    classes: Classes | None
    subset_names: Mapping[Path, str]
    missing_train: bool
    max_pixels: int


def complete_foreground(read: ReadTables) -> MaskEncoding:
    """Fills in what rows leave out, from the folders and files; checks all of them.

    Raises:
        InputError: every wrong row, by file and line number.
    """
    return _complete(read, {0, 1})


def complete_classes(read: ReadTables) -> MaskEncoding:
    """As `complete_foreground`, of masks of several classes."""
    return _complete(read, {*range(len(names_of(read.classes))), IGNORED})


def _complete(read: ReadTables, ids: set[int]) -> MaskEncoding:
    fill_paths(read.tables, read.root, read.description, read.subset_names)
    check_rows(read.tables, read.root, read.subset_names, read.missing_train)
    encoding = fill_numbers(read.tables, read.root, read.description, read.max_pixels)
    encoding.check_ids(ids)
    return encoding


def fill_paths(
    tables: Mapping[Path, pd.DataFrame],
    root: DataRoot,
    description: Mapping[str, Any],
    subset_names: Mapping[Path, str],
    split: str | None = None,
) -> None:
    """Fills in the paths and subsets that rows leave out, from the folders; no file is read.

    Args:
        tables: {path of the CSV file: DataFrame with COLUMNS}.
        root: DataRoot.
        description: content of manifest.json.
        subset_names: {path of the CSV file: subset} of those that hold one.
        split: `train`, `valid` or `test`, which the rows are of; by default the one that a file's name says.
    """
    paired: dict[tuple[str | None, str], Pair] | None = None
    by_folder = description.get("options", {}).get("subset_by", "folder") == "folder"
    for path, frame in tables.items():
        if path in subset_names:
            frame.loc[frame["type"] == "", "type"] = subset_names[path]
        missing = (frame["masks"] == "") | (frame["type"] == "") | frame["images"].str.startswith("/")
        if missing.any():
            paired = paired or _pairs_by_image(root, description)
            own = split or ("valid" if path.stem == "valid" else "train")
            _fill_paths(frame, missing, paired, own, by_folder)


def fill_numbers(
    tables: Mapping[Path, pd.DataFrame], root: DataRoot, description: Mapping[str, Any], max_pixels: int
) -> MaskEncoding:
    """Fills in sizes and coverages, from files that `check_rows` has passed; returns the masks' encoding.

    Raises:
        InputError: files that cannot be read or do not fit.
    """
    stored = description.get("mask_encoding")
    encoding = MaskEncoding.from_dict(stored) if stored else None
    incomplete = {
        path: frame[NUMBERS].isna().any(axis=1) | (encoding is None) for path, frame in tables.items()
    }
    if encoding is not None and not any(mask.any() for mask in incomplete.values()):
        return encoding
    return _inspect_rows(tables, root, incomplete, encoding, max_pixels)


def _pairs_by_image(root: DataRoot, description: Mapping[str, Any]) -> dict[tuple[str | None, str], Pair]:
    """{(split, image path): Pair}, the image also by the tutorial's path below its images folder."""
    try:
        folders = find_folders(root.folder)
    except InputError:
        return {}  # then the rows themselves must say where their masks are
    suffix = description.get("options", {}).get("mask_suffix", "")
    own_split = any(place.split == "valid" for place in folders)
    found: dict[tuple[str | None, str], Pair] = {}
    for place in folders:
        short_for = [place.split] if own_split or place.split == "test" else ["train", "valid"]
        for pair in find_pairs(root.folder, [place], suffix, allow_outside=root.allow_outside).pairs:
            for split in short_for:
                found[split, pair.image.removeprefix(place.images)] = pair
            for split in ("train", "valid", "test"):
                found[split, pair.image] = pair
    return found


def _fill_paths(
    frame: pd.DataFrame,
    missing: pd.Series,
    paired: Mapping[tuple[str | None, str], Pair],
    split: str,
    by_folder: bool,
) -> None:
    for line in frame.index[missing]:
        pair = paired.get((split, str(frame.at[line, "images"])))
        if pair:
            frame.at[line, "images"] = pair.image
            frame.at[line, "masks"] = str(frame.at[line, "masks"]) or pair.mask
            if by_folder:
                frame.at[line, "type"] = str(frame.at[line, "type"]) or pair.folder


def _inspect_rows(
    tables: Mapping[Path, pd.DataFrame],
    root: DataRoot,
    incomplete: Mapping[Path, pd.Series],
    encoding: MaskEncoding | None,
    max_pixels: int,
) -> MaskEncoding:
    findings = Findings()
    rows: dict[Pair, list[tuple[pd.DataFrame, Any]]] = {}
    for path, frame in tables.items():
        for line in frame.index[incomplete[path]]:
            pair = Pair(None, "", str(frame.at[line, "images"]), str(frame.at[line, "masks"]))
            rows.setdefault(pair, []).append((frame, line))
    facts = inspect_pairs(root.folder, list(rows), findings, max_pixels=max_pixels)
    findings.raise_if_any()
    if encoding is None:
        encoding, _ = decide_encoding({pair.mask: fact.mask for pair, fact in facts.items()})
    for pair, fact in facts.items():
        if not fact.mask.fits(encoding):
            advice = f"Expected {encoding.describe()}. {AGAIN}"
            findings.add("masks that do not fit the encoding in manifest.json", pair.mask, advice)
            continue
        for frame, line in rows[pair]:
            frame.loc[line, NUMBERS] = [fact.width, fact.height, fact.mask.coverage(encoding)]
    findings.raise_if_any()
    return encoding


def check_rows(
    tables: Mapping[Path, pd.DataFrame],
    root: DataRoot,
    subset_names: Mapping[Path, str],
    missing_train: bool = False,
) -> None:
    """Raises InputError with every row that is wrong, by file and line number.

    Args:
        tables, root, subset_names: as in `fill_paths`.
        missing_train: whether rows of train may name files that are not there.
    """
    findings = Findings()
    for path, frame in tables.items():
        subset = subset_names.get(path)
        missing, outside = unusable_files(root, frame["images"].tolist() + frame["masks"].tolist())
        if missing_train and path.stem != "valid":
            missing &= {""}
        unusable = missing | outside.keys()
        wrong = frame["images"].isin(unusable) | frame["masks"].isin(unusable)
        wrong |= frame["images"] == frame["masks"]
        wrong |= (frame["type"] == "") if subset is None else (frame["type"] != subset)
        kinds = frame["type"].unique() if subset is None else [subset]  # any other is wrong already
        hidden = [name for name in kinds if visible(name) != name]
        if hidden:
            wrong |= frame["type"].isin(hidden)
        for line, image, mask, kind in frame.loc[wrong, ["images", "masks", "type"]].itertuples(name=None):
            add_outside(findings, f"{path} line {line}", {"images": image, "masks": mask}, outside)
            problem = _row_problem(root.folder, image, mask, kind, subset, missing)
            if problem:
                advice = f"Correct the rows, or make the manifests again with {named('prepare')}."
                findings.add("rows that are wrong", f"{path} line {line}: {problem}", advice)
    find_shared(tables, findings)
    findings.raise_if_any()


def find_shared(tables: Mapping[Path, pd.DataFrame], findings: Findings) -> None:
    """Adds a finding for each row of train that stands in valid.csv too."""
    held_out = {image for path, frame in tables.items() if path.stem == "valid" for image in frame["images"]}
    for path, frame in tables.items():
        if path.stem != "valid":
            for line, image in frame["images"][frame["images"].isin(held_out)].items():
                place = f"{path} line {line}: {image}"
                findings.add(
                    "rows that are in both train and valid.csv", place, "Take them out of one of the two."
                )


def add_outside(findings: Findings, row: str, cells: Mapping[str, str], outside: Mapping[str, str]) -> None:
    """Adds a finding for each cell of a row, {column: path}, that is among `outside` of `unusable_files`."""
    for column, path in cells.items():
        if path in outside:
            findings.add(LEADS_OUT, f"{row}: {column} is {path!r}, which is {outside[path]}", STAY_INSIDE)


def unusable_files(root: DataRoot, paths: Iterable[str]) -> tuple[set[str], dict[str, str]]:
    """Which of `paths`, relative to a DataRoot, are no files that may be read.

    Folders are listed, for asking for each file takes several times as long.

    Returns:
        (set of those that are no files, {path: where it really leads} of those out of the root)
    """
    listing = functools.cache(functools.partial(_plain_files, root))
    folder: str | None = None
    names: set[str] = set()
    others: set[str] = set()
    for path in paths:
        start = path.rfind("/") + 1
        if path[:start] != folder:
            folder = path[:start]
            names = listing(folder)
        # What is not listed may still be a link, or a spelling that will do where case does not matter.
        if path[start:] not in names:
            others.add(path)
    missing = {path for path in others if not os.path.isfile(os.path.join(root.folder, path))}
    outside = {path: real for path in others if (real := root.outside(path)) is not None}
    # The tutorial's paths below the images folder begin with / too: one that was not found is missing.
    outside = {path: real for path, real in outside.items() if path not in missing or path[0] != "/"}
    return missing - outside.keys(), outside


def _plain_files(root: DataRoot, folder: str) -> set[str]:
    """Names of the files in a folder, without links unless they may lead anywhere; none if it leads out."""
    try:
        with os.scandir(os.path.join(root.folder, folder)) as entries:
            names = {entry.name for entry in entries if entry.is_file(follow_symlinks=root.allow_outside)}
    except (OSError, ValueError):
        return set()
    return names if root.outside(folder) is None else set()


def _row_problem(
    root: str, image: str, mask: str, kind: str, subset: str | None, missing: set[str]
) -> str | None:
    """What is wrong with a row, in words; None if it is only that a path leads out."""
    if not image:
        return "images is empty"
    for column, relative in (("images", image), ("masks", mask)):
        if not relative:
            return f"{image} has no mask, and none was found in the folders"
        if relative in missing:
            hint = "; paths are relative to the data root, with /" if "\\" in relative else ""
            return f"{column} is {relative!r}, but {os.path.join(root, relative)} is not a file{hint}"
    if image == mask:
        return f"images and masks are both {image!r}"
    if not kind:
        return "type is empty; expected the subset's name"
    if visible(kind) != kind:
        return f"type is {kind!r}; expected a name without control characters"
    if subset in (None, kind):
        return None
    return f"type is {kind!r}, expected {subset!r} as in the file's name"
