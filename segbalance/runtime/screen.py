"""What a person sees: how much is said, and in which colours."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from tqdm.utils import ObjectWrapper

BOLD, RED, YELLOW, PLAIN = "\x1b[1m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[0m"
LABEL = re.compile(r"^(error|warning):", re.MULTILINE)


class Verbosity(IntEnum):
    """How much is said: --quiet, neither, --verbose."""

    QUIET, USUAL, VERBOSE = range(3)


_said = [Verbosity.USUAL]


def set_verbosity(verbosity: Verbosity) -> None:
    """Chooses how much is said from now on.

    --verbose lets TensorFlow's own lines through, where it was not imported before and the environment does
    not say otherwise.
    """
    _said[0] = verbosity
    if verbosity == Verbosity.VERBOSE:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0")


def is_quiet() -> bool:
    """Whether only warnings, errors and the result are wanted."""
    return _said[0] == Verbosity.QUIET


def say(text: str) -> None:
    """Prints what --quiet leaves out, at once."""
    if not is_quiet():
        print(text, flush=True)


def is_terminal(stream: Any) -> bool:
    """Whether a person sits behind the stream; it may be None, as under pythonw."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # closed
        return False


def has_colours(stream: Any) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set (no-color.org) or it knows none."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Coloured(ObjectWrapper):
    """A stream in which `warning:` and `error:` at the start of a line are bold and coloured."""

    def write(self, text: str) -> int:
        return int(self._wrapped.write(LABEL.sub(_paint, text)))


def _paint(label: re.Match[str]) -> str:
    return f"{RED if label[1] == 'error' else YELLOW}{label[0]}{PLAIN}"


@contextlib.contextmanager
def own_screen() -> Iterator[None]:
    """The screen of one command: labels in colour where a terminal is; its verbosity ends with it."""
    before, said = (sys.stdout, sys.stderr), _said[0]
    sys.stdout, sys.stderr = (Coloured(stream) if has_colours(stream) else stream for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        _said[0] = said
