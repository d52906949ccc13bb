"""Weights files: HDF5 with numbers of their own and nothing else, checked before Keras reads them.

Keras chooses by its name what a file is taken for, and HDF5 lets a file show what lies in other files.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from segbalance.errors import InputError
from segbalance.files.locks import check_held
from segbalance.files.writing import own_name

SIGNATURE = b"\x89HDF\r\n\x1a\n"
EXTENSIONS = (".h5", ".hdf5")
UNFINISHED = ".tmp-"  # begins the name of a file that is being written
MOST_EXPANSION = 20  # of numbers to the file that holds them; Keras does not compress at all


@contextlib.contextmanager
def whole_weights(path: str | Path) -> Iterator[Path]:
    """A temporary name to write weights to, which is renamed if the block ends well and deleted if not.

    Raises:
        InputError: there is no room, the place cannot be written to, or its folder's lock was lost; the old
            file is as it was.
    """
    path = Path(path)
    # A name of this process's own: another may have taken the folder over.
    temporary = path.with_name(f"{UNFINISHED}{own_name()}-{path.name}")
    try:
        yield temporary
        check_held([path])
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # h5py raises either
        raise InputError(
            f"{path} cannot be written: {error}. Choose a folder that can be written to and has room left."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def weights_problem(path: str | Path) -> str | None:
    """Why a file cannot be taken for plain weights, in words; None if it can.

    Whether they are those of a network is found when they are read.
    """
    if not str(path).endswith(EXTENSIONS):
        return f"its name does not end in {EXTENSIONS[0]}"
    try:
        with open(path, "rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                return "it is no HDF5 file"
        with h5py.File(path, "r") as file:
            return _foreign(file, os.path.getsize(path))
    except Exception as error:  # h5py raises several types on damaged and crafted files
        return str(error) or type(error).__name__


def _foreign(file: h5py.File, size: int) -> str | None:
    """What an open HDF5 file of `size` bytes has besides its own numbers, in words, or None."""
    waiting, seen, numbers = [file], set(), 0
    while waiting:
        group = waiting.pop()
        for name in group:
            place = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return f"{place} is a link to elsewhere"
            item = group[name]
            if item in seen:  # groups may hold one another
                continue
            seen.add(item)
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biuf":
                return f"{place} holds something else than numbers"
            elif item.external or item.is_virtual:
                return f"{place} is kept in other files"
            else:
                numbers += math.prod(item.shape or ()) * item.dtype.itemsize
    if numbers > MOST_EXPANSION * size:
        return f"it would unfold to {numbers} bytes from {size}"
    return None
