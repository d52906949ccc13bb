"""scripts/evaluate.py: what it writes is what training measured, on any table, and mistakes are answered."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from segbalance.commands import evaluate
from segbalance.data_processing.manifest import read_manifest, read_table
from segbalance.evaluation.gates import BELOW
from segbalance.prediction.predictor import RunPredictor
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config_file import CONFIG, load_config
from segbalance.train.folder import best_epoch, read_history
from tests.support.data import copied_run


@pytest.fixture(scope="module")
def predict(finished):
    return RunPredictor(finished)


@pytest.fixture
def copied(finished, tables, tmp_path):
    """A copy of the finished run whose manifests may be changed too, in `manifests` beside it."""
    folder = copied_run(finished, tmp_path / "run")
    shutil.copytree(tables, tmp_path / "manifests")
    config = yaml.safe_load((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(yaml.safe_dump(config | {"csv_dir": str(tmp_path / "manifests")}))
    return folder


@pytest.fixture
def run_folder(copied, predict, stub):
    """The copy, whose network is built once for all tests."""
    stub("segbalance.prediction.predictor.RunPredictor", lambda work_dir: predict)
    return copied


def scores(folder, *words, name="valid"):
    assert evaluate.main(["--work_dir", folder, *words]) == DONE
    return json.loads((folder / f"evaluation_{name}.json").read_text())


def test_the_scores_are_exactly_those_of_the_best_epoch(finished, run_folder):
    """Once as train.py has evaluated at its end, and once by the command."""
    best, metrics = best_epoch(read_history(finished)), json.loads((finished / "metrics.json").read_text())
    for report in (json.loads((finished / "evaluation_valid.json").read_text()), scores(run_folder)):
        for name in ("iou", "f1", "precision", "recall"):
            assert report["all"][name] == best[f"val_{name}"] == metrics[name]
        rows = {row["subset"]: row for row in report["subsets"]}
        assert [rows[name]["images"] for name in "abc"] == [2, 3, 0]
        for subset in "ab":
            assert rows[subset]["iou"] == best[f"val_iou_{subset}"]
            assert rows[subset]["f1"] == best[f"val_f1_{subset}"]
        assert rows["c"]["iou"] is None and report["subsets"][-1] == rows["c"]
        assert report["split"] == "valid" and report["threshold"] == 0.5 and report["image_size"] == 32


def test_the_table_has_a_row_an_image(run_folder):
    report = scores(run_folder)
    rows = pd.read_csv(run_folder / "evaluation_valid.csv", dtype={"subset": str})
    manifest = read_manifest(load_config(run_folder).data.csv_dir)
    assert rows["images"].tolist() == manifest.valid["images"].tolist()
    assert rows["subset"].tolist() == list("aabbb")
    true, false, missed = rows[["true_positives", "false_positives", "false_negatives"]].sum()
    assert report["all"]["iou"] == pytest.approx(true / (true + false + missed))
    np.testing.assert_allclose(
        rows["true_coverage"], (rows["true_positives"] + rows["false_negatives"]) / 32**2
    )
    np.testing.assert_allclose(rows["true_coverage"], manifest.valid["coverage"], atol=0.02)
    assert rows["boundary_iou"].between(0, 1).all()
    assert report["worst"][0]["iou"] == rows["iou"].min() and len(report["worst"]) == 5


def test_what_is_printed(run_folder, capsys):
    report = scores(run_folder)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].split()[:4] == ["subset", "images", "IoU", "F1"]
    weakest = report["subsets"][0]
    assert lines[1].split()[:3] == [weakest["subset"], str(weakest["images"]), f"{weakest['iou']:.3f}"]
    assert f"({weakest['iou_low']:.3f} to {weakest['iou_high']:.3f})" in lines[1]
    assert lines[3].split()[:3] == ["c", "0", "-"] and lines[4].split()[0] == "all"
    assert "95% bootstrap intervals over the images" in printed
    assert "empty masks: nothing to find and nothing found scores 1, any other 0/0 scores 0" in printed
    assert "the best for IoU on these images would be" in printed
    worst = printed[printed.index("worst 5 images") :].splitlines()
    assert worst[2].split()[-1] == report["worst"][0]["images"]


def test_another_batch_size_counts_the_same_images(run_folder):
    first, other = scores(run_folder), scores(run_folder, "--batch_size", 1)
    assert first["all"]["images"] == other["all"]["images"] == 5
    assert other["all"]["iou"] == pytest.approx(first["all"]["iou"], abs=1e-3)


def test_the_test_split_and_its_best_threshold(run_folder, capsys):
    words = ["--work_dir", run_folder, "--split", "test"]
    assert evaluate.main(words) == WRONG_INPUT
    assert "test.csv does not exist; expected a table with a column images" in capsys.readouterr().err
    manifests = run_folder.parent / "manifests"
    table = pd.read_csv(manifests / "traina.csv")
    table.to_csv(manifests / "test.csv", index=False)
    assert evaluate.main([*words, "--threshold", "best"]) == WRONG_INPUT
    way_out = f"Make it first: python scripts/evaluate.py --work_dir {run_folder}"
    assert f"evaluation_valid.json does not exist. {way_out}" in capsys.readouterr().err
    valid = scores(run_folder)
    report = scores(run_folder, *words[2:], "--threshold", "best", name="test")
    assert report["threshold"] == valid["best_threshold"]["threshold"]
    assert report["all"]["images"] == 6 and report["split"] == "test"
    assert [row["subset"] for row in report["subsets"]] == ["a", "b", "c"]
    assert valid == json.loads((run_folder / "evaluation_valid.json").read_text())
    assert report["fingerprint"] != valid["fingerprint"]


def test_a_threshold_chosen_on_the_same_images_is_noted(run_folder, capsys):
    scores(run_folder)
    assert "flatters" not in capsys.readouterr().out
    report = scores(run_folder, "--threshold", "best")
    assert "was chosen on these very images, which flatters the scores" in capsys.readouterr().out
    assert report["all"]["iou"] == pytest.approx(report["best_threshold"]["iou"], abs=1e-12)
    assert report["all"]["iou"] >= scores(run_folder)["all"]["iou"]


def test_any_table_can_be_scored(run_folder, tmp_path, capsys):
    """A table with images alone: the masks are found in the folders, their encoding in the run's manifest."""
    rows = read_table(tmp_path / "manifests/valid.csv")
    rows[["images"]].iloc[1:4].to_csv(tmp_path / "any.csv", index=False)
    report = scores(run_folder, "--csv", tmp_path / "any.csv", name="csv_any")
    valid = scores(run_folder)
    assert report["all"]["images"] == 3 and report["csv"] == str(tmp_path / "any.csv")
    assert {row["subset"]: row["images"] for row in report["subsets"]} == {"a": 1, "b": 2, "c": 0}
    own = {row["images"]: row["iou"] for row in valid["worst"]}
    assert all(own[row["images"]] == pytest.approx(row["iou"], abs=0.02) for row in report["worst"])
    (tmp_path / "any.csv").write_text("images\nnowhere.png\n")
    assert evaluate.main(["--work_dir", run_folder, "--csv", tmp_path / "any.csv"]) == WRONG_INPUT
    assert "any.csv line 2: images is 'nowhere.png', but" in capsys.readouterr().err
    (tmp_path / "any.csv").write_text("images\n")
    assert evaluate.main(["--work_dir", run_folder, "--csv", tmp_path / "any.csv"]) == WRONG_INPUT
    assert "manifests without rows: 1" in capsys.readouterr().err
    assert evaluate.main(["--work_dir", run_folder, "--csv", tmp_path / "none.csv"]) == WRONG_INPUT
    assert "none.csv does not exist" in capsys.readouterr().err


def test_a_table_with_its_own_manifest_is_read_by_it(run_folder, manifests, tmp_path, capsys):
    """Its masks hold 0 and 7, which its manifest.json says."""
    import cv2

    from segbalance.commands import prepare

    root, csv_dir = manifests
    for mask in root.rglob("masks/*/*.png"):
        pixels = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(mask), (pixels > 0).astype(np.uint8) * 7)
    assert prepare.main(["--data_root", root, "--csv_dir", csv_dir, "--overwrite"]) == DONE
    report = scores(run_folder, "--csv", csv_dir / "valid.csv", name="csv_valid")
    assert report["all"]["images"] == 6 and report["data_root"] == str(root.resolve())
    rows = pd.read_csv(run_folder / "evaluation_csv_valid.csv")
    assert (rows["true_coverage"] > 0).all(), "the masks were read"


def test_outputs_where_they_are_wanted(run_folder, tmp_path):
    words = ["--json", tmp_path / "new/s.json", "--csv_output", tmp_path / "new/s.csv"]
    assert evaluate.main(["--work_dir", run_folder, *words]) == DONE
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"s.json", "s.csv"}
    assert not (run_folder / "evaluation_valid.json").exists()


def test_a_photo_that_has_gone_bad_is_an_error(run_folder, stub, capsys):
    def damaged(self, path, *_):
        raise OSError(f"{path} cannot be decoded")

    stub("segbalance.dataloader.pair_cache.PairReader.read", damaged)
    assert evaluate.main(["--work_dir", run_folder]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert re.search(r"subset [ab], .*valid\.csv line \d: .*\.png cannot be decoded", message)
    assert "make the manifests again." in message and "--on_bad_file" not in message
    assert not list(run_folder.glob("evaluation*"))


def test_a_damaged_evaluation_is_an_error(copied, capsys):
    for text in ("{", "[]", '{"all": 1}', '{"best_threshold": {"threshold": 0.4}}'):
        (copied / "evaluation_valid.json").write_text(text)
        assert evaluate.main(["--work_dir", copied, "--threshold", "best"]) == WRONG_INPUT
        assert "evaluation_valid.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--threshold", "1"], "threshold must be best, or from 0 up to but not including 1; got 1.0"),
        (["--threshold", "worst"], "threshold"),
        (["--batch_size", "0"], "batch_size must be greater than 0, got 0"),
        (
            ["--split", "test", "--csv", "x.csv"],
            "--csv and --split exclude each other; give only one of them",
        ),
        ([], "has no config.yaml; expected the folder of a run"),
    ],
)
def test_wrong_options(words, message, tmp_path, capsys):
    assert evaluate.main(["--work_dir", tmp_path, *words]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("gates", "status"), [(["iou=0", "worst_iou=0"], DONE), (["iou=0", "worst_f1=1"], BELOW)]
)
def test_scores_below_a_gate_end_with_status_3_and_all_is_written(gates, status, run_folder, capsys):
    words = ["--work_dir", run_folder, "--csv_output", run_folder / "images.csv"]
    assert evaluate.main([*words, "--fail_below", *gates]) == status
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert re.match(r"iou: got 0\.\d{4}, expected at least 0: passed$", lines[0])
    assert re.match(r"worst_\w+: got 0\.\d{4} \(subset [ab]\), expected at least [01]: ", lines[1])
    assert json.loads((run_folder / "evaluation_valid.json").read_text())["all"]["images"] == 5
    assert len(read_table(run_folder / "images.csv")) == 5


def test_gates_are_looked_at_before_the_scores(copied, stub, capsys):
    stub.never("segbalance.prediction.predictor.RunPredictor")
    assert evaluate.main(["--work_dir", copied, "--fail_below", "dice=0.5"]) == WRONG_INPUT
    assert "fail_below dice: there is no such score of this run; known: iou, f1," in capsys.readouterr().err
