"""Charts: places by hand, ticks, and lines with gaps."""

import pandas as pd
import pytest

from segbalance.reports.charts import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Line,
    history_charts,
    tick_values,
)


def test_points_lie_where_their_values_are():
    chart = Chart("title", "x", "y", [Line("a", [0, 5, 10], [0.0, 0.5, 1.0])])
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    (drawn,) = chart.drawn()
    assert drawn.points == [
        (LEFT, HEIGHT - BOTTOM), (LEFT + across / 2, HEIGHT - BOTTOM - down / 2), (WIDTH - RIGHT, TOP)
    ]  # fmt: skip
    assert (
        drawn.path
        == f"M{LEFT} {HEIGHT - BOTTOM}L{LEFT + across / 2:g} {TOP + down / 2:g}L{WIDTH - RIGHT} {TOP}"
    )
    assert chart.ticks("x")[0] == (LEFT, "0") and chart.ticks("x")[-1] == (WIDTH - RIGHT, "10")
    assert chart.ticks("y")[-1] == (TOP, "1")


def test_a_gap_begins_a_new_line():
    (drawn,) = Chart("", "", "", [Line("a", [1, 2, 3, 4], [1.0, None, 3.0, 4.0])]).drawn()
    assert drawn.path.count("M") == 2 and drawn.path.count("L") == 1 and len(drawn.points) == 3


def test_one_point_and_none_are_drawn():
    (drawn,) = Chart("", "", "", [Line("a", [1], [0.25])], whole_x=True).drawn()
    assert drawn.points == [((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)]
    assert Chart("", "", "", [Line("a", [], [])]).drawn()[0].path == ""


@pytest.mark.parametrize(
    "low, high, whole, expected",
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.5, 1, False, [0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (1, 5, True, [1, 2, 3, 4, 5]),
        (1, 100, True, [20, 40, 60, 80, 100]),
        (0.5, 1.5, True, [1]),
        (0, 0.00188, False, [0, 0.0005, 0.001, 0.0015]),
    ],
)
def test_ticks_are_round(low, high, whole, expected):
    assert tick_values(low, high, whole) == expected


def test_lines_beyond_the_palette_are_dashed_and_the_strong_one_takes_no_colour():
    lines = [Line(str(k), [0, 1], [0, 1], strong=k == 2) for k in range(COLOURS + 2)]
    styles = [drawn.style for drawn in Chart("", "", "", lines).drawn()]
    assert styles[:4] == ["colour0", "colour1", "strong", "colour2"] and styles[-1] == "colour0 dashed"


def test_the_charts_of_a_run_show_its_history():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [0.9, 0.5, 0.4],
            "val_loss": [1.0, 0.6, float("nan")],
            "val_iou": [0.31, 0.8, 0.7],
            "val_f1": [0.4, 0.9, 0.8],
            "val_iou_a": [0.32, 0.81, 0.71],
            "val_f1_a": [0.4, 0.9, 0.8],
            "learning_rate": [0.001, 0.002, 0.0],
        }
    )
    iou, f1, loss, rate = history_charts(history, history.loc[1])
    assert [line.name for line in iou.lines] == ["a", "all"] and iou.lines[1].y == [0.31, 0.8, 0.7]
    assert iou.limits("y") == (0.3, 1) and iou.marks[0][:2] == (2, 0.8)
    assert [line.y for line in loss.lines] == [[0.9, 0.5, 0.4], [1.0, 0.6, None]]
    assert loss.limits("y") == (0, 1) and rate.limits("y") == (0, 0.002) and f1.title == "Validation F1"
