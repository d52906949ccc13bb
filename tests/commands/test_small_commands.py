"""The small commands: each starts from any directory, answers mistakes, and makes what it says."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from segbalance.commands import contact_sheet
from segbalance.commands import preview as preview_balance
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
    assert "one image of each of the 3 subsets" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_wrong_input(tables, tmp_path, capsys):
    assert preview_balance.main(["--csv_dir", tables, "--output", tmp_path]) == WRONG_INPUT
    assert f"{tmp_path} cannot be written" in capsys.readouterr().err


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
