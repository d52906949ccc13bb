"""Images with a label each, of a classification: in a folder for each class, or named in a table."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from segbalance.data_processing.classes import MOST_CLASSES, usual_colour
from segbalance.data_processing.inspection import inspect_images
from segbalance.data_processing.manifest import natural_order, read_table
from segbalance.data_processing.pairs import SPLITS, check_data_root, folder_names, has_bad_name, link_guard
from segbalance.data_processing.rows import unusable_files
from segbalance.data_processing.splitting import LONGEST_NAME
from segbalance.errors import Findings, InputError, visible
from segbalance.files import images as image_files
from segbalance.files.data_root import LEADS_OUT, STAY_INSIDE, DataRoot

CLASS_LAYOUT = (
    "Expected train/<class>/ (and valid/<class>/), or <class>/ directly in the data root, or a table with "
    "the columns images and label (--labels)."
)
TABLE_COLUMNS = ["images", "label", "split"]
TABLE_ADVICE = "Correct the rows of the table."


class LabelOptions(Protocol):
    """Those of ManifestOptions that are about images with labels."""

    @property
    def task(self) -> str: ...
    @property
    def labels(self) -> str | None: ...
    @property
    def unpaired(self) -> str: ...
    @property
    def duplicates(self) -> str: ...
    @property
    def allow_outside(self) -> bool: ...
    @property
    def max_pixels(self) -> int: ...


class LabelledImage(NamedTuple):
    """One image and the name of its class; the path is relative to the data root, with `/`."""

    split: str | None
    label: str
    image: str


class ClassFolder(NamedTuple):
    """Where the images of one class lie, relative to the data root; no `split` if undivided."""

    split: str | None
    label: str
    path: str


@dataclass
class LabelSearch:
    """What was found.

    Args:
        images: what has a label.
        unlabelled: paths of images that the table does not name.
        others: paths of files that are no images.
        findings: what cannot be used at all.
    """

    images: list[LabelledImage] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def find_labelled(data_root: str | Path, options: LabelOptions) -> LabelSearch:
    """The LabelSearch of what ManifestOptions say. Raises InputError where there is nothing to search."""
    if options.labels is not None:
        return search_table(data_root, options.labels, allow_outside=options.allow_outside)
    return search_folders(data_root, find_class_folders(data_root), allow_outside=options.allow_outside)


def find_class_folders(data_root: str | Path) -> list[ClassFolder]:
    """The folders of the classes below `data_root` (list of ClassFolder), in either of the two layouts.

    Raises:
        InputError: the data root is missing, holds no class, both layouts or masks.
    """
    check_data_root(data_root)
    names = folder_names(data_root)
    divided = [name for name in names if name.lower() in SPLITS]
    others = [name for name in names if name not in divided]
    if divided and others:
        raise InputError(
            f"--data_root {data_root} holds {_shown(divided)}, as divided data does, and beside them "
            f"{_shown(others)}, which may be classes. {CLASS_LAYOUT} Move the ones or the others away."
        )
    splits: list[str | None] = [SPLITS[name.lower()] for name in divided] or [None]
    if not names or not {"train", None} & set(splits):
        raise InputError(
            f"--data_root {data_root}: no images to train on were found there. {CLASS_LAYOUT} "
            f"Found: {_shown(names) or 'no folders'}."
        )
    found = []
    for parent, split in zip(divided or [""], splits, strict=True):
        classes = folder_names(Path(data_root, parent))
        if {"images", "masks"} <= set(map(str.lower, classes)):
            raise InputError(
                f"{Path(data_root, parent)} holds {_shown(classes)}: images with masks, not classes. Leave "
                "--task classification out."
            )
        found += [ClassFolder(split, name, posixpath.join(parent, name)) for name in classes]
    return found


def _shown(names: Sequence[str]) -> str:
    return ", ".join(f"{name}/" for name in names[:10]) + (", ..." if len(names) > 10 else "")


def search_folders(
    data_root: str | Path, folders: Sequence[ClassFolder], *, allow_outside: bool = False
) -> LabelSearch:
    """The images in `folders` (list of ClassFolder) and below: LabelSearch.

    Args:
        allow_outside: True follows symbolic links that lead out of the data root; otherwise these are
            findings, and what they lead to is left out.
    """
    search, root = LabelSearch(), DataRoot(data_root, allow_outside=allow_outside)
    outside: dict[str, str] = {}
    leads_out = link_guard(root, outside)
    for parent in sorted({posixpath.dirname(place.path) for place in folders}):
        _find_strays(search, root.folder, parent)
    for place in folders:
        folder = Path(root.folder, place.path)
        if leads_out(folder):
            continue
        paths = [f"{place.path}/{name}" for name in image_files.walk_files(folder, leads_out)]
        named = [path for path in paths if not has_bad_name(path, search.findings)]
        images = [path for path in named if image_files.is_image_name(path) and path not in outside]
        search.images += [LabelledImage(place.split, place.label, path) for path in images]
        search.others += [path for path in named if not image_files.is_image_name(path)]
        if not any(map(image_files.is_image_name, paths)):
            advice = "Put images in, or move the folder away."
            search.findings.add("folders of a class without any image", place.path, advice)
    for link, real in outside.items():
        search.findings.add(LEADS_OUT, f"{link} is {real}", STAY_INSIDE)
    return search


def _find_strays(search: LabelSearch, data_root: str, parent: str) -> None:
    """Adds the files that lie beside the folders of the classes; an image there has no class."""
    for entry in sorted(os.scandir(Path(data_root, parent)), key=lambda entry: entry.name):
        if entry.is_dir() or image_files.is_system_name(entry.name):
            continue
        path = posixpath.join(parent, entry.name)
        if image_files.is_image_name(path):
            advice = "Put them into the folder of their class, or move them away."
            search.findings.add("images beside the folders of the classes", path, advice)
        elif not has_bad_name(path, search.findings):
            search.others.append(path)


def search_table(
    data_root: str | Path, table_path: str | Path, *, allow_outside: bool = False
) -> LabelSearch:
    """The images that the rows of a table name: LabelSearch.

    Its columns are `images` (path relative to the data root), `label` and `split` (train, valid or test).

    Raises:
        InputError: the data root is missing, or the table cannot be read; wrong rows are findings.
    """
    check_data_root(data_root)
    root, search = DataRoot(data_root, allow_outside=allow_outside), LabelSearch()
    table = read_table(table_path, columns=TABLE_COLUMNS, needed=TABLE_COLUMNS[:2], advice=TABLE_ADVICE)
    table["images"] = [posixpath.normpath(path) if path else "" for path in table["images"]]
    missing, outside = unusable_files(root, table["images"].tolist())
    seen: dict[str, int] = {}
    for line, path, label, split in table[TABLE_COLUMNS].itertuples(name=None):
        place = f"{table_path} line {line}"
        if path in outside:
            link = f"{place}: images is {path!r}, which is {outside[path]}"
            search.findings.add(LEADS_OUT, link, STAY_INSIDE)
            continue
        problem = _row_problem(root.folder, path, label, split, missing)
        if problem is None and path in seen:
            problem = f"{path} is already in line {seen[path]}"
        seen.setdefault(path, line)
        if problem:
            search.findings.add("rows of the labels that are wrong", f"{place}: {problem}", TABLE_ADVICE)
        else:
            search.images.append(LabelledImage(SPLITS.get(split.lower()), label, path))
    if 0 < (table["split"] == "").sum() < len(table):
        line = table.index[table["split"] == ""][0]
        advice = "Fill it in for all rows, or leave the column out to have the data divided."
        search.findings.add(
            "tables that say the split of some rows only", f"{table_path} line {line}", advice
        )
    _find_unlabelled(search, root, set(table["images"]), Path(table_path).resolve())
    return search


def _row_problem(data_root: str, path: str, label: str, split: str, missing: set[str]) -> str | None:
    """What is wrong with a row of the table, in words, or None."""
    if not path:
        return "images is empty"
    if os.path.isabs(path):
        return f"images is {path!r}; expected a path relative to the data root"
    if path in missing:
        hint = "; paths are relative to the data root, with /" if "\\" in path else ""
        return f"images is {path!r}, but {os.path.join(data_root, path)} is not a file{hint}"
    if not image_files.is_image_name(path):
        return f"{path} has an unsupported type ({', '.join(image_files.EXTENSIONS)})"
    if not label:
        return f"{path} has no label"
    if split and split.lower() not in SPLITS:
        return f"split is {split!r}; expected train, valid or test"
    return None


def _find_unlabelled(search: LabelSearch, root: DataRoot, named: set[str], table_path: Path) -> None:
    """Adds the files of the data root that no row names."""
    # Where links lead to is nobody's concern as long as no row names it.
    for path in image_files.walk_files(root.folder, lambda link: root.outside(link) is not None):
        if path in named or Path(root.folder, path) == table_path or has_bad_name(path, search.findings):
            continue
        (search.unlabelled if image_files.is_image_name(path) else search.others).append(path)


def read_labelled(
    data_root: str | Path, search: LabelSearch, options: LabelOptions
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """Checks and reads every image of a LabelSearch.

    Args:
        options: ManifestOptions.

    Returns:
        (DataFrame of rows: images, label, type, width, height, split, image_hash; for manifest.json: the
        classes, what was left out)

    Raises:
        InputError: everything that is wrong, at once.
    """
    findings = search.findings
    if options.unpaired == "error":
        advice = (
            f"Out of {len(search.images) + len(search.unlabelled)} images. Add rows for them, or pass "
            "--unpaired skip to leave them out."
        )
        for path in search.unlabelled:
            findings.add("images without label", path, advice)
    _check_classes(search, data_root)
    facts = inspect_images(
        data_root, [image.image for image in search.images], findings, max_pixels=options.max_pixels
    )
    known = [image for image in search.images if image.image in facts]
    rows = pd.DataFrame(
        {
            "images": [image.image for image in known],
            "label": [image.label for image in known],
            "type": [image.label for image in known],
            "width": [facts[image.image].width for image in known],
            "height": [facts[image.image].height for image in known],
            "split": [image.split for image in known],
            "image_hash": [facts[image.image].image_hash for image in known],
        }
    )
    contradictions = _contradictions(rows)
    if options.duplicates == "error":
        advice = "Decide on one class and remove the copies; --duplicates warn goes on all the same."
        for group in contradictions:
            findings.add("images that stand in several classes, byte for byte", " = ".join(group), advice)
    findings.raise_if_any()
    names = sorted(rows["label"].unique(), key=natural_order)
    described = {
        "task": options.task,
        "classes": {str(number): name for number, name in enumerate(names)},
        "class_colours": {str(number): usual_colour(number + 1) for number in range(len(names))},
        "ignore_index": None,
    }
    left_out = {
        "unpaired": sorted(search.unlabelled),
        "other_files": search.others,
        "contradictions": contradictions,
    }
    return rows, described, left_out


def _check_classes(search: LabelSearch, data_root: str | Path) -> None:
    """Adds findings about the classes as such."""
    findings = search.findings
    splits: defaultdict[str, set[str | None]] = defaultdict(set)
    for image in search.images:
        splits[image.label].add(image.split)
    trained = [label for label, found in splits.items() if found & {"train", None}]
    if len(trained) < 2 and not findings:
        place = f"{data_root}: {', '.join(map(repr, trained)) or 'none'} to train on"
        findings.add("data with fewer than two classes", place, CLASS_LAYOUT)
    for label in sorted(splits.keys() - set(trained), key=natural_order):
        place = f"{label}  only in {' and '.join(sorted(filter(None, splits[label])))}"
        findings.add("classes without an image to train on", place, "Add some, or leave the class out.")
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(splits):
        alike[label.strip().casefold()].append(label)
    for names in alike.values():
        if len(names) > 1:
            advice = "One class was probably meant; give it one name."
            findings.add(
                "classes whose names differ only in case or blanks", " = ".join(map(repr, names)), advice
            )
    for label in splits:
        if label and (visible(label) != label or "/" in label or len(label.encode()) > LONGEST_NAME):
            advice = f"Rename them: no control characters, no slash, up to {LONGEST_NAME} bytes."
            findings.add("classes whose names cannot stand in train<class>.csv", repr(label), advice)
    if len(splits) > MOST_CLASSES:
        place = f"{len(splits)} classes, expected at most {MOST_CLASSES}"
        findings.add("data with too many classes", place, "Join some of them.")


def _contradictions(rows: pd.DataFrame) -> list[list[str]]:
    """Lists of images with identical bytes and several labels."""
    copies = rows[rows["image_hash"].duplicated(keep=False)]
    labels = copies.groupby("image_hash")["label"].transform("nunique")
    return copies[labels > 1].groupby("image_hash")["images"].apply(list).tolist()
