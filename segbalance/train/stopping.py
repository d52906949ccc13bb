"""Ctrl-C and SIGTERM as requests that training meets after its step, so that it can save first."""

import contextlib
import signal
import threading

TERMINATED = 128 + signal.SIGTERM  # exit status of a program that SIGTERM ended


class StopRequest:
    """While it is entered, the first signal is kept until `meet`; the second ends the program at once."""

    def __init__(self):
        self.number = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # others get no signals
            self._before = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *raised):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self):
        return self.number is not None

    def _note(self, number, frame):
        if self:
            self.meet()
        self.number = number
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print("\nstopping after this step; the same again stops at once", flush=True)

    def meet(self):
        """Ends the program as the signal would have.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with status 143.
        """
        if self.number == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt
