"""TensorFlow's start-up lines, which its C++ code writes before any setting for logs is read."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

STDERR = 2  # the file descriptor: C++ knows nothing of sys.stderr
# What absl says of itself, and of its messages those that only inform: I0000 00:00:17.5 253 port.cc:153] ...
START_UP_LINE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR\s*$"
    rb"|I\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] "
)


@contextlib.contextmanager
def without_start_up_lines() -> Iterator[None]:
    """Holds back what is written to standard error meanwhile, then passes on all but start-up lines.

    Warnings, errors and lines of any other form are passed on, also where an exception comes. A process that
    is ended meanwhile takes them along.
    """
    try:
        kept = os.dup(STDERR)
    except OSError:  # there is no standard error, as under pythonw
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        _flush()
        os.dup2(held_back.fileno(), STDERR)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, STDERR)
            os.close(kept)
            _pass_on(held_back)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


def _pass_on(held_back: IO[bytes]) -> None:
    held_back.seek(0)
    for line in held_back:
        if not START_UP_LINE.match(line):
            os.write(STDERR, line)
