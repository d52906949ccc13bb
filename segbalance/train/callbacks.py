"""What happens around the epochs of `model.fit`: records, weights, a stop at NaN, the optional loggers."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segbalance.balancing.draws import DrawStream
from segbalance.balancing.ledger import epoch_rows, suspicion, write_ledger, write_skipped
from segbalance.balancing.plan import BalancePlan
from segbalance.errors import InputError
from segbalance.legacy_keras import tf
from segbalance.model.freezing import EncoderFreezing
from segbalance.model.networks import read_variables, save_weights, training_variables, write_variables
from segbalance.runtime.memory import release_freed_memory
from segbalance.train.checkpoints import checkpoint_name, save_checkpoint
from segbalance.train.config import TrainConfig
from segbalance.train.folder import BEST, LAST, history_row, main_score, write_history
from segbalance.train.resuming import STATE_VERSION, Digests, Resumption, versions
from segbalance.train.stopping import StopRequest

RELEASE_STEPS = 200
EARLY_STOPPING = ("wait", "best", "best_epoch", "stopped_epoch")  # its state, beside the best weights


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
    """Prints for each epoch the share of its training steps' time in which the model waited for data.

    Args:
        waited: scalar, the seconds waited so far, from `timed_waiting`.
    """

    def __init__(self, waited: tf.Variable) -> None:
        super().__init__()
        self.waited = waited
        self.started = self.stopped = self.before = 0.0

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
        """Prints the share."""
        print(f"\nepoch {epoch + 1} waited for data: {self.share():.1%} of its training steps' time")


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
    """Writes history.csv and the last weights each epoch, the best weights by their main score.

    Args:
        network: whose weights are saved.
        folder: of the run.
        rows: history so far.
        seconds: that the epoch has taken already.
    """

    def __init__(
        self,
        network: tf.keras.Model,
        folder: str | Path,
        rows: Sequence[Mapping[str, float]] = (),
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.folder = folder
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
        """Records the epoch; adds the learning rate to the logs of the callbacks that follow."""
        optimizer = self.model.optimizer
        logs["learning_rate"] = float(optimizer.learning_rate)
        if logs[main_score(logs)] > self.best:
            self.best = logs[main_score(logs)]
            save_weights(self.network, Path(self.folder, BEST))
        save_weights(self.network, Path(self.folder, LAST))
        self.rows.append(history_row(epoch + 1, logs, self.seconds()))
        write_history(self.rows, self.folder)


class LedgerWriter(tf.keras.callbacks.Callback):
    """Writes ledger.csv and skipped.csv each epoch, and warns where an epoch did not keep its shares.

    Args:
        plan: how the draws are balanced.
        stream: of the training data.
        folder: of the run.
        rows: ledger so far.
    """

    def __init__(
        self,
        plan: BalancePlan,
        stream: DrawStream,
        folder: str | Path,
        rows: Iterable[dict[str, Any]] = (),
    ) -> None:
        super().__init__()
        self.plan = plan
        self.stream = stream
        self.folder = folder
        self.rows = list(rows)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch."""
        rows = epoch_rows(epoch, self.plan, self.stream)
        self.rows += rows
        write_ledger(self.rows, self.folder)
        stream = self.stream
        write_skipped(stream.bad_files, self.folder, stream.steps_per_epoch, self.params["epochs"])
        if warning := suspicion(rows):
            print(f"\n{warning}")


class WandbLogger(tf.keras.callbacks.Callback):
    """Sends each epoch's logs to Weights & Biases; WANDB_MODE=offline keeps them in the run folder."""

    def __init__(self, folder: str | Path, options: dict[str, Any], run_id: str | None = None) -> None:
        super().__init__()
        import wandb  # optional package

        self.run = wandb.init(
            project="segmentation", dir=str(folder), config=options, id=run_id, resume="allow"
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Sends one epoch."""
        self.run.log({name: float(value) for name, value in logs.items()}, step=epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the record."""
        self.run.finish()


class Checkpointer(tf.keras.callbacks.Callback):
    """Saves all that the next step depends on, and brings it back; the last of the callbacks.

    It saves at the end of each epoch, every `save_every` steps, and before a signal ends the training.

    Args:
        config: resolved.
        stream: of the training data.
        folder: of the run.
        others: the callbacks that come before it.
        resumption: how the run goes on.
        digests: gives the manifest's `resuming.manifest_digests`.
        stop: whether a signal came.
    """

    def __init__(
        self,
        config: TrainConfig,
        stream: DrawStream,
        folder: str | Path,
        others: Iterable[tf.keras.callbacks.Callback],
        resumption: Resumption,
        digests: Callable[[], Digests],
        stop: StopRequest,
    ) -> None:
        super().__init__()
        self.steps_per_epoch, self.save_every = config.steps_per_epoch, config.run.save_every
        self.stream = stream
        self.folder = folder
        self.others = {type(other).__name__: other for other in others}
        self.resumption = resumption
        self.digests = digests
        self.stop = stop
        self.versions = versions(config.filled_in.transforms_source)
        self.epoch, self.step = 0, 0  # whole epochs and steps done
        # Of the epoch's training steps, once validation has taken its place.
        self.mean_loss: list[float] | None = None
        self.variables = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Brings back what a checkpoint holds, and tells the model where to begin."""
        self.variables = training_variables(self.model)
        checkpoint = self.resumption.checkpoint
        if checkpoint is None:
            return
        state = checkpoint.state
        read_variables(self.variables, checkpoint.variables)
        self.step = self.resumption.step(self.steps_per_epoch)
        self.model.first_epoch = state["epoch"]
        self.model.first_step = min(
            self.step - state["epoch"] * self.steps_per_epoch, self.steps_per_epoch - 1
        )
        if "EarlyStopping" in self.others and state["early_stopping"]:
            vars(self.others["EarlyStopping"]).update(state["early_stopping"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Gives an interrupted epoch the mean loss of its steps so far."""
        state, self.epoch, self.mean_loss = self.resumption.state, epoch, None
        if state and self.resumption.exact and epoch == state["epoch"]:
            self.model.mean_loss.set_weights(state["mean_loss"])
            if self.step == (epoch + 1) * self.steps_per_epoch:
                self._pass_over_a_step()

    def _pass_over_a_step(self) -> None:
        """For an epoch that was interrupted in its validation: `fit` wants at least one step before that."""
        step = self.model.train_function

        def pass_over(iterator: Iterator[object]) -> dict[str, tf.Tensor]:
            self.model.train_function = step
            return {"loss": self.model.mean_loss.result()}

        self.model.train_function = pass_over

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves where it is time to."""
        self.step = self.epoch * self.steps_per_epoch + batch + 1
        if batch + 1 == self.steps_per_epoch:
            self.mean_loss = self._mean_loss()
        if self.save_every and self.step % self.save_every == 0:
            self.save()
        self._meet_request()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Lets a signal end the validation, which is then made again."""
        self._meet_request()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the finished epoch."""
        self.epoch, self.mean_loss = epoch + 1, None
        self.save()
        self._meet_request()

    def _meet_request(self) -> None:
        if self.stop:
            self.save()
            self.stop.meet()

    def _mean_loss(self) -> list[float]:
        return [float(value) for value in self.model.mean_loss.get_weights()]

    def save(self) -> None:
        """Writes a checkpoint of this moment."""
        early, wandb = self.others.get("EarlyStopping"), self.others.get("WandbLogger")
        recorder, within = self.others["RunRecorder"], self.step > self.epoch * self.steps_per_epoch
        known = [epoch for epoch in (self.epoch, self.epoch + 1) if epoch in self.stream.positions]
        state = {
            "version": STATE_VERSION,
            "epoch": self.epoch,
            "step": self.step,
            "positions": {str(epoch): self.stream.positions[epoch].tolist() for epoch in known},
            "mean_loss": (self.mean_loss or self._mean_loss()) if within else [0.0, 0.0],
            "seconds": recorder.seconds() if within else 0.0,
            "history": recorder.rows,
            "ledger": self.others["LedgerWriter"].rows,
            "skipped": self.stream.bad_files.state(),
            "early_stopping": early and {name: getattr(early, name) for name in EARLY_STOPPING},
            "wandb": wandb and wandb.run.id,
            "manifest": self.digests(),
            "versions": self.versions,
        }
        save_checkpoint(
            self.folder,
            checkpoint_name(self.epoch, self.step),
            lambda prefix: write_variables(self.variables, prefix),
            state,
        )


def run_callbacks(
    config: TrainConfig,
    network: tf.keras.Model,
    plan: BalancePlan,
    stream: DrawStream,
    folder: str | Path,
    resumption: Resumption,
    digests: Callable[[], Digests],
    stop: StopRequest,
    waited: tf.Variable | None = None,
) -> list[tf.keras.callbacks.Callback]:
    """The callbacks of a run, in the order in which they must come.

    Args:
        config: resolved.
        network: whose weights are saved.
        plan: how the draws are balanced.
        stream: of the training data.
        folder: of the run.
        resumption, digests, stop: as Checkpointer takes them.
        waited: seconds waited for data; None where they cannot be measured.
    """
    state = resumption.state or {"history": [], "ledger": [], "seconds": 0.0, "wandb": None}
    callbacks = [
        StopAtNaN(config.steps_per_epoch),
        *([] if waited is None else [WaitingShare(waited)]),
        RunRecorder(network, folder, state["history"], state["seconds"]),
        LedgerWriter(plan, stream, folder, state["ledger"]),
        MemoryRelease(),
        *(
            [EncoderFreezing(network, config.optimisation.freeze_epochs)]
            if config.optimisation.freeze_epochs
            else []
        ),
    ]
    if config.run.log == "tensorboard":
        logs = str(Path(folder, "tensorboard"))
        callbacks.append(tf.keras.callbacks.TensorBoard(logs, write_graph=False))
    if config.run.log == "wandb":
        callbacks.append(WandbLogger(folder, config.options(), state["wandb"]))
    if config.optimisation.patience is not None:
        score = f"val_{config.kind.main}"
        callbacks.append(
            tf.keras.callbacks.EarlyStopping(score, mode="max", patience=config.optimisation.patience)
        )
    return [*callbacks, Checkpointer(config, stream, folder, callbacks, resumption, digests, stop)]
