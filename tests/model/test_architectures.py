"""Every architecture with every encoder: the sizes it takes, a training step, saving and loading."""

import numpy as np
import pytest

from segbalance.legacy_keras import tf
from segbalance.model.architectures import (
    ARCHITECTURES,
    SIZE_STEPS,
    WITH_DECODER_FILTERS,
    largest_size,
    size_problem,
)
from segbalance.model.heads import BUILDERS
from segbalance.model.networks import (
    SegmentationModel,
    build_network,
    compile_model,
    load_weights,
    save_weights,
)
from segbalance.train.config import BACKBONES

# Weights of the decoders: U-Net's five stages have two convolutions, each with gamma and beta; LinkNet's have
# three; FPN has five 1x1 convolutions with biases, nine others with gamma and beta; PSPNet five; a head each.
DECODER_WEIGHTS = {
    "unet": 5 * 2 * 3 + 2,
    "linknet": 5 * 3 * 3 + 2,
    "fpn": 5 * 2 + 9 * 3 + 2,
    "pspnet": 5 * 3 + 2,
}
CENTRE_WEIGHTS = 2 * 3  # VGG ends with a pooling; U-Net and LinkNet add two convolutions there
# U-Nets are everywhere, and test_train.py has a PSPNet.
SAMPLE = [("fpn", "resnet18"), ("linknet", "mobilenet")]
EVERY = [(architecture, backbone) for architecture in ARCHITECTURES for backbone in BACKBONES]


def least_size(architecture, backbone):
    return next(size for size in range(16, 200, 16) if size_problem(architecture, backbone, size) is None)


def batch(size):
    """Two photos and masks uint8, and subsets."""
    photo = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    return photo, (photo[..., :1] > 127).astype(np.uint8), np.zeros(2, np.int32)


def decoder_weights(architecture, backbone):
    has_centre = backbone.startswith("vgg") and architecture in ("unet", "linknet")
    return DECODER_WEIGHTS[architecture] + CENTRE_WEIGHTS * has_centre


def builds_learns_and_comes_back(architecture, backbone, path):
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(0)
    size = least_size(architecture, backbone)
    network = build_network(backbone, size, architecture=architecture)
    model = SegmentationModel(network, ["a"])
    compile_model(model, learning_rate=0.001, steps=10, warmup_steps=0)
    before = [weight.numpy() for weight in network.trainable_variables]
    assert np.isfinite(float(model.train_step(batch(size))["loss"]))
    moved = [np.any(a != b) for a, b in zip(before, network.trainable_variables, strict=True)]
    # Stochastic depth leaves out blocks of EfficientNet in a step.
    least = 0.8 if backbone.startswith("efficientnet") else 0.9
    assert np.mean(moved) > least, f"{np.sum(moved)} of {len(moved)} weights learn"
    photo = batch(size)[0]
    probability = network(photo, training=False).numpy()
    assert probability.shape == (2, size, size, 1) and probability.dtype == np.float32
    assert 0 <= probability.min() <= probability.max() <= 1  # and so no NaN
    save_weights(network, path)
    twin = build_network(backbone, size, architecture=architecture, freeze_encoder=True)
    assert len(twin.trainable_variables) == decoder_weights(architecture, backbone)
    load_weights(twin, path)
    np.testing.assert_array_equal(twin(photo, training=False), probability)
    twin.trainable = True
    assert len(twin.trainable_variables) == len(moved)
    for own, other in zip(network.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(("architecture", "backbone"), SAMPLE)
def test_a_sample_of_the_networks(architecture, backbone, tmp_path):
    builds_learns_and_comes_back(architecture, backbone, tmp_path / "best.weights.h5")


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "backbone"), sorted(set(EVERY) - set(SAMPLE)))
def test_every_other_network(architecture, backbone, tmp_path):
    builds_learns_and_comes_back(architecture, backbone, tmp_path / "best.weights.h5")


def test_every_architecture_is_known_everywhere():
    assert set(ARCHITECTURES) == set(SIZE_STEPS) == set(BUILDERS) > set(WITH_DECODER_FILTERS)


@pytest.mark.parametrize(
    ("architecture", "backbone", "size", "message"),
    [
        ("unet", "resnet18", 390, "32, got 390; try 384 or 416"),
        ("fpn", "resnet18", 31, "32, got 31; try 32"),
        ("pspnet", "vgg16", 400, "48 for architecture pspnet, got 400; try 384 or 432"),
        ("pspnet", "vgg16", 32, "48 for architecture pspnet, got 32; try 48"),
        ("linknet", "inceptionv3", 64, "32, at least 96 for backbone inceptionv3, got 64; try 96"),
        ("unet", "inceptionv3", 100, "32, at least 96 for backbone inceptionv3, got 100; try 96 or 128"),
        (
            "pspnet",
            "inceptionv3",
            48,
            "48 for architecture pspnet, at least 96 for backbone inceptionv3, got 48; try 96",
        ),
    ],
)
def test_sizes_that_are_not_taken_name_the_nearest_that_are(architecture, backbone, size, message):
    assert size_problem(architecture, backbone, size) == f"image_size must be a multiple of {message}"


def test_other_sizes_are_taken():
    assert size_problem("pspnet", "vgg16", 144) is None and size_problem("unet", "vgg16", 32) is None
    assert size_problem("unet", "inceptionv3", 96) is None
    assert largest_size("pspnet", "vgg16", 255) == 240 and largest_size("unet", "vgg16", 255) == 224
    assert largest_size("unet", "inceptionv3", 95) == 0 and largest_size("unet", "vgg16", 31) == 0


@pytest.mark.parametrize(("architecture", "size"), [("pspnet", 32), ("unet", 48)])
def test_the_library_refuses_what_the_check_refuses(architecture, size):
    assert size_problem(architecture, "resnet18", size)
    with pytest.raises(ValueError, match="shape"):
        build_network("resnet18", size, architecture=architecture)
