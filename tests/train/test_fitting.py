"""Training through `main(argv)`: a tiny network, a few steps, everything that a run leaves behind."""

import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from segbalance.balancing.ledger import read_ledger
from segbalance.commands import prepare, train
from segbalance.dataloader.reading_processes import ReadingProcesses
from segbalance.runtime.command_line import DONE, INTERRUPTED, WRONG_INPUT
from segbalance.runtime.workers import WorkerCrew
from segbalance.train import inputs as run_data
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config, parse_config, save_config
from segbalance.train.folder import BEST, LAST
from tests.support.data import TINY, write_data
from tests.support.places import ROOT


def run(csv_dir, work_dir, *more):
    return train.main([*TINY, "--csv_dir", csv_dir, "--work_dir", work_dir, *more])


def test_a_run_leaves_its_folder(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "config.yaml", "history.csv", "ledger.csv", BEST, LAST, "metrics.json", "curves.png", "tensorboard",
        "checkpoints", "report.html", "evaluation_valid.json", "evaluation_valid.csv",
    }  # fmt: skip
    assert (finished / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert any(path.stat().st_size for path in (finished / "tensorboard").rglob("events*"))


def test_history_has_the_columns_of_the_design(finished):
    history = pd.read_csv(finished / "history.csv")
    assert list(history) == [
        "epoch", "loss", "val_loss", "val_iou", "val_f1", "val_precision", "val_recall",
        "val_iou_a", "val_f1_a", "val_iou_b", "val_f1_b", "learning_rate", "seconds",
    ]  # fmt: skip
    assert history["epoch"].tolist() == [1, 2]
    assert np.isfinite(history.to_numpy()).all()
    assert history.filter(like="val_").drop(columns="val_loss").stack().between(0, 1).all()


def test_the_ledger_has_the_columns_of_the_design(finished):
    ledger = read_ledger(finished)
    columns = ["epoch", "subset", "share", "draws", "images", "max_repeats", "p_value", "skipped"]
    assert list(ledger) == columns
    assert ledger["epoch"].tolist() == [1, 1, 1, 2, 2, 2] and ledger["subset"].tolist() == list("abcabc")
    # 3 steps of 4 images
    assert ledger.groupby("epoch")["draws"].sum().tolist() == [12, 12]
    np.testing.assert_allclose(ledger["share"], 1 / 3)
    assert ledger["p_value"].between(0, 1).all() and ledger["images"].between(1, [6, 3, 1] * 2).all()
    assert (ledger["skipped"] == 0).all() and not (finished / "skipped.csv").exists()


BALANCED = [
    "--balance uniform --augment copies",
    "--balance none",
    "--balance power --balance_alpha 0.3",
    """--balance shares --shares '{"0": 0, "1": 0.4, "default": 1}'""",
    "--balance oversample",
    """--balance oversample --oversample_only 3 4 --oversample_limit 4 --augment copies""",
    """--balance oversample --oversample_below 3 --copies '{"1": 2}'""",
    "--balance exact",
    "--balance loss",
    "--balance none --loss_weights pixel",
    "--balance uniform --loss_weights subset",
]


@pytest.mark.parametrize(
    "options",
    [pytest.param(options, marks=[pytest.mark.slow] * (place % 2)) for place, options in enumerate(BALANCED)],
)
def test_every_way_of_balancing_trains_on_the_sample_data(
    one_convolution, sample_tables, tmp_path, capsys, options
):
    assert run(sample_tables, tmp_path / "run", "--batch_size", "10", *shlex.split(options)) == DONE
    printed = capsys.readouterr().out
    ledger = read_ledger(tmp_path / "run")
    assert ledger.groupby("epoch")["draws"].sum().tolist() == [30, 30]
    history = pd.read_csv(tmp_path / "run/history.csv")
    assert np.isfinite(history.to_numpy()).all() and (history["loss"] > 0).all()
    assert "effective weight" in printed and load_config(tmp_path / "run").balancing.balance in options
    if "exact" in options:
        assert (ledger["draws"] == 6).all(), "2 of 10 places for each of 5 subsets, 3 steps"
    if "shares" in options:
        assert ledger.loc[ledger["subset"] == "0", "draws"].tolist() == [0, 0]
        assert "note: a share of 0 leaves out subset 0" in printed
    assert ("warning: balance uniform draws" in printed) == ("--loss_weights subset" in options)


@pytest.mark.slow
def test_loss_weights_change_the_training_and_not_the_validation_loss(one_convolution, tables, tmp_path):
    def history(name, *options):
        assert run(tables, tmp_path / name, "--learning_rate", "1e-12", *options) == DONE
        return pd.read_csv(tmp_path / name / "history.csv")

    plain, weighted = history("plain", "--balance", "none"), history("weighted", "--balance", "loss")
    pixel = history("pixel", "--balance", "none", "--loss_weights", "pixel")
    assert abs(plain["loss"] - weighted["loss"]).min() > 1e-4
    assert abs(plain["loss"] - pixel["loss"]).min() > 1e-2
    np.testing.assert_allclose(weighted["val_loss"], plain["val_loss"], rtol=1e-5)
    np.testing.assert_allclose(pixel["val_loss"], plain["val_loss"], rtol=1e-5)


@pytest.mark.slow
def test_the_loss_is_that_of_the_option(one_convolution, tables, tmp_path):
    histories = []
    for number, loss in enumerate(["jaccard", "2*jaccard", "2*jaccard+bce"]):
        words = ["--loss", loss, "--learning_rate", "1e-12"]
        assert run(tables, tmp_path / str(number), *words) == DONE
        histories.append(pd.read_csv(tmp_path / f"{number}/history.csv"))
    for column in ("loss", "val_loss"):
        plain, doubled, more = (history[column] for history in histories)
        np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-5)
        assert (more > doubled + 0.1).all()


def test_every_epoch_has_one_line(one_convolution, tables, tmp_path, capsys):
    assert run(tables, tmp_path / "run") == DONE
    printed = capsys.readouterr().out
    history = pd.read_csv(tmp_path / "run/history.csv")
    form = (
        r"epoch (\d)/2  loss ([0-9.]+)  IoU ([0-9.]+) \(best ([0-9.]+)\)  weakest ([ab]) ([0-9.]+)  "
        r"[0-9.e+]+ images/s  00:\d\d left"
    )
    lines = [line for line in printed.splitlines() if re.match(r"epoch \d/", line)]
    found = [re.fullmatch(form, line).groups() for line in lines]
    assert [epoch for epoch, *_ in found] == ["1", "2"] and "\r" not in printed
    assert max(map(len, lines)) <= 100
    for (_, loss, iou, best, weakest, score), (_, row) in zip(found, history.iterrows(), strict=True):
        assert (loss, iou) == (f"{row['loss']:.3f}", f"{row['val_iou']:.3f}")
        assert best == f"{history['val_iou'][: int(row['epoch'])].max():.3f}"
        assert score == f"{min(row['val_iou_a'], row['val_iou_b']):.3f}" == f"{row[f'val_iou_{weakest}']:.3f}"


def test_an_epoch_off_its_shares_is_warned_about(
    one_convolution, tables, tmp_path, monkeypatch, stub, capsys
):
    stub("segbalance.balancing.ledger.p_value", lambda counts, shares: 1e-7)
    monkeypatch.setattr("segbalance.balancing.ledger.LEAST_EXPECTED", 1)
    assert run(tables, tmp_path / "run") == DONE
    assert "warning: epoch 2 did not keep its shares (p = 1e-07)" in capsys.readouterr().out


def test_metrics_are_those_of_the_best_epoch(finished):
    history = pd.read_csv(finished / "history.csv")
    metrics = json.loads((finished / "metrics.json").read_text())
    best = history.loc[history["val_iou"].idxmax()]
    assert metrics["epoch"] == best["epoch"]
    assert metrics["iou"] == pytest.approx(best["val_iou"])
    assert [row["subset"] for row in metrics["subsets"]] == ["a", "b", "c"]
    assert metrics["subsets"][1]["iou"] == pytest.approx(best["val_iou_b"])
    assert metrics["subsets"][2] == {"subset": "c", "images": 1, "valid": 0, "iou": None, "f1": None}


def test_the_saved_config_is_complete_and_reads_back(finished):
    config = load_config(finished)
    assert config.data.transforms == {"c": "strong"}
    assert (config.optimisation.epochs, config.optimisation.steps_per_epoch, config.run.mixed_precision) == (
        2,
        3,
        False,
    )
    assert Path(config.data.data_root).is_dir() and Path(config.data.csv_dir).is_dir()


@pytest.mark.parametrize("name", ["1e3", "2E4", "10e-2", "1_0", "nan", "null", "07", "yes", "1:20", "a: b"])
def test_names_that_look_like_numbers_come_back(name, finished, tmp_path):
    config = load_config(finished).replace(work_dir=str(tmp_path))
    colours = ["#000000", "#ff0000"]
    config = config.replace(classes=["background", name], class_colours=colours)
    config = config.replace(transforms={name: "strong"}, balance="shares", shares={name: 1.0})
    save_config(config, tmp_path)
    assert load_config(tmp_path) == config


def test_the_best_weights_give_the_scores_of_the_best_epoch(finished):
    from segbalance.data_processing.manifest import read_manifest
    from segbalance.dataloader.batches import validation_dataset
    from segbalance.model.networks import SegmentationModel, compile_model
    from segbalance.prediction.predictor import load_network
    from segbalance.transforms.pipelines import valid_transform

    config = load_config(finished)
    manifest = read_manifest(config.data.csv_dir)
    held_out = run_data.valid_tables(manifest)
    subsets = run_data.loader_subsets(manifest, held_out, dict.fromkeys(held_out, valid_transform(32)))
    model = SegmentationModel(load_network(finished), held_out)
    compile_model(model, learning_rate=0.001, steps=1, warmup_steps=0)
    dataset, _ = validation_dataset(subsets, image_size=32, batch_size=2)
    scores = model.evaluate(dataset, verbose=0, return_dict=True)
    assert scores["iou"] == pytest.approx(json.loads((finished / "metrics.json").read_text())["iou"])


@pytest.mark.slow
def test_the_same_seed_gives_identical_weights(tables, finished, tmp_path):
    assert run(tables, tmp_path / "again", "--transforms", '{"c": "strong"}') == DONE
    first, again = (weights(folder / LAST) for folder in (finished, tmp_path / "again"))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    columns = [name for name in pd.read_csv(finished / "history.csv") if name != "seconds"]
    pd.testing.assert_frame_equal(
        pd.read_csv(finished / "history.csv")[columns], pd.read_csv(tmp_path / "again/history.csv")[columns]
    )


def test_another_architecture_and_loss_with_a_frozen_encoder(tables, tmp_path, capsys):
    from segbalance.prediction.predictor import load_network

    words = " ".join(TINY).replace("--decoder_filters 16 8 8 4 4 ", "").replace("size 32", "size 48").split()
    folder = tmp_path / "run"
    more = "--architecture pspnet --loss 0.5*bce+tversky --freeze_epochs 1 --unfreeze_learning_rate 0.0002"
    assert train.main([*words, "--csv_dir", tables, "--work_dir", folder, *more.split()]) == DONE
    printed = capsys.readouterr().out
    assert "warning: freeze_epochs keeps an encoder of random weights" in printed
    assert "epoch 2: the encoder learns too" in printed
    config, history = load_config(folder), pd.read_csv(folder / "history.csv")
    assert (config.network.architecture, config.optimisation.loss, config.network.decoder_filters) == (
        "pspnet",
        "0.5*bce+tversky",
        [],
    )
    assert np.isfinite(history.to_numpy()).all() and (history["loss"] > 0).all()
    # Cosine decay at the last of 6 steps, with 0.0002 in the place of the learning rate.
    assert history["learning_rate"][1] == pytest.approx(0.0001 * (1 + math.cos(math.pi * 5 / 6)), rel=1e-5)
    network = load_network(folder)
    inner = next(layer for layer in network.layers if hasattr(layer, "layers"))
    assert {layer.name for layer in inner.layers} >= {"psp_concat", "final_upsampling"}
    assert network(np.zeros((1, 48, 48, 3), np.uint8)).shape == (1, 48, 48, 1)


def test_a_run_from_before_there_were_architectures_is_a_unet(finished, tmp_path):
    settings = yaml.safe_load((finished / "config.yaml").read_text())
    settings |= settings.pop("filled_in")
    new = "architecture loss freeze_epochs unfreeze_learning_rate task classes class_colours"
    for name in new.split():
        del settings[name]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    config = load_config(tmp_path)
    assert config == load_config(finished)
    assert config.network.architecture == "unet"
    assert (config.optimisation.loss, config.optimisation.freeze_epochs) == ("dice+focal", 0)
    assert config.network.decoder_filters == [16, 8, 8, 4, 4]


def weights(path):
    import h5py

    arrays = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return arrays


@pytest.mark.slow
def test_no_balancing_bfloat16_wandb_offline_and_early_stopping(
    one_convolution, tables, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "run"
    options = (
        "--balance none --mixed_precision bfloat16 --log wandb --patience 1 --epochs 6 --learning_rate 1e-9"
    )
    assert run(tables, folder, *options.split()) == DONE
    assert len(pd.read_csv(folder / "history.csv")) < 6, "without progress, patience ends the run early"
    assert any(path.suffix == ".wandb" for path in (folder / "wandb").rglob("*"))
    assert load_config(folder).run.mixed_precision == "bfloat16"
    printed = capsys.readouterr().out
    assert "60.0%" in printed and "no GPU found: training on the CPU" in printed


def test_a_nan_loss_stops_the_run_and_names_the_step(one_convolution, tables, tmp_path, capsys):
    assert run(tables, tmp_path / "run", "--learning_rate", "1e38", "--warmup_epochs", "0") == WRONG_INPUT
    message = capsys.readouterr().err
    step, place = re.search(
        r"became nan at step (\d), counted from 0 \(epoch 1, its step (\d)\)", message
    ).groups()
    assert int(place) == int(step) + 1
    assert "Try a lower --learning_rate" in message


def test_ctrl_c_ends_with_130_and_keeps_what_was_reached(one_convolution, tables, tmp_path, stub, capsys):
    from segbalance.train import callbacks

    def interrupt(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    stub(callbacks.StopAtNaN, "on_epoch_begin", interrupt)
    assert run(tables, tmp_path / "run") == INTERRUPTED
    assert len(pd.read_csv(tmp_path / "run/history.csv")) == 1
    assert (tmp_path / "run" / BEST).exists() and (tmp_path / "run/curves.png").exists()
    assert "interrupted" in capsys.readouterr().err


def test_a_file_that_goes_bad_is_named(one_convolution, tmp_path, capsys):
    root = write_data(tmp_path / "data", {"a": 2})
    write_data(root, {"a": 1}, "valid", first_seed=1)
    assert prepare.main(["--data_root", root, "--csv_dir", tmp_path / "csv_file"]) == DONE
    (root / "train/masks/a/1.png").write_bytes(b"rubbish")
    assert run(tmp_path / "csv_file", tmp_path / "run") == WRONG_INPUT
    place = f"subset a, {tmp_path}/csv_file/traina.csv line 3: {root}/train/masks/a/1.png cannot be decoded"
    assert f"error: training stopped: {place}\n" in capsys.readouterr().err


@pytest.mark.slow
def test_cached_runs_end_with_the_same_weights(one_convolution, tables, tmp_path, stub):
    stub("segbalance.dataloader.pair_cache.cache_folder", lambda: tmp_path / "cache")
    for name, options in {"off": "", "ram": "--cache ram", "disk": "--cache disk --cache_gb 0.1"}.items():
        assert run(tables, tmp_path / name, *options.split()) == DONE
    first, *others = (weights(tmp_path / name / LAST) for name in ("off", "ram", "disk"))
    for other in others:
        assert all((a == b).all() for a, b in zip(first, other, strict=True))
    assert (tmp_path / "cache/data.mdb").stat().st_size > 10 * 50 * 60 * 4
    assert load_config(tmp_path / "disk").loading.working_size == 64, "twice image_size, by default"


@pytest.mark.slow
def test_worker_processes_train_as_threads_do(one_convolution, tables, tmp_path, stub):
    ready, read, batches = WorkerCrew.ready, ReadingProcesses.read, []

    def wait(crew):  # or this short run would be over before the processes have started
        while not ready(crew):
            time.sleep(0.01)
        return True

    def counted(processes, samples):
        batches.append(len(samples))
        return read(processes, samples)

    stub(WorkerCrew, "ready", wait)
    stub(ReadingProcesses, "read", counted)
    for number in (0, 2):
        assert run(tables, tmp_path / str(number), "--num_workers", number) == DONE
        assert (len(batches) >= 2 * 3) == (number == 2) and set(batches) <= {4}
        assert load_config(tmp_path / str(number)).loading.num_workers == number
    threads, processes = (weights(tmp_path / number / LAST) for number in "02")
    assert all((a == b).all() for a, b in zip(threads, processes, strict=True))
    threads, processes = (pd.read_csv(tmp_path / number / "history.csv") for number in "02")
    pd.testing.assert_frame_equal(threads.drop(columns="seconds"), processes.drop(columns="seconds"))


@pytest.mark.filterwarnings("ignore:Using lambda")
def test_a_transform_that_cannot_be_sent_to_processes_is_refused(
    one_convolution, tables, tmp_path, monkeypatch, capsys
):
    (tmp_path / "with_lambda.py").write_text(
        "import albumentations as A\n"
        "def pipeline(size):\n"
        "    return A.Compose([A.Lambda(image=lambda image, **_: image), A.Resize(size, size)])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # and gone after the test
    options = ["--transforms", '{"default": "with_lambda:pipeline"}', "--num_workers"]
    assert run(tables, tmp_path / "run", *options, "2") == WRONG_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: a transform cannot be sent to worker processes: ")
    assert "read on threads with --num_workers 0." in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()
    assert run(tables, tmp_path / "run", *options, "0") == DONE


WRONG = [
    ("--working_size 16", "working_size must be at least image_size 32, or 0 for photos as they are; got 16"),
    ("--cache_gb 0", "cache_gb must be greater than 0, got 0.0"),
    ("--cache tape", "cache"),
    ("--image_size 390", "image_size must be a multiple of 32, got 390; try 384 or 416"),
    ("--batch_size 0", "batch_size must be greater than 0, got 0"),
    ("--epochs -1", "epochs must be greater than 0, got -1"),
    ("--num_workers -1", "num_workers must not be negative, got -1"),
    ("--max_bad_files -1", "max_bad_files must not be negative, got -1"),
    ("--on_bad_file guess", "on_bad_file"),
    ("--learning_rate 0", "learning_rate must be greater than 0, got 0.0"),
    ("--warmup_epochs -1", "warmup_epochs must not be negative, got -1.0"),
    ("--backbone resnet19", "backbone 'resnet19' is unknown; known: vgg16"),
    ("--encoder_weights nowhere.h5", "encoder_weights 'nowhere.h5' is neither imagenet, none nor a file"),
    ("--decoder_filters 8 8", "decoder_filters must be five numbers greater than 0, got [8, 8]"),
    ("--architecture segnet", "architecture"),
    ("--architecture pspnet --image_size 400",
     "image_size must be a multiple of 48 for architecture pspnet, got 400; try 384 or 432"),
    ("--backbone inceptionv3", "at least 96 for backbone inceptionv3, got 32; try 96"),
    ("--architecture linknet",
     "decoder_filters works only with architecture unet, got architecture linknet; leave"),
    ("--freeze_epochs -1", "freeze_epochs must not be negative, got -1"),
    ("--unfreeze_learning_rate 0.1",
     "unfreeze_learning_rate works only with freeze_epochs greater than 0 and less than epochs, "
     "got freeze_epochs 0 and epochs 2"),
    ("--freeze_epochs 2 --unfreeze_learning_rate 0.1", "got freeze_epochs 2 and epochs 2"),
    ("--freeze_epochs 1 --unfreeze_learning_rate 0", "unfreeze_learning_rate must be greater than 0, got 0"),
    ("--freeze_epochs 1 --unfreeze_learning_rate .inf", "unfreeze_learning_rate must be a finite number"),
    ("--loss dise", "loss 'dise': 'dise' is unknown; expected one of dice, jaccard, focal, bce, tversky"),
    ("--loss dice+0*focal", "the factor of focal must be a number greater than 0, got '0'"),
    ("--device 0 0", "device must be different GPU numbers from 0 on, got [0, 0]"),
    ("--batch_size many", "batch_size"),
    ("--no_such_option 3", "no_such_option"),
    ("--balance fair", "balance"),
    ("--balance exact --batch_size 2", "one image of each of the 3 subsets, got batch_size 2"),
    ("--balance shares --shares {\"z\":1,\"default\":1}", "shares names unknown subsets z; known: a, b, c"),
    ("--balance shares --shares {\"a\":-1,\"default\":1}", "share of a must be a number from 0 up, got -1"),
    ("--balance shares --shares {\"a\":0,\"default\":0}", "shares must have a sum greater than 0"),
    ("--balance shares --shares lots", "shares"),
    ("--copies {\"a\":2}", "copies works only with balance oversample, got balance uniform"),
    ("--transforms {\"z\":\"train\"}", "transforms name unknown subsets z; known: a, b, c, default"),
    ("--transforms {\"a\":\"harsh\"}", "transform 'harsh' is unknown; known: train, train_fast, valid"),
    ("--csv_dir nowhere", "does not exist. Make the manifests first: python data_processing.py"),
    ("--data_root nowhere", "--data_root nowhere: there is no such folder"),
    ("--config nowhere.yaml", "nowhere.yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[options for options, _ in WRONG])
def test_wrong_input_ends_with_status_2_and_leaves_nothing(tables, tmp_path, capsys, options, message):
    assert run(tables, tmp_path / "run", *options.split()) == WRONG_INPUT
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_all_problems_of_the_options_are_reported_together(tables, tmp_path, capsys):
    assert run(tables, tmp_path / "run", "--batch_size", "-4", "--image_size", "33") == WRONG_INPUT
    error = capsys.readouterr().err
    assert "batch_size must be" in error and "image_size must be" in error


def test_a_folder_with_a_run_is_not_touched(tables, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert run(tables, finished) == WRONG_INPUT
    assert "holds a run already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in finished.iterdir()}


def test_wandb_missing_is_an_error_with_the_way_out(tables, tmp_path, stub, capsys):
    stub("importlib.util.find_spec", lambda name: None)
    assert run(tables, tmp_path / "run", "--log", "wandb") == WRONG_INPUT
    assert 'pip install -e ".[wandb]"' in capsys.readouterr().err


def parse(line):
    return parse_config(TrainConfig, line.split(), prog="train.py", description="")


def test_the_tutorials_command_line_works_as_it_stands():
    config = parse(
        "--data_root D --work_dir W --device 0 1 --batch_size 32 --epochs 100 --mixed_precision True "
        "--log tensorboard"
    )
    assert (config.data.data_root, config.run.work_dir, config.run.device) == ("D", "W", [0, 1])
    assert (config.run.mixed_precision, config.run.log) == (True, "tensorboard")
    assert parse("--mixed_precision False").run.mixed_precision is False
    defaults = TrainConfig().options()
    tutorial = {"batch_size": 32, "epochs": 100, "learning_rate": 0.001, "image_size": 384}
    tutorial |= {"decoder_filters": [256, 128, 64, 32, 16], "backbone": "efficientnetb4"}
    tutorial |= {"encoder_weights": "imagenet", "balance": "uniform"}
    assert {name: defaults[name] for name in tutorial} == tutorial


def test_the_command_line_wins_over_the_yaml_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        yaml.safe_dump({"epochs": 7, "batch_size": 5, "transforms": {4: "strong"}, "device": [1]})
    )
    config = parse(f"--config {file} --epochs 9")
    assert (
        config.optimisation.epochs,
        config.optimisation.batch_size,
        config.data.transforms,
        config.run.device,
    ) == (
        9,
        5,
        {"4": "strong"},
        [1],
    )


@pytest.mark.parametrize("text", ["batch_size: many", "no_such_option: 1", "batch_size: [", "- 1"])
def test_a_wrong_yaml_file_is_an_error(tables, tmp_path, capsys, text):
    (tmp_path / "run.yaml").write_text(text)
    assert run(tables, tmp_path / "run", "--config", tmp_path / "run.yaml") == WRONG_INPUT
    assert "error: " in capsys.readouterr().err


def test_help_fits_the_first_screen(capsys):
    assert train.main(["--help"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    assert "--balance How images are drawn: uniform, none, power" in text
    assert "--batch_size Images a step, over all devices (default: 32)" in text
    assert "--shares" not in text and "`train.py --help all` shows all options" in text


def test_quiet_and_verbose(one_convolution, tables, tmp_path, capsys):
    assert run(tables, tmp_path / "run", "--quiet", "--epochs", "1") == DONE
    shown = capsys.readouterr()
    first = shown.out.strip().splitlines()[0]
    assert first.startswith("best epoch 1: iou ") and shown.err == ""
    assert run(tables, tmp_path / "other", "--quiet", "--verbose") == WRONG_INPUT
    assert "quiet and verbose exclude each other; leave one out" in capsys.readouterr().err


def test_help_names_the_defaults_of_the_code(capsys):
    assert train.main(["--help", "all"]) == DONE
    text = " ".join(capsys.readouterr().out.split())
    assert "default: efficientnetb4" in text and "default: 384" in text and "--transforms" in text


def test_the_command_runs_from_any_directory(tmp_path):
    process = subprocess.run(
        [sys.executable, ROOT / "train.py", "--image_size", "390"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ,
    )  # fmt: skip
    assert process.returncode == 2
    assert "try 384 or 416" in process.stderr and "Traceback" not in process.stderr
    assert "tensorflow" not in process.stderr.lower(), "a mistake is answered before TensorFlow is imported"
