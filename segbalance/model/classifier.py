"""A network that gives a whole image its class: an encoder of segmentation-models with a pooling head."""

from typing import Any

from segbalance.legacy_keras import sm, tf


@sm.inject_global_submodules
def classifier(
    backbone: str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    activation: str,
    encoder_weights: str | None = None,
    encoder_freeze: bool = False,
    **submodules: Any,
) -> tf.keras.Model:
    """Encoder, mean over all places, dense layer; takes the arguments of segmentation-models' builders.

    Args:
        backbone: a name of segmentation-models.
        input_shape: (S, S, 3).
        classes: number of outputs.
        activation: of the outputs, a name of Keras'.
        encoder_weights: `imagenet`, a path to a weights file, or None for random weights.
        encoder_freeze: whether the encoder's layers are not trainable.

    Returns:
        (B, S, S, 3) -> (B, 1, 1, classes).
    """
    encoder = sm.Backbones.get_backbone(
        backbone, input_shape=input_shape, weights=encoder_weights, include_top=False, **submodules
    )
    for layer in encoder.layers if encoder_freeze else ():
        layer.trainable = False
    features = tf.keras.layers.GlobalAveragePooling2D(keepdims=True, name="pooling")(encoder.output)
    outputs = tf.keras.layers.Dense(classes, activation, name="head")(features)
    return tf.keras.Model(encoder.input, outputs)
