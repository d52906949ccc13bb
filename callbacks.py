"""What happens around the epochs of `model.fit`: records, weights, a stop at NaN, the optional loggers."""

import dataclasses
import math
import time
from pathlib import Path

from errors import InputError
from ledger import epoch_rows, suspicion, write_ledger
from legacy_keras import tf
from model import save_weights
from run_folder import BEST, LAST, history_row, write_history


class StopAtNaN(tf.keras.callbacks.Callback):
    """Ends the run with an InputError at the first step, counted from 0, whose loss is no number."""

    def __init__(self, steps_per_epoch):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch for the message."""
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
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
        waited: scalar tf.Variable of the seconds waited so far, from `timed_waiting`.
    """

    def __init__(self, waited):
        super().__init__()
        self.waited = waited
        self.started = self.stopped = self.before = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.started, self.before = time.perf_counter(), float(self.waited.numpy())

    def on_train_batch_end(self, batch, logs=None):
        """Leaves the validation out, which comes after the epoch's last step."""
        self.stopped = time.perf_counter()

    def share(self):
        """Of the epoch's steps so far, in [0, 1]."""
        return (float(self.waited.numpy()) - self.before) / (self.stopped - self.started)

    def on_epoch_end(self, epoch, logs=None):
        """Prints the share."""
        print(f"\nepoch {epoch + 1} waited for data: {self.share():.1%} of its training steps' time")


class RunRecorder(tf.keras.callbacks.Callback):
    """Writes history.csv and the last weights each epoch, the best weights by validation IoU.

    Args:
        network: whose weights are saved.
        folder: of the run.
    """

    def __init__(self, network, folder):
        super().__init__()
        self.network = network
        self.folder = folder
        self.rows = []
        self.best = -math.inf
        self.started = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Records the epoch; adds the learning rate to the logs of the callbacks that follow."""
        optimizer = self.model.optimizer
        logs["learning_rate"] = float(optimizer.learning_rate)
        if logs["val_iou"] > self.best:
            self.best = logs["val_iou"]
            save_weights(self.network, Path(self.folder, BEST))
        save_weights(self.network, Path(self.folder, LAST))
        self.rows.append(history_row(epoch + 1, logs, time.perf_counter() - self.started))
        write_history(self.rows, self.folder)


class LedgerWriter(tf.keras.callbacks.Callback):
    """Writes ledger.csv each epoch, and warns where an epoch did not keep its shares.

    Args:
        plan: BalancePlan.
        stream: DrawStream of the training data.
        folder: of the run.
    """

    def __init__(self, plan, stream, folder):
        super().__init__()
        self.plan = plan
        self.stream = stream
        self.folder = folder
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        """Records the epoch."""
        rows = epoch_rows(epoch, self.plan, self.stream)
        self.rows += rows
        write_ledger(self.rows, self.folder)
        if warning := suspicion(rows):
            print(f"\n{warning}")


class WandbLogger(tf.keras.callbacks.Callback):
    """Sends each epoch's logs to Weights & Biases; WANDB_MODE=offline keeps them in the run folder."""

    def __init__(self, folder, options):
        super().__init__()
        import wandb  # optional package

        self.run = wandb.init(project="segmentation", dir=str(folder), config=options)

    def on_epoch_end(self, epoch, logs=None):
        """Sends one epoch."""
        self.run.log({name: float(value) for name, value in logs.items()}, step=epoch + 1)

    def on_train_end(self, logs=None):
        """Closes the record."""
        self.run.finish()


def run_callbacks(config, network, plan, stream, folder, waited=None):
    """The callbacks of a run, in the order in which they must come.

    Args:
        config: TrainConfig, complete.
        network: whose weights are saved.
        plan: BalancePlan.
        stream: DrawStream of the training data.
        folder: of the run.
        waited: seconds waited for data, a tf.Variable; None where they cannot be measured.
    """
    callbacks = [
        StopAtNaN(config.steps_per_epoch),
        *([] if waited is None else [WaitingShare(waited)]),
        RunRecorder(network, folder),
        LedgerWriter(plan, stream, folder),
    ]
    if config.log == "tensorboard":
        logs = str(Path(folder, "tensorboard"))
        callbacks.append(tf.keras.callbacks.TensorBoard(logs, write_graph=False))
    if config.log == "wandb":
        callbacks.append(WandbLogger(folder, dataclasses.asdict(config)))
    if config.patience is not None:
        callbacks.append(tf.keras.callbacks.EarlyStopping("val_iou", mode="max", patience=config.patience))
    return callbacks
