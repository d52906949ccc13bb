"""A frozen encoder stays as it is, then learns as if it had just begun."""

import numpy as np
import pytest

from segbalance.legacy_keras import tf
from segbalance.model.freezing import EncoderFreezing
from segbalance.model.networks import (
    SegmentationModel,
    compile_model,
    load_weights,
    save_weights,
    training_variables,
)
from segbalance.model.optimizer import LateAdamW

SIZE, STEPS = 16, 2


def frozen_network():
    """An encoder of a convolution and its normalisation, frozen, and a decoder of a convolution."""
    layers = tf.keras.layers
    photo = tf.keras.Input((SIZE, SIZE, 3), dtype=tf.uint8)
    x = layers.Rescaling(1 / 255, dtype="float32")(photo)
    convolution = layers.Conv2D(4, 3, padding="same", use_bias=False, name="encoder")
    for layer in (convolution, layers.BatchNormalization(name="norm")):
        x = layer(x)
        layer.trainable = False
    logits = layers.Activation("linear", dtype="float32")(layers.Conv2D(1, 1, name="decoder")(x))
    return tf.keras.Model(photo, layers.Activation("sigmoid", dtype="float32")(logits))


def frozen_model(**options):
    """A compiled model around it, with the variables that a run makes at its beginning."""
    tf.keras.utils.set_random_seed(0)
    model = SegmentationModel(frozen_network(), ["a"])
    options = {"learning_rate": 0.01, "steps": 100, "warmup_steps": 0, "freeze_steps": 2 * STEPS} | options
    compile_model(model, **options)
    return model, training_variables(model)


def training_data():
    photo = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    mask = (photo[..., :1] > 127).astype(np.uint8)
    return tf.data.Dataset.from_tensor_slices((photo, mask, np.zeros(4, np.int32))).batch(2).repeat()


def weights_after_each_epoch(model, freeze_epochs, epochs=3):
    """{layer: its weights} before the training and after each epoch."""
    network, seen = model.network, []

    def look(*_):
        seen.append({name: network.get_layer(name).get_weights() for name in ("encoder", "norm", "decoder")})

    watch = tf.keras.callbacks.LambdaCallback(on_train_begin=look, on_epoch_end=look)
    freezing = EncoderFreezing(network, freeze_epochs)
    model.fit(training_data(), epochs=epochs, steps_per_epoch=STEPS, verbose=0, callbacks=[freezing, watch])
    return seen


def same(before, after):
    return [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_encoder_waits_for_its_epoch(policy, capsys):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model, _ = frozen_model()
        start, *frozen, thawed = weights_after_each_epoch(model, freeze_epochs=2)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    for before, after in zip([start, frozen[0]], frozen, strict=True):
        assert all(same(before["encoder"], after["encoder"]) + same(before["norm"], after["norm"]))
        assert not any(same(before["decoder"], after["decoder"]))
    for name in thawed:  # the moving averages too
        assert not any(same(frozen[-1][name], thawed[name])), name
    assert capsys.readouterr().out.count("epoch 3: the encoder learns too") == 1


def test_a_run_that_is_resumed_later_learns_with_all_layers_at_once():
    model, _ = frozen_model()
    model.first_epoch = 2
    start, thawed = weights_after_each_epoch(model, freeze_epochs=2)
    for name in thawed:
        assert not any(same(start[name], thawed[name])), name


@pytest.mark.parametrize(("rate", "factor"), [(None, 0.1), (0.05, 0.5)])
def test_the_learning_rate_is_lowered_when_the_encoder_learns_too(rate, factor):
    model, _ = frozen_model(learning_rate=0.1, steps=20, warmup_steps=4, freeze_steps=8,
                            unfreeze_learning_rate=rate)  # fmt: skip
    schedule = model.optimizer._learning_rate
    # Rises by 0.1 / 4 a step; of the 16 left, a quarter of the way at step 8 and half of it at step 12.
    expected = {1: 0.025, 4: 0.1, 8: 0.05 * (1 + 0.5**0.5) * factor, 12: 0.05 * factor, 20: 0}
    assert [float(schedule(step)) for step in expected] == pytest.approx(list(expected.values()), abs=1e-7)
    assert float(schedule(7)) > float(schedule(8)) / factor


def moved(optimizer, variables, gradients):
    """What each of these steps did to each variable: list of list of float32 arrays."""
    steps = []
    for values in gradients:
        before = [variable.numpy() for variable in variables]
        optimizer.apply_gradients(zip(values, variables, strict=True))
        steps.append([own.numpy() - old for own, old in zip(variables, before, strict=True)])
    return steps


def test_where_all_learn_from_the_start_it_is_keras_own():
    rng = np.random.default_rng(0)
    gradients = [[tf.constant(rng.normal(size=(3, 2)), tf.float32)] for _ in range(5)]
    ways = []
    for optimizer in (LateAdamW(0.1, weight_decay=0.3), tf.keras.optimizers.AdamW(0.1, weight_decay=0.3)):
        ways.append(moved(optimizer, [tf.Variable(tf.ones((3, 2)))], gradients))
    np.testing.assert_allclose(*ways, rtol=1e-5, atol=1e-6)


def test_a_variable_that_comes_late_steps_like_one_that_comes_first():
    early, late = tf.Variable(tf.ones((3, 2))), tf.Variable(tf.ones((3, 2)))
    optimizer = LateAdamW(0.1, weight_decay=0.0)
    optimizer.build([early, late])
    rng = np.random.default_rng(0)
    gradients = [tf.constant(rng.normal(size=(3, 2)), tf.float32) for _ in range(3)]
    first = [way[0] for way in moved(optimizer, [early], [[value] for value in gradients])]
    second = [way[1] for way in moved(optimizer, [early, late], [[value, value] for value in gradients])]
    np.testing.assert_allclose(first, second, rtol=1e-5)
    # Adam's first step is the learning rate against the gradient's sign (Kingma and Ba 2015, section 2.1).
    np.testing.assert_allclose(second[0], -0.1 * np.sign(gradients[0]), rtol=1e-4)


def test_weights_saved_while_frozen_come_back_thawed(tmp_path):
    network = frozen_network()
    save_weights(network, tmp_path / "best.weights.h5")
    twin = frozen_network()
    twin.trainable = True
    load_weights(twin, tmp_path / "best.weights.h5")
    for name in ("encoder", "norm", "decoder"):
        assert all(same(network.get_layer(name).get_weights(), twin.get_layer(name).get_weights()))
