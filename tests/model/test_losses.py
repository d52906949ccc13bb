"""The losses against segmentation-models' and against float64 arithmetic."""

import numpy as np
import pytest

from segbalance.legacy_keras import sm, tf
from segbalance.model.loss_terms import DEFAULT_LOSS, LOSSES
from segbalance.model.losses import (
    TERMS,
    SegmentationLoss,
    dice_loss,
    focal_loss,
    pixel_weights,
    segmentation_loss,
)

DICE = SegmentationLoss([(1.0, dice_loss)])
FOCAL = SegmentationLoss([(1.0, focal_loss)])
BOTH = SegmentationLoss()


def batch(seed=0, size=8):
    """Random masks uint8 and probabilities float32, both (3, size, size, 1)."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, (3, size, size, 1), np.uint8)
    return mask, rng.random(mask.shape, np.float32)


def reference(mask, probability, weight=None):
    """Dice and focal loss in float64, the weight broadcast to the pixels."""
    mask, probability = mask.astype(np.float64), probability.astype(np.float64)
    weight = np.broadcast_to(1.0 if weight is None else weight.astype(np.float64), mask.shape)
    shared, total = (weight * mask * probability).sum(), (weight * (mask + probability)).sum()
    dice = 1 - (2 * shared + 1e-5) / (total + 1e-5)
    right = np.where(mask == 1, probability, 1 - probability).clip(1e-7, 1 - 1e-7)
    focal = np.where(mask == 1, 0.25, 0.75) * (1 - right) ** 2 * -np.log(right)
    return dice, (weight * focal).mean()


def references(mask, probability, weight=None):
    """{name: loss} of every term, in float64."""
    dice, focal = reference(mask, probability, weight)
    mask, probability = mask.astype(np.float64), probability.astype(np.float64)
    weight = np.broadcast_to(1.0 if weight is None else weight.astype(np.float64), mask.shape)
    shared, union = (weight * mask * probability).sum(), (weight * np.maximum(mask, probability)).sum()
    wrong, missed = (weight * (1 - mask) * probability).sum(), (weight * mask * (1 - probability)).sum()
    right = np.where(mask == 1, probability, 1 - probability).clip(1e-7, 1 - 1e-7)
    return {
        "dice": dice,
        "focal": focal,
        "jaccard": 1 - (shared + 1e-5) / (union + 1e-5),
        "tversky": 1 - (shared + 1e-5) / (shared + 0.3 * wrong + 0.7 * missed + 1e-5),
        "bce": (weight * -np.log(right)).mean(),
    }


def extremes():
    """Batches at the edges: all right, all wrong, empty masks, full masks."""
    mask, probability = batch()
    yield mask, mask.astype(np.float32)
    yield mask, 1 - mask.astype(np.float32)
    yield np.zeros_like(mask), probability
    yield np.zeros_like(mask), np.zeros_like(probability)
    yield np.ones_like(mask), probability
    yield np.ones_like(mask), np.zeros_like(probability)


@pytest.mark.parametrize("mask, probability", [batch(seed) for seed in range(3)] + list(extremes()))
def test_without_weights_they_equal_the_librarys(mask, probability):
    theirs = [sm.losses.DiceLoss(), sm.losses.BinaryFocalLoss()]
    theirs.append(theirs[0] + theirs[1])
    for own, library in zip([DICE, FOCAL, BOTH], theirs, strict=True):
        expected = library(mask.astype(np.float32), probability)
        np.testing.assert_allclose(own(mask, probability), expected, rtol=1e-6, atol=1e-7)


def test_a_hand_calculation():
    mask = np.array([1, 1, 0, 0], np.uint8).reshape(1, 2, 2, 1)
    probability = np.array([0.5, 1.0, 0.5, 0.0], np.float32).reshape(1, 2, 2, 1)
    # Dice: 2 * (0.5 + 1) / (2 + 2) = 0.75, so the loss is 0.25 (the smoothing adds less than 1e-6).
    assert float(DICE(mask, probability)) == pytest.approx(0.25, abs=2e-6)
    # Focal: pixels 1 and 3 give (0.25 + 0.75) * 0.5^2 * ln 2 = 0.173287, the others 0; a quarter of it.
    assert float(FOCAL(mask, probability)) == pytest.approx(0.0433217, abs=1e-6)
    assert float(BOTH(mask, probability)) == pytest.approx(0.2933217, abs=3e-6)


def test_every_loss_by_hand():
    mask = np.array([1, 1, 0, 0], np.uint8).reshape(1, 2, 2, 1)
    probability = np.array([0.5, 1.0, 0.25, 0.0], np.float32).reshape(1, 2, 2, 1)
    # Shared 0.5 + 1 = 1.5; too much 0.25; missed 0.5; the mask has 2, the probabilities 1.75.
    expected = {
        "dice": 1 - 2 * 1.5 / (2 + 1.75),
        "jaccard": 1 - 1.5 / (2 + 1.75 - 1.5),
        "tversky": 1 - 1.5 / (1.5 + 0.3 * 0.25 + 0.7 * 0.5),
        # Pixels 1 and 3 give -ln 0.5 and -ln 0.75, the others 0; a quarter of it.
        "bce": (0.693147 + 0.287682) / 4,
        # 0.25 * 0.5^2 and 0.75 * 0.25^2 of the same.
        "focal": (0.0625 * 0.693147 + 0.046875 * 0.287682) / 4,
    }
    assert set(expected) == set(LOSSES) == set(TERMS)
    for name, value in expected.items():
        assert float(segmentation_loss(name)(mask, probability)) == pytest.approx(value, abs=3e-6), name
    both = 0.5 * expected["jaccard"] + 3 * expected["bce"]
    loss = segmentation_loss("0.5*jaccard + 3*bce")
    assert float(loss(mask, probability)) == pytest.approx(both, abs=1e-5)


@pytest.mark.parametrize("mask, probability", [*(batch(seed, size=64) for seed in range(2)), *extremes()])
@pytest.mark.parametrize("shape", [None, (3,), "pixel"], ids=["no", "image", "pixel"])
def test_every_loss_equals_numpy_with_weights_too(mask, probability, shape):
    rng, weight = np.random.default_rng(2), None
    if shape is not None:
        weight = rng.uniform(0.1, 5, mask.shape if shape == "pixel" else shape).astype(np.float32)
    pixels = weight if weight is None or weight.ndim == 4 else weight[:, None, None, None]
    for name, value in references(mask, probability, pixels).items():
        if name == "focal" and np.isin(probability, (0, 1)).all():
            continue  # its float32 logarithm of 1e-7 is the library's, see above, and 1 % off
        own = segmentation_loss(name)(mask, probability, weight)
        assert own.dtype == tf.float32
        np.testing.assert_allclose(own, value, rtol=2e-5, atol=2e-7, err_msg=name)


def test_every_loss_feels_the_weights():
    mask, probability = batch(1)
    weight = np.random.default_rng(2).uniform(0, 5, mask.shape).astype(np.float32)
    plain, weighted = references(mask, probability), references(mask, probability, weight)
    assert min(abs(plain[name] - weighted[name]) for name in LOSSES) > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_jaccard_and_bce_equal_the_librarys(seed):
    mask, probability = batch(seed)
    for name, library in {"jaccard": sm.losses.JaccardLoss(), "bce": sm.losses.BinaryCELoss()}.items():
        expected = library(mask.astype(np.float32), probability)
        np.testing.assert_allclose(segmentation_loss(name)(mask, probability), expected, rtol=1e-5)


def test_the_default_loss_is_dice_and_focal_to_the_last_bit():
    mask, probability = batch(size=64)
    arguments = tf.cast(mask, tf.float32), tf.constant(probability), tf.ones((3, 1, 1, 1))
    expected = float(dice_loss(*arguments) + focal_loss(*arguments))
    for text in (DEFAULT_LOSS, "dice+focal", "1*dice + 1.0*focal"):
        assert float(segmentation_loss(text)(mask, probability)) == expected


def test_weights_by_hand():
    mask = np.array([1, 1], np.uint8).reshape(2, 1, 1, 1)
    probability = np.array([0.5, 0.25], np.float32).reshape(2, 1, 1, 1)
    # Weights 3 and 1: 2 * (3 * 0.5 + 0.25) / (4 + 1.75) = 3.5 / 5.75; unweighted it is 1.5 / 2.75.
    loss = DICE(mask, probability, np.array([3.0, 1.0], np.float32))
    assert float(loss) == pytest.approx(1 - 3.5 / 5.75, abs=2e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 8, 8, 1)], ids=["image", "pixel"])
def test_weights_enter_the_sums(shape):
    mask, probability = batch(1)
    weight = np.random.default_rng(2).uniform(0, 5, shape).astype(np.float32)
    expected = reference(mask, probability, weight.reshape(3, *shape[1:] or (1, 1, 1)))
    assert abs(expected[0] - reference(mask, probability)[0]) > 1e-3, "the weights change nothing here"
    np.testing.assert_allclose(DICE(mask, probability, weight), expected[0], rtol=1e-5)
    np.testing.assert_allclose(FOCAL(mask, probability, weight), expected[1], rtol=1e-5)
    np.testing.assert_allclose(BOTH(mask, probability, weight), sum(expected), rtol=1e-5)
    np.testing.assert_allclose(tf.function(BOTH)(mask, probability, weight), sum(expected), rtol=1e-5)


def weights_by_class(mask):
    """compute_class_weight("balanced") over the pixels, at most 20, in float64."""
    classes, counts = np.unique(mask, return_counts=True)
    table = dict(zip(classes, np.minimum(mask.size / (len(classes) * counts), 20), strict=True))
    return np.vectorize(table.get, otypes=[float])(mask)


def test_pixel_weights_by_hand():
    # 2 of 8 pixels are foreground: 8 / (2 * 2) = 2 for them, 8 / (2 * 6) = 2/3 for the others.
    mask = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.uint8).reshape(2, 2, 2, 1)
    np.testing.assert_allclose(pixel_weights(mask), np.where(mask == 1, 2, 2 / 3), rtol=1e-6)
    # Three classes of 4, 2 and 2 pixels: 8 / (3 * 4) and 8 / (3 * 2).
    mask = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.uint8).reshape(2, 2, 2, 1)
    expected = np.where(mask == 0, 2 / 3, 4 / 3)
    np.testing.assert_allclose(pixel_weights(mask, classes=3), expected, rtol=1e-6)


def test_pixel_weights_have_mean_one_and_are_bounded():
    mask = (np.random.default_rng(0).random((3, 40, 40, 1)) < 0.1).astype(np.uint8)
    assert np.mean(pixel_weights(mask)) == pytest.approx(1, rel=1e-5)
    single = np.zeros((1, 64, 64, 1), np.uint8)
    np.testing.assert_array_equal(pixel_weights(single), 1)  # an empty mask: all pixels alike
    single[0, 3, 3] = 1  # 4096 / (2 * 1) = 2048 is too much
    assert pixel_weights(single)[0, 3, 3, 0] == 20
    assert float(pixel_weights(single)[0, 0, 0, 0]) == pytest.approx(4096 / (2 * 4095))


@pytest.mark.parametrize("coverage", [0.5, 0.05, 0.005, 0])
def test_losses_with_pixel_weights_equal_numpy(coverage):
    mask, probability = batch(6, size=64)
    mask = (np.random.default_rng(6).random(mask.shape) < coverage).astype(np.uint8)
    expected = reference(mask, probability, weights_by_class(mask))
    plain = reference(mask, probability)
    assert coverage in (0.5, 0) or min(abs(a - b) for a, b in zip(expected, plain, strict=True)) > 1e-3
    for loss, value in zip([DICE, FOCAL, BOTH], [*expected, sum(expected)], strict=True):
        np.testing.assert_allclose(loss(mask, probability, pixel_weights(mask)), value, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, 8, 8, 1)], ids=["image", "pixel"])
def test_weights_of_one_equal_no_weights(shape):
    mask, probability = batch(3)
    for loss in (DICE, FOCAL, BOTH):
        without = float(loss(mask, probability))
        assert float(loss(mask, probability, np.ones(shape, np.float32))) == pytest.approx(without, rel=1e-6)


def test_an_image_of_weight_zero_does_not_count():
    mask, probability = batch(4)
    weight = np.array([1, 0, 1], np.float32)
    changed = probability.copy()
    changed[1] = 1 - changed[1]
    assert float(BOTH(mask, probability, weight)) == float(BOTH(mask, changed, weight))
    assert float(BOTH(mask, probability)) != float(BOTH(mask, changed))


def test_many_pixels_stay_exact():
    mask, probability = batch(5, size=1024)
    np.testing.assert_allclose(BOTH(mask, probability), sum(reference(mask, probability)), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, bool, np.float32])
def test_masks_of_any_type(dtype):
    mask, probability = batch()
    loss = BOTH(mask.astype(dtype), probability)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, sum(reference(mask, probability)), rtol=1e-5)


def test_empty_masks_have_a_finite_loss():
    mask, probability = np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 4, 4, 1), np.float32)
    # Nothing to find, nothing found: (0 + s) / (0 + s) = 1. Something found: s / (8 + s), nearly 0.
    assert float(DICE(mask, probability)) == 0
    assert float(DICE(mask, probability + 0.25)) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(BOTH(mask, probability + 1))


def test_a_batch_without_images_has_loss_zero():
    nothing = np.zeros((0, 4, 4, 1), np.float32)
    assert float(BOTH(nothing, nothing)) == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("mask, probability", list(extremes()))
def test_every_loss_is_a_number_at_0_and_1_in_half_precision_too(mask, probability, dtype):
    for name in LOSSES:
        loss = segmentation_loss(name)(mask, probability.astype(dtype))
        assert loss.dtype == tf.float32 and 0 <= float(loss) < 20, name


@pytest.mark.parametrize("name", [*LOSSES, "dice+focal"])
@pytest.mark.parametrize("mask, probability", list(extremes()))
def test_gradients_are_finite_at_the_edges(mask, probability, name):
    probability = tf.constant(probability)
    with tf.GradientTape() as tape:
        tape.watch(probability)
        loss = segmentation_loss(name)(mask, probability)
    gradient = tape.gradient(loss, probability).numpy()
    assert np.isfinite(gradient).all()
    # More probability must never look worse on foreground, where it is not yet certain.
    assert (gradient[mask == 1] <= 0).all()


def test_shapes_that_would_broadcast_are_refused():
    mask, probability = batch()
    with pytest.raises(ValueError, match="incompatible"):
        BOTH(mask[..., 0], probability)
    with pytest.raises(ValueError, match="must have rank 4"):
        BOTH(mask, probability, np.ones((3, 8, 8), np.float32))
