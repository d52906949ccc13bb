"""What ends a training before its last step: Ctrl-C, SIGTERM and --max_minutes.

A request is met after the step that is being made, so that the training can save first. Before the first step
is done there is nothing to save, and TensorFlow may be tracing and compiling for minutes.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

TERMINATED = 128 + signal.SIGTERM  # exit status of a program that SIGTERM ended
TIME_IS_UP = 75  # exit status EX_TEMPFAIL of sysexits.h: try again
LAST_WORDS = 1.0  # seconds that a terminal has to take a line
SPARE = 10.0  # seconds before the limit, at least, for the last step and its checkpoint


class TimeLimit:
    """When a training of limited length has to stop so that it ends in time.

    It has to when the time left is less than twice the longest step, or SPARE. A step may have saved, so that
    one is for the next step and one for the checkpoint.

    Args:
        minutes: None for as long as it takes.
        started: `time.monotonic()` at which the clock began.
    """

    def __init__(self, minutes: float | None, started: float) -> None:
        self.minutes = minutes
        self._end = None if minutes is None else started + 60 * minutes
        self._before = time.monotonic()
        self._longest = 0.0
        self._known: set[str] = set()

    def is_near(self, kind: str) -> bool:
        """Whether to stop now, after a step of some kind.

        Args:
            kind: of step; the first of each is not measured, for it waited until TensorFlow had traced it.
        """
        now = time.monotonic()
        if kind in self._known:
            self._longest = max(self._longest, now - self._before)
        self._known.add(kind)
        self._before = now
        return self._end is not None and self._end - now < max(SPARE, 2 * self._longest)


class StopRequest:
    """While it is entered, a signal ends the program at once until the first step is done.

    After that, the first signal is kept until `meet`, and the second ends the program at once.

    Args:
        limit: of the training's time; none by default.
        last_words: what is printed where the program ends before its first step.
    """

    def __init__(self, limit: TimeLimit | None = None, last_words: str = "stopped") -> None:
        self.number: int | None = None
        self._limit = limit or TimeLimit(None, 0)
        self._last_words = last_words
        self._time_is_up = False
        self._begun = False
        self._watch: _SignalWatch | None = None
        self._before: dict[signal.Signals, Any] = {}  # {signal: what it did before}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # others get no signals
            self._watch = _SignalWatch(self._leave)
            self._before = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._end_watch()

    def __bool__(self) -> bool:
        return self._time_is_up or self.number is not None

    def after_step(self, kind: str) -> None:
        """Notes that a step is done, and whether time is up; `kind` as of `TimeLimit.is_near`."""
        self._begun = True  # before the watch ends, so that a signal finds one of the two
        self._end_watch()
        if not self and self._limit.is_near(kind):
            self._time_is_up = True
            print(f"\n--max_minutes {self._limit.minutes:g} are nearly over: stopping", flush=True)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self.meet()
        if not self._begun:
            if _stays(number):
                raise KeyboardInterrupt
            return  # `_leave` is on its way
        self.number = number
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print("\nstopping after this step; the same again stops at once", flush=True)

    def _leave(self, number: int) -> None:
        """Ends the program from another thread, for the main thread may be in TensorFlow for minutes.

        The files of a run are whole at any moment, and processes that read end with this one.
        """
        if number not in (signal.SIGINT, signal.SIGTERM) or _stays(number):
            return
        speaker = threading.Thread(target=self._speak, daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS)  # or a terminal that takes nothing would keep the program
        os._exit(128 + number)

    def _speak(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(f"\n{self._last_words}", flush=True)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()

    def meet(self) -> NoReturn:
        """Ends the program as the signal would have, or because time is up.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with status 143; with 75 where time is up.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(TIME_IS_UP if self.number is None else TERMINATED)


def _stays(number: int) -> bool:
    """Whether the program goes on after a signal: Ctrl-C in a notebook, say, ends what runs there alone."""
    return number == signal.SIGINT and hasattr(sys, "ps1")


class _SignalWatch:
    """Calls a function with the number of each signal at once, in another thread.

    Python's own handlers wait until the main thread comes back to Python.
    """

    def __init__(self, meet: Callable[[int], None]) -> None:
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._wait, args=(read, meet), daemon=True, name="signals")
        self._thread.start()

    def _wait(self, read: int, meet: Callable[[int], None]) -> None:
        with open(read, "rb", buffering=0) as pipe:
            while byte := pipe.read(1):
                meet(byte[0])

    def end(self) -> None:
        """Calls it no more, once it has been called with the signals that came before."""
        signal.set_wakeup_fd(self._before)
        os.close(self._write)
        self._thread.join()
