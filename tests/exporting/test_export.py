"""Every export is compared with its run, and one that is not like it never comes into being."""

import contextlib
import json
import os
import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from segbalance.commands import export as export_model
from segbalance.commands import train
from segbalance.data_processing.manifest import read_manifest
from segbalance.errors import InputError
from segbalance.exporting import export as exporting
from segbalance.exporting import formats as export_formats
from segbalance.exporting.export import (
    CARD,
    CHECK,
    check_likeness,
    compare,
    describe,
    drawn_evenly,
    drawn_pairs,
)
from segbalance.exporting.exported_model import DESCRIPTION, ExportedModel, load_exported
from segbalance.legacy_keras import tf
from segbalance.prediction.predictor import load_network
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config_file import load_config
from tests.support.data import TINY, draw_pair, write_image

EVERY = [  # format, size, quantize, and the largest difference of probabilities
    pytest.param("savedmodel", "dynamic", "none", 1e-4, id="savedmodel"),
    pytest.param("savedmodel", "fixed", "none", 1e-4, id="savedmodel-fixed"),
    pytest.param("onnx", "dynamic", "none", 1e-4, id="onnx"),
    pytest.param("onnx", "fixed", "none", 1e-4, id="onnx-fixed"),
    pytest.param("tflite", "fixed", "none", 1e-4, id="tflite"),
    pytest.param("tflite", "fixed", "float16", 1e-2, id="tflite-float16"),
    pytest.param("tflite", "fixed", "int8", 0.1, id="tflite-int8"),
]


@pytest.fixture
def network(small_exports, stub):
    """A network of three layers in the place of the finished run's."""
    stub("segbalance.prediction.predictor.load_network", lambda folder: small_exports[0])
    return small_exports[0]


@pytest.fixture(scope="module")
def trained(finished):
    """The finished run's own network."""
    return load_network(finished)


def words(finished, output, file_format, *more):
    """A command line for an export."""
    return ["--work_dir", finished, "--format", file_format, "--output", output, *more]


def run_card(folder, monkeypatch):
    """Runs the Python of a card beside photo.jpg, as a reader would; returns the mask (H, W)."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / CARD).read_text(), re.S)
    monkeypatch.chdir(folder)
    exec(compile(code, CARD, "exec"), {})
    return cv2.imread("mask.png", cv2.IMREAD_GRAYSCALE)


def check_export(finished, network, folder, monkeypatch, capsys, file_format, size, quantize, bar):
    """Exports by command line, and holds what was written and what its card's code makes to the network."""
    options = words(finished, folder, file_format, "--size", size, "--quantize", quantize)
    assert export_model.main(options) == DONE
    printed, check = capsys.readouterr().out, json.loads((folder / CHECK).read_text())
    assert check["images"] == 5 and [row["subset"] for row in check["subsets"]] == ["a", "b"]
    assert check["largest_difference"] < bar
    assert (check["largest_difference_resized"] is None) == (size == "fixed")
    assert f"largest difference of probabilities: {check['largest_difference']:.2g}\n" in printed
    assert f"IoU lost: {check['iou_lost']:z.5f}\n" in printed
    assert os.listdir(folder.parent) == [folder.name], "something was left over"

    exported, photo = load_exported(folder), draw_pair(9, 50, 60)[0]
    assert exported.input_size == (32 if size == "fixed" else None)
    small = exporting.as_trained(photo, exported.description)
    answer = exported((small if size == "fixed" else photo)[None])[0, ..., 0]
    answer, expected = (cv2.resize(a, (60, 50)) for a in (answer, network(small[None]).numpy()[0, ..., 0]))
    resizing = 0.1 if size == "dynamic" else 0  # levels that differ by one, in a network of six steps
    np.testing.assert_allclose(answer, expected, atol=bar + resizing)
    write_image(folder / "photo.png", photo)
    (folder / "photo.png").rename(folder / "photo.jpg")  # OpenCV looks at the content
    np.testing.assert_array_equal(run_card(folder, monkeypatch), (answer > 0.5) * np.uint8(255))


@pytest.mark.parametrize(("file_format", "size", "quantize", "bar"), EVERY)
def test_an_export_is_like_its_network(
    finished, network, tmp_path, monkeypatch, capsys, file_format, size, quantize, bar
):
    check_export(finished, network, tmp_path / "e", monkeypatch, capsys, file_format, size, quantize, bar)


@pytest.mark.slow
@pytest.mark.parametrize(("file_format", "size", "quantize", "bar"), EVERY)
def test_an_export_is_like_its_run(
    finished, trained, tmp_path, monkeypatch, capsys, file_format, size, quantize, bar
):
    check_export(finished, trained, tmp_path / "e", monkeypatch, capsys, file_format, size, quantize, bar)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["savedmodel", "onnx", "tflite"])
def test_masks_can_be_exported(finished, network, tmp_path, monkeypatch, kind):
    assert export_model.main(words(finished, tmp_path / "export", kind, "--output_type", "mask")) == DONE
    check = json.loads((tmp_path / "export" / CHECK).read_text())
    assert check["largest_difference"] is None and check["mask_pixels_differing"] < 1e-2
    write_image(tmp_path / "export/photo.png", draw_pair(9, 50, 60)[0])
    (tmp_path / "export/photo.png").rename(tmp_path / "export/photo.jpg")
    assert set(np.unique(run_card(tmp_path / "export", monkeypatch))) <= {0, 255}


@pytest.mark.slow
def test_a_run_in_half_precision_is_exported_in_float32(tables, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--csv_dir", tables, "--work_dir", folder, "--mixed_precision", "bfloat16"]
    try:
        assert train.main([*TINY, *options, "--epochs", 1, "--steps_per_epoch", 1]) == DONE
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert load_config(folder).run.mixed_precision == "bfloat16"
    assert export_model.main(words(folder, tmp_path / "export", "tflite")) == DONE
    check = json.loads((tmp_path / "export" / CHECK).read_text())
    assert check["largest_difference"] < 1e-4
    interpreter = tf.lite.Interpreter(str(tmp_path / "export/model.tflite"))
    assert not {tensor["dtype"] for tensor in interpreter.get_tensor_details()} & {np.float16}


def swapped_channels(network, description, dtype=tf.uint8):
    """The serving function of a network that takes BGR for RGB."""
    true = SERVING(network, description, dtype)

    @tf.function(input_signature=true.input_signature)
    def predict(photo):
        return true(photo[..., ::-1])

    return predict


SERVING = export_formats.serving_function


@pytest.mark.parametrize("size", ["fixed", "dynamic"])
def test_a_broken_export_is_refused(finished, network, tmp_path, stub, capsys, size):
    stub(export_formats, "serving_function", swapped_channels)
    assert (
        export_model.main(words(finished, tmp_path / "export", "savedmodel", "--size", size)) == WRONG_INPUT
    )
    message = capsys.readouterr().err
    assert "the savedmodel export (quantize none) is not like the run's network on 5 validation" in message
    assert "difference " in message and "Nothing was written." in message
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_counts_by_hand(finished, small_exports):
    network = small_exports[0]
    """Half of the answer turned round: the masks differ there and nowhere else."""
    config = load_config(finished)
    description = describe(config, format="onnx", size="fixed", output_type="probability", quantize="none")

    def half_turned(photos):
        answer = network(photos).numpy()
        answer[:, :, :16] = 1 - answer[:, :, :16]
        return answer

    manifest = read_manifest(config.data.csv_dir)
    pairs = list(drawn_pairs(manifest, {"b": manifest.valid[3:].reset_index(drop=True)}, 9, 0))
    check = compare(network, ExportedModel(description, half_turned), pairs)
    counts, differing, largest = np.zeros((2, 3), int), 0, 0
    for _, photo, mask in pairs:
        small = exporting.as_trained(photo, description)
        expected = network(small[None]).numpy()[0, ..., 0]
        found = expected.copy()
        found[:, :16] = 1 - found[:, :16]
        true = cv2.resize(mask, (32, 32), interpolation=cv2.INTER_NEAREST_EXACT) == 1
        for row, answer in zip(counts, (expected > 0.5, found > 0.5), strict=True):
            row += [(true & answer).sum(), (~true & answer).sum(), (true & ~answer).sum()]
        differing += ((expected > 0.5) != (found > 0.5)).sum()
        largest = max(largest, np.abs(expected - found).max())
    ious = counts[:, 0] / counts.sum(axis=1)
    assert check["images"] == len(pairs) > 0 and differing > 0
    assert check["iou_keras"] == pytest.approx(ious[0]) and check["iou_export"] == pytest.approx(ious[1])
    assert check["iou_lost"] == pytest.approx(ious[0] - ious[1])
    assert check["mask_pixels_differing"] == pytest.approx(differing / (len(pairs) * 32 * 32))
    assert check["largest_difference"] == pytest.approx(largest)
    lost = {key: check[key] for key in ("iou_keras", "iou_export", "iou_lost")}
    assert check["subsets"] == [{"subset": "b", "images": len(pairs)} | lost]


def test_a_dynamic_model_is_compared_at_the_photos_own_size_too(finished, small_exports):
    network = small_exports[0]
    """It is right at the size of the input, and turned round at any other."""
    config = load_config(finished)
    description = describe(config, format="onnx", size="dynamic", output_type="probability", quantize="none")

    def turned(photos):
        if photos.shape[1:3] == (32, 32):
            return network(photos).numpy()
        answer = 1 - network(exporting.as_trained(photos[0], description)[None]).numpy()[0, ..., 0]
        return cv2.resize(answer, photos.shape[2:0:-1], interpolation=cv2.INTER_LINEAR)[None, ..., None]

    manifest = read_manifest(config.data.csv_dir)
    (pair,) = drawn_pairs(manifest, {"b": manifest.valid}, 1, 0)
    check = compare(network, ExportedModel(description, turned), [pair])
    expected = network(exporting.as_trained(pair[1], description)[None]).numpy()
    assert check["largest_difference"] == 0
    assert check["largest_difference_resized"] == pytest.approx(np.abs(2 * expected - 1).max(), rel=0.3)
    assert check["mask_pixels_differing"] > 0.99


GOOD = {
    "images": 5,
    "largest_difference": 1e-5,
    "mean_difference": 1e-6,
    "mask_pixels_differing": 0,
    "iou_lost": 0.0,
}


@pytest.mark.parametrize(
    ("wrong", "quantize", "message"),
    [
        ({"largest_difference": 0.001}, "none", "largest difference 0.001, expected at most 0.0001"),
        ({"largest_difference": 0.06}, "float16", "largest difference 0.06, expected at most 0.05"),
        ({"largest_difference": float("nan")}, "none", "largest difference nan, expected at most 0.0001"),
        ({"mask_pixels_differing": 0.3}, "int8", "mask pixels differing 0.3, expected at most 0.05"),
        ({"iou_lost": 0.03}, "int8", "iou lost 0.03, expected at most 0.02"),
    ],
)
def test_each_limit_is_kept(finished, wrong, quantize, message):
    chosen = {"format": "tflite", "size": "fixed", "output_type": "probability", "quantize": quantize}
    description = describe(load_config(finished), **chosen)
    check_likeness(GOOD, description, 0.02)
    with pytest.raises(InputError, match=message):
        check_likeness(GOOD | wrong, description, 0.02)


def test_rows_are_drawn_evenly():
    tables = {name: pd.DataFrame({"images": range(size)}) for name, size in (("a", 50), ("b", 2), ("c", 9))}
    drawn = drawn_evenly(tables, 12, seed=0)
    counts = {name: sum(subset == name for subset, _ in drawn) for name in tables}
    assert counts == {"a": 5, "b": 2, "c": 5}
    assert len(set(drawn)) == 12
    assert drawn == drawn_evenly(tables, 12, seed=0) != drawn_evenly(tables, 12, seed=1)
    assert sorted(drawn_evenly(tables, 1000, seed=0)) == sorted(
        (k, r) for k, t in tables.items() for r in t.index
    )


def test_ranges_are_taken_from_training_photos(finished, network, tmp_path, monkeypatch):
    """What int8 is fitted to: photos of all subsets, as the network sees them."""
    seen = []

    def writer(network, description, folder, photos):
        seen.extend(photos)
        return export_formats.write_tflite(network, description, folder, seen)

    monkeypatch.setitem(export_formats.WRITERS, "tflite", writer)
    more = ["--quantize", "int8", "--representative_images", 6, "--most_iou_lost", 1]
    assert export_model.main(words(finished, tmp_path / "export", "tflite", *more)) == DONE
    assert len(seen) == 6 and all(photo.shape == (32, 32, 3) and photo.dtype == np.uint8 for photo in seen)


@contextlib.contextmanager
def nothing_changes(folder):
    """Fails if the content of a folder is another afterwards."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_is_only_replaced_when_told(finished, network, tmp_path, capsys):
    folder = tmp_path / "export"
    assert export_model.main(words(finished, folder, "savedmodel", "--size", "fixed")) == DONE
    with nothing_changes(tmp_path):
        assert export_model.main(words(finished, folder, "tflite")) == WRONG_INPUT
    assert (
        "holds an export. Choose another folder, or pass --overwrite to replace it."
        in capsys.readouterr().err
    )
    assert export_model.main(words(finished, folder, "tflite", "--overwrite")) == DONE
    assert {path.name for path in folder.iterdir()} == {DESCRIPTION, CHECK, CARD, "model.tflite"}
    (folder / "notes.txt").write_text("mine")
    with nothing_changes(tmp_path):
        assert export_model.main(words(finished, folder, "tflite", "--overwrite")) == WRONG_INPUT
    assert "holds files that are not an export; choose another folder" in capsys.readouterr().err


def test_outputs_that_are_no_folder_are_refused(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert export_model.main(words(finished, tmp_path / "file", "tflite")) == WRONG_INPUT
    assert "file is not a folder; choose another name" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert export_model.main(words(finished, tmp_path / "link", "tflite")) == WRONG_INPUT
    assert export_model.main(words(finished, finished, "tflite", "--overwrite")) == WRONG_INPUT
    assert "holds files that are not an export" in capsys.readouterr().err


def test_options_that_do_not_fit_are_refused_together(finished, tmp_path, capsys):
    more = ["--quantize", "int8", "--check_images", 0, "--most_iou_lost", 2, "--seed", -1]
    assert export_model.main(words(finished, tmp_path / "export", "onnx", *more)) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "quantize int8 is for --format tflite, got --format onnx" in message
    assert "check_images must be greater than 0, got 0" in message
    assert "most_iou_lost must be in [0, 1], got 2.0" in message and "seed must not be negative" in message
    assert export_model.main(words(finished, tmp_path / "e", "tflite", "--size", "dynamic")) == WRONG_INPUT
    assert "size dynamic is not for tflite" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(finished, tmp_path, stub, capsys):
    stub("segbalance.exporting.exported_model.importlib.util.find_spec", lambda name: None)
    assert export_model.main(words(finished, tmp_path / "export", "onnx")) == WRONG_INPUT
    assert (
        "needs the package tf2onnx, onnx, onnxruntime, which is not installed: pip" in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_is_an_error(finished, tmp_path, capsys):
    assert export_model.main(["--work_dir", tmp_path, "--format", "onnx"]) == WRONG_INPUT
    assert "has no config.yaml; expected the folder of a run" in capsys.readouterr().err
    shutil.copy(finished / "config.yaml", tmp_path)
    assert export_model.main(["--work_dir", tmp_path, "--format", "tflite"]) == WRONG_INPUT
    assert "best.weights.h5 does not exist; expected the weights of a finished run" in capsys.readouterr().err


def test_exports_have_folders_of_their_own(tmp_path):
    def name(*options):
        return export_model.ExportOptions(str(tmp_path), *options).folder().relative_to(tmp_path).as_posix()

    assert name("onnx") == "exports/onnx-dynamic"
    assert name("tflite", None, None, "mask", "int8") == "exports/tflite-fixed-mask-int8"
    assert name("savedmodel", None, "fixed") == "exports/savedmodel-fixed"
