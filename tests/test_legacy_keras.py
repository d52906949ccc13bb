"""TensorFlow must come with the Keras that segmentation-models was written for."""

import os
import subprocess
import sys

import pytest

from segbalance.legacy_keras import sm, tf
from tests.support.places import ROOT


def test_tf_keras_is_keras_2():
    assert tf.keras.Model.__module__.startswith("tf_keras.")
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"


def test_segmentation_models_builds_on_the_same_keras():
    assert sm.framework() == "tf.keras"
    network = sm.Unet("vgg16", input_shape=(32, 32, 3), encoder_weights=None, decoder_filters=[1] * 5)
    assert isinstance(network, tf.keras.Model)


@pytest.mark.slow
def test_keras_3_already_in_use_is_an_error():
    program = "import tensorflow as tf; tf.keras.Model; from segbalance import legacy_keras"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TF_USE_LEGACY_KERAS": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "ImportError: tf.keras is keras." in done.stderr
    assert "expected tf_keras (Keras 2)" in done.stderr
    assert "Import segbalance.legacy_keras first, or set that variable" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("before", ["import tensorflow", "import segbalance; segbalance.balance_dataset"])
def test_tensorflow_may_be_imported_before_it_is_used(before):
    program = (
        f"{before}\n"
        "from segbalance.model.networks import build_network, tf\n"
        "network = build_network('efficientnetb0', 32)\n"
        "assert isinstance(network, tf.keras.Model) and tf.keras.Model.__module__.startswith('tf_keras')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
