"""The folder of a run, held by a lock from before anything is read until all is written."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from segbalance.errors import InputError
from segbalance.files.locks import locked, made_folder
from segbalance.files.writing import check_writable
from segbalance.train.config_file import CONFIG
from segbalance.train.folder import BEST, HISTORY

RUNS = Path("runs")


@contextlib.contextmanager
def new_run_folder(work_dir: str | Path | None) -> Iterator[Path]:
    """The folder of a new run, held until the block ends; a run that fails in its checks leaves none behind.

    By default runs/<date>-<time>, with -2, -3 and so on where that is there already.

    Raises:
        InputError: another process holds it, it cannot be written to, or it holds a run already.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(work_dir) if work_dir else stack.enter_context(_default_folder())
        if os.path.isfile(folder):
            raise InputError(f"work_dir {folder} is a file; expected a folder or a name not taken yet")
        check_writable("--work_dir", folder)
        stack.enter_context(locked(folder, "training", "--work_dir"))
        if any(Path(folder, name).exists() for name in (CONFIG, HISTORY, BEST)):
            raise InputError(
                f"work_dir {folder} holds a run already. Choose another --work_dir, delete it, or go on with "
                f"it: --resume {folder}"
            )
        yield folder


@contextlib.contextmanager
def resumed_folder(folder: str | Path) -> Iterator[Path]:
    """The folder of a run that goes on, held until the block ends.

    Raises:
        InputError: another process holds it, or it cannot be written to.
    """
    with locked(folder, "training", "--resume"):
        yield Path(folder)


@contextlib.contextmanager
def _default_folder() -> Iterator[Path]:
    """A new folder, which is made here, so that no other process can choose it too."""
    check_writable("--work_dir", RUNS)
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = RUNS / (now if number == 1 else f"{now}-{number}")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(made_folder(folder, exist_ok=False))
            except FileExistsError:
                continue
            yield folder
            return
