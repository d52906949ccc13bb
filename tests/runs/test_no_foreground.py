"""Runs whose data has a subset without any foreground, as good parts in an inspection, from end to end."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from segbalance.commands import compare, evaluate, export, prepare, report, train
from segbalance.reports.pages import look_up
from segbalance.runtime.command_line import DONE
from segbalance.train.config_file import CONFIG
from segbalance.train.folder import best_epoch, class_ious, read_history
from tests.support.data import TINY, copied_run, draw_pair, write_image
from tests.support.page_parts import check_numbers, check_readable, check_stands_alone
from tests.support.stubs import stubbing

SIZES = {"bad": 4, "worse": 3, "good": 6}
CLASSES = "id,name,colour\n0,background,#000000\n1,scratch,#ff0000\n2,dent,#00ff00\n"


@pytest.fixture(scope="module", params=["foreground", "classes"])
def several(request):
    """Whether the masks have several classes."""
    return request.param == "classes"


@pytest.fixture(scope="module")
def tables(several, tmp_path_factory):
    """Folder of the manifests."""
    folder = tmp_path_factory.mktemp("inspection")
    for split in ("train", "valid"):
        for subset, count in SIZES.items():
            for number in range(count):
                photo, mask = draw_pair([split == "valid", len(subset), number], 32, 32)
                ids = np.where(mask > 0, 1 + number % 2, 0) if several else mask
                if subset == "good":
                    ids = np.zeros_like(mask)
                    photo[..., 0] = 50
                    photo[5, 5, 0] = 250 if number == 2 else 50  # one pixel that looks like foreground
                write_image(folder / f"data/{split}/images/{subset}/{number}.png", photo)
                write_image(folder / f"data/{split}/masks/{subset}/{number}.png", ids.astype(np.uint8))
    options = ["--data_root", folder / "data", "--csv_dir", folder / "csv_file"]
    if several:
        (folder / "classes.csv").write_text(CLASSES)
        options += ["--classes", folder / "classes.csv"]
    assert prepare.main(options) == DONE
    return folder / "csv_file"


@pytest.fixture(scope="module", autouse=True)
def by_colour():
    """A network of one layer that finds what is red, which is nearly right from the first step on."""
    from segbalance.legacy_keras import tf

    def build(backbone, image_size, *, outputs=1, **options):
        weights = np.zeros((1, 1, 3, outputs), np.float32)
        weights[0, 0, 0, -1] = 30  # the red channel
        bias = np.float32([-20] if outputs == 1 else [20, *[0] * (outputs - 1)])
        photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8)
        scaled = tf.keras.layers.Rescaling(1 / 255, dtype="float32")(photo)
        constant = tf.keras.initializers.Constant
        options = {"kernel_initializer": constant(weights), "bias_initializer": constant(bias)}
        layer = tf.keras.layers.Conv2D(outputs, 1, **options)
        answer = tf.keras.layers.Activation("softmax" if outputs > 1 else "sigmoid")(layer(scaled))
        return tf.keras.Model(photo, answer)

    with stubbing() as stub:
        stub("segbalance.model.networks.build_network", build)
        stub("segbalance.prediction.predictor.build_network", build)
        yield


def trained(tables, folder, *more):
    words = [*TINY, "--csv_dir", tables, "--work_dir", folder, "--learning_rate", "1e-4"]
    assert train.main([*words, *more]) == DONE
    return folder


@pytest.fixture(scope="module")
def run(tables, tmp_path_factory):
    """The folder of a finished run, which no test may change."""
    return trained(
        tables, tmp_path_factory.mktemp("runs") / "run", "--best_by", "weakest", "--report", "true"
    )


@pytest.fixture
def copied(run, tmp_path):
    return copied_run(run, tmp_path / "copied")


def evaluation_of(folder):
    return json.loads((folder / "evaluation_valid.json").read_text())


def test_history_has_the_scores_of_false_alarms_in_place_of_others(run):
    history = read_history(run)
    own = [name for name in history if name.endswith(("_good", "_bad"))]
    assert own == ["val_iou_bad", "val_f1_bad", "val_clean_images_good", "val_false_pixels_good"]
    np.testing.assert_allclose(history["val_clean_images_good"], 5 / 6)
    np.testing.assert_allclose(history["val_false_pixels_good"], 1 / (6 * 32**2))
    weakest = history[["val_iou_bad", "val_iou_worse"]].min(axis=1)
    np.testing.assert_array_equal(history["val_weakest_subset_iou"], weakest)


def test_the_end_of_training_tells_them(run, capsys, several):
    assert train.main(["--resume", run]) == DONE
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("best epoch"))
    best = best_epoch(read_history(run))
    chosen = f"best epoch {best['epoch']:.0f} by the IoU of the weakest subset, "
    assert lines[start].startswith(f"{chosen}{best['val_weakest_subset_iou']:.3f}: iou {best['val_iou']:.3f}")
    assert lines[start + 1].split() == "subset images valid iou f1 clean_images false_pixels".split()
    assert lines[start + 5].startswith("of subsets without foreground: clean_images, the share of images")
    rows = {line.split()[0]: line.split()[1:] for line in lines[start + 2 : start + 5]}
    assert rows["good"] == ["6", "6", "-", "-", "0.833", "0.00016"]
    assert rows["bad"][2] == f"{best['val_iou_bad']:.3f}" and rows["bad"][4:] == ["-", "-"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best_by"] == "weakest"
    assert metrics["weakest_subset_iou"] == pytest.approx(best["val_weakest_subset_iou"])
    good = next(row for row in metrics["subsets"] if row["subset"] == "good")
    assert good["iou"] is None is good["f1"] and good["clean_images"] == pytest.approx(5 / 6)
    assert bool(class_ious(read_history(run))) == several


def test_the_evaluation_agrees_with_training_and_with_its_own_table(run, copied, capsys):
    assert evaluate.main(["--work_dir", copied]) == DONE
    printed, best = capsys.readouterr().out, best_epoch(read_history(run))
    written = evaluation_of(copied)
    assert written == evaluation_of(run)
    assert [row["subset"] for row in written["subsets"]][-1] == "good"
    good = written["subsets"][-1]
    for score in ("clean_images", "false_pixels"):
        assert good[score] == pytest.approx(best[f"val_{score}_good"], rel=1e-12)
        assert good[f"{score}_low"] <= good[score] <= good[f"{score}_high"]
    assert good["iou"] is None is good["image_iou_low"]
    loss = written["false_alarms"]
    assert loss["subsets"] == ["good"] and loss["images"] == 6
    assert loss["iou_without"] - loss["iou_lost"] == pytest.approx(written["all"]["iou"])
    assert 0 < loss["iou_lost"] < 0.05
    lines = printed.splitlines()
    place = next(place for place, line in enumerate(lines) if "clean_images" in line)
    low, high = good["clean_images_low"], good["clean_images_high"]
    assert f"0.833 ({low:.3f} to {high:.3f})" in lines[place + 1]
    assert lines[place + 1].split()[:2] == ["good", "6"] and "false_pixels, the share of" in lines[place + 2]
    cost = f"their false alarms cost {loss['iou_lost']:.3f} of the IoU of all, which would be"
    assert lines[place + 3] == f"{cost} {loss['iou_without']:.3f} without them"
    assert not any(line.split()[:1] == ["good"] for line in lines[:place]), "it has a table of its own"


def figures_of(folder):
    history = read_history(folder)
    return {
        "metrics": json.loads((folder / "metrics.json").read_text()),
        "evaluation": evaluation_of(folder),
        "history": history.to_dict("records"),
    }


def test_the_report_shows_them(run):
    parts = check_stands_alone((run / "report.html").read_text(encoding="utf-8"))
    check_readable(parts)
    parts.numbers = [own for own in parts.numbers if not own[0]["data-key"].startswith("/shares")]
    check_numbers(parts, figures_of(run), look_up)
    keys, number = [own["data-key"] for own, _ in parts.numbers], len(SIZES) - 1
    own = f"/evaluation/subsets/{number}"
    for name in ("clean_images", "clean_images_low", "false_pixels", "false_pixels_high"):
        assert f"{own}/{name}" in keys
    assert not {f"{own}/{name}" for name in ("iou", "f1", "image_iou")} & {*keys}
    assert {"/evaluation/false_alarms/iou_lost", "/evaluation/false_alarms/iou_without"} <= {*keys}
    text = " ".join(" ".join(parts.words).split())
    assert "images) has no foreground. False alarms there lower the IoU of all images by" in text
    assert "The epoch was chosen by the IoU of the weakest subset." in text
    assert (3, "Subsets without foreground: images without a false alarm") in parts.headings
    assert "Validation images without a false alarm" in text, "the chart"
    assert "weakest subset is good" not in text


def as_an_older_version_left_it(folder):
    """Takes out of a run what it would not have had."""
    history = read_history(folder)
    history = history.drop(columns=[name for name in history if "clean_" in name or "false_" in name])
    history = history.drop(columns="val_weakest_subset_iou").assign(val_iou_good=0.0, val_f1_good=0.0)
    history.to_csv(folder / "history.csv", index=False)
    config = yaml.safe_load((folder / CONFIG).read_text())
    del config["best_by"]
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    metrics = json.loads((folder / "metrics.json").read_text())
    for row in metrics["subsets"]:
        del row["clean_images"], row["false_pixels"]
        row["iou"] = row["f1"] = 0.0 if row["subset"] == "good" else row["iou"]
    del metrics["best_by"], metrics["weakest_subset_iou"]
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_runs_of_older_versions_are_still_read(run, copied, tmp_path, capsys):
    as_an_older_version_left_it(copied)
    old = evaluation_of(run)
    good, classes = old["subsets"][-1], old["subsets"][0]
    for name in ("clean_images", "false_pixels"):
        del good[name], good[f"{name}_low"], good[f"{name}_high"]
    good.update({name: 0.0 for name, value in good.items() if value is None and name in classes})
    del old["false_alarms"]
    (copied / "evaluation_valid.json").write_text(json.dumps(old))
    page, figures = tmp_path / "page.html", tmp_path / "page.json"
    assert compare.main([run, copied, "--output", page, "--json", figures]) == DONE
    parts, read = check_stands_alone(page.read_text()), json.loads(figures.read_text())
    check_readable(parts)
    check_numbers(parts, read, look_up)
    keys = {own["data-key"] for own, _ in parts.numbers}
    assert {"/runs/0/subsets/good/clean_images", "/runs/1/subsets/good/iou"} <= keys
    assert not {"/runs/1/subsets/good/clean_images", "/runs/0/subsets/good/iou"} & keys
    capsys.readouterr()
    assert report.main(["--work_dir", copied]) == DONE
    assert evaluation_of(copied) == evaluation_of(run)
    assert "The epoch was chosen by the" in (copied / "report.html").read_text()


def test_two_runs_are_compared(run, copied, tmp_path, capsys):
    written = evaluation_of(run)
    written["subsets"][-1] |= {"clean_images": 0.5, "false_pixels": 1e-6}
    (copied / "evaluation_valid.json").write_text(json.dumps(written))
    page, figures = tmp_path / "page.html", tmp_path / "page.json"
    assert compare.main([run, copied, "--output", page, "--json", figures]) == DONE
    parts, read = check_stands_alone(page.read_text()), json.loads(figures.read_text())
    check_readable(parts)
    check_numbers(parts, read, look_up)
    assert (2, "Subsets without foreground") in parts.headings
    keys = {own["data-key"] for own, _ in parts.numbers}
    assert {f"/runs/{number}/false_alarms/iou_without" for number in (0, 1)} <= keys
    names = ["good: images without a false alarm", "good: pixels falsely found"]
    assert all(name in parts.words for name in names)
    rows = page.read_text().split("good: ")[1:]
    assert [[" best" in cell[:20] for cell in row.split('<td class="figure')[1:3]] for row in rows] == [
        [True, False],
        [False, True],
    ]
    header, first, second = capsys.readouterr().out.splitlines()[:3]
    assert header.split("  ")[-1].strip().endswith("clean images good false pixels good")
    assert first.split()[-2:] == ["0.833", "0.00016"] and second.split()[-2:] == ["0.500", "1e-06"]


def test_a_card_tells_them(run, copied, tmp_path):
    shutil.copy(run / "evaluation_valid.json", copied)
    words = [
        "--work_dir",
        copied,
        "--output",
        tmp_path / "model",
        "--format",
        "savedmodel",
        "--most_iou_lost",
        1,
    ]
    assert export.main(words) == DONE
    card = (tmp_path / "model/MODEL_CARD.md").read_text()
    assert "| good | 6 | 6 |  |  | 0.833 | 0.00016 |" in card
    assert "- Subset good has no foreground: 16.7% of its images have false alarms." in card
    assert "chosen by the IoU of the weakest subset" in card and "Subset good is weak" not in card


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_scores(tables, run, tmp_path):
    folder = trained(tables, tmp_path / "run", "--best_by", "weakest", "--epochs", 1)
    state = next((folder / "checkpoints").glob("*/state.json"))
    rows = json.loads(state.read_text())["history"]
    assert [name for name in rows[0] if "good" in name] == ["val_clean_images_good", "val_false_pixels_good"]
    assert train.main(["--resume", folder, "--epochs", 2]) == DONE
    history = read_history(folder)
    assert [*history] == [*read_history(run)] and len(history) == 2
    assert np.isfinite(history.filter(like="_good").to_numpy()).all()


def test_a_validation_without_any_foreground(tables, tmp_path, several):
    folder = tmp_path / "csv_file"
    shutil.copytree(tables, folder)
    rows = pd.read_csv(folder / "valid.csv", dtype={"type": str})
    rows[rows["type"] == "good"].to_csv(folder / "valid.csv", index=False)
    trained(folder, tmp_path / "run", "--best_by", "weakest", "--report", "true")
    history = read_history(tmp_path / "run")
    np.testing.assert_array_equal(history["val_weakest_subset_iou"], history["val_iou"])
    loss = evaluation_of(tmp_path / "run")["false_alarms"]
    assert (
        loss["iou_without"] == 1 and not math.isnan(loss["iou_lost"]) and (several or loss["iou_lost"] == 1)
    )
