"""The page of files names the columns, keys and files that a real run writes."""

import json
import re

import pandas as pd
import pytest

from segbalance.balancing.skipping import SkippedDraw
from segbalance.data_processing.tasks import CLASSIFICATION
from segbalance.prediction.output import outcome_columns
from segbalance.train.folder import history_row
from tests.support.site_pages import PAGES

PAGE = PAGES["reference/files.md"]


def table(heading):
    """The first cells of the table below a heading, without their code marks."""
    section = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^#)", PAGE + "\n#", re.M | re.S)[1]
    return re.findall(r"^\| `([^`]+)` \|", section, re.M)


def columns(path):
    return list(pd.read_csv(path, nrows=0).columns)


def named(path, parts, word="subset"):
    """Columns of a file with <subset> or <class> for the names `parts`, each once."""
    ends = "|".join(map(re.escape, parts))
    return list(dict.fromkeys(re.sub(rf"_({ends})$", f"_<{word}>", name) for name in columns(path)))


def test_manifests(tables):
    for name in ("train.csv", "valid.csv", "traina.csv"):
        assert columns(tables / name) == table("train.csv")
    assert list(json.loads((tables / "manifest.json").read_text())) == table("manifest.json")


def test_manifests_of_a_classification(labelled_manifests):
    _, csv_dir = labelled_manifests
    assert columns(csv_dir / "train.csv") == table("train.csv of a classification")
    keys = set(json.loads((csv_dir / "manifest.json").read_text()))
    assert keys - set(table("manifest.json")) == {"contradictions", "task", "class_colours", "ignore_index"}
    assert {"mask_encoding", "masks_without_foreground"} & keys == set()


def test_the_run_folder(finished):
    written = {f"{path.name}/" if path.is_dir() else path.name for path in finished.iterdir()}
    assert written <= set(table("Run folder"))
    left_out = set(table("Run folder")) - written
    assert left_out == {"skipped.csv", "replay/", "exports/"}


@pytest.mark.parametrize("name", ["history.csv", "ledger.csv", "evaluation_valid.csv"])
def test_tables_of_a_run(finished, name):
    assert named(finished / name, "abc") == table(name)


@pytest.mark.parametrize("name", ["metrics.json", "evaluation_valid.json"])
def test_json_of_a_run(finished, name):
    found = json.loads((finished / name).read_text())
    assert list(found) == table(name)
    if name == "metrics.json":
        assert list(found["subsets"][0]) == ["subset", "images", "valid", "iou", "f1"]


def test_history_of_a_classification():
    pooled, parts = (f"val_{name}" for name in CLASSIFICATION.pooled), CLASSIFICATION.parts
    logs = dict.fromkeys(["loss", "val_loss", *pooled, *(f"val_{name}_<class>" for name in parts)], 0.5)
    assert list(history_row(1, logs | {"learning_rate": 0.1}, 1.0)) == table(
        "history.csv of a classification"
    )


def test_skipped_draws_and_predictions():
    assert table("skipped.csv") == ["epoch", *SkippedDraw._fields]
    assert table("predictions.csv") == ["image", "mask", *outcome_columns(None)]
