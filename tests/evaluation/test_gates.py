"""Scores that an evaluation has to reach: what is asked for is there, and nothing unmeasured passes."""

import json

import numpy as np
import pandas as pd
import pytest

from segbalance.data_processing.classes import Classes
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND
from segbalance.errors import InputError
from segbalance.evaluation.class_scores import evaluate_labels
from segbalance.evaluation.gates import OF_SUBSETS, WORST, Gate, check_gates, check_names, parse_gates

REPORT = {
    "all": {"iou": 0.75, "f1": None},
    "subsets": [
        {"subset": "empty", "iou": None},
        {"subset": "other"},
        {"subset": "b", "iou": 0.5},
        {"subset": "a", "iou": 0.875},
    ],
}


def test_each_gate_is_told_with_what_was_got_and_expected():
    lines, passed = check_gates(parse_gates(["iou=0.75", "worst_iou=0.6"]), REPORT)
    assert lines == [
        "iou: got 0.7500, expected at least 0.75: passed",
        "worst_iou: got 0.5000 (subset b), expected at least 0.6: BELOW",
    ]
    assert not passed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], True),
        (["iou=0.75"], True),
        (["iou=0.7500001"], False),
        (["worst_iou=0.5"], True),
        (["iou=0.8", "worst_iou=0.5"], False),
        (["worst_iou=0.6", "iou=0"], False),
        (["f1=0"], False),
        (["worst_f1=0"], False),
    ],
)
def test_the_gates_are_passed_by_what_reaches_all_of_them(words, expected):
    assert check_gates(parse_gates(words), REPORT)[1] == expected


@pytest.mark.parametrize(
    "word", ["iou", "iou=", "=0.5", "iou=high", "iou=1.01", "iou=-0.1", "iou=nan", "iou=80%"]
)
def test_what_is_no_gate_is_answered(word):
    with pytest.raises(InputError, match=f"^fail_below '{word}': expected the name of a score and a number"):
        parse_gates(["iou=0.5", word])


def test_scores_that_there_are_not_are_answered_with_those_that_there_are():
    gates = [Gate("iou", 0.5), Gate("dice", 0.5), Gate("worst", 0.5)]
    with pytest.raises(InputError, match="^fail_below dice, worst: .* known: iou, f1, .*, worst_image_iou$"):
        check_names(gates, FOREGROUND)
    with pytest.raises(InputError, match="known: balanced_accuracy, accuracy, .*, worst_accuracy$"):
        check_names(gates, CLASSIFICATION)


def label_report():
    ids = np.array([0, 1, 1]).reshape(3, 1, 1, 1)
    tables = {"cat": pd.DataFrame({"images": ["0"]}), "dog": pd.DataFrame({"images": ["1", "2"]})}
    found = np.eye(2, dtype=np.float32)[[0, 1, 0]].reshape(3, 1, 1, 2)
    batches = [(found, ids, None)]
    return evaluate_labels(
        lambda photos: photos, batches, tables, Classes(("cat", "dog"), ("#000000", "#ff0000"))
    ).report()


def known_names(kind):
    with pytest.raises(InputError) as error:
        check_names([Gate("no", 0)], kind)
    return str(error.value).rpartition("known: ")[2].split(", ")


@pytest.mark.parametrize("kind", [FOREGROUND, CLASSES, CLASSIFICATION], ids=["one", "several", "labels"])
def test_every_known_name_stands_for_a_number(kind, request):
    fixture = {FOREGROUND: "finished", CLASSES: "finished_classes"}.get(kind)
    if fixture:
        folder = request.getfixturevalue(fixture)
        report = json.loads((folder / "evaluation_valid.json").read_text())
    else:
        report = label_report()
    names = known_names(kind)
    assert {WORST + name for name in OF_SUBSETS[kind]} <= set(names) and len(names) > 5
    lines, passed = check_gates([Gate(name, 0) for name in names], report)
    assert passed, lines
