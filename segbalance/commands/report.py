"""Writes the report of a run: one page with its scores, curves and pictures, which needs no network.

train.py does so at its end; this makes the page again, as with another threshold or after the data has moved.
It evaluates the best weights on the validation images and writes evaluation_valid.json and .csv too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segbalance.data_processing.tasks import SCORE_NAMES, THRESHOLD
from segbalance.errors import InputError
from segbalance.evaluation.of_a_run import check_classes, chosen_threshold, scoring_problems
from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.files.writing import check_output
from segbalance.reports.report import REPORT, write_report
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.train.folder import check_weights, trusted_config
from segbalance.train.inputs import read_data


@dataclass(frozen=True)
class ReportOptions:
    """Options of the report.

    Args:
        work_dir: Folder of the run.
        threshold: Probability above which a pixel counts as found, from 0 up to 1; `best` takes the one that
            evaluation_valid.json names. Not for several classes.
        batch_size: Images at once; the run's by default.
        data_root: Folder of the data where it has moved since; the one in config.yaml by default.
        transforms: The transforms of the run once more, where not all are built in, or the Python file that
            they come from: code is not run on the word of a run folder, which may come from elsewhere.
        allow_outside: Read files that rows name out of the data root, by `..` or a symbolic link.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
        output: HTML file to write; <work_dir>/report.html by default.
    """

    work_dir: str
    threshold: float | Literal["best"] = THRESHOLD
    batch_size: int | None = None
    data_root: str | None = None
    transforms: dict[str | int, str] | str | None = None
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS
    output: str | None = None

    def __post_init__(self) -> None:
        problems = list(scoring_problems(self))
        if any(problems):
            raise InputError("\n".join(filter(None, problems)))


@command
def main(argv: list[str], transforms_file: str | Path | None = None) -> None:
    """Writes the report."""
    options = parse_options(ReportOptions, argv, prog=usage("report"), description=__doc__)
    config = trusted_config(options, transforms_file)
    check_weights(options.work_dir)
    threshold = chosen_threshold(options.threshold, options.work_dir)
    check_output("--output", options.output or Path(options.work_dir, REPORT))
    manifest = read_data(config, missing_train=True)
    check_classes(config, manifest)
    page, evaluation = write_report(
        config, manifest, threshold=threshold, batch_size=options.batch_size, output=options.output
    )
    scores = {name: evaluation["all"].get(name) for name in config.kind.told}
    told = [f"{SCORE_NAMES[name]} {score:.3f}" for name, score in scores.items() if score is not None]
    print(", ".join(told))
    print(f"wrote {page}")
