"""Scores of the whole data set: counts of pixels as 64-bit integers, never a mean of batch scores."""

from config import THRESHOLD
from legacy_keras import tf


def scores(counts):
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

    def ratio(over, under):
        return tf.where(true + false + missed > 0, over / tf.maximum(under, one), one)

    return {
        "iou": ratio(true, true + false + missed),
        "f1": ratio(2 * true, 2 * true + false + missed),
        "precision": ratio(true, true + false),
        "recall": ratio(true, true + missed),
    }


class SubsetCounts(tf.keras.metrics.Metric):
    """True positives, false positives and false negatives of each subset, exact to the pixel.

    Args:
        subsets: number of subsets.
    """

    def __init__(self, subsets, name="subset_counts"):
        super().__init__(name=name, dtype=tf.int64)
        self.subsets = subsets
        self.counts = self.add_weight("counts", shape=(subsets, 3), initializer="zeros", dtype=tf.int64)

    def update_state(self, mask, probability, subset):
        """Adds a batch: class ids (B, H, W, 1), probabilities (B, H, W, 1), subset numbers (B,)."""
        true, found = tf.cast(mask, tf.bool), probability > THRESHOLD
        cells = [true & found, ~true & found, true & ~found]
        per_image = tf.stack([tf.math.count_nonzero(cell, axis=[1, 2, 3]) for cell in cells], axis=1)
        self.counts.assign_add(tf.math.unsorted_segment_sum(per_image, subset, self.subsets))

    def result(self):
        """int64 (subsets, 3)."""
        return tf.identity(self.counts)

    def reset_state(self):
        """Starts again from zero."""
        self.counts.assign(tf.zeros_like(self.counts))
