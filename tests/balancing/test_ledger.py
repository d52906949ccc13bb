"""The ledger: chi-square by hand, rows against a plain count of the draws, and the warning."""

import itertools

import numpy as np
import pytest

from segbalance.balancing.draws import ExactBatches
from segbalance.balancing.ledger import epoch_rows, p_value, read_ledger, suspicion, write_ledger
from segbalance.balancing.plan import balance_plan
from segbalance.train.options import BalanceOptions
from tests.balancing.test_draws import TUTORIAL, rows, stream

NAMES = ["0", "1", "2", "3", "4"]


def plan(balance="uniform", **options):
    return balance_plan(dict(zip(NAMES, TUTORIAL, strict=True)), BalanceOptions(balance, **options), 16)


def test_p_value_by_hand():
    # (60 - 50)^2 / 50 + (40 - 50)^2 / 50 = 4 with one degree of freedom: p = 0.0455.
    assert p_value([60, 40], [0.5, 0.5]) == pytest.approx(0.0455, abs=1e-4)
    assert p_value([50, 50], [0.5, 0.5]) == 1
    # 3 of 4 expected shares kept, the last ran dry: (25 - 100)^2 / 100 + ... far beyond chance.
    assert p_value([125, 125, 125, 25], [0.25] * 4) < 1e-12


def test_subsets_left_out_and_single_subsets():
    assert p_value([60, 40, 0], [0.5, 0.5, 0]) == p_value([60, 40], [0.5, 0.5])
    assert p_value([60, 40, 1], [0.5, 0.5, 0]) == 0
    assert p_value([100], [1]) == 1


def test_the_rows_are_a_count_of_the_draws():
    own = stream(ExactBatches([0.2] * 5, 0), TUTORIAL)
    steps = list(itertools.islice(own.steps(), 3 * 70))
    for epoch in range(3):
        drawn = np.concatenate([draws for draws, _ in steps[70 * epoch : 70 * epoch + 70]])
        counted = {}
        for place in rows(own.draws, drawn):
            counted[place] = counted.get(place, 0) + 1
        table = epoch_rows(epoch, plan("exact"), own)
        assert [row["subset"] for row in table] == NAMES
        for subset, row in enumerate(table):
            times = [count for (other, _), count in counted.items() if other == subset]
            assert (row["epoch"], row["share"]) == (epoch + 1, pytest.approx(0.2))
            assert (row["draws"], row["images"], row["max_repeats"]) == (sum(times), len(times), max(times))
            assert row["p_value"] > 0.99
        # 70 * 16 / 5 = 224 draws each, 6 or 7 of each of the 34; up to 8 across the ends of two passes.
        assert [row["draws"] for row in table] == [224] * 5
        assert (table[4]["images"], table[4]["max_repeats"] in (7, 8)) == (34, True)


def test_the_share_in_the_ledger_is_the_promise_not_what_was_delivered():
    own = stream(ExactBatches([0.2] * 5, 0), TUTORIAL)
    list(itertools.islice(own.steps(), 70))
    table = epoch_rows(0, plan("none"), own)
    np.testing.assert_allclose([row["share"] for row in table], np.array(TUTORIAL) / 1105)
    assert [row["draws"] for row in table] == [224] * 5
    assert "0 224 of 759, 1 224 of 146" in suspicion(table)


def rows_with(counts, shares):
    """Rows of one epoch as far as `suspicion` looks at them."""
    p = p_value(counts, shares)
    return [
        {"epoch": 9, "subset": name, "share": share, "draws": count, "p_value": p}
        for name, count, share in zip("abc", counts, shares, strict=False)
    ]


def test_the_bounds_of_suspicion():
    # (85^2 + 85^2) / 500 = 28.9: p = 7.6e-8; with 70 it is 19.6: p = 9.5e-6.
    assert "a 585 of 500, b 415 of 500" in suspicion(rows_with([585, 415], [0.5, 0.5]))
    assert suspicion(rows_with([570, 430], [0.5, 0.5])) is None
    # A subset left out expects nothing, and that does not make the epoch too short.
    assert "c 0 of 0" in suspicion(rows_with([600, 400, 0], [0.5, 0.5, 0]))
    # 5 draws expected of b are enough, 4.9 are not.
    assert suspicion(rows_with([80, 20], [0.95, 0.05]))
    assert suspicion(rows_with([78, 20], [0.95, 0.05])) is None


def test_a_subset_that_runs_dry_is_reported():
    rows_of = [
        {"epoch": 9, "subset": "a", "share": 0.5, "draws": 560, "p_value": p_value([560, 440], [0.5, 0.5])},
        {"epoch": 9, "subset": "b", "share": 0.5, "draws": 440},
    ]
    # (60^2 + 60^2) / 500 = 14.4: p = 1.5e-4, a thing that happens.
    assert suspicion(rows_of) is None
    rows_of[0]["draws"], rows_of[1]["draws"] = 600, 400
    rows_of[0]["p_value"] = p_value([600, 400], [0.5, 0.5])
    # (100^2 + 100^2) / 500 = 40: p = 2.5e-10.
    warning = suspicion(rows_of)
    assert warning.startswith("warning: epoch 9 did not keep its shares (p = 3e-10)")
    assert warning.endswith("a 600 of 500, b 400 of 500")


def test_epochs_too_short_for_the_test_are_not_suspected():
    # One draw where a hundredth was expected: p is tiny, and means nothing.
    counts, shares = [9, 1], [0.999, 0.001]
    rows_of = [
        {"epoch": 1, "subset": "a", "share": 0.999, "draws": 9, "p_value": p_value(counts, shares)},
        {"epoch": 1, "subset": "b", "share": 0.001, "draws": 1},
    ]
    assert rows_of[0]["p_value"] < 1e-6
    assert suspicion(rows_of) is None


def test_the_file_reads_back(tmp_path):
    own = stream(ExactBatches([0.2] * 5, 0), TUTORIAL)
    list(itertools.islice(own.steps(), 70))
    table = epoch_rows(0, plan("exact"), own)
    write_ledger(table, tmp_path)
    frame = read_ledger(tmp_path)
    assert list(frame) == ["epoch", "subset", "share", "draws", "images", "max_repeats", "p_value", "skipped"]
    assert frame.to_dict("records") == table
