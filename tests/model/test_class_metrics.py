"""Scores of several classes, against scikit-learn and NumPy, and what is ignored."""

import numpy as np
import pytest
import sklearn.metrics

from segbalance.data_processing.classes import IGNORED
from segbalance.legacy_keras import tf
from segbalance.model.metrics import ClassCounts, class_logs, class_scores, label_logs

CLASSES = 5


def batch(images, seed, side=6):
    """Class ids uint8 (B, side, side, 1), some ignored; probabilities (B, side, side, 5); subsets."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, CLASSES, (images, side, side, 1), np.uint8)
    mask[rng.random(mask.shape) < 0.2] = IGNORED
    probability = rng.random((images, side, side, CLASSES), np.float32)
    return mask, probability, np.arange(images, dtype=np.int32) % 3


def confusion(mask, probability):
    """int64 (C, C) by scikit-learn."""
    counted = mask[..., 0] != IGNORED
    found = probability.argmax(axis=-1)[counted]
    return sklearn.metrics.confusion_matrix(mask[..., 0][counted], found, labels=range(CLASSES))


def test_counts_of_each_subset_are_exact():
    batches = [batch(3, 1), batch(2, 2)]
    counts = ClassCounts(3, CLASSES)
    for part in batches:
        counts.update_state(*part)
    mask, probability, subset = (np.concatenate(part) for part in zip(*batches, strict=True))
    expected = [confusion(mask[subset == k], probability[subset == k]) for k in range(3)]
    np.testing.assert_array_equal(counts.result(), expected)
    counts.reset_state()
    assert not counts.result().numpy().any()


def test_more_pixels_than_float32_counts():
    counts = ClassCounts(1, 2)
    counts.counts.assign([[[2**24, 0], [0, 0]]])
    counts.update_state(np.zeros((1, 1, 1, 1), np.uint8), np.float32([[[[0.9, 0.1]]]]), np.int32([0]))
    assert counts.result().numpy()[0, 0, 0] == 2**24 + 1


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learn(seed):
    mask, probability, _ = batch(4, seed)
    counted = mask[..., 0] != IGNORED
    true, found = mask[..., 0][counted], probability.argmax(axis=-1)[counted]
    own = {name: value.numpy() for name, value in class_scores(confusion(mask, probability)).items()}
    by_class = {
        "iou": sklearn.metrics.jaccard_score(true, found, average=None),
        "f1": sklearn.metrics.f1_score(true, found, average=None),
        "precision": sklearn.metrics.precision_score(true, found, average=None),
        "recall": sklearn.metrics.recall_score(true, found, average=None),
    }
    for name, scores in by_class.items():
        np.testing.assert_allclose(own[f"class_{name}"], scores, atol=1e-6)
        np.testing.assert_allclose(own[name], scores.mean(), atol=1e-6)
    assert own["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(true, found), abs=1e-6)
    expected = sklearn.metrics.balanced_accuracy_score(true, found)
    assert own["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_a_class_that_is_nowhere_has_no_score():
    # Class 1 is found but not there, class 2 there but not found, class 3 neither.
    matrix = np.array([[6, 2, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]])
    own = {name: value.numpy() for name, value in class_scores(matrix).items()}
    np.testing.assert_allclose(own["class_iou"], [0.5, 0, 0, np.nan])
    assert own["iou"] == pytest.approx(0.5 / 3) and own["accuracy"] == pytest.approx(0.5)
    # The mean recall leaves out class 1, which is not there, in scikit-learn's balanced accuracy alone.
    assert own["recall"] == pytest.approx(0.75 / 3)
    assert own["balanced_accuracy"] == pytest.approx(0.75 / 2)


def test_the_mean_iou_is_that_of_keras():
    mask, probability, _ = batch(4, 7)
    mask[mask == 3] = 0
    probability[..., 3] = 0
    keras = tf.keras.metrics.MeanIoU(CLASSES, ignore_class=IGNORED)
    keras.update_state(mask[..., 0], probability.argmax(-1))
    assert float(class_scores(confusion(mask, probability))["iou"]) == pytest.approx(
        float(keras.result()), abs=1e-6
    )


def test_logs_of_both_tasks():
    counts = np.array([[[3, 1], [0, 0]], [[0, 0], [2, 4]]])
    logs = {name: float(value) for name, value in class_logs(counts, "pq", ["sky", "sea"]).items()}
    assert " ".join(logs) == ("iou f1 precision recall iou_p f1_p iou_q f1_q class_iou_sky class_iou_sea")
    assert logs["class_iou_sky"] == pytest.approx(3 / 6) and logs["class_iou_sea"] == pytest.approx(4 / 7)
    assert logs["iou_p"] == pytest.approx((3 / 4 + 0) / 2)
    logs = label_logs(counts, ["sky", "sea"], ["sky", "sea"])
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(
        {
            "balanced_accuracy": (3 / 4 + 4 / 6) / 2,
            "accuracy": 0.7,
            "f1": (6 / 9 + 8 / 11) / 2,
            "precision": (3 / 5 + 4 / 5) / 2,
            "recall": (3 / 4 + 4 / 6) / 2,
            "recall_sky": 3 / 4,
            "f1_sky": 6 / 9,
            "recall_sea": 4 / 6,
            "f1_sea": 8 / 11,
        }
    )
