"""Photos named on a command line by files, folders and globs, and the name that the outputs of each get."""

import glob
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from segbalance.errors import Findings, InputError
from segbalance.files.images import is_image_name, walk_files


class Photo(NamedTuple):
    """A photo and the name of its outputs.

    Args:
        path: of the file, as the command line led to it.
        name: relative, with `/`, without the outputs' extension.
    """

    path: str
    name: str


def find_photos(arguments: Iterable[str], output: str | Path) -> list[Photo]:
    """The photos that `arguments` (list of files, folders and globs) stand for, each once.

    Names are relative to the deepest folder that holds all arguments, so that the outputs of one folder
    mirror it, and those of several stand apart. Photos that differ only in their extension keep it.
    Whatever lies below `output` is left out: it is what an earlier call wrote.

    Returns:
        list of Photo.

    Raises:
        InputError: an argument that leads to no image, or names that cannot be told apart.
    """
    findings, left_out = Findings(), 0
    found: dict[str, str] = {}
    roots: set[str] = set()
    own = os.path.join(os.path.realpath(output), "")
    for argument in arguments:
        photos, own_roots = _expand(argument)
        roots |= own_roots
        for path in photos:
            if os.path.realpath(path).startswith(own):
                left_out += 1
            else:
                found.setdefault(os.path.abspath(path), path)
        if not photos:
            advice = "Expected image files, folders that hold some, or globs such as 'photos/*.jpg'."
            findings.add("--images without an image", _reason(argument), advice)
    for path in found:
        if not _is_utf8(path):
            findings.add("photos whose name is not UTF-8", ascii(path), "Rename them.")
    findings.raise_if_any()
    if not found:
        raise InputError(
            f"--images: all {left_out} images lie in --output {output}, which is left out: it holds what "
            "this command wrote. Choose another --output."
        )
    return _named(found, roots)


def _expand(argument: str) -> tuple[list[str], set[str]]:
    """(paths of the photos, folders that names are relative to) of one argument."""
    if os.path.isdir(argument):
        names = [name for name in walk_files(argument) if is_image_name(name)]
        return [os.path.join(argument, name) for name in names], {os.path.abspath(argument)}
    if os.path.exists(argument):
        return [argument], {os.path.dirname(os.path.abspath(argument))}
    photos: list[str] = []
    roots: set[str] = set()
    for match in sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []:
        if os.path.isdir(match) or is_image_name(match):
            more, more_roots = _expand(match)
            photos += more
            roots |= more_roots
    return photos, roots


def _reason(argument: str) -> str:
    if os.path.isdir(argument):
        return f"{argument}  no image in this folder"
    return f"{argument}  {'no image matches' if glob.has_magic(argument) else 'there is no such file'}"


def _is_utf8(text: str) -> bool:
    return text.encode(errors="replace").decode() == text


def _named(found: dict[str, str], roots: set[str]) -> list[Photo]:
    """list of Photo of {absolute path: path as given}."""
    try:
        base = os.path.commonpath(roots)
    except ValueError:  # several drives of Windows
        raise InputError("--images on several drives: predict them one drive at a time.") from None
    names = {path: Path(os.path.relpath(path, base)).as_posix() for path in found}
    stems = {path: os.path.splitext(name)[0] for path, name in names.items()}
    # Some file systems do not tell a.png and A.png apart.
    taken = Counter(stem.casefold() for stem in stems.values())
    for path, stem in stems.items():
        if taken[stem.casefold()] > 1:
            stems[path] = names[path]
    _refuse_clashes(stems)
    return [Photo(found[path], stem) for path, stem in stems.items()]


def _refuse_clashes(stems: dict[str, str]) -> None:
    findings = Findings()
    first: dict[str, str] = {}
    for path, stem in stems.items():
        other = first.setdefault(stem.casefold(), path)
        if other != path:
            findings.add(
                "photos whose outputs would have one name", f"{other} and {path}", "Rename one of each."
            )
    findings.raise_if_any()
