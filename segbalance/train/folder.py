"""What a run leaves behind: config.yaml, history.csv, best and last weights, metrics.json, curves.png."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from segbalance.data_processing.tasks import (
    ALARM_WORDS,
    CLEAN_IMAGES,
    FALSE_ALARMS,
    SCORE_NAMES,
    task_of_history,
)
from segbalance.errors import InputError
from segbalance.files.writing import write_atomically
from segbalance.train.best_by import best_by_of, score_name
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import CONFIG, load_config
from segbalance.train.kept_file import source_warnings
from segbalance.train.trust import Choice, trusted_transforms

HISTORY, METRICS, CURVES = "history.csv", "metrics.json", "curves.png"
BEST, LAST = "best.weights.h5", "last.weights.h5"

History = pd.DataFrame | Mapping[str, Any]  # history.csv, or a row of it or logs, with its columns


class RunChoice(Protocol):
    """The options by which a script names a run; some have `data_root` and `transforms` as well."""

    @property
    def work_dir(self) -> str: ...
    @property
    def allow_outside(self) -> bool: ...
    @property
    def max_pixels(self) -> int: ...


def trusted_config(options: RunChoice, clones_file: str | Path | None = None) -> TrainConfig:
    """The config of a run, with what only the user may decide taken from the options of a script.

    Args:
        options: data_root and transforms as far as there are such.
        clones_file: the transforms.py of the clone that the script was started from, if any.

    Raises:
        InputError: the folder holds no run, or its transforms are code that --transforms does not name.
    """
    config = load_config(options.work_dir)
    own: dict[str, Any] = {
        "work_dir": options.work_dir,
        "allow_outside": options.allow_outside,
        "max_pixels": options.max_pixels,
    }
    if data_root := getattr(options, "data_root", None):
        own["data_root"] = data_root
    if hasattr(options, "transforms"):
        own["transforms"] = _trusted_transforms(options.transforms, config, options.work_dir, clones_file)
    return config.replace(**own)


def _trusted_transforms(
    given: Choice | None, config: TrainConfig, work_dir: str | Path, clones_file: str | Path | None
) -> dict[str, str]:
    from segbalance.transforms.choice import choose_transforms  # Albumentations takes half a second

    trusted = trusted_transforms(config.data.transforms, given, Path(work_dir, CONFIG))
    names, _ = choose_transforms(trusted, clones_file)
    if names != config.data.transforms:
        print("warning: --transforms are not those of the run: training may have seen other pixels")
    for warning in source_warnings(config.filled_in.transforms_source, names.values()):
        print(warning)
    return names


def check_weights(work_dir: str | Path) -> None:
    """Raises InputError where a run has no best weights, before the time for its network is spent."""
    path = Path(work_dir, BEST)
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected the weights of a finished run")


def history_row(epoch: int, logs: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """One row of history.csv from Keras' logs, in the order of the columns."""
    first = ["loss", "val_loss", *(f"val_{name}" for name in pooled_scores(logs))]
    if main_score(logs) not in first:
        first.append(main_score(logs))
    parts = tuple(f"val_{name}_" for name in (*part_scores(logs), "class_iou", *FALSE_ALARMS))
    return (
        {"epoch": epoch}
        | {name: float(logs[name]) for name in first + [name for name in logs if name.startswith(parts)]}
        | {
            "learning_rate": float(logs["learning_rate"]),
            "seconds": round(seconds, 2),
        }
    )


def pooled_scores(history: History) -> tuple[str, ...]:
    """Names of the scores of all images together, the main one first."""
    return task_of_history(history.keys()).pooled


def part_scores(history: History) -> tuple[str, str]:
    """Names of the scores of each subset, which is a class in classification."""
    return task_of_history(history.keys()).parts


def main_score(history: History) -> str:
    """The column whose highest value makes the best epoch, by the run's `best_by`."""
    return f"val_{score_name(task_of_history(history.keys()), best_by_of(history.keys()))}"


def write_history(rows: Sequence[Mapping[str, float]], folder: str | Path) -> None:
    """Writes all rows of history.csv, whole or not at all."""
    frame = pd.DataFrame(rows)
    write_atomically(Path(folder, HISTORY), frame.to_csv(index=False, lineterminator="\n"))


def read_history(folder: str | Path) -> pd.DataFrame:
    """history.csv as a DataFrame."""
    path = Path(folder, HISTORY)
    if not path.is_file():
        raise InputError(f"{folder} has no {HISTORY}; expected the folder of a run")
    return pd.read_csv(path)


def best_epoch(history: pd.DataFrame) -> pd.Series:
    """The row with the highest `main_score`, the first of several."""
    label: Any = history[main_score(history)].idxmax()
    return history.loc[label]


def subset_scores(
    history: pd.DataFrame, train_sizes: Mapping[str, int], valid_sizes: Mapping[str, int]
) -> pd.DataFrame:
    """Scores of each subset at the best epoch.

    Args:
        train_sizes, valid_sizes: {subset: images}.

    Returns:
        Columns subset, images, valid, iou, f1 (recall, f1), and FALSE_ALARMS where a subset has these; NaN
        for what one does not have.
    """
    best = best_epoch(history)
    names = [*train_sizes, *(name for name in valid_sizes if name not in train_sizes)]
    alarms = [score for score in FALSE_ALARMS if any(f"val_{score}_{name}" in best for name in names)]
    return pd.DataFrame(
        {
            "subset": names,
            "images": [train_sizes.get(name, 0) for name in names],
            "valid": [valid_sizes.get(name, 0) for name in names],
        }
        | {
            score: [best.get(f"val_{score}_{name}", float("nan")) for name in names]
            for score in (*part_scores(history), *alarms)
        }
    )


def printed_scores(table: pd.DataFrame) -> str:
    """What `subset_scores` gives as text, a dash for what a subset does not have."""
    for name, form in FALSE_ALARMS.items():
        if name in table:
            texts = table[name].map(f"{{:{form}}}".format, na_action="ignore")
            table = table.assign(**{name: texts})
    text = table.to_string(index=False, float_format="{:.3f}".format, na_rep="-")
    return f"{text}\n{ALARM_WORDS}" if CLEAN_IMAGES in table else text


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows for JSON, None for what is missing."""
    rows: list[Any] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows


def class_ious(history: pd.DataFrame) -> dict[str, float]:
    """{class: IoU} at the best epoch, NaN where the validation data has none; empty without classes."""
    best = best_epoch(history)
    prefix = "val_class_iou_"
    names = [name for name in map(str, history) if name.startswith(prefix)]
    return {name.removeprefix(prefix): float(best[name]) for name in names}


def draw_curves(history: pd.DataFrame, folder: str | Path) -> None:
    """Draws loss, IoU (of a classification: recall) and F1 over the epochs into curves.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    axes[0].plot(history["epoch"], history["loss"], label="training")
    axes[0].plot(history["epoch"], history["val_loss"], label="validation")
    axes[0].set(title="loss", ylim=(0, None))
    for axis, score in zip(axes[1:], part_scores(history), strict=True):
        prefix = f"val_{score}_"
        for name in [column for column in map(str, history) if column.startswith(prefix)]:
            axis.plot(history["epoch"], history[name], lw=1, alpha=0.7, label=name.removeprefix(prefix))
        axis.plot(history["epoch"], history[f"val_{score}"], color="black", lw=2, label="all")
        axis.set(title=f"validation {SCORE_NAMES[score]}", ylim=(0, 1))
    best = best_epoch(history)
    axes[1].plot(best["epoch"], best[f"val_{part_scores(history)[0]}"], "o", color="black", label="best")
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    plt.close(figure)
    write_atomically(Path(folder, CURVES), content.getvalue())
