"""TensorBoard and Weights & Biases: the scores of each epoch, and the worst examples of the best so far."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segbalance.data_processing.tasks import FALSE_ALARMS
from segbalance.dataloader.batches import Batch
from segbalance.legacy_keras import tf
from segbalance.train.config import TrainConfig
from segbalance.train.folder import main_score, part_scores
from segbalance.train.worst_examples import worst_examples

FOLDER = "tensorboard"  # in that of the run
WORST = "worst_examples"  # name of the pictures; in a segmentation photo, truth, prediction
Pictures = Callable[[Mapping[str, Any]], list[np.ndarray]]


def scalars(logs: Mapping[str, Any]) -> dict[str, float]:
    """{name: value} of Keras' logs; subsets share a section by a slash, as in `val_iou/4`."""
    prefixes = [f"val_{name}_" for name in ("class_iou", *part_scores(logs), *FALSE_ALARMS)]

    def name_of(column: str) -> str:
        prefix = next((prefix for prefix in prefixes if column.startswith(prefix)), None)
        return f"{prefix[:-1]}/{column.removeprefix(prefix)}" if prefix else column

    return {name_of(column): float(value) for column, value in logs.items()}


class WorstOfBest:
    """Gives the pictures of the worst validation examples after an epoch that is the best so far, else none.

    Args:
        config: resolved.
        network: of the model that learns.
        validation: its batches.
        best: the highest score so far of a run that goes on.
    """

    def __init__(
        self, config: TrainConfig, network: tf.keras.Model, validation: Iterable[Batch], best: float
    ) -> None:
        self.classes = config.class_list
        self.network, self.validation = network, validation
        self.best = best

    def __call__(self, logs: Mapping[str, Any]) -> list[np.ndarray]:
        score = float(logs[main_score(logs)])
        if score <= self.best:
            return []
        self.best = score
        return worst_examples(self.network, self.validation, self.classes)


class TensorBoardLogger(tf.keras.callbacks.Callback):
    """Writes each epoch's scalars and pictures below the run folder, for `tensorboard --logdir`."""

    def __init__(self, folder: str | Path, pictures: Pictures) -> None:
        super().__init__()
        self.writer = tf.summary.create_file_writer(str(Path(folder, FOLDER)))
        self.pictures = pictures

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Writes one epoch."""
        with self.writer.as_default(step=epoch + 1):
            for name, value in scalars(logs).items():
                tf.summary.scalar(name, value)
            if pictures := self.pictures(logs):
                tf.summary.image(WORST, np.stack(pictures), max_outputs=len(pictures))
        self.writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        self.writer.close()


class WandbLogger(tf.keras.callbacks.Callback):
    """Sends the same to Weights & Biases; WANDB_MODE=offline keeps it in the run folder."""

    def __init__(
        self, folder: str | Path, options: dict[str, Any], pictures: Pictures, run_id: str | None = None
    ) -> None:
        super().__init__()
        import wandb  # optional package

        self.run = wandb.init(
            project="segmentation", dir=str(folder), config=options, id=run_id, resume="allow"
        )
        self.image = wandb.Image
        self.pictures = pictures

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Sends one epoch."""
        pictures = self.pictures(logs)
        shown = {WORST: [self.image(picture) for picture in pictures]} if pictures else {}
        self.run.log(scalars(logs) | shown, step=epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the record."""
        self.run.finish()
