"""Writing in a thread, in order, while the training goes on."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundWriter:
    """Makes writes one after another in a thread of its own, and none after one that failed.

    Errors of a write are raised by the next `submit`, `check` or `wait`. While it is entered writes may wait;
    leaving it waits for all.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "writer", _give_way)
        self._writes: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self.wait()
        except Exception as late:
            if error is None:
                raise
            print(f"\n{late}")  # what ends the training comes first
        finally:
            self._pool.shutdown()

    def submit(self, write: Callable[[], None]) -> None:
        """Has `write` made after those before it."""
        self.check()
        self._writes.append(self._pool.submit(self._make, write))

    def check(self) -> None:
        """Raises what a write has raised that has ended since."""
        while self._writes and self._writes[0].done():
            self._writes.popleft().result()

    def wait(self) -> None:
        """Waits for all writes. Raises what one has raised."""
        while self._writes:
            self._writes.popleft().result()

    def _make(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except BaseException:
            self._failed = True
            raise


def _give_way() -> None:
    """Leaves the cores to the training; on Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        own = os.PRIO_PROCESS, threading.get_native_id()
        os.setpriority(*own, max(10, os.getpriority(*own)))
