"""Folders -> manifests: every file read once and checked, every subset split, nothing lost in silence.

python data_processing.py --data_root D
python data_processing.py --data_root D --task classification
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from segbalance.data_processing.class_shares import check_counted, class_shares, class_table
from segbalance.data_processing.class_table import ClassTable, read_classes
from segbalance.data_processing.description import VERSION, described_task, read_description
from segbalance.data_processing.inspection import PairFacts, inspect_pairs
from segbalance.data_processing.labelled_images import find_labelled, read_labelled
from segbalance.data_processing.manifest import AGAIN, by_type, natural_order, read_table, write_tables
from segbalance.data_processing.mask_encoding import MOST_VALUES, MaskEncoding, decide_encoding
from segbalance.data_processing.pairs import (
    EXPECTED_LAYOUT,
    Folders,
    Pair,
    Search,
    find_folders,
    find_pairs,
    likely_suffix,
)
from segbalance.data_processing.replacing import held_manifests, refuse_to_replace, replace_tables
from segbalance.data_processing.splitting import (
    BY_CLASS,
    check_subset_names,
    one_group,
    split_names,
    subset_names,
)
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, TASKS, Task, task_of
from segbalance.errors import Findings, InputError, listing, visible
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_limit_problem
from segbalance.files.writing import check_writable

# Options that classification has nothing to do with.
OF_MASKS = ("subset_by", "subset_bins", "mask_suffix", "classes", "ignore_index")


@dataclass(frozen=True)
class ManifestOptions:
    """Options of make_csv_file.

    Args:
        data_root: Folder of the data: train/images/<subset>/ with train/masks/<subset>/ (and valid/...),
            or Images/<subset>/ with Masks/<subset>/. For classification: train/<class>/ (and valid/<class>/),
            or <class>/.
        task: `segmentation`, images with masks; or `classification`, images with a class each, which is then
            their subset.
        csv_dir: Folder for the manifests.
        subset_by: `folder` (first folder below the images folder), `coverage` (quantiles of the foreground
            fraction), `class:<name>` (images with and without that class), or a regular expression on the
            image's path with one group, the subset's name.
        subset_bins: Number of quantiles of `--subset_by coverage`.
        valid_fraction: Fraction of every subset that is held out where the data has no valid folder.
        seed: Seed of that split.
        group_by: Regular expression on the image's path with one group (patient, sequence); a group stays
            on one side of the split.
        duplicates: What to do about byte-identical images on both sides of the data's own split.
        mask_suffix: What masks' names have behind their image's, such as _mask in photo_mask.png.
        unpaired: What to do about images without mask and masks without image, or images without label.
        classes: CSV table id,name,colour for masks of several classes, or of unclear meaning.
        ignore_index: Id in masks or in that table, such as 255, of pixels that count neither in the loss nor
            in any score.
        labels: For classification, CSV table with the columns images (relative to the data root), label and,
            if need be, split, in place of a folder for each class.
        allow_outside: Follow symbolic links that lead out of the data root.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
        overwrite: Replace manifests of another data root, and CSV files edited by hand.
        json: File for the printed table as JSON.
    """

    data_root: str
    task: Literal[TASKS] = TASKS[0]
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
    ignore_index: int | None = None
    labels: str | None = None
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False
    json: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.valid_fraction < 1:
            raise InputError(f"valid_fraction must lie between 0 and 1, got {self.valid_fraction}; try 0.2")
        if self.subset_bins < 2:
            raise InputError(f"subset_bins must be at least 2, got {self.subset_bins}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, got {self.seed}; try 0")
        if pixel_limit_problem(self.max_pixels):
            raise InputError(pixel_limit_problem(self.max_pixels))
        SOURCES[self.kind].check(self)
        if self.group_by is not None:
            one_group("--group_by", self.group_by, "a regular expression")

    @property
    def kind(self) -> Task:
        """The Task that the manifests are for, as far as the options tell it."""
        return task_of(self.task, self.classes)


def _check_mask_options(options: ManifestOptions) -> None:
    if options.labels is not None:
        raise InputError("labels is for task classification; add --task classification")
    if options.ignore_index is not None:
        if options.classes is None:
            raise InputError("ignore_index needs --classes, the table of what the other ids mean")
        if not 0 <= options.ignore_index <= 255:
            raise InputError(f"ignore_index must lie between 0 and 255, got {options.ignore_index}")
    by_class = options.subset_by.startswith(BY_CLASS)
    if by_class and options.classes is None:
        raise InputError(f"subset_by {options.subset_by} needs --classes, the table with the class's name")
    if options.subset_by not in ("folder", "coverage") and not by_class:
        one_group("--subset_by", options.subset_by, "folder, coverage, class:<name> or a regular expression")


def _check_label_options(options: ManifestOptions) -> None:
    defaults = {field.name: field.default for field in fields(options)}
    foreign = [name for name in OF_MASKS if getattr(options, name) != defaults[name]]
    if foreign:
        raise InputError(
            f"{', '.join(foreign)} means nothing with task classification, where there are no masks "
            "and the subset is the class. Leave it out."
        )


def make_csv_file(options: ManifestOptions) -> pd.DataFrame:
    """Writes train.csv, valid.csv (test.csv) and manifest.json from the folders of `options.data_root`.

    Returns:
        DataFrame of all rows, the task's columns, `split`, and of masks of several classes their shares
        (class_shares.py).

    Raises:
        InputError: everything that is wrong with the data, at once; no manifest is written then.
    """
    data_root = Path(options.data_root).resolve()
    source = SOURCES[options.kind]
    found = source.find(data_root, options)
    check_writable("--csv_dir", options.csv_dir)
    if not options.overwrite:
        refuse_to_replace(options.csv_dir, data_root)
    rows, meaning, left_out = source.read(data_root, found, options)
    rows["type"] = subset_names(rows, options)
    _check_names(rows["type"].unique())
    split = _split_described(rows, options)
    rows["split"] = split_names(rows, options)
    check_counted(rows)
    shares = class_table(rows)
    description = {
        "version": VERSION,
        "data_root": str(data_root),
        "options": {k: v for k, v in asdict(options).items() if k not in ("data_root", "csv_dir", "json")},
        **meaning,
        "split": split,
        "counts": _counts(rows),
        **({"masks_without_foreground": int((rows["coverage"] == 0).sum())} if "coverage" in rows else {}),
        **left_out,
        **({"class_shares": shares} if shares else {}),
        "duplicates": _duplicates(rows, options),
        "fingerprint": _fingerprint(rows),
    }
    columns = list(options.kind.columns)
    tables = {f"{split}.csv": rows.loc[rows["split"] == split, columns] for split in description["counts"]}
    replace_tables(options.csv_dir, tables, description, options.overwrite)
    return rows


def split_data_train(csv_dir: str | Path) -> dict[str, pd.DataFrame]:
    """Writes train<subset>.csv for each subset of train.csv in `csv_dir`, with the same columns.

    Returns:
        {subset: DataFrame}
    """
    with held_manifests(csv_dir):
        path, description = Path(csv_dir, "train.csv"), read_description(csv_dir) or {}
        train = read_table(path, columns=described_task(description).columns)
        if not train["type"].all():
            raise InputError(f"{path}: rows without type; expected each row's subset there. {AGAIN}")
        check_subset_names(train["type"], f"{path}: the column type")
        subsets = by_type(train)
        tables = {f"train{name}.csv": frame for name, frame in subsets.items()}
        write_tables(csv_dir, tables, description)
    return subsets


def _read_data(
    data_root: Path, folders: list[Folders], options: ManifestOptions
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """Finds and inspects all pairs; what is known of each ends here, but for its row.

    Returns:
        (DataFrame of rows, and for manifest.json: what the masks hold, what was left out)
    """
    table = read_classes(options.classes, options.ignore_index) if options.classes else None
    search = find_pairs(data_root, folders, options.mask_suffix, allow_outside=options.allow_outside)
    findings = search.findings
    if options.unpaired == "error":
        _report_unpaired(search, options, findings)
    if not search.outside and not any(pair.split in (None, "train") for pair in search.pairs):
        findings.add("data without a single pair to train on", str(data_root), EXPECTED_LAYOUT)
    most_values = table.most_values if table else MOST_VALUES
    facts = inspect_pairs(
        data_root, search.pairs, findings, max_pixels=options.max_pixels, most_values=most_values
    )
    findings.raise_if_any()
    encoding, found = _encoding(options, facts, table)
    rows, names = _rows(facts, encoding), table.classes.names if table else ("background", "foreground")
    masks: dict[str, Any] = {
        "mask_encoding": encoding.to_dict(),
        "mask_encoding_found": found,
        "classes": _by_id(names),
    }
    if table and not table.is_binary:
        masks |= {"class_colours": _by_id(table.classes.colours), "ignore_index": table.ignore_index}
        shares = class_shares([fact.mask for fact in facts.values()], encoding, table.classes)
        rows = pd.concat([rows, shares], axis=1)
    left_out = {"unpaired": sorted(search.unpaired), "other_files": search.others}
    return rows, masks, left_out


class Source(NamedTuple):
    """Where the truth about images comes from.

    Args:
        check: function of ManifestOptions that raises InputError where they do not fit this source.
        find: function of the data root and the options that returns what was found, no file read.
        read: function of the data root, of what `find` returns and of the options, that returns as
            `_read_data` does.
    """

    check: Callable[[ManifestOptions], None]
    find: Callable
    read: Callable


MASKS = Source(_check_mask_options, lambda data_root, options: find_folders(data_root), _read_data)
LABELS = Source(_check_label_options, find_labelled, read_labelled)
SOURCES = {FOREGROUND: MASKS, CLASSES: MASKS, CLASSIFICATION: LABELS}


def _by_id(values: Iterable[str]) -> dict[str, str]:
    return {str(class_id): value for class_id, value in enumerate(values)}


def _report_unpaired(search: Search, options: ManifestOptions, findings: Findings) -> None:
    suffix = likely_suffix(search.unpaired)
    hint = f"pass --mask_suffix {suffix}, " if suffix and not options.mask_suffix else ""
    for path, expected in search.unpaired.items():
        findings.add(
            "images without mask or masks without image",
            f"{path}  {expected}",
            f"Out of {search.images} images. Add what is missing, {hint}"
            "or pass --unpaired skip to leave them out.",
        )


def _encoding(
    options: ManifestOptions, facts: Mapping[Pair, PairFacts], table: ClassTable | None
) -> tuple[MaskEncoding, str]:
    """(MaskEncoding, what was found), from the ClassTable or, without one, from the masks themselves."""
    summaries = {pair.mask: fact.mask for pair, fact in facts.items()}
    if table is None:
        return decide_encoding(summaries)
    encoding = table.checked_encoding(summaries, str(options.classes))
    return encoding, encoding.describe()


def _rows(facts: Mapping[Pair, PairFacts], encoding: MaskEncoding) -> pd.DataFrame:
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


def _duplicates(rows: pd.DataFrame, options: ManifestOptions) -> list[list[str]]:
    """Groups of identical images on several sides of the split: an error, or the list for the manifest."""
    copies = rows[rows["image_hash"].duplicated(keep=False)]
    sides = copies.groupby("image_hash")["split"].transform("nunique")
    groups = copies[sides > 1].groupby("image_hash")["images"].apply(list).tolist()
    if groups and options.duplicates == "error":
        raise InputError(
            f"{len(groups)} images are in more than one split, byte for byte:\n"
            f"{listing([' = '.join(group) for group in groups])}\n"
            "Scores on them would be too good. Remove the copies, or pass --duplicates warn to go on."
        )
    return groups


def _check_names(subsets: Iterable[str]) -> None:
    """Raises InputError where names of subsets, which stand in every table, would change the terminal."""
    hidden = [name for name in subsets if visible(name) != name]
    if hidden:
        raise InputError(
            f"names of subsets hold control characters:\n{listing(hidden)}\n"
            "Rename the folders, or change --subset_by."
        )


def _split_described(rows: pd.DataFrame, options: ManifestOptions) -> str:
    """How the data is divided, in words; `rows` still have the split of the data's own folders."""
    if (rows["split"] == "valid").any():
        return "by the data's own folders"
    groups = f", groups of {options.group_by!r} kept together" if options.group_by else ""
    return f"{options.valid_fraction:g} of every subset held out for validation, seed {options.seed}{groups}"


def _counts(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """{split: {subset: images}}, the subsets in natural order."""
    counts: dict[Any, int] = rows.groupby(["split", "type"]).size().to_dict()
    return {
        split: {name: counts[split, name] for name in sorted(names, key=natural_order)}
        for split in ("train", "valid", "test")
        if (names := [name for side, name in counts if side == split])
    }


def _fingerprint(rows: pd.DataFrame) -> str:
    """Hash of the rows with the bytes of their files, whatever the order."""
    columns = ["images", "masks", "type", "split", "image_hash", "mask_hash"]
    columns = [name for name in columns if name in rows]  # images with labels have no masks
    fingerprint, separator = hashlib.sha256(), ""
    # A line at a time: all lines at once would be the largest thing in memory.
    for row in sorted(zip(*(rows[name] for name in columns), strict=True), key=lambda row: f"{row[0]}\t"):
        fingerprint.update((separator + "\t".join(row)).encode())
        separator = "\n"
    return fingerprint.hexdigest()


def subset_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The tutorial's table: subset, images, share, mean coverage, sizes; and the validation images.

    Args:
        rows: what make_csv_file returns.

    Returns:
        list of dicts, one a subset. Shares and coverages lie in [0, 1] and speak of the training images;
        images with labels have no coverage.
    """
    table: list[dict[str, Any]] = []
    total = int((rows["split"] == "train").sum())
    for name, subset in by_type(rows).items():
        train = subset[subset["split"] == "train"]
        table.append(
            {
                "subset": name,
                "images": len(train),
                "share": len(train) / total,
                **({"mean_coverage": _mean_coverage(train)} if "coverage" in rows else {}),
                "sizes": _size_range(subset),
                "valid": int((subset["split"] == "valid").sum()),
            }
        )
    return table


def _mean_coverage(rows: pd.DataFrame) -> float | None:
    return float(rows["coverage"].mean()) if len(rows) else None


def _size_range(rows: pd.DataFrame) -> str:
    pixels = rows["width"] * rows["height"]
    ends = rows.loc[[pixels.idxmin(), pixels.idxmax()]]
    sizes = [f"{width}x{height}" for width, height in zip(ends["width"], ends["height"], strict=True)]
    return sizes[0] if sizes[0] == sizes[1] else f"{sizes[0]} to {sizes[1]}"
