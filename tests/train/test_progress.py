"""segbalance/train/progress.py."""

import io
import sys
from types import SimpleNamespace

import pytest

from segbalance.runtime.screen import Coloured
from segbalance.train import progress
from segbalance.train.config import TrainConfig
from segbalance.train.progress import WIDTH, EpochLines, epoch_line, live_bar

LOGS = {"loss": 0.43217, "val_loss": 0.5, "val_iou": 0.857, "val_iou_1": 0.9, "val_iou_4": 0.7123}


def line(epoch=3, epochs=100, logs=LOGS, subsets=("1", "4"), best=0.861, speed=112.34, left=4325.0):
    return epoch_line(epoch, epochs, logs, subsets, best=best, images_per_second=speed, left=left)


def test_the_line_of_an_epoch():
    assert line() == (
        "epoch 3/100  loss 0.432  IoU 0.857 (best 0.861)  weakest 4 0.712  112 images/s  1:12:05 left"
    )


@pytest.mark.parametrize("speed, text", [(0.8641, "0.864"), (23.04, "23"), (999.9, "1000"), (1234.5, "1234")])
def test_the_speed_is_written_without_an_exponent(speed, text):
    assert f"  {text} images/s  " in line(speed=speed)


def test_a_long_line_is_cut_at_the_name_of_the_subset():
    name = "a subset with a name that is far too long for a line"
    text = line(1000, 1000, LOGS | {f"val_iou_{name}": 0.1}, ["1", name], speed=12345.6, left=123456.0)
    assert len(text) <= WIDTH and "… 0.100  12346 images/s  34:17:36 left" in text
    assert "  weakest a… " in text


def test_no_subset_is_the_weakest_of_one_or_without_foreground():
    assert "weakest" not in line(subsets=["4"])
    logs = {name: value for name, value in LOGS.items() if name != "val_iou_4"}
    assert "weakest" not in line(logs=logs | {"val_clean_images_4": 0.0})
    assert "weakest 4 0.712" in line(subsets=["1", "2", "4"])


def test_the_score_is_the_one_that_chooses():
    assert "  weakest IoU 0.712 (best 0.720)  weakest 4 0.712" in line(
        logs=LOGS | {"val_weakest_subset_iou": 0.712}, best=0.72
    )
    logs = {"loss": 1.0, "val_balanced_accuracy": 0.5, "val_recall_cat": 0.75, "val_recall_dog": 0.25}
    assert "  recall 0.500 (best 0.500)  weakest dog 0.250" in line(
        logs=logs, subsets=["cat", "dog"], best=0.5
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def lines(monkeypatch):
    """Makes an EpochLines of 2 epochs and 3 steps, to which everything is due at once."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.0)

    def make(bar=None):
        config = TrainConfig.of(epochs=2, steps_per_epoch=3, batch_size=4)
        callback = EpochLines(config, SimpleNamespace(best=0.861), bar)
        callback.model = SimpleNamespace(subsets=["1", "4"])
        return callback

    return make


def train(callback, said_between=None):
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for step in range(3):
            callback.on_train_batch_end(step, {"loss": 0.5})
        if said_between:
            print(said_between)
            callback.on_test_batch_end(0)
            print(said_between, file=sys.stderr)
        callback.on_test_batch_end(0)
        callback.on_epoch_end(epoch, LOGS)


def test_a_log_file_has_lines_alone(lines, capsys):
    train(lines())
    printed = capsys.readouterr().out
    assert "\r" not in printed
    told = printed.splitlines()
    assert told[0].startswith("epoch 1/2  step 1/3  loss 0.500  ") and told[0].endswith(" left")
    assert told[2].startswith("expected: ") and "and the validations" in told[2]
    assert sum(text.startswith("expected: ") for text in told) == 1
    assert "epoch 1/2  validation batch 1  " in printed
    assert [text.split()[1] for text in told if "best 0.861" in text] == ["1/2", "2/2"]
    assert all(len(text) <= WIDTH for text in told)


def test_a_line_comes_every_30_seconds_only(lines, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 30.0)
    train(lines())
    assert [text.split()[0] for text in capsys.readouterr().out.splitlines()] == [
        "expected:",
        "epoch",
        "epoch",
    ]


def test_what_others_print_stands_above_the_live_bar(lines, monkeypatch):
    screen = Terminal()
    out, err = Coloured(screen), Coloured(screen)  # as a command has them
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    with live_bar() as bar:
        train(lines(bar), "a word of another")
    assert (sys.stdout, sys.stderr) == (out, err)
    shown = screen.getvalue()
    assert "3/3 [" in shown and "epoch 2/2  loss 0.500  IoU 0.857 (best 0.861)  weakest 4 0.712  " in shown
    # The bar is wiped out before each line of others, and at the end.
    cleared = [text.rpartition("\r")[2] for text in shown.split("\n")]
    assert cleared.count("a word of another") == 4 and cleared[-1] == ""
    assert sum(text.startswith("epoch ") for text in cleared) == 2


def test_there_is_no_bar_in_a_log_file(capsys):
    with live_bar() as bar:
        assert bar is None
