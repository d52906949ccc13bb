"""How fast a run goes, and when it will have ended."""

import time
from collections.abc import Callable


class Pace:
    """Measures the steps of a run; the first of each epoch, for which TensorFlow may trace, is left out.

    Args:
        epochs, steps: of the run, and of an epoch.
        clock: seconds.
    """

    def __init__(self, epochs: int, steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.epochs, self.steps = epochs, steps
        self.clock = clock
        self.step_seconds: float | None = None  # of the latest epoch that has more than one step
        self._rest: float | None = None  # seconds of an epoch behind its last step: validation and saving
        self._epoch = self._done = self._counted = 0
        self._begun = self._first = self._last = 0.0

    def begin_epoch(self, epoch: int) -> None:
        """Begins one, counted from 0."""
        self._epoch, self._done, self._counted = epoch, 0, 0
        self._begun = self.clock()

    def end_step(self, step: int) -> None:
        """Counts a training step, the number `step` of its epoch, from 0."""
        self._last, self._done = self.clock(), step + 1
        if self._counted == 0:
            self._first = self._last
            self.step_seconds = self.step_seconds or self._last - self._begun
        else:
            self.step_seconds = (self._last - self._first) / self._counted
        self._counted += 1

    def end_validation_step(self, step: int) -> None:
        """Leaves the very first one out, for which TensorFlow traces."""
        if self._rest is None and step == 0:
            self._last = self.clock()

    def end_epoch(self) -> None:
        """Ends one, its validation done."""
        self._rest = self.clock() - self._last
        self._epoch, self._done = self._epoch + 1, 0

    @property
    def lacking(self) -> str:
        """What `left` does not know yet, in words."""
        return " and the validations" if self._rest is None else ""

    def left(self) -> float | None:
        """Seconds to the end of the run; None before the first step; of what `lacking` says, nothing."""
        if self.step_seconds is None:
            return None
        epochs = self.epochs - self._epoch
        return (epochs * self.steps - self._done) * self.step_seconds + epochs * (self._rest or 0.0)
