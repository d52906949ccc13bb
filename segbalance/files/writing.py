"""Files and folders written whole: under temporary names, which are renamed when all is complete."""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from segbalance.errors import InputError
from segbalance.files.locks import check_held

OWN = secrets.token_hex(2)  # processes of two hosts may have one number

Key = TypeVar("Key")
Place = TypeVar("Place", bound=str | Path)


def own_name() -> str:
    """Part of a temporary name that no other process has."""
    return f"{os.getpid()}-{OWN}"


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes text (UTF-8) or bytes, so that `path` is whole or untouched.

    Raises:
        InputError: the place cannot be written to.
    """
    write_together({path: content})


def write_together(contents: Mapping[Place, str | bytes]) -> None:
    """Writes files as `write_atomically` does, and renames none before all are complete.

    Args:
        contents: text or bytes of each path.
    """
    with open_together({path: Path(path) for path in contents}) as files:
        for path, content in contents.items():
            files[path].write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def open_together(places: Mapping[Key, Path]) -> Iterator[dict[Key, BinaryIO]]:
    """Files open for writing under temporary names; renamed if the block ends well, deleted if not.

    Args:
        places: {key: Path}; folders are made.

    Yields:
        {key: binary file}

    Raises:
        InputError: a place cannot be written to, or its folder's lock was lost. An OSError of something else
            than these files must not leave the block.
    """
    temporary = {key: path.with_name(f".{path.name}.{own_name()}.tmp") for key, path in places.items()}
    files: dict[Key, BinaryIO] = {}
    place = None
    try:
        with contextlib.ExitStack() as stack:
            for key, place in places.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                files[key] = stack.enter_context(open(temporary[key], "wb"))
            yield files
            for key, file in files.items():
                place = places[key]
                file.close()  # which writes the rest, and may find the disk full
        check_held(places.values())
        for key, place in places.items():
            temporary[key].replace(place)
    except OSError as error:
        raise InputError(
            f"{place} cannot be written: {error.strerror or error}. "
            "Choose a folder that can be written to and has room left."
        ) from None
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):  # the folder itself may be what is wrong
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of `folder` in the end, or leaves no trace.

    Raises:
        InputError: the place cannot be written to, or its folder's lock was lost.
    """
    folder = Path(folder)
    new, old = (folder.with_name(f".{folder.name}.{own_name()}.{kind}") for kind in ("tmp", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        check_held([folder])
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if old.exists():
            old.rename(folder)
        raise InputError(
            f"--output {folder} cannot be written: {error.strerror or error}. "
            "Choose a folder that can be written to and has room left."
        ) from None
    finally:
        for place in (new, old):
            shutil.rmtree(place, ignore_errors=True)


def same_file(path: str | Path, other: str | Path) -> None:
    """Makes `path` the content of `other`: by a link where the file system knows links, else by a copy.

    Neither may be changed later but by a new file under its name, as all functions here make them.

    Raises:
        InputError: the place cannot be written to, or its folder's lock was lost; the old file is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{own_name()}.tmp")
    try:
        try:
            os.link(other, temporary)
        except OSError:
            shutil.copyfile(other, temporary)
        check_held([path])
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}. "
            "Choose a folder that can be written to and has room left."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)  # also where both were one file already, and nothing was renamed


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON for people and machines: indented, whole or not at all."""
    write_atomically(path, json_text(content))


def json_text(content: Any) -> str:
    """`content` as indented JSON text."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def check_writable(option: str, folder: str | Path) -> None:
    """Raises InputError at once where `folder` neither is nor can become a folder to write to."""
    try:
        nearest = next(place for place in [Path(folder), *Path(folder).absolute().parents] if place.exists())
    except OSError as error:  # as of a name that is too long
        raise InputError(f"{option} {folder}: {error.strerror}. Choose another.") from None
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise InputError(
            f"{option} {folder}: {nearest} is not a folder that can be written to. Choose another."
        )


def check_output(option: str, path: str | Path) -> None:
    """Raises InputError at once where `path` neither is nor can become a file to write."""
    check_writable(option, Path(path).parent)
    if Path(path).is_dir():
        raise InputError(f"{option} {path} cannot be written: it is a folder. Name a file.")
