"""Networks that classify: every encoder with a pooling head, frozen and not, saved and loaded."""

import numpy as np
import pytest

from segbalance.errors import InputError
from segbalance.legacy_keras import sm, tf
from segbalance.model.architectures import BACKBONES, size_problem
from segbalance.model.networks import (
    SCRATCH_MOMENTUM,
    InputScaling,
    SegmentationModel,
    build_network,
    compile_model,
    load_weights,
    save_weights,
)

CLASSES = ["cat", "dog", "owl"]
SAMPLE = ["resnet18"]
HEAD_WEIGHTS = 2  # kernel and bias


def least_size(backbone):
    return next(size for size in range(32, 200, 32) if size_problem("unet", backbone, size) is None)


def build(backbone, size=None, **options):
    size = size or least_size(backbone)
    return build_network(backbone, size, outputs=len(CLASSES), task="classification", **options)


def batch(size, count=3):
    """Photos uint8, class ids (B, 1, 1, 1) and subsets."""
    photos = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    subsets = np.arange(count, dtype=np.int32) % len(CLASSES)
    return photos, subsets.astype(np.uint8).reshape(-1, 1, 1, 1), subsets


def inner_network(network):
    return next(layer for layer in network.layers if isinstance(layer, tf.keras.Model))


def builds_learns_and_comes_back(backbone, path):
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(0)
    size = least_size(backbone)
    network = build(backbone)
    model = SegmentationModel(network, CLASSES, classes=CLASSES, task="classification")
    compile_model(model, learning_rate=0.001, steps=10, warmup_steps=0, loss="bce")
    before = [weight.numpy() for weight in network.trainable_variables]
    assert np.isfinite(float(model.train_step(batch(size))["loss"]))
    moved = [np.any(a != b) for a, b in zip(before, network.trainable_variables, strict=True)]
    # Stochastic depth leaves out blocks of EfficientNet in a step.
    least = 0.8 if backbone.startswith("efficientnet") else 0.9
    assert np.mean(moved) > least, f"{np.sum(moved)} of {len(moved)} weights learn"
    photos = batch(size)[0]
    probability = network(photos, training=False).numpy()
    assert probability.shape == (3, 1, 1, len(CLASSES)) and probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(-1), 1, rtol=1e-5)
    save_weights(network, path)
    twin = build(backbone, freeze_encoder=True)
    assert len(twin.trainable_variables) == HEAD_WEIGHTS
    load_weights(twin, path)
    np.testing.assert_array_equal(twin(photos, training=False), probability)
    twin.trainable = True
    assert len(twin.trainable_variables) == len(moved)


@pytest.mark.parametrize("backbone", SAMPLE)
def test_a_sample_of_the_encoders(backbone, tmp_path):
    builds_learns_and_comes_back(backbone, tmp_path / "best.weights.h5")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in SAMPLE])
def test_every_other_encoder(backbone, tmp_path):
    builds_learns_and_comes_back(backbone, tmp_path / "best.weights.h5")


@pytest.fixture(scope="module")
def network():
    tf.keras.utils.set_random_seed(0)
    return build("resnet18", 32)


def test_the_head_is_the_mean_of_the_features_and_a_dense_layer(network):
    photos = batch(32)[0]
    inner = inner_network(network)
    head = inner.get_layer("head")
    features = tf.keras.Model(inner.input, inner.get_layer("pooling").input)
    scaled = network.get_layer("input_scaling")(photos)
    mean = features(scaled, training=False).numpy().mean((1, 2))
    logits = mean @ head.kernel.numpy() + head.bias.numpy()
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(network(photos, training=False).numpy()[:, 0, 0], expected, rtol=1e-4)


def test_it_has_the_input_scaling_and_momentum_of_the_segmentation(network):
    scaling = network.get_layer("input_scaling")
    # resnet18 takes the levels as they are.
    assert isinstance(scaling, InputScaling) and scaling.order == [0, 1, 2]
    np.testing.assert_allclose(scaling.scale, 1)
    layers = inner_network(network).layers
    norms = [layer for layer in layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    assert len(norms) == 19 and {layer.momentum for layer in norms} == {SCRATCH_MOMENTUM}


def test_a_frozen_encoder_stays_as_it_is_normalisation_too():
    frozen = build("resnet18", 32, freeze_encoder=True)
    model = SegmentationModel(frozen, CLASSES, classes=CLASSES, task="classification")
    compile_model(model, learning_rate=0.01, steps=10, warmup_steps=0, loss="bce")
    before = {variable.name: variable.numpy() for variable in frozen.variables}
    model.train_step(batch(32, 4))
    moved = {v.name.split("/")[0] for v in frozen.variables if np.any(v.numpy() != before[v.name])}
    assert moved == {"head"} and len(before) > 90


def test_weights_of_an_encoder_come_from_a_file(tmp_path):
    encoder = sm.inject_global_submodules(sm.Backbones.get_backbone)(
        "vgg16", input_shape=(32, 32, 3), weights=None, include_top=False
    )
    encoder.save_weights(tmp_path / "encoder.h5")
    network = build("vgg16", 32, encoder_weights=str(tmp_path / "encoder.h5"))
    for own, stored in zip(inner_network(network).get_weights(), encoder.get_weights(), strict=False):
        np.testing.assert_array_equal(own, stored)
    with pytest.raises(InputError, match="does not fit the backbone vgg19"):
        build("vgg19", 32, encoder_weights=str(tmp_path / "encoder.h5"))


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_probabilities_are_float32_under_mixed_precision(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        network = build("vgg16", 32)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert inner_network(network).get_layer("head").compute_dtype == policy.removeprefix("mixed_")
    probability = network(batch(32)[0], training=False).numpy()
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(-1), 1, rtol=1e-5)


def test_a_decoders_options_do_not_matter():
    network = build("vgg16", 32, architecture="pspnet", decoder_filters=(1, 2, 3, 4, 5))
    assert network.output_shape == (None, 1, 1, 3)
