"""Checkpoints: whole or not there, the last two kept, damage found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segbalance.errors import InputError
from segbalance.files.locks import locked
from segbalance.train.checkpoints import (
    CHECKPOINTS,
    HASHES,
    STATE,
    checkpoint_name,
    newest_checkpoint,
    remove_others,
    save_checkpoint,
)
from tests.support.holding import foreign_lock
from tests.support.places import ROOT


def save(folder, step, content=b"weights"):
    """Saves a checkpoint of `step` without TensorFlow."""
    state = {"step": step}
    save_checkpoint(
        folder,
        checkpoint_name(0, step),
        lambda prefix: Path(f"{prefix}.data").write_bytes(content),
        state,
    )


def names(folder):
    return sorted(path.name for path in Path(folder, CHECKPOINTS).iterdir())


def test_the_newest_comes_back_and_the_last_two_stay(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step)
    assert names(tmp_path) == [checkpoint_name(0, 2), checkpoint_name(0, 10)]
    checkpoint, problems = newest_checkpoint(tmp_path)
    assert checkpoint.state == {"step": 10} and problems == []
    assert Path(checkpoint.variables + ".data").read_bytes() == b"weights"


def test_an_epoch_is_newer_than_its_last_step(tmp_path):
    assert checkpoint_name(1, 6) > checkpoint_name(0, 6) > checkpoint_name(0, 5)
    assert checkpoint_name(12, 100) > checkpoint_name(9, 90)


def test_without_any_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) == (None, [])


def test_the_hashes_are_those_of_sha256sum(tmp_path):
    save(tmp_path, 1)
    folder = Path(tmp_path, CHECKPOINTS, checkpoint_name(0, 1))
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    done = subprocess.run(["sha256sum", "--check", HASHES], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("OK") == 2


def shortened(folder):
    content = (folder / "variables.data").read_bytes()
    (folder / "variables.data").write_bytes(content[:-1])


def flipped(folder):
    text = (folder / STATE).read_text()
    (folder / STATE).write_text(text.replace("2", "3"))


DAMAGE = {
    "shortened": (shortened, "variables.data is not what was written"),
    "one digit": (flipped, "state.json is not what was written"),
    "missing": (lambda folder: (folder / "variables.data").unlink(), "No such file"),
    "no hashes": (lambda folder: (folder / HASHES).unlink(), "No such file"),
    "empty hashes": (lambda folder: (folder / HASHES).write_text(""), "does not name all files"),
    "torn hashes": (lambda folder: (folder / HASHES).write_text("0123"), "dictionary update"),
    "elsewhere": (
        lambda folder: (folder / HASHES).write_text((folder / HASHES).read_text() + "00  ../../secret\n"),
        "names ../../secret, which is elsewhere",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path, kind):
    save(tmp_path, 1)
    save(tmp_path, 2)
    damage, reason = DAMAGE[kind]
    damage(Path(tmp_path, CHECKPOINTS, checkpoint_name(0, 2)))
    checkpoint, (problem,) = newest_checkpoint(tmp_path)
    assert checkpoint.state == {"step": 1}
    assert checkpoint_name(0, 2) in problem and "is damaged: " in problem and reason in problem


def test_all_damaged_is_an_error(tmp_path):
    for step in (1, 2):
        save(tmp_path, step)
        shortened(Path(tmp_path, CHECKPOINTS, checkpoint_name(0, step)))
    with pytest.raises(
        InputError, match=r"(?s)no checkpoint of .* is whole.*step000000002.*step000000001.*backup"
    ):
        newest_checkpoint(tmp_path)


def test_what_the_run_goes_on_without_is_removed(tmp_path):
    save(tmp_path, 1)
    kept, _ = newest_checkpoint(tmp_path)
    save(tmp_path, 2)
    Path(tmp_path, CHECKPOINTS, f".{checkpoint_name(0, 3)}.99.tmp").mkdir()
    remove_others(tmp_path, kept)
    assert names(tmp_path) == [checkpoint_name(0, 1)]


def test_a_failed_write_leaves_the_earlier_ones_alone(tmp_path):
    save(tmp_path, 1)

    def fail(prefix):
        Path(f"{prefix}.data").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="step000000002 cannot be written: No space left.*--resume"):
        save_checkpoint(tmp_path, checkpoint_name(0, 2), fail, {})
    assert names(tmp_path) == [checkpoint_name(0, 1)]
    assert newest_checkpoint(tmp_path)[0].state == {"step": 1}


def test_a_run_that_has_lost_its_folder_writes_no_checkpoint(tmp_path):
    with locked(tmp_path, "training", "--work_dir"):
        for step in (1, 2):
            save(tmp_path, step)
        foreign_lock(tmp_path)
        with pytest.raises(InputError, match="is in use: training by process"):
            save(tmp_path, 3)
    assert names(tmp_path) == [checkpoint_name(0, 1), checkpoint_name(0, 2)]


def test_weights_that_were_being_written_are_removed(tmp_path):
    (tmp_path / ".tmp-99-a1b2-best.weights.h5").touch()
    (tmp_path / "best.weights.h5").touch()
    remove_others(tmp_path, None)
    assert os.listdir(tmp_path) == ["best.weights.h5"]


FULL = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from segbalance.legacy_keras import tf
from segbalance.train.checkpoints import save_checkpoint
from segbalance.model.networks import write_variables
from segbalance.errors import InputError
variables = tf.train.Checkpoint(value=tf.Variable(tf.zeros({size})))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))  # bytes: from here on, a write really fails
try:
    name = "epoch00001-step000000002"
    save_checkpoint({folder!r}, name, lambda prefix: write_variables(variables, prefix), {{}})
except InputError as error:
    print("refused:", error)
"""


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error(tmp_path):
    save(tmp_path, 1)
    root = str(ROOT)
    for size, expected in (
        (10**6, "refused: the checkpoint "),
        (10, ""),
    ):  # the second proves that the first failed for its size
        code = FULL.format(root=root, size=size, folder=str(tmp_path))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(expected) and bool(done.stdout) == bool(expected)
        assert not expected or "cannot be written: File too large. The earlier ones" in done.stdout
        assert checkpoint_name(0, 1) in names(tmp_path)
        assert len(names(tmp_path)) == (1 if expected else 2)
