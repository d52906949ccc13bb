"""Folders -> manifests: every file read once and checked, every subset split, nothing lost in silence.

python data_processing.py --data_root D
"""

import hashlib
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from command import command, parse_options
from errors import InputError, listing
from manifest import (
    AGAIN,
    COLUMNS,
    VERSION,
    by_type,
    check_writable,
    natural_order,
    read_description,
    read_table,
    refuse_to_replace,
    remove_stale,
    write_json,
    write_tables,
)
from mask_encoding import decide_encoding, read_classes
from pairs import EXPECTED_LAYOUT, find_folders, find_pairs, inspect_pairs, likely_suffix


@dataclass(frozen=True)
class ManifestOptions:
    """Options of make_csv_file.

    Args:
        data_root: Folder of the data: train/images/<subset>/ with train/masks/<subset>/ (and valid/...),
            or Images/<subset>/ with Masks/<subset>/.
        csv_dir: Folder for the manifests.
        subset_by: `folder` (first folder below the images folder), `coverage` (quantiles of the foreground
            fraction), or a regular expression on the image's path with one group, the subset's name.
        subset_bins: Number of quantiles of `--subset_by coverage`.
        valid_fraction: Fraction of every subset that is held out where the data has no valid folder.
        seed: Seed of that split.
        group_by: Regular expression on the image's path with one group (patient, sequence); a group stays
            on one side of the split.
        duplicates: What to do about byte-identical images on both sides of the data's own split.
        mask_suffix: What masks' names have behind their image's, such as _mask in photo_mask.png.
        unpaired: What to do about images without mask and masks without image.
        classes: CSV table id,name,colour for masks whose meaning is not plain.
        overwrite: Replace manifests of another data root, and CSV files edited by hand.
        json: File for the printed table as JSON.
    """

    data_root: str
    csv_dir: str = "csv_file"
    subset_by: str = "folder"
    subset_bins: int = 4
    valid_fraction: float = 0.2
    seed: int = 0
    group_by: str | None = None
    duplicates: Literal["error", "warn"] = "error"
    mask_suffix: str = ""
    unpaired: Literal["error", "skip"] = "error"
    classes: str | None = None
    overwrite: bool = False
    json: str | None = None

    def __post_init__(self):
        if not 0 < self.valid_fraction < 1:
            raise InputError(f"valid_fraction must lie between 0 and 1, got {self.valid_fraction}; try 0.2")
        if self.subset_bins < 2:
            raise InputError(f"subset_bins must be at least 2, got {self.subset_bins}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, got {self.seed}; try 0")
        if self.subset_by not in ("folder", "coverage"):
            one_group("--subset_by", self.subset_by, "folder, coverage or a regular expression")
        if self.group_by is not None:
            one_group("--group_by", self.group_by, "a regular expression")


def one_group(option, pattern, expected="a regular expression"):
    """Compiles a regular expression that must have one group."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        problem = f"is not a regular expression ({error})"
    else:
        if compiled.groups == 1:
            return compiled
        problem = f"has {compiled.groups} groups"
    raise InputError(
        f"{option} {pattern!r} {problem}; expected {expected} with one group in parentheses, "
        "as in '/(p[0-9]+)_'"
    )


def make_csv_file(options):
    """Writes train.csv, valid.csv (test.csv) and manifest.json from the folders of `options.data_root`.

    Returns:
        DataFrame of all rows, the COLUMNS and `split`.

    Raises:
        InputError: everything that is wrong with the data, at once; no manifest is written then.
    """
    data_root = Path(options.data_root).resolve()
    folders = find_folders(data_root)
    check_writable("--csv_dir", options.csv_dir)
    if not options.overwrite:
        refuse_to_replace(options.csv_dir, data_root)
    search = find_pairs(data_root, folders, options.mask_suffix)
    findings = search.findings
    if options.unpaired == "error":
        _report_unpaired(search, options, findings)
    if not any(pair.split in (None, "train") for pair in search.pairs):
        findings.add("data without a single pair to train on", str(data_root), EXPECTED_LAYOUT)
    facts = inspect_pairs(data_root, search.pairs, findings)
    findings.raise_if_any()
    encoding, found, names = _encoding(options, facts)
    rows = _rows(facts, encoding)
    rows["type"] = _subsets(rows, options)
    rows["split"] = _splits(rows, options)
    description = {
        "version": VERSION,
        "data_root": str(data_root),
        "options": {k: v for k, v in asdict(options).items() if k not in ("data_root", "csv_dir", "json")},
        "mask_encoding": encoding.to_dict(),
        "mask_encoding_found": found,
        "classes": {str(class_id): name for class_id, name in sorted(names.items())},
        "split": _split_described(facts, options),
        "counts": _counts(rows),
        "masks_without_foreground": int((rows["coverage"] == 0).sum()),
        "unpaired": sorted(search.unpaired),
        "other_files": search.others,
        "duplicates": _duplicates(rows, options),
        "fingerprint": _fingerprint(rows),
    }
    tables = {f"{split}.csv": rows.loc[rows["split"] == split, COLUMNS] for split in description["counts"]}
    write_tables(options.csv_dir, tables, description)
    remove_stale(options.csv_dir, tables)
    return rows


def split_data_train(csv_dir):
    """Writes train<subset>.csv for each subset of train.csv in `csv_dir`, with the same columns.

    Returns:
        {subset: DataFrame}
    """
    path = Path(csv_dir, "train.csv")
    train = read_table(path)
    if not train["type"].all():
        raise InputError(f"{path}: rows without type; expected each row's subset there. {AGAIN}")
    subsets = by_type(train)
    tables = {f"train{name}.csv": frame for name, frame in subsets.items()}
    write_tables(csv_dir, tables, read_description(csv_dir) or {})
    return subsets


def _report_unpaired(search, options, findings):
    suffix = likely_suffix(search.unpaired)
    hint = f"pass --mask_suffix {suffix}, " if suffix and not options.mask_suffix else ""
    for path, expected in search.unpaired.items():
        findings.add(
            "images without mask or masks without image",
            f"{path}  {expected}",
            f"Out of {search.images} images. Add what is missing, {hint}"
            "or pass --unpaired skip to leave them out.",
        )


def _encoding(options, facts):
    """(MaskEncoding, what was found, {class id: name}), from --classes or from the masks themselves."""
    summaries = {pair.mask: fact.mask for pair, fact in facts.items()}
    if options.classes is None:
        encoding, found = decide_encoding(summaries)
        return encoding, found, {0: "background", 1: "foreground"}
    encoding, names = read_classes(options.classes)
    strays = [path for path, summary in summaries.items() if not summary.fits(encoding)]
    if strays:
        raise InputError(
            f"{len(strays)} masks hold values that --classes {options.classes} does not name:\n"
            f"{listing([f'{path}  {_unnamed(summaries[path], encoding)}' for path in strays])}\n"
            "Add these values to the table, or correct the masks (lossy JPEG masks must be PNG)."
        )
    return encoding, encoding.describe(), names


def _unnamed(summary, encoding):
    """The values of a mask that the encoding does not name, in words."""
    named = summary.named_values(encoding)
    if named is None:
        return "colours" if summary.values else "too many values for a table"
    return ", ".join(str(value) for value in sorted(named.keys() - dict(encoding.ids).keys()))


def _rows(facts, encoding):
    return pd.DataFrame(
        {
            "images": [pair.image for pair in facts],
            "masks": [pair.mask for pair in facts],
            "type": [pair.folder for pair in facts],
            "width": [fact.width for fact in facts.values()],
            "height": [fact.height for fact in facts.values()],
            "coverage": [fact.mask.coverage(encoding) for fact in facts.values()],
            "split": [pair.split for pair in facts],
            "image_hash": [fact.image_hash for fact in facts.values()],
            "mask_hash": [fact.mask_hash for fact in facts.values()],
        }
    )


def _subsets(rows, options):
    """The subset of each row, by folder, coverage or regular expression."""
    if options.subset_by == "folder":
        return rows["type"]
    if options.subset_by == "coverage":
        bins = pd.qcut(rows["coverage"], options.subset_bins, labels=False, duplicates="drop")
        return "coverage" + bins.fillna(0).astype(int).astype(str)
    names = _matches("--subset_by", options.subset_by, rows["images"])
    unusable = sorted({name for name in names if not name or "/" in name})
    if unusable:
        raise InputError(
            f"--subset_by {options.subset_by!r} gives the subset names\n"
            f"{listing([repr(name) for name in unusable])}\n"
            "Expected names that can stand in train<subset>.csv: not empty, no slash. Change the group."
        )
    return names


def _matches(option, pattern, paths):
    """What the one group of `pattern` finds in each path; InputError lists the paths without a match."""
    compiled = one_group(option, pattern)
    found = [compiled.search(path) for path in paths]
    missed = [path for path, match in zip(paths, found, strict=True) if not match or match[1] is None]
    if missed:
        raise InputError(
            f"{option} {pattern!r} does not match {len(missed)} of {len(found)} images:\n{listing(missed)}\n"
            "Expected a match in every path, which is relative to the data root. Widen the expression."
        )
    return pd.Series([match[1] for match in found], index=paths.index)


def _splits(rows, options):
    """The split of each row: the data's own folders, else a stratified one that keeps groups together."""
    if (rows["split"] == "valid").any():
        if options.group_by is not None:
            raise InputError(
                "--group_by says how to divide data, but this data has a valid folder of its own. Leave the "
                "option out, or move valid/ into train/ to have it divided."
            )
        return rows["split"]
    undivided = rows[rows["split"] != "test"]
    keys = [undivided["image_hash"]]
    if options.group_by is not None:
        keys.append(_matches("--group_by", options.group_by, undivided["images"]))
    held_out = held_out_rows(undivided["type"], connected(keys), options.valid_fraction, options.seed)
    if not held_out.any():
        raise InputError(
            f"no images are left for validation: {len(undivided)} images in "
            f"{undivided['type'].nunique()} subsets cannot be divided, as identical images and groups stay "
            "together. Add images, a valid folder, or choose another --group_by."
        )
    splits = rows["split"].fillna("train")
    splits[undivided.index[held_out]] = "valid"
    return splits


def connected(keys):
    """Group number of each row, where rows that share a value of any key belong together.

    Args:
        keys: list of Series of equal length.

    Returns:
        int array (rows,)
    """
    count = len(keys[0])
    first = [pd.Series(np.arange(count)).groupby(key.to_numpy()).transform("min") for key in keys]
    edges = (np.tile(np.arange(count), len(keys)), np.concatenate(first))
    return connected_components(coo_array((np.ones(len(edges[0])), edges), shape=(count, count)))[1]


def held_out_rows(subsets, groups, fraction, seed):
    """Chooses whole groups for validation, so that each subset gives about `fraction` of its images.

    A subset of two images or more has at least one on each side where its groups allow it; a single image
    is for training.

    Args:
        subsets: Series (rows,) of names.
        groups: int array (rows,).

    Returns:
        bool array (rows,), True for validation.
    """
    codes, names = pd.factorize(subsets)
    _, groups = np.unique(groups, return_inverse=True)
    counts = np.zeros((groups.max() + 1, len(names)), int)  # images of each subset in each group
    np.add.at(counts, (groups, codes), 1)
    sizes = counts.sum(axis=0)
    goals = np.where(sizes > 1, np.clip(np.round(fraction * sizes), 1, np.maximum(sizes - 1, 1)), 0)
    taken, chosen = np.zeros(len(names), int), np.zeros(len(counts), bool)

    def distance(group):
        """How far from the goals this group would bring us; infinite if a subset lost its last image."""
        more = taken + counts[group]
        return np.abs(goals - more).sum() if (more < sizes).all() else np.inf

    order = np.random.default_rng(seed).permutation(len(counts))
    for group in order:
        if distance(group) < np.abs(goals - taken).sum():
            taken, chosen[group] = taken + counts[group], True
    for subset in np.flatnonzero(sizes > 1):
        if not taken[subset]:  # its groups are larger than its goal: the nearest, if any leaves some behind
            nearest = min((group for group in order if counts[group, subset]), key=distance)
            if np.isfinite(distance(nearest)):
                taken, chosen[nearest] = taken + counts[nearest], True
    return chosen[groups]


def _duplicates(rows, options):
    """Groups of identical images on several sides of the split: an error, or the list for the manifest."""
    sides = rows.groupby("image_hash")["split"].transform("nunique")
    groups = rows[sides > 1].groupby("image_hash")["images"].apply(list).tolist()
    if groups and options.duplicates == "error":
        raise InputError(
            f"{len(groups)} images stand in more than one split with identical bytes:\n"
            f"{listing([' = '.join(group) for group in groups])}\n"
            "Scores on them would be too good. Remove the copies, or pass --duplicates warn to go on."
        )
    return groups


def _split_described(pairs, options):
    if any(pair.split == "valid" for pair in pairs):
        return "by the data's own folders"
    groups = f", groups of {options.group_by!r} kept together" if options.group_by else ""
    return f"{options.valid_fraction:g} of every subset held out for validation, seed {options.seed}{groups}"


def _counts(rows):
    return {
        split: {
            name: int((part["type"] == name).sum())
            for name in sorted(part["type"].unique(), key=natural_order)
        }
        for split in ("train", "valid", "test")
        if len(part := rows[rows["split"] == split])
    }


def _fingerprint(rows):
    """Hash of the rows with the bytes of their files, whatever the order."""
    columns = ["images", "masks", "type", "split", "image_hash", "mask_hash"]
    lines = sorted("\t".join(row) for row in rows[columns].itertuples(index=False))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def subset_table(rows):
    """The tutorial's table: subset, images, share, mean coverage, sizes; and the validation images.

    Args:
        rows: what make_csv_file returns.

    Returns:
        list of dicts, one a subset. Shares and coverages lie in [0, 1] and speak of the training images.
    """
    table = []
    for name in sorted(rows["type"].unique(), key=natural_order):
        subset = rows[rows["type"] == name]
        train = subset[subset["split"] == "train"]
        table.append(
            {
                "subset": name,
                "images": len(train),
                "share": len(train) / int((rows["split"] == "train").sum()),
                "mean_coverage": float(train["coverage"].mean()) if len(train) else None,
                "sizes": _size_range(subset),
                "valid": int((subset["split"] == "valid").sum()),
            }
        )
    return table


def _size_range(rows):
    pixels = rows["width"] * rows["height"]
    ends = rows.loc[[pixels.idxmin(), pixels.idxmax()]]
    sizes = [f"{width}x{height}" for width, height in zip(ends["width"], ends["height"], strict=True)]
    return sizes[0] if sizes[0] == sizes[1] else f"{sizes[0]} to {sizes[1]}"


def _print_report(rows, options):
    shown = pd.DataFrame(subset_table(rows))
    shown["share"] = shown["share"].map("{:.1%}".format)
    shown["mean_coverage"] = shown["mean_coverage"].map("{:.2%}".format).replace("nan%", "-")
    print(shown.rename(columns=lambda name: name.replace("_", " ")).to_string(index=False))
    description = read_description(options.csv_dir)
    print(f"\nsplit: {description['split']}")
    empty = description["masks_without_foreground"]
    print(f"masks: {description['mask_encoding_found']}; {empty} of them empty")
    for key, meaning in (
        ("unpaired", "left out without partner"),
        ("other_files", "passed over, no image type"),
        ("duplicates", "identical images on both sides of the split"),
    ):
        if description[key]:
            print(f"{meaning}: {len(description[key])}\n{listing([str(item) for item in description[key]])}")
    print(f"wrote {options.csv_dir}: {', '.join(description['files'])}, manifest.json")


@command
def main(argv):
    """Makes the manifests of a data folder and prints the table of its subsets."""
    options = parse_options(
        ManifestOptions,
        argv,
        prog="data_processing.py",
        description="Folders -> manifests, every file checked.",
    )
    if options.json:
        check_writable("--json", Path(options.json).parent)
    rows = make_csv_file(options)
    split_data_train(options.csv_dir)
    _print_report(rows, options)
    if options.json:
        write_json(options.json, subset_table(rows))


if __name__ == "__main__":
    sys.exit(main())
