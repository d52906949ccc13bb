"""Scores of subsets whose truth has no foreground: how often, and how widely, something is found in them.

One wrong pixel in one of many images makes the IoU of such a subset 0, so it has other scores:
`clean_images`, the share of its images without a false alarm (specificity, with the image as the unit), and
`false_pixels`, the share of its pixels falsely found (false positive rate).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segbalance.data_processing.classes import IGNORED
from segbalance.data_processing.tasks import CLEAN_IMAGES, FALSE_ALARMS, FOREGROUND, THRESHOLD
from segbalance.legacy_keras import tf


def above_threshold(probability: tf.Tensor) -> tf.Tensor:
    """Float32 (B, H, W, 1) of one foreground -> bool (B, H, W), where it is found."""
    return probability[..., 0] > THRESHOLD


def not_background(probability: tf.Tensor) -> tf.Tensor:
    """Float32 (B, H, W, C) of several classes -> bool (B, H, W), where any but the first is found."""
    return tf.argmax(probability, axis=-1) > 0


class AlarmCounts(tf.keras.metrics.Metric):
    """What tells the false alarms of each subset, exact to the pixel; ignored pixels count nowhere.

    Args:
        subsets: number of subsets.
        found: function of probabilities (B, H, W, C) that returns bool (B, H, W).
    """

    def __init__(
        self, subsets: int, found: Callable[[tf.Tensor], tf.Tensor], name: str = "alarm_counts"
    ) -> None:
        super().__init__(name=name, dtype=tf.int64)
        self.subsets = subsets
        self.found = found
        self.counts = self.add_weight("counts", shape=(subsets, 5), initializer="zeros", dtype=tf.int64)

    def update_state(self, mask: tf.Tensor, probability: tf.Tensor, subset: tf.Tensor) -> None:
        """Adds a batch: class ids (B, H, W, 1), probabilities (B, H, W, C), subset numbers (B,)."""
        known = tf.not_equal(mask[..., 0], IGNORED)
        cells = [known, known & (mask[..., 0] > 0), known & self.found(probability)]
        pixels, there, found = (tf.math.count_nonzero(cell, axis=[1, 2]) for cell in cells)
        images = [tf.cast(kept, tf.int64) for kept in (pixels > 0, (pixels > 0) & (found == 0))]
        per_image = tf.stack([*images, pixels, there, found], axis=1)
        self.counts.assign_add(tf.math.unsorted_segment_sum(per_image, subset, self.subsets))

    def result(self) -> tf.Tensor:
        """int64 (subsets, 5): images, those in which nothing is found; pixels, of foreground, found."""
        return tf.identity(self.counts)

    def reset_state(self) -> None:
        """Starts again from zero."""
        self.counts.assign(tf.zeros_like(self.counts))


def alarm_logs(counts: tf.Tensor, subsets: Sequence[str]) -> dict[str, tf.Tensor]:
    """What validation reports of false alarms, as `metrics.foreground_logs` names it.

    Args:
        counts: what AlarmCounts gives.
        subsets: their names.

    Returns:
        {name: float64 scalar} in [0, 1]; NaN for a subset with foreground.
    """
    images, clean, pixels, there, found = tf.unstack(tf.cast(counts, tf.float64), axis=-1)
    empty, none = (images > 0) & (there == 0), tf.constant(math.nan, tf.float64)
    shares = (clean / tf.maximum(images, 1.0), found / tf.maximum(pixels, 1.0))
    scores = [tf.where(empty, share, none) for share in shares]
    return {
        f"{score}_{name}": values[index]
        for index, name in enumerate(subsets)
        for score, values in zip(FALSE_ALARMS, scores, strict=True)
    }


def one_kind_of_scores(logs: Mapping[str, Any], subsets: Sequence[str]) -> dict[str, Any]:
    """The logs without those of a validation that mean nothing.

    A subset with foreground keeps its scores, one without any keeps those of its false alarms.
    """
    left_out = set()
    for name in [name for name in subsets if f"{CLEAN_IMAGES}_{name}" in logs]:
        empty = math.isfinite(logs[f"{CLEAN_IMAGES}_{name}"])
        left_out |= {f"{score}_{name}" for score in (FOREGROUND.parts if empty else FALSE_ALARMS)}
    return {name: value for name, value in logs.items() if name not in left_out}
