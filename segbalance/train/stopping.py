"""Ctrl-C and SIGTERM as requests that training meets after its step, so that it can save first."""

import contextlib
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

TERMINATED = 128 + signal.SIGTERM  # exit status of a program that SIGTERM ended


class StopRequest:
    """While it is entered, the first signal is kept until `meet`; the second ends the program at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}  # {signal: what it did before}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # others get no signals
            self._before = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.number is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self:
            self.meet()
        self.number = number
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print("\nstopping after this step; the same again stops at once", flush=True)

    def meet(self) -> NoReturn:
        """Ends the program as the signal would have.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with status 143.
        """
        if self.number == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt
