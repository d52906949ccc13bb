"""Two trainings in one folder: the first ends well, the second is told at once who is there."""

import subprocess
import sys
import time

import pandas as pd
import pytest

from segbalance.runtime.command_line import DONE, WRONG_INPUT
from tests.support.data import TINY
from tests.support.places import ROOT

AT_MOST = 180  # seconds


def start(*words):
    words = [sys.executable, ROOT / "train.py", *TINY, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in words], **pipes)


@pytest.mark.slow
def test_the_second_of_two_trainings_in_one_folder_is_refused(tables, tmp_path):
    run = tmp_path / "run"
    first = start("--csv_dir", tables, "--work_dir", run, "--epochs", "3")
    try:
        deadline = time.monotonic() + AT_MOST
        while not (run / ".lock").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = start("--csv_dir", tables, "--work_dir", run)
        _, errors = second.communicate(timeout=AT_MOST)
        assert first.poll() is None, "the first goes on meanwhile"
        assert second.returncode == WRONG_INPUT and "Traceback" not in errors
        assert f"--work_dir {run} is in use: training by process {first.pid} on " in errors
        assert ", since 2" in errors
        printed, errors = first.communicate(timeout=AT_MOST)
    finally:
        first.kill()
    assert first.returncode == DONE, errors
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert {"best.weights.h5", "last.weights.h5", "metrics.json"} <= {path.name for path in run.iterdir()}
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_at_once(tables, tmp_path):
    run = tmp_path / "run"
    first = start("--csv_dir", tables, "--work_dir", run, "--epochs", "2", "--save_every", "1")
    deadline = time.monotonic() + AT_MOST
    while not list(run.glob("checkpoints/epoch*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    assert (run / ".lock").exists()
    again = subprocess.run(
        [sys.executable, ROOT / "train.py", "--resume", run], capture_output=True, text=True, timeout=AT_MOST
    )
    assert again.returncode == DONE, again.stderr
    first.communicate()
    assert not (run / ".lock").exists()
