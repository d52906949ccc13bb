"""The share of time that the model waits for data, against loaders and models of known speed."""

import gc
import re
import time

import numpy as np
import pytest

from segbalance.dataloader.batches import fixed_settings, timed_waiting
from segbalance.legacy_keras import tf
from segbalance.train import callbacks
from segbalance.train.callbacks import MUCH_WAITING, RELEASE_STEPS, MemoryRelease, WaitingShare


def batches_every(seconds):
    """Endless batches (4, 8), one in so many seconds, two of them made ahead."""

    def make(number):
        time.sleep(seconds)
        return np.full((4, 8), number, np.float32)

    def batch(number):
        pixels = tf.numpy_function(make, [number], tf.float32)
        pixels.set_shape((4, 8))
        return pixels, pixels

    return tf.data.Dataset.counter().map(batch).prefetch(2).with_options(fixed_settings())


class SlowModel(tf.keras.Sequential):
    """Takes so many seconds a step, inside the graph as a real one does."""

    def __init__(self, seconds):
        super().__init__([tf.keras.layers.Dense(8)])
        self.seconds = seconds
        self.compile("sgd", "mse")

    def train_step(self, data):
        """Waits, then trains."""

        def work(_):
            time.sleep(self.seconds)
            return np.float32(0)

        with tf.control_dependencies([tf.numpy_function(work, [data[0]], tf.float32)]):
            return super().train_step(data)


class Recorder(WaitingShare):
    """Keeps the shares and the seconds of the steps."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.last = self.share(), self.stopped - self.started


@pytest.mark.parametrize(("loader", "model"), [(0.1, 0.02), (0.02, 0.1), (0.08, 0.0)])
def test_the_share_is_what_the_model_really_waits(loader, model, capsys):
    dataset, waited = timed_waiting(batches_every(loader))
    recorder = Recorder(waited)
    # The second epoch has nothing to trace.
    SlowModel(model).fit(dataset, epochs=2, steps_per_epoch=10, verbose=0, callbacks=[recorder])
    share, seconds = recorder.last
    gc.collect()
    if model > loader:
        assert 0 <= share < 0.1
    else:
        # Waiting is what a step's time is longer than the model's own; that of Keras is some milliseconds.
        assert 1 - (model + 0.03) * 10 / seconds < share < 1 - model * 10 / seconds
        assert share > 0.4
    printed = capsys.readouterr().out
    assert printed.count("waited for data: ") == (model <= loader), "said once, where it is much"
    told = re.search(r"^epoch ([12]) waited for data: ([0-9.]+)% of its training steps' time$", printed, re.M)
    assert model > loader or (told and 100 * MUCH_WAITING <= float(told[2]) <= 100)


def test_the_validation_does_not_count(capsys):
    dataset, waited = timed_waiting(batches_every(0.02))
    recorder = Recorder(waited)
    validation = batches_every(0.2).take(3)
    started = time.perf_counter()
    SlowModel(0.0).fit(
        dataset, epochs=1, steps_per_epoch=5, verbose=0, callbacks=[recorder], validation_data=validation
    )
    assert recorder.last[1] < time.perf_counter() - started - 0.6
    gc.collect()


def test_the_elements_stay_as_they_were():
    numbers = tf.data.Dataset.range(6).map(lambda number: (number, -number, tf.cast(number, tf.float32) / 2))
    timed, _ = timed_waiting(numbers)
    assert list(timed.as_numpy_iterator()) == list(numbers.as_numpy_iterator())
    assert timed.element_spec == numbers.element_spec


def test_freed_memory_is_released_by_the_steps_of_all_epochs(stub):
    released = []
    stub(callbacks, "release_freed_memory", lambda: released.append(step))
    release = MemoryRelease()
    for step in range(1, 2 * RELEASE_STEPS + 2):
        release.on_train_batch_end((step - 1) % 70)  # epochs far shorter than that
    assert released == [RELEASE_STEPS, 2 * RELEASE_STEPS]
