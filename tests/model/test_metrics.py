"""Scores and counts against scikit-learn and NumPy."""

import numpy as np
import pytest
import sklearn.metrics

from segbalance.legacy_keras import tf
from segbalance.model.metrics import SubsetCounts, scores


def batch(images, seed, side=6):
    """Masks uint8, probabilities float32 (B, side, side, 1) and subsets int32 (B,) below 3."""
    rng = np.random.default_rng(seed)
    shape = (images, side, side, 1)
    mask = rng.integers(0, 2, shape, np.uint8)
    return mask, rng.random(shape, np.float32), rng.integers(0, 3, images).astype(np.int32)


def counted(mask, probability):
    """[true positives, false positives, false negatives] by NumPy."""
    true, found = mask == 1, probability > 0.5
    return [np.sum(true & found), np.sum(~true & found), np.sum(true & ~found)]


def counted_by_subset(batches, subsets):
    """int64 (subsets, 3) of all batches together."""
    mask, probability, subset = (np.concatenate(part) for part in zip(*batches, strict=True))
    return np.array([counted(mask[subset == k], probability[subset == k]) for k in range(subsets)])


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(seed):
    mask, probability, _ = batch(4, seed)
    true, found = mask.ravel(), probability.ravel() > 0.3 + 0.1 * seed
    cells = [np.sum((true == 1) & found), np.sum((true == 0) & found), np.sum((true == 1) & ~found)]
    own = {name: float(value) for name, value in scores(cells).items()}
    assert own == pytest.approx(
        {
            "iou": sklearn.metrics.jaccard_score(true, found),
            "f1": sklearn.metrics.f1_score(true, found),
            "precision": sklearn.metrics.precision_score(true, found),
            "recall": sklearn.metrics.recall_score(true, found),
        },
        abs=1e-6,
    )


def test_scores_by_hand():
    # 6 found rightly, 2 wrongly, 4 missed: IoU 6/12, F1 12/18, precision 6/8, recall 6/10.
    own = {name: float(value) for name, value in scores([6, 2, 4]).items()}
    assert own == pytest.approx({"iou": 0.5, "f1": 2 / 3, "precision": 0.75, "recall": 0.6}, abs=1e-12)


@pytest.mark.parametrize(
    "counts, iou, f1, precision, recall",
    [
        ([0, 0, 0], 1, 1, 1, 1),  # empty mask, nothing found: right
        ([0, 5, 0], 0, 0, 0, 0),  # empty mask, something found
        ([0, 0, 5], 0, 0, 0, 0),  # nothing found of what is there
        ([5, 0, 0], 1, 1, 1, 1),
    ],
)
def test_the_rule_for_empty_masks(counts, iou, f1, precision, recall):
    own = {name: float(value) for name, value in scores(counts).items()}
    assert own == {"iou": iou, "f1": f1, "precision": precision, "recall": recall}


def test_scores_of_several_subsets_at_once():
    own = scores([[6, 2, 4], [0, 0, 0]])
    np.testing.assert_allclose(own["iou"], [0.5, 1.0])
    assert own["iou"].dtype == tf.float64


def test_counts_equal_numpy_with_a_smaller_last_batch():
    batches = [batch(4, 0), batch(4, 1), batch(1, 2)]
    metric = SubsetCounts(3)
    for part in batches:
        metric.update_state(*part)
    expected = counted_by_subset(batches, 3)
    assert len(np.unique(expected, axis=0)) == 3, "the subsets cannot be told apart"
    np.testing.assert_array_equal(metric.result(), expected)
    assert metric.result().dtype == tf.int64


def test_a_subset_without_images_stays_empty():
    mask, probability, _ = batch(2, 0)
    metric = SubsetCounts(3)
    metric.update_state(mask, probability, np.array([0, 2], np.int32))
    np.testing.assert_array_equal(metric.result()[1], [0, 0, 0])
    np.testing.assert_array_equal(metric.result()[2], counted(mask[1], probability[1]))


def test_a_half_is_background():
    probability = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)
    metric = SubsetCounts(1)
    metric.update_state(np.ones((1, 1, 2, 1), np.uint8), probability.reshape(1, 1, 2, 1), np.zeros(1, int))
    np.testing.assert_array_equal(metric.result(), [[1, 0, 1]])


def test_counts_are_exact_past_float32():
    side = 1023
    mask = np.ones((1, side, side, 1), np.uint8)
    probability = np.full(mask.shape, 0.75, np.float32)
    probability[0, 0, :4] = 0.25
    metric = SubsetCounts(1)
    for _ in range(17):
        metric.update_state(mask, probability, np.zeros(1, np.int32))
    expected = 17 * (side**2 - 4)
    assert expected > 2**24 and int(np.float32(expected)) != expected
    np.testing.assert_array_equal(metric.result(), [[expected, 0, 17 * 4]])


def test_single_pixels_still_count_after_years():
    metric = SubsetCounts(2)
    start = np.array([[2**24, 2**40, 2**53 - 1], [2**24 + 1, 7, 0]], np.int64)
    metric.counts.assign(start)
    mask, probability, _ = batch(2, 0, side=1)
    batches = [(mask, probability, np.array([0, 1], np.int32))] * 3
    for part in batches:
        metric.update_state(*part)
    expected = start + counted_by_subset(batches, 2)
    assert (expected != start).any()
    np.testing.assert_array_equal(metric.result(), expected)
    true, false, missed = expected[0].astype(object)  # Python's own integers
    own = scores(metric.result())
    assert float(own["iou"][0]) == pytest.approx(true / (true + false + missed), rel=1e-12)
    assert float(own["recall"][0]) == pytest.approx(true / (true + missed), rel=1e-12)


def test_reset_starts_again():
    metric = SubsetCounts(3)
    metric.update_state(*batch(3, 0))
    assert metric.result().numpy().any()
    metric.reset_state()
    np.testing.assert_array_equal(metric.result(), np.zeros((3, 3)))
    second = batch(3, 1)
    metric.update_state(*second)
    np.testing.assert_array_equal(metric.result(), counted_by_subset([second], 3))


class Counting(tf.keras.Model):
    """Takes its input as the probability and counts."""

    def __init__(self):
        super().__init__()
        self.counts = SubsetCounts(3)

    def test_step(self, batch):
        self.counts.update_state(*batch)
        return scores(tf.reduce_sum(self.counts.result(), axis=0))


def test_evaluate_counts_each_pass_anew():
    everything = batch(9, 3)
    data = tf.data.Dataset.from_tensor_slices((everything[1], everything)).map(lambda _, y: y).batch(4)
    model = Counting()
    model.compile()
    true, false, missed = counted(*everything[:2])
    for _ in range(2):  # a second pass must not add to the first
        logs = model.evaluate(data, verbose=0, return_dict=True)
        np.testing.assert_array_equal(model.counts.result(), counted_by_subset([everything], 3))
        assert logs["iou"] == pytest.approx(true / (true + false + missed), abs=1e-6)
