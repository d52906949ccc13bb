"""The rows of a classification's manifests: a label instead of a mask, filled in and checked."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from segbalance.data_processing.inspection import inspect_images
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.rows import (
    AGAIN,
    ReadTables,
    add_outside,
    find_shared,
    unusable_files,
)
from segbalance.data_processing.tasks import CLASSIFICATION
from segbalance.errors import Findings, InputError, visible
from segbalance.files.data_root import DataRoot
from segbalance.runtime.verbs import named

LABEL_COLUMNS = list(CLASSIFICATION.columns)
SIZES = ["width", "height"]
ADVICE = f"Correct the rows, or make the manifests again with {named('prepare')}."


def complete_labels(read: ReadTables) -> LabelEncoding:
    """Fills in what rows leave out, from the names of their files and from the images; checks all of them.

    Raises:
        InputError: every wrong row, by file and line number.
    """
    if read.classes is None:
        raise InputError(f"manifest.json has no classes with their class_colours. {AGAIN}")
    encoding = LabelEncoding(read.classes.names)
    for path, frame in read.tables.items():
        for column, other in (("label", "type"), ("type", "label")):
            frame.loc[frame[column] == "", column] = frame[other]
            if path in read.subset_names:
                frame.loc[frame[column] == "", column] = read.subset_names[path]
    _check_rows(read.tables, read.root, encoding, read.subset_names, read.missing_train)
    _fill_sizes(read.tables, read.root, read.max_pixels)
    return encoding


def _check_rows(
    tables: Mapping[Path, pd.DataFrame],
    root: DataRoot,
    encoding: LabelEncoding,
    subset_names: Mapping[Path, str],
    missing_train: bool,
) -> None:
    findings = Findings()
    trained = {label for path, frame in tables.items() if path.stem != "valid" for label in frame["label"]}
    for path, frame in tables.items():
        subset, is_valid = subset_names.get(path), path.stem == "valid"
        missing, outside = unusable_files(root, frame["images"].tolist())
        if missing_train and not is_valid:
            missing &= {""}
        wrong = frame["images"].isin(missing | outside.keys()) | (frame["label"] != frame["type"])
        wrong |= ~frame["label"].isin(encoding.names) if subset is None else (frame["label"] != subset)
        wrong |= subset is not None and subset not in encoding.names
        for line, image, label, kind in frame.loc[wrong, LABEL_COLUMNS[:3]].itertuples(name=None):
            place = f"{path} line {line}"
            add_outside(findings, place, {"images": image}, outside)
            problem = _row_problem(root.folder, image, label, kind, subset, encoding, missing)
            if problem:
                findings.add("rows that are wrong", f"{place}: {problem}", ADVICE)
        if is_valid and trained:
            for line, label in frame["label"][~wrong & ~frame["label"].isin(trained)].items():
                advice = "Take them out, or put the train<class>.csv of their class back."
                findings.add(
                    "rows of a class without an image to train on", f"{path} line {line}: {label}", advice
                )
    find_shared(tables, findings)
    findings.raise_if_any()


def _row_problem(
    root: str,
    image: str,
    label: str,
    kind: str,
    subset: str | None,
    encoding: LabelEncoding,
    missing: set[str],
) -> str | None:
    """What is wrong with a row, in words; None if it is only that a path leads out."""
    if not image:
        return "images is empty"
    if image in missing:
        hint = "; paths are relative to the data root, with /" if "\\" in image else ""
        return f"images is {image!r}, but {os.path.join(root, image)} is not a file{hint}"
    if not label:
        return f"{image} has no label; expected {encoding.describe()}"
    if label not in encoding.names:
        return f"label is {visible(label)!r}, expected {encoding.describe()}"
    if label != kind:
        return f"label is {label!r}, but type is {visible(kind)!r}; expected the class in both"
    if subset in (None, label):
        return None
    return f"label is {label!r}, expected {subset!r} as in the file's name"


def _fill_sizes(tables: Mapping[Path, pd.DataFrame], root: DataRoot, max_pixels: int) -> None:
    findings = Findings()
    rows: dict[str, list[tuple[pd.DataFrame, Any]]] = {}
    for frame in tables.values():
        for line in frame.index[frame[SIZES].isna().any(axis=1)]:
            rows.setdefault(str(frame.at[line, "images"]), []).append((frame, line))
    facts = inspect_images(root.folder, list(rows), findings, max_pixels=max_pixels)
    findings.raise_if_any()
    for image, fact in facts.items():
        for frame, line in rows[image]:
            frame.loc[line, SIZES] = [fact.width, fact.height]
