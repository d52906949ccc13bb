"""Many photos from the first to the last: the places of their outputs, and the tables of what was found.

predictions.csv has a row a photo. failed.csv has those that could not be read, and is not there without any.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from segbalance.errors import Findings
from segbalance.files.photo_search import find_photos
from segbalance.files.writing import check_writable, write_together
from segbalance.prediction.many_photos import BadPhoto, Job
from segbalance.prediction.output import OutputChoice
from segbalance.runtime.progress import progress_of

PREDICTIONS, FAILURES = "predictions.csv", "failed.csv"

# (path of a photo, values of its row behind `cells`), one after the other.
Results = Generator[tuple[str | Path, BadPhoto | tuple[str | float, ...]], None, None]


class Tables(NamedTuple):
    """What is found of many photos.

    Args:
        predictions: a row for each that was predicted.
        failures: image and reason of each that could not be read.
    """

    predictions: pd.DataFrame
    failures: pd.DataFrame


def planned_jobs(
    images: Iterable[str], output: str | Path, choice: OutputChoice | None, overwrite: bool = False
) -> list[Job]:
    """The job of every photo.

    Args:
        images: files, folders and globs, as `find_photos` takes them.
        output: folder of the outputs and tables.
        choice: None where photos have no files of their own.
        overwrite: whether outputs that are there may be replaced.

    Raises:
        InputError: a photo has no place, or one would be replaced unasked.
    """
    photos = find_photos(images, output)
    jobs: list[Job] = [(photo.path, choice.places(output, photo.name) if choice else {}) for photo in photos]
    findings = Findings()
    tables = [Path(output, name) for name in (PREDICTIONS, FAILURES)]
    for place in [*tables, *(place for _, places in jobs for place in places.values())]:
        if place.is_dir():
            findings.add("outputs where a folder stands", place, "Choose another --output.")
        elif place.exists() and not overwrite:
            advice = "Choose another --output, or pass --overwrite to replace them."
            findings.add("outputs that already exist", place, advice)
    findings.raise_if_any()
    check_writable("--output", output)
    return jobs


def collected(
    results: Results,
    count: int,
    columns: Sequence[str],
    cells: Callable[[str | Path], tuple[object, ...]],
    output: str | Path,
) -> Tables:
    """Goes through results and writes the tables, also of what an interruption leaves behind.

    Args:
        count: of the results.
        columns: of the predictions.
        cells: gives what stands before the values in the row of a photo.
        output: folder of the tables.
    """
    rows: list[tuple[object, ...]] = []
    failures: list[tuple[str | Path, str]] = []
    try:
        for path, values in progress_of(results, "predicting", count, "photo"):
            if isinstance(values, BadPhoto):
                failures.append((path, str(values)))
            else:
                rows.append((*cells(path), *values))
    except KeyboardInterrupt:
        results.close()
        _write_tables(_tables(rows, columns, failures), output)
        raise
    tables = _tables(rows, columns, failures)
    _write_tables(tables, output)
    return tables


def _tables(
    rows: Sequence[tuple[object, ...]], columns: Sequence[str], failures: Sequence[tuple[str | Path, str]]
) -> Tables:
    return Tables(
        pd.DataFrame(rows, columns=list(columns)), pd.DataFrame(failures, columns=["image", "reason"])
    )


def _write_tables(tables: Tables, output: str | Path) -> None:
    texts = [table.to_csv(index=False, lineterminator="\n", float_format="%.6g") for table in tables]
    write_together({Path(output, PREDICTIONS): texts[0]})
    if len(tables.failures):
        write_together({Path(output, FAILURES): texts[1]})
    else:
        Path(output, FAILURES).unlink(missing_ok=True)  # of an earlier call
