"""The network, its training and validation steps, its optimiser and its files."""

import json
import os
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from segbalance.errors import InputError
from segbalance.files.locks import locked
from segbalance.legacy_keras import sm, tf
from segbalance.model.architectures import BACKBONES
from segbalance.model.loss_terms import LOSSES
from segbalance.model.losses import SegmentationLoss, pixel_weights
from segbalance.model.networks import (
    SCRATCH_MOMENTUM,
    PhotoNetwork,
    SegmentationModel,
    build_network,
    compile_model,
    input_scaling,
    load_weights,
    save_weights,
)
from tests.support.holding import foreign_lock
from tests.support.places import ROOT

SIZE = 64
DECODER = (16, 8, 8, 4, 4)


def photos(count, seed=0, size=SIZE):
    """Photos and masks uint8 that depend on each other, subsets int32 below 3."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    mask = (photo[..., :1] > 127).astype(np.uint8)
    return photo, mask, rng.permuted(np.arange(count, dtype=np.int32) % 3)


def small_network(filters=4):
    """Two convolutions with what a real network has: scaling, normalisation, float32 from the logits on."""
    layers = tf.keras.layers
    photo = tf.keras.Input((SIZE, SIZE, 3), dtype=tf.uint8)
    hidden = layers.Conv2D(filters, 3, padding="same")(input_scaling("resnet18")(photo))
    hidden = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(hidden))
    logits = layers.Activation("linear", dtype="float32")(layers.Conv2D(1, 1)(hidden))
    return tf.keras.Model(photo, layers.Activation("sigmoid", dtype="float32")(logits))


def small_model(learning_rate=0.05, steps=100, **options):
    """A compiled SegmentationModel around `small_network`, the same each time."""
    tf.keras.utils.set_random_seed(0)
    model = SegmentationModel(small_network(), ["a", "b", "c"])
    compile_model(model, learning_rate=learning_rate, steps=steps, warmup_steps=0, **options)
    return model


def encoder_of(network):
    """The segmentation-models network inside."""
    return next(layer for layer in network.layers if isinstance(layer, tf.keras.Model))


def normalisations(network):
    """Its batch normalisation layers."""
    return [
        layer for layer in encoder_of(network).layers if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]


@pytest.fixture(scope="module")
def scratch():
    """A ResNet-18 U-Net from random weights."""
    tf.keras.utils.set_random_seed(1)
    return build_network("resnet18", SIZE, decoder_filters=DECODER)


@pytest.fixture(scope="module")
def encoder():
    """A ResNet-18 encoder without its top and with statistics that tell it from a fresh one."""
    tf.keras.utils.set_random_seed(2)
    keras = {name: getattr(tf.keras, name) for name in ("backend", "layers", "models", "utils")}
    build, _ = sm.Backbones.get("resnet18")
    encoder = build(input_shape=(SIZE, SIZE, 3), weights=None, include_top=False, **keras)
    encoder.get_layer("bn0").moving_mean.assign_add(np.arange(64.0))
    return encoder


@pytest.fixture
def policy():
    """Sets the global precision policy for one test."""
    yield tf.keras.mixed_precision.set_global_policy
    tf.keras.mixed_precision.set_global_policy("float32")


def test_config_knows_every_backbone():
    assert set(BACKBONES) == set(sm.get_available_backbone_names())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_input_scaling_is_the_backbones_own(backbone):
    photo = photos(2, size=9)[0]
    expected = sm.get_preprocessing(backbone)(photo.astype(np.float32))
    scaled = input_scaling(backbone)(photo)
    assert scaled.dtype == tf.float32
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-5)


def test_input_scaling_survives_its_config():
    layer = input_scaling("vgg16")  # swaps the channels
    twin = type(layer).from_config(layer.get_config())
    photo = photos(1)[0]
    np.testing.assert_array_equal(twin(photo), layer(photo))
    assert layer.order == [2, 1, 0]


def test_photos_in_probabilities_out(scratch):
    assert scratch.input.dtype == tf.uint8
    probability = scratch(photos(2)[0]).numpy()
    assert probability.shape == (2, SIZE, SIZE, 1) and probability.dtype == np.float32
    assert 0 <= probability.min() < probability.max() <= 1


def test_the_input_scaling_is_inside(scratch):
    photo = photos(1)[0]
    logits = encoder_of(scratch)(sm.get_preprocessing("resnet18")(photo.astype(np.float32)))
    np.testing.assert_allclose(scratch(photo), tf.sigmoid(logits), atol=1e-5)
    assert np.min(logits) < 0, "they are no logits"


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_ends_before_the_sigmoid(half, policy):
    policy(f"mixed_{half}")
    network = build_network("resnet18", SIZE, decoder_filters=DECODER)
    assert encoder_of(network).output.dtype == half
    sigmoid = network.get_layer("probability")
    assert sigmoid.input.dtype == tf.float32
    assert network.output.dtype == tf.float32
    assert network.get_layer("input_scaling").output.dtype == tf.float32
    probability = network(photos(1)[0]).numpy()
    assert probability.dtype == np.float32 and np.isfinite(probability).all()
    assert not (probability == probability.astype(np.float16)).all(), "the sigmoid ran in half precision"


def test_the_policy_is_float32_again():
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@pytest.fixture
def no_network(monkeypatch, stub, tmp_path):
    """A machine without network and without cached weights; returns its home."""

    def fail(url, *_):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras").mkdir()
    stub("tf_keras.src.utils.data_utils.urlretrieve", fail)
    return tmp_path


def test_weights_that_cannot_be_downloaded_name_the_ways_out(no_network):
    with pytest.raises(InputError) as caught:
        build_network("resnet18", SIZE, encoder_weights="imagenet", decoder_filters=DECODER)
    message = str(caught.value)
    assert "the ImageNet weights of resnet18 could not be downloaded or read: " in message
    assert "Name or service not known" in message
    assert "--encoder_weights none " in message
    assert "--encoder_weights <file.h5> " in message
    folder = no_network / ".keras" / "models"
    assert f"download resnet18_imagenet_1000_no_top.h5 elsewhere and put it into {folder}" in message


def test_whoever_has_lost_a_folder_leaves_its_weights_alone(tmp_path):
    class Network:
        def save_weights(self, path):
            path.write_text("mine")

    path = tmp_path / "best.weights.h5"
    with locked(tmp_path, "training", "--work_dir"):
        save_weights(Network(), path)
        foreign_lock(tmp_path)
        path.write_text("the other's")
        with pytest.raises(InputError, match="is in use: training by process"):
            save_weights(Network(), path)
    assert path.read_text() == "the other's"
    assert sorted(os.listdir(tmp_path)) == [".lock", path.name]


def test_a_weights_file_is_loaded(encoder, tmp_path):
    encoder.save_weights(tmp_path / "encoder.h5")
    path = str(tmp_path / "encoder.h5")
    network = build_network("resnet18", SIZE, encoder_weights=path, decoder_filters=DECODER)
    own = {weight.name: weight.numpy() for weight in encoder_of(network).weights}
    assert len(encoder.weights) > 80
    for weight in encoder.weights:
        np.testing.assert_array_equal(own[weight.name], weight.numpy(), err_msg=weight.name)
    # Such an encoder brings its own statistics: the library's momentum stays.
    assert {layer.momentum for layer in normalisations(network)} == {0.99}


def test_from_scratch_the_statistics_follow_faster(scratch):
    assert {layer.momentum for layer in normalisations(scratch)} == {SCRATCH_MOMENTUM}
    assert len(normalisations(scratch)) > 20


def test_a_file_that_holds_no_weights(tmp_path):
    (tmp_path / "encoder.h5").write_bytes(b"not HDF5")
    with pytest.raises(InputError, match=r"encoder.h5 does not fit the backbone resnet18: .*\(\.h5\)"):
        build_network("resnet18", SIZE, encoder_weights=str(tmp_path / "encoder.h5"))


def test_weights_of_another_encoder(tmp_path):
    small_network().save_weights(tmp_path / "small.h5")
    with pytest.raises(InputError, match="small.h5 does not fit the backbone resnet18: .*layer"):
        build_network("resnet18", SIZE, encoder_weights=str(tmp_path / "small.h5"))


def test_other_failures_are_not_dressed_up():
    with pytest.raises(ValueError, match="No such model `resnet17`"):
        build_network("resnet17", SIZE)


def zero_step(model):
    """One optimiser step with gradients of zero; returns the learning rate it took."""
    weights = model.network.trainable_variables
    model.optimizer.apply_gradients([(tf.zeros_like(weight), weight) for weight in weights])
    return float(model.optimizer.learning_rate)


def rates(model, steps):
    """The learning rates of these steps."""
    for step in steps:
        model.optimizer.build(model.network.trainable_variables)
        model.optimizer.iterations.assign(step)
        yield zero_step(model)


def test_warm_up_then_cosine_to_zero():
    model = SegmentationModel(small_network(), ["a"])
    compile_model(model, learning_rate=0.1, steps=20, warmup_steps=4)
    # Rises by 0.1 / 4 a step; of the 16 left, half the way at step 12; then stays at 0.
    expected = {0: 0, 1: 0.025, 3: 0.075, 4: 0.1, 8: 0.05 * (1 + 0.5**0.5), 12: 0.05, 20: 0, 30: 0}
    assert list(rates(model, expected)) == pytest.approx(list(expected.values()), abs=1e-7)


@pytest.mark.parametrize("warmup_steps, expected", [(0, [0.1, 0.05, 0]), (1, [0, 0.1, 0])])
def test_short_runs_have_a_schedule_too(warmup_steps, expected):
    model = SegmentationModel(small_network(), ["a"])
    compile_model(model, learning_rate=0.1, steps=2, warmup_steps=warmup_steps)
    assert list(rates(model, [0, 1, 2])) == pytest.approx(expected, abs=1e-7)


def test_only_kernels_decay(scratch):
    before = scratch.get_weights()
    model = SegmentationModel(scratch, ["a"])
    compile_model(model, learning_rate=0.5, steps=100, warmup_steps=0, weight_decay=0.2)
    for weight in scratch.trainable_variables:
        if weight.shape.rank == 1:
            weight.assign_add(tf.ones_like(weight))  # zeros would hide the decay
    old = [weight.numpy() for weight in scratch.trainable_variables]
    zero_step(model)
    ranks = [weight.shape.rank for weight in scratch.trainable_variables]
    assert set(ranks) == {1, 4}
    for weight, value in zip(scratch.trainable_variables, old, strict=True):
        # Decoupled from the gradient: w - 0.5 * 0.2 * w.
        kept = 1.0 if weight.shape.rank == 1 else 0.9
        np.testing.assert_allclose(weight, kept * value, rtol=1e-5, err_msg=weight.name)
    scratch.set_weights(before)


def test_training_lowers_the_loss():
    model = small_model()
    data = tf.data.Dataset.from_tensor_slices(photos(8)).batch(4)
    logs = model.fit(data.repeat(), steps_per_epoch=8, epochs=3, verbose=0)
    losses = logs.history["loss"]
    assert list(logs.history) == ["loss"]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.7 * losses[0]


@pytest.mark.parametrize("loss_weights", [None, "pixel", [0.5, 1.0, 4.0]], ids=["none", "pixel", "subset"])
def test_a_training_step_weighs_each_image_by_its_own_subset(loss_weights):
    tf.keras.utils.set_random_seed(0)
    model = SegmentationModel(small_network(), ["a", "b", "c"], loss_weights)
    compile_model(model, learning_rate=1e-9, steps=100, warmup_steps=0)
    photo, mask, subset = (tf.constant(part) for part in photos(4))
    mask = mask * tf.constant([1, 0, 1, 1], tf.uint8)[:, None, None, None]  # images that count differently
    if isinstance(loss_weights, list):
        weight = np.array(loss_weights, np.float32)[subset]
    else:
        weight = loss_weights and pixel_weights(mask)
    expected = float(SegmentationLoss()(mask, model.network(photo, training=True), weight))
    assert float(model.train_step((photo, mask, subset))["loss"]) == pytest.approx(expected, rel=1e-5)
    # Validation is unweighted.
    plain = float(SegmentationLoss()(mask, model.network(photo, training=False)))
    model.reset_metrics()
    assert float(model.test_step((photo, mask, subset))["loss"]) == pytest.approx(plain, rel=1e-5)


def gradients_of_one_step(model, stub):
    """What `train_step` hands to the optimiser, flattened."""
    seen = []
    stub(model.optimizer, "apply_gradients", seen.extend)
    logs = model.train_step(photos(4))
    expected = SegmentationLoss()(photos(4)[1], model.network(photos(4)[0], training=True))
    assert float(logs["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert len(seen) == len(model.network.trainable_variables)
    return np.concatenate([tf.reshape(gradient, [-1]).numpy() for gradient, _ in seen])


def test_float16_gradients_are_scaled_and_scaled_back(policy, stub):
    full = gradients_of_one_step(small_model(), stub)
    policy("mixed_float16")
    model = small_model()
    assert isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    stub(model.optimizer, "get_scaled_loss", spy := Spy(model.optimizer.get_scaled_loss))
    half = gradients_of_one_step(model, stub)
    assert spy.calls == 1
    assert np.linalg.norm(half - full) < 0.02 * np.linalg.norm(full)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_in_half_precision(loss, policy):
    policy("mixed_float16")
    model = small_model(loss=loss)
    before = flat_weights(model)
    steps = [float(model.train_step(photos(4))["loss"]) for _ in range(3)]
    assert np.isfinite(steps).all() and np.isfinite(flat_weights(model)).all()
    assert not np.array_equal(flat_weights(model), before)
    assert steps[-1] < steps[0], "the mean of the steps so far falls"


class Spy:
    """Counts the calls of a function."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)


def reference_scores(mask, probability):
    """IoU and F1 of all pixels by NumPy."""
    true, found = mask == 1, probability > 0.5
    shared, wrong = (true & found).sum(), (true ^ found).sum()
    return shared / (shared + wrong), 2 * shared / (2 * shared + wrong)


def test_validation_scores_equal_numpy():
    model = small_model()
    photo, mask, subset = photos(10)
    probability = model.network.predict(photo, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((photo, mask, subset)).batch(4)  # 4 + 4 + 2 images
    for _ in range(2):  # a second pass must start from zero
        logs = model.evaluate(data, verbose=0, return_dict=True)
    found = (probability > 0.5) & (mask == 1)
    assert np.sum(model.counts.result()[:, 0]) == found.sum()
    whole = reference_scores(mask, probability)
    expected = {"iou": whole[0], "f1": whole[1]}
    for number, name in enumerate("abc"):
        own = reference_scores(mask[subset == number], probability[subset == number])
        expected |= {f"iou_{name}": own[0], f"f1_{name}": own[1]}
    expected["precision"] = found.sum() / (probability > 0.5).sum()
    expected["recall"] = found.sum() / mask.sum()
    parts = [slice(0, 4), slice(4, 8), slice(8, 10)]
    losses = [float(SegmentationLoss()(mask[part], probability[part])) for part in parts]
    assert logs.pop("loss") == pytest.approx(np.average(losses, weights=[4, 4, 2]), rel=1e-5)
    assert logs == pytest.approx(expected, abs=1e-6)
    assert len({round(expected[f"iou_{name}"], 6) for name in "abc"}) == 3, "the subsets score alike"


def test_calling_the_model_calls_the_network(scratch):
    photo = photos(1)[0]
    np.testing.assert_array_equal(SegmentationModel(scratch, ["a"])(photo), scratch(photo))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("way", ["call", "predict", "fit", "evaluate", "loader", "around"])
def test_floats_are_refused_however_they_come(way, dtype):
    """Photos of 0..1 would be cut to 0, without a word, by Keras."""
    photo, mask, _ = photos(2)
    floats = (photo / 255).astype(dtype)
    layers = small_network()
    network = PhotoNetwork(layers.input, layers.output)
    network.compile("sgd", "binary_crossentropy")
    ways = {
        "call": lambda: network(floats),
        "predict": lambda: network.predict(floats, verbose=0),
        "fit": lambda: network.fit(floats, mask, verbose=0),
        "evaluate": lambda: network.evaluate(floats, mask, verbose=0),
        "loader": lambda: network.fit(tf.data.Dataset.from_tensors((floats, mask)), verbose=0),
        "around": lambda: SegmentationModel(network, ["a"])(floats),
    }
    with pytest.raises(InputError, match=r"takes photos as whole numbers from 0 to 255 \(uint8\), got float"):
        ways[way]()


def test_whole_numbers_are_taken_of_any_type(scratch):
    photo = photos(2)[0]
    np.testing.assert_array_equal(scratch(photo.astype(np.int32)), scratch(photo))
    symbolic = tf.keras.Input((SIZE, SIZE, 3), dtype=tf.uint8)
    np.testing.assert_array_equal(tf.keras.Model(symbolic, scratch(symbolic))(photo), scratch(photo))


def test_floats_are_refused_by_what_is_built(scratch):
    with pytest.raises(InputError, match="got float32"):
        scratch(photos(1)[0] / np.float32(255))


def test_under_mixed_precision_floats_are_refused_too():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        network = build_network("resnet18", SIZE, decoder_filters=DECODER)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    with pytest.raises(InputError, match="got float32"):
        network(photos(1)[0] / np.float32(255))


def test_weights_are_those_of_a_plain_functional_model(scratch, tmp_path):
    """Files of runs from before floats were refused fit, and the other way round."""
    plain, path, photo = (
        tf.keras.Model(scratch.input, scratch.output),
        tmp_path / "w.weights.h5",
        photos(1)[0],
    )
    expected, values = scratch(photo).numpy(), plain.get_weights()
    save_weights(plain, path)
    scratch.set_weights([0 * value for value in values])
    load_weights(scratch, path)
    np.testing.assert_array_equal(scratch(photo), expected)
    tf.train.Checkpoint(network=plain).write(str(tmp_path / "c"))
    tf.train.Checkpoint(network=scratch).read(str(tmp_path / "c")).assert_consumed()


def test_weights_come_back_the_same(scratch, tmp_path):
    photo = photos(2)[0]
    path = tmp_path / "best.weights.h5"
    save_weights(scratch, path)
    assert os.listdir(tmp_path) == ["best.weights.h5"]
    tf.keras.utils.set_random_seed(5)
    twin = build_network("resnet18", SIZE, decoder_filters=DECODER)
    assert np.abs(twin(photo) - scratch(photo)).max() > 1e-3, "the twin starts out the same"
    load_weights(twin, path)
    np.testing.assert_array_equal(twin(photo), scratch(photo))


def test_a_failed_save_leaves_the_earlier_file(stub, tmp_path):
    path = tmp_path / "best.weights.h5"
    network = small_network()
    save_weights(network, path)
    before = path.read_bytes()

    def fill_the_disk(self, path, *_, **__):
        Path(path).write_bytes(b"half a file")
        raise OSError("No space left on device")

    stub(tf.keras.Model, "save_weights", fill_the_disk)
    with pytest.raises(InputError, match="best.weights.h5 cannot be written: No space left.*has room left"):
        save_weights(network, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["best.weights.h5"]


def test_weights_that_are_missing(tmp_path):
    with pytest.raises(InputError, match="last.weights.h5 does not exist; expected the weights of a finish"):
        load_weights(small_network(), tmp_path / "last.weights.h5")


@pytest.mark.parametrize("keep", [0, 100, 0.9], ids=["empty", "head", "most"])
@pytest.mark.parametrize("name", ["best.weights.h5", "best.h5", "best.ckpt"])
def test_weights_that_are_damaged(tmp_path, name, keep):
    save_weights(small_network(), tmp_path / "whole.weights.h5")
    whole = (tmp_path / "whole.weights.h5").read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(InputError, match=f"{name} does not hold the weights of this network: "):
        load_weights(small_network(), path)


def test_weights_that_are_damaged_in_the_middle(tmp_path):
    network, path = small_network(), tmp_path / "best.weights.h5"
    save_weights(network, path)
    whole, refused = path.read_bytes(), 0
    for start in range(0, len(whole) - 400, 400):
        path.write_bytes(whole[:start] + bytes(range(200)) * 2 + whole[start + 400 :])
        try:
            load_weights(network, path)  # the numbers themselves carry no check sum
        except InputError as error:
            assert "best.weights.h5 does not hold the weights of this network: " in str(error)
            refused += 1
    assert refused > 20


def test_weights_of_another_network(scratch, tmp_path):
    path = tmp_path / "best.weights.h5"
    for other in (scratch, small_network(filters=8)):
        save_weights(other, path)
        with pytest.raises(InputError, match="best.weights.h5 does not hold the weights of this network: "):
            load_weights(small_network(), path)


def flat_weights(model):
    """All trainable weights as one vector."""
    return np.concatenate([weight.numpy().ravel() for weight in model.network.trainable_variables])


def print_one_and_two_devices():
    """Validates and trains the same model on one CPU device and on two; prints JSON."""
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    # 9 images in batches of 4: the last one leaves the second device without any.
    data = tf.data.Dataset.from_tensor_slices(photos(9)).batch(4)
    results = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
        with strategy.scope():
            model = small_model()
            # AdamW does not notice gradients twice too large.
            model.compile(optimizer=tf.keras.optimizers.SGD(0.2), loss=SegmentationLoss())
        logs = model.evaluate(data, verbose=0, return_dict=True)
        counts = model.counts.result().numpy().tolist()
        start = flat_weights(model)
        run = model.fit(data.take(2).repeat(), steps_per_epoch=6, epochs=2, verbose=0)
        way = (flat_weights(model) - start).tolist()
        results.append({"logs": logs, "counts": counts, "losses": run.history["loss"], "way": way})
    print(json.dumps(results))


@pytest.mark.slow
def test_two_devices_validate_as_one_and_train():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.model import test_networks; test_networks.print_one_and_two_devices()",
        ],
        # The devices stand for GPUs; oneDNN's convolution on some processors takes no batch without images.
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout.splitlines()[-1])
    assert one["counts"] == two["counts"]
    assert np.sum(one["counts"]) > 0
    # The loss is each device's own Dice, so it differs; it must be a number even from no images.
    assert np.isfinite(two["logs"].pop("loss")) and one["logs"].pop("loss") > 0
    assert two["logs"] == pytest.approx(one["logs"], abs=1e-9)
    assert two["losses"][1] < 0.95 * two["losses"][0]
    assert two["losses"] == pytest.approx(one["losses"], rel=0.01)
    assert np.linalg.norm(np.subtract(two["way"], one["way"])) < 0.05 * np.linalg.norm(one["way"])
