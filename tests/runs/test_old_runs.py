"""Runs that the flat modules made, before there was a package, go on in every command.

Since then the built-in pipelines `train`, `train_fast` and `light` have lost the vertical flip, so that runs
with them cannot be the same. Where a test compares bits, both codes take `strong`, which is as it was, or
what `train` was then, as a function of a module.
"""

import io
import shutil
import subprocess
import sys
import tarfile

import h5py
import numpy as np
import pytest

from segbalance.commands import evaluate, export, predict, report, train
from segbalance.commands.verify_resume import differences, same_weights
from segbalance.legacy_keras import tf
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config_file import load_config
from segbalance.train.folder import BEST, LAST
from tests.support.data import TINY
from tests.support.places import ROOT

pytestmark = pytest.mark.slow
LAST_FLAT_COMMIT = "37aa70310aae6512b00e58a9f5edc4ed1999c49c"
OWN = """

def my_function(image_size):
    return A.Compose([A.Transpose(p=1), resize(image_size)])
"""
# Today's train.py with the optimiser of that time: the fused one differs in the last bits.
KERAS_ADAMW = """
import sys
sys.path[0] = {root!r}
from segbalance.commands import train
from segbalance.legacy_keras import tf
from segbalance.model import optimizer
optimizer.FusedAdamW = tf.keras.optimizers.AdamW
sys.exit(train.main(sys.argv[1:]))
"""

# The pipeline `train` of the flat modules, as it stood in transforms.py.
TRAIN_THEN = """
import albumentations as A
import cv2


def train(image_size):
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.VerticalFlip(p=0.5),
            A.Affine(
                scale=(0.8, 1.2),
                keep_ratio=True,
                rotate=(-30, 30),
                border_mode=cv2.BORDER_CONSTANT,
                fill=0,
                fill_mask=0,
                p=0.5,
            ),
            A.GaussNoise(std_range=(0, 75**0.5 / 255), p=0.4),
            A.GaussianBlur(blur_limit=(3, 7), p=0.4),
            A.OneOf(
                [
                    A.HueSaturationValue(10, 15, 15, p=0.5),
                    A.CLAHE(clip_limit=2),
                    A.RandomBrightnessContrast(0.15, 0.3, p=0.5),
                ],
                p=0.3,
            ),
            A.Resize(image_size, image_size, mask_interpolation=cv2.INTER_NEAREST_EXACT),
        ]
    )
"""


@pytest.fixture(scope="module")
def old_code(tmp_path_factory):
    """The folder of the code as it was, with a function of one's own in its transforms.py."""
    archive = subprocess.run(["git", "archive", LAST_FLAT_COMMIT], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("needs the history back to the flat modules: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("flat")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    with open(folder / "transforms.py", "a") as file:
        file.write(OWN)
    return folder


def run_in(code, script, *words, cwd=None):
    """Runs a file of a clone, which may be one of the flat modules."""
    program = [code / script]
    if (code, script) == (ROOT, "train.py"):
        program = ["-c", KERAS_ADAMW.format(root=str(ROOT))]
    words = [sys.executable, *program, *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=cwd)
    assert done.returncode == DONE, done.stderr


def run_old(old_code, *words):
    run_in(old_code, "train.py", *words)


@pytest.fixture(scope="module")
def old_run(old_code, tables, tmp_path_factory):
    """The folder of a run of the old code, two epochs of three steps, which no test may change."""
    folder = tmp_path_factory.mktemp("old") / "run"
    run_old(old_code, *TINY, "--csv_dir", tables, "--work_dir", folder, "--save_every", 2)
    return folder


@pytest.fixture
def run_folder(old_run, tmp_path):
    return shutil.copytree(old_run, tmp_path / "run")


def warnings(text):
    return [line for line in text.splitlines() if line.startswith("warning")]


def test_its_config_is_read(old_run, tables):
    config = load_config(old_run)
    assert config.filled_in.fingerprint and config.data.csv_dir == str(tables)
    assert (config.optimisation.epochs, config.run.save_every) == (2, 2)


def test_it_is_evaluated_predicted_reported_and_exported(run_folder, tables, tmp_path, capsys):
    photos = tables.parent / "data/valid/images/b"
    assert evaluate.main(["--work_dir", run_folder]) == DONE
    assert report.main(["--work_dir", run_folder]) == DONE
    words = ["--images", photos, "--output", tmp_path / "masks"]
    assert predict.main(["--work_dir", run_folder, *words]) == DONE
    words = ["--format", "savedmodel", "--output", tmp_path / "exported", "--check_images", 2]
    assert export.main(["--work_dir", run_folder, *words]) == DONE
    assert warnings(capsys.readouterr().out) == []


def test_it_goes_on_and_is_told_that_its_pipeline_changed(run_folder, capsys):
    assert train.main(["--resume", run_folder, "--epochs", 3]) == DONE
    _, warning = warnings(capsys.readouterr().out)
    assert "built-in transforms have changed since the run began: train (no longer flips photos" in warning


@pytest.mark.parametrize("optimiser", ["of that time", "of today"])
def test_it_goes_on_to_the_weights_that_the_old_code_comes_to(
    optimiser, old_code, tables, tmp_path, capsys, stub
):
    """With a pipeline that means what it meant."""
    if optimiser == "of that time":
        stub("segbalance.model.optimizer.FusedAdamW", tf.keras.optimizers.AdamW)
    run_folder = tmp_path / "run"
    words = [*TINY, "--csv_dir", tables, "--work_dir", run_folder, "--save_every", 2]
    run_old(old_code, *words, "--transforms", '{"default": "strong"}')
    other = shutil.copytree(run_folder, tmp_path / "other")
    run_old(old_code, "--resume", other, "--epochs", 3)
    assert train.main(["--resume", run_folder, "--epochs", 3]) == DONE
    (warning,) = warnings(capsys.readouterr().out)
    assert "the rest of the run may not be what it would have been: code " in warning and ";" not in warning
    if optimiser == "of that time":
        assert same_weights(run_folder / LAST, other / LAST) and same_weights(run_folder / BEST, other / BEST)
    else:  # Adam makes whole steps of gradients that are nothing but their last bits
        assert distance(run_folder / LAST, other / LAST) < 1e-4


def distance(path, other):
    """Of two weights files, as a share of the length of all weights as one vector."""
    with h5py.File(path) as file, h5py.File(other) as other_file:
        places = []
        file.visititems(lambda name, item: places.append(name) if hasattr(item, "shape") else None)
        own, theirs = (
            np.concatenate([content[place][()].ravel() for place in places]) for content in (file, other_file)
        )
    return np.linalg.norm(own - theirs) / np.linalg.norm(theirs)


def test_a_function_in_its_transforms_is_found_in_a_clone(old_code, tables, tmp_path, monkeypatch, capsys):
    run_folder = tmp_path / "run"
    choice = '{"a": "transforms:my_function"}'
    run_old(old_code, *TINY, "--csv_dir", tables, "--work_dir", run_folder, "--transforms", choice)
    words = ["--resume", run_folder, "--epochs", 3]
    assert train.main(words) == WRONG_INPUT
    assert f"--transforms '{choice}" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert train.main([*words, "--transforms", choice]) == WRONG_INPUT
    assert "transforms.py" in capsys.readouterr().err
    clones_file = tmp_path / "clone/transforms.py"
    clones_file.parent.mkdir()
    clones_file.write_text((ROOT / "transforms.py").read_text() + OWN)
    assert train.main([*words, "--transforms", choice], transforms_file=clones_file) == DONE
    assert "transforms:my_function" in capsys.readouterr().out


THEN = ["--transforms", '{"default": "then:train"}']
TASKS = {
    "foreground": ([], [], ["--transforms", '{"3": "strong", "default": "then:train"}']),
    "classes": (["--classes", 6], ["--classes", "{data}/classes.csv"], ["--loss", "0.5*dice+focal", *THEN]),
    "classification": (["--task", "classification"], ["--task", "classification"], THEN),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_new_run_is_that_of_the_old_code_to_the_last_bit(task, old_code, tmp_path):
    of_data, of_manifests, of_training = TASKS[task]
    (tmp_path / "then.py").write_text(TRAIN_THEN)
    data, network = tmp_path / "data", [*TINY]
    if task == "classification":  # has no decoder
        start = network.index("--decoder_filters")
        del network[start : start + 6]
    run_in(
        old_code,
        "scripts/make_sample_data.py",
        "--output",
        data,
        "--scale",
        0.03,
        "--image_size",
        96,
        *of_data,
    )
    photos = data / ("valid" if task == "classification" else "valid/images")
    words = [str(word).format(data=data) for word in of_manifests]
    for name, code in (("old", old_code), ("new", ROOT)):
        folder = tmp_path / name
        tables, run, found = folder / "csv_file", folder / "run", folder / "found"
        run_in(code, "data_processing.py", "--data_root", data, "--csv_dir", tables, *words)
        words_of_run = [*network, "--csv_dir", tables, "--work_dir", run, *of_training]
        run_in(code, "train.py", *words_of_run, cwd=tmp_path)
        run_in(code, "scripts/predict.py", "--work_dir", run, "--images", photos, "--output", found)
    old, new = tmp_path / "old", tmp_path / "new"
    assert differences(new / "run", old / "run") == []
    files = [
        sorted(path.relative_to(place) for path in place.rglob("*.*"))
        for place in (old / "found", new / "found")
    ]
    assert files[0] == files[1] and len(files[0]) > 0
    assert [
        path
        for path in files[0]
        if (old / "found" / path).read_bytes() != (new / "found" / path).read_bytes()
    ] == []
