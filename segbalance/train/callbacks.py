"""What happens around the epochs of `model.fit`: records, weights, a stop at NaN, the optional loggers."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segbalance.balancing.draws import DrawStream
from segbalance.balancing.ledger import epoch_rows, suspicion, write_ledger, write_skipped
from segbalance.balancing.plan import BalancePlan
from segbalance.dataloader.batches import Batch
from segbalance.errors import InputError
from segbalance.files.writing import same_file
from segbalance.legacy_keras import tf
from segbalance.model.freezing import EncoderFreezing
from segbalance.model.host_copy import HostCopy
from segbalance.runtime.memory import release_freed_memory
from segbalance.runtime.screen import say
from segbalance.train.background import BackgroundWriter
from segbalance.train.best_by import POOLED, score_name, score_over_subsets
from segbalance.train.checkpointer import Checkpointer, copy_step
from segbalance.train.config import TrainConfig
from segbalance.train.folder import BEST, LAST, history_row, main_score, write_history
from segbalance.train.loggers import TensorBoardLogger, WandbLogger, WorstOfBest
from segbalance.train.progress import EpochLines
from segbalance.train.resuming import Digests, Resumption
from segbalance.train.stopping import StopRequest

RELEASE_STEPS = 200
MUCH_WAITING = 0.2  # share of an epoch's time from which on a person is told


class StopAtNaN(tf.keras.callbacks.Callback):
    """Ends the run with an InputError at the first step, counted from 0, whose loss is no number."""

    def __init__(self, steps_per_epoch: int) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch for the message."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        """Looks at the epoch's mean loss, which turns NaN with its first step that is."""
        if not math.isfinite(logs["loss"]):
            step = self.epoch * self.steps_per_epoch + batch
            place = f"epoch {self.epoch + 1}, its step {batch + 1}"
            raise InputError(
                f"the loss became {logs['loss']} at step {step}, counted from 0 ({place}); expected a finite "
                "number. Try a lower --learning_rate, or --mixed_precision False."
            )


class WaitingShare(tf.keras.callbacks.Callback):
    """Says once which share of an epoch's training steps' time the model waited for data, where it is large.

    Args:
        waited: scalar, the seconds waited so far, from `timed_waiting`.
    """

    def __init__(self, waited: tf.Variable) -> None:
        super().__init__()
        self.waited = waited
        self.started = self.stopped = self.before = 0.0
        self.told = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self.started, self.before = time.perf_counter(), float(self.waited.numpy())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Leaves the validation out, which comes after the epoch's last step."""
        self.stopped = time.perf_counter()

    def share(self) -> float:
        """Of the epoch's steps so far, in [0, 1]."""
        return (float(self.waited.numpy()) - self.before) / (self.stopped - self.started)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Prints the share, unless it is small or an earlier one was printed."""
        if not self.told and self.share() >= MUCH_WAITING:
            self.told = True
            say(f"epoch {epoch + 1} waited for data: {self.share():.1%} of its training steps' time")


class MemoryRelease(tf.keras.callbacks.Callback):
    """Hands freed memory back once in RELEASE_STEPS steps, so that a run's memory does not grow for hours."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the steps of all epochs together, which may be short."""
        self.steps += 1
        if self.steps % RELEASE_STEPS == 0:
            release_freed_memory()


class RunRecorder(tf.keras.callbacks.Callback):
    """Writes history.csv and the last weights each epoch, the best weights by the score that chooses.

    Args:
        copy: of the model, whose network's weights are saved.
        writer: writes them.
        folder: of the run.
        rows: history so far.
        seconds: that the epoch has taken already.
        best_by: one of BEST_BY.
    """

    def __init__(
        self,
        copy: HostCopy,
        writer: BackgroundWriter,
        folder: str | Path,
        rows: Sequence[Mapping[str, float]] = (),
        seconds: float = 0.0,
        best_by: str = POOLED,
    ) -> None:
        super().__init__()
        self.copy, self.writer = copy, writer
        self.folder = folder
        self.best_by = best_by
        self.rows = list(rows)
        self.best = max((row[main_score(row)] for row in rows), default=-math.inf)
        self.taken, self.started = seconds, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self.started, self.taken = time.perf_counter() - self.taken, 0.0

    def seconds(self) -> float:
        """That the epoch has taken so far."""
        return time.perf_counter() - self.started

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Records the epoch; gives the logs of the callbacks that follow what they lack."""
        optimizer = self.model.optimizer
        logs["learning_rate"] = float(optimizer.learning_rate)
        logs.update(score_over_subsets(logs, self.best_by, self.model.subsets))
        copy_step(self.copy, self.writer)
        last = Path(self.folder, LAST)
        self.writer.submit(lambda: self.copy.write_weights(last))
        if logs[main_score(logs)] > self.best:
            self.best = logs[main_score(logs)]
            self.writer.submit(lambda: same_file(Path(self.folder, BEST), last))
        self.rows.append(history_row(epoch + 1, logs, self.seconds()))
        rows = list(self.rows)
        self.writer.submit(lambda: write_history(rows, self.folder))


class LedgerWriter(tf.keras.callbacks.Callback):
    """Writes ledger.csv and skipped.csv each epoch, and warns where an epoch did not keep its shares.

    Args:
        plan: how the draws are balanced.
        stream: of the training data.
        folder: of the run.
        writer: writes ledger.csv.
        rows: ledger so far.
    """

    def __init__(
        self,
        plan: BalancePlan,
        stream: DrawStream,
        folder: str | Path,
        writer: BackgroundWriter,
        rows: Iterable[dict[str, Any]] = (),
    ) -> None:
        super().__init__()
        self.plan = plan
        self.stream = stream
        self.folder, self.writer = folder, writer
        self.rows = list(rows)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch."""
        rows = epoch_rows(epoch, self.plan, self.stream)
        self.rows += rows
        ledger = list(self.rows)
        self.writer.submit(lambda: write_ledger(ledger, self.folder))
        stream = self.stream
        write_skipped(stream.bad_files, self.folder, stream.steps_per_epoch, self.params["epochs"])
        if warning := suspicion(rows):
            print(warning, flush=True)


def run_callbacks(
    config: TrainConfig,
    copy: HostCopy,
    plan: BalancePlan,
    stream: DrawStream,
    folder: str | Path,
    resumption: Resumption,
    digests: Callable[[], Digests],
    stop: StopRequest,
    writer: BackgroundWriter,
    waited: tf.Variable | None = None,
    bar: "tqdm[Any] | None" = None,
    validation: Iterable[Batch] = (),
) -> list[tf.keras.callbacks.Callback]:
    """The callbacks of a run, in the order in which they must come.

    Args:
        config: resolved.
        copy: of the model that learns.
        plan: how the draws are balanced.
        stream: of the training data.
        folder: of the run.
        resumption, digests, stop, writer: as Checkpointer takes them.
        waited: seconds waited for data; None where they cannot be measured.
        bar: of `live_bar`, if any.
        validation: its batches, from which the loggers take examples.
    """
    state = resumption.state or {"history": [], "ledger": [], "seconds": 0.0, "wandb": None}
    best_by = config.optimisation.best_by
    recorder = RunRecorder(copy, writer, folder, state["history"], state["seconds"], best_by)
    callbacks = [
        StopAtNaN(config.steps_per_epoch),
        recorder,
        EpochLines(config, recorder, bar),
        *([] if waited is None else [WaitingShare(waited)]),
        LedgerWriter(plan, stream, folder, writer, state["ledger"]),
        MemoryRelease(),
        *(
            [EncoderFreezing(copy.network, config.optimisation.freeze_epochs)]
            if config.optimisation.freeze_epochs
            else []
        ),
    ]
    pictures = WorstOfBest(config, copy.network, validation, recorder.best)
    if config.run.log == "tensorboard":
        callbacks.append(TensorBoardLogger(folder, pictures))
    if config.run.log == "wandb":
        callbacks.append(WandbLogger(folder, config.options(), pictures, state["wandb"]))
    if config.optimisation.patience is not None:
        score = f"val_{score_name(config.kind, config.optimisation.best_by)}"
        callbacks.append(
            tf.keras.callbacks.EarlyStopping(score, mode="max", patience=config.optimisation.patience)
        )
    return [
        *callbacks,
        Checkpointer(config, copy, stream, folder, callbacks, resumption, digests, stop, writer),
    ]
