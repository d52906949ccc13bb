"""Several runs on one page: scores side by side, curves over each other, and the options that differ."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

from segbalance.data_processing.tasks import CLEAN_IMAGES, FALSE_ALARMS, SCORE_NAMES
from segbalance.errors import Findings, InputError
from segbalance.evaluation.of_a_run import read_evaluation
from segbalance.reports.charts import FRAME, Chart, Line, tenth_below
from segbalance.reports.pages import pointer_part, render
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config
from segbalance.train.folder import METRICS, read_history

SECTIONS = {
    "scores": "Scores", "classes": "Classes", "subsets": "Subsets", "no_foreground": "Without foreground",
    "curves": "Curves", "options": "Options",
}  # fmt: skip
NOT_COMPARED = ("work_dir",)  # options that differ between any two runs

Run = dict[str, Any]  # what the JSON file has of a run


def compared_runs(
    work_dirs: Sequence[str | Path],
) -> tuple[dict[str, Any], list[TrainConfig], list["pd.DataFrame"]]:
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
    configs, histories, epochs, evaluations = map(list, zip(*parts, strict=True))
    kinds = {(config.kind, *config.filled_in.classes) for config in configs}
    if len(kinds) > 1:
        lines = [f"{folder}  {_kind(config)}" for folder, config in zip(work_dirs, configs, strict=True)]
        raise InputError("the runs have different classes; expected the same in all:\n" + "\n".join(lines))
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
        | {name: evaluation[name] for name in ("false_alarms",) if name in evaluation}
        for name, folder, epoch, evaluation in zip(
            run_names(work_dirs), work_dirs, epochs, evaluations, strict=True
        )
    ]
    figures = {"runs": runs, "warnings": list(_warnings(runs, configs)), "differences": differences(configs)}
    return figures, configs, histories


def _kind(config: TrainConfig) -> str:
    return f"{config.kind.name}, {', '.join(config.filled_in.classes) or 'background and foreground'}"


def _read_run(folder: str | Path) -> tuple[TrainConfig, "pd.DataFrame", int, dict[str, Any]]:
    config, history, evaluation = load_config(folder), read_history(folder), read_evaluation(folder)
    try:
        epoch = json.loads(Path(folder, METRICS).read_text(encoding="utf-8"))["epoch"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} has no readable {METRICS}: {error}. Name the folder of a finished run."
        ) from None
    return config, history, epoch, evaluation


def run_names(work_dirs: Sequence[str | Path]) -> list[str]:
    """The folders' own names, or their whole paths where two are called the same."""
    names = [Path(folder).resolve().name for folder in work_dirs]
    return names if len(set(names)) == len(names) else [str(folder) for folder in work_dirs]


def _warnings(runs: Sequence[Run], configs: Sequence[TrainConfig]) -> Iterator[str]:
    if len({run["fingerprint"] for run in runs}) > 1:
        yield (
            "The validation data differ: the runs were scored on different images or masks. Do not compare "
            "their scores."
        )
    if len({run["threshold"] for run in runs}) > 1:
        yield "The runs were scored at different thresholds."
    if len({config.network.image_size for config in configs}) > 1:
        yield (
            "The runs have different input sizes, and pixels are counted at the input size. Ignore small "
            "differences."
        )
    if len({config.filled_in.fingerprint for config in configs}) > 1:
        yield "The runs were trained on different rows."


def differences(configs: Sequence[TrainConfig]) -> list[dict[str, Any]]:
    """Options in which the configs differ: {option, values} with the values as text."""
    rows = [config.options() for config in configs]
    return [
        {"option": option, "values": [str(row[option]) for row in rows]}
        for option in rows[0]
        if option not in NOT_COMPARED and any(row[option] != rows[0][option] for row in rows)
    ]


def comparison_page(
    figures: dict[str, Any], configs: Sequence[TrainConfig], histories: Sequence["pd.DataFrame"]
) -> str:
    """The page as text; all arguments of `compared_runs`."""
    names = [run["name"] for run in figures["runs"]]
    config = configs[0]
    kind = config.kind
    left_out = [*kind.left_out, *([] if _subsets(figures["runs"], empty=True) else ["no_foreground"])]
    return render(
        "compare.html",
        figures,
        task=kind,
        sections={name: text for name, text in SECTIONS.items() if name not in left_out},
        tables=[make(figures["runs"], config) for name, make in TABLES.items() if name not in left_out],
        charts=[
            overlaid(
                names, histories, f"val_{kind.main}", f"Validation {SCORE_NAMES[kind.main]}", up_to_one=True
            ),
            overlaid(names, histories, "val_f1", "Validation F1", up_to_one=True),
            overlaid(names, histories, "val_loss", "Validation loss"),
            overlaid(names, histories, "loss", "Training loss"),
        ],
        frame=FRAME,
    )


def _class_table(runs: Sequence[Run], config: TrainConfig) -> dict[str, Any]:
    """The scores of each class, as the page's tables take them."""
    score, rows = config.kind.class_score, []
    for number, name in enumerate(config.filled_in.classes):
        places = [f"/runs/{run}/all/classes/{number}" for run in range(len(runs))]
        best = _best_runs([run["all"]["classes"][number][score] for run in runs])
        rows.append(_table_row(name, places, best, score))
    name = SCORE_NAMES[score]
    title = f"{name[0].upper()}{name[1:]} of the classes"
    head = {"anchor": "classes", "title": title, "label": "Scores of the classes", "head": "class"}
    return head | {"rows": rows}


def _table_row(
    name: str,
    places: Sequence[str | None],
    best: list[int],
    score: str,
    form: str = ".3f",
    with_bounds: bool = True,
) -> dict[str, Any]:
    """A row of the page's tables: its name, where each run's score lies, and which of them are the best."""
    own = {"name": name, "places": places, "best": best}
    return own | {"score": score, "form": form, "with_bounds": with_bounds}


def _subset_table(runs: Sequence[Run], config: TrainConfig) -> dict[str, Any]:
    """The IoU of each subset, as the page's tables take it; no place where a run has no such subset."""
    rows = []
    for subset in _subsets(runs, empty=False):
        places = _places(runs, subset, empty=False)
        best = _best_runs([run["subsets"].get(subset, {}).get("iou") for run in runs])
        rows.append(_table_row(subset, places, best, "iou"))
    title = "IoU of the subsets"
    return {"anchor": "subsets", "title": title, "label": title, "head": "subset", "rows": rows}


def _empty_table(runs: Sequence[Run], config: TrainConfig) -> dict[str, Any]:
    """The false alarms in each subset without foreground, and the IoU of all without them."""
    rows = []
    for subset in _subsets(runs, empty=True):
        places = _places(runs, subset, empty=True)
        for score, form in FALSE_ALARMS.items():
            scores = [run["subsets"].get(subset, {}).get(score) for run in runs]
            # Of the images without a false alarm the highest is the best, of the pixels found the lowest.
            signs = [None if own is None else own if score == CLEAN_IMAGES else -own for own in scores]
            name = f"{subset}: {SCORE_NAMES[score]}"
            rows.append(_table_row(name, places, _best_runs(signs), score, form))
    lost = [
        f"/runs/{number}/false_alarms" if "false_alarms" in run else None for number, run in enumerate(runs)
    ]
    best = _best_runs([run.get("false_alarms", {}).get("iou_without") for run in runs])
    rows.append(
        _table_row("IoU of all without their false alarms", lost, best, "iou_without", with_bounds=False)
    )
    title = "Subsets without foreground"
    return {"anchor": "no_foreground", "title": title, "label": title, "head": "subset", "rows": rows}


def _subsets(runs: Sequence[Run], *, empty: bool) -> list[str]:
    """Names of the subsets that are without foreground, or not, in any of the runs."""
    rows = [own for run in runs for own in run["subsets"].items()]
    return [*dict.fromkeys(name for name, row in rows if (CLEAN_IMAGES in row) == empty)]


def _places(runs: Sequence[Run], subset: str, *, empty: bool) -> list[str | None]:
    """Where the rows of a subset lie; None where a run has none of this kind."""
    return [
        f"/runs/{number}/subsets/{pointer_part(subset)}" if subset in _subsets([run], empty=empty) else None
        for number, run in enumerate(runs)
    ]


TABLES: dict[str, Callable[[Sequence[Run], TrainConfig], dict[str, Any]]] = {
    "classes": _class_table,
    "subsets": _subset_table,
    "no_foreground": _empty_table,
}


def _best_runs(scores: Sequence[float | None]) -> list[int]:
    """Numbers of the runs with the highest of their scores, None among them."""
    highest = max((score for score in scores if score is not None), default=None)
    return [number for number, score in enumerate(scores) if score is not None and score == highest]


def overlaid(
    names: Sequence[str],
    histories: Sequence["pd.DataFrame"],
    column: str,
    title: str,
    up_to_one: bool = False,
) -> Chart:
    """Chart of one column of several histories; of a score, `up_to_one`."""
    lines = [
        Line(name, history["epoch"].tolist(), [v if math.isfinite(v) else None for v in history[column]])
        for name, history in zip(names, histories, strict=True)
    ]
    y_range = (tenth_below([value for line in lines for value in line.y]), 1) if up_to_one else None
    return Chart(title, "epoch", title.split()[-1], lines, y_range=y_range, whole_x=True)
