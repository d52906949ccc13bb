"""Manifests of two makers never stand side by side."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from segbalance.commands import prepare
from segbalance.data_processing import replacing
from segbalance.data_processing.description import VERSION, read_description
from segbalance.data_processing.make_csv_file import split_data_train
from segbalance.data_processing.manifest import file_hash, subset_files
from segbalance.data_processing.replacing import replace_tables
from segbalance.errors import InputError
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from tests.support.holding import held_elsewhere


def made(csv_dir, subset, root="/data"):
    """Manifests of one subset, as prepare makes them."""
    rows = pd.DataFrame({"images": [f"{subset}/{n}.png" for n in range(50)], "masks": "m", "type": subset})
    description = {"version": VERSION, "data_root": root}
    replace_tables(csv_dir, {"train.csv": rows, "valid.csv": rows}, description, overwrite=False)
    split_data_train(csv_dir)


def test_writers_at_once_leave_the_manifests_of_one(tmp_path):
    barrier = threading.Barrier(3)

    def make(number):
        barrier.wait()
        made(tmp_path, f"subset{number}")

    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            list(pool.map(make, range(3)))
            (name,) = subset_files(tmp_path)
            (other,) = set(pd.read_csv(tmp_path / "train.csv")["type"])
            assert name == other
            files = read_description(tmp_path)["files"]
            assert files == {file: file_hash(tmp_path / file) for file in files}
            assert set(files) == {"train.csv", "valid.csv", f"train{name}.csv"}


def test_manifests_of_other_data_that_came_meanwhile_are_not_replaced(tmp_path):
    made(tmp_path, "a", "/other")
    with pytest.raises(InputError, match="holds the manifests of /other, not of /data"):
        made(tmp_path, "b")
    assert list(subset_files(tmp_path)) == ["a"]


def test_prepare_is_refused_while_another_writes(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(replacing, "PATIENCE", 0.2)
    csv_dir = tmp_path / "csv_file"
    with held_elsewhere(csv_dir) as process:
        assert prepare.main(["--data_root", data_root, "--csv_dir", csv_dir]) == WRONG_INPUT
        errors = capsys.readouterr().err
        assert f"--csv_dir {csv_dir} is in use: training by process {process.pid} on " in errors
        assert [path.name for path in csv_dir.iterdir()] == [".lock"]


def test_prepare_waits_a_moment_for_another(data_root, tmp_path):
    csv_dir = tmp_path / "csv_file"
    with held_elsewhere(csv_dir) as process:
        threading.Timer(1, process.terminate).start()
        assert prepare.main(["--data_root", data_root, "--csv_dir", csv_dir]) == DONE
    assert list(subset_files(csv_dir)) == ["a", "b", "c"]
