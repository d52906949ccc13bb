"""The benchmark of the prediction: both contestants predict the same, and the figures are what they say."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from scripts.benchmarks import prediction as benchmark_predict
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config_file import load_config, save_config
from tests.support.data import draw_pair, write_image


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


class RedIsFound:
    """A predictor for which the red channel is the probability."""

    input_size, working_size = 32, 0

    def __call__(self, photos):
        return photos[..., :1].astype(np.float32) / 255


def test_our_way_writes_the_masks_and_their_table(tmp_path):
    options = benchmark_predict.PredictBenchmarkOptions(work_dir="run")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        write_image(path, draw_pair(number)[0])
    benchmark_predict.our_way(RedIsFound(), options, paths, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == ["0.png", "1.png", "2.png"]
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == 3


def test_runs_of_several_classes_are_refused(finished, tmp_path, capsys):
    names, colours = ["ground", "nail", "ring"], ["#000000", "#ff0000", "#00ff00"]
    save_config(load_config(finished).replace(classes=names, class_colours=colours), tmp_path)
    assert benchmark_predict.main(["--work_dir", tmp_path]) == WRONG_INPUT
    assert "tells 3 classes apart, and the plain loop knows background and foreg" in capsys.readouterr().err
