"""The rows of manifests: what a person's rows leave out is filled in, and every wrong one is named."""

import functools
import os
from pathlib import Path

from errors import Findings, InputError
from inspection import inspect_pairs
from mask_encoding import MaskEncoding, decide_encoding
from pairs import Pair, find_folders, find_pairs

COLUMNS = ["images", "masks", "type", "width", "height", "coverage"]
NUMBERS = ["width", "height", "coverage"]
AGAIN = "Make the manifests again: python data_processing.py --data_root <folder> --overwrite"


def complete_rows(tables, root, description, subset_names):
    """Fills in what rows leave out, from the folders and files; returns the encoding of the masks."""
    paired = None
    by_folder = description.get("options", {}).get("subset_by", "folder") == "folder"
    for path, frame in tables.items():
        if path in subset_names:
            frame.loc[frame["type"] == "", "type"] = subset_names[path]
        missing = (frame["masks"] == "") | (frame["type"] == "") | frame["images"].str.startswith("/")
        if missing.any():
            paired = paired or _pairs_by_image(root, description)
            split = "valid" if path.stem == "valid" else "train"
            _fill_paths(frame, missing, paired, split, by_folder)
    stored = description.get("mask_encoding")
    encoding = MaskEncoding.from_dict(stored) if stored else None
    incomplete = {
        path: frame[NUMBERS].isna().any(axis=1) | (encoding is None) for path, frame in tables.items()
    }
    if not any(mask.any() for mask in incomplete.values()):
        return encoding
    return _inspect_rows(tables, root, incomplete, encoding)


def _pairs_by_image(root, description):
    """{(split, image path): Pair}, the image also by the tutorial's path below its images folder."""
    try:
        folders = find_folders(root)
    except InputError:
        return {}  # then the rows themselves must say where their masks are
    suffix = description.get("options", {}).get("mask_suffix", "")
    own_split = any(place.split == "valid" for place in folders)
    found = {}
    for place in folders:
        short_for = [place.split] if own_split or place.split == "test" else ["train", "valid"]
        for pair in find_pairs(root, [place], suffix).pairs:
            for split in short_for:
                found[split, pair.image.removeprefix(place.images)] = pair
            for split in ("train", "valid"):
                found[split, pair.image] = pair
    return found


def _fill_paths(frame, missing, paired, split, by_folder):
    for line in frame.index[missing]:
        pair = paired.get((split, frame.at[line, "images"]))
        if pair:
            frame.at[line, "images"] = pair.image
            frame.at[line, "masks"] = frame.at[line, "masks"] or pair.mask
            if by_folder:
                frame.at[line, "type"] = frame.at[line, "type"] or pair.folder


def _inspect_rows(tables, root, incomplete, encoding):
    findings, rows = Findings(), {}
    for path, frame in tables.items():
        for line in frame.index[incomplete[path]]:
            pair = Pair(None, "", frame.at[line, "images"], frame.at[line, "masks"])
            if Path(root, pair.image).is_file() and Path(root, pair.mask).is_file():
                rows.setdefault(pair, []).append((frame, line))
    facts = inspect_pairs(root, list(rows), findings)
    findings.raise_if_any()
    if encoding is None and facts:
        encoding, _ = decide_encoding({pair.mask: fact.mask for pair, fact in facts.items()})
    for pair, fact in facts.items():
        if not fact.mask.fits(encoding):
            advice = f"Expected {encoding.describe()}. {AGAIN}"
            findings.add("masks that do not fit the encoding in manifest.json", pair.mask, advice)
            continue
        for frame, line in rows[pair]:
            frame.loc[line, NUMBERS] = [fact.width, fact.height, fact.mask.coverage(encoding)]
    findings.raise_if_any()
    return encoding or MaskEncoding()


def check_rows(tables, root, subset_names, missing_train=False):
    """Raises InputError with every row that is wrong, by file and line number.

    Args:
        missing_train: whether rows of train may name files that are not there.
    """
    findings = Findings()
    for path, frame in tables.items():
        subset = subset_names.get(path)
        missing = missing_files(root, frame["images"].tolist() + frame["masks"].tolist())
        if missing_train and path.stem != "valid":
            missing &= {""}
        wrong = frame["images"].isin(missing) | frame["masks"].isin(missing)
        wrong |= (frame["type"] == "") if subset is None else (frame["type"] != subset)
        for line, image, mask, kind in frame.loc[wrong, ["images", "masks", "type"]].itertuples(name=None):
            place = f"{path} line {line}: {_row_problem(root, image, mask, kind, subset, missing)}"
            advice = "Correct the rows, or make the manifests again with data_processing.py."
            findings.add("rows that are wrong", place, advice)
    valid = next(frame for path, frame in tables.items() if path.stem == "valid")
    held_out = set(valid["images"])
    for path, frame in tables.items():
        if path.stem != "valid":
            for line, image in frame["images"][frame["images"].isin(held_out)].items():
                place = f"{path} line {line}: {image}"
                findings.add(
                    "rows of train that stand in valid.csv too", place, "Take them out of one of the two."
                )
    findings.raise_if_any()


def missing_files(root, paths):
    """Set of those of `paths`, relative to `root`, that are no files.

    Folders are listed, for asking for each file takes several times as long.
    """
    listing = functools.cache(_file_names)
    folder, names, missing = None, set(), set()
    for path in paths:
        start = path.rfind("/") + 1
        if path[:start] != folder:
            folder = path[:start]
            names = listing(os.path.join(root, folder))
        # Another spelling may do, as where names are not case-sensitive.
        if path[start:] not in names and not os.path.isfile(os.path.join(root, path)):
            missing.add(path)
    return missing


def _file_names(folder):
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def _row_problem(root, image, mask, kind, subset, missing):
    if not image:
        return "images is empty"
    for column, relative in (("images", image), ("masks", mask)):
        if not relative:
            return f"{image} has no mask, and none was found in the folders"
        if relative in missing:
            return f"{column} is {relative!r}, but {Path(root, relative)} is not a file"
    if not kind:
        return "type is empty; expected the subset's name"
    return f"type is {kind!r}, expected {subset!r} as in the file's name"
