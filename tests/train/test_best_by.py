"""Which epoch is the best, and so kept, by all images together, the mean or the weakest of the subsets."""

import math
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest

from segbalance.commands import train
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND
from segbalance.runtime.command_line import WRONG_INPUT
from segbalance.train.background import BackgroundWriter
from segbalance.train.best_by import BEST_BY, best_by_of, score_over_subsets, words_for
from segbalance.train.callbacks import RunRecorder, run_callbacks
from segbalance.train.config import TrainConfig
from segbalance.train.folder import BEST, best_epoch, main_score, read_history
from segbalance.train.resuming import Resumption

# Of three epochs: the pooled IoU is best in the first, the mean in the second, the weakest in the third.
EPOCHS = [
    {"val_iou": 0.8, "val_iou_big": 0.9, "val_iou_small": 0.1},
    {"val_iou": 0.7, "val_iou_big": 0.8, "val_iou_small": 0.4},
    {"val_iou": 0.6, "val_iou_big": 0.5, "val_iou_small": 0.5},
]
BESIDES = {"loss": 1.0, "val_loss": 1.0, "val_f1": 0.5, "val_precision": 0.5, "val_recall": 0.5}
BESIDES |= {"val_clean_images_good": 0.0, "val_false_pixels_good": 0.01}
SUBSETS = ["big", "small", "good"]
KEPT = {"pooled": 1, "mean": 2, "weakest": 3}


class Weights:
    """Stands for the copy of a model: its weights are the number of the epoch."""

    epoch = 0

    def is_of_this_step(self):
        """Nothing to copy."""
        return True

    def write_weights(self, path):
        """A new file, as of all writers."""
        path.unlink(missing_ok=True)
        path.write_text(str(self.epoch))


def recorded(folder, best_by, epochs=EPOCHS, rows=()):
    """(epochs whose weights were kept as the best, logs of the callbacks that follow) of a made-up run."""
    kept, told, weights = [], [], Weights()
    with BackgroundWriter() as writer:
        recorder = RunRecorder(weights, writer, folder, rows, best_by=best_by)
        recorder.set_model(SimpleNamespace(subsets=SUBSETS, optimizer=SimpleNamespace(learning_rate=0.1)))
        for weights.epoch, scores in enumerate(epochs, len(rows) + 1):
            logs = BESIDES | scores
            recorder.on_epoch_begin(weights.epoch - 1)
            recorder.on_epoch_end(weights.epoch - 1, logs)
            told.append(logs)
            writer.wait()
            if (folder / BEST).exists() and (folder / BEST).read_text() == str(weights.epoch):
                kept.append(weights.epoch)
    return kept, told, recorder


@pytest.mark.parametrize("best_by", BEST_BY)
def test_the_choice_keeps_another_epoch(best_by, tmp_path):
    kept, _, _ = recorded(tmp_path, best_by)
    history = read_history(tmp_path)
    assert kept[-1] == best_epoch(history)["epoch"] == KEPT[best_by]
    assert best_by_of(history.keys()) == best_by
    assert [name for name in history if "_subset_" in name] == (
        [main_score(history)] if KEPT[best_by] > 1 else []
    )


@pytest.mark.parametrize("best_by", BEST_BY)
def test_a_run_that_goes_on_compares_with_the_same_score(best_by, tmp_path):
    _, _, recorder = recorded(tmp_path, best_by, EPOCHS[:2])
    kept, _, _ = recorded(tmp_path, best_by, EPOCHS[2:], recorder.rows)
    assert kept == ([3] if best_by == "weakest" else [])
    assert best_epoch(read_history(tmp_path))["epoch"] == KEPT[best_by]


@pytest.mark.parametrize("best_by", BEST_BY)
def test_patience_watches_the_same_score(best_by, tmp_path):
    config = TrainConfig.of(best_by=best_by, patience=1, steps_per_epoch=1, work_dir=str(tmp_path))
    own = run_callbacks(
        config, SimpleNamespace(network=None), None, None, tmp_path, Resumption(None), dict, None, None
    )
    stopping = next(one for one in own if type(one).__name__ == "EarlyStopping")
    assert stopping.monitor in recorded(tmp_path, best_by)[1][0]
    assert stopping.monitor == main_score(read_history(tmp_path))
    assert next(one for one in own if isinstance(one, RunRecorder)).best_by == best_by


def test_subsets_without_foreground_take_no_part():
    logs = BESIDES | EPOCHS[0]
    assert score_over_subsets(logs, "pooled", SUBSETS) == {}
    assert score_over_subsets(logs, "mean", SUBSETS) == {"val_mean_subset_iou": pytest.approx(0.5)}
    assert score_over_subsets(logs, "weakest", SUBSETS) == {"val_weakest_subset_iou": 0.1}
    logs["val_iou_small"] = math.nan  # all of its pixels are ignored
    assert score_over_subsets(logs, "weakest", SUBSETS) == {"val_weakest_subset_iou": 0.9}
    assert score_over_subsets(logs, "mean", ["good"]) == {"val_mean_subset_iou": 0.8}, "there is no other"


def test_a_class_without_validation_images_takes_no_part():
    logs = {"val_balanced_accuracy": 0.7, "val_recall_cat": 0.9, "val_recall_dog": 0.5, "val_recall_owl": 0.0}
    scores = {name: score_over_subsets(logs, name, ["cat", "dog"]) for name in BEST_BY}
    assert scores["mean"] == {"val_mean_subset_recall": pytest.approx(0.7)}
    assert scores["weakest"] == {"val_weakest_subset_recall": 0.5}
    assert main_score(pd.DataFrame([logs | scores["weakest"]])) == "val_weakest_subset_recall"


def test_the_choice_in_words():
    assert words_for(FOREGROUND, "pooled") == "IoU of all images"
    assert words_for(CLASSES, "mean") == "mean IoU of the subsets"
    assert words_for(CLASSIFICATION, "weakest") == "recall of the weakest subset"


def test_not_even_force_chooses_again(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    assert train.main(["--resume", folder, "--best_by", "weakest"]) == WRONG_INPUT
    assert "best_by: pooled in the run, weakest now" in capsys.readouterr().err
    assert train.main(["--resume", folder, "--best_by", "weakest", "--force"]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert "would choose the best epoch by weakest, but the run has kept only the weights" in error
    assert "Leave --best_by out, or begin a new run." in error
