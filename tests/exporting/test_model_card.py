"""The card says what the run's files say, and nothing of the machine that made it."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from segbalance.data_processing.manifest import read_manifest
from segbalance.errors import InputError
from segbalance.exporting.export import describe
from segbalance.exporting.model_card import EVALUATION, cell, model_card, table, usage
from segbalance.train.config_file import CONFIG, load_config
from segbalance.train.folder import BEST, METRICS

IOUS = {"iou_keras": 0.7512, "iou_export": 0.75, "iou_lost": 0.0012}
CHECK = {
    "images": 4,
    "largest_difference": 0.012345,
    "mean_difference": 0.001,
    "largest_difference_resized": None,
    "mask_pixels_differing": 0.0123,
    **IOUS,
    "subsets": [{"subset": "a", "images": 2, **IOUS}, {"subset": "b", "images": 2, **IOUS}],
    "megabytes": 12.34,
}


@pytest.fixture
def run(finished, tmp_path):
    """(config, manifest) of a copy of the finished run that a test may change."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (CONFIG, METRICS):
        shutil.copy(finished / name, folder)
    (folder / BEST).write_bytes(b"weights")
    config = load_config(folder).replace(work_dir=str(folder))
    return config, read_manifest(config.data.csv_dir, config.data.data_root)


def description_of(config, **changes):
    """The ExportDescription of an int8 TFLite export, with some values changed."""
    chosen = {"format": "tflite", "size": "fixed", "output_type": "probability", "quantize": "int8"}
    return describe(config, **chosen | changes)


def section(card, name):
    """The text under one heading."""
    return card.split(f"\n## {name}\n")[1].split("\n## ")[0]


def test_the_card_repeats_the_runs_numbers(run, finished):
    card = model_card(*run, description_of(run[0]), CHECK)
    metrics = json.loads((finished / METRICS).read_text())
    scores = section(card, "Scores")
    for row in metrics["subsets"]:
        shown = [cell(row[key]) for key in ("subset", "images", "valid", "iou", "f1")]
        assert f"| {' | '.join(shown)} |" in scores
    assert f"| all |  |  | {metrics['iou']:.3f} | {metrics['f1']:.3f} |" in scores
    assert f"best epoch, {metrics['epoch']}" in scores
    data = section(card, "Data")
    assert "| a | 6 | 2 |" in data and "| c | 1 | 0 |" in data and "| all | 10 | 5 |" in data
    assert run[0].filled_in.fingerprint in data and run[1].fingerprint in data
    assert "The manifests are the run's." in data
    compared = section(card, "Compared with the trained network")
    assert "| all | 4 | 0.7512 | 0.7500 | 0.0012 |" in compared
    assert "Largest difference of the probabilities 0.012." in compared
    assert "1.23% of the mask pixels differ, at the size of the input." in compared
    assert "    backbone: resnet18\n" in card and "    seed: 0\n" in card
    assert f"| weights | `{BEST}`, SHA-256 {hashlib.sha256(b'weights').hexdigest()} |" in card
    assert "`model.tflite`, 12.3 MB" in card and "uint8, 256 times the probability of foreground" in card


def test_what_resizing_costs_is_said_where_the_model_resizes(run):
    check, description = CHECK | {"largest_difference_resized": 0.23}, description_of(run[0], size="dynamic")
    compared = section(model_card(*run, description, check), "Compared with the trained network")
    assert "With the resizing inside the model: 0.23." in compared
    assert "of the mask pixels differ, at the photos' own size." in compared


def test_the_card_does_not_say_where_it_was_made(run):
    card = model_card(*run, description_of(run[0]), CHECK)
    for place in (
        run[0].run.work_dir,
        run[0].data.csv_dir,
        str(run[1].data_root),
        str(run[1].data_root.parent),
    ):
        assert place not in card
    assert "Folder `data`" in card


def test_manifests_that_changed_are_told(run):
    config = run[0].replace(fingerprint="0" * 64)
    assert "no longer the run's" in model_card(config, run[1], description_of(config), CHECK)


def test_weak_and_unknown_subsets_are_limits(run):
    place = f"{run[0].run.work_dir}/{METRICS}"
    rows = [{"subset": "a", "iou": 0.9}, {"subset": "b", "iou": 0.7}, {"subset": "c", "iou": None}]
    with open(place, "w") as file:
        json.dump({"epoch": 3, "iou": 0.8, "f1": 0.9, "subsets": rows}, file)
    limits = section(model_card(*run, description_of(run[0]), CHECK), "Limits")
    assert "Subset b is weak: IoU 0.700, all together 0.800." in limits
    assert "Subset c has no validation images" in limits and "Subset a" not in limits
    assert "8-bit numbers" in limits
    other = model_card(*run, description_of(run[0], quantize="none"), CHECK)
    assert "8-bit numbers" not in section(other, "Limits")


def test_an_evaluation_is_shown_if_there_is_one(run):
    assert EVALUATION not in model_card(*run, description_of(run[0]), CHECK)
    row = {
        "images": 2,
        "iou": 0.5,
        "iou_low": 0.4,
        "iou_high": 0.6,
        "f1": 0.66,
        "precision": 0.7,
        "recall": 0.6,
    }
    with open(f"{run[0].run.work_dir}/{EVALUATION}", "w") as file:
        json.dump({"all": row | {"iou": 0.55}, "subsets": [{"subset": "b"} | row]}, file)
    scores = section(model_card(*run, description_of(run[0]), CHECK), "Scores")
    assert "| b | 2 | 0.500 | 0.400 | 0.600 | 0.660 | 0.700 | 0.600 |" in scores
    assert "| all | 2 | 0.550 | 0.400 |" in scores


@pytest.mark.parametrize(
    ("task", "score", "head", "rows", "last"),
    [
        (
            "segmentation", "iou", "| class | IoU | from | to | F1 | precision | recall | true share |",
            ["| cat | 0.500 | 0.400 | 0.600 | 0.600 | 0.700 | 0.800 | 0.900 |", "| mean | 0.250 |"],
            "| all | 7 | 0.250 | 0.110 | 0.220 |",
        ),
        (
            "classification", "f1", "| class | F1 | from | to | precision | recall | true share |",
            ["| cat | 0.500 | 0.400 | 0.600 | 0.700 | 0.800 | 0.900 |", "| mean | 0.250 |"],
            "Accuracy 0.110, balanced accuracy 0.220.",
        ),
    ],
)  # fmt: skip
def test_the_scores_of_classes_are_shown(run, task, score, head, rows, last):
    colours = ["#000000", "#ff0000"]
    changes = {"task": task, "classes": ["cat", "dog"], "class_colours": colours, "decoder_filters": []}
    config = run[0].replace(**changes)
    both = {"f1": 0.6, "precision": 0.7, "recall": 0.8, "true_share": 0.9}
    cat = {"class": "cat"} | both | {score: 0.5, f"{score}_low": 0.4, f"{score}_high": 0.6}
    everything = {"images": 7, score: 0.25, "accuracy": 0.11, "balanced_accuracy": 0.22, "classes": [cat]}
    with open(f"{config.run.work_dir}/{EVALUATION}", "w") as file:
        json.dump({"all": everything, "subsets": []}, file)
    balanced = {"keras": 0.9, "export": 0.8, "lost": 0.1}
    check = CHECK | {"labels_differing": 0.5, "subsets": []}
    check |= {f"balanced_accuracy_{kind}": value for kind, value in balanced.items()}
    card = model_card(config, run[1], description_of(config, quantize="none"), check)
    scores = section(card, "Scores")
    for line in (head, *rows, last):
        assert line in scores
    if task == "classification":
        compared = section(card, "Compared with the trained network")
        assert "| all | 4 | 0.9000 | 0.8000 | 0.1000 |" in compared and "50.00% of the labels" in compared


@pytest.mark.parametrize("content", ["{", "[]", '{"subsets": 3}', '{"subsets": [3]}'])
def test_damaged_scores_are_an_error(run, content):
    with open(f"{run[0].run.work_dir}/{METRICS}", "w") as file:
        file.write(content)
    with pytest.raises(InputError, match=r"metrics.json( cannot be read|: expected a JSON object)"):
        model_card(*run, description_of(run[0]), CHECK)


def test_a_run_without_scores_has_a_card(run):
    Path(run[0].run.work_dir, METRICS).unlink()
    assert "The run has no metrics.json." in model_card(*run, description_of(run[0]), CHECK)


def test_names_cannot_break_the_table():
    assert table(["a"], [["x|y\n<script>"]]) == "| a |\n| --- |\n| x\\|y &lt;script> |"
    assert cell(None) == "" and cell(0.12345) == "0.123" and cell(7) == "7"


@pytest.mark.parametrize("size", ["dynamic", "fixed"])
@pytest.mark.parametrize("file_format", ["savedmodel", "tflite", "onnx"])
def test_the_use_is_a_few_lines(finished, file_format, size):
    lines = usage(description_of(load_config(finished), format=file_format, size=size)).splitlines()
    assert max(map(len, lines)) <= 110
    assert len(lines) <= (7 if size == "dynamic" else 10)
