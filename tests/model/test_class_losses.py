"""Losses of several classes: against hand calculations, without what is ignored, stable in half precision."""

import math

import numpy as np
import pytest

from segbalance.data_processing.classes import IGNORED
from segbalance.legacy_keras import tf
from segbalance.model.class_losses import class_loss
from segbalance.model.losses import pixel_weights

# Two images of two pixels, three classes; the last pixel counts nowhere.
MASK = np.uint8([[[[0], [1]]], [[[1], [IGNORED]]]])
PROBABILITY = np.float32([[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]], [[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]])
# Of classes 0 and 1, which alone are there: pixels, summed probability, probability where it is true.
PIXELS, FOUND, SHARED = (1, 2), (0.7 + 0.3 + 0.5, 0.2 + 0.6 + 0.25), (0.7, 0.6 + 0.25)
BY_HAND = {
    "dice": np.mean([1 - 2 * s / (p + f) for p, f, s in zip(PIXELS, FOUND, SHARED, strict=True)]),
    "jaccard": np.mean([1 - s / (p + f - s) for p, f, s in zip(PIXELS, FOUND, SHARED, strict=True)]),
    "tversky": np.mean(
        [1 - s / (s + 0.3 * (f - s) + 0.7 * (p - s)) for p, f, s in zip(PIXELS, FOUND, SHARED, strict=True)]
    ),
    "bce": -(math.log(0.7) + math.log(0.6) + math.log(0.25)) / 3,
    "focal": -0.25 * sum((1 - p) ** 2 * math.log(p) for p in (0.7, 0.6, 0.25)) / 3,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_loss_by_hand(name):
    assert float(class_loss(name)(MASK, PROBABILITY)) == pytest.approx(BY_HAND[name], rel=1e-4)


def test_a_sum_with_factors():
    expected = 0.5 * BY_HAND["dice"] + 2 * BY_HAND["focal"]
    assert float(class_loss("0.5*dice+2*focal")(MASK, PROBABILITY)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_ignored_has_no_gradient(name):
    logits = tf.Variable(np.log(PROBABILITY))
    with tf.GradientTape() as tape:
        loss = class_loss(name)(MASK, tf.nn.softmax(logits))
    gradient = tape.gradient(loss, logits).numpy()
    assert np.abs(gradient[:, 0, 0]).min() > 0 and np.abs(gradient[1, 0, 1]).max() == 0


@pytest.mark.parametrize("gap", [40, 80, 88, 120, 1e4])
@pytest.mark.parametrize("name", ["bce", "focal"])
def test_answers_that_are_wrong_without_a_doubt_have_finite_gradients(name, gap):
    """With the largest weight of a pixel and float16's largest loss scale."""
    logits = tf.Variable([[[[0.0, gap, 0.0]]]])
    with tf.GradientTape() as tape:
        loss = 2.0**15 * class_loss(name)(
            np.zeros((1, 1, 1, 1), np.uint8), tf.nn.softmax(logits), np.float32([1e4])
        )
    gradient = tape.gradient(loss, logits).numpy()[0, 0, 0]
    assert np.isfinite(gradient).all() and np.isfinite(float(loss))
    if gap == 40:  # probability - truth, times weight and scale
        factor = 2.0**15 * 1e4 * (0.25 if name == "focal" else 1)
        np.testing.assert_allclose(gradient / factor, [-1, 1, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BY_HAND)
def test_nothing_but_ignored_pixels_is_no_loss(name):
    assert float(class_loss(name)(np.full_like(MASK, IGNORED), PROBABILITY)) == 0


@pytest.mark.parametrize("name", BY_HAND)
def test_weights_of_images_and_pixels(name):
    """An image that weighs twice as much counts as if it stood there twice, in all but the means' pixels."""
    loss, three = class_loss(name), np.stack([MASK[0], MASK[1], MASK[1]])
    twice = float(loss(three, PROBABILITY[[0, 1, 1]]))
    weighted = float(loss(MASK, PROBABILITY, np.float32([1, 2])))
    pixels = float(loss(MASK, PROBABILITY, np.float32([1, 2])[:, None, None, None] * np.ones(MASK.shape)))
    assert weighted == pytest.approx(pixels)
    # Four counted pixels in three images, three in two.
    assert weighted == pytest.approx(twice * (4 / 3 if name in ("bce", "focal") else 1), rel=1e-4)
    assert weighted != pytest.approx(float(loss(MASK, PROBABILITY)), rel=1e-3)


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_certain_answers_in_half_precision_stay_finite(name, dtype):
    mask = np.uint8([[[[0], [1]]]])
    for right in (True, False):
        logits = tf.Variable(np.float32([[[[1e4, 0, 0], [0, 1e4, 0]]]]) * (1 if right else -1))
        with tf.GradientTape() as tape:
            probability = tf.nn.softmax(tf.cast(tf.cast(logits, dtype), tf.float32))
            loss = class_loss(name)(mask, tf.cast(probability, dtype))
        gradient = tape.gradient(loss, logits)
        assert math.isfinite(loss) and np.isfinite(gradient).all()
        assert (float(loss) < 1e-4) == right


@pytest.mark.parametrize("name", ["bce", "focal"])
def test_a_network_that_is_sure_and_wrong_still_learns(name):
    logits = tf.Variable([[[[0.0, 40.0, 0.0]]]])
    with tf.GradientTape() as tape:
        loss = class_loss(name)(np.zeros((1, 1, 1, 1), np.uint8), tf.nn.softmax(logits))
    gradient = tape.gradient(loss, logits).numpy().ravel()
    factor = 1 if name == "bce" else 0.25
    assert float(loss) == pytest.approx(40 * factor, rel=1e-4)
    np.testing.assert_allclose(gradient, [-factor, factor, 0], atol=1e-4)


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="incompatible"):
        class_loss("dice")(MASK[:, :, :1], PROBABILITY)
    with pytest.raises(ValueError, match="rank"):
        class_loss("dice")(MASK, PROBABILITY, np.ones((2, 1), np.float32))


def test_pixel_weights_leave_ignored_pixels_out():
    # Two classes in three pixels that count: 3 / (2 * 1) and 3 / (2 * 2).
    weights = pixel_weights(MASK, classes=3).numpy()
    np.testing.assert_allclose(weights.ravel(), [1.5, 0.75, 0.75, 0])
