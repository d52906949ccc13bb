"""Compares runs on one page: scores with intervals, subsets, curves, and the options that differ.

    python scripts/compare_runs.py runs/first runs/second --output compare.html

The runs must have been evaluated, as train.py does at its end and scripts/evaluate.py does at any time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from segbalance.data_processing.tasks import CLEAN_IMAGES, FALSE_ALARMS, Task
from segbalance.errors import InputError
from segbalance.files.writing import check_output, json_text, write_together
from segbalance.reports.comparison import compared_runs, comparison_page
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage


@dataclass(frozen=True)
class CompareOptions:
    """Options of the comparison.

    Args:
        work_dirs: Folders of the runs, two or more; they may also stand at the beginning without the option's
            name.
        output: HTML file to write.
        json: JSON file of what the page shows.
    """

    work_dirs: list[str] = field(default_factory=list)
    output: str = "compare.html"
    json: str | None = None

    def __post_init__(self) -> None:
        if len(self.work_dirs) < 2:
            raise InputError(f"expected the folders of two or more runs, got {len(self.work_dirs)}")
        if len({Path(folder).resolve() for folder in self.work_dirs}) < len(self.work_dirs):
            raise InputError(f"a run is named twice: {', '.join(self.work_dirs)}")


def with_option_name(argv: list[str]) -> list[str]:
    """The command line with --work_dirs in front of folders that stand at its beginning."""
    return ["--work_dirs", *argv] if argv and not argv[0].startswith("-") else argv


def _subset_scores(row: Mapping[str, Any], main: str) -> dict[str, Any]:
    """The scores of a subset that are printed, by name: those of false alarms where it has no foreground."""
    if CLEAN_IMAGES in row:
        return {name: f"{row[name]:{form}}" for name, form in FALSE_ALARMS.items()}
    return {main: row[main]} if main in row else {}


def score_table(runs: Sequence[Mapping[str, Any]], kind: Task) -> str:
    """The printed table of runs of one task."""
    main = kind.main
    shown = (main, f"{main}_low", f"{main}_high", "f1", "boundary_iou")
    rows = [
        {"run": run["name"], "images": run["all"]["images"]}
        | {name: run["all"][name] for name in shown if name in run["all"]}
        | {
            f"{score} {name}": value
            for name, row in run["subsets"].items()
            for score, value in _subset_scores(row, main).items()
        }
        for run in runs
    ]
    table = pd.DataFrame(rows).rename(columns=lambda name: name.replace("_", " "))
    return table.to_string(index=False, float_format="{:.3f}".format, na_rep="-")


@command
def main(argv: list[str]) -> None:
    """Writes the comparison."""
    options = parse_options(
        CompareOptions, with_option_name(argv), prog=usage("compare"), description=__doc__
    )
    check_output("--output", options.output)
    if options.json:
        check_output("--json", options.json)
    figures, configs, histories = compared_runs(options.work_dirs)
    files: dict[Path, str | bytes] = {Path(options.output): comparison_page(figures, configs, histories)}
    if options.json:
        files[Path(options.json)] = json_text(figures)
    for warning in figures["warnings"]:
        print(f"warning: {warning}")
    print(score_table(figures["runs"], configs[0].kind))
    write_together(files)
    print("\n".join(f"wrote {path}" for path in files))
