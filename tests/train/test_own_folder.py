"""The folder of a run is its own from the first check to the report."""

import contextlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segbalance.commands import evaluate, predict, report, train
from segbalance.errors import InputError
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.own_folder import new_run_folder, resumed_folder
from tests.support.bad_input_kit import contents
from tests.support.data import TINY, copied_run
from tests.support.holding import foreign_lock, held_elsewhere
from tests.support.places import ROOT


def test_default_folders_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        folders = [*pool.map(lambda _: stack.enter_context(new_run_folder(None)), range(40))]
        assert len({str(folder) for folder in folders}) == 40
        assert sorted(os.listdir("runs")) == sorted(folder.name for folder in folders)
        assert {folder.parent for folder in folders} == {Path("runs")}
        assert any(folder.name.endswith("-2") for folder in folders), "40 in one second"
    assert list(Path("runs").glob("*")) == [], "nothing came into them"


DEFAULTS = """
import sys
sys.path[:0] = [sys.argv[1]]
from segbalance.train.own_folder import new_run_folder
input()
with new_run_folder(None) as folder:
    print(folder, flush=True)
    input()
"""


def test_default_folders_of_several_processes_never_collide(tmp_path):
    words = [sys.executable, "-c", DEFAULTS, str(ROOT)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(words, cwd=tmp_path, **pipes) for _ in range(3)]
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    assert len({run.stdout.readline() for run in runs}) == 3
    for run in runs:
        run.communicate("\n", timeout=60)
    assert list(tmp_path.glob("runs/*")) == []


def test_a_run_that_another_has_begun_is_refused(tmp_path):
    with held_elsewhere(tmp_path / "run") as process:
        for option, folder in (("work_dir", new_run_folder), ("resume", resumed_folder)):
            message = f"--{option} .*run is in use: training by process {process.pid} on "
            with pytest.raises(InputError, match=message), folder(tmp_path / "run"):
                pass


def test_a_run_is_refused_before_anything_is_read(tables, finished, tmp_path, capsys, stub):
    run = copied_run(finished, tmp_path / "run")
    stub.never("segbalance.commands.train.resumed_config")
    stub.never("segbalance.train.fitting.read_data")
    with held_elsewhere(run):
        before = contents(run)
        for options in (["--resume", run], [*TINY, "--csv_dir", tables, "--work_dir", run]):
            assert train.main(options) == WRONG_INPUT
            assert "is in use: training by process" in capsys.readouterr().err
        assert contents(run) == before


@pytest.mark.parametrize("work_dir", [[], ["--work_dir", "deep/below"]])
def test_a_run_that_fails_in_its_checks_leaves_nothing(work_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main([*TINY, "--csv_dir", "nowhere", *work_dir]) == WRONG_INPUT
    assert "does not exist. Make the manifests first" in capsys.readouterr().err
    assert os.listdir() == []


@pytest.fixture
def told(stub):
    """Names of what is called, with whether the folder is held then."""
    seen = []

    def tell(place, name, run):
        usual = getattr(place, name)

        def telling(*arguments, **options):
            seen.append((name, (run / ".lock").exists()))
            return usual(*arguments, **options)

        stub(place, name, telling)

    return seen, tell


def test_a_run_holds_its_folder_from_its_data_to_its_report(one_convolution, tables, tmp_path, told, stub):
    from segbalance.train import fitting

    (seen, tell), run = told, tmp_path / "run"
    stub(train, "write_report", lambda config, manifest: [run / "report.html"])
    tell(fitting, "read_data", run)
    tell(fitting, "save_config", run)
    tell(fitting, "_print_scores", run)
    tell(train, "with_transforms", run)
    tell(train, "_report", run)
    tell(train, "resumed_config", run)
    assert train.main([*TINY, "--csv_dir", tables, "--work_dir", run]) == DONE
    names = ["with_transforms", "read_data", "save_config", "_print_scores"]
    assert seen == [(name, True) for name in names]
    assert not (run / ".lock").exists()
    seen.clear()
    assert train.main(["--resume", run, "--report", "true"]) == DONE
    assert seen == [
        (name, True)
        for name in ["with_transforms", "resumed_config", "read_data", "_print_scores", "_report"]
    ]
    assert not (run / ".lock").exists()


def test_a_run_that_has_lost_its_folder_leaves_it_to_the_other(
    one_convolution, tables, tmp_path, capsys, stub
):
    from segbalance.train import callbacks

    run, usual, before = tmp_path / "run", callbacks.RunRecorder.on_epoch_end, {}

    def lose(self, epoch, logs):
        if epoch == 1:
            self.writer.wait()  # still at the epoch before
            foreign_lock(run)
            before.update(contents(run))
        usual(self, epoch, logs)

    stub(callbacks.RunRecorder, "on_epoch_end", lose)
    assert train.main([*TINY, "--csv_dir", tables, "--work_dir", run]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert "is in use: training by process" in errors and "leaves the files there as they are" in errors
    assert contents(run) == before


@pytest.mark.slow
def test_answers_of_a_run_in_training_neither_wait_nor_disturb(finished, tmp_path, capsys):
    run = copied_run(finished, tmp_path / "run")
    photo = finished / "curves.png"
    with held_elsewhere(run) as process:
        lock = (run / ".lock").read_bytes()
        assert evaluate.main(["--work_dir", run]) == DONE, capsys.readouterr().err
        assert report.main(["--work_dir", run]) == DONE
        assert predict.main(["--work_dir", run, "--images", photo, "--output", tmp_path / "out"]) == DONE
        assert process.poll() is None and (run / ".lock").read_bytes() == lock
    names = {"evaluation_valid.json", "evaluation_valid.csv", "report.html"}
    assert names <= set(os.listdir(run))
