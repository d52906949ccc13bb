"""Files and folders are whole or as they were, whatever happens while they are written."""

import os
from pathlib import Path

import pytest

from segbalance.errors import InputError
from segbalance.files.writing import (
    check_writable,
    same_file,
    whole_folder,
    write_atomically,
    write_json,
    write_together,
)


def test_a_file_is_written_and_replaced_with_its_folder(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "Nägel\n")
    assert path.read_bytes() == "Nägel\n".encode()
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert os.listdir(path.parent) == ["a.txt"]


def no_rename(self, target):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", ["new", "new" * 10**6], ids=["when it is closed", "within"])
@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    moment, content, tmp_path, monkeypatch, stub, full_disk
):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    full_disk() if moment == "writing" else stub(Path, "replace", no_rename)
    with pytest.raises(InputError) as caught:
        write_atomically(path, content)
    assert str(caught.value) == (
        f"{path} cannot be written: No space left on device. "
        "Choose a folder that can be written to and has room left."
    )
    monkeypatch.undo()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path, stub):
    def interrupt(self, target):
        raise KeyboardInterrupt

    stub(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


def test_files_written_together_are_all_old_if_one_fails(tmp_path):
    write_atomically(tmp_path / "a.csv", "old")
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match="taken/b.csv cannot be written: "):
        write_together({tmp_path / "a.csv": "new", tmp_path / "taken" / "b.csv": "new"})
    assert (tmp_path / "a.csv").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "taken"]


def test_json_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Nägel", "n": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "Nägel",\n  "n": 1\n}\n'


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
    check_writable("--csv_dir", tmp_path / "not" / "yet")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"^--csv_dir (.*file/x): .*/file is not a folder that can be written to"
    ):
        check_writable("--csv_dir", tmp_path / "file" / "x")


def test_a_folder_is_never_replaced_by_half_of_a_new_one(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/model.onnx").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "export") as new:
        (new / "model.onnx").write_text("half")
        raise RuntimeError
    assert (tmp_path / "export/model.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    with whole_folder(tmp_path / "export") as new:
        (new / "model.onnx").write_text("new")
    assert (tmp_path / "export/model.onnx").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_the_old_folder_comes_back_if_the_new_one_cannot_be_put_there(tmp_path, stub):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/model.onnx").write_text("old")
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    stub(Path, "rename", failing)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        with whole_folder(tmp_path / "export"):
            pass
    assert (tmp_path / "export/model.onnx").read_text() == "old"
    assert os.listdir(tmp_path) == ["export"]


def without_links(*_):
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("links", [True, False])
def test_two_files_become_one_until_either_is_written_again(links, tmp_path, stub):
    if not links:
        stub(os, "link", without_links)
    one, two = tmp_path / "one", tmp_path / "two"
    write_atomically(one, "first")
    for _ in range(2):  # where both are one file already, a rename does nothing
        same_file(two, one)
        assert two.read_text() == "first" and sorted(os.listdir(tmp_path)) == ["one", "two"]
    assert os.path.samefile(one, two) == links
    write_atomically(one, "second")
    assert two.read_text() == "first"


def test_a_failed_link_leaves_the_old_file(tmp_path, stub):
    for name in ("one", "two"):
        write_atomically(tmp_path / name, name)
    stub(Path, "replace", no_rename)
    with pytest.raises(InputError, match="two cannot be written: No space left on device"):
        same_file(tmp_path / "two", tmp_path / "one")
    assert (tmp_path / "two").read_text() == "two" and sorted(os.listdir(tmp_path)) == ["one", "two"]
