"""The growth with the data: its figures, the sets that it makes, and the programs that it watches."""

import json
from pathlib import Path

import cv2
import pytest

from scripts.benchmarks import large_data, scale, watching
from segbalance.data_processing.manifest import read_manifest
from segbalance.runtime.command_line import DONE, WRONG_INPUT


@pytest.mark.parametrize("image_type", ["png", pytest.param("jpg", marks=pytest.mark.slow)])
def test_the_growth_with_the_data_is_measured_and_drawn(image_type, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    words = ["--pairs", 10, 20, "--image_type", image_type, "--folder", tmp_path / "data"]
    outputs = ["--json", tmp_path / "scale.json", "--output", tmp_path / "scale.png"]
    assert scale.main([*words, *outputs]) == DONE
    rows = json.loads((tmp_path / "scale.json").read_text())
    assert [(row["subject"], row["pairs"]) for row in rows] == [("manifests", 10), ("manifests", 20)]
    for row in rows:
        assert row["pairs_per_s"] == pytest.approx(row["pairs"] / row["seconds"])
        assert row["ratio"] == pytest.approx(row["pairs_per_s"] / row["limit_pairs_per_s"])
        assert row["all_mb"] >= row["peak_mb"] > 50 and row["cpu_s"] > 0
    assert "limit_pairs_per_s" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "scale.png")).shape[1] == 1100
    assert list((tmp_path / "data").iterdir()) == [], "the data was deleted"


def test_pairs_of_the_benchmark_all_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(large_data, "RENDERED", 8)
    options = scale.ScaleOptions(pairs=[60], image_size=32)
    written = large_data.write_pairs(tmp_path, 60, options)
    assert len({Path(image).read_bytes() for image, _ in written}) == 60


@pytest.mark.slow
def test_training_is_measured_to_its_first_batch_and_on(tmp_path, capsys):
    earlier = {"subject": "manifests", "pairs": 10, "seconds": 3.0, "limit_pairs_per_s": 5.0}
    (tmp_path / "earlier.json").write_text(json.dumps([earlier | {"peak_mb": 90.0, "all_mb": 99.0}]))
    (tmp_path / "data").mkdir()
    words = ["--subject", "train", "--pairs", 20, "--steps", 30, "--folder", tmp_path / "data"]
    outputs = ["--json", tmp_path / "scale.json", "--output", tmp_path / "scale.png"]
    assert scale.main([*words, *outputs, "--earlier", tmp_path / "earlier.json"]) == DONE
    (row,) = json.loads((tmp_path / "scale.json").read_text())
    assert (row["subject"], row["pairs"]) == ("train", 20)
    assert row["seconds"] > 2 and row["cpu_s"] > 2 and row["all_mb"] >= row["peak_mb"] > 300
    assert row["late_over_early"] == pytest.approx(row["late_mb"] / row["early_mb"])
    assert 0.8 < row["late_over_early"] < 1.5 and row["early_mb"] > 300
    assert cv2.imread(str(tmp_path / "scale.png")).shape[1] == 1100
    assert "late_over_early" in capsys.readouterr().out
    assert list((tmp_path / "data").iterdir()) == [], "the data was deleted"


def test_manifests_of_the_scale_benchmark_are_real_and_cheap(tmp_path, monkeypatch):
    monkeypatch.setattr(large_data, "RENDERED", 8)
    options = scale.ScaleOptions(subject="train", pairs=[200], image_size=32)
    large_data.write_manifests(tmp_path, 200, options)
    manifest = read_manifest(tmp_path / "csv_file")
    images = [path for table in manifest.train.values() for path in table["images"]]
    assert len(set(images)) == len(images) == 200 and len(manifest.valid) == 20
    assert list(manifest.train) == list("01234") and manifest.notes == ()
    assert sum(not path.is_symlink() for path in tmp_path.rglob("*.png")) == 16
    row = manifest.train["0"].iloc[100]
    mask = manifest.encoding.read(manifest.data_root / row["masks"])
    assert row["coverage"] == pytest.approx(mask.mean(), rel=1e-5) and mask.shape == (32, 32)


def test_training_that_fails_ends_the_benchmark(tmp_path):
    program = tmp_path / "fails.py"
    program.write_text("print('no such luck'); raise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"fails.py ended with status 3: (?s:.*)no such luck"):
        watching.watch_training([program])


def test_steps_are_read_off_the_progress_bar(tmp_path):
    program = tmp_path / "bar.py"
    program.write_text(
        "import sys, time\n"
        "print('Epoch 1/1')\n"
        "print('<first batch>', flush=True)\n"
        "time.sleep(0.5)\n"
        "held = []\n"
        "for step in range(1, 5):\n"
        "    sys.stdout.write(f'\\r {step}/9 [=>....] - loss: 0.5'); sys.stdout.flush()\n"
        "    time.sleep(0.4)\n"
        "    held.append(bytearray(b'x') * 50_000_000)\n"
        "    time.sleep(0.4)\n"
    )
    figures = watching.watch_training([program], (2, 4))
    assert 0 < figures["seconds"] < figures["first_step_s"] - 0.3 < 20
    # The highest of step 2 is that of two blocks; it ends at the beginning of step 4, with three.
    assert figures["late_mb"] - figures["early_mb"] == pytest.approx(50_000_000 / 2**20, rel=0.1)
    assert figures["peak_mb"] < figures["early_mb"], "the peak is that of the first step"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--steps", "9"], "steps must be at least 10, got 9; try 2000"),
        (["--earlier", "nowhere.json"], "--earlier nowhere.json: there is no such file"),
        (["--pairs", "9"], "pairs must lie between 10 and 1048576, got 9"),
        (["--image_size", "8"], "image_size must be at least 16, got 8; try 64"),
        (["--folder", "nowhere"], "--folder nowhere: there is no such folder"),
    ],
)
def test_wrong_options_of_the_scale_benchmark(words, message, capsys):
    assert scale.main(words) == WRONG_INPUT
    assert capsys.readouterr().err == f"error: {message}\n"
