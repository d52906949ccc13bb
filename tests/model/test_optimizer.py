"""AdamW by the fused kernel: what Keras' own would do, and checkpoints that either reads."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from segbalance.legacy_keras import tf
from segbalance.model.optimizer import NOT_DECAYED, FusedAdamW, LateAdamW, adamw
from tests.support.places import ROOT

SHAPES = {"kernel": (3, 5), "gamma": (5,), "bias": (5,), "encoder/kernel": (7, 2)}
STEPS, FREEZE = 20, 8
OPTIONS = {"learning_rate": 0.05, "steps": STEPS, "warmup_steps": 4, "weight_decay": 0.1}


def variables():
    """One of each kind, float32."""
    rng = np.random.default_rng(0)
    return [
        tf.Variable(rng.normal(size=shape), name=name, dtype=tf.float32) for name, shape in SHAPES.items()
    ]


def gradients(steps=STEPS):
    """A gradient for each variable and step."""
    rng = np.random.default_rng(1)
    return [
        [tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES.values()] for _ in range(steps)
    ]


def learn(optimizer, weights, steps, frozen=0):
    """Steps of the optimiser as a traced function; the last variable waits for the first `frozen` of them."""
    optimizer.build(weights)

    @tf.function
    def step(values, moved):
        optimizer.apply_gradients(zip(values[:moved], weights[:moved], strict=True))

    for number, values in enumerate(steps):
        step(values, len(weights) - (number < frozen))
    return [weight.numpy() for weight in weights]


def numpy_adamw(steps, rates, decay, frozen):
    """Loshchilov and Hutter 2019, algorithm 2, in float64; each variable counts its own steps."""
    found = []
    for index, weight in enumerate(variables()):
        x, m, v, count = weight.numpy().astype(np.float64), 0.0, 0.0, 0
        for number, values in enumerate(steps):
            if index == len(SHAPES) - 1 and number < frozen:
                continue
            gradient, count = values[index].numpy().astype(np.float64), count + 1
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            x -= rates[number] * decay * x * ("kernel" in weight.name)
            x -= (
                rates[number]
                * (m / (1 - 0.9**count))
                / (np.sqrt(v / (1 - 0.999**count)) + 1e-7 / np.sqrt(1 - 0.999**count))
            )
        found.append(x)
    return found


@pytest.mark.parametrize("frozen", [0, FREEZE])
def test_it_is_the_papers_with_warm_up_decay_and_freezing(frozen):
    optimizer = adamw(**OPTIONS, freeze_steps=frozen)
    assert type(optimizer) is (LateAdamW if frozen else FusedAdamW)
    rates = [float(optimizer._learning_rate(step)) for step in range(STEPS)]
    expected = numpy_adamw(gradients(), rates, OPTIONS["weight_decay"], frozen)
    for own, wanted in zip(learn(optimizer, variables(), gradients(), frozen), expected, strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-6, atol=1e-6)


def keras_adamw():
    """What `adamw` gave up to version 1.0, with the options of these tests."""
    own = adamw(**OPTIONS)
    optimizer = tf.keras.optimizers.AdamW(own._learning_rate, weight_decay=own.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def checkpoint_of(optimizer, weights):
    optimizer.build(weights)
    return tf.train.Checkpoint(optimizer=optimizer, weights=weights)


def test_it_goes_on_from_a_checkpoint_of_keras_own_and_keras_from_its(tmp_path):
    makers = {"keras": keras_adamw, "own": lambda: adamw(**OPTIONS)}
    ends = []
    for first, second in (("keras", "keras"), ("keras", "own"), ("own", "keras")):
        optimizer, weights = makers[first](), variables()
        learn(optimizer, weights, gradients()[:6])
        checkpoint_of(optimizer, weights).write(tmp_path / first)
        optimizer, weights = makers[second](), variables()
        read = checkpoint_of(optimizer, weights).read(tmp_path / first)
        read.assert_existing_objects_matched().expect_partial()
        ends.append(learn(optimizer, weights, gradients()[6:]))
        assert int(optimizer.iterations) == STEPS
    names = [
        {name for name, _ in tf.train.list_variables(str(tmp_path / first)) if "OBJECT" not in name}
        for first in makers
    ]
    assert names[0] == names[1] and len(names[0]) >= 3 * len(SHAPES), "weights and two moments of each"
    for end in ends[1:]:
        for own, wanted in zip(end, ends[0], strict=True):
            np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frozen", [0, FREEZE])
def test_a_resumed_optimizer_is_the_unbroken_one_to_the_last_bit(frozen, tmp_path):
    unbroken = learn(adamw(**OPTIONS, freeze_steps=frozen), variables(), gradients(), frozen)
    optimizer, weights = adamw(**OPTIONS, freeze_steps=frozen), variables()
    learn(optimizer, weights, gradients()[:12], frozen)
    checkpoint_of(optimizer, weights).write(tmp_path / "state")
    optimizer, weights = adamw(**OPTIONS, freeze_steps=frozen), variables()
    checkpoint_of(optimizer, weights).read(tmp_path / "state")
    resumed = learn(optimizer, weights, gradients()[12:])
    assert all(np.array_equal(own, wanted) for own, wanted in zip(resumed, unbroken, strict=True))


@pytest.mark.parametrize("frozen", [0, FREEZE])
def test_a_step_whose_gradients_overflow_moves_nothing(frozen):
    optimizer, weights = adamw(**OPTIONS, freeze_steps=frozen), variables()
    scaled = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    learn(scaled, weights, gradients()[:6])
    state = [*weights, *optimizer._momentums, *optimizer._velocities, *(optimizer._counts if frozen else [])]
    before = [variable.numpy() for variable in state]
    learn(scaled, weights, [[value * np.inf for value in gradients()[6]]])
    assert all(np.array_equal(variable.numpy(), old) for variable, old in zip(state, before, strict=True))
    learn(scaled, weights, [gradients()[6]])
    assert not any(np.array_equal(variable.numpy(), old) for variable, old in zip(state, before, strict=True))


def print_two_devices():
    """Learns on one CPU device and on two, with the gradients of both summed; prints the weights as JSON."""
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    found = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
        for frozen in (0, FREEZE):
            with strategy.scope():
                weights, optimizer = variables(), adamw(**OPTIONS, freeze_steps=frozen)
                optimizer.build(weights)

            def step(values, optimizer=optimizer, weights=weights, parts=strategy.num_replicas_in_sync):
                share = [value / parts for value in values]
                optimizer.apply_gradients(zip(share, weights, strict=True))

            run = tf.function(lambda values, step=step, strategy=strategy: strategy.run(step, (values,)))
            for values in gradients():
                run(values)
            copies = [strategy.experimental_local_results(weight) for weight in weights]
            found.append([[copy.numpy().tolist() for copy in own] for own in copies])
    print(json.dumps(found))


def test_two_devices_learn_as_one():
    code = "from tests.model import test_optimizer; test_optimizer.print_two_devices()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    one, late, two, late_two = json.loads(done.stdout.splitlines()[-1])
    for single, mirrored in zip([*one, *late], [*two, *late_two], strict=True):
        assert len(mirrored) == 2
        for copy in mirrored:
            np.testing.assert_allclose(copy, single[0], rtol=1e-6)
