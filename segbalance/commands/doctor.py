"""Looks for what is wrong with the machine and the data before training does, and shows it.

It changes nothing. Exit status: 2 where make_csv_file or training would refuse (an error was found; with
--strict a warning will do), 0 otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from segbalance.doctor.checkup import CheckupOptions, examine_data
from segbalance.doctor.diagnosis import Diagnosis
from segbalance.doctor.environment import examine_environment
from segbalance.doctor.examined import Examined
from segbalance.errors import InputError
from segbalance.files.writing import check_writable, write_atomically, write_json
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage


@dataclass(frozen=True)
class DoctorOptions(CheckupOptions):
    """Options of the doctor: what to look at, and what to make of it.

    Args:
        data_root: Folder of the data, in either layout; without it, only the machine is looked at.
        only: Look at the `environment` or the `data` alone.
        output: HTML page to write, with pictures of what was found.
        pictures: Findings of each kind that the page shows as pictures.
        json: File for the findings as JSON.
        strict: End with status 2 for warnings too.
    """

    data_root: str | None = None  # type: ignore[assignment]  # without it, no data is looked at
    only: Literal["environment", "data"] | None = None
    output: str | None = None
    pictures: int = 12
    json: str | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pictures < 0:
            raise InputError(f"pictures must be 0 or greater, got {self.pictures}")


def _print_report(diagnosis: Diagnosis, examined: Examined | None, facts: Mapping[str, str]) -> None:
    if facts:
        width = max(map(len, facts))
        print("\n".join(["environment", *(f"  {name:<{width}}  {text}" for name, text in facts.items()), ""]))
    if examined:
        print(f"data at {examined.data_root}\n  {_data_line(examined.rows)}\n")
    print(f"{diagnosis.text() or 'nothing was found'}\n\n{diagnosis.summary()}")


def _data_line(rows: pd.DataFrame) -> str:
    if not len(rows):
        return "no pair of image and mask was compared"
    sides = ", ".join(f"{count} {side or 'left out'}" for side, count in rows["split"].value_counts().items())
    return f"{len(rows)} pairs of image and mask compared: {sides}; {rows['type'].nunique()} subsets"


@command
def main(argv: list[str]) -> None:
    """Prints what was found; a page and JSON where asked for."""
    options = parse_options(DoctorOptions, argv, prog=usage("doctor"), description=__doc__)
    if options.only == "data" and not options.data_root:
        raise InputError("--data_root is missing: the folder of the data to look at")
    if options.data_root and not Path(options.data_root).is_dir():
        raise InputError(f"--data_root {options.data_root}: there is no such folder")
    for name in ("output", "json"):
        if getattr(options, name):
            check_writable(f"--{name}", Path(getattr(options, name)).parent)
    diagnosis, examined, facts = Diagnosis(), None, {}
    if options.only != "data":
        facts = examine_environment([Path(options.output or "runs").absolute().parent], diagnosis)
    if options.data_root and options.only != "environment":
        examined = examine_data(options, diagnosis)
    _print_report(diagnosis, examined, facts)
    if options.json:
        write_json(options.json, {"environment": facts, "findings": diagnosis.rows()})
    if options.output:
        from segbalance.doctor.gallery import (
            gallery_page,  # what it takes to draw, only where it is asked for
        )

        write_atomically(options.output, gallery_page(diagnosis, examined, facts, options.pictures))
        print(f"wrote {options.output}")
    if diagnosis.count("error") or (options.strict and diagnosis.count("warning")):
        raise InputError(f"{diagnosis.summary()}; see above")
