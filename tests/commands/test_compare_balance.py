"""scripts/compare_balance.py: the table over seeds, and a small comparison from data to scores."""

import json

import pandas as pd
import pytest

from segbalance.commands import compare_balance
from segbalance.runtime.command_line import DONE, WRONG_INPUT

SCORE = compare_balance.SCORE


def test_the_table_has_mean_and_spread_over_the_seeds():
    scores = {"none": [0.3, 0.4, 0.5], "uniform": [0.6, 0.6, 0.9]}
    runs = pd.DataFrame(
        [
            {
                "balance": name,
                "seed": seed,
                "epoch": 1,
                SCORE: value,
                "val_recall_owl": value / 2,
                "last": 0.1,
            }
            for name, values in scores.items()
            for seed, value in enumerate(values)
        ]
    )
    table = compare_balance.comparison(runs).set_index("balance")
    assert list(table.index) == ["none", "uniform"]
    assert table.loc["none"].tolist() == pytest.approx([3, 0.4, 0.1, 0.3, 0.5, 0.1, 0.2])
    # Deviations of 0.1, 0.1 and 0.2 from 0.7: ((0.01 + 0.01 + 0.04) / 2) ** 0.5.
    assert table.loc["uniform", "standard_deviation"] == pytest.approx(0.03**0.5)
    assert table.loc["uniform", ["lowest", "highest"]].tolist() == [0.6, 0.9]


def test_scores_are_those_of_the_best_epoch(tmp_path):
    rows = "epoch,val_balanced_accuracy,val_recall_owl\n1,0.4,0.1\n2,0.7,0.2\n3,0.5,0.3\n"
    (tmp_path / "history.csv").write_text(rows)
    assert compare_balance.scores_of(tmp_path) == {
        "epoch": 2, SCORE: 0.7, "val_recall_owl": 0.2, "last": 0.5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--balances", "none", "none"], "balances must be different ones of uniform, none, power, "),
        (["--balances", "shares"], "got ['shares']"),
        (["--seeds", "0"], "seeds must be at least 1, got 0; try 3"),
    ],
)
def test_wrong_options_leave_nothing(words, message, tmp_path, capsys):
    assert compare_balance.main(["--output", tmp_path / "out", *words]) == WRONG_INPUT
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_ways_are_trained_and_compared(tmp_path, capsys):
    words = ["--scale", 0.1, "--seeds", 2, "--epochs", 1, "--image_size", 32, "--backbone", "resnet18"]
    outputs = ["--output", tmp_path / "out", "--json", tmp_path / "table.json"]
    assert compare_balance.main([*outputs, *words, "--balances", "none", "exact"]) == DONE
    content = json.loads((tmp_path / "table.json").read_text())
    assert [(run["balance"], run["seed"]) for run in content["runs"]] == [
        ("none", 0), ("exact", 0), ("none", 1), ("exact", 1)
    ]  # fmt: skip
    for row in content["table"]:
        own = [run[SCORE] for run in content["runs"] if run["balance"] == row["balance"]]
        assert row["balanced_accuracy"] == pytest.approx(sum(own) / 2)
    assert "balanced accuracy" in capsys.readouterr().out
