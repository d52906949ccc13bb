"""A run with several classes from end to end: its scores against NumPy, the commands on it, their errors."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from segbalance.commands import contact_sheet, evaluate
from segbalance.commands import export as export_model
from segbalance.commands import predict as predict_command
from segbalance.commands import replay as replay_sample
from segbalance.commands import report as make_report
from segbalance.data_processing.manifest import read_manifest
from segbalance.errors import InputError
from segbalance.exporting.export import CARD, CHECK, check_likeness
from segbalance.exporting.exported_model import read_description
from segbalance.prediction.predictor import RunPredictor, load_network, predict_mask
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.sample_data.rendering import CLASSES
from segbalance.train.config import CONFIG, load_config
from segbalance.train.folder import best_epoch, read_history
from segbalance.transforms.pipelines import apply_transform, valid_transform
from tests.exporting.test_export import run_card
from tests.support.data import copied_run
from tests.support.stubs import stubbing

NAMES = list(CLASSES)


@pytest.fixture(autouse=True, scope="module")
def small_network(two_layers):
    with stubbing() as stub:
        stub("segbalance.prediction.predictor.build_network", two_layers)
        yield


@pytest.fixture(scope="module")
def predict(finished_classes, small_network):
    return RunPredictor(finished_classes)


@pytest.fixture
def copied(finished_classes, tmp_path):
    """A copy of the finished run."""
    return copied_run(finished_classes, tmp_path / "run")


@pytest.fixture
def run_folder(copied, predict, stub):
    """A copy of the finished run whose network is built once for all tests."""
    stub("segbalance.prediction.predictor.RunPredictor", lambda work_dir: predict)
    return copied


@pytest.fixture(scope="module")
def answers(finished_classes, predict):
    """[(subset, true, found)], uint8 (32, 32) class ids of each validation image, read with Pillow."""
    manifest, resize = read_manifest(load_config(finished_classes).csv_dir), valid_transform(32)
    rows = []
    for row in manifest.valid.itertuples():
        photo, ids = (np.array(Image.open(manifest.data_root / path)) for path in (row.images, row.masks))
        small, true = apply_transform(resize, photo, ids)
        rows.append((row.type, true.reshape(32, 32), predict(small[None])[0].argmax(-1)))
    return rows


def numpy_iou(pairs):
    """{class: IoU} of (true, found) masks, without what is ignored and without absent classes."""
    true, found = (np.concatenate([mask.ravel() for mask in masks]) for masks in zip(*pairs, strict=True))
    true, found = true[true != 255], found[true != 255]
    ious = {}
    for number, name in enumerate(NAMES):
        either = np.sum((true == number) | (found == number))
        if either:
            ious[name] = np.sum((true == number) & (found == number)) / either
    return ious


def test_the_iou_of_each_class_is_that_of_numpy(finished_classes, answers):
    """In history.csv, metrics.json and evaluation_valid.json, over all images and in each subset."""
    assert all((true == 255).any() for _, true, _ in answers) and len(answers) == 20
    expected = numpy_iou([pair for _, *pair in answers])
    best = best_epoch(read_history(finished_classes))
    metrics = json.loads((finished_classes / "metrics.json").read_text())
    report = json.loads((finished_classes / "evaluation_valid.json").read_text())
    assert len(expected) == 6 and report["classes"] == NAMES
    assert sum(iou > 0.01 for iou in expected.values()) >= 3, "too few classes are found to tell anything"
    for number, name in enumerate(NAMES):
        own = report["all"]["classes"][number]
        assert own["class"] == metrics["classes"][number]["class"] == name
        for value in (own["iou"], metrics["classes"][number]["iou"], best[f"val_class_iou_{name}"]):
            assert value == pytest.approx(expected[name], abs=1e-6)
    mean = np.mean(list(expected.values()))
    for value in (report["all"]["iou"], metrics["iou"], best["val_iou"]):
        assert value == pytest.approx(mean, abs=1e-6)
    for row in report["subsets"]:
        own = numpy_iou([pair for subset, *pair in answers if subset == row["subset"]])
        assert [one["iou"] for one in row["classes"]] == [
            None if name not in own else pytest.approx(own[name], abs=1e-6) for name in NAMES
        ]
        assert row["iou"] == pytest.approx(np.mean(list(own.values())), abs=1e-6)
        assert row["iou"] == pytest.approx(best[f"val_iou_{row['subset']}"], abs=1e-6)
    images = pd.read_csv(finished_classes / "evaluation_valid.csv")
    for (_, row), (_, *pair) in zip(images.iterrows(), answers, strict=True):
        own = numpy_iou([pair])
        assert row["iou"] == pytest.approx(np.mean(list(own.values())), abs=1e-6)
        assert [row[f"iou_{name}"] for name in own] == pytest.approx(list(own.values()), abs=1e-6)


def test_the_command_writes_and_prints_the_same_scores(finished_classes, run_folder, capsys):
    assert evaluate.main(["--work_dir", run_folder]) == DONE
    written = json.loads((run_folder / "evaluation_valid.json").read_text())
    assert written == json.loads((finished_classes / "evaluation_valid.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "class",
        "IoU",
        "F1",
        "precision",
        "recall",
        "true",
        "share",
        "found",
        "share",
    ]
    assert [line.split()[0] for line in lines[1:7]] == NAMES
    assert lines[1].split()[1] == f"{written['all']['classes'][0]['iou']:.3f}"
    weakest = written["subsets"][0]
    assert lines[9].split()[:3] == [weakest["subset"], "4", f"{weakest['iou']:.3f}"]
    assert any(line.startswith("without a score: a class that is neither there nor found") for line in lines)
    worst = lines[lines.index("worst 20 images") + 2].split()
    assert worst[0] == f"{written['worst'][0]['iou']:.3f}" and worst[-1] == written["worst"][0]["images"]


def test_manifests_of_other_classes_are_an_error(copied, class_tables, tmp_path, capsys):
    shutil.copytree(class_tables, tmp_path / "csv_file")
    stored = json.loads((class_tables / "manifest.json").read_text())
    stored["classes"]["4"] = "bracelet"
    (tmp_path / "csv_file/manifest.json").write_text(json.dumps(stored))
    place = tmp_path / "csv_file/valid.csv"
    assert evaluate.main(["--work_dir", copied, "--csv", place]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert (
        f"{place} is for the classes background, skin, nail, polish, bracelet, coin, but the run" in message
    )
    assert (
        "is for background, skin, nail, polish, ring, coin. Make manifests with the classes of the run"
        in message
    )
    config = yaml.safe_load((copied / CONFIG).read_text())
    (copied / CONFIG).write_text(yaml.safe_dump(config | {"csv_dir": str(tmp_path / "csv_file")}))
    export = ["--format", "onnx", "--output", tmp_path / "export"]
    for command, words in ((make_report, []), (contact_sheet, []), (export_model, export)):
        assert command.main(["--work_dir", copied, *words]) == WRONG_INPUT
        assert "bracelet, coin, but the run is for background, skin" in capsys.readouterr().err
    assert not (tmp_path / "export").exists() and not list(copied.glob("evaluation*"))


@pytest.mark.parametrize("threshold", ["0.4", "best"])
def test_a_threshold_is_not_for_several_classes(copied, tmp_path, capsys, threshold):
    photos = ["--images", tmp_path, "--output", tmp_path / "out"]
    for command, words in ((evaluate, []), (make_report, []), (predict_command, photos)):
        assert command.main(["--work_dir", copied, "--threshold", threshold, *words]) == WRONG_INPUT
        message = capsys.readouterr().err
        assert f"threshold {threshold} is for one foreground class, but this model tells 6 apart" in message
        assert "Leave --threshold out." in message


def test_masks_are_ids_or_their_colours(
    finished_classes, run_folder, class_tables, predict, tmp_path, capsys
):
    photos = class_tables.parent / "data/valid/images/4"
    options = ["--work_dir", run_folder, "--images", photos]
    words = ["--output", tmp_path / "ids", "--overlay", "--probabilities", 8]
    assert predict_command.main([*options, *words]) == DONE
    assert predict_command.main([*options, "--output", tmp_path / "colours", "--values", "colours"]) == DONE
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "ids/predictions.csv")
    assert len(table) == 4
    network = load_network(finished_classes)
    for row in table.itertuples():
        photo = np.array(Image.open(row.image))
        expected = predict_mask(network, photo, load_config(run_folder).working_size)
        picture = Image.open(tmp_path / "ids" / row.mask)
        mask = np.array(picture)
        assert picture.mode == "L" and mask.shape == photo.shape[:2]
        np.testing.assert_array_equal(mask, expected)
        coloured = Image.open(tmp_path / "colours" / row.mask)
        assert coloured.mode == "P"
        np.testing.assert_array_equal(np.array(coloured), mask)
        colours = np.uint8([list(bytes.fromhex(colour[1:])) for colour in CLASSES.values()])
        np.testing.assert_array_equal(np.array(coloured.convert("RGB")), colours[mask])
        for number, name in list(enumerate(NAMES))[1:]:
            assert getattr(row, f"coverage_{name}") == pytest.approx((mask == number).mean(), rel=1e-4)
            count = cv2.connectedComponents(np.uint8(mask == number))[0] - 1
            assert getattr(row, f"objects_{name}") == count
        assert row.coverage == pytest.approx((mask > 0).mean(), rel=1e-4)
        highest = cv2.resize(predict(cv2.resize(photo, (32, 32))[None])[0], (64, 64)).max(axis=-1)
        stored = np.array(Image.open(tmp_path / "ids/probabilities" / f"{row.mask.split('/')[-1]}"))
        np.testing.assert_allclose(stored / 255, highest, atol=0.6 / 255)
    assert f"  skin: mean coverage {table['coverage_skin'].mean():.2%}, " in printed
    assert len(list((tmp_path / "ids/overlays").glob("*.jpg"))) == 4


def test_tiles_give_class_ids_too(run_folder, class_tables, predict, tmp_path):
    photo = class_tables.parent / "data/valid/images/4/hand_0001.png"
    words = ["--work_dir", run_folder, "--images", photo, "--output", tmp_path / "out", "--tile"]
    assert predict_command.main([*words, "--tile_overlap", "0"]) == DONE
    pixels = np.array(Image.open(photo))
    corner = predict(pixels[None, :32, :32])[0].argmax(axis=-1)
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / "out/masks/hand_0001.png"))[:32, :32], corner
    )


def test_options_of_one_foreground_are_errors(copied, tmp_path, capsys):
    words = ["--images", tmp_path, "--output", tmp_path / "out"]
    assert (
        predict_command.main(["--work_dir", copied, *words, "--smooth", "--values", "white"]) == WRONG_INPUT
    )
    message = capsys.readouterr().err
    assert "values white is for one foreground class" in message
    assert "smooth True is for one foreground class" in message
    shutil.copy(copied / CONFIG, tmp_path / CONFIG)
    config = yaml.safe_load((tmp_path / CONFIG).read_text()) | {"classes": [], "class_colours": []}
    (tmp_path / CONFIG).write_text(yaml.safe_dump(config))
    assert predict_command.main(["--work_dir", tmp_path, *words, "--values", "colours"]) == WRONG_INPUT
    expected = "values colours is for several classes, but this model knows one; expected white or ids"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_contact_sheet_has_masks_above_predictions(copied, class_tables):
    assert contact_sheet.main(["--work_dir", copied, "--columns", "2", "--tile", "64"]) == DONE
    sheet = cv2.imread(str(copied / "contact_sheet.png"), cv2.IMREAD_COLOR_RGB)
    legend = sheet.shape[0] - 5 * (22 + 128)
    assert sheet.shape[1] == 128 and legend > 22, "the names of the classes take several lines here"
    colours = {tuple(pixel) for pixel in sheet[:legend].reshape(-1, 3).tolist()}
    assert all(tuple(bytes.fromhex(colour[1:])) in colours for colour in list(CLASSES.values())[1:])
    photo = cv2.imread(str(class_tables.parent / "data/valid/images/0/hand_0000.png"), cv2.IMREAD_COLOR_RGB)
    mask = cv2.imread(str(class_tables.parent / "data/valid/masks/0/hand_0000.png"), cv2.IMREAD_GRAYSCALE)
    tile = sheet[legend + 22 : legend + 22 + 64, :64].astype(int)
    np.testing.assert_array_equal(tile[mask == 0], photo[mask == 0])
    skin = 0.5 * photo[mask == 1] + 0.5 * np.array(list(bytes.fromhex("f0b088")))
    assert np.abs(tile[mask == 1] - skin).max() <= 1


def test_a_sample_drawn_again_has_the_colours_of_its_classes(copied):
    assert replay_sample.main(["--work_dir", copied, "--step", 3, "--item", 1]) == DONE
    picture = Image.open(copied / "replay/step3_item1_mask.png")
    ids, colours = np.array(picture), np.array(picture.convert("RGB"))
    assert picture.mode == "P" and ids.max() > 0
    palette = {number: bytes.fromhex(colour[1:]) for number, colour in enumerate(CLASSES.values())}
    palette[255] = bytes([128, 128, 128])
    assert all(colours[ids == number].tolist().count(list(palette[number])) for number in np.unique(ids))
    photo = np.array(Image.open(copied / "replay/step3_item1_image.png"))
    sheet = np.array(Image.open(copied / "replay/step3_item1_comparison.png"))[-256:, -256:]
    small, where = sheet[4::8, 4::8].astype(int), ids == 1
    skin = 0.5 * photo[where] + 0.5 * np.array(list(palette[1]))
    assert where.any() and np.abs(small[where] - skin).mean() < 20, "tinted"
    np.testing.assert_allclose(small[ids == 0], photo[ids == 0], atol=60)


def test_an_export_names_its_classes_and_is_like_the_run(
    finished_classes, run_folder, class_tables, tmp_path, monkeypatch, capsys
):
    shutil.copy(finished_classes / "evaluation_valid.json", run_folder)
    folder, photos = tmp_path / "export", class_tables.parent / "data/valid/images/4"
    words = ["--work_dir", run_folder, "--format", "onnx", "--output", folder]
    assert export_model.main(words) == DONE
    check, description = json.loads((folder / CHECK).read_text()), read_description(folder)
    assert description.classes == tuple(NAMES) and description.class_colours == tuple(CLASSES.values())
    assert check["largest_difference"] < 1e-4 and check["mask_pixels_differing"] < 0.01
    assert check["iou_keras"] == pytest.approx(check["iou_export"], abs=0.01) and 0 < check["iou_keras"] < 1
    with pytest.raises(InputError, match="mask pixels differing 0.2, expected at most 0.01"):
        check_likeness(check | {"mask_pixels_differing": 0.2}, description, 0.02)
    capsys.readouterr()

    outputs = {"run": ["--work_dir", run_folder], "export": ["--model", folder]}
    masks = {}
    for name, model in outputs.items():
        assert predict_command.main([*model, "--images", photos, "--output", tmp_path / name]) == DONE
        masks[name] = np.stack(
            [np.array(Image.open(path)) for path in sorted((tmp_path / name).glob("masks/*"))]
        )
    assert (masks["run"] != masks["export"]).mean() < 0.01 and len(np.unique(masks["run"])) > 2
    smooth = ["--smooth", "--images", photos, "--output", tmp_path / "smooth"]
    assert predict_command.main(["--model", folder, *smooth]) == WRONG_INPUT
    assert "smooth True is for one foreground class, but this model tells 6 apart" in capsys.readouterr().err

    shutil.copy(photos / "hand_0001.png", folder / "photo.jpg")
    assert (run_card(folder, monkeypatch) != masks["export"][1]).mean() < 0.01, "but for near ties"
    card, evaluation = (
        (folder / CARD).read_text(),
        json.loads((run_folder / "evaluation_valid.json").read_text()),
    )
    assert "(B, H, W, 6), float32 in [0, 1], the probability of each class |" in card
    assert "| classes | 0 background #000000, 1 skin #f0b088, 2 nail #ff4fd0, " in card
    ring = evaluation["all"]["classes"][4]
    assert f"| ring | {ring['iou']:.3f} | {ring['iou_low']:.3f} | {ring['iou_high']:.3f} |" in card
    assert f"| all | 20 | {evaluation['all']['iou']:.3f} | {evaluation['all']['accuracy']:.3f} |" in card
    assert "- 6 classes; touching objects of one class come out as one." in card
