"""Whoever leaves in the midst of reading leaves nothing behind: no process, no traceback, no waiting."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.data import TINY
from tests.support.places import ROOT

LONG = "--epochs 1000 --steps_per_epoch 500".split()
AT_MOST = 180  # seconds; whatever hangs is killed then

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def running(leader):
    """The processes that go back to `leader`, itself included, and have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            state, _, _, own_leader = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if own_leader == str(leader) and state != "Z":
            found.append(int(folder.name))
    return found


def left_over(leader, seconds=10):
    deadline = time.monotonic() + seconds
    while running(leader) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running(leader)


@pytest.fixture
def start():
    """Starts Python apart, so that whatever it starts can be told; ends it after a while."""
    processes, guards = [], []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        processes.append(process)
        guards.append(threading.Timer(AT_MOST, kill_all, [process.pid]))
        guards[-1].start()
        return process

    yield start
    for process, guard in zip(processes, guards, strict=True):
        guard.cancel()
        kill_all(process.pid)
        process.communicate()


def kill_all(leader):
    for pid in running(leader):
        os.kill(pid, signal.SIGKILL)


TRAINS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
sys.path[:0] = [{root!r}]
from segbalance.model import networks as model
from segbalance.commands import train
from segbalance.legacy_keras import tf

def one_convolution(backbone, image_size, **options):  # built and traced at once
    photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8)
    scaled = tf.keras.layers.Rescaling(1 / 255, dtype="float32")(photo)
    return tf.keras.Model(photo, tf.keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(scaled))

model.build_network = one_convolution
sys.exit(train.main())
"""


@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_ctrl_c_in_the_midst_of_an_epoch_ends_the_training(num_workers, start, tables, tmp_path):
    options = [*TINY, *LONG, "--csv_dir", tables, "--work_dir", tmp_path / "run"]
    process = start("-c", TRAINS.format(root=str(ROOT)), *options, "--num_workers", num_workers)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    time.sleep(0.2)  # an epoch takes longer
    # The command, the processes that read, and the one with which multiprocessing watches over them.
    assert len(running(process.pid)) == 1 + (num_workers and num_workers + 1)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the command and its processes
    interrupted = time.monotonic()
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - interrupted < 30
    assert process.returncode == 130
    assert errors.endswith("\ninterrupted\n") and "Traceback" not in errors and "Exception" not in errors
    assert (
        f"stopped; go on with: python train.py --resume {tmp_path / 'run'}" in output
        and "epoch 2/" not in output
    )
    assert left_over(process.pid) == []
    assert (tmp_path / "run/history.csv").read_text().count("\n") == 2, "the head and one epoch"


LONG_STEP = """
import time

def keep(batch):
    print("the step has begun", flush=True)
    time.sleep(600)  # without Python's lock, as TensorFlow while it compiles
    return batch

def with_long_step(backbone, image_size, **options):
    photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8)
    slow = lambda batch: tf.ensure_shape(tf.numpy_function(keep, [batch], tf.uint8), batch.shape)
    scaled = tf.keras.layers.Rescaling(1 / 255, dtype="float32")(tf.keras.layers.Lambda(slow)(photo))
    return tf.keras.Model(photo, tf.keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(scaled))

model.build_network = with_long_step
sys.exit(train.main())
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_before_the_first_step_is_done_ends_the_training_at_once(
    number, status, start, tables, tmp_path
):
    folder = tmp_path / "run"
    script = TRAINS.format(root=str(ROOT)).replace("sys.exit(train.main())", LONG_STEP)
    options = [*TINY, "--csv_dir", tables, "--work_dir", folder, "--num_workers", 2]
    process = start("-c", script, *options)
    for line in process.stdout:
        if line == "the step has begun\n":
            break
    # As clusters and terminals do: to the command and its processes.
    os.killpg(process.pid, number)
    sent = time.monotonic()
    assert process.wait(60) == status
    assert time.monotonic() - sent < 5
    output, errors = process.communicate(timeout=60)  # waits for processes that are still starting
    go_on = f"python train.py --resume {folder}"
    assert output == f"\nstopped before the first step, nothing to save; go on with: {go_on}\n"
    assert "Traceback" not in errors and "interrupted" not in errors
    assert left_over(process.pid) == []
    resumed = start("-c", TRAINS.format(root=str(ROOT)), "--resume", folder, "--num_workers", 0)
    output, errors = resumed.communicate(timeout=AT_MOST)
    assert resumed.returncode == 0, errors
    assert (folder / "history.csv").read_text().count("\n") == 3, "the head and both epochs"


LEAVES_EARLY = """
import gc, sys, time
sys.path[:0] = [{root!r}]
from segbalance.balancing.plan import balance_plan
from segbalance.train.options import BalanceOptions
from segbalance.dataloader.batches import training_dataset
from segbalance.data_processing.manifest import read_manifest
from segbalance.train.inputs import loader_subsets
from segbalance.transforms.pipelines import train_transform

manifest = read_manifest({tables!r})
subsets = loader_subsets(manifest, manifest.train, dict.fromkeys(manifest.train, train_transform(32)))
plan = balance_plan({{name: len(table) for name, table in manifest.train.items()}}, BalanceOptions(), 4)
batches = []
for wait in (False, True):  # before and after the processes have started
    dataset, reader, _ = training_dataset(
        subsets, plan, image_size=32, batch_size=4, steps_per_epoch=5, seed=0, processes=2
    )
    while wait and not reader._processes.ready():
        time.sleep(0.01)
    iterator = iter(dataset)
    batches.append([part.numpy() for part in next(iterator)])
    leaving = time.monotonic()
    del iterator
    gc.collect()
    assert time.monotonic() - leaving < 20
assert all((one == other).all() for one, other in zip(*batches))
print("left")
"""


def test_a_program_that_leaves_after_one_batch_ends(start, tables):
    process = start("-c", LEAVES_EARLY.format(root=str(ROOT), tables=str(tables)))
    output, errors = process.communicate(timeout=AT_MOST)
    assert (process.returncode, output) == (0, "left\n"), errors
    assert "Traceback" not in errors and "Exception" not in errors
    assert left_over(process.pid) == []
