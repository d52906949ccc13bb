"""Resizing inside a model is that of training, and the writers keep what the network says."""

import dataclasses

import cv2
import numpy as np
import pytest

from segbalance.dataloader.working_size import shrink_photo, working_shape
from segbalance.exporting.export import as_trained
from segbalance.exporting.exported_model import DESCRIPTION, ExportDescription, load_exported
from segbalance.exporting.formats import WRITERS, area_weights, network_input, representative, shrink
from segbalance.legacy_keras import tf
from segbalance.model.networks import input_scaling

FIXED = ExportDescription("tflite", "fixed", "probability", "int8", 32, 40, 0.5, ("a", "b"), "vgg16")


def photo_of(height, width, seed=0):
    """A photo uint8 (H, W, 3) with edges and noise."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 60, (height, width, 3), np.uint8)
    cv2.circle(photo, (width // 2, height // 2), min(height, width) // 3, (250, 120, 30), -1)
    return photo


def quantized(small_exports, folder, **changes):
    """The loaded export of the small network by `FIXED` with some values changed."""
    description = dataclasses.replace(FIXED, **changes)
    rng = np.random.default_rng(3)
    WRITERS[description.format](
        small_exports[0], description, folder, rng.integers(0, 256, (20, 32, 32, 3), np.uint8)
    )
    (folder / DESCRIPTION).write_text(description.to_json())
    return load_exported(folder)


@pytest.mark.parametrize(("length", "target"), [(10, 5), (10, 3), (7, 7), (50, 32), (4000, 767), (5, 1)])
def test_rows_are_averaged_over_areas(length, target):
    weights = area_weights(tf.constant(length), tf.constant(target)).numpy()
    rows = np.random.default_rng(0).uniform(0, 255, (length, 4)).astype(np.float32)
    expected = cv2.resize(rows, (4, target), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(weights @ rows, expected, atol=0.05)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(300, 200), (90, 301), (96, 64), (40, 40), (1000, 3)])
def test_shrinking_is_that_of_training(height, width):
    photo = photo_of(height, width)
    expected = shrink_photo(photo, working_shape((width, height), 96)).astype(np.float32)
    found = shrink(tf.constant(photo[None], tf.float32), 96).numpy()[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01


@pytest.mark.parametrize("working_size", [0, 96])
def test_the_network_sees_what_it_saw_in_training(working_size):
    description = dataclasses.replace(FIXED, size="dynamic", image_size=64, working_size=working_size)
    for height, width in [(300, 200), (50, 60), (64, 64), (128, 128), (31, 97)]:
        photo = photo_of(height, width)
        found = network_input(tf.constant(photo[None]), description).numpy()[0].astype(int)
        expected = as_trained(photo, description).astype(int)
        assert found.shape == (64, 64, 3)
        assert np.abs(found - expected).max() <= 1, (height, width)


def test_without_working_size_the_result_is_another():
    """That photos are shrunk first is to be seen in what comes out: the test above can tell."""
    photo, without = photo_of(300, 200), dataclasses.replace(FIXED, working_size=0)
    assert np.abs(as_trained(photo, FIXED).astype(int) - as_trained(photo, without)).max() > 20


def test_a_quantised_input_is_the_photo_itself():
    photo = np.full((32, 32, 3), 100, np.uint8)
    fed = representative(photo)["photo"]
    assert fed.shape == (1, 32, 32, 3) and fed.dtype == np.float32
    assert (fed.min(), fed.max(), np.median(fed)) == (0, 255, 100)
    assert (photo == 100).all(), "the photo itself was changed"


def test_int8_takes_and_gives_bytes(small_exports, tmp_path):
    exported = quantized(small_exports, tmp_path)
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert taken["dtype"] == given["dtype"] == np.uint8
    assert taken["quantization"] == (1.0, 0) and given["quantization"] == (1 / 256, 0)
    types = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert not types & {np.float32, np.float16}, "some of it still calculates with floats"
    photos = np.random.default_rng(5).integers(0, 256, (4, 32, 32, 3), np.uint8)
    difference = np.abs(exported(photos) - small_exports[0](photos).numpy())
    assert 0 < difference.max() < 0.05


def test_float16_halves_the_file(small_exports, tmp_path):
    exported = quantized(small_exports, tmp_path, quantize="float16")
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    assert np.float16 in {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    photos = np.random.default_rng(5).integers(0, 256, (4, 32, 32, 3), np.uint8)
    difference = np.abs(exported(photos) - small_exports[0](photos).numpy())
    assert 0 < difference.max() < 0.01


@pytest.mark.parametrize(
    ("file_format", "quantize", "size"),
    [
        ("savedmodel", "none", "dynamic"),
        ("tflite", "none", "fixed"),
        ("tflite", "int8", "fixed"),
        ("onnx", "none", "dynamic"),
    ],
)
def test_masks_are_class_ids(small_exports, tmp_path, file_format, quantize, size):
    changes = {"format": file_format, "quantize": quantize, "size": size, "threshold": 0.45}
    exported = quantized(small_exports, tmp_path, output_type="mask", **changes)
    photos = np.random.default_rng(6).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found, probability = exported(photos), small_exports[0](photos).numpy()
    assert set(np.unique(found)) == {0, 1}
    clear = np.abs(probability - 0.45) > (0.05 if quantize == "int8" else 1e-4)
    np.testing.assert_array_equal(found[clear], (probability > 0.45)[clear])
    if file_format == "tflite":
        details = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_output_details()
        assert [output["dtype"] for output in details] == [np.uint8]


@pytest.fixture(scope="module")
def class_network():
    """A network of two layers that tells four classes apart."""
    tf.keras.utils.set_random_seed(1)
    photo = tf.keras.Input((32, 32, 3), dtype=tf.uint8)
    hidden = tf.keras.layers.Conv2D(6, 3, padding="same", activation="relu")(input_scaling("vgg16")(photo))
    logits = tf.keras.layers.Conv2D(4, 1, kernel_initializer=tf.keras.initializers.RandomNormal(0, 0.03))(
        hidden
    )
    return tf.keras.Model(photo, tf.keras.layers.Activation("softmax")(logits))


@pytest.mark.parametrize("output_type", ["probability", "mask"])
@pytest.mark.parametrize(
    ("file_format", "size"), [("savedmodel", "dynamic"), ("tflite", "fixed"), ("onnx", "dynamic")]
)
def test_several_classes_are_exported(class_network, tmp_path, file_format, size, output_type):
    """A mask is read as probabilities of 0 and 1, so that both kinds can be resized and blended."""
    names, colours = ("a", "b", "c", "d"), ("#000000", "#ff0000", "#00ff00", "#0000ff")
    description = ExportDescription(
        file_format, size, output_type, "none", 32, 0, 0.5, names, "vgg16", class_colours=colours
    )
    WRITERS[file_format](class_network, description, tmp_path)
    (tmp_path / DESCRIPTION).write_text(description.to_json())
    photos = np.random.default_rng(6).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected, found = class_network(photos).numpy(), load_exported(tmp_path)(photos)
    assert found.shape == (2, 32, 32, 4) and len(np.unique(expected.argmax(-1))) == 4
    if output_type == "probability":
        np.testing.assert_allclose(found, expected, atol=1e-4)
    ordered = np.sort(expected, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-4
    np.testing.assert_array_equal(found.argmax(axis=-1)[clear], expected.argmax(axis=-1)[clear])
    if size == "dynamic":
        assert load_exported(tmp_path)(np.zeros((1, 40, 50, 3), np.uint8)).shape == (1, 40, 50, 4)


@pytest.mark.parametrize("output_type", ["probability", "mask"])
def test_classes_of_whole_photos_are_exported(class_network, tmp_path, output_type):
    pooled = tf.keras.layers.GlobalAveragePooling2D(keepdims=True)(class_network.layers[-2].output)
    labels = tf.keras.Model(class_network.input, tf.keras.layers.Activation("softmax")(pooled))
    names, colours = ("a", "b", "c", "d"), ("#000000", "#ff0000", "#00ff00", "#0000ff")
    description = ExportDescription(
        "savedmodel", "dynamic", output_type, "none", 32, 0, 0.5, names, "vgg16", colours, "classification"
    )
    WRITERS["savedmodel"](labels, description, tmp_path)
    (tmp_path / DESCRIPTION).write_text(description.to_json())
    photos = np.random.default_rng(6).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found, expected = load_exported(tmp_path)(photos), labels(photos).numpy()
    assert found.shape == expected.shape == (2, 1, 1, 4)
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
    assert load_exported(tmp_path)(np.zeros((1, 40, 50, 3), np.uint8)).shape == (1, 1, 1, 4)
