"""Which subset gets which transform, as the command line, a file of one's own or neither says.

What comes in may be names of built-in pipelines, names of functions, or functions; what goes out are names
that a run folder can hold: `strong`, `transforms:gentle` for a function of one's own file, whatever it is
called, or `package.module:function`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segbalance.errors import InputError
from segbalance.transforms.own_file import (
    FILE,
    PREFIX,
    OwnFile,
    forget_own_file,
    how_to_begin,
    is_own,
    load_own_file,
)
from segbalance.transforms.pipelines import TRANSFORMS, unknown_transform

WITHOUT_A_FILE = {"default": "train"}


def is_built_in(name: str) -> bool:
    """Whether a stored name stands for no code but this project's."""
    return name in TRANSFORMS


def choose_transforms(
    given: Mapping[Any, Any] | str | None, clones_file: str | Path | None = None
) -> tuple[dict[str, str], str]:
    """Says by name which subset gets which transform; runs the file that decides on it, if one does.

    Args:
        given: what --transforms says: {subset or `default`: name}, the path of a .py file, or None.
        clones_file: the transforms.py of the clone that the command was started from. It decides where
            nothing is given, and is looked in for names that are given.

    Returns:
        ({subset or `default`: name}, what to print about it)

    Raises:
        InputError: the file cannot be run, or a transform is of no known name.
    """
    forget_own_file()
    file: OwnFile | None = None
    choice: Mapping[Any, Any] = WITHOUT_A_FILE
    if isinstance(given, Mapping):
        choice = given
        if clones_file and _may_be_own(given.values()):
            file = load_own_file(clones_file)
    elif path := given or clones_file:
        file = load_own_file(path)
        choice = file.subset_transforms()
    names = {str(subset): stored_name(value, file) for subset, value in choice.items()}
    told = f"transforms: {_sources(names, file, decides=choice is not given)}"
    return names, told + (_not_used(clones_file) if given is None else "")


def _may_be_own(names: Iterable[str]) -> bool:
    """Whether one of the names may be that of a function of one's own file."""
    return any(is_own(name) or not (is_built_in(name) or ":" in name) for name in names)


def stored_name(value: Any, file: OwnFile | None = None) -> str:
    """The name under which a run folder holds a transform.

    Args:
        value: name or function.
        file: where names and functions that are not built in are looked up.

    Raises:
        InputError: it is of no known name.
    """
    if isinstance(value, str) and (is_built_in(value) or ":" in value):
        return value
    contents = vars(file.module) if file else {}
    function = contents.get(value) if isinstance(value, str) else value
    if not callable(function):
        raise unknown_transform(value, file)
    for name, built_in in TRANSFORMS.items():
        if function is built_in:
            return name
    if file is None:
        raise InputError(
            f"transform {value!r} is a function of no file of transforms, and not built in; expected a name. "
            f"Put it into such a file; {how_to_begin()}."
        )
    for name, other in contents.items():
        if other is function:
            return f"{PREFIX}{name}"
    raise InputError(f"{file.path}: the transform {value!r} has no name in the file; define it with def")


def _sources(names: Mapping[str, str], file: OwnFile | None, decides: bool) -> str:
    """Where transforms come from, in words: the file, `built in`, modules."""
    own = [name for name in names.values() if file and is_own(name)]
    sources = [str(file.path)] if file and own else []
    sources += ["built in"] if any(map(is_built_in, names.values())) else []
    sources += sorted({name.partition(":")[0] for name in names.values() if ":" in name and name not in own})
    return ", ".join(sources) + (f", as {file.path} says" if decides and file and not own else "")


def _not_used(clones_file: str | Path | None) -> str:
    """A warning about a transforms.py in the working folder that might be thought to decide."""
    here = Path(FILE)
    if not here.is_file() or (clones_file and Path(clones_file).resolve() == here.resolve()):
        return ""
    return f"\nwarning: {here.absolute()} is not used; pass --transforms {FILE} to have it decide"
