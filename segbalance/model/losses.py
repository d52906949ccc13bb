"""Losses by name, with weights inside their sums; without weights they equal those of segmentation-models.

Masks are class ids of any integer type, probabilities float32, both (B, H, W, 1). A weight is (B,) per image
or (B, H, W, 1) per pixel. All is computed in float32, whatever the network's precision.
"""

from collections.abc import Callable, Sequence

from segbalance.legacy_keras import tf
from segbalance.model.loss_terms import loss_terms

SMOOTH = 1e-5
ALPHA, GAMMA = 0.25, 2.0
FALSE_POSITIVE, FALSE_NEGATIVE = 0.3, 0.7  # Tversky's alpha and beta: a missed pixel is the worse mistake
LARGEST_PIXEL_WEIGHT = 20.0

Term = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]  # (mask, probability, weight) -> scalar


def dice_loss(
    mask: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor, axes: Sequence[int] | None = None
) -> tf.Tensor:
    """1 - Dice coefficient over the whole batch (Milletari et al. 2016, V-Net), smoothed; in [0, 1].

    Over the batch, because per image it is 0 or 1 at the whim of a single pixel where a mask is empty.

    Args:
        axes: over which the pixels are added up; all by default, which gives a scalar.
    """
    shared = tf.reduce_sum(weight * mask * probability, axes)
    total = tf.reduce_sum(weight * mask, axes) + tf.reduce_sum(weight * probability, axes)
    return 1.0 - (2.0 * shared + SMOOTH) / (total + SMOOTH)


def jaccard_loss(
    mask: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor, axes: Sequence[int] | None = None
) -> tf.Tensor:
    """1 - intersection over union over the whole batch, smoothed; in [0, 1]. `axes` as for Dice.

    After Rahman and Wang 2016, «Optimizing Intersection-Over-Union in Deep Neural Networks».
    """
    shared = tf.reduce_sum(weight * mask * probability, axes)
    total = tf.reduce_sum(weight * mask, axes) + tf.reduce_sum(weight * probability, axes)
    return 1.0 - (shared + SMOOTH) / (total - shared + SMOOTH)


def tversky_loss(
    mask: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor, axes: Sequence[int] | None = None
) -> tf.Tensor:
    """1 - Tversky index over the whole batch, smoothed; in [0, 1]. `axes` as for Dice.

    Salehi et al. 2017, with alpha 0.3 for false positives and beta 0.7 for false negatives.
    """
    found = tf.reduce_sum(weight * mask * probability, axes)
    wrong = tf.reduce_sum(weight * (1.0 - mask) * probability, axes)
    missed = tf.reduce_sum(weight * mask * (1.0 - probability), axes)
    total = found + FALSE_POSITIVE * wrong + FALSE_NEGATIVE * missed
    return 1.0 - (found + SMOOTH) / (total + SMOOTH)


def bce_loss(mask: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy, mean over pixels."""
    foreground = -mask * tf.math.log(_inside(probability))
    background = -(1.0 - mask) * tf.math.log(_inside(1.0 - probability))
    return _pixel_mean(weight * (foreground + background))


def focal_loss(mask: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Binary focal loss, mean over pixels (Lin et al. 2017, alpha 0.25, gamma 2)."""
    probability = _inside(probability)
    foreground = -mask * ALPHA * (1.0 - probability) ** GAMMA * tf.math.log(probability)
    background = -(1.0 - mask) * (1.0 - ALPHA) * probability**GAMMA * tf.math.log(1.0 - probability)
    return _pixel_mean(weight * (foreground + background))


def _inside(probability: tf.Tensor) -> tf.Tensor:
    """Probabilities whose logarithms are finite, for both answers."""
    epsilon = tf.keras.backend.epsilon()
    return tf.clip_by_value(probability, epsilon, 1.0 - epsilon)


def _pixel_mean(pixels: tf.Tensor) -> tf.Tensor:
    # divide_no_nan: the last batch may leave one of several devices without any image.
    return tf.math.divide_no_nan(tf.reduce_sum(pixels), tf.cast(tf.size(pixels), tf.float32))


def image_or_pixel_weight(sample_weight: tf.Tensor) -> tf.Tensor:
    """Weights (B,) or (B, H, W, 1) of any number type -> float32 (B, 1, 1, 1) or (B, H, W, 1).

    Raises:
        ValueError: they have another shape.
    """
    weight = tf.cast(sample_weight, tf.float32)
    if weight.shape.rank == 1:
        weight = weight[:, None, None, None]
    weight.shape.assert_has_rank(4)
    return weight


TERMS = {
    "dice": dice_loss,
    "jaccard": jaccard_loss,
    "focal": focal_loss,
    "bce": bce_loss,
    "tversky": tversky_loss,
}


def pixel_weights(mask: tf.Tensor, classes: int = 2) -> tf.Tensor:
    """Weight of each pixel, inverse to how much of the batch its class covers.

    scikit-learn's "balanced" over the pixels: pixels / (classes present * pixels of the class), so the mean
    is 1; but at most 20, for a few stray pixels must not rule a batch. Ignored pixels weigh nothing.

    Args:
        mask: class ids 0..classes-1 or IGNORED of any integer type, (B, H, W, 1).

    Returns:
        float32 (B, H, W, 1).
    """
    ids = tf.cast(mask, tf.int32)
    counts = tf.stack([tf.math.count_nonzero(tf.equal(ids, k)) for k in range(classes)])
    present = tf.cast(tf.math.count_nonzero(counts), tf.float32)
    pixels = tf.cast(tf.reduce_sum(counts), tf.float32)
    weights = tf.math.divide_no_nan(pixels, present * tf.cast(counts, tf.float32))
    weights = tf.concat([tf.minimum(weights, LARGEST_PIXEL_WEIGHT), [0.0]], axis=0)  # the last of IGNORED
    return tf.gather(weights, tf.minimum(ids, classes))


class SegmentationLoss(tf.keras.losses.Loss):
    """Sum of terms such as `dice_loss`, each with its factor.

    Args:
        terms: factors and functions of (mask, probability, weight).
    """

    def __init__(
        self, terms: Sequence[tuple[float, Term]] = ((1.0, dice_loss), (1.0, focal_loss)), name: str = "loss"
    ) -> None:
        super().__init__(name=name)
        self.terms = terms

    def __call__(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Scalar float32 loss of one batch; `sample_weight` (B,) or (B, H, W, 1) goes into the sums.

        Raises:
            ValueError: the shapes do not fit; broadcast, (B, H, W) and (B, H, W, 1) would mix up images.
        """
        mask, probability = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
        mask.shape.assert_is_compatible_with(probability.shape)
        if sample_weight is None:
            sample_weight = tf.ones_like(mask[:, :1, :1])
        weight = image_or_pixel_weight(sample_weight)
        return tf.add_n([factor * term(mask, probability, weight) for factor, term in self.terms])


def segmentation_loss(text: str) -> SegmentationLoss:
    """The SegmentationLoss of a text such as `0.5*dice+1*focal`. Raises InputError, as `loss_terms`."""
    return SegmentationLoss([(factor, TERMS[name]) for factor, name in loss_terms(text)])
