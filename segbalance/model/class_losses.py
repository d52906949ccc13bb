"""Losses of several classes, by the names and with the weights of losses.py.

Masks are class ids (B, H, W, 1), IGNORED where a pixel counts nowhere; probabilities are float32 (B, H, W, C)
of a softmax. A classified image is a single pixel. Inside, `truth` is the one-hot mask (B, H, W, C), zero
where ignored, and `weight` (B, H, W, 1) is zero there too. All is computed in float32.
"""

from collections.abc import Callable, Sequence

import numpy as np

from segbalance.data_processing.classes import IGNORED
from segbalance.legacy_keras import tf
from segbalance.model.loss_terms import loss_terms
from segbalance.model.losses import (
    ALPHA,
    GAMMA,
    Term,
    dice_loss,
    image_or_pixel_weight,
    jaccard_loss,
    tversky_loss,
)

SMALLEST = float(np.finfo(np.float32).tiny)
# 1 / probability meets the softmax's gradient only after weights (to 1e4) and float16's loss scale (to 1e8).
LEAST_IN_GRADIENT = 1e-25
PIXELS = [0, 1, 2]  # axes of a batch's pixels


def of_classes(loss: Callable[..., tf.Tensor]) -> Term:
    """A loss of losses.py that takes `axes` -> its mean over the classes in the batch; in [0, 1]."""

    def mean_loss(truth: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        return _mean_of_present(loss(truth, probability, weight, PIXELS), truth, weight)

    return mean_loss


def cross_entropy_loss(truth: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Categorical cross-entropy, mean over the pixels that count."""
    return _pixel_mean(-weight * truth * _log(probability), truth)


def focal_loss(truth: tf.Tensor, probability: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Focal loss of a softmax, mean over the pixels that count (Lin et al. 2017, alpha 0.25, gamma 2)."""
    return _pixel_mean(-weight * ALPHA * truth * (1.0 - probability) ** GAMMA * _log(probability), truth)


@tf.custom_gradient
def _log(probability: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Logarithm, whose gradient stays finite with any loss weight and loss scale."""

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        inverse = tf.math.reciprocal(tf.maximum(probability, LEAST_IN_GRADIENT))
        return upstream * tf.where(probability >= SMALLEST, inverse, 0.0)

    return tf.math.log(tf.maximum(probability, SMALLEST)), gradient


def _mean_of_present(losses: tf.Tensor, truth: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Mean over the classes with pixels in the batch: of the others, Dice says nothing but «not 0»."""
    present = tf.cast(tf.reduce_sum(weight * truth, PIXELS) > 0, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(present * losses), tf.reduce_sum(present))


def _pixel_mean(values: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
    # divide_no_nan: all pixels may be ignored, or a device have none.
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.reduce_sum(truth))


TERMS = {
    "dice": of_classes(dice_loss),
    "jaccard": of_classes(jaccard_loss),
    "focal": focal_loss,
    "bce": cross_entropy_loss,
    "tversky": of_classes(tversky_loss),
}


class ClassLoss(tf.keras.losses.Loss):
    """Sum of terms such as `focal_loss`, each with its factor.

    Args:
        terms: factors and functions of (truth, probability, weight).
    """

    def __init__(self, terms: Sequence[tuple[float, Term]], name: str = "loss") -> None:
        super().__init__(name=name)
        self.terms = terms

    def __call__(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Scalar float32 loss of one batch; `sample_weight` (B,) or (B, H, W, 1) goes into the sums.

        Raises:
            ValueError: the shapes do not fit.
        """
        mask, probability = tf.convert_to_tensor(y_true), tf.cast(y_pred, tf.float32)
        mask.shape[:-1].assert_is_compatible_with(probability.shape[:-1])
        counted = tf.cast(tf.not_equal(mask, IGNORED), tf.float32)
        weight = counted
        if sample_weight is not None:
            weight = counted * image_or_pixel_weight(sample_weight)
        truth = tf.one_hot(mask[..., 0], probability.shape[-1])  # all zero for IGNORED
        return tf.add_n([factor * term(truth, probability, weight) for factor, term in self.terms])


def class_loss(text: str) -> ClassLoss:
    """The ClassLoss of a text such as `0.5*dice+1*focal`. Raises InputError, as `loss_terms`."""
    return ClassLoss([(factor, TERMS[name]) for factor, name in loss_terms(text)])
