"""The nail tutorial's calls in its order, at its five sizes, up to `model.fit`; its balance beside ours."""

import json
import subprocess
import sys

import numpy as np
import pytest

from segbalance.commands import prepare
from tests.support.data import write_data
from tests.support.places import ROOT

SIZES = {"0": 749, "1": 144, "2": 126, "3": 52, "4": 34}  # the tutorial's
TOTAL, EPOCHS = sum(SIZES.values()), 2

# Written as the tutorial writes it, but for 64 pixels, a small encoder and names of files. What follows the
# training counts: the same mixtures again, each element with the number of its subset.
PROGRAM = """
import json, os, sys
data_root, csv_dir = sys.argv[1:]

from dataloader import load_data_path, sample_from_datasets, tf_dataset
from segbalance.legacy_keras import sm, tf
from transforms import train_transform, valid_transform

epochs, batch_size, weights = 2, 32, [1 / 5] * 5


def loader(number):
    dataset = load_data_path(data_root, os.path.join(csv_dir, f"train{number}.csv"), "train")
    return tf_dataset(
        dataset=dataset,
        shuffle=False,
        batch_size=None,
        transforms=train_transform(64),
        dtype=tf.float32,
        device=[0],
    )


def shuffled(dataset):
    return dataset.apply(tf.data.experimental.shuffle_and_repeat(100000, count=epochs))


train = tf.data.Dataset.sample_from_datasets([shuffled(loader(k)) for k in range(5)], weights)
train = train.batch(batch_size).prefetch(tf.data.AUTOTUNE)
valid = load_data_path(data_root, os.path.join(csv_dir, "valid.csv"), "valid")
valid = tf_dataset(
    dataset=valid,
    shuffle=False,
    batch_size=batch_size,
    transforms=valid_transform(64),
    dtype=tf.float32,
    device=[0],
)
model = sm.Unet(
    "resnet18", input_shape=(64, 64, 3), encoder_weights=None, decoder_filters=(16, 8, 8, 4, 4)
)
model.compile("adam", sm.losses.DiceLoss(), [sm.metrics.IOUScore()])
steps = 1105 // batch_size
history = model.fit(train, validation_data=valid, epochs=epochs, steps_per_epoch=steps, verbose=0).history


def numbered(dataset, number):
    return dataset.map(lambda image, mask: number)


def drawn(mixture, count):
    return [int(number) for number in mixture.take(count).as_numpy_iterator()]


theirs = [numbered(shuffled(loader(k)), k) for k in range(5)]
ours = [numbered(loader(k), k) for k in range(5)]
found = {
    "loss": history["loss"],
    "valid_loss": history["val_loss"],
    "theirs": drawn(tf.data.Dataset.sample_from_datasets(theirs, weights, seed=0), 10**6),
    "ours": drawn(sample_from_datasets(ours, weights), epochs * 1105),
}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps(found | {"peak_mb": int(status["VmHWM"].split()[0]) / 1024}))
"""


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """What the program found: losses, the subset of each draw of both mixtures, peak memory."""
    folder = tmp_path_factory.mktemp("tutorial")
    root = write_data(folder / "data", SIZES, height=64, width=64)
    write_data(root, dict.fromkeys(SIZES, 2), "valid", first_seed=1, height=64, width=64)
    assert prepare.main(["--data_root", root, "--csv_dir", folder / "csv_file"]) == 0
    words = [sys.executable, "-c", PROGRAM, str(root), str(folder / "csv_file")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_tutorials_calls_train_in_little_memory(called):
    assert len(called["loss"]) == len(called["valid_loss"]) == EPOCHS
    assert np.isfinite(called["loss"] + called["valid_loss"]).all()
    print(f"peak memory {called['peak_mb']:.0f} MB")
    assert called["peak_mb"] < 2000


def in_tenths(draws):
    """int (10, subsets): how often each subset is drawn in each tenth of the run."""
    return np.stack([np.bincount(tenth, minlength=len(SIZES)) for tenth in np.array_split(draws, 10)])


@pytest.mark.slow
def test_its_recipe_loses_its_balance_and_ours_keeps_it(called):
    theirs, ours = in_tenths(called["theirs"]), in_tenths(called["ours"])
    for tenth in range(10):
        print(tenth + 1, theirs[tenth], ours[tenth])
    # Its loaders end: each photo comes once an epoch and no more, so that the biggest subset is left alone.
    assert theirs.sum(0).tolist() == [EPOCHS * size for size in SIZES.values()]
    assert (theirs[0] > 0).all() and theirs[-1].tolist() == [EPOCHS * TOTAL // 10, 0, 0, 0, 0]
    assert np.count_nonzero(theirs[:, 4]) <= 3, "the smallest is gone after 15 % of the run"
    # Of n draws with share 1/5, the share's standard deviation is sqrt(1/5 * 4/5 / n).
    for half in (ours[:5].sum(0), ours[5:].sum(0)):
        assert (np.abs(half / half.sum() - 1 / 5) < 4 * (0.16 / half.sum()) ** 0.5).all()
    assert (ours > 0).all()
