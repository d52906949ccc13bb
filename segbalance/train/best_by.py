"""By which score of the validation the best epoch is chosen: of all images together, or of the subsets."""

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from segbalance.data_processing.tasks import SCORE_NAMES, Task, task_of_history

POOLED = "pooled"
OF_SUBSETS: dict[str, Callable[[list[float]], float]] = {"mean": statistics.fmean, "weakest": min}
BEST_BY = (POOLED, *OF_SUBSETS)


def score_name(kind: Task, best_by: str) -> str:
    """The score in history.csv behind `val_`: `iou`, `mean_subset_iou` or `weakest_subset_iou`."""
    return kind.main if best_by == POOLED else f"{best_by}_subset_{kind.parts[0]}"


def score_over_subsets(logs: Mapping[str, Any], best_by: str, subsets: Iterable[str]) -> dict[str, float]:
    """{column: value} of the score that chooses; {} where the logs have it already.

    Args:
        logs: of Keras, with `val_` in front.
        best_by: one of BEST_BY.
        subsets: those of the validation. One without foreground has no such score and is passed over; where
            none has one, the score of all images together stands in.
    """
    if best_by == POOLED:
        return {}
    kind = task_of_history(logs.keys())
    scores = [float(logs.get(f"val_{kind.parts[0]}_{name}", math.nan)) for name in subsets]
    known = [score for score in scores if math.isfinite(score)]
    value = OF_SUBSETS[best_by](known) if known else float(logs[f"val_{kind.main}"])
    return {f"val_{score_name(kind, best_by)}": value}


def best_by_of(columns: Collection[str]) -> str:
    """The choice that a history.csv, or a row of it, with these columns was made by."""
    kind = task_of_history(columns)
    names = (name for name in OF_SUBSETS if f"val_{score_name(kind, name)}" in columns)
    return next(names, POOLED)


def words_for(kind: Task, best_by: str) -> str:
    """What the choice looks at, in a sentence."""
    if best_by == POOLED:
        return f"{SCORE_NAMES[kind.main]} of all images"
    part = SCORE_NAMES[kind.parts[0]]
    return f"mean {part} of the subsets" if best_by == "mean" else f"{part} of the weakest subset"
