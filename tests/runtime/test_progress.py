"""segbalance/runtime/progress.py."""

import io
import time

import pytest

from segbalance.runtime import progress
from segbalance.runtime.progress import progress_of
from segbalance.runtime.screen import Verbosity, set_verbosity


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def log(monkeypatch, capsys):
    """Gives what went to standard error, a file; lines are due at once."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    return lambda: capsys.readouterr().err


def test_a_log_file_gets_whole_lines_and_no_carriage_returns(log):
    assert list(progress_of(iter("abc"), "reading", 3, "photo")) == list("abc")
    printed = log()
    lines = printed.splitlines()
    assert "\r" not in printed and len(lines) == 3
    assert lines[1].startswith("reading: 2 of 3, ") and lines[1].endswith(" left")
    assert " photo/s, " in lines[1] or " s/ photo, " in lines[1]


def test_work_that_is_told_item_by_item(log):
    with progress_of(None, "comparing", 2, "pair") as shown:
        shown.update()
        shown.update()
    assert [line[:17] for line in log().splitlines()] == ["comparing: 1 of 2", "comparing: 2 of 2"]


def test_lines_come_every_30_seconds(capsys):
    now = [1000.0]
    with progress_of(None, "reading", 100, "photo") as shown:
        shown._time = lambda: now[0]
        shown.start_t = shown.last_print_t = now[0]
        for _ in range(100):
            now[0] += 1.0
            shown.update()
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["30", "60", "90"]


def test_a_terminal_has_a_bar_that_leaves_nothing(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "SHORT_SECONDS", 0.001)
    for _ in progress_of(range(3), "reading", 3, "photo"):
        time.sleep(0.11)
    shown = screen.getvalue()
    assert "\rreading:  33%" in shown and shown.endswith("\r")


def test_nothing_under_quiet(log):
    set_verbosity(Verbosity.QUIET)
    try:
        assert list(progress_of(range(3), "reading", 3, "photo")) == [0, 1, 2]
    finally:
        set_verbosity(Verbosity.USUAL)
    assert log() == ""
