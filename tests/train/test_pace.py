"""segbalance/train/pace.py."""

import pytest

from segbalance.train.pace import Pace


def run_epoch(pace, now, epoch, first, step, validation, rest):
    """An epoch of 4 steps and of 2 batches of the validation; the first step takes `first` seconds."""
    pace.begin_epoch(epoch)
    for number in range(4):
        now[0] += step if number else first
        pace.end_step(number)
    for number in range(2):
        now[0] += validation
        pace.end_validation_step(number)
    now[0] += rest
    pace.end_epoch()


def test_the_time_left_is_without_what_tensorflow_traces():
    now = [100.0]
    pace = Pace(epochs=3, steps=4, clock=lambda: now[0])
    assert pace.left() is None
    pace.begin_epoch(0)
    now[0] += 60
    pace.end_step(0)
    now[0] += 2
    pace.end_step(1)
    # Each step takes 2 s, 10 of 12 are left, and nothing is known of the validations.
    assert (pace.step_seconds, pace.left(), pace.lacking) == (2, 20, " and the validations")
    run_epoch(pace, now, 0, first=60, step=2, validation=5, rest=1)
    # The first batch of the validation is left out: 5 + 1 = 6 s; two epochs of 4 * 2 + 6 s are left.
    assert (pace.left(), pace.lacking) == (28, "")
    run_epoch(pace, now, 1, first=2, step=3, validation=5, rest=1)
    # Both batches count now: 4 * 3 + 5 + 5 + 1.
    assert pace.left() == 23
    run_epoch(pace, now, 2, first=2, step=3, validation=5, rest=1)
    assert pace.left() == 0


def test_a_single_step_is_all_there_is_to_go_by():
    now = [0.0]
    pace = Pace(epochs=5, steps=1, clock=lambda: now[0])
    pace.begin_epoch(0)
    now[0] += 3
    pace.end_step(0)
    assert (pace.step_seconds, pace.left()) == (3, pytest.approx(12))
