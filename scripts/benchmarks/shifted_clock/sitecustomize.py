"""Runs as Python starts, where this folder is on PYTHONPATH: shifts the clock, and ends with the benchmark.

`time.time`, `time.time_ns` and `datetime.now`, `utcnow` and `today` are off by as many seconds as the file
says that CHAOS_CLOCK names, which is read at each call. The monotonic clocks are as they were: no step of the
real clock changes them either. What libraries ask the system for without Python is not shifted.

The child of the process CHAOS_PARENT is killed when that ends, however it does (Linux).
"""

import ctypes
import datetime
import gc
import os
import signal
import time

PARENT_DEATH = 1  # of prctl(2)
real_time, real_time_ns = time.time, time.time_ns


def offset() -> float:
    """Seconds that the clock is off by now; 0 without a file."""
    try:
        with open(os.environ["CHAOS_CLOCK"]) as file:
            return float(file.read())
    except (KeyError, OSError, ValueError):
        return 0.0


def now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
    """datetime.now by the shifted clock."""
    return cls.fromtimestamp(time.time(), tz)


def utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
    """datetime.utcnow by the shifted clock."""
    return now(cls, datetime.UTC).replace(tzinfo=None)


def shift() -> None:
    """Puts the shifted clock in the real one's place."""
    time.time = lambda: real_time() + offset()
    time.time_ns = lambda: real_time_ns() + int(offset() * 10**9)
    # Compiled libraries know the type by its place and size: it must stay, with other methods.
    (methods,) = gc.get_referents(datetime.datetime.__dict__)
    methods |= {"now": classmethod(now), "today": classmethod(now), "utcnow": classmethod(utcnow)}
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


if "CHAOS_CLOCK" in os.environ:
    shift()
if os.environ.get("CHAOS_PARENT") == str(os.getppid()):
    ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
