"""segbalance/train/loggers.py, and what a run leaves for TensorBoard."""

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segbalance.legacy_keras import tf
from segbalance.train.loggers import WORST, TensorBoardLogger, WandbLogger, WorstOfBest, scalars


def read_events(folder):
    """({name: [(step, value)]} of the scalars, {name: [(step, pictures uint8)]}) of a run folder."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    kinds = {name: events.SummaryMetadata(name).plugin_data.plugin_name for name in events.Tags()["tensors"]}
    numbers, pictures = {}, {}
    for name, kind in kinds.items():
        found = [(event.step, tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(name)]
        if kind == "scalars":
            numbers[name] = [(step, float(value)) for step, value in found]
        else:
            pictures[name] = [
                (step, [tf.io.decode_png(png).numpy() for png in values[2:]]) for step, values in found
            ]
    return numbers, pictures


def test_a_run_leaves_the_scores_of_every_subset_and_the_worst_examples(finished):
    history = pd.read_csv(finished / "history.csv")
    numbers, pictures = read_events(finished)
    assert {"loss", "val_loss", "val_iou", "val_iou/a", "val_iou/b", "val_f1/a", "learning_rate"} <= {
        *numbers
    }
    for name, column in (("loss", "loss"), ("val_iou", "val_iou"), ("val_iou/b", "val_iou_b")):
        steps, values = zip(*numbers[name], strict=True)
        assert steps == (1, 2)
        np.testing.assert_allclose(values, history[column], rtol=1e-5)
    best = [row.epoch for row in history.itertuples() if row.val_iou > history["val_iou"][: row.Index].max()]
    assert [step for step, _ in pictures[WORST]] == sorted({1, *best})
    assert {picture.shape for _, shown in pictures[WORST] for picture in shown} == {(32, 96, 3)}


LOGS = {"loss": 1.0, "val_iou": 0.5, "val_iou_a": 0.25, "val_clean_images_b": 0.5, "val_mean_subset_iou": 0.3}


def test_subsets_share_a_section():
    assert scalars(LOGS) == {
        "loss": 1.0, "val_iou": 0.5, "val_iou/a": 0.25, "val_clean_images/b": 0.5, "val_mean_subset_iou": 0.3,
    }  # fmt: skip


def test_wandb_gets_the_names_and_pictures_of_tensorboard(tmp_path, stub):
    wandb = pytest.importorskip("wandb")
    sent = []

    class Run:
        def log(self, values, step):
            sent.append((step, values))

        def finish(self):
            sent.append("finished")

    stub(wandb, "init", lambda **options: Run())
    stub(wandb, "Image", lambda picture: picture)
    picture = np.zeros((4, 12, 3), np.uint8)
    for logger in (
        WandbLogger(tmp_path, {}, lambda logs: [picture]),
        TensorBoardLogger(tmp_path, lambda logs: [picture]),
    ):
        logger.on_epoch_end(4, LOGS)
        logger.on_train_end()
    (step, values), end = sent
    assert (step, end) == (5, "finished") and values[WORST] == [picture]
    numbers, pictures = read_events(tmp_path)
    assert {*numbers, *pictures} == {*values}
    assert numbers["val_iou/a"] == [(5, 0.25)] and pictures[WORST][0][0] == 5


def test_pictures_come_with_a_new_best_epoch_only(stub):
    from types import SimpleNamespace

    stub("segbalance.train.loggers.worst_examples", lambda *arguments: ["picture"])
    pictures = WorstOfBest(SimpleNamespace(class_list=None), None, [], best=0.4)
    found = [pictures({"val_iou": score}) for score in (0.3, 0.5, 0.5, 0.6)]
    assert found == [[], ["picture"], [], ["picture"]]
