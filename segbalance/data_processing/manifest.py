"""Manifests: train.csv, valid.csv, train<subset>.csv and manifest.json, written whole and read with care."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segbalance.data_processing.classes import Classes
from segbalance.data_processing.description import (
    MANIFEST,
    described_classes,
    described_task,
    read_description,
)
from segbalance.data_processing.label_rows import complete_labels
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.rows import (
    AGAIN,
    COLUMNS,
    NUMBERS,
    RANGES,
    ReadTables,
    complete_classes,
    complete_foreground,
)
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, TASKS, Task, task_of
from segbalance.errors import Findings, InputError
from segbalance.files.data_root import DataRoot
from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.files.writing import json_text, write_together
from segbalance.runtime.verbs import typed

# What fills in and checks the rows of a task's tables, and returns how masks or labels are encoded.
COMPLETE: dict[Task, Callable[[ReadTables], MaskEncoding | LabelEncoding]] = {
    FOREGROUND: complete_foreground,
    CLASSES: complete_classes,
    CLASSIFICATION: complete_labels,
}


def table_text(frame: pd.DataFrame) -> str:
    """A manifest as CSV text."""
    return frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")


def subset_files(csv_dir: str | Path) -> dict[str, Path]:
    """{subset: path} of the train<subset>.csv files in `csv_dir`, in natural order of their names."""
    found = {path.stem.removeprefix("train"): path for path in Path(csv_dir).glob("train?*.csv")}
    return {name: found[name] for name in sorted(found, key=natural_order)}


def natural_order(name: str) -> tuple[int, int, str]:
    """Sort key that puts 2 before 10."""
    return (0, int(name), "") if name.isdecimal() and len(name) < 100 else (1, 0, name)


def write_tables(
    csv_dir: str | Path, tables: Mapping[str, pd.DataFrame], description: dict[str, Any]
) -> None:
    """Writes `tables` ({file name: DataFrame}) and manifest.json, which remembers what each file held."""
    texts = {name: table_text(frame) for name, frame in tables.items()}
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    texts[MANIFEST] = json_text(description | {"files": description.get("files", {}) | hashes})
    write_together({Path(csv_dir, name): text for name, text in texts.items()})


def file_hash(path: Path) -> str:
    """What manifest.json remembers of a table."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What training reads.

    Args:
        data_root: folder that the paths of the tables are relative to.
        encoding: how the mask files, or labels, encode class ids.
        train: {subset: DataFrame with the columns of `kind`}.
        valid: DataFrame with the same.
        fingerprint: hash of the contents, empty where there is no manifest.json.
        notes: lines worth showing.
        lines: {subset: (path of the CSV file, Index of the line in it of each row)}.
        valid_file: path of the CSV file of `valid`.
        valid_numbers: Index of the line in it of each row of `valid`.
        task: one of TASKS.
        classes: Classes; None where there are foreground and background alone, and nothing is ignored.
    """

    data_root: Path
    encoding: MaskEncoding | LabelEncoding
    train: dict[str, pd.DataFrame]
    valid: pd.DataFrame
    fingerprint: str
    notes: tuple[str, ...]
    lines: dict[str, tuple[Path, pd.Index]]
    valid_file: Path
    valid_numbers: pd.Index
    task: str = TASKS[0]
    classes: Classes | None = None

    @property
    def kind(self) -> Task:
        """What the manifests are for."""
        return task_of(self.task, self.classes)

    def training_fingerprint(self) -> str:
        """Hash of everything here that decides what a training batch holds, a person's edits included."""
        return self._fingerprint(self.train)

    def valid_fingerprint(self) -> str:
        """The same of the rows of `valid`, whatever the order of the subsets."""
        return self._fingerprint(by_type(self.valid))

    def _fingerprint(self, tables: Mapping[str, pd.DataFrame]) -> str:
        digest = hashlib.sha256(json_text(self.encoding.to_dict()).encode())
        for name, table in tables.items():
            for part in ([name], table["images"].tolist(), table[self.kind.truth].tolist()):
                digest.update("\n".join([*part, ""]).encode() + b"\0")
        return digest.hexdigest()

    def line(self, subset: str, row: int) -> tuple[Path, int, str]:
        """(path, line number from 1, its text) that a row of a subset stands on."""
        path, lines = self.lines[subset]
        with open(path, encoding="utf-8-sig", newline="") as file:  # whose lines are those that were counted
            text = file.readlines()[lines[row] - 1]
        return path, int(lines[row]), text.rstrip("\r\n")

    def valid_lines(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[Path, pd.Index]]:
        """As `lines`, for tables ({subset: DataFrame}) of rows of `valid` that keep their index."""
        return {name: (self.valid_file, self.valid_numbers[table.index]) for name, table in tables.items()}


def read_manifest(
    csv_dir: str | Path,
    data_root: str | Path | None = None,
    *,
    allow_outside: bool = False,
    max_pixels: int = MAX_PIXELS,
    missing_train: bool = False,
    held_out: str | Path | None = None,
) -> Manifest:
    """Reads and checks the manifests in `csv_dir`, a person's edits included.

    Args:
        data_root: where the data lies; the place in manifest.json by default.
        allow_outside: True lets rows name files out of the data root, by themselves or by a symbolic link.
        max_pixels: of a file that has to be read, by its header.
        missing_train: whether files of train may have gone, as where a run goes on that skipped them.
        held_out: path of one table, such as test.csv, to read as `valid` and without any for training.

    Raises:
        InputError: every wrong row by file and line, and whatever else is missing.
    """
    files = {} if held_out else subset_files(csv_dir)
    train_files = files or ({} if held_out else {"": Path(csv_dir, "train.csv")})
    valid_file = Path(held_out or Path(csv_dir, "valid.csv"))
    paths = [*train_files.values(), valid_file]
    for path in paths:
        if not path.exists():
            raise InputError(
                f"{path} does not exist. Make the manifests first: {typed('prepare')} --data_root <folder>"
            )
    description = read_description(csv_dir) or {}
    root = _data_root(csv_dir, data_root, description)
    findings = Findings()
    classes, kind = described_classes(description), described_task(description)
    tables = {path: read_table(path, findings, kind.columns) for path in paths}
    for path in (path for path, frame in tables.items() if not len(frame)):
        advice = "Expected at least one image in each; delete a train<subset>.csv to drop its subset."
        findings.add("manifests without rows", path, advice)
    findings.raise_if_any()
    subset_names = {path: name for name, path in files.items()}
    boundary = DataRoot(root, allow_outside=allow_outside)
    encoding = COMPLETE[kind](
        ReadTables(tables, boundary, description, classes, subset_names, missing_train, max_pixels)
    )
    numbers = {path: frame.index for path, frame in tables.items()}
    tables = {path: frame.reset_index(drop=True) for path, frame in tables.items()}
    valid = tables.pop(valid_file)
    if files or held_out:
        train = {name: tables[path] for name, path in files.items()}
        lines = {name: (path, numbers[path]) for name, path in files.items()}
    else:
        ((path, table),) = tables.items()
        train = by_type(table)
        lines = {name: (path, numbers[path][table["type"] == name]) for name in train}
    notes = _notes(train, description, root)
    if files and _changed(Path(csv_dir, "train.csv"), description):
        notes.append("train.csv was changed, but training reads the train<subset>.csv files beside it")
    fingerprint, valid_numbers = description.get("fingerprint", ""), numbers[valid_file]
    return Manifest(
        root,
        encoding,
        train,
        valid,
        fingerprint,
        tuple(notes),
        lines,
        valid_file,
        valid_numbers,
        kind.name,
        classes,
    )


def _changed(path: Path, description: Mapping[str, Any]) -> bool:
    stored = description.get("files", {}).get(path.name)
    return stored is not None and path.exists() and file_hash(path) != stored


def by_type(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{subset: its rows} of a table, in natural order of the names."""
    parts = {str(name): part for name, part in frame.groupby("type", sort=False)}
    return {name: parts[name].reset_index(drop=True) for name in sorted(parts, key=natural_order)}


def _data_root(csv_dir: str | Path, data_root: str | Path | None, description: Mapping[str, Any]) -> Path:
    root = data_root or description.get("data_root")
    if not root:
        raise InputError(
            f"{csv_dir} has no {MANIFEST}, so the data folder is unknown. Pass it with --data_root."
        )
    if not os.path.isdir(root):
        where = "--data_root" if data_root else f"{Path(csv_dir, MANIFEST)}: data_root"
        raise InputError(
            f"{where} {root}: there is no such folder. Pass the folder of the data with --data_root."
        )
    return Path(root).resolve()


def read_table(
    path: str | Path,
    findings: Findings | None = None,
    columns: Sequence[str] = COLUMNS,
    needed: Sequence[str] = ("images",),
    advice: str = AGAIN,
) -> pd.DataFrame:
    """Reads one CSV manifest: text columns as str, `width`, `height`, `coverage` as numbers (NaN: missing).

    Args:
        findings: collects the wrong rows of several files; by default those of this one are raised.
        columns: that are there afterwards, empty where the file does not have them.
        needed: those that the file must have.
        advice: what to do about a file that is no table.

    Returns:
        DataFrame whose index is the line number in the file; empty lines are passed over.

    Raises:
        InputError: the file is no CSV table with the `needed` columns, or a row is wrong (with its line).
    """
    try:
        content = Path(path).read_bytes()
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""), strict=True)
        header = next(reader, [])
        frame = _plain_rows(content, header)
        # Spreadsheets leave rows of nothing but commas.
        rows = dict([(reader.line_num, row) for row in reader if any(row)]) if frame is None else {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a CSV table: {error}. Expected UTF-8 text. {advice}"
        ) from None
    if not set(needed) <= set(header) or len(set(header)) < len(header):
        raise InputError(
            f"{path}: expected {' and '.join(needed)} among the columns {', '.join(columns)}, none twice, "
            f"and commas between them; found {', '.join(map(repr, header)) or 'an empty file'}. Save it as a "
            "CSV file with these column names."
        )
    collected = Findings() if findings is None else findings
    for line in [line for line, row in rows.items() if any(row[len(header) :])]:
        place = f"{path} line {line}: {len(rows.pop(line))} cells, expected {len(header)}"
        collected.add("rows longer than the header", place, "Put names with a comma in quotes.")
    if frame is None:
        padded = [(row + [""] * len(header))[: len(header)] for row in rows.values()]
        frame = pd.DataFrame(padded, columns=header, index=list(rows), dtype=str)
    for column in columns:
        if column not in frame:
            frame[column] = float("nan") if column in NUMBERS else ""
    for column, (low, high) in RANGES.items():
        if column not in columns:
            continue
        numbers = pd.to_numeric(frame[column], errors="coerce")
        for line in frame.index[numbers.isna() & frame[column].notna() & (frame[column] != "")]:
            place = f"{path} line {line}: {column} is {frame.at[line, column]!r}"
            collected.add("cells that are not a number", place, "Correct them, or leave them empty.")
        for line in frame.index[numbers.notna() & ~numbers.between(low, high)]:
            place = f"{path} line {line}: {column} is {numbers[line]:g}, expected {low} to {high}"
            collected.add("numbers out of range", place, "Correct them, or leave them empty.")
        frame[column] = numbers
    if findings is None:
        collected.raise_if_any()
    return frame


def _plain_rows(content: bytes, header: list[str]) -> pd.DataFrame | None:
    """The rows by pandas.read_csv, several times faster than the csv module; it tells no line numbers.

    Args:
        content: bytes of the file.

    Returns:
        DataFrame as the csv module would give it; None where a row may be no line, or too long.
    """
    if (
        "images" not in header
        or len(set(header)) < len(header)
        or any(sign in content for sign in (b'"', b"\r", b"\0"))
    ):
        return None

    def read(dtype: Any) -> pd.DataFrame:
        options: Any = {"keep_default_na": False, "skip_blank_lines": False, "quoting": csv.QUOTE_NONE}
        return pd.read_csv(io.BytesIO(content), encoding="utf-8-sig", dtype=dtype, **options)

    try:
        frame = read({name: str for name in header if name not in NUMBERS})
        if any(frame[name].dtype.kind not in "iuf" for name in NUMBERS if name in frame):
            frame = read(str)  # empty cells, or such as are no number
    except pd.errors.ParserError:
        return None
    if not isinstance(frame.index, pd.RangeIndex):  # what rows have beyond the header became the index
        return None
    frame.columns, frame.index = header, frame.index + 2
    text = [name for name in header if frame[name].dtype.kind not in "iuf"]
    frame[text] = frame[text].fillna("")
    return frame[(frame[text] != "").any(axis=1) | frame.drop(columns=text).notna().any(axis=1)]


def _notes(train: Mapping[str, pd.DataFrame], description: Mapping[str, Any], root: Path) -> list[str]:
    notes = []
    if description and description.get("data_root") != str(root):
        notes.append(f"the manifests were made for {description.get('data_root')}; reading from {root}")
    for name, frame in train.items():
        repeats = int(frame["images"].duplicated().sum())
        if repeats:
            notes.append(
                f"subset {name}: {repeats} of {len(frame)} rows repeat an image (oversampling by hand)"
            )
    return notes
