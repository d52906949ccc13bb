"""Several runs on one page: scores side by side, curves over each other, and the options that differ."""

import dataclasses
import json
import math
from pathlib import Path

from charts import FRAME, Chart, Line, tenth_below
from config import load_config
from errors import Findings, InputError
from pages import render
from run_evaluation import read_evaluation
from run_folder import METRICS, read_history

NOT_COMPARED = ("work_dir", "fingerprint")  # options that differ between any two runs, or are told in words


def compared_runs(work_dirs):
    """What the page and the JSON file show, in plain types.

    Args:
        work_dirs: folders of finished and evaluated runs.

    Returns:
        (figures, configs, histories), each but the first a list in the order of `work_dirs`.

    Raises:
        InputError: everything that is missing in the folders.
    """
    findings, parts = Findings(), []
    for folder in work_dirs:
        try:
            parts.append(_read_run(folder))
        except InputError as error:
            findings.add("folders that cannot be compared", error, "Name the folders of finished runs.")
    findings.raise_if_any()
    configs, histories, epochs, evaluations = (list(part) for part in zip(*parts, strict=True))
    runs = [
        {
            "name": name,
            "work_dir": str(folder),
            "epoch": epoch,
            "threshold": evaluation["threshold"],
            "fingerprint": evaluation["fingerprint"],
            "all": evaluation["all"],
            "subsets": {row["subset"]: row for row in evaluation["subsets"]},
        }
        for name, folder, epoch, evaluation in zip(
            run_names(work_dirs), work_dirs, epochs, evaluations, strict=True
        )
    ]
    figures = {"runs": runs, "warnings": list(_warnings(runs, configs)), "differences": differences(configs)}
    return figures, configs, histories


def _read_run(folder):
    config, history, evaluation = load_config(folder), read_history(folder), read_evaluation(folder)
    try:
        epoch = json.loads(Path(folder, METRICS).read_text(encoding="utf-8"))["epoch"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} has no {METRICS} that can be read: {error}") from None
    return config, history, epoch, evaluation


def run_names(work_dirs):
    """The folders' own names, or their whole paths where two are called the same."""
    names = [Path(folder).resolve().name for folder in work_dirs]
    return names if len(set(names)) == len(names) else [str(folder) for folder in work_dirs]


def _warnings(runs, configs):
    if len({run["fingerprint"] for run in runs}) > 1:
        yield (
            "The validation data differ: the runs were scored on other images or masks, so their scores are "
            "not comparable."
        )
    if len({run["threshold"] for run in runs}) > 1:
        yield "The runs were scored at different thresholds."
    if len({config.image_size for config in configs}) > 1:
        yield (
            "The runs have different input sizes, at which the pixels are counted: small differences mean "
            "little."
        )
    if len({config.fingerprint for config in configs}) > 1:
        yield "The runs were trained on different rows."


def differences(configs):
    """Options in which the configs differ: a list of {option, values} with the values as text."""
    rows = [dataclasses.asdict(config) for config in configs]
    return [
        {"option": option, "values": [str(row[option]) for row in rows]}
        for option in rows[0]
        if option not in NOT_COMPARED and any(row[option] != rows[0][option] for row in rows)
    ]


def comparison_page(figures, histories):
    """The page as text; `figures` and `histories` of `compared_runs`."""
    names = [run["name"] for run in figures["runs"]]
    subsets = list(dict.fromkeys(name for run in figures["runs"] for name in run["subsets"]))
    return render(
        "compare.html",
        figures,
        subsets=subsets,
        best={subset: _best_runs(figures["runs"], subset) for subset in subsets},
        charts=[
            overlaid(names, histories, "val_iou", "Validation IoU", up_to_one=True),
            overlaid(names, histories, "val_f1", "Validation F1", up_to_one=True),
            overlaid(names, histories, "val_loss", "Validation loss"),
            overlaid(names, histories, "loss", "Training loss"),
        ],
        frame=FRAME,
    )


def _best_runs(runs, subset):
    """Numbers of the runs with the highest IoU of a subset."""
    scores = [run["subsets"].get(subset, {}).get("iou") for run in runs]
    highest = max((score for score in scores if score is not None), default=None)
    return [number for number, score in enumerate(scores) if score is not None and score == highest]


def overlaid(names, histories, column, title, up_to_one=False):
    """Chart of one column of several histories (DataFrame); of a score, `up_to_one`."""
    lines = [
        Line(name, history["epoch"].tolist(), [v if math.isfinite(v) else None for v in history[column]])
        for name, history in zip(names, histories, strict=True)
    ]
    y_range = (tenth_below([value for line in lines for value in line.y]), 1) if up_to_one else None
    return Chart(title, "epoch", title.split()[-1], lines, y_range=y_range, whole_x=True)
