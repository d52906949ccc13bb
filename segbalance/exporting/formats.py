"""A run's network as a SavedModel, a TFLite or an ONNX file: uint8 photos in, probabilities or masks out."""

import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from segbalance.exporting.exported_model import MODEL_NAMES, ONNX_KEY, PHOTO, ExportDescription
from segbalance.legacy_keras import tf

OPSET = 17  # of ONNX


def area_weights(length: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """What each of `target` pixels takes of `length` ones by the area that it covers, as cv2.INTER_AREA does.

    Args:
        length, target: scalar int32 tensors, target not larger.

    Returns:
        float32 (target, length), rows of sum 1.
    """
    scale = tf.cast(length, tf.float32) / tf.cast(target, tf.float32)
    start = tf.cast(tf.range(target), tf.float32)[:, None] * scale
    pixel = tf.cast(tf.range(length), tf.float32)[None]
    covered = tf.maximum(tf.minimum(start + scale, pixel + 1) - tf.maximum(start, pixel), 0.0)
    return covered / tf.reduce_sum(covered, axis=1, keepdims=True)


def weighted_rows(photos: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """float32 (B, H, W, 3) and (H', H) -> (B, W, H', 3): new rows, and height and width change places."""
    batch, height, width = tf.unstack(tf.shape(photos)[:3])
    rows = tf.matmul(weights, tf.reshape(photos, (batch, height, width * 3)))
    return tf.transpose(tf.reshape(rows, (batch, tf.shape(weights)[0], width, 3)), (0, 2, 1, 3))


def shrink(photos: tf.Tensor, working_size: int) -> tf.Tensor:
    """What `working_size.shrink_photo` does, for float32 (B, H, W, 3) of any size.

    It is written with products of matrices, which every format has; a resize by area is not among ONNX'
    operations.
    """
    sides = tf.shape(photos)[1:3]
    exact, longest = tf.cast(sides, tf.float32), tf.cast(tf.reduce_max(sides), tf.float32)
    smaller = tf.cast(tf.maximum(tf.round(exact * float(working_size) / longest), 1.0), tf.int32)
    target = tf.where(longest > working_size, smaller, sides)
    turned = weighted_rows(photos, area_weights(sides[0], target[0]))
    return tf.round(weighted_rows(turned, area_weights(sides[1], target[1])))


def network_input(photos: tf.Tensor, description: ExportDescription) -> tf.Tensor:
    """Photos uint8 (B, H, W, 3) of any size -> uint8 (B, S, S, 3), resized as in training."""
    pixels = tf.cast(photos, tf.float32)
    if description.working_size:
        pixels = shrink(pixels, description.working_size)
    resized = tf.image.resize(pixels, (description.image_size, description.image_size), "bilinear")
    return tf.cast(tf.round(resized), tf.uint8)


def serving_function(
    network: tf.keras.Model, description: ExportDescription, dtype: tf.DType = tf.uint8
) -> tf.types.experimental.PolymorphicFunction:
    """The tf.function to export: `photo` (B, H, W, 3) -> {output type: (B, H, W, C)}.

    C is 1 but for probabilities of several classes; in classification H and W of the answer are 1.

    Args:
        network: what `predictor.load_network` returns.
        dtype: of the photo; float32 for the conversion to integers, which sets the type itself.
    """
    dynamic = description.size == "dynamic"
    side = None if dynamic else description.image_size

    @tf.function(input_signature=[tf.TensorSpec((None, side, side, 3), dtype, PHOTO)])
    def predict(photo: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = network_input(photo, description) if dynamic else photo
        for layer in network.layers[1:]:  # the model itself would cast to uint8
            answer = layer(answer, training=False) if isinstance(layer, tf.keras.Model) else layer(answer)
        if dynamic and description.kind.with_masks:
            answer = tf.image.resize(answer, tf.shape(photo)[1:3], "bilinear")
        if description.output_type == "mask":
            answer = found_ids(answer, description)
        return {description.output_type: answer}

    return predict


def found_ids(probability: tf.Tensor, description: ExportDescription) -> tf.Tensor:
    """float32 (B, H, W, C) -> uint8 (B, H, W, 1) class ids, the most probable of several classes."""
    if description.kind.with_threshold:
        return tf.cast(probability > description.threshold, tf.uint8)
    return tf.cast(tf.argmax(probability, axis=-1, output_type=tf.int32)[..., None], tf.uint8)


def write_savedmodel(
    network: tf.keras.Model,
    description: ExportDescription,
    folder: str | Path,
    photos: Iterable[np.ndarray] | None = None,
    dtype: tf.DType = tf.uint8,
) -> Path:
    """Writes the SavedModel into `folder`; `photos` are not needed."""
    module = tf.Module()
    module.predict = serving_function(network, description, dtype)
    # The variables alone: with the network, Keras would trace and store each of its layers.
    module.network_variables = list(network.variables)
    place = Path(folder, MODEL_NAMES["savedmodel"])
    tf.saved_model.save(module, str(place), signatures=module.predict)
    return place


def write_tflite(
    network: tf.keras.Model,
    description: ExportDescription,
    folder: str | Path,
    photos: Iterable[np.ndarray] | None = None,
) -> Path:
    """Writes the TFLite file into `folder`.

    Args:
        photos: uint8 (S, S, 3), from which int8 takes the ranges of all values.
    """
    integers, examples = description.quantize == "int8", () if photos is None else photos
    place = Path(folder, MODEL_NAMES["tflite"])
    with tempfile.TemporaryDirectory() as scratch:
        source = write_savedmodel(network, description, scratch, dtype=tf.float32 if integers else tf.uint8)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
        if description.quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if description.quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if integers:
            converter.representative_dataset = lambda: map(representative, examples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TFLite's interpreter will move to a package of its own
            place.write_bytes(converter.convert())
    return place


def representative(photo: np.ndarray) -> dict[str, np.ndarray]:
    """A photo uint8 (S, S, 3) as the converter wants it.

    Two corners become black and white: with values from 0 to 255 the quantised input is the photo itself.
    """
    photo = photo.astype("float32")[None]
    photo[0, 0, 0], photo[0, -1, -1] = 0, 255
    return {PHOTO: photo}


def write_onnx(
    network: tf.keras.Model,
    description: ExportDescription,
    folder: str | Path,
    photos: Iterable[np.ndarray] | None = None,
) -> Path:
    """Writes the ONNX file, with its description among its metadata, into `folder`."""
    import onnx
    import tf2onnx

    predict = serving_function(network, description)
    model, _ = tf2onnx.convert.from_function(predict, predict.input_signature, opset=OPSET)
    onnx.helper.set_model_props(model, {ONNX_KEY: description.to_json()})
    onnx.checker.check_model(model)
    place = Path(folder, MODEL_NAMES["onnx"])
    onnx.save(model, str(place))
    return place


WRITERS: dict[str, Callable[..., Path]] = {
    "savedmodel": write_savedmodel,
    "tflite": write_tflite,
    "onnx": write_onnx,
}
