"""Scores of the whole data set: counts of pixels as 64-bit integers, never a mean of batch scores."""

import math
from collections.abc import Callable, Sequence

from segbalance.data_processing.classes import IGNORED
from segbalance.data_processing.tasks import CLASSIFICATION, FOREGROUND, THRESHOLD
from segbalance.legacy_keras import tf


def scores(counts: tf.Tensor) -> dict[str, tf.Tensor]:
    """IoU, F1, precision and recall from counts of pixels.

    Where there is nothing to find and nothing was found (no true or false positive, no false negative), all
    four are 1; any other 0 / 0 is 0.

    Args:
        counts: integers (..., 3), true positives, false positives, false negatives.

    Returns:
        {name: float64 tensor (...)} in [0, 1].
    """
    true, false, missed = tf.unstack(tf.cast(counts, tf.float64), axis=-1)
    one = tf.ones_like(true)

    def ratio(over: tf.Tensor, under: tf.Tensor) -> tf.Tensor:
        return tf.where(true + false + missed > 0, over / tf.maximum(under, one), one)

    return {
        "iou": ratio(true, true + false + missed),
        "f1": ratio(2 * true, 2 * true + false + missed),
        "precision": ratio(true, true + false),
        "recall": ratio(true, true + missed),
    }


def class_scores(confusion: tf.Tensor) -> dict[str, tf.Tensor]:
    """IoU, F1, precision and recall of each class, their means, and accuracy.

    A class that is neither in the truth nor found has no score, NaN, and is left out of the means, as in
    tf.keras.metrics.MeanIoU; any other 0 / 0 is 0. Balanced accuracy is the mean recall of the classes in
    the truth alone, as in scikit-learn.

    Args:
        confusion: integers (..., C, C), pixels by true class and found class.

    Returns:
        {name: float64 tensor}: `class_iou`, `class_f1`, `class_precision`, `class_recall` of shape (..., C);
        `iou`, `f1`, `precision`, `recall`, the means, `balanced_accuracy` and `accuracy` of shape (...), NaN
        without any pixel.
    """
    confusion = tf.cast(confusion, tf.float64)
    there, found = tf.reduce_sum(confusion, axis=-1), tf.reduce_sum(confusion, axis=-2)
    return scores_of_sums(tf.linalg.diag_part(confusion), there, found)


def scores_of_sums(true: tf.Tensor, there: tf.Tensor, found: tf.Tensor) -> dict[str, tf.Tensor]:
    """What `class_scores` returns, from float64 (..., C): the matrix' diagonal, its row and column sums."""
    none = tf.constant(math.nan, tf.float64)

    def ratio(over: tf.Tensor, under: tf.Tensor) -> tf.Tensor:
        return tf.where(there + found > 0, over / tf.maximum(under, 1.0), none)

    own = {
        "iou": ratio(true, there + found - true),
        "f1": ratio(2 * true, there + found),
        "precision": ratio(true, found),
        "recall": ratio(true, there),
    }
    means = {name: _mean_where(scores, there + found > 0) for name, scores in own.items()}
    return (
        {f"class_{name}": scores for name, scores in own.items()}
        | means
        | {
            "balanced_accuracy": _mean_where(own["recall"], there > 0),
            "accuracy": tf.reduce_sum(true, -1) / tf.reduce_sum(there, -1),
        }
    )


def _mean_where(scores: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Mean over the last axis of the scores that count; NaN where none does."""
    counted = tf.cast(counted, tf.float64)
    kept = tf.where(counted > 0, scores, tf.zeros_like(scores))
    return tf.reduce_sum(kept, axis=-1) / tf.reduce_sum(counted, axis=-1)


def foreground_logs(
    counts: tf.Tensor, subsets: Sequence[str], classes: Sequence[str] = ()
) -> dict[str, tf.Tensor]:
    """What validation reports, by names that history.csv has behind its `val_`: of all, then of each subset.

    Args:
        counts: what SubsetCounts gives.
        subsets, classes: their names.
    """
    return _subset_logs(scores, scores(tf.reduce_sum(counts, axis=0)), counts, subsets)


def class_logs(counts: tf.Tensor, subsets: Sequence[str], classes: Sequence[str]) -> dict[str, tf.Tensor]:
    """As `foreground_logs`, from what ClassCounts gives, and the IoU of each class."""
    everywhere = class_scores(tf.reduce_sum(counts, axis=0))
    logs = _subset_logs(class_scores, everywhere, counts, subsets)
    return logs | {f"class_iou_{name}": everywhere["class_iou"][index] for index, name in enumerate(classes)}


def label_logs(counts: tf.Tensor, subsets: Sequence[str], classes: Sequence[str]) -> dict[str, tf.Tensor]:
    """As `foreground_logs`, from what LabelCounts gives; a subset is a class."""
    everywhere = class_scores(tf.reduce_sum(counts, axis=0))
    logs = {name: everywhere[name] for name in CLASSIFICATION.pooled}
    for index, name in enumerate(classes):
        logs |= {f"{own}_{name}": everywhere[f"class_{own}"][index] for own in CLASSIFICATION.parts}
    return logs


def _subset_logs(
    score: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    everywhere: dict[str, tf.Tensor],
    counts: tf.Tensor,
    subsets: Sequence[str],
) -> dict[str, tf.Tensor]:
    logs = {name: everywhere[name] for name in FOREGROUND.pooled}
    for index, name in enumerate(subsets):
        own = score(counts[index])
        logs |= {f"{part}_{name}": own[part] for part in FOREGROUND.parts}
    return logs


class SubsetCounts(tf.keras.metrics.Metric):
    """True positives, false positives and false negatives of each subset, exact to the pixel.

    Args:
        subsets: number of subsets.
    """

    def __init__(self, subsets: int, name: str = "subset_counts") -> None:
        super().__init__(name=name, dtype=tf.int64)
        self.subsets = subsets
        self.counts = self.add_weight("counts", shape=(subsets, 3), initializer="zeros", dtype=tf.int64)

    def update_state(self, mask: tf.Tensor, probability: tf.Tensor, subset: tf.Tensor) -> None:
        """Adds a batch: class ids (B, H, W, 1), probabilities (B, H, W, 1), subset numbers (B,)."""
        true, found = tf.cast(mask, tf.bool), probability > THRESHOLD
        cells = [true & found, ~true & found, true & ~found]
        per_image = tf.stack([tf.math.count_nonzero(cell, axis=[1, 2, 3]) for cell in cells], axis=1)
        self.counts.assign_add(tf.math.unsorted_segment_sum(per_image, subset, self.subsets))

    def result(self) -> tf.Tensor:
        """int64 (subsets, 3)."""
        return tf.identity(self.counts)

    def reset_state(self) -> None:
        """Starts again from zero."""
        self.counts.assign(tf.zeros_like(self.counts))


class ClassCounts(tf.keras.metrics.Metric):
    """Confusion matrix of the pixels of each subset, exact to the pixel; ignored pixels are left out.

    Args:
        subsets: number of subsets.
        classes: number of classes.
    """

    def __init__(self, subsets: int, classes: int, name: str = "class_counts") -> None:
        super().__init__(name=name, dtype=tf.int64)
        self.subsets = subsets
        self.classes = classes
        shape = (subsets, classes, classes)
        self.counts = self.add_weight("counts", shape=shape, initializer="zeros", dtype=tf.int64)

    def update_state(self, mask: tf.Tensor, probability: tf.Tensor, subset: tf.Tensor) -> None:
        """Adds a batch: class ids (B, H, W, 1), probabilities (B, H, W, C), subset numbers (B,)."""
        true = tf.cast(mask[..., 0], tf.int64)
        found = tf.argmax(probability, axis=-1)
        subset = tf.broadcast_to(tf.cast(subset, tf.int64)[:, None, None], tf.shape(true))
        cells = (subset * self.classes + true) * self.classes + found
        cells = tf.boolean_mask(cells, tf.not_equal(true, IGNORED))
        counts = tf.math.bincount(
            tf.cast(cells, tf.int32), minlength=tf.size(self.counts), dtype=tf.int64
        )  # of int32, which the kernels know
        self.counts.assign_add(tf.reshape(counts, self.counts.shape))

    def result(self) -> tf.Tensor:
        """int64 (subsets, C, C): [subset, true class, found class]."""
        return tf.identity(self.counts)

    def reset_state(self) -> None:
        """Starts again from zero."""
        self.counts.assign(tf.zeros_like(self.counts))


class LabelCounts(ClassCounts):
    """Confusion matrix of images that have a class as a whole: their subsets are their classes.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int, name: str = "class_counts") -> None:
        super().__init__(1, classes, name)

    def update_state(self, mask: tf.Tensor, probability: tf.Tensor, subset: tf.Tensor) -> None:
        """Adds a batch: class ids (B, 1, 1, 1), probabilities (B, 1, 1, C), numbers of the subsets (B,)."""
        ClassCounts.update_state(self, mask, probability, tf.zeros_like(subset))
