"""The copy in the host's memory: the files of the original, the state of its step."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from segbalance.commands.verify_resume import same_weights
from segbalance.legacy_keras import tf
from segbalance.model.host_copy import HostCopy
from segbalance.model.networks import (
    SegmentationModel,
    compile_model,
    load_weights,
    read_variables,
    save_weights,
    training_variables,
    write_variables,
)
from tests.support.places import ROOT

SIZE = 16


def network():
    """Convolutions of which one lies in a model of its own, a normalisation, and a dropout."""
    layers = tf.keras.layers
    inner = tf.keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization()])
    photo = tf.keras.Input((SIZE, SIZE, 3), dtype=tf.uint8)
    x = inner(layers.Rescaling(1 / 255, dtype="float32")(photo))
    logits = layers.Conv2D(1, 1)(layers.Conv2D(4, 1)(layers.Dropout(0.3)(x)))
    return tf.keras.Model(photo, layers.Activation("sigmoid", dtype="float32")(logits))


def model(frozen=0, seed=0):
    """A compiled model around it."""
    tf.keras.utils.set_random_seed(seed)
    made = SegmentationModel(network(), ["a"])
    compile_model(made, learning_rate=0.05, steps=100, warmup_steps=0, freeze_steps=frozen)
    return made


def train(made, steps=3):
    """Some steps on noise."""
    photo = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    data = (photo, (photo[..., :1] > 127).astype(np.uint8), np.zeros(4, np.int32))
    made.fit(tf.data.Dataset.from_tensors(data).repeat(), steps_per_epoch=steps, verbose=0)


@pytest.fixture(params=["float32", "mixed_float16"])
def policy(request):
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def tensors(prefix):
    """{name: array} of a checkpoint, without its description of the objects."""
    reader = tf.train.load_checkpoint(str(prefix))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if "OBJECT_GRAPH" not in name}


def same(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(value, second[name]) and value.dtype == second[name].dtype
        for name, value in first.items()
    )


@pytest.mark.parametrize("frozen", [0, 50])
def test_its_files_are_those_of_the_original_at_that_step(frozen, policy, tmp_path):
    made = model(frozen)
    copy = HostCopy(made, tmp_path)
    assert os.listdir(tmp_path) == []
    train(made)
    copy.update()
    save_weights(made.network, tmp_path / "own.weights.h5")
    write_variables(copy.originals, str(tmp_path / "own"))
    train(made)  # and leaves the copies as they are
    copy.write_weights(tmp_path / "copy.weights.h5")
    copy.write_variables(str(tmp_path / "copy"))
    assert same_weights(tmp_path / "copy.weights.h5", tmp_path / "own.weights.h5")
    found = tensors(tmp_path / "copy")
    assert same(found, tensors(tmp_path / "own")) and len(found) > 20
    write_variables(copy.originals, str(tmp_path / "later"))
    assert not same(found, tensors(tmp_path / "later")), "else nothing was proved"
    assert sorted(os.listdir(tmp_path))[0] == "copy.data-00000-of-00001", "no file is left over"


def test_its_files_are_read_as_those_of_the_original(policy, tmp_path):
    tf.keras.backend.clear_session()
    made = model()
    copy = HostCopy(made, tmp_path)
    train(made)
    copy.update()
    copy.write_weights(tmp_path / "copy.weights.h5")
    copy.write_variables(str(tmp_path / "copy"))
    tf.keras.backend.clear_session()  # a checkpoint knows dropouts by their number
    twin, other = model(seed=1), network()
    read_variables(training_variables(twin), str(tmp_path / "copy"))
    load_weights(other, tmp_path / "copy.weights.h5")
    for own, *values in zip(made.network.variables, twin.network.variables, other.variables, strict=True):
        assert all(np.array_equal(own.numpy(), value.numpy()) for value in values)
    assert int(twin.optimizer.iterations) == 3


def test_making_it_leaves_the_model_as_it_was(tmp_path):
    made = model()
    before = [variable.numpy() for variable in training_variables(made).network.variables]
    HostCopy(made, tmp_path)
    assert all(
        np.array_equal(own.numpy(), old) for own, old in zip(made.network.variables, before, strict=True)
    )


def test_it_knows_whether_a_step_was_made_since(tmp_path):
    made = model()
    copy = HostCopy(made, tmp_path)
    assert not copy.is_of_this_step()
    train(made)
    copy.update()
    assert copy.is_of_this_step()
    train(made, steps=1)
    assert not copy.is_of_this_step()


def print_two_devices(folder):
    """Trains on two CPU devices that stand for GPUs; prints whether the copy's files are the original's."""
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        made = model()
        training_variables(made)
    copy, found = HostCopy(made, folder), []

    def write(*_):
        copy.update()
        copy.write_variables(f"{folder}/copy")
        write_variables(copy.originals, f"{folder}/own")
        copy.write_weights(f"{folder}/copy.weights.h5")
        save_weights(made.network, f"{folder}/own.weights.h5")
        weights = (f"{folder}/{name}.weights.h5" for name in ("copy", "own"))
        found.append([same_weights(*weights), same(tensors(f"{folder}/copy"), tensors(f"{folder}/own"))])

    photo = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    data = (photo, (photo[..., :1] > 127).astype(np.uint8), np.zeros(4, np.int32))
    data = tf.data.Dataset.from_tensor_slices(data).batch(4).repeat()
    callback = tf.keras.callbacks.LambdaCallback(on_epoch_end=write)
    made.fit(data, steps_per_epoch=2, epochs=2, verbose=0, callbacks=[callback])
    print(json.dumps(found))


@pytest.mark.slow
def test_with_two_devices_its_files_are_those_of_the_original(tmp_path):
    code = f"from tests.model import test_host_copy; test_host_copy.print_two_devices({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[True, True]] * 2
