"""When a training has to stop, and how it does."""

import os
import signal
import sys
import time

import pytest

from segbalance.train import stopping
from segbalance.train.stopping import SPARE, StopRequest, TimeLimit


@pytest.fixture
def clock(stub):
    """List whose last number is the time, in seconds."""
    times = [1000.0]
    stub(stopping.time, "monotonic", lambda: times[-1])
    return times


def stops_at(limit, clock, steps):
    """The time at which a training of (kind, seconds) stops, or None."""
    for kind, seconds in steps:
        clock.append(clock[-1] + seconds)
        if limit.is_near(kind):
            return clock[-1] - clock[0]
    return None


def test_without_a_limit_it_never_stops(clock):
    assert stops_at(TimeLimit(None, 0), clock, [("training", 10**6)] * 10) is None


def test_it_stops_while_there_is_time_for_a_step_and_a_checkpoint(clock):
    # Steps of 40 s: at 520 there is time for one more and its checkpoint, at 560 for one of them alone.
    assert stops_at(TimeLimit(10, clock[0]), clock, [("training", 40)] * 100) == 560


def test_short_steps_leave_some_seconds(clock):
    assert stops_at(TimeLimit(10, clock[0]), clock, [("training", 1)] * 1000) == 600 - SPARE + 1


def test_the_first_step_of_each_kind_is_no_measure_for_the_others(clock):
    steps = [("training", 300), *[("training", 1)] * 99, ("validation", 100), *[("validation", 1)] * 200]
    assert stops_at(TimeLimit(10, clock[0]), clock, steps) == 600 - SPARE + 1


def test_the_longest_step_counts_whatever_comes_later(clock):
    steps = [("training", 1), ("training", 60), *[("training", 1)] * 1000]
    assert stops_at(TimeLimit(10, clock[0]), clock, steps) == 600 - 120 + 1


def test_the_clock_may_have_begun_long_before(clock):
    assert stops_at(TimeLimit(10, clock[0] - 500), clock, [("training", 1)] * 1000) == 100 - SPARE + 1


def test_time_that_is_up_ends_with_status_75(clock, capsys):
    with StopRequest(TimeLimit(230, clock[0])) as stop:
        stop.after_step("training")
        assert not stop
        clock.append(clock[0] + 230 * 60)
        stop.after_step("training")
        stop.after_step("epoch")
        assert stop
        with pytest.raises(SystemExit) as leaving:
            stop.meet()
    assert leaving.value.code == 75
    assert capsys.readouterr().out == "\n--max_minutes 230 are nearly over: stopping\n"


def test_a_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        stop.after_step("training")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert stop
        with pytest.raises(SystemExit) as leaving:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        assert leaving.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_whoever_watched_signals_before_does_so_again():
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(write)
    with StopRequest() as stop:
        stop.after_step("training")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert os.read(read, 10) == bytes([signal.SIGTERM]) and stop
    assert signal.set_wakeup_fd(before) == write


def test_ctrl_c_in_a_notebook_before_the_first_step_ends_no_more_than_the_training(monkeypatch):
    monkeypatch.setitem(vars(sys), "ps1", ">>> ")
    with pytest.raises(KeyboardInterrupt), StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
