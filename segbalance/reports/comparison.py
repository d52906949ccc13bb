"""Several runs on one page: scores side by side, curves over each other, and the options that differ."""

import json
import math
from pathlib import Path

from segbalance.errors import Findings, InputError
from segbalance.evaluation.of_a_run import read_evaluation
from segbalance.reports.charts import FRAME, Chart, Line, tenth_below
from segbalance.reports.pages import render
from segbalance.reports.report import CLASS_TILES, CLASSIFICATION_TILES
from segbalance.train.config_file import load_config
from segbalance.train.folder import METRICS, main_score, read_history

SCORES = {
    "iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall", "boundary_iou": "boundary IoU",
    "image_iou": "mean IoU of images",
}  # fmt: skip
NOT_COMPARED = ("work_dir",)  # options that differ between any two runs


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
    kinds = {(config.is_classification, *config.filled_in.classes) for config in configs}
    if len(kinds) > 1:
        lines = [f"{folder}  {_kind(config)}" for folder, config in zip(work_dirs, configs, strict=True)]
        raise InputError("the runs are for different classes; expected the same:\n" + "\n".join(lines))
    runs = [
        {
            "name": name,
            "work_dir": str(folder),
            "epoch": epoch,
            "threshold": evaluation.get("threshold"),
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


def _kind(config):
    classes = ", ".join(config.filled_in.classes) or "background and foreground"
    return f"{config.data.task or 'segmentation'}, {classes}"


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
    if len({config.network.image_size for config in configs}) > 1:
        yield (
            "The runs have different input sizes, at which the pixels are counted: small differences mean "
            "little."
        )
    if len({config.filled_in.fingerprint for config in configs}) > 1:
        yield "The runs were trained on different rows."


def differences(configs):
    """Options in which the configs differ: a list of {option, values} with the values as text."""
    rows = [config.options() for config in configs]
    return [
        {"option": option, "values": [str(row[option]) for row in rows]}
        for option in rows[0]
        if option not in NOT_COMPARED and any(row[option] != rows[0][option] for row in rows)
    ]


def comparison_page(figures, configs, histories):
    """The page as text; all arguments of `compared_runs`."""
    names = [run["name"] for run in figures["runs"]]
    config, history = configs[0], histories[0]
    subsets = list(dict.fromkeys(name for run in figures["runs"] for name in run["subsets"]))
    scores = (
        CLASSIFICATION_TILES
        if config.is_classification
        else CLASS_TILES
        if config.filled_in.classes
        else SCORES
    )
    score = "recall" if config.is_classification else "iou"
    title = {"iou": "Validation IoU", "balanced_accuracy": "Validation balanced accuracy"}
    main = main_score(history).removeprefix("val_")
    return render(
        "compare.html",
        figures,
        subsets=subsets,
        best={subset: _best_runs([_of_subset(run, subset) for run in figures["runs"]]) for subset in subsets},
        config=config,
        scores=scores,
        main=main,
        class_score=score,
        class_best=[
            _best_runs([run["all"]["classes"][number][score] for run in figures["runs"]])
            for number in range(len(config.filled_in.classes))
        ],
        charts=[
            overlaid(names, histories, main_score(history), title[main], up_to_one=True),
            overlaid(names, histories, "val_f1", "Validation F1", up_to_one=True),
            overlaid(names, histories, "val_loss", "Validation loss"),
            overlaid(names, histories, "loss", "Training loss"),
        ],
        frame=FRAME,
    )


def _of_subset(run, subset):
    return run["subsets"].get(subset, {}).get("iou")


def _best_runs(scores):
    """Numbers of the runs with the highest of their scores, None among them."""
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
