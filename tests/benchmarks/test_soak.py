"""The soak: trains, watches, ends the training as Ctrl-C does, and judges."""

import numpy as np
import pytest

from scripts.benchmarks import soak
from segbalance.runtime.command_line import DONE, FAILED, INTERRUPTED, WRONG_INPUT
from tests.support.data import TINY


@pytest.mark.slow
def test_training_is_watched_and_ended(tables, monkeypatch, capsys):
    monkeypatch.setattr(soak, "SAMPLES", 6)
    monkeypatch.setattr(soak, "SLACK", 3)  # so soon after the start, memory still grows
    words = ["--csv_dir", tables, "--epochs", 10000, "--num_workers", 2, "--cache", "ram", "--minutes", 0.05]
    assert soak.main([*TINY, *words]) == DONE
    printed = capsys.readouterr().out
    assert "epochs, then Ctrl-C: status 130" in printed and "memory by thirds (MB): " in printed


@pytest.mark.parametrize(
    "taken, status, expected, message",
    [
        ([100, 110, 100, 110, 107, 107], INTERRUPTED, DONE, ""),
        ([50, 50, 100, 100, 103, 103], INTERRUPTED, FAILED, "the memory grew by 3.0%"),
        ([100] * 6, 134, FAILED, "ended with status 134, expected 130"),
        ([100] * 5, 0, WRONG_INPUT, "ended by itself, with status 0; give it more --epochs"),
    ],
)
def test_what_the_soak_judges(taken, status, expected, message, tables, monkeypatch, stub, capsys):
    monkeypatch.setattr(soak, "SAMPLES", 6)
    stub(soak, "soak", lambda config, minutes, folder: (np.array(taken), status))
    if status:  # or it ended by itself, and that is all
        stub(soak, "read_history", lambda folder: [1, 2])
    assert soak.main(["--csv_dir", tables]) == expected
    assert message in capsys.readouterr().err


def test_minutes_must_be_positive(capsys):
    assert soak.main(["--minutes", "0"]) == WRONG_INPUT
    assert "minutes must be greater than 0, got 0.0" in capsys.readouterr().err
