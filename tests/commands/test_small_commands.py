"""The small commands: each starts from any directory, answers mistakes, and makes what it says."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from scripts.benchmarks import scale as benchmark_scale
from segbalance.commands import contact_sheet
from segbalance.commands import preview as preview_balance
from segbalance.data_processing.manifest import read_manifest
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from tests.support.places import ROOT

COMMANDS = [
    "data_processing.py",
    "train.py",
    *sorted(f"scripts/{p.name}" for p in (ROOT / "scripts").glob("*.py")),
]
# Of the others, the tests of their own run main().
SAMPLE_OF_COMMANDS = ("train.py", "scripts/predict.py", "scripts/compare_balance.py")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in SAMPLE_OF_COMMANDS)) for name in COMMANDS],
)
def test_every_command_has_help_from_any_directory(name, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / name, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == DONE, done.stderr
    assert "usage:" in done.stdout and "default:" in done.stdout


def test_the_contact_sheet_shows_every_validation_subset(finished, tmp_path):
    output = tmp_path / "new" / "sheet.png"
    assert (
        contact_sheet.main(["--work_dir", finished, "--output", output, "--columns", 2, "--tile", 60]) == DONE
    )
    sheet = cv2.imread(str(output), cv2.IMREAD_COLOR_RGB)
    # A legend, then a label and a row of tiles for each of the subsets a and b.
    assert sheet.shape == (22 + 2 * (22 + 60), 120, 3)
    assert (sheet == contact_sheet.TRUE).all(-1).any(), "the outlines of the masks are drawn"


def test_outlines_lie_where_the_masks_are():
    image = np.full((40, 80, 3), 90, np.uint8)
    true, predicted = np.zeros((40, 80), bool), np.zeros((40, 80), bool)
    true[10:20, 10:20] = True
    predicted[25:35, 50:70] = True
    drawn = contact_sheet.outlined(image, true, predicted, 80)
    rows, columns = np.nonzero((drawn == contact_sheet.TRUE).all(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 10, 19)
    rows, columns = np.nonzero((drawn == contact_sheet.PREDICTED).all(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 34, 50, 69)
    assert (drawn[40:] == 255).all(), "a wide photo leaves the rest of its square white"


def test_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert contact_sheet.main(["--work_dir", tmp_path]) == WRONG_INPUT
    assert "has no config.yaml; expected the folder of a run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--columns", "--tile"])
def test_a_sheet_without_size_is_an_error(option, tmp_path, capsys):
    assert contact_sheet.main(["--work_dir", tmp_path, option, "0"]) == WRONG_INPUT
    assert "must be greater than 0, got 0" in capsys.readouterr().err


def test_the_preview_shows_every_strategy(tables, tmp_path, capsys):
    picture, machine = tmp_path / "new" / "balance.png", tmp_path / "balance.json"
    options = ["--csv_dir", tables, "--output", picture, "--json", machine]
    options += ["--batch_size", 4, "--steps_per_epoch", 5, "--epochs", 50]
    more = ["--balance", "shares", "--shares", '{"a": 1, "default": 2}', "--loss_weights", "subset"]
    assert preview_balance.main([*options, *more]) == DONE
    printed = capsys.readouterr().out
    content = json.loads(machine.read_text())
    titles = list(dict.fromkeys(row["strategy"] for row in content["strategies"]))
    strategies = ["uniform", "none", "power", "shares", "oversample", "exact", "loss", "pixel"]
    assert titles == ["shares + subset weights", *strategies]
    assert all(f"\n{title}\n" in f"\n{printed}" for title in titles)
    # a: 1/5 of 5 steps of 4 draws.
    assert content["strategies"][0]["draws_per_epoch"] == pytest.approx(20 / 5)
    # c ends after 3 * 50 = 150 draws, epoch 15; b after 100 left / (1/2) = 200 more, epoch 35.
    assert [round(row["epoch"], 6) for row in content["finite_recipe"]] == [0, 15, 35]
    assert "epoch 15.0 of 50: subset c has run dry, share 0% from here on; a, b get 50% each" in printed
    assert "epoch 35.0 of 50: subset b has run dry, share 0% from here on; a gets every draw" in printed
    sheet = cv2.imread(str(picture))
    assert sheet.shape[0] > 500 and (sheet != 255).mean() > 0.05


def test_the_preview_leaves_out_what_the_options_do_not_allow(tables, tmp_path, capsys):
    options = ["--csv_dir", tables, "--output", tmp_path / "balance.png", "--batch_size", 2]
    assert preview_balance.main(options) == DONE
    printed = f"\n{capsys.readouterr().out}"
    assert "\nshares\n" not in printed and "\nexact\n" not in printed and "\noversample\n" in printed


def test_the_preview_refuses_what_training_refuses(tables, tmp_path, capsys):
    options = ["--csv_dir", tables, "--output", tmp_path / "balance.png", "--balance", "exact"]
    assert preview_balance.main([*options, "--batch_size", 2]) == WRONG_INPUT
    assert "one place for each of the 3 subsets" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_wrong_input(tables, tmp_path, capsys):
    assert preview_balance.main(["--csv_dir", tables, "--output", tmp_path]) == WRONG_INPUT
    assert f"{tmp_path} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("image_type", ["png", pytest.param("jpg", marks=pytest.mark.slow)])
def test_the_growth_with_the_data_is_measured_and_drawn(image_type, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    words = ["--pairs", 10, 20, "--image_type", image_type, "--folder", tmp_path / "data"]
    outputs = ["--json", tmp_path / "scale.json", "--output", tmp_path / "scale.png"]
    assert benchmark_scale.main([*words, *outputs]) == DONE
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
    monkeypatch.setattr(benchmark_scale, "RENDERED", 8)
    options = benchmark_scale.ScaleOptions(pairs=[60], image_size=32)
    written = benchmark_scale.write_pairs(tmp_path, 60, options)
    assert len({Path(image).read_bytes() for image, _ in written}) == 60


@pytest.mark.slow
def test_training_is_measured_to_its_first_batch_and_on(tmp_path, capsys):
    earlier = {"subject": "manifests", "pairs": 10, "seconds": 3.0, "limit_pairs_per_s": 5.0}
    (tmp_path / "earlier.json").write_text(json.dumps([earlier | {"peak_mb": 90.0, "all_mb": 99.0}]))
    (tmp_path / "data").mkdir()
    words = ["--subject", "train", "--pairs", 20, "--steps", 30, "--folder", tmp_path / "data"]
    outputs = ["--json", tmp_path / "scale.json", "--output", tmp_path / "scale.png"]
    assert benchmark_scale.main([*words, *outputs, "--earlier", tmp_path / "earlier.json"]) == DONE
    (row,) = json.loads((tmp_path / "scale.json").read_text())
    assert (row["subject"], row["pairs"]) == ("train", 20)
    assert row["seconds"] > 2 and row["cpu_s"] > 2 and row["all_mb"] >= row["peak_mb"] > 300
    assert row["late_over_early"] == pytest.approx(row["late_mb"] / row["early_mb"])
    assert 0.8 < row["late_over_early"] < 1.5 and row["early_mb"] > 300
    assert cv2.imread(str(tmp_path / "scale.png")).shape[1] == 1100
    assert "late_over_early" in capsys.readouterr().out
    assert list((tmp_path / "data").iterdir()) == [], "the data was deleted"


def test_manifests_of_the_scale_benchmark_are_real_and_cheap(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_scale, "RENDERED", 8)
    options = benchmark_scale.ScaleOptions(subject="train", pairs=[200], image_size=32)
    benchmark_scale.write_manifests(tmp_path, 200, options)
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
        benchmark_scale.watch_training([program])


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
    figures = benchmark_scale.watch_training([program], (2, 4))
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
    assert benchmark_scale.main(words) == WRONG_INPUT
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_reaches_its_scores(seed, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/demo.py", "--seed", str(seed), "--output", tmp_path], timeout=1200
    )
    assert done.returncode == DONE
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert 0.80 <= metrics["iou"] < 0.99
    assert min(row["iou"] for row in metrics["subsets"]) >= 0.60
