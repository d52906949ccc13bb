"""What the three tasks differ in inside the model: the end of the network, the loss and the scores."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, task_of
from segbalance.legacy_keras import sm, tf
from segbalance.model.class_losses import class_loss
from segbalance.model.classifier import classifier
from segbalance.model.false_alarms import AlarmCounts, above_threshold, not_background
from segbalance.model.losses import segmentation_loss
from segbalance.model.metrics import (
    ClassCounts,
    LabelCounts,
    SubsetCounts,
    class_logs,
    foreground_logs,
    label_logs,
)

BUILDERS = {"unet": sm.Unet, "fpn": sm.FPN, "linknet": sm.Linknet, "pspnet": sm.PSPNet}


@dataclass(frozen=True)
class Head:
    """The parts that a task has of its own.

    Args:
        builder: function of the architecture and of the decoder's filters (or None) that returns a builder
            as segmentation-models has them.
        loss: function of a text such as `0.5*dice+1*focal` that returns the loss.
        counts: function of the numbers of subsets and classes that returns the metric that counts.
        logs: function of what the metric gives and of the names of subsets and classes that returns what
            validation reports, by names that history.csv has behind its `val_`.
        alarms: function of the number of subsets that returns the metric of false alarms; None where there
            is no foreground that a subset could lack.
    """

    builder: Callable[[str, Sequence[int] | None], Callable[..., tf.keras.Model]]
    loss: Callable[[str], tf.keras.losses.Loss]
    counts: Callable[[int, int], tf.keras.metrics.Metric]
    logs: Callable[[tf.Tensor, Sequence[str], Sequence[str]], dict[str, tf.Tensor]]
    alarms: Callable[[int], AlarmCounts] | None = None


def _with_decoder(architecture: str, decoder_filters: Sequence[int] | None) -> Callable[..., tf.keras.Model]:
    options = {"decoder_filters": decoder_filters} if decoder_filters else {}
    return functools.partial(BUILDERS[architecture], **options)


HEADS = {
    FOREGROUND: Head(
        _with_decoder,
        segmentation_loss,
        lambda subsets, classes: SubsetCounts(subsets),
        foreground_logs,
        lambda subsets: AlarmCounts(subsets, above_threshold),
    ),
    CLASSES: Head(
        _with_decoder,
        class_loss,
        ClassCounts,
        class_logs,
        lambda subsets: AlarmCounts(subsets, not_background),
    ),
    CLASSIFICATION: Head(
        lambda architecture, decoder_filters: classifier,
        class_loss,
        lambda subsets, classes: LabelCounts(classes),
        label_logs,
    ),
}


def head_of(task: str | None, classes: object) -> Head:
    """The Head of a stored task and of its classes, as `task_of` takes them."""
    return HEADS[task_of(task, classes)]
