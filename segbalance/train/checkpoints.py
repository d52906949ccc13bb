"""Checkpoints of a run: all that its next step depends on, each in a folder that is whole or not there.

A checkpoint holds TensorFlow's variables (data alone, nothing of it is ever executed), state.json with the
rest, and the hashes of both, which `sha256sum -c SHA256SUMS` checks as well.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbalance.errors import InputError
from segbalance.files.locks import check_held
from segbalance.files.writing import json_text
from segbalance.model.weight_files import UNFINISHED
from segbalance.runtime.verbs import typed

CHECKPOINTS = "checkpoints"
VARIABLES, STATE, HASHES = "variables", "state.json", "SHA256SUMS"
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole.

    Args:
        path: of its folder.
        state: content of state.json.
    """

    path: Path
    state: dict[str, Any]

    @property
    def variables(self) -> str:
        """What tf.train.Checkpoint.read takes."""
        return str(self.path / VARIABLES)


def checkpoint_name(epoch: int, step: int) -> str:
    """Name of the checkpoint after `epoch` whole epochs, validation included, and `step` training steps."""
    return f"epoch{epoch:05d}-step{step:09d}"


def save_checkpoint(
    run_folder: str | Path, name: str, write_variables: Callable[[str], object], state: dict[str, Any]
) -> None:
    """Writes a checkpoint, then removes all but the last two.

    Args:
        write_variables: function of a path prefix; raises OSError.
        state: content of state.json, of plain types.

    Raises:
        InputError: it cannot be written, or the run's lock was lost; the earlier ones are as they were.
    """
    folder = Path(run_folder, CHECKPOINTS)
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    if (folder / name).exists():  # no step has been made since
        return
    try:
        temporary.mkdir(parents=True)
        write_variables(str(temporary / VARIABLES))
        (temporary / STATE).write_text(json_text(state), encoding="utf-8")
        files = sorted(temporary.iterdir())
        lines = [f"{_sha256(file)}  {file.name}\n" for file in files]
        (temporary / HASHES).write_text("".join(lines), encoding="utf-8")
        for place in [*files, temporary / HASHES, temporary]:
            _flush(place)
        check_held([folder / name])
        temporary.rename(folder / name)
        _flush(folder)
    except OSError as error:
        raise InputError(
            f"the checkpoint {folder / name} cannot be written: {error.strerror or error}. The earlier ones "
            f"are whole. Make room, then go on with: {typed('train')} --resume {run_folder}"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _found(folder)[KEPT:]:
        _remove(old)


def newest_checkpoint(run_folder: str | Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a run that is whole.

    Returns:
        (Checkpoint or None, what is wrong with each newer one)

    Raises:
        InputError: there are checkpoints, but all are damaged.
    """
    problems: list[str] = []
    for path in _found(Path(run_folder, CHECKPOINTS)):
        try:
            return Checkpoint(path, _checked_state(path)), problems
        except (OSError, ValueError) as error:
            problems.append(f"{path} is damaged: {error}")
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InputError(
            f"no checkpoint of {run_folder} is whole:\n{listed}\n"
            f"Put one back from a backup, or delete {Path(run_folder, CHECKPOINTS)} to begin again."
        )
    return None, problems


def remove_others(run_folder: str | Path, kept: Checkpoint | None) -> None:
    """Removes what the run goes on without: damaged checkpoints, and what it was writing as it was killed.

    Args:
        kept: what the run goes on from, if anything.
    """
    folder = Path(run_folder, CHECKPOINTS)
    for path in Path(run_folder).glob(f"{UNFINISHED}*"):
        path.unlink()
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path)
    for path in _found(folder):
        if kept is None or path.name > kept.path.name:
            _remove(path)


def _found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    return sorted(folder.glob("epoch*-step*"), reverse=True)


def _remove(path: Path) -> None:
    # Renamed first: what is removed in part must not look like a checkpoint.
    removed = path.with_name(f".{path.name}.tmp")
    path.rename(removed)
    shutil.rmtree(removed)


def _checked_state(path: Path) -> dict[str, Any]:
    """Content of state.json. Raises OSError or ValueError where anything is missing or changed."""
    lines = (path / HASHES).read_text(encoding="utf-8").splitlines()
    hashes = dict(line.split("  ", 1)[::-1] for line in lines)
    if STATE not in hashes or len(hashes) < 2:
        raise ValueError(f"{HASHES} does not name all files")
    for name, expected in hashes.items():
        if Path(name).name != name:
            raise ValueError(f"{HASHES} names {name}, which is elsewhere")
        if _sha256(path / name) != expected:
            raise ValueError(f"{name} is not what was written")
    return json.loads((path / STATE).read_text(encoding="utf-8"))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Waits until a file or folder is on the disk, so that a rename never comes before its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot flush a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
