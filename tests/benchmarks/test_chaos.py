"""The chaos: its schedule, its faults, what it accepts as an answer, its tables, and half a minute of it."""

import collections
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types

import h5py
import numpy as np
import pytest

from scripts.benchmarks import chaos, chaos_faults
from scripts.benchmarks.chaos_faults import FAULTS, Fault, schedule, verdict
from scripts.benchmarks.chaos_record import Record, fault_table, markdown
from scripts.benchmarks.chaos_trainer import SHIFTED_CLOCK, Place, Trainer
from segbalance.balancing.ledger import LEDGER
from segbalance.commands.verify_resume import differences
from segbalance.runtime.command_line import DONE, FAILED, WRONG_INPUT
from segbalance.train.folder import BEST, HISTORY, LAST
from tests.support.places import ROOT


def test_faults_come_as_seeded_and_each_kind_as_often():
    faults = list(itertools.islice(schedule(3, 12), 6000))
    assert faults[:50] == list(itertools.islice(schedule(3, 12), 50)) != faults[50:100]
    counts = collections.Counter(fault.kind for fault in faults)
    assert counts == dict.fromkeys(FAULTS, 1000)
    delays = np.array([fault.delay for fault in faults])
    # An exponential distribution's standard deviation is its mean.
    assert abs(delays.mean() - 12) < 4 * 12 / 6000**0.5 and abs(delays.std() - 12) < 1
    assert 0.45 < np.mean([fault.after_checkpoint for fault in faults]) < 0.55


@pytest.mark.parametrize(
    "kind, status, said, expected",
    [
        ("clock jumped", None, "", "survived"),
        ("disk full", 0, "", "survived"),
        ("trainer killed", -9, "", "answered"),
        ("trainer killed", -11, "", "failed"),
        ("SIGTERM", 143, "", "answered"),
        ("SIGTERM", 1, "", "failed"),
        ("disk full", 2, "error: it cannot be written: No space left on device", "answered"),
        ("disk full", 2, "error: bad luck", "failed"),
        ("disk full", 2, "No space left", "failed"),
        ("disk full", 1, "error: No space left", "failed"),
        ("disk full", 2, "Traceback (most recent call last)\nerror: No space left", "failed"),
        ("photos vanished", 2, "error: train/images/0/a.jpg is missing", "answered"),
        ("reading process killed", 2, "error: a worker process ended", "answered"),
        ("clock jumped", 2, "error: the lock is lost", "failed"),
        ("clock jumped", -9, "", "failed"),
    ],
)
def test_what_is_accepted_as_an_answer(kind, status, said, expected):
    assert verdict(kind, status, said) == expected


@pytest.fixture
def two_runs(tmp_path):
    """Two folders with the files of a run that are compared, with the same content."""
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        for name in (BEST, LAST):
            with h5py.File(folder / name, "w") as file:
                file["layer/kernel"] = np.array([[0.1, -0.5], [0.0, 3e-40]], np.float32)
                file["layer/bias"] = np.array([7], np.int64)
        (folder / HISTORY).write_text("epoch,loss,seconds\n1,0.12345678901234567,4.2\n")
        (folder / LEDGER).write_text("epoch,subset,share\n1,0,0.2\n")
    return tmp_path / "one", tmp_path / "other"


@pytest.mark.parametrize("name", [BEST, LAST])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("bit", [0, 31])
def test_a_single_changed_bit_is_found(name, place, bit, two_runs):
    run, other = two_runs
    assert differences(run, other) == []
    with h5py.File(run / name, "r+") as file:
        values = file["layer/kernel"][()]
        values.reshape(-1).view(np.uint32)[place] ^= np.uint32(1 << bit)
        file["layer/kernel"][...] = values
    assert differences(run, other) == [name]


def test_weights_of_another_type_or_name_are_found(two_runs):
    run, other = two_runs
    with h5py.File(run / BEST, "r+") as file:
        del file["layer/bias"]
        file["layer/bias"] = np.array([7], np.uint64)
    with h5py.File(run / LAST, "r+") as file:
        file.move("layer/bias", "layer/beta")
    assert differences(run, other) == [BEST, LAST]


def test_records_but_for_the_seconds_are_compared_to_the_last_bit(two_runs):
    run, other = two_runs
    (run / HISTORY).write_text("epoch,loss,seconds\n1,0.12345678901234567,77.0\n")
    assert differences(run, other) == []
    loss = float(np.nextafter(0.12345678901234567, 1))
    (run / HISTORY).write_text(f"epoch,loss,seconds\n1,{loss!r},4.2\n")
    (run / LEDGER).write_text("epoch,subset,share\n1,0,0.20\n")
    assert differences(run, other) == [HISTORY, LEDGER]


def test_table_counts_each_kind():
    rows = [
        {"kind": "disk full", "verdict": "answered"},
        {"kind": "disk full", "verdict": "survived"},
        {"kind": "no fault", "verdict": "failed"},
    ]
    table = fault_table(rows).set_index("fault")
    assert table.loc["disk full"].tolist() == [2, 1, 1, 0]
    assert table.loc["no fault"].tolist() == [1, 0, 0, 1]
    assert table.loc["all"].tolist() == [3, 1, 1, 1] and table.loc["SIGTERM"].tolist() == [0, 0, 0, 0]
    lines = markdown(fault_table(rows)).splitlines()
    assert lines[0] == "| fault | times | survived | answered | failed |" and len(lines) == 2 + 8
    assert fault_table([]).set_index("fault").loc["all"].tolist() == [0, 0, 0, 0]


def test_record_keeps_faults_and_runs(tmp_path, capsys):
    record = Record(tmp_path / "out", "limit")
    fault = {"phase": "training", "detail": "4 of 9", "status": 2, "seconds": 1.0, "log": "0001.txt"}
    record.fault(kind="photos vanished", verdict="answered", said=["error: gone"], **fault)
    record.run(3, [])
    assert not record.failed
    record.run(0, ["best.weights.h5"])
    assert record.failed
    record.write()
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "run 1: photos vanished (4 of 9) in training: answered, status 2" in log and "error: gone" in log
    assert "1 of 2 runs are bit-identical" in (tmp_path / "out" / "table.md").read_text()
    content = json.loads((tmp_path / "out" / "chaos.json").read_text())
    assert content["faults"][0]["run"] == 1 and content["runs"][1]["different"] == ["best.weights.h5"]
    assert "| training | 1 |" in capsys.readouterr().out


@pytest.fixture
def place(tmp_path):
    """A Place with two photos, where nothing trains yet."""
    for subset in "01":
        (tmp_path / "images" / subset).mkdir(parents=True)
        (tmp_path / "images" / subset / "a.jpg").write_text(subset)
    run = tmp_path / "disk" / "run"
    run.mkdir(parents=True)
    return Place([], run, tmp_path / "images", tmp_path / "clock", tmp_path, tmp_path / "said", 12, "limit")


class Sleeper:
    """Stands in for a Trainer: a process that writes files of 20 MB as long as it can.

    Args:
        place: Place.
    """

    PROGRAM = """
import pathlib, sys
while True:
    pathlib.Path(sys.argv[1], "file").write_bytes(bytes(20 * 2**20))
"""

    def __init__(self, place):
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, place.run], stderr=subprocess.DEVNULL
        )

    status = property(lambda self: self.process.poll())
    until, ends_within = Trainer.until, Trainer.ends_within


@pytest.fixture
def sleeper(place):
    """A Sleeper that ends with the test."""
    sleeper = Sleeper(place)
    yield sleeper
    sleeper.process.kill()
    sleeper.process.wait()


def test_photos_vanish_and_come_back(sleeper, place, stub):
    seen = []
    stub(Sleeper, "ends_within", lambda self, seconds: seen.append(list(place.photos.glob("*/*.jpg"))))
    with chaos_faults.photos_vanished(sleeper, Fault("photos vanished", False, 0, 1.0, 1)) as detail:
        assert detail == "2 of 2"
    assert seen == [[]]
    assert [(place.photos / subset / "a.jpg").read_text() for subset in "01"] == ["0", "1"]


def test_files_may_not_grow_for_a_while(sleeper, place):
    with chaos_faults.disk_full(sleeper, Fault("disk full", False, 0, 0.0, 60)) as detail:
        assert detail == "files of at most 8.0 MB"
    assert sleeper.status == 1, "the write failed; the process was not killed"
    assert (place.run / "file").stat().st_size <= 8 * 2**20


class Asked:
    """Stands in for a Trainer that notes what is waited for; there is always an answer.

    Args:
        full: of its Place.
    """

    def __init__(self, full):
        self.place, self.waited = types.SimpleNamespace(full=full), []

    def readers(self):
        return [7]

    def makes_checkpoint(self):
        return self.waited.append("checkpoint") or True

    def until(self, happened):
        return self.waited.append(happened.__name__) or True

    def ends_within(self, seconds):
        return self.waited.append(seconds) or False


@pytest.mark.parametrize(
    "kind, after_checkpoint, full, expected",
    [
        ("SIGTERM", False, "tmpfs", [5]),
        ("SIGTERM", True, "tmpfs", ["checkpoint", 5]),
        ("disk full", False, "tmpfs", [5]),
        ("disk full", False, "limit", ["checkpoint", 5]),
        ("reading process killed", False, "tmpfs", ["readers", 5]),
    ],
)
def test_what_a_fault_waits_for(kind, after_checkpoint, full, expected):
    trainer = Asked(full)
    assert chaos.comes(trainer, Fault(kind, after_checkpoint, 5, 0.5, 1))
    assert trainer.waited == expected


def test_clock_jumps_for_programs_that_are_told_of_it(sleeper, place):
    (place.run / "config.yaml").touch()
    with chaos_faults.clock_jumped(sleeper, Fault("clock jumped", False, 0, 0.75, 0)) as detail:
        assert detail == "+24.0 h"
    day = 24 * 3600
    assert time.time() - (place.run / "config.yaml").stat().st_mtime == pytest.approx(day, abs=600)
    program = (
        "import time, datetime as d, pandas as pd; print(time.time(), time.time_ns() / 1e9, "
        "*(t.timestamp() for t in (d.datetime.now(), d.datetime.today(), d.datetime.now(d.UTC), "
        "d.datetime.utcnow().replace(tzinfo=d.UTC), pd.Timestamp(d.datetime.now(d.UTC)))))"
    )
    for clock, off in ((place.clock, day), (place.clock / "none", 0)):
        environment = os.environ | {"PYTHONPATH": str(SHIFTED_CLOCK), "CHAOS_CLOCK": str(clock)}
        words = [sys.executable, "-c", program]
        printed = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
        assert [float(word) - time.time() for word in printed.split()] == pytest.approx([off] * 7, abs=600)


def test_limit_is_chosen_without_mounts_of_its_own(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(chaos.OWN_MOUNTS, raising=False)
    assert chaos.chosen_disk("auto") == chaos.chosen_disk("limit") == "limit"
    assert chaos.main(["--disk", "tmpfs", "--output", tmp_path / "out"]) == WRONG_INPUT
    assert "--disk tmpfs needs unshare and mount" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv(chaos.OWN_MOUNTS, str(os.getpid()))
    assert chaos.chosen_disk("auto") == "tmpfs" and chaos.chosen_disk("limit") == "limit"


@pytest.mark.parametrize("verdicts, expected", [(["survived", "answered"], DONE), (["failed"], FAILED)])
def test_failures_decide_on_the_exit_status(verdicts, expected, tmp_path, stub, capsys):
    def pretend(options, folder, record):
        for word in verdicts:
            record.fault(
                kind="SIGTERM",
                phase="starting",
                detail="",
                verdict=word,
                status=143,
                seconds=0,
                said=[],
                log="",
            )

    stub(chaos, "chaos", pretend)
    before = signal.getsignal(signal.SIGTERM)
    assert chaos.main(["--output", tmp_path / "out"]) == expected
    assert signal.getsignal(signal.SIGTERM) is before
    assert f"| SIGTERM | {len(verdicts)} |" in (tmp_path / "out" / "table.md").read_text()


def test_what_was_found_is_kept_when_sigterm_ends_it(tmp_path, stub, capsys):
    stub(chaos, "chaos", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    assert chaos.main(["--output", tmp_path / "out"]) == 128 + signal.SIGTERM
    assert (tmp_path / "out" / "table.md").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--minutes", "0"], "minutes must be greater than 0, got 0.0"),
        (["--epochs", "-1"], "epochs must be greater than 0, got -1"),
        (["--every", "-2"], "every must be greater than 0, got -2.0"),
        (["--seed", "-1"], "seed must not be negative, got -1"),
        (["--output", "."], "--output . is there already; delete it, or choose another"),
    ],
)
def test_wrong_options(words, message, capsys):
    assert chaos.main(words) == WRONG_INPUT
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.slow
def test_a_short_chaos_leaves_the_same_run_and_no_process(tmp_path):
    words = ["--minutes", "0.5", "--epochs", "2", "--every", "5", "--output", tmp_path / "out"]
    program = ROOT / "scripts" / "benchmarks" / "chaos.py"
    done = subprocess.run([sys.executable, program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "out" / "chaos.json").read_text())
    assert content["runs"] and not any(row["different"] for row in content["runs"])
    assert content["faults"] and content["minutes"] == pytest.approx(0.5, abs=0.1)
