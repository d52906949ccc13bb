"""scripts/predict.py: from photos to masks, tables and an exit status."""

import json
import os
import re
import shutil
import signal
import threading
import types

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbalance.commands import predict, prepare
from segbalance.data_processing.tasks import FOREGROUND
from segbalance.files.images import read_image
from segbalance.runtime.command_line import DONE, FAILED, INTERRUPTED, WRONG_INPUT
from tests.support.data import draw_pair, write_image
from tests.support.holding import foreign_lock, held_elsewhere


class FakeExport:
    """What load_exported returns: answers how red each pixel is."""

    def __init__(self, input_size=32):
        self.input_size, self.working_size = input_size, 0
        self.description = types.SimpleNamespace(image_size=32, class_list=None, kind=FOREGROUND)
        self.shapes = set()

    def __call__(self, photos):
        self.shapes.add(photos.shape[1:])
        return photos[..., :1].astype(np.float32) / 255


@pytest.fixture
def described(stub, tmp_path):
    """A model that tells red from what is not, whose description stands in the place of an exported one's."""
    model = FakeExport()
    stub("segbalance.exporting.exported_model.find_description", lambda path: (model.description, path))
    (tmp_path / "model.onnx").write_bytes(b"")
    return model


@pytest.fixture
def export(stub, described):
    """The model too is put in the place of an exported one."""
    stub("segbalance.exporting.exported_model.load_exported", lambda path: described)
    return described


@pytest.fixture
def folder(tmp_path):
    """Photos a (PNG) and deep/b (JPEG, 160x120, upright), and c, which is damaged."""
    write_image(tmp_path / "photos/a.png", draw_pair(0)[0])
    write_image(tmp_path / "photos/deep/b.jpg", draw_pair(1, 120, 160)[0])
    (tmp_path / "photos/c.png").write_bytes(b"\x89PNG nothing")
    return tmp_path


def call(folder, *words, images="photos", output="out", model="model.onnx"):
    return predict.main(
        ["--images", folder / images, "--output", folder / output, "--model", folder / model, *words]
    )


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def grey(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_an_output_that_another_prediction_fills_is_refused(folder, described, capsys):
    with held_elsewhere(folder / "out") as process:
        assert call(folder) == WRONG_INPUT
        assert f"out is in use: training by process {process.pid} on " in capsys.readouterr().err
        assert files(folder / "out") == [".lock"]


def test_a_lock_is_no_output_and_no_photo(folder, export):
    foreign_lock(folder / "photos")
    assert call(folder) == FAILED
    assert not [name for name in files(folder / "out") if "lock" in name]


def test_masks_tables_and_status(folder, export, capsys):
    assert call(folder) == FAILED
    output = folder / "out"
    assert files(output) == ["failed.csv", "masks/a.png", "masks/deep/b.png", "predictions.csv"]
    table = pd.read_csv(output / "predictions.csv")
    assert list(table) == ["image", "mask", "width", "height", "coverage", "objects"]
    assert table["mask"].tolist() == ["masks/a.png", "masks/deep/b.png"]
    assert table["image"].tolist() == [str(folder / "photos/a.png"), str(folder / "photos/deep/b.jpg")]
    assert table[["width", "height"]].values.tolist() == [[60, 50], [160, 120]]
    for row in table.itertuples():
        mask = grey(output / row.mask)
        assert set(np.unique(mask)) == {0, 255}
        assert row.coverage == pytest.approx((mask > 0).mean(), rel=1e-5) and row.objects == 1
    true = draw_pair(0)[1] > 0
    found = grey(output / "masks/a.png") > 0
    assert (true & found).sum() / (true | found).sum() > 0.85
    assert pd.read_csv(output / "failed.csv")["image"].tolist() == [str(folder / "photos/c.png")]
    printed = capsys.readouterr()
    assert "2 masks, mean coverage" in printed.out and "2 objects" in printed.out
    assert "photos that could not be read: 1 of 3\n" in printed.err and "c.png  " in printed.err


def test_all_outputs_on_request(folder, export):
    (folder / "photos/c.png").unlink()
    words = "--overlay --probabilities 16 --values ids --smooth --tta --threshold 0.6 --min_object 5".split()
    assert call(folder, *words) == DONE
    output = folder / "out"
    kinds = {"masks": "png", "overlays": "jpg", "probabilities": "png"}
    expected = [f"{kind}/{name}.{kinds[kind]}" for kind in kinds for name in ("a", "deep/b")]
    assert files(output) == sorted([*expected, "predictions.csv"])
    mask, probability = grey(output / "masks/deep/b.png"), grey(output / "probabilities/deep/b.png")
    assert set(np.unique(mask)) == {0, 1} and probability.dtype == np.uint16
    assert ((probability / 65535 > 0.6) == mask).mean() > 0.99
    assert cv2.imread(str(output / "overlays/deep/b.jpg")).shape == (120, 160, 3)


@pytest.mark.parametrize("input_size", [32, None])
def test_tiles_see_the_photo_as_it_is(input_size, folder, export):
    (folder / "photos/c.png").unlink()
    export.input_size = input_size
    assert call(folder, "--tile") == DONE
    assert export.shapes == {(32, 32, 3)}
    for name, seed, shape in (("a", 0, (50, 60)), ("deep/b", 1, (120, 160))):
        true = draw_pair(seed, *shape)[1] > 0
        assert ((grey(folder / f"out/masks/{name}.png") > 0) == true).mean() > 0.995


def test_a_second_call_replaces_nothing_unasked(folder, export, capsys):
    (folder / "photos/c.png").unlink()
    assert call(folder) == DONE
    (folder / "out/masks/a.png").write_bytes(b"mine")
    assert call(folder) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "outputs that already exist: 3" in message and "or pass --overwrite" in message
    assert (folder / "out/masks/a.png").read_bytes() == b"mine"
    assert call(folder, "--overwrite") == DONE
    assert grey(folder / "out/masks/a.png").shape == (50, 60)


def test_the_list_of_failures_goes_once_there_are_none(folder, export):
    assert call(folder) == FAILED and (folder / "out/failed.csv").exists()
    write_image(folder / "photos/c.png", draw_pair(2)[0])
    assert call(folder, "--overwrite") == DONE and not (folder / "out/failed.csv").exists()


def test_an_output_among_the_photos_is_not_read_again(folder, export):
    (folder / "photos/c.png").unlink()
    for _ in range(2):
        assert call(folder, "--overwrite", output="photos/found") == DONE
    assert files(folder / "photos/found") == ["masks/a.png", "masks/deep/b.png", "predictions.csv"]


def save_turned(path, pixels, orientation):
    """A JPEG whose upright view is `pixels`, stored as a camera that was held otherwise stores it."""
    from segbalance.prediction.photo_rows import turned

    back = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(turned(pixels, back))).save(path, quality=95, exif=exif)


@pytest.mark.parametrize("words", [[], ["--tile"]])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_on_the_photo_as_it_is_displayed(orientation, words, folder, export, monkeypatch):
    monkeypatch.setattr("segbalance.prediction.photo_rows.HELD_PIXELS", 0)
    photo, true = draw_pair(3, 90, 140)
    save_turned(folder / "turned/a.jpg", photo, orientation)
    assert call(folder, *words, "--overlay", images="turned") == DONE
    mask = Image.open(folder / "out/masks/a.png")
    assert mask.size == (140, 90) and not mask.getexif()
    found = np.array(mask) > 0
    assert (found & (true > 0)).sum() / (found | (true > 0)).sum() > (0.97 if words else 0.5)
    overlay = cv2.blur(read_image(folder / "out/overlays/a.jpg"), (7, 7)).astype(int)
    tinted = (overlay - cv2.blur(photo, (7, 7)))[..., 2] > 25  # a third of the way to COLOUR's blue of 200
    assert (tinted & found).sum() / (tinted | found).sum() > 0.5


@pytest.mark.parametrize("values", ["white", "ids"])
def test_predicted_masks_are_masks_to_train_with(values, export, tmp_path):
    """Photo and predicted mask make a pair: also where the photo lies on its side in the file."""
    images = tmp_path / "again/Images/a"
    for number in range(3):
        write_image(images / f"{number}.png", draw_pair([5, number])[0])
    save_turned(images / "side.jpg", draw_pair(7, 90, 140)[0], 6)
    assert call(tmp_path, "--values", values, images="again/Images") == DONE
    (tmp_path / "out/masks").rename(tmp_path / "again/Masks")
    options = ["--data_root", tmp_path / "again", "--csv_dir", tmp_path / "csv_file"]
    assert prepare.main(options) == DONE
    rows = pd.concat(pd.read_csv(tmp_path / f"csv_file/{split}.csv") for split in ("train", "valid"))
    predicted = pd.read_csv(tmp_path / "out/predictions.csv")
    by_mask = predicted.set_index(predicted["mask"].str.replace("masks/", "Masks/"))
    assert set(rows["masks"]) == set(by_mask.index) and len(rows) == 4
    found = by_mask.loc[rows["masks"], ["width", "height", "coverage"]]
    np.testing.assert_allclose(rows[["width", "height", "coverage"]], found, rtol=1e-5)


def test_a_photo_that_stands_on_its_head_must_be_saved_upright_to_train(export, tmp_path, capsys):
    """Its size does not tell whether a mask was drawn on it as displayed: data_processing asks."""
    save_turned(tmp_path / "again/Images/a/head.jpg", draw_pair(7, 90, 140)[0], 3)
    assert call(tmp_path, images="again/Images") == DONE
    (tmp_path / "out/masks").rename(tmp_path / "again/Masks")
    options = ["--data_root", tmp_path / "again", "--csv_dir", tmp_path / "csv_file"]
    assert prepare.main(options) == WRONG_INPUT
    assert "Save the images upright, without the EXIF tag" in capsys.readouterr().err


def test_a_run_predicts(folder, finished, capsys):
    (folder / "photos/c.png").unlink()
    words = ["--work_dir", finished, "--images", folder / "photos/*.png", folder / "photos/deep/b.jpg"]
    assert predict.main([*words, "--output", folder / "out", "--threads", 1, "--batch_size", 1]) == DONE
    assert files(folder / "out") == ["masks/a.png", "masks/deep/b.png", "predictions.csv"]
    from segbalance.prediction.predictor import load_network, predict_mask

    expected = predict_mask(load_network(finished), read_image(folder / "photos/a.png"), 64)
    assert ((grey(folder / "out/masks/a.png") > 0) == expected).mean() > 0.99
    assert "wrote" in capsys.readouterr().out


def test_the_best_threshold_is_that_of_the_evaluation(folder, finished, capsys):
    run = shutil.copytree(finished, folder / "run")
    evaluation = json.loads((run / "evaluation_valid.json").read_text())
    evaluation["best_threshold"]["threshold"] = 0.0
    (run / "evaluation_valid.json").write_text(json.dumps(evaluation))
    words = ["--work_dir", run, "--images", folder / "photos/a.png", "--output", folder / "out"]
    assert predict.main([*words, "--threshold", "best"]) == DONE
    assert (grey(folder / "out/masks/a.png") == 255).all(), "every probability is greater than 0"
    (run / "evaluation_valid.json").unlink()
    assert predict.main([*words, "--threshold", "best", "--overwrite"]) == WRONG_INPUT
    assert "Make it first: python scripts/evaluate.py --work_dir" in capsys.readouterr().err


WRONG = [
    ([], "images: name files, folders or globs"),
    (["--images", "a.jpg"], "give either --work_dir .* or --model"),
    (["--images", "a.jpg", "--work_dir", "r", "--model", "m"], "give either --work_dir .* or --model"),
    (["--threshold", "1"], "threshold must be best, or from 0 up to but not including 1; got 1"),
    (["--model", "m", "--threshold", "best"], "threshold best is found in a run's folder"),
    (["--min_object", "0"], "min_object must be greater than 0, got 0"),
    (["--batch_size", "0"], "batch_size must be greater than 0, got 0"),
    (["--threads", "0"], "threads must be greater than 0, got 0"),
    (["--tile", "--tile_shrink", "0"], "tile_shrink must be greater than 0, got 0"),
    (["--tile_shrink", "2"], "tile_shrink is for tiles; add --tile"),
    (["--tile_overlap", "0.6"], "tile_overlap must lie between 0 and 0.5, got 0.6"),
    (["--smooth_size", "0"], "smooth_size must be greater than 0 and at most 0.2, got 0"),
    (["--probabilities", "12"], "probabilities must be 8 or 16 .*; got 12"),
    (["--values", "black"], "--values"),
    (["--images", "a.jpg", "--model", "m"], "--model m: there is no such file or folder"),
    (["--images", "a.jpg", "--work_dir", "."], "has no config.yaml; expected the folder of a run"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong_options_are_answered(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert predict.main(words) == WRONG_INPUT

    assert re.search(message, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_are_answered(folder, described, capsys):
    (folder / "out/masks/a.png").mkdir(parents=True)
    assert call(folder, "--overwrite") == WRONG_INPUT
    assert "outputs where a folder stands: 1" in capsys.readouterr().err
    (folder / "a file").write_text("")
    assert call(folder, output="a file/out") == WRONG_INPUT
    assert "is not a folder that can be written to" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
@pytest.mark.parametrize("words", [[], ["--tile"]])
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_whole_masks_and_a_table_of_them(words, tmp_path, export, stub, capsys):
    for number in range(40):
        write_image(tmp_path / f"photos/{number:02d}.png", draw_pair(number)[0])
    calls, threads = [], threading.active_count()

    def interrupted(photos):
        calls.append(len(photos))
        if len(calls) == 12:
            signal.raise_signal(signal.SIGINT)
        return photos[..., :1].astype(np.float32) / 255

    stub(FakeExport, "__call__", lambda self, photos: interrupted(photos))
    assert call(tmp_path, *words, "--batch_size", 1, "--threads", 2) == INTERRUPTED
    assert capsys.readouterr().err.endswith("\ninterrupted\n")
    assert threading.active_count() <= threads + 1
    listed = pd.read_csv(tmp_path / "out/predictions.csv")["mask"].tolist()
    written = [name for name in files(tmp_path / "out") if name.startswith("masks/")]
    assert set(listed) <= set(written) and len(written) < 40 and not any(".tmp" in name for name in written)
    assert all(grey(tmp_path / "out" / name).shape == (50, 60) for name in written)
