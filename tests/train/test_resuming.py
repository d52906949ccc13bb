"""A stopped run goes on to the very weights of the unbroken one, or says why it may not."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segbalance.balancing.ledger import LEDGER
from segbalance.commands import train, verify_resume
from segbalance.data_processing.classes import Classes
from segbalance.data_processing.manifest import read_manifest
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.errors import InputError
from segbalance.model import networks as model
from segbalance.train import checkpointer, resuming
from segbalance.train.checkpoints import CHECKPOINTS, Checkpoint
from segbalance.train.config_file import load_config
from segbalance.train.folder import BEST, HISTORY, LAST
from segbalance.train.resuming import Resumption, check_manifest, manifest_digests, resumed_config
from segbalance.train.stopping import TimeLimit
from tests.support.data import TINY
from tests.support.places import ROOT
from tests.support.stubs import stubbing

STEPS, EPOCHS = 4, 3


@pytest.fixture(scope="module", autouse=True)
def network():
    """A network of a few layers, with the moving averages and the random state that real ones have."""
    from segbalance.legacy_keras import tf

    def build(backbone, image_size, **options):
        photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8)
        x = tf.keras.layers.Rescaling(1 / 255, dtype="float32")(photo)
        for layer in (
            tf.keras.layers.Conv2D(4, 3, padding="same", use_bias=False),
            tf.keras.layers.BatchNormalization(),
        ):
            layer.trainable = not options.get("freeze_encoder")
            x = layer(x)
        x = tf.keras.layers.Dropout(0.3)(x)
        return tf.keras.Model(photo, tf.keras.layers.Conv2D(1, 1, activation="sigmoid")(x))

    with stubbing() as stub:
        stub("segbalance.model.networks.build_network", build)
        yield


@pytest.fixture
def at(stub):
    """Calls a function at a step of the training, or at a batch of the validation."""
    from segbalance.legacy_keras import tf
    from segbalance.train import callbacks

    def install(action, step=None, validation=None):
        class At(tf.keras.callbacks.Callback):
            validated = 0

            def on_train_batch_end(self, batch, logs=None):
                if step is not None and int(self.model.optimizer.iterations) == step:
                    action()

            def on_test_batch_end(self, batch, logs=None):
                self.validated += 1
                if self.validated == validation:
                    action()

        usual = callbacks.run_callbacks
        added = lambda *arguments: [At(), *usual(*arguments)]  # noqa: E731
        stub(callbacks, "run_callbacks", added)
        return lambda: stub(callbacks, "run_callbacks", usual)

    return install


def options(tables, folder, *more):
    words = [*TINY, "--csv_dir", tables, "--work_dir", folder, "--learning_rate", 0.01]
    return [*words, "--epochs", EPOCHS, "--steps_per_epoch", STEPS, "--augment", "copies", *more]


@pytest.fixture(scope="module")
def whole(tables, network, tmp_path_factory):
    """Folder of a run that nothing interrupted, which no test may change."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train.main(options(tables, folder)) == 0
    return folder


@pytest.fixture
def unbroken(whole, tmp_path):
    """A copy of that run."""
    return shutil.copytree(whole, tmp_path / "unbroken")


def sent(number):
    return lambda: os.kill(os.getpid(), number)


MOMENTS = {
    "within the first epoch": (signal.SIGINT, 130, {"step": 2}),
    "within the second epoch": (signal.SIGTERM, 143, {"step": 5}),
    "at the last step of an epoch": (signal.SIGINT, 130, {"step": 2 * STEPS}),
    "in the first validation": (signal.SIGTERM, 143, {"validation": 1}),
    "in the last validation": (signal.SIGINT, 130, {"validation": 6}),
}


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(
            moment, marks=[pytest.mark.slow] * ("within the second" in moment or "last step" in moment)
        )
        for moment in MOMENTS
    ],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(moment, tables, unbroken, tmp_path, at, capsys):
    number, status, place = MOMENTS[moment]
    folder = tmp_path / "run"
    undo = at(sent(number), **place)
    assert train.main(options(tables, folder)) == status
    out = capsys.readouterr().out
    assert "stopping after this step" in out and f"python train.py --resume {folder}" in out
    undo()
    assert train.main(["--resume", folder]) == 0
    assert "going on at step" in capsys.readouterr().out
    assert verify_resume.differences(folder, unbroken) == []
    assert list(pd.read_csv(folder / HISTORY)["epoch"]) == [1, 2, 3], "no gap, no double"


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("training", 2),
        pytest.param("validation", 1, marks=pytest.mark.slow),
        pytest.param("epoch", 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_whose_time_is_up_goes_on_as_if_nothing_had_been(
    kind, number, tables, unbroken, tmp_path, stub, capsys
):
    folder, seen = tmp_path / "run", []
    stub(TimeLimit, "is_near", lambda limit, each: seen.append(each) or seen.count(kind) == number)
    assert train.main(options(tables, folder, "--max_minutes", 230)) == 75
    out = capsys.readouterr().out
    assert "--max_minutes 230 are nearly over: stopping" in out
    assert out.endswith(f"stopped; go on with: python train.py --resume {folder}\n")
    stub(TimeLimit, "is_near", lambda limit, kind: False)
    assert train.main(["--resume", folder, "--max_minutes", 100]) == 0
    assert verify_resume.differences(folder, unbroken) == []


def test_a_run_stops_in_time_by_the_clock(tables, tmp_path, network, stub):
    stub("segbalance.commands.train.program_start", lambda: time.monotonic() - 3600)
    folder = tmp_path / "run"
    assert train.main(options(tables, folder, "--max_minutes", 60)) == 75
    assert checkpoints(folder) == ["epoch00000-step000000001"]


FROZEN = ("--freeze_epochs", 2)


@pytest.fixture(scope="module")
def frozen(tables, network, tmp_path_factory):
    """Folder of a run whose encoder was frozen for two of three epochs, which no test may change."""
    folder = tmp_path_factory.mktemp("frozen") / "run"
    assert train.main(options(tables, folder, *FROZEN)) == 0
    return folder


FREEZING_MOMENTS = {
    "while the encoder is frozen": {"step": STEPS + 2},
    "in the validation before it learns": {"validation": 4},
    "at the last step of the frozen epochs": {"step": 2 * STEPS},
    "at the first step in which it learns": {"step": 2 * STEPS + 1},
    "while it learns": {"step": 2 * STEPS + 3},
}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(name, marks=[pytest.mark.slow] * ("first step" not in name)) for name in FREEZING_MOMENTS],
)
def test_freezing_goes_on_as_if_nothing_had_been(moment, tables, frozen, tmp_path, at, capsys):
    folder = tmp_path / "run"
    undo = at(sent(signal.SIGTERM), **FREEZING_MOMENTS[moment])
    assert train.main(options(tables, folder, *FROZEN)) == 143
    undo()
    assert train.main(["--resume", folder]) == 0
    assert "epoch 3: the encoder learns too" in capsys.readouterr().out
    assert verify_resume.differences(folder, frozen) == []


def test_freezing_changes_the_run_from_its_first_epoch_on(whole, frozen):
    before, after = (pd.read_csv(folder / HISTORY) for folder in (whole, frozen))
    assert (before["loss"] != after["loss"]).all() and (before["val_loss"] != after["val_loss"]).all()
    # A tenth of the cosine decay's learning rate, in the third epoch alone.
    np.testing.assert_allclose(after["learning_rate"] / before["learning_rate"], [1, 1, 0.1], rtol=1e-5)


def test_the_comparison_sees_a_difference(tables, unbroken, tmp_path):
    other = tmp_path / "other"
    assert train.main(options(tables, other, "--seed", 1)) == 0
    assert verify_resume.differences(other, unbroken) == [BEST, LAST, HISTORY, LEDGER]


def killed(tables, folder, at, step, *more):
    """A run that an error ends at a step, as a failing machine would, without a last word."""

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    undo = at(die, step=step)
    with pytest.raises(Killed):
        train.main(options(tables, folder, *more))
    undo()
    return folder


def checkpoints(folder):
    return sorted(path.name for path in Path(folder, CHECKPOINTS).iterdir())


@pytest.mark.slow
def test_checkpoints_within_an_epoch(tables, unbroken, tmp_path, at, capsys):
    folder = killed(tables, tmp_path / "run", at, 8, "--save_every", 3)
    assert checkpoints(folder) == ["epoch00001-step000000004", "epoch00001-step000000006"]
    assert train.main(["--resume", folder]) == 0
    assert "going on at step 6," in capsys.readouterr().out
    assert verify_resume.differences(folder, unbroken) == []


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tables, unbroken, tmp_path, at, capsys):
    folder = killed(tables, tmp_path / "run", at, 8, "--save_every", 3)
    path = folder / CHECKPOINTS / "epoch00001-step000000006" / "variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert train.main(["--resume", folder]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"warning: .*step000000006 is damaged: variables.data.* is not what was written; going on", out
    )
    assert "going on at step 4," in out
    assert verify_resume.differences(folder, unbroken) == []


@pytest.mark.slow
def test_before_the_first_checkpoint_it_begins_again(tables, unbroken, tmp_path, at):
    folder = killed(tables, tmp_path / "run", at, 2)
    assert train.main(["--resume", folder]) == 0
    assert verify_resume.differences(folder, unbroken) == []


@pytest.mark.slow
def test_early_stopping_counts_on(tables, tmp_path, at, capsys):
    patience = ("--patience", 2, "--learning_rate", "1e-9", "--epochs", 9)
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert train.main(options(tables, whole, *patience)) == 0
    ended = len(pd.read_csv(whole / HISTORY))
    assert 3 <= ended < 9, "patience ended it"
    killed(tables, folder, at, (ended - 1) * STEPS + 1, *patience)
    assert train.main(["--resume", folder]) == 0
    assert verify_resume.differences(folder, whole) == []
    capsys.readouterr()
    assert train.main(["--resume", folder]) == 0
    assert f"finished after {ended} epochs: --patience 2 ended it" in capsys.readouterr().out
    assert verify_resume.differences(folder, whole) == [], "and nothing was trained"


def test_a_finished_run_says_so(tables, unbroken, capsys):
    assert train.main(["--resume", unbroken]) == 0
    assert "finished after 3 epochs: it was to have 3. More: --epochs" in capsys.readouterr().out


def test_more_epochs_begin_a_new_decay(tables, unbroken, capsys):
    before = pd.read_csv(unbroken / HISTORY)
    assert train.main(["--resume", unbroken, "--epochs", 6]) == 0
    history = pd.read_csv(unbroken / HISTORY)
    pd.testing.assert_frame_equal(history[:3], before)
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    # Cosine decay (Loshchilov and Hutter 2017), 0.01 at step 12 and 0 at step 24; a row has the rate of the
    # last step of its epoch, which is 3, 7 or 11 steps into the decay.
    expected = [0.01 * (1 + math.cos(math.pi * step / 12)) / 2 for step in (3, 7, 11)]
    assert list(history["learning_rate"][3:]) == pytest.approx(expected, rel=1e-5)
    config = load_config(unbroken)
    assert (config.optimisation.epochs, config.filled_in.decay_start) == (6, 12)


@pytest.mark.parametrize(
    "more, message",
    [
        (
            ["--batch_size", 2, "--seed", 5],
            r"(?s)these differ.*batch_size: 4 in the run, 2 now.*seed: 0 in .*--force",
        ),
        (["--epochs", 1], "--epochs 1: the run has finished 3 epochs already"),
        (["--work_dir", "elsewhere"], "continues the run in that folder. Leave out --work_dir elsewhere"),
    ],
)
def test_what_may_not_change(more, message, unbroken, capsys):
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    assert train.main(["--resume", unbroken, *more]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before


def test_no_word_about_the_folder_is_no_other_folder(unbroken):
    wanted = load_config(unbroken).replace(work_dir=None)
    config, _, _ = resumed_config(unbroken, wanted, force=False)
    assert config.run.work_dir == str(unbroken)


def test_other_manifests_are_refused(tables, unbroken, tmp_path, capsys):
    other = shutil.copytree(tables, tmp_path / "other")
    lines = (other / "traina.csv").read_text().splitlines(keepends=True)
    (other / "traina.csv").write_text("".join(lines[:-1]))
    header, *rows = (other / "trainb.csv").read_text().splitlines(keepends=True)
    (other / "trainb.csv").write_text("".join([header, *reversed(rows)]))
    words = ["--resume", unbroken, "--csv_dir", other, "--epochs", 4]
    assert train.main(words) == 2
    message = capsys.readouterr().err
    assert "traina.csv: 6 rows in the run, 5 now" in message
    assert "trainb.csv: 3 rows, but others" in message and "trainc" not in message
    assert train.main([*words, "--force"]) == 0
    assert "warning: --resume" in capsys.readouterr().out
    assert len(pd.read_csv(unbroken / HISTORY)) == 4


def test_other_meanings_of_the_masks_are_refused(tables):
    manifest = read_manifest(tables)
    before = manifest_digests(manifest)
    resumption = Resumption(Checkpoint(Path("c"), {"manifest": before}))
    assert check_manifest("run", resumption, lambda: before, False) == (resumption, [])
    names = Classes(("background", "nail", "ring"), ("#000000", "#ff0000", "#00ff00"))
    swapped = MaskEncoding("values", ((0, 1), (255, 0)))
    for change, what in (
        ({"encoding": swapped}, "2 classes, but others"),
        ({"classes": names}, "2 classes in the run, 3 now"),
    ):
        after = manifest_digests(dataclasses.replace(manifest, **change))
        with pytest.raises(InputError, match=f"manifest.json: {what}"):
            check_manifest("run", resumption, lambda digests=after: digests, False)
        assert not check_manifest("run", resumption, lambda digests=after: digests, True)[0].exact
        del before["meaning"]  # of a run of an earlier version
        assert check_manifest("run", resumption, lambda digests=after: digests, False)[1] == []
        before |= manifest_digests(manifest)


def test_a_checkpoint_of_another_network_leaves_the_run_as_it_was(unbroken, capsys):
    before = {path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file()}
    with stubbing() as stub:
        build = model.build_network
        stub(
            "segbalance.model.networks.build_network",
            lambda *a, **options: with_one_more(build(*a, **options)),
        )
        assert train.main(["--resume", unbroken, "--batch_size", 2, "--epochs", 4, "--force"]) == 2
    assert "does not hold the state of this model" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file()}


def with_one_more(network):
    """The network with another convolution behind it."""
    from segbalance.legacy_keras import tf

    return tf.keras.Model(network.input, tf.keras.layers.Conv2D(1, 1)(network.output))


@pytest.mark.slow
def test_force_goes_on_with_another_config(tables, unbroken, tmp_path, at, capsys):
    folder = killed(tables, tmp_path / "run", at, 7, "--save_every", 3)
    words = ["--resume", folder, "--batch_size", 2, "--force"]
    assert train.main(words) == 0
    out = capsys.readouterr().out
    assert "warning: going on with batch_size: 4 in the run, 2 now (--force)" in out
    assert "going on at step 4," in out, "the interrupted epoch from its beginning"
    assert set(pd.read_csv(folder / LEDGER).groupby("epoch")["draws"].sum()[1:]) == {2 * STEPS}


def test_the_hash_of_the_code_covers_all_rooms(tmp_path):
    (tmp_path / "room").mkdir()
    for name in ("errors.py", "room/one.py"):
        (tmp_path / name).write_text("x = 1\n")
    first = resuming.code_hash(tmp_path)
    (tmp_path / "room/notes.txt").write_text("no code")
    assert resuming.code_hash(tmp_path) == first
    (tmp_path / "room/one.py").write_text("x = 2\n")
    assert resuming.code_hash(tmp_path) != first
    assert resuming.versions()["code"] == resuming.code_hash(ROOT / "segbalance")


def test_another_version_is_a_warning(tables, unbroken, capsys, stub):
    stub("segbalance.train.resuming.versions", lambda *_: {"numpy": "0.1"})
    assert train.main(["--resume", unbroken]) == 0
    assert re.search(
        r"warning: the rest of the run may not be .*numpy 2\S+ then, 0.1 now", capsys.readouterr().out
    )


@pytest.fixture
def begun_before(unbroken, stub):
    """The folder of a run whose checkpoint is from before built-in pipelines had versions."""
    newest, keys = resuming.newest_checkpoint, []

    def old(folder):
        checkpoint, problems = newest(folder)
        versions = checkpoint.state["versions"]
        keys.extend(name for name in list(versions) if name.startswith("transform "))
        checkpoint.state["versions"] = {name: versions[name] for name in versions if name not in keys}
        return checkpoint, problems

    stub("segbalance.train.resuming.newest_checkpoint", old)
    yield unbroken
    assert keys == ["transform train", "transform train_fast", "transform light"]


def test_a_run_is_told_that_the_meaning_of_its_pipeline_changed(begun_before, capsys):
    assert train.main(["--resume", begun_before]) == 0
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert warning.startswith(
        "warning: built-in transforms have changed since the run began: train (no longer flips photos upside "
        "down). What is left of the run is augmented in the new way"
    )


def test_a_run_that_began_with_the_new_meaning_is_told_nothing(unbroken, capsys):
    assert train.main(["--resume", unbroken]) == 0
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "choice, told",
    [
        ({"a": "strong", "b": "valid", "c": "strong"}, []),
        ({"default": "own.module:train"}, []),
        ({"a": "strong", "default": "valid"}, []),
        ({"a": "light", "default": "strong"}, ["light"]),
        ({"a": "strong"}, ["train"]),
        ({"a": "train_fast", "b": "light", "c": "train"}, ["light", "train", "train_fast"]),
    ],
)
def test_only_the_pipelines_of_the_run_are_named(choice, told):
    digests = {"traina": [1, ""], "trainb": [1, ""], "trainc": [1, ""], "valid": [1, ""], "meaning": [2, ""]}
    names = resuming.pipelines_of(resuming.TrainConfig.of(transforms=choice), digests)
    found = resuming.pipeline_warnings({"code": "1"}, names)
    assert len(found) == bool(told)
    assert re.findall(r"(\w+) \(no longer", " ".join(found)) == told
    assert resuming.pipeline_warnings(resuming.versions(), names) == []


def test_a_checkpoint_of_another_format_is_refused(unbroken, capsys):
    newest = unbroken / CHECKPOINTS / checkpoints(unbroken)[-1]
    state = json.loads((newest / "state.json").read_text())
    shutil.rmtree(unbroken / CHECKPOINTS)
    from segbalance.train.checkpoints import save_checkpoint

    save_checkpoint(
        unbroken, newest.name, lambda prefix: Path(prefix).write_text(""), state | {"version": 99}
    )
    assert train.main(["--resume", unbroken]) == 2
    assert "is of version 99, expected 1" in capsys.readouterr().err


def test_no_run_to_resume(tmp_path, capsys):
    assert train.main(["--resume", tmp_path]) == 2
    assert "has no config.yaml; expected the folder of a run" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_every_moment(capsys):
    assert verify_resume.main([]) == 0
    assert "20 of 20 bit-identical" in capsys.readouterr().out


@pytest.fixture
def spoilt(tables, tmp_path):
    """Folder of manifests whose data has an image that has gone bad since."""
    description = json.loads((tables / "manifest.json").read_text())
    root = shutil.copytree(description["data_root"], tmp_path / "data")
    other = shutil.copytree(tables, tmp_path / "tables")
    (other / "manifest.json").write_text(json.dumps(description | {"data_root": str(root)}))
    (root / "train/images/a/1.png").write_bytes(b"rubbish")
    return other


@pytest.mark.slow
def test_skipped_draws_stay_skipped(spoilt, tmp_path, at):
    skip = ("--on_bad_file", "skip")
    assert train.main(options(spoilt, tmp_path / "unbroken", *skip)) == 0
    folder = killed(spoilt, tmp_path / "run", at, 7, "--save_every", 3, *skip)
    shutil.copy(tmp_path / "data/train/images/a/2.png", tmp_path / "data/train/images/a/1.png")
    assert train.main(["--resume", folder]) == 0
    expected = (tmp_path / "unbroken/skipped.csv").read_text().splitlines()
    found = (folder / "skipped.csv").read_text().splitlines()
    assert len(found) >= 2 and found == expected[: len(found)], (
        "what was read before the kill stays as it was"
    )


@pytest.mark.slow
def test_a_bad_file_can_be_skipped_from_then_on(spoilt, tmp_path, capsys):
    assert train.main(options(spoilt, tmp_path / "run")) == 2
    assert "a/1.png cannot be decoded" in capsys.readouterr().err
    assert train.main(["--resume", tmp_path / "run", "--on_bad_file", "skip"]) == 0
    assert "a/1.png" in (tmp_path / "run/skipped.csv").read_text()


def test_training_goes_on_while_a_checkpoint_is_written(tables, unbroken, tmp_path, at, stub):
    write, reached, in_time = checkpointer.save_checkpoint, threading.Event(), []

    def slow(*arguments):
        in_time.append(reached.wait(20))
        write(*arguments)

    stub(checkpointer, "save_checkpoint", slow)
    at(reached.set, step=STEPS + 2)
    assert train.main(options(tables, tmp_path / "run")) == 0
    assert len(in_time) == EPOCHS and all(in_time), "the first waited for a step of the second epoch"
    assert verify_resume.differences(tmp_path / "run", unbroken) == []


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tables, tmp_path, stub, capsys):
    def fail(folder, *_):
        raise InputError(f"the checkpoint {folder} cannot be written")

    stub(checkpointer, "save_checkpoint", fail)
    assert train.main(options(tables, tmp_path / "run")) == 2
    assert f"the checkpoint {tmp_path / 'run'} cannot be written" in capsys.readouterr().err
    assert list(pd.read_csv(tmp_path / "run" / HISTORY)["epoch"]) == [1]


def test_the_best_weights_are_the_last_ones_of_their_epoch(whole):
    history = pd.read_csv(whole / HISTORY)
    last_is_best = history["val_iou"].idxmax() == len(history) - 1
    assert (whole / BEST).samefile(whole / LAST) == last_is_best
    assert verify_resume.same_weights(whole / BEST, whole / LAST) == last_is_best
