"""The step and what writing costs: every way takes its turn, and the table says which is which."""

import itertools
import json

import pandas as pd
import pytest

from scripts.benchmarks import training_step
from segbalance.model.networks import SegmentationModel
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from tests.model.test_host_copy import SIZE, network

TINY = ("--image_size", SIZE, "--batch_size", 2, "--steps", 2, "--rounds", 3)


@pytest.fixture
def small(stub):
    stub("segbalance.model.networks.build_network", lambda backbone, image_size: network())


def measured(tmp_path, *words):
    assert training_step.main([*TINY, *words, "--json", tmp_path / "table.json"]) == DONE
    return {(row["what"], row["way"]): row for row in json.loads((tmp_path / "table.json").read_text())}


def test_both_optimisers_update_and_step_in_turns(small, tmp_path, capsys):
    rows = measured(tmp_path)
    assert list(rows) == list(itertools.product(["update", "step"], ["Keras' AdamW", "fused"]))
    printed = capsys.readouterr().out
    assert all(row["ms"] > 0 and row["ratio"] in printed for row in rows.values())


def test_an_epoch_is_measured_with_each_way_to_write(small, tmp_path):
    rows = measured(tmp_path, "--subject", "writing")
    assert [way for _, way in rows] == ["nothing", "at once", "in the background"]
    assert rows["epoch", "nothing"]["held_ms"] < rows["epoch", "at once"]["held_ms"]
    assert rows["epoch", "nothing"]["ratio"] == "1.000 (1.000 to 1.000)"


def test_ratios_are_taken_round_by_round():
    rows = [
        {"what": "step", "way": way, "round": number, "ms": ms * (number + 1), "cpu_ms": ms}
        for number, (way, ms) in itertools.product(range(3), {"old": 10.0, "new": 5.0}.items())
    ]
    table = training_step.summary(pd.DataFrame(rows)).set_index("way")
    assert list(table["ms"]) == [20, 10] and table.loc["new", "ratio"] == "0.500 (0.500 to 0.500)"
    assert table.loc["old", "ms_spread"] == "15.0 to 25.0"


def test_the_two_optimisers_are_what_they_are_called(small):
    options = training_step.StepOptions(image_size=SIZE)
    from segbalance.legacy_keras import tf
    from segbalance.model.optimizer import FusedAdamW

    made = [training_step.compiled_model(options, given) for given in (tf.keras.optimizers.AdamW, None)]
    assert [type(model.optimizer) for model in made] == [tf.keras.optimizers.AdamW, FusedAdamW]
    assert all(isinstance(model, SegmentationModel) for model in made)


def test_a_number_below_one_is_refused(capsys):
    assert training_step.main(["--rounds", "0"]) == WRONG_INPUT
    assert "rounds must be greater than 0, got 0" in capsys.readouterr().err
