"""Scores of subsets without foreground: counted by hand and by NumPy, and given to the callbacks alone."""

import math

import numpy as np
import pytest

from segbalance.data_processing.classes import IGNORED
from segbalance.legacy_keras import tf
from segbalance.model.false_alarms import (
    AlarmCounts,
    above_threshold,
    alarm_logs,
    not_background,
    one_kind_of_scores,
)
from segbalance.model.networks import SegmentationModel, compile_model

SIDE = 8


def one_wrong_pixel(images=190):
    """Masks, probabilities (N, 8, 8, 1) and subset numbers: a subset with foreground, and one without.

    All of the four images with foreground are found; of the others, one has one pixel that is wrong.
    """
    mask = np.zeros((4 + images, SIDE, SIDE, 1), np.uint8)
    mask[:4, 2:5, 2:5] = 1
    probability = np.where(mask, 0.9, 0.1).astype(np.float32)
    probability[100, 3, 3] = 0.6
    return mask, probability, np.repeat([0, 1], [4, images]).astype(np.int32)


def logs_of(metric, subsets):
    return {name: float(value) for name, value in alarm_logs(metric.result(), subsets).items()}


def test_one_wrong_pixel_of_one_of_many_images():
    metric = AlarmCounts(2, above_threshold)
    mask, probability, subset = one_wrong_pixel()
    for start in range(0, len(mask), 50):  # the last batch is smaller
        metric.update_state(*(part[start : start + 50] for part in (mask, probability, subset)))
    np.testing.assert_array_equal(metric.result(), [[4, 0, 4 * 64, 4 * 9, 4 * 9], [190, 189, 190 * 64, 0, 1]])
    logs = logs_of(metric, ["bad", "good"])
    assert math.isnan(logs["clean_images_bad"]) and math.isnan(logs["false_pixels_bad"])
    assert logs["clean_images_good"] == pytest.approx(189 / 190)
    assert logs["false_pixels_good"] == pytest.approx(1 / (190 * 64))
    metric.reset_state()
    assert not metric.result().numpy().any()
    assert all(map(math.isnan, logs_of(metric, ["bad", "good"]).values())), "nothing is known before"


def test_several_classes_without_what_is_ignored():
    mask = np.zeros((3, 2, 2, 1), np.uint8)
    mask[0, 0], mask[2] = IGNORED, IGNORED  # two pixels; all of the last image, of which nothing is known
    probability = np.zeros((3, 2, 2, 3), np.float32)
    probability[..., 0] = 0.4
    probability[0, 0, :, 1], probability[1, 1, 1, 2], probability[2, ..., 1] = 0.6, 0.5, 0.6
    metric = AlarmCounts(1, not_background)
    metric.update_state(mask, probability, np.zeros(3, np.int32))
    np.testing.assert_array_equal(metric.result(), [[2, 1, 6, 0, 1]])
    assert logs_of(metric, ["good"]) == pytest.approx({"clean_images_good": 0.5, "false_pixels_good": 1 / 6})


def test_a_subset_keeps_one_kind_of_scores():
    logs = {"loss": 1.0, "iou": 0.5, "iou_a": 0.5, "f1_a": 0.6, "iou_b": 0.0, "f1_b": 0.0}
    logs |= {"clean_images_a": math.nan, "false_pixels_a": math.nan}
    logs |= {"clean_images_b": 0.9, "false_pixels_b": 0.01}
    assert list(one_kind_of_scores(logs, "ab")) == [
        "loss", "iou", "iou_a", "f1_a", "clean_images_b", "false_pixels_b",
    ]  # fmt: skip
    assert one_kind_of_scores({"loss": 1.0}, "ab") == {"loss": 1.0}


@pytest.mark.parametrize("classes", [[], ["background", "scratch"]], ids=["foreground", "classes"])
def test_the_logs_of_a_validation(classes):
    """As callbacks get them, TensorBoard for one, and as `fit` puts `val_` in front of them."""
    photo = tf.keras.Input((SIDE, SIDE, 3), dtype=tf.uint8)
    found = tf.keras.layers.Rescaling(1 / 255)(photo)[..., :1]  # the red channel is the probability
    if classes:
        found = tf.keras.layers.Concatenate()([1 - found, found])
    model = SegmentationModel(tf.keras.Model(photo, found), ["bad", "good"], classes=classes)
    compile_model(model, learning_rate=0.001, steps=1, warmup_steps=0)
    mask, probability, subset = one_wrong_pixel()
    photos = np.repeat((probability * 255).astype(np.uint8), 3, axis=-1)
    ended = []
    told = tf.keras.callbacks.LambdaCallback(on_test_end=ended.append)
    data = tf.data.Dataset.from_tensor_slices((photos, mask, subset)).batch(64)
    logs = model.evaluate(data, verbose=0, return_dict=True, callbacks=[told])
    expected = {"iou_bad", "f1_bad", "clean_images_good", "false_pixels_good"}
    assert {name for name in logs if name.endswith(("bad", "good"))} == expected
    assert logs["iou_bad"] == 1 and logs["clean_images_good"] == pytest.approx(189 / 190)
    assert ended == [logs] and all(map(math.isfinite, logs.values()))
    if not classes:
        assert logs["iou"] == pytest.approx(36 / 37), "the pooled IoU stays what it was"
