"""A sample drawn again is the one that training saw, and what is wrong is answered."""

import gc
import itertools
import json
import shutil

import albumentations as A
import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from segbalance.commands import contact_sheet
from segbalance.commands import replay as replay_sample
from segbalance.data_processing.manifest import read_manifest
from segbalance.files.images import read_image
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train import inputs as run_data
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import CONFIG, load_config, save_config

WAYS = [
    {},
    {"balance": "exact", "augment": "copies"},
    {"balance": "oversample", "augment": "copies", "seed": 5},
    {"balance": "power", "transforms": {"default": "strong"}},
    {"image_size": 32, "working_size": 40, "cache": "ram", "transforms": {"default": "train_fast"}},
]


@pytest.fixture
def run_folder(tables, tmp_path):
    """Makes the folder of a run that has no more than its config.yaml: function of the config's options."""

    def make(**options):
        defaults = {"image_size": 64, "batch_size": 6, "steps_per_epoch": 4, "epochs": 3}
        config = TrainConfig.of(csv_dir=str(tables), **defaults | options)
        config = run_data.resolved(config, read_manifest(tables), tmp_path / "run")
        (tmp_path / "run").mkdir(exist_ok=True)
        save_config(config, tmp_path / "run")
        return tmp_path / "run"

    return make


def training_data(folder, steps):
    """The first batches that a run's training dataset delivers."""
    from segbalance.dataloader.batches import training_batches

    config = load_config(folder)
    manifest = read_manifest(config.data.csv_dir, config.data.data_root)
    parts = run_data.training_parts(config, manifest, *run_data.checked_plan(config, manifest))
    batches = list(itertools.islice(training_batches(*parts).as_numpy_iterator(), steps))
    gc.collect()
    return batches


def again(folder, step, item, *more):
    """The image (S, S, 3), the class ids (S, S) and the report of one replay."""
    place = ["--work_dir", folder, "--step", step, "--item", item]
    assert replay_sample.main([*place, "--json", folder / "replay.json", *more]) == DONE
    name = folder / "replay" / f"step{step}_item{item}"
    image, mask = read_image(f"{name}_image.png"), np.asarray(Image.open(f"{name}_mask.png"))
    return image, mask, json.loads((folder / "replay.json").read_text())


@pytest.mark.parametrize(
    "options",
    [pytest.param(way, marks=[pytest.mark.slow] * (place % 2)) for place, way in enumerate(WAYS)],
    ids=str,
)
def test_a_sample_drawn_again_is_bit_for_bit_what_training_saw(run_folder, options):
    folder, seen = run_folder(**options), []
    batches = training_data(folder, 12)
    for step, item in [(0, 0), (4, 1), (11, 5)]:
        image, mask, report = again(folder, step, item)
        np.testing.assert_array_equal(image, batches[step][0][item])
        np.testing.assert_array_equal(mask, batches[step][1][item, ..., 0])
        assert report["subset"] == "abc"[batches[step][2][item]]
        seen.append(report)
    assert any(len(report["applied"]) > 1 for report in seen), "nothing but resizing was tried"
    assert any(report["plain"] for report in seen) == ("augment" in options)
    assert all(
        [step["name"] for step in report["applied"]] == ["Resize"] for report in seen if report["plain"]
    )


def test_the_report_names_the_row_and_what_was_done(run_folder, tables, capsys):
    folder = run_folder(transforms={"default": "strong"})
    for step in (0, 3, 4):
        _, _, report = again(folder, step, 0)
        lines = (tables / f"train{report['subset']}.csv").read_text().splitlines()
        assert report["csv_file"] == str(tables / f"train{report['subset']}.csv")
        assert report["csv_row"] == lines[report["csv_line"] - 1] == lines[1 + report["row"]]
        assert f"line {report['csv_line']}: {report['csv_row']}" in capsys.readouterr().out
        assert report["epoch"] == step // 4 + 1 and report["transform"] == "strong"


@pytest.mark.slow
def test_the_parameters_are_those_that_were_applied(run_folder, tables):
    """With flips alone, undoing the flips of the report gives the resized photo back."""
    folder, flips = run_folder(transforms={"default": "light"}), set()
    for item in range(4):
        image, _, report = again(folder, 0, item)
        names = [step["name"] for step in report["applied"]]
        if "RandomBrightnessContrast" in names:
            continue
        for name in reversed(names):
            image = {"HorizontalFlip": image[:, ::-1], "VerticalFlip": image[::-1]}.get(name, image)
        photo = read_image(tables.parent / "data" / report["csv_row"].split(",")[0])
        np.testing.assert_array_equal(image, cv2.resize(photo, (64, 64), interpolation=cv2.INTER_LINEAR))
        flips |= {name for name in names if "Flip" in name}
    assert flips, "no flip was tried"


def test_long_arrays_are_summed_up():
    noise = np.full((10, 20, 3), 2.0, np.float32)
    assert replay_sample.in_plain_types({"a": (np.float32(0.5), noise), "k": np.eye(2), "n": None}) == {
        "a": [0.5, {"shape": [10, 20, 3], "dtype": "float32", "mean": 2.0, "standard_deviation": 0.0}],
        "k": [[1, 0], [0, 1]],
        "n": None,
    }
    assert replay_sample.in_plain_types(A.HorizontalFlip).startswith("<class")


def test_the_mask_shows_black_and_white_and_holds_class_ids(run_folder):
    folder = run_folder()
    _, mask, _ = again(folder, 1, 2)
    shown = cv2.imread(str(folder / "replay/step1_item2_mask.png"), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(mask)) == {0, 1}
    np.testing.assert_array_equal(shown, mask * 255)
    sheet = read_image(folder / "replay/step1_item2_comparison.png")
    assert sheet.shape[1] == 512
    outline = (sheet == contact_sheet.TRUE).all(-1)
    assert outline[:, :256].any() and outline[:, 256:].any(), "both masks are outlined"


def test_the_comparison_shows_the_photo_and_what_became_of_it():
    mask = np.zeros((40, 80), np.uint8)
    disk, trained = (np.full((40, 80, 3), 10, np.uint8), mask), (np.full((64, 64, 3), 99, np.uint8), mask)
    sheet = replay_sample.side_by_side(disk, trained)[contact_sheet.LABEL_HEIGHT :]
    assert (
        (sheet[:128, :256] == 10).all() and (sheet[128:, :256] == 255).all() and (sheet[:, 256:] == 99).all()
    )


def test_a_real_run_can_be_replayed_from_its_folder(finished, tmp_path):
    place = ["--work_dir", finished, "--step", 5, "--item", 3, "--output", tmp_path / "pictures"]
    assert replay_sample.main(place) == DONE
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        f"step5_item3_{kind}.png" for kind in ("image", "mask", "comparison")
    }
    assert not (finished / "replay").exists()


def test_a_place_that_the_run_does_not_have_is_an_error(run_folder, capsys):
    folder = run_folder()
    assert replay_sample.main(["--work_dir", folder, "--step", 12, "--item", 6]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "step must be from 0 to 11 (the steps of the run), got 12" in message
    assert "item must be from 0 to 5 (the images of a batch), got 6" in message
    assert replay_sample.main(["--work_dir", folder, "--step", -1, "--item", 0]) == WRONG_INPUT
    assert not (folder / "replay").exists()


def test_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert replay_sample.main(["--work_dir", tmp_path, "--step", 0, "--item", 0]) == WRONG_INPUT
    assert "has no config.yaml; expected the folder of a run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_manifests_that_changed_are_an_error(run_folder, tables, tmp_path, capsys):
    folder = run_folder()
    shutil.copytree(tables, tmp_path / "other")
    table = tmp_path / "other/traina.csv"
    config = yaml.safe_load((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(yaml.safe_dump(config | {"csv_dir": str(tmp_path / "other")}))
    place = ["--work_dir", folder, "--step", 0, "--item", 0]
    assert replay_sample.main(place) == DONE, "a copy of the manifests says the same"
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([first, *reversed(rows), ""]))
    assert replay_sample.main(place) == WRONG_INPUT
    assert "have changed since the run began, so its draws would be other images" in capsys.readouterr().err
    (folder / CONFIG).write_text((folder / CONFIG).read_text().replace("fingerprint", "#"))
    assert replay_sample.main(place) == DONE
    assert "config.yaml has no fingerprint" in capsys.readouterr().out


def test_a_photo_that_is_gone_bad_is_an_error(run_folder, stub, capsys):
    def damaged(self, path, *_):
        raise OSError(f"{path} cannot be decoded")

    stub("segbalance.dataloader.pair_cache.PairReader.read", damaged)
    assert replay_sample.main(["--work_dir", run_folder(), "--step", 0, "--item", 0]) == WRONG_INPUT
    assert "cannot be decoded. The files must be those that the run read." in capsys.readouterr().err


def test_the_line_is_found_where_all_subsets_share_one_file(tables, tmp_path):
    shutil.copytree(tables, tmp_path / "one")
    for path in (tmp_path / "one").glob("train?.csv"):
        path.unlink()
    text = (tmp_path / "one/train.csv").read_text().splitlines()
    (tmp_path / "one/train.csv").write_bytes("\r\n".join([text[0], "", *text[1:], ""]).encode())
    manifest = read_manifest(tmp_path / "one")
    for subset, table in manifest.train.items():
        for row in range(len(table)):
            path, line, content = manifest.line(subset, row)
            assert path.name == "train.csv" and content == text[line - 2]
            assert content.startswith(table["images"][row] + ",")
