"""A person's own file of transforms: loaded by its path, under one fixed module name.

A process has one such file at most. It is a module, so that its classes and functions can be sent to worker
processes, which run the same text before they unpack anything; the folder and name of the file do not matter.
"""

import functools
import hashlib
import inspect
import sys
import traceback
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segbalance.errors import InputError
from segbalance.runtime.verbs import in_clone, program, typed

MODULE = "segbalance_own_transforms"
VARIABLE = "SUBSET_TRANSFORMS"
FILE = "transforms.py"  # of a clone, and of the copy in a run folder
# What the stored names of its functions begin with, whatever the file is called; no module's name.
PREFIX = "transforms:"


def how_to_begin() -> str:
    """Half a sentence on where to get a file of transforms to begin with."""
    if program() is None:
        return f"{in_clone(FILE)} is the clone's, to edit or to copy"
    return f"`{typed('transforms')} --output my_transforms.py` writes one to begin with"


@dataclass(frozen=True)
class OwnFile:
    """A file of transforms that this process has run.

    Args:
        path: absolute.
        source: the bytes that were run; the file itself may have changed since.
        module: what they made.
    """

    path: Path
    source: bytes = field(repr=False)
    module: types.ModuleType

    @property
    def sha256(self) -> str:
        """Of the bytes, in hexadecimal."""
        return hashlib.sha256(self.source).hexdigest()

    @property
    def functions(self) -> list[str]:
        """Names of the functions that the file itself defines."""
        return [
            name
            for name, value in vars(self.module).items()
            if inspect.isfunction(value) and value.__module__ == MODULE
        ]

    def function(self, name: str) -> Callable[[int], Any]:
        """The function of a stored name, of `image_size`. Raises InputError where the file has none."""
        own = name.removeprefix(PREFIX)
        value = vars(self.module).get(own)
        if not callable(value):
            raise InputError(
                f"transform {name!r}: {self.path} has no function {own!r}; it has: "
                f"{', '.join(self.functions) or 'none'}"
            )
        return value

    def subset_transforms(self) -> dict[str | int, str | Callable[[int], Any]]:
        """Its SUBSET_TRANSFORMS: {subset or `default`: name or function}.

        Raises:
            InputError: there is none, or it holds something else.
        """
        choice = vars(self.module).get(VARIABLE)
        example = f'{VARIABLE} = {{"4": "strong", "default": "train"}}'
        if choice is None:
            raise InputError(f"{self.path} has no {VARIABLE}; expected a dictionary, as in {example}")
        if not isinstance(choice, dict):
            raise InputError(
                f"{self.path}: {VARIABLE} is of type {type(choice).__name__}; expected a dictionary, as in "
                f"{example}"
            )
        for subset, value in choice.items():
            if not isinstance(subset, str | int) or not (isinstance(value, str) or callable(value)):
                raise InputError(
                    f"{self.path}: {VARIABLE} has {subset!r}: {value!r}; expected the name of a subset, and "
                    "the name of a transform or a function of the file"
                )
        return choice


def load_own_file(path: str | Path) -> OwnFile:
    """Runs a file of transforms, in place of what this process had.

    Raises:
        InputError: there is no such file, or running it fails.
    """
    path = Path(path).absolute()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"transforms file {path}: {error.strerror}. Expected a Python file with {VARIABLE}; "
            f"{how_to_begin()}."
        ) from None
    return run_own_file(path, source)


def run_own_file(path: Path, source: bytes) -> OwnFile:
    """Makes the module of a file of transforms; `load_own_file`, without reading it."""
    forget_own_file()
    module = types.ModuleType(MODULE)
    own = OwnFile(path, source, module)
    vars(module).update(__file__=str(path), __own_file__=own)
    sys.modules[MODULE] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that it can import what lies beside it, as a script can
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:  # whatever it raises
        forget_own_file()
        raise InputError(
            f"transforms file {path} cannot be run: {type(error).__name__}: {error}{_line(path, error)}"
        ) from None
    return own


def _line(path: Path, error: BaseException) -> str:
    lines = [step.lineno for step in traceback.extract_tb(error.__traceback__) if step.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""


def own_file() -> OwnFile | None:
    """The file of transforms that this process has run, if any."""
    return getattr(sys.modules.get(MODULE), "__own_file__", None)


def own_file_again() -> Callable[[], object] | None:
    """What makes the same module in another process, from the same bytes; None where there is no file."""
    own = own_file()
    return functools.partial(run_own_file, own.path, own.source) if own else None


def forget_own_file() -> None:
    """This process has no file of transforms any more; what was made with it stays as it is."""
    sys.modules.pop(MODULE, None)


def is_own(name: str) -> bool:
    """Whether a transform of this stored name is a function of one's own file."""
    return name.startswith(PREFIX)


def file_of(names: Iterable[str]) -> OwnFile | None:
    """The file of transforms, if one of these stored names is in it."""
    own = own_file()
    return own if own and any(map(is_own, names)) else None
