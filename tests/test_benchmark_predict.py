"""The benchmark of the prediction: both contestants predict the same, and the figures are what they say."""

import json
import sys

import pytest

import benchmark_predict
from command import DONE, WRONG_INPUT


@pytest.mark.slow
def test_both_ways_give_the_same_masks(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_predict, "LARGE", (400, 300))
    machine = tmp_path / "predict.json"
    words = "--small_photos 6 --large_photos 3 --rounds 2 --batch_size 4".split()
    assert benchmark_predict.main(["--work_dir", finished, "--json", machine, *words]) == DONE
    small, large = json.loads(machine.read_text())["speed"]
    assert (small["race"], small["photos"], large["race"], large["photos"]) == ("small", 6, "large", 3)
    for row in (small, large):
        assert row["differing_pixels"] < 1e-4
        assert 0 < row["lowest_ratio"] <= row["ratio"] <= row["highest_ratio"]
        assert row["ours_images_per_s"] > 0 and row["plain_images_per_s"] > 0
    assert "plain_images_per_s" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_tiles_is_measured(finished, tmp_path):
    machine = tmp_path / "predict.json"
    words = ["--races", "memory", "--megapixels", "0.1", "0.3", "--json", machine]
    assert benchmark_predict.main(["--work_dir", finished, *words]) == DONE
    rows = json.loads(machine.read_text())["memory"]
    assert [row["megapixels"] for row in rows] == [0.1, 0.3]
    assert all(200 < row["peak_mb"] < 4000 and row["seconds"] > 0 for row in rows)


WRONG = [
    (["--rounds", "0"], "rounds must be greater than 0, got 0"),
    (["--races", "huge"], "races huge unknown; known: small, large, memory"),
    (["--extension", "gif"], "extension must be jpg or png, got gif"),
    (["--megapixels", "0"], "megapixels must be greater than 0, got 0"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong_options_are_answered(words, message, tmp_path, capsys):
    assert benchmark_predict.main(["--work_dir", tmp_path, *words]) == WRONG_INPUT
    assert message in capsys.readouterr().err
