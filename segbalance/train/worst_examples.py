"""The validation images in which a network finds least, as pictures for the loggers."""

import heapq
import itertools
from collections.abc import Iterable

import numpy as np

from segbalance.data_processing.classes import IGNORED, Classes
from segbalance.data_processing.tasks import THRESHOLD
from segbalance.dataloader.batches import Batch
from segbalance.legacy_keras import tf

SHOWN = 4
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # photo, true ids, probabilities
GREYS = np.array([0, 255], np.uint8)  # background and foreground


def worst_examples(
    network: tf.keras.Model, batches: Iterable[Batch], classes: Classes | None, count: int = SHOWN
) -> list[np.ndarray]:
    """Pictures uint8 (S, 3 * S, 3), the worst first: photo, truth and prediction side by side.

    The score is an image's mean IoU of the classes in its truth or prediction, without background if there
    are others; for labels, which have a photo alone, the probability of the true one.

    Args:
        network: of `build_network`; it is only asked, and nothing of it changes.
        batches: of the validation.
        classes: None for background and foreground alone.
    """
    ask = tf.function(lambda photo: network(photo, training=False), reduce_retracing=True)
    worst: list[tuple[float, int, Sample]] = []  # a heap, the least bad first
    numbers = itertools.count()
    for photos, truths, _ in batches:
        for sample in zip(photos.numpy(), truths.numpy()[..., 0], ask(photos).numpy(), strict=True):
            found = (-_score(sample[1], sample[2]), -next(numbers), sample)
            (heapq.heappush if len(worst) < count else heapq.heappushpop)(worst, found)
    return [_picture(sample, classes) for _, _, sample in sorted(worst, reverse=True)]


def _ids(probability: np.ndarray) -> np.ndarray:
    """float (H, W, C) probabilities -> uint8 (H, W) ids."""
    if probability.shape[-1] == 1:
        return (probability[..., 0] > THRESHOLD).astype(np.uint8)
    return probability.argmax(-1).astype(np.uint8)


def _score(truth: np.ndarray, probability: np.ndarray) -> float:
    if truth.size == 1:
        return float(probability[0, 0, truth[0, 0]])
    counted = truth != IGNORED
    true, found = truth[counted], _ids(probability)[counted]
    present = np.union1d(true, found)
    present = present[present > 0]
    ious = [
        ((true == one) & (found == one)).sum() / ((true == one) | (found == one)).sum() for one in present
    ]
    return float(np.mean(ious)) if ious else 1.0


def _picture(sample: Sample, classes: Classes | None) -> np.ndarray:
    photo, truth, probability = sample
    if truth.size == 1:
        return photo
    masks = [truth, _ids(probability)]
    coloured = getattr(classes, "colour_masks", _black_and_white)
    return np.concatenate([photo, *map(coloured, masks)], axis=1)


def _black_and_white(mask: np.ndarray) -> np.ndarray:
    return np.repeat(GREYS[mask][..., None], 3, axis=-1)
