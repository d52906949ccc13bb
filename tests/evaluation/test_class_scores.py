"""Scores of several classes: against scikit-learn, hand calculations and properties."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from segbalance.data_processing.classes import IGNORED, Classes
from segbalance.evaluation import class_scores as class_evaluation
from segbalance.evaluation.class_scores import (
    ABSENT_RULE,
    OF_CLASSES,
    confusion_matrix,
    evaluate_classes,
    evaluate_labels,
    intervals,
    marginals,
    scores_of,
)

CLASSES = Classes(("ground", "skin", "nail", "ring"), ("#000000", "#f0b088", "#ff4fd0", "#ffd21f"))
SIDE = 8


def drawn_masks(seed, images=6, classes=4, ignored=True):
    """(true, found) class ids uint8 (images, SIDE, SIDE); some are 255 in `true`, ring (3) is rare."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.6, 0.3, 0.08, 0.02])[:classes]
    true = rng.choice(classes, (images, SIDE, SIDE), p=shares / shares.sum()).astype(np.uint8)
    wrong = rng.random(true.shape) < 0.3
    found = np.where(wrong, rng.integers(0, classes, true.shape), true).astype(np.uint8)
    if ignored:
        true[rng.random(true.shape) < 0.1] = 255
    return true, found


def evaluated(true, found, subsets=("a", "b"), classes=CLASSES):
    """ClassEvaluation of masks that are spread over the subsets in order, by a network that says `found`."""
    parts = np.array_split(np.arange(len(true)), len(subsets))
    tables = {
        name: pd.DataFrame(
            {"images": [f"{name}/{i}.png" for i in part], "masks": [f"{i}m.png" for i in part]}
        )
        for name, part in zip(subsets, parts, strict=True)
    }
    probabilities = iter(np.eye(len(classes), dtype=np.float32)[found] * 0.6 + 0.1)
    batches = [(np.zeros((1, SIDE, SIDE, 3), np.uint8), ids[None, ..., None], None) for ids in true]
    return evaluate_classes(lambda photos: next(probabilities)[None], batches, tables, classes)


def test_confusion_matrix_counts_true_by_found_without_ignored():
    true = np.uint8([[0, 0, 1], [2, 255, 1]])
    found = np.uint8([[0, 1, 1], [0, 2, 1]])
    np.testing.assert_array_equal(confusion_matrix(true, found, 3), [[1, 1, 0], [0, 2, 0], [1, 0, 0]])


@pytest.mark.parametrize("seed", range(3))
def test_all_scores_agree_with_scikit_learn(seed):
    true, found = drawn_masks(seed)
    report = evaluated(true, found).report()["all"]
    kept = true != 255
    true, found = true[kept], found[kept]
    labels = range(4)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        true, found, labels=labels, zero_division=0
    )
    iou = sklearn_metrics.jaccard_score(true, found, labels=labels, average=None)
    for name, expected in (("iou", iou), ("f1", f1), ("precision", precision), ("recall", recall)):
        assert [row[name] for row in report["classes"]] == pytest.approx(expected, abs=1e-6)
        assert report[name] == pytest.approx(np.mean(expected), abs=1e-6)
    assert report["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, found), abs=1e-6)
    expected = sklearn_metrics.balanced_accuracy_score(true, found)
    assert report["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(report["confusion"], sklearn_metrics.confusion_matrix(true, found))
    shares = sklearn_metrics.confusion_matrix(true, found, normalize="true")
    np.testing.assert_allclose(report["confusion_shares"], shares, atol=1e-6)
    assert [row["true_share"] for row in report["classes"]] == pytest.approx(
        [np.mean(true == number) for number in labels]
    )
    assert [row["found_share"] for row in report["classes"]] == pytest.approx(
        [np.mean(found == number) for number in labels]
    )


def test_subsets_and_images_agree_with_numpy():
    true, found = drawn_masks(7)
    evaluation = evaluated(true, found)
    for (_, row), own_true, own_found in zip(evaluation.images.iterrows(), true, found, strict=True):
        kept, scores = own_true != 255, []
        for number, name in enumerate(CLASSES.names):
            there, claimed = kept & (own_true == number), kept & (own_found == number)
            if (there | claimed).any():
                scores.append((there & claimed).sum() / (there | claimed).sum())
                assert row[f"iou_{name}"] == pytest.approx(scores[-1], abs=1e-9)
            else:
                assert math.isnan(row[f"iou_{name}"])
        assert row["iou"] == pytest.approx(np.mean(scores), abs=1e-9)
        assert row["accuracy"] == pytest.approx((own_true == own_found)[kept].mean(), abs=1e-9)
    report = evaluation.report()
    assert report["all"]["image_iou"] == pytest.approx(evaluation.images["iou"].mean())
    for row in report["subsets"]:
        part = slice(0, 3) if row["subset"] == "a" else slice(3, 6)
        own_true, own_found = true[part][true[part] != 255], found[part][true[part] != 255]
        np.testing.assert_array_equal(row["confusion"], confusion_matrix(own_true, own_found, 4))
        assert row["images"] == 3
    assert [row["iou"] for row in report["subsets"]] == sorted(row["iou"] for row in report["subsets"])
    assert [row["iou"] for row in report["worst"]] == sorted(evaluation.images["iou"])


def test_a_class_neither_there_nor_found_has_no_score_and_is_left_out():
    # Two of three pixels of class 0 are right, class 1 is found once and never there, 2 and 3 are absent.
    true, found = np.zeros((1, 1, 3), np.uint8), np.uint8([[[0, 0, 1]]])
    report = evaluated(true, found, subsets=("a",)).report()
    own = report["all"]["classes"]
    assert [row["iou"] for row in own] == [pytest.approx(2 / 3), 0, None, None]
    assert [row["recall"] for row in own] == [pytest.approx(2 / 3), 0, None, None]
    assert report["all"]["iou"] == pytest.approx(1 / 3)
    assert report["all"]["balanced_accuracy"] == pytest.approx(2 / 3), "class 1 is not there"
    assert report["absent_classes"] == ABSENT_RULE
    assert "NaN" not in json.dumps(report)


def test_pixels_that_are_ignored_count_nowhere():
    true, found = drawn_masks(3, ignored=False)
    everything = evaluated(true, found).report()
    true[:, :4], changed = 255, found.copy()
    changed[:, :4] = 3
    assert evaluated(true, found).report() == evaluated(true, changed).report()
    assert evaluated(true, found).report()["all"]["accuracy"] != everything["all"]["accuracy"]


def test_an_image_of_ignored_pixels_alone_has_no_score():
    true, found = drawn_masks(3)
    true[2] = 255
    evaluation = evaluated(true, found)
    report = evaluation.report()
    assert math.isnan(evaluation.images["iou"][2])
    assert report["all"]["image_iou"] == pytest.approx(evaluation.images["iou"].drop(2).mean())
    assert [row["iou"] for row in report["worst"]][-1] is None
    json.dumps(report, allow_nan=False)


def test_intervals_are_those_of_drawing_images_one_by_one(monkeypatch):
    monkeypatch.setattr(class_evaluation, "RESAMPLED_AT_ONCE", 9000)  # several parts
    evaluation = evaluated(*drawn_masks(5, images=30))
    bounds = intervals(evaluation.counts, evaluation.images["iou"].to_numpy())
    places = np.random.default_rng(1).integers(0, 30, (2000, 30))
    scores = scores_of(evaluation.counts[places].sum(axis=1))
    means = evaluation.images["iou"].to_numpy()[places].mean(axis=1)
    drawn = np.column_stack([scores["class_iou"], scores["iou"], means])
    expected = np.quantile(drawn, [0.025, 0.975], axis=0).T
    found = np.concatenate([bounds["class_iou"], [bounds["iou"], bounds["image_iou"]]])
    # The 2.5 % quantile of 2000 draws lies, in 95 of 100 cases, between those of 1.8 and 3.2 %.
    width = (expected[:, 1] - expected[:, 0])[:, None]
    np.testing.assert_allclose((found - expected) / width, 0, atol=0.1)


def test_intervals_hold_their_score_and_are_the_same_again():
    report = evaluated(*drawn_masks(1, images=20)).report()
    assert report == evaluated(*drawn_masks(1, images=20)).report()
    for row in [report["all"], *report["all"]["classes"], *report["subsets"]]:
        for name in OF_CLASSES:
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert intervals(np.ones((1, 3, 4), np.int64), np.ones(1)) == {}


def test_a_subset_without_images_has_no_scores():
    true, found = drawn_masks(2, images=1)
    report = evaluated(true, found, subsets=("a", "b")).report()
    last = report["subsets"][-1]
    assert (last["subset"], last["images"], last["iou"], last["iou_low"]) == ("b", 0, None, None)
    assert all(row["iou"] is None for row in last["classes"])
    assert report["examples"]["b"] == {"worst": [], "median": [], "best": []}
    assert report["subsets"][0]["iou_low"] is None, "one image tells nothing about others"


def test_images_of_which_all_is_ignored_are_no_examples():
    true, found = drawn_masks(3, images=4)
    true[1:3] = IGNORED
    examples = evaluated(true, found, subsets=["a"]).report()["examples"]["a"]
    shown = [row["images"] for kind in examples.values() for row in kind]
    assert sorted(shown) == ["a/0.png", "a/3.png"]


def test_no_images_at_all_give_a_report_without_scores():
    true, found = drawn_masks(2, images=1)
    report = evaluated(true[:0], found[:0]).report()
    assert report["all"]["images"] == 0 and report["all"]["iou"] is None
    json.dumps(report, allow_nan=False)


def test_classification_counts_images():
    names = Classes(("cat", "dog", "owl"), ("#000000", "#ff0000", "#00ff00"))
    true = np.uint8([0, 0, 0, 0, 1, 1, 2]).reshape(-1, 1, 1)
    found = np.uint8([0, 0, 0, 1, 1, 0, 2]).reshape(-1, 1, 1)
    tables = {
        "cat": pd.DataFrame({"images": list("abcd")}),
        "dog": pd.DataFrame({"images": list("ef")}),
        "owl": pd.DataFrame({"images": ["g"]}),
    }
    probabilities = np.eye(3, dtype=np.float32)[found] * 0.7 + 0.1
    batches = [(None, true[:4, ..., None], None), (None, true[4:, ..., None], None)]
    answers = iter([probabilities[:4], probabilities[4:]])
    evaluation = evaluate_labels(lambda photos: next(answers), batches, tables, names)
    assert list(evaluation.images) == ["images", "subset", "label", "found", "probability", "correct"]
    report = evaluation.report()
    assert report["all"]["confusion"] == [[3, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert report["all"]["accuracy"] == pytest.approx(5 / 7)
    assert report["all"]["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert [row["f1"] for row in report["all"]["classes"]] == pytest.approx([6 / 8, 2 / 4, 1])
    assert report["all"]["f1"] == pytest.approx((6 / 8 + 2 / 4 + 1) / 3)
    assert "image_iou" not in report["all"]
    assert [(row["subset"], row["accuracy"]) for row in report["subsets"]] == [
        ("dog", 1 / 2), ("cat", 3 / 4), ("owl", 1)
    ]  # fmt: skip
    assert all(set(row) == {"subset", "images", "accuracy"} for row in report["subsets"]), "C x C numbers"
    worst = report["worst"][0]
    assert (worst["images"], worst["label"], worst["found"], worst["correct"]) == ("d", "cat", "dog", False)
    assert worst["probability"] == pytest.approx(0.1)
    json.dumps(report, allow_nan=False)


def test_marginals_of_a_matrix():
    np.testing.assert_array_equal(marginals(np.array([[3, 1], [2, 5]])), [[3, 5], [4, 7], [5, 6]])


def test_a_subset_of_background_alone_is_scored_by_its_false_alarms():
    true, found = drawn_masks(3, images=12)
    true[6:] = np.where(true[6:] == IGNORED, IGNORED, 0)
    found[6:] = 0
    found[7, 2, 2:5], true[7, 2, 2:4], true[7, 2, 4] = 2, 0, IGNORED
    true[11] = IGNORED  # nothing is known of this image, found or not
    found[11, 0, 0] = 1
    report = evaluated(true, found, ("bad", "good")).report()
    bad, good = report["subsets"]
    assert "clean_images" not in bad and bad["iou"] is not None and good["subset"] == "good"
    names = (*OF_CLASSES, "accuracy", "balanced_accuracy", "image_iou")
    assert {good[f"{name}{end}"] for name in names for end in ("", "_low", "_high")} == {None}
    assert good["images"] == 6 and good["clean_images"] == pytest.approx(4 / 5)
    assert good["false_pixels"] == pytest.approx(2 / np.sum(true[6:] == 0))
    assert good["clean_images_low"] < 0.5 and good["false_pixels_low"] == 0 < good["false_pixels_high"]
    mended = found.copy()
    mended[6:] = 0
    without = evaluated(true, mended, ("bad", "good")).report()["all"]["iou"]
    assert report["false_alarms"]["iou_without"] == pytest.approx(without)
    lost = report["false_alarms"]["iou_lost"]
    assert lost == pytest.approx(without - report["all"]["iou"]) and lost > 0
    assert "NaN" not in json.dumps(report)


def test_classes_of_whole_images_have_no_false_alarms():
    tables = {
        "ground": pd.DataFrame({"images": ["0.png", "1.png"]})
    }  # the first class, in pixels the background
    batches = [(np.zeros((2, SIDE, SIDE, 3), np.uint8), np.zeros((2, 1, 1, 1), np.uint8), None)]
    answers = np.eye(4, dtype=np.float32)[[0, 2]].reshape(2, 1, 1, 4)
    report = evaluate_labels(lambda photos: answers, batches, tables, CLASSES).report()
    assert report["subsets"] == [{"subset": "ground", "images": 2, "accuracy": 0.5}]
    assert "false_alarms" not in report
