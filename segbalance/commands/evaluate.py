"""Scores of a run's best weights: over the data, for every subset and image, and at every threshold.

    python scripts/evaluate.py --work_dir runs/first
    python scripts/evaluate.py --work_dir runs/first --split test --threshold best
    python scripts/evaluate.py --work_dir runs/first --fail_below iou=0.8 worst_iou=0.6

Masks are compared at the model's input size, as in training. The weakest subset and the worst images come
first; evaluation_<split>.json and .csv in the run folder hold everything.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from segbalance.data_processing.tasks import (
    ALARM_WORDS,
    CLASSES,
    CLASSIFICATION,
    CLEAN_IMAGES,
    FALSE_ALARMS,
    FOREGROUND,
    SCORE_NAMES,
    THRESHOLD,
    Task,
)
from segbalance.errors import InputError
from segbalance.evaluation.gates import BELOW, check_gates, check_names, parse_gates
from segbalance.evaluation.of_a_run import (
    BEST_THRESHOLD,
    chosen_threshold,
    evaluated,
    held_out_manifest,
    output_files,
    report_files,
    scoring_problems,
    task_of_report,
)
from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.files.writing import check_output, write_together
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage
from segbalance.train.folder import check_weights, trusted_config

Row = Mapping[str, Any]  # of the report: the scores of a subset, of a class or of all

WITH_BOUNDS = ("iou", "f1", "boundary_iou")  # scores printed with their intervals
WORST_IMAGES = {
    FOREGROUND: ["iou", "boundary_iou", "subset", "images"],
    CLASSES: ["iou", "accuracy", "subset", "images"],
    CLASSIFICATION: ["probability", "label", "found", "images"],
}


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of the evaluation.

    Args:
        work_dir: Folder of the run.
        split: Images to score, by the manifests that the run's config.yaml names.
        csv: Any other table in the format of the manifests, in place of --split.
        threshold: Probability above which a pixel counts as found, from 0 up to 1; `best` takes the one with
            the highest IoU on the validation images, from evaluation_valid.json. Not for several classes, of
            which the most probable one is found.
        batch_size: Images at once; the run's by default.
        data_root: Folder of the data where it has moved since; the one in config.yaml by default.
        allow_outside: Read files that rows name out of the data root, by `..` or a symbolic link.
        max_pixels: Most pixels of an image or mask, by its header; larger files are not decoded.
        json: JSON file of the scores; <work_dir>/evaluation_<split>.json by default.
        csv_output: CSV file with a row an image; <work_dir>/evaluation_<split>.csv by default.
        fail_below: Scores that have to be reached, as in iou=0.8 worst_iou=0.6, where `worst_` means the
            subset with the lowest. If one is not, the status is 3; everything is written all the same.
    """

    work_dir: str
    split: Literal["valid", "test"] = "valid"
    csv: str | None = None
    threshold: float | Literal["best"] = THRESHOLD
    batch_size: int | None = None
    data_root: str | None = None
    allow_outside: bool = False
    max_pixels: int = MAX_PIXELS
    json: str | None = None
    csv_output: str | None = None
    fail_below: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        problems = list(scoring_problems(self))
        if self.csv is not None and self.split != "valid":
            problems.append("--csv and --split exclude each other; give only one of them")
        try:
            parse_gates(self.fail_below)
        except InputError as error:
            problems.append(str(error))
        if any(problems):
            raise InputError("\n".join(filter(None, problems)))


def score_table(rows: Iterable[Row]) -> str:
    """The printed table of scores, from `all` and `subsets` of the report."""
    shown = [
        {"subset": row["subset"], "images": row["images"]} | score_cells(row, FOREGROUND.compared)
        for row in rows
    ]
    return pd.DataFrame(shown).to_string(index=False)


def score_cells(row: Row, scores: Iterable[str]) -> dict[str, str]:
    """{name: text} of some scores of a row."""
    return {
        SCORE_NAMES[score]: with_interval(row, score) if score in WITH_BOUNDS else number(row[score])
        for score in scores
    }


def number(value: float | None, form: str = ".3f") -> str:
    """A score, a dash for none."""
    return "-" if value is None else f"{value:{form}}"


def with_interval(row: Row, name: str, form: str = ".3f") -> str:
    """A score and the bounds of its interval, if it has one."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return number(row[name], form) + ("" if low is None else f" ({low:{form}} to {high:{form}})")


def class_score_table(rows: Iterable[Row], means: Mapping[str, str]) -> str:
    """The printed table of the subsets' scores, means over the classes, from a report of several classes.

    Args:
        means: {score: its name}.
    """
    shown = [
        {"subset": row["subset"], "images": row["images"]}
        | {text: with_interval(row, name) for name, text in means.items()}
        for row in rows
    ]
    return pd.DataFrame(shown).to_string(index=False)


def class_table(rows: Iterable[Row], scores: Iterable[str]) -> str:
    """The printed table of the classes, from `classes` of a summary in the report."""
    shown = [
        {"class": row["class"]}
        | score_cells(row, scores)
        | {"true share": f"{row['true_share']:.2%}", "found share": f"{row['found_share']:.2%}"}
        for row in rows
    ]
    return pd.DataFrame(shown).to_string(index=False)


def describe_foreground(report: dict[str, Any], kind: Task) -> Iterator[str]:
    """What is printed of one foreground."""
    yield score_table(_rows_with_foreground(report))
    yield from _false_alarms(report)
    yield _intervals(report)
    yield f"empty masks: {report['empty_masks']}"
    best = report["best_threshold"]
    yield (
        f"threshold {report['threshold']:g}; the best for IoU on these images would be "
        f"{best['threshold']:g} (IoU {best['iou']:.3f})"
    )
    yield from _worst_images(report, kind)


def describe_classes(report: dict[str, Any], kind: Task) -> Iterator[str]:
    """What is printed of masks of several classes."""
    yield class_table(report["all"]["classes"], kind.class_columns)
    yield f"\n{class_score_table(_rows_with_foreground(report), kind.means)}"
    yield from _false_alarms(report)
    yield from _after_classes(report, kind)


def describe_labels(report: dict[str, Any], kind: Task) -> Iterator[str]:
    """What is printed of a classification, whose subsets are its classes."""
    yield class_table(report["all"]["classes"], kind.class_columns)
    yield f"\n{class_score_table([{'subset': 'all'} | report['all']], kind.means)}"
    yield from _after_classes(report, kind)


def _rows_with_foreground(report: dict[str, Any]) -> list[Row]:
    """The subsets that have foreground, or no images, and all together."""
    rows = [row for row in report["subsets"] if CLEAN_IMAGES not in row]
    return [*rows, {"subset": "all"} | report["all"]]


def _false_alarms(report: dict[str, Any]) -> Iterator[str]:
    """The subsets without foreground, and what they cost the IoU of all."""
    rows = [row for row in report["subsets"] if CLEAN_IMAGES in row]
    if not rows:
        return
    shown = [
        {"subset": row["subset"], "images": row["images"]}
        | {name: with_interval(row, name, form) for name, form in FALSE_ALARMS.items()}
        for row in rows
    ]
    loss = report["false_alarms"]
    yield f"\n{pd.DataFrame(shown).to_string(index=False)}"
    yield f"{ALARM_WORDS}; the interval of clean_images is Wilson's"
    yield (
        f"their false alarms cost {loss['iou_lost']:.3f} of the IoU of all, which would be "
        f"{loss['iou_without']:.3f} without them\n"
    )


def _after_classes(report: dict[str, Any], kind: Task) -> Iterator[str]:
    yield _intervals(report)
    yield f"without a score: {report['absent_classes']}"
    yield from _worst_images(report, kind)


def _intervals(report: dict[str, Any]) -> str:
    return f"in parentheses: {report['confidence']:.0%} bootstrap intervals over the images"


def _worst_images(report: dict[str, Any], kind: Task) -> Iterator[str]:
    yield f"\nworst {len(report['worst'])} images"
    worst = pd.DataFrame(report["worst"], columns=WORST_IMAGES[kind])
    yield worst.rename(columns=lambda name: name.replace("_", " ")).to_string(
        index=False, float_format="{:.3f}".format, na_rep="-"
    )


DESCRIBE = {FOREGROUND: describe_foreground, CLASSES: describe_classes, CLASSIFICATION: describe_labels}


def describe(report: dict[str, Any]) -> Iterator[str]:
    """What is printed."""
    kind = task_of_report(report)
    return DESCRIBE[kind](report, kind)


@command
def main(argv: list[str]) -> None:
    """Writes and prints the scores."""
    options = parse_options(EvaluateOptions, argv, prog=usage("evaluate"), description=__doc__)
    config, gates = trusted_config(options), parse_gates(options.fail_below)
    check_names(gates, config.kind)
    check_weights(options.work_dir)
    threshold = chosen_threshold(options.threshold, options.work_dir)
    manifest = held_out_manifest(config, options.split, options.csv, options.data_root)
    json_path, csv_path = output_files(options.work_dir, options.split, options.csv)
    json_path, csv_path = Path(options.json or json_path), Path(options.csv_output or csv_path)
    check_output("--json", json_path)
    check_output("--csv_output", csv_path)
    from segbalance.prediction.predictor import RunPredictor  # TensorFlow, after the input has been checked

    predict = RunPredictor(options.work_dir)
    place = {"csv": options.csv} if options.csv else {"split": options.split}
    evaluation, report = evaluated(
        config, manifest, predict, threshold=threshold, batch_size=options.batch_size, **place
    )
    print("\n".join(describe(report)))
    if options.threshold == BEST_THRESHOLD and not options.csv and options.split == "valid":
        print("note: the threshold was chosen on these very images, which flatters the scores a little")
    write_together(report_files(report, evaluation, json_path, csv_path))
    print(f"wrote {json_path} and {csv_path}")
    lines, passed = check_gates(gates, report)
    print("".join(f"{line}\n" for line in lines), end="")
    if not passed:
        raise SystemExit(BELOW)
