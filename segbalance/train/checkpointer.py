"""Saves all that the next step depends on, while `model.fit` runs, and brings it back."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from segbalance.balancing.draws import DrawStream
from segbalance.legacy_keras import tf
from segbalance.model.host_copy import HostCopy
from segbalance.model.networks import read_variables
from segbalance.train.background import BackgroundWriter
from segbalance.train.checkpoints import checkpoint_name, save_checkpoint
from segbalance.train.config import TrainConfig
from segbalance.train.resuming import STATE_VERSION, Digests, Resumption, versions
from segbalance.train.stopping import StopRequest

EARLY_STOPPING = ("wait", "best", "best_epoch", "stopped_epoch")  # its state, beside the best weights


class Checkpointer(tf.keras.callbacks.Callback):
    """Saves all that the next step depends on, and brings it back; the last of the callbacks.

    It saves at the end of each epoch, every `save_every` steps, and before a signal or
    the end of its time ends the training.

    Args:
        config: resolved.
        copy: of the model that learns.
        stream: of the training data.
        folder: of the run.
        others: the callbacks that come before it.
        resumption: how the run goes on.
        digests: gives the manifest's `resuming.manifest_digests`.
        stop: whether a signal came or time is up.
        writer: writes the checkpoints.
    """

    def __init__(
        self,
        config: TrainConfig,
        copy: HostCopy,
        stream: DrawStream,
        folder: str | Path,
        others: Iterable[tf.keras.callbacks.Callback],
        resumption: Resumption,
        digests: Callable[[], Digests],
        stop: StopRequest,
        writer: BackgroundWriter,
    ) -> None:
        super().__init__()
        self.steps_per_epoch, self.save_every = config.steps_per_epoch, config.run.save_every
        self.copy, self.writer = copy, writer
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

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Brings back what a checkpoint holds, and tells the model where to begin."""
        checkpoint = self.resumption.checkpoint
        if checkpoint is None:
            return
        state = checkpoint.state
        read_variables(self.copy.originals, checkpoint.variables)
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
        self.writer.check()
        self.step = self.epoch * self.steps_per_epoch + batch + 1
        if batch + 1 == self.steps_per_epoch:
            self.mean_loss = self._mean_loss()
        if self.save_every and self.step % self.save_every == 0:
            self.save()
        self._meet_request("training")

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Lets a request end the validation, which is then made again."""
        self._meet_request("validation")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the finished epoch."""
        self.epoch, self.mean_loss = epoch + 1, None
        self.save()
        self._meet_request("epoch")

    def _meet_request(self, kind: str) -> None:
        self.stop.after_step(kind)
        if self.stop:
            self.save()
            self.writer.wait()
            self.stop.meet()

    def _mean_loss(self) -> list[float]:
        return [float(value) for value in self.model.mean_loss.get_weights()]

    def save(self) -> None:
        """Has a checkpoint of this moment written."""
        copy_step(self.copy, self.writer)
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
            "history": list(recorder.rows),
            "ledger": list(self.others["LedgerWriter"].rows),
            "skipped": self.stream.bad_files.state(),
            "early_stopping": early and {name: getattr(early, name) for name in EARLY_STOPPING},
            "wandb": wandb and wandb.run.id,
            "manifest": self.digests(),
            "versions": self.versions,
        }
        name = checkpoint_name(self.epoch, self.step)
        self.writer.submit(lambda: save_checkpoint(self.folder, name, self.copy.write_variables, state))


def copy_step(copy: HostCopy, writer: BackgroundWriter) -> None:
    """Brings `copy` to the step that is done; waits for the writer, if that is still at an earlier one."""
    if not copy.is_of_this_step():
        writer.wait()
        copy.update()
