"""Line charts as inline SVG: worked out here, drawn by templates/charts.html in the colours of the page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

from segbalance.data_processing.tasks import CLEAN_IMAGES, SCORE_NAMES, task_of_history

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 40  # margins
FRAME = (WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM)  # as templates/charts.html takes it
COLOURS = 8  # of the page's palette; lines beyond are dashed
FEW_POINTS = 25  # up to which each is marked
TICKS = 6


Point = tuple[float, float]
Mark = tuple[float, float, str]


class Line(NamedTuple):
    """A line of a chart.

    Args:
        name: in the legend.
        x, y: numbers, as many of both; a None in `y` is a gap.
        strong: True for the line that matters most.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    strong: bool = False


class Drawn(NamedTuple):
    """A line as it is drawn: SVG path data, the places of its points, and its CSS classes."""

    name: str
    path: str
    points: list[Point]
    style: str


@dataclass(frozen=True)
class Chart:
    """A line chart.

    Args:
        title: what it shows.
        x_label, y_label: of the axes.
        lines: what is drawn.
        marks: (x, y, text) of points to be seen.
        y_range: (lowest, highest) that must be shown; the lines' own by default.
        x_range: the same of the other axis.
        whole_x: True where only whole numbers of x mean something.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    y_range: Point | None = None
    x_range: Point | None = None
    whole_x: bool = False

    def limits(self, axis: str) -> Point:
        """(lowest, highest) value of an axis, `x` or `y`."""
        values = [value for line in self.lines for value in getattr(line, axis) if value is not None]
        low, high = getattr(self, f"{axis}_range") or (min(values, default=0), max(values, default=1))
        if low == high:
            low, high = low - 0.5, high + 0.5
        return low, high

    def place(self, x: float, y: float) -> Point:
        """(x, y) of a point in the drawing, from its upper left corner on."""
        (left, right), (low, high) = self.limits("x"), self.limits("y")
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(across, 2), round(down, 2)

    def ticks(self, axis: str) -> list[tuple[float, str]]:
        """[(place, text)] along an axis."""
        (left, _), (low, _) = self.limits("x"), self.limits("y")
        values = tick_values(*self.limits(axis), whole=axis == "x" and self.whole_x)
        if axis == "x":
            return [(self.place(value, low)[0], f"{value:g}") for value in values]
        return [(self.place(left, value)[1], f"{value:g}") for value in values]

    def drawn(self) -> list[Drawn]:
        """The lines as they are drawn."""
        result: list[Drawn] = []
        number = 0
        for line in self.lines:
            style = "strong" if line.strong else f"colour{number % COLOURS}"
            style += " dashed" if number >= COLOURS and not line.strong else ""
            number += not line.strong
            path, points, pen = [], [], "M"
            for x, y in zip(line.x, line.y, strict=True):
                if y is None:
                    pen = "M"
                    continue
                points.append(self.place(x, y))
                path.append(f"{pen}{points[-1][0]:g} {points[-1][1]:g}")
                pen = "L"
            few = points if len(points) <= FEW_POINTS else []
            result.append(Drawn(line.name, "".join(path), few, style))
        return result

    def drawn_marks(self) -> list[Mark]:
        """[(x, y, text)] of the marks in the drawing."""
        return [(*self.place(x, y), text) for x, y, text in self.marks]


def tick_values(low: float, high: float, whole: bool = False) -> list[float]:
    """About TICKS round numbers from `low` to `high`: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1, math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Rounded, for 3 * 0.1 is a little more than 0.3.
    return [round(number * step, 12) for number in range(first, last + 1)]


def history_charts(history: "pd.DataFrame", best: "pd.Series") -> list[Chart]:
    """Charts of the scores, loss and learning rate over the epochs.

    Args:
        history: history.csv, of one foreground, of several classes or of a classification.
        best: its row of the best epoch.
    """
    epochs = history["epoch"].tolist()

    def line(name: str, column: str, strong: bool = False) -> Line:
        values = [float(value) if math.isfinite(value) else None for value in history[column]]
        return Line(name, epochs, values, strong)

    def parts(part: str) -> list[Line]:
        prefix = f"val_{part}_"
        columns = [column for column in history.columns if column.startswith(prefix)]
        return [line(column.removeprefix(prefix), column) for column in columns]

    def scores(score: str, title: str, part: str, title_of_all: str) -> Chart:
        lines = parts(part)
        lines.append(line(title_of_all, f"val_{score}", strong=True))
        mark = (best["epoch"], best[f"val_{score}"], "best epoch")
        low = tenth_below([value for own in lines for value in own.y])
        return Chart(f"Validation {title}", "epoch", title, lines, (mark,), (low, 1), whole_x=True)

    clean, title = parts(CLEAN_IMAGES), f"Validation {SCORE_NAMES[CLEAN_IMAGES]}"
    alarms = [Chart(title, "epoch", "share", clean, y_range=(0, 1), whole_x=True)] if clean else []
    losses = [line("training", "loss"), line("validation", "val_loss")]
    highest = max([value for own in losses for value in own.y if value is not None], default=1)
    rate, highest_rate = [line("learning rate", "learning_rate")], float(history["learning_rate"].max())
    return [
        *(scores(*curves) for curves in task_of_history(history.columns).score_curves),
        scores("f1", "F1", "f1", "all"),
        *alarms,
        Chart("Loss", "epoch", "loss", losses, y_range=(0, highest), whole_x=True),
        Chart("Learning rate", "epoch", "learning rate", rate, y_range=(0, highest_rate), whole_x=True),
    ]


def threshold_charts(evaluation: Mapping[str, Any]) -> list[Chart]:
    """Charts of the scores over the threshold, and of precision over recall, from evaluation_valid.json."""
    curve, best, used = evaluation["curve"], evaluation["best_threshold"], evaluation["threshold"]
    thresholds = [row["threshold"] for row in curve]
    names = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}
    lines = [
        Line(text, thresholds, [row[name] for row in curve], strong=name == "iou")
        for name, text in names.items()
    ]
    marks = (
        (best["threshold"], best["iou"], "best threshold"),
        (used, evaluation["all"]["iou"], "threshold used"),
    )
    recall, precision = ([row[name] for row in curve] for name in ("recall", "precision"))
    pair_marks = ((evaluation["all"]["recall"], evaluation["all"]["precision"], "threshold used"),)
    low = tenth_below([row[name] for row in curve for name in names])
    return [
        Chart("Scores over the threshold", "threshold", "score", lines, marks, (low, 1), (0, 1)),
        Chart(
            "Precision over recall",
            "recall",
            "precision",
            [Line("precision", recall, precision, strong=True)],
            pair_marks,
            (tenth_below(precision), 1),
            (tenth_below(recall), 1),
        ),
    ]


def tenth_below(values: Iterable[float | None]) -> float:
    """The largest of 0, 0.1, ..., 0.9 that is not above any of the scores; None among them is passed over."""
    lowest = min((value for value in values if value is not None), default=0)
    return min(math.floor(10 * lowest), 9) / 10
