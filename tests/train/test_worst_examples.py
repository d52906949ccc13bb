"""segbalance/train/worst_examples.py."""

import numpy as np

from segbalance.data_processing.classes import Classes
from segbalance.legacy_keras import tf
from segbalance.train.worst_examples import worst_examples


def batches(photos, truths):
    """Batches of two photos; the red channel says what `by_red` finds."""
    subsets = np.zeros(len(photos), np.int32)
    return tf.data.Dataset.from_tensor_slices((photos, truths, subsets)).batch(2)


def by_red(photo, training):
    assert training is False
    return tf.cast(photo[..., :1], tf.float32) / 255


def test_the_worst_come_first_with_truth_and_prediction_beside_the_photo():
    photos = np.zeros((5, 4, 4, 3), np.uint8)
    photos[:, :, :2] = 255  # found is the left half
    truths = np.zeros((5, 4, 4, 1), np.uint8)
    for number, columns in enumerate([2, 4, 1, 0, 3]):  # IoU 1, 0.5, 0.5, 0 and 2/3
        truths[number, :, :columns] = 1
    photos[..., 1] = np.arange(5)[:, None, None]  # tells them apart
    pictures = worst_examples(by_red, batches(photos, truths), None, count=3)
    assert [picture[0, 0, 1] for picture in pictures] == [3, 1, 2], "of equals, the first comes first"
    assert [picture.shape for picture in pictures] == [(4, 12, 3)] * 3
    photo, truth, prediction = np.split(pictures[1], 3, axis=1)
    np.testing.assert_array_equal(photo, photos[1])
    assert (truth == 255).all()
    assert (prediction[:, :2] == 255).all() and (prediction[:, 2:] == 0).all()


def test_ignored_pixels_do_not_count_and_classes_have_their_colours():
    photos = np.zeros((2, 2, 2, 3), np.uint8)
    truths = np.array([[[1, 255], [2, 2]], [[1, 1], [1, 1]]], np.uint8)[..., None]

    def network(photo, training):
        found = tf.constant([[[1, 0], [2, 2]], [[1, 1], [1, 2]]])
        return tf.one_hot(found, 3)

    classes = Classes(("background", "nail", "ring"), ("#000000", "#ff0000", "#0000ff"))
    worst, best = worst_examples(network, batches(photos, truths), classes)
    assert worst[0, 2].tolist() == [255, 0, 0] and worst[1, 5].tolist() == [0, 0, 255]
    assert best[0, 3].tolist() == [128, 128, 128], "the ignored pixel"


def test_labels_are_ordered_by_the_probability_of_the_true_one():
    photos = np.arange(2, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    truths = np.array([0, 1], np.uint8).reshape(2, 1, 1, 1)

    def network(photo, training):
        return tf.constant([[0.9, 0.1], [0.8, 0.2]])[:, None, None]

    pictures = worst_examples(network, batches(photos, truths), None)
    assert [picture.max() for picture in pictures] == [1, 0] and pictures[0].shape == (4, 4, 3)
