"""What a person sees of the epochs: a line each, a live bar on a terminal, now and then a line in a log."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile

from segbalance.data_processing.tasks import task_of_history
from segbalance.legacy_keras import tf
from segbalance.runtime.memory import family_memory
from segbalance.runtime.progress import LINE_SECONDS
from segbalance.runtime.screen import is_quiet, is_terminal, say
from segbalance.train.best_by import POOLED, best_by_of
from segbalance.train.config import TrainConfig
from segbalance.train.folder import main_score
from segbalance.train.pace import Pace

WIDTH = 100  # most characters of an epoch's line
BAR_SECONDS = 0.1  # between two looks of the live bar
MEASURED_STEPS = 10  # after which time and memory are told
SCORES = {"iou": "IoU", "recall": "recall"}  # {score of a part: in an epoch's line}


def epoch_line(
    epoch: int,
    epochs: int,
    logs: Mapping[str, Any],
    subsets: Sequence[str],
    *,
    best: float,
    images_per_second: float,
    left: float,
) -> str:
    """The line of an epoch, of at most WIDTH characters; a long name of a subset is cut.

    Args:
        epoch: counted from 1.
        logs: of Keras.
        subsets: those of the validation.
        best: highest score so far of those that choose the best epoch.
        left: seconds to the end of the run.
    """
    before = f"epoch {epoch}/{epochs}  loss {float(logs['loss']):.3f}  {_scores(logs, best)}"
    behind = f"  {_speed(images_per_second)}  {tqdm.format_interval(left)} left"
    return f"{before}{_weakest(logs, subsets, WIDTH - len(before) - len(behind))}{behind}"


def _speed(images_per_second: float) -> str:
    return f"{images_per_second:{'.0f' if images_per_second >= 100 else '.3g'}} images/s"


def _scores(logs: Mapping[str, Any], best: float) -> str:
    """The score that chooses the best epoch; balanced accuracy is the mean recall of the classes."""
    word = SCORES[task_of_history(logs.keys()).parts[0]]
    best_by = best_by_of(logs.keys())
    word = word if best_by == POOLED else f"{best_by} {word}"
    return f"{word} {float(logs[main_score(logs)]):.3f} (best {best:.3f})"


def _weakest(logs: Mapping[str, Any], subsets: Sequence[str], room: int) -> str:
    """The weakest of several subsets and its score, in `room` characters; none without foreground."""
    part = task_of_history(logs.keys()).parts[0]
    scores = {name: float(logs.get(f"val_{part}_{name}", math.nan)) for name in subsets}
    known = {name: score for name, score in scores.items() if math.isfinite(score)}
    if len(known) < 2:
        return ""
    name = min(known, key=known.__getitem__)
    score = f" {known[name]:.3f}"
    room -= len(f"  weakest {score}")
    return f"  weakest {name if len(name) <= room else name[: max(room - 1, 0)] + '…'}{score}"


class AboveBar(DummyTqdmFile):
    """A stream whose lines wipe out the bar first; tqdm itself does not know streams that are wrapped."""

    def __init__(self, wrapped: Any, bar: "tqdm[Any]") -> None:
        super().__init__(wrapped)
        self.wrapper_setattr("_bar", bar)

    def write(self, text: str, nolock: bool = False) -> None:
        self._bar.clear()
        super().write(text, nolock)


@contextlib.contextmanager
def live_bar() -> Iterator["tqdm[Any] | None"]:
    """A bar at the bottom of the terminal, above which all others print meanwhile; None in a log file."""
    before = sys.stdout, sys.stderr
    if is_quiet() or not is_terminal(sys.stdout):
        yield None
        return
    form = "{n_fmt}/{total_fmt} [{bar:10}] {desc}"
    with tqdm(total=1, file=sys.stdout, leave=False, dynamic_ncols=True, bar_format=form, delay=1e-9) as bar:
        sys.stdout, sys.stderr = AboveBar(before[0], bar), AboveBar(before[1], bar)
        try:
            yield bar
        finally:
            sys.stdout, sys.stderr = before


class EpochLines(tf.keras.callbacks.Callback):
    """Prints a line for each epoch; behind the callback that records it, which knows the best score.

    Args:
        config: resolved.
        recorder: has the highest score so far as `best`.
        bar: of `live_bar`.
    """

    def __init__(self, config: TrainConfig, recorder: Any, bar: "tqdm[Any] | None" = None) -> None:
        super().__init__()
        self.batch_size, self.epochs = config.optimisation.batch_size, config.optimisation.epochs
        self.steps = config.steps_per_epoch
        self.recorder, self.bar = recorder, bar
        self.pace = Pace(self.epochs, self.steps)
        self.epoch, self.steps_seen = 0, 0
        self.shown = time.perf_counter()
        self.latest = ""  # scores of the epoch before

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self.epoch = epoch
        self.pace.begin_epoch(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        """Counts the step."""
        self.pace.end_step(batch)
        self.steps_seen += 1
        if self.steps_seen == min(MEASURED_STEPS, self.steps):
            say(self._expected())
        self._show(f"step {batch + 1}/{self.steps}", f"loss {float(logs['loss']):.3f}", batch + 1)

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the batch of the validation."""
        self.pace.end_validation_step(batch)
        self._show(f"validation batch {batch + 1}", f"validation batch {batch + 1}", self.steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Prints the line."""
        self.pace.end_epoch()
        self.latest = f"  {_scores(logs, self.recorder.best)}{_weakest(logs, self.model.subsets, 40)}"
        line = epoch_line(
            epoch + 1,
            self.epochs,
            logs,
            self.model.subsets,
            best=self.recorder.best,
            images_per_second=self._images_per_second(),
            left=self.pace.left() or 0.0,
        )
        say(line)
        self.shown = time.perf_counter()

    def _images_per_second(self) -> float:
        return self.batch_size / max(self.pace.step_seconds or 0.0, 1e-9)

    def _show(self, where: str, what: str, done: int) -> None:
        """Prints a line of `where` and `what`, or draws the bar of `done` steps, where it is time to."""
        now = time.perf_counter()
        if now - self.shown < (LINE_SECONDS if self.bar is None else BAR_SECONDS):
            return
        self.shown = now
        speed = _speed(self._images_per_second())
        left = f"{tqdm.format_interval(self.pace.left() or 0)} left"
        epoch = f"epoch {self.epoch + 1}/{self.epochs}"
        if self.bar is None:
            say("  ".join(dict.fromkeys([epoch, where, what, speed, left])))
            return
        self.bar.total, self.bar.n = self.steps, done
        self.bar.set_description_str(f"{epoch}  {what}{self.latest}  {speed}  {left}")

    def _expected(self) -> str:
        """How long it will take and how much memory it takes."""
        memory = family_memory(os.getpid()) / 1024
        words = [tqdm.format_interval(self.pace.left() or 0) + self.pace.lacking]
        words += [f"{memory:.1f} GB of memory"] if memory else []
        words += [
            f"{tf.config.experimental.get_memory_info(gpu)['peak'] / 2**30:.1f} GB on {gpu}"
            for gpu in (f"GPU:{number}" for number in range(len(tf.config.list_logical_devices("GPU"))))
        ]
        return f"expected: {'; '.join(words)}"
