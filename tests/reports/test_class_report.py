"""The report of several classes and of a classification, and their comparison: the files' numbers."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from segbalance.commands import compare as compare_runs
from segbalance.data_processing.classes import Classes
from segbalance.data_processing.manifest import read_manifest
from segbalance.evaluation.class_scores import evaluate_classes, evaluate_labels
from segbalance.files.writing import json_text
from segbalance.reports import report as run_report
from segbalance.reports.pages import look_up
from segbalance.reports.pictures import LONGEST, compared_classes
from segbalance.reports.report import (
    MOST_CONFUSIONS,
    class_parts_of_page,
    frequent_confusions,
    report_page,
    run_figures,
)
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.sample_data.rendering import CLASSES
from segbalance.train.config_file import CONFIG, load_config
from tests.reports.test_report import bounds, browser, contrast, figures_of_files, opened, styles
from tests.support.page_parts import PageParts, check_numbers, check_readable, check_stands_alone

NAMES = list(CLASSES)
__all__ = ["browser"]  # a fixture


@pytest.fixture(scope="module")
def page(finished_classes):
    """The page that train.py has written."""
    return (finished_classes / "report.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_can_be_read(page):
    parts = check_stands_alone(page)
    check_readable(parts)
    assert [text for level, text in parts.headings if level == 2] == [
        "What to do next", "Summary", "IoU of the classes", "Confusion matrix",
        "Mean IoU of the subsets, the weakest first", "Curves", "Shares of the training images", "Gallery",
        "Worst images",
        "Training images as the network saw them", "Config and data",
    ]  # fmt: skip
    legend = [own["style"] for own in parts.of("span") if "background: #" in own.get("style", "")]
    assert all(legend.count(f"background: {colour}") == 4 for colour in CLASSES.values())


def test_all_numbers_equal_those_in_the_files(finished_classes, page):
    parts, figures = PageParts(page), figures_of_files(finished_classes)
    check_numbers(parts, figures, look_up)
    keys = {attributes["data-key"] for attributes, _ in parts.numbers}
    everything = "/evaluation/all"
    for number in range(6):
        own = f"{everything}/classes/{number}"
        assert {f"{own}/iou", f"{own}/f1_high", f"{own}/true_share", f"{own}/found_share"} <= keys
        assert {f"{everything}/confusion/{number}/{found}" for found in range(6)} <= keys
        assert {f"{everything}/confusion_shares/{number}/{found}" for found in range(6)} <= keys
        assert {f"/evaluation/subsets/{subset}/classes/{number}/iou" for subset in range(5)} <= keys
    order = [own["data-key"] for own, _ in parts.numbers if "/confusion/" in own["data-key"]]
    assert order == [f"{everything}/confusion/{true}/{found}" for true in range(6) for found in range(6)]
    assert {f"{everything}/image_iou_low", "/evaluation/worst/0/accuracy", "/history/1/val_iou"} <= keys
    assert not [key for key in keys if "threshold" in key]
    others = [word for word in parts.words if re.search(r"\d\.\d", word)]
    cells = {str(v) for _, *values in run_report.config_rows(load_config(finished_classes)) for v in values}
    assert [word for word in others if "with tensorflow " not in word and word not in cells] == []


def test_the_weakest_class_is_named(finished_classes, page):
    classes = figures_of_files(finished_classes)["evaluation"]["all"]["classes"]
    weakest = min(range(6), key=lambda number: classes[number]["iou"])
    assert f"The weakest of 6 classes is <b>{NAMES[weakest]}</b> with IoU" in page
    assert f'data-key="/evaluation/all/classes/{weakest}/iou"' in page


def test_a_compared_picture_shows_the_classes_in_their_colours():
    classes = Classes(("ground", "leaf", "berry"), ("#000000", "#00ff00", "#ff0000"))
    photo, ids = np.full((400, 800, 3), 90, np.uint8), np.zeros((400, 800), np.uint8)
    ids[:, :400] = 1
    ids[:, 600:] = 255
    probability = np.zeros((32, 32, 3), np.float32)
    probability[:16, :, 2] = probability[16:, :, 1] = 1  # above berries, below leaves, the left half is true
    picture = compared_classes(photo, ids, probability, classes, "a.png", "/x")
    assert (picture.width, picture.height, picture.layers) == (LONGEST, LONGEST // 2, {})
    parts = {(kind, colour): path for kind, colour, path in picture.parts if path}
    half, across, ignored = LONGEST // 2, LONGEST // 4, LONGEST * 3 // 4
    assert bounds(parts.pop(("truth-class", "#00ff00"))) == (0.5, 0.5, half - 0.5, half - 0.5)
    assert bounds(parts.pop(("ignored", "#808080"))) == (ignored + 0.5, 0.5, LONGEST - 0.5, half - 0.5)
    assert bounds(parts.pop(("found-class", "#ff0000"))) == (0.5, 0.5, LONGEST - 0.5, across - 0.5)
    assert bounds(parts.pop(("found-class", "#00ff00"))) == (0.5, across + 0.5, LONGEST - 0.5, half - 0.5)
    assert bounds(parts.pop(("wrong", "#ff0000"))) == (0.5, 0.5, ignored - 0.5, across - 0.5)
    wrong = bounds(parts.pop(("wrong", "#00ff00")))
    assert wrong == (half + 0.5, across + 0.5, ignored - 0.5, half - 0.5) and not parts


def test_the_most_frequent_confusions_stand_for_a_large_matrix(finished_classes):
    assert frequent_confusions([[9, 3, 0], [5, 9, 1], [0, 4, 9]]) == [(1, 0), (2, 1), (0, 1), (1, 2)]
    rng, names = np.random.default_rng(0), [f"class {number}" for number in range(25)]
    confusion = rng.integers(1, 1000, (25, 25)).tolist()
    assert len(frequent_confusions(confusion)) == MOST_CONFUSIONS
    colours = ["#123456"] * 25
    config = load_config(finished_classes).replace(classes=names, class_colours=colours)
    rows = [{"iou": 0.5, "recall": 0.5}] * 24 + [{"iou": None, "recall": None}]
    parts = class_parts_of_page(config, {"all": {"classes": rows, "confusion": confusion}})
    assert not parts["full_matrix"] and parts["weakest"] == 0


def test_the_page_of_many_classes_shows_the_frequent_confusions_alone(finished_classes, class_tables, stub):
    stub(run_report, "training_samples", lambda *_: [])
    stub(run_report, "gallery", lambda *_: [])
    names, rng = [f"class {number}" for number in range(25)], np.random.default_rng(0)
    config = load_config(finished_classes).replace(classes=names, class_colours=["#123456"] * 25)
    manifest = read_manifest(class_tables)
    masks = rng.integers(0, 25, (20, 1, 32, 32, 1), np.uint8)
    batches = [(None, ids, None) for ids in masks]
    answers = iter(rng.random((20, 1, 32, 32, 25), np.float32))
    tables = {"all": manifest.valid}
    evaluation = evaluate_classes(lambda photos: next(answers), batches, tables, config.class_list)
    figures = run_figures(finished_classes) | {"evaluation": {"fingerprint": "f"} | evaluation.report()}
    parts = check_stands_alone(report_page(config, manifest, figures, None))
    check_numbers(parts, figures, look_up)
    keys = [attributes["data-key"] for attributes, _ in parts.numbers]
    shown = [key.split("/")[-2:] for key in keys if "/confusion/" in key]
    confusion = np.array(figures["evaluation"]["all"]["confusion"])
    np.fill_diagonal(confusion, 0)
    counts = [confusion[int(true), int(found)] for true, found in shown]
    assert counts == sorted(confusion.ravel(), reverse=True)[:MOST_CONFUSIONS]


@pytest.fixture(scope="module")
def labelled(finished_classes, class_tables, tmp_path_factory):
    """(folder, page) of a classification: three classes in three subsets, of the images of `class_tables`."""
    folder = tmp_path_factory.mktemp("labels") / "run"
    folder.mkdir()
    for name in (CONFIG, "ledger.csv"):
        shutil.copy(finished_classes / name, folder / name)
    names = ["cat", "dog", "owl"]
    config = load_config(folder).replace(
        work_dir=str(folder), task="classification", decoder_filters=[], classes=names,
        class_colours=["#000000", "#ff0000", "#00ff00"],
    )  # fmt: skip
    manifest = read_manifest(class_tables)
    manifest = dataclasses.replace(
        manifest, task="classification", classes=config.class_list, valid=manifest.valid.assign(label="cat"),
        train={name: table.assign(label="cat") for name, table in manifest.train.items()},
    )  # fmt: skip
    tables = {
        name: manifest.valid[manifest.valid["type"] == str(number)].drop(columns="masks")
        for number, name in enumerate(names)
    }
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 12).astype(np.float32).reshape(12, 1, 1, 3)
    batches = [(None, np.uint8([number]).reshape(1, 1, 1, 1), None) for number in np.repeat(range(3), 4)]
    answers = iter(probabilities)
    evaluation = evaluate_labels(lambda photos: next(answers)[None], batches, tables, config.class_list)
    report = {"fingerprint": "f"} | evaluation.report()
    scores = {
        name: report["all"][name] for name in ("balanced_accuracy", "accuracy", "f1", "precision", "recall")
    }
    row = {"loss": 0.5, "val_loss": 0.6} | {f"val_{name}": value for name, value in scores.items()}
    row |= {f"val_recall_{name}": 0.5 for name in names} | {f"val_f1_{name}": 0.4 for name in names}
    history = pd.DataFrame([{"epoch": 1} | row | {"learning_rate": 0.1, "seconds": 2.0}])
    history.to_csv(folder / "history.csv", index=False)
    (folder / "metrics.json").write_text(json_text({"epoch": 1} | scores))
    (folder / "evaluation_valid.json").write_text(json_text(report))
    figures = run_figures(folder) | {"evaluation": report}
    page = report_page(config, manifest, figures, None)
    (folder / "report.html").write_text(page)
    return folder, page


def test_the_page_of_a_classification(labelled):
    folder, page = labelled
    parts, figures = check_stands_alone(page), figures_of_files(folder)
    check_readable(parts)
    check_numbers(parts, figures, look_up)
    assert [text for level, text in parts.headings if level == 2] == [
        "What to do next", "Summary", "Recall of the classes", "Confusion matrix", "Curves",
        "Shares of the training images", "Gallery", "Worst images",
        "Training images as the network saw them", "Config and data",
    ]  # fmt: skip
    tiles = [
        attributes["data-key"]
        for attributes, _ in parts.numbers
        if "/evaluation/all/" in attributes["data-key"]
    ]
    assert "/evaluation/all/balanced_accuracy" in tiles and "/evaluation/all/confusion/2/0" in tiles
    pictures = [own["alt"] for own in parts.of("img")]
    expected = [
        f"{row['images']}, among the {kind} of class {name}: {row['label']}, found {row['found']}"
        for name in ("cat", "dog", "owl")
        for kind in ("worst", "median", "best")
        for row in figures["evaluation"]["examples"][name][kind]
    ]
    assert pictures == expected and len(expected) == 9
    wrong = [own for own in parts.of("figure") if own.get("class") == "wrong-label"]
    rows = [row for kinds in figures["evaluation"]["examples"].values() for k in kinds.values() for row in k]
    assert len(wrong) == sum(not row["correct"] for row in rows) > 0
    assert not [key for key in tiles if key.endswith("iou")], "of labels, it says nothing"
    assert "Validation recall" in page and "balanced accuracy" in page


def test_names_of_classes_are_escaped(labelled, class_tables, stub):
    folder, _ = labelled
    evil = '<img src=x onerror="alert(1)">'
    config = load_config(folder).replace(
        work_dir=str(folder), task="classification", decoder_filters=[],
        classes=["a", "b", evil], class_colours=["#000000", "#ff0000", "#00ff00"],
    )  # fmt: skip
    stub(run_report, "training_samples", lambda *_: [])
    stub(run_report, "gallery", lambda *_: [])
    figures = run_figures(folder) | {"evaluation": json.loads((folder / "evaluation_valid.json").read_text())}
    text = report_page(config, read_manifest(class_tables), figures, None)
    assert "<img" not in text and text.count("&lt;img src=x onerror=") >= 4
    check_stands_alone(text)


@pytest.fixture
def runs(finished_classes, tmp_path):
    """Two copies of the finished run, of which the second is better at rings."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        for name in (CONFIG, "history.csv", "metrics.json", "evaluation_valid.json"):
            shutil.copy(finished_classes / name, folder / name)
    report = json.loads((folders[1] / "evaluation_valid.json").read_text())
    report["all"]["classes"][4]["iou"] = 0.987
    (folders[1] / "evaluation_valid.json").write_text(json.dumps(report))
    return folders


def test_runs_are_compared_by_class(runs, tmp_path, capsys):
    outputs = ["--output", tmp_path / "page.html", "--json", tmp_path / "page.json"]
    assert compare_runs.main([*runs, *outputs]) == DONE
    figures = json.loads((tmp_path / "page.json").read_text())
    parts = check_stands_alone((tmp_path / "page.html").read_text())
    check_readable(parts)
    check_numbers(parts, figures, look_up)
    keys = {attributes["data-key"] for attributes, _ in parts.numbers}
    assert {"/runs/1/all/classes/4/iou", "/runs/0/all/image_iou", "/runs/1/subsets/3/iou"} <= keys
    assert not [key for key in keys if "threshold" in key or "boundary" in key]
    rings = [
        text for attributes, text in parts.numbers if attributes["data-key"] == "/runs/1/all/classes/4/iou"
    ]
    assert rings == ["0.987"]
    first, last = capsys.readouterr().out.splitlines()[:3:2]
    assert first.split()[:3] == ["run", "images", "iou"] and last.split()[0] == "second"


def test_classifications_are_compared_by_balanced_accuracy(labelled, tmp_path, capsys):
    folder, _ = labelled
    config = load_config(folder).options() | {
        "task": "classification", "decoder_filters": [], "classes": ["cat", "dog", "owl"],
        "class_colours": ["#000000", "#ff0000", "#00ff00"],
    }  # fmt: skip
    for name in ("one", "two"):
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / CONFIG).write_text(json.dumps(config))
    assert compare_runs.main([tmp_path / "one", tmp_path / "two", "--output", tmp_path / "page.html"]) == DONE
    parts = check_stands_alone((tmp_path / "page.html").read_text())
    keys = {attributes["data-key"] for attributes, _ in parts.numbers}
    assert {"/runs/1/all/balanced_accuracy", "/runs/0/all/classes/2/recall"} <= keys
    assert "Balanced accuracy of all images" in [text for _, text in parts.headings]
    assert capsys.readouterr().out.splitlines()[0].split()[:4] == ["run", "images", "balanced", "accuracy"]


def test_runs_of_other_classes_are_not_compared(runs, labelled, tmp_path, capsys):
    text = (runs[1] / CONFIG).read_text()
    (runs[1] / CONFIG).write_text(text.replace("- ring\n", "- bracelet\n"))
    assert compare_runs.main([*runs, "--output", tmp_path / "page.html"]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "the runs have different classes; expected the same in all:" in message
    assert f"{runs[0]}  segmentation, background, skin, nail, polish, ring, coin" in message
    assert f"{runs[1]}  segmentation, background, skin, nail, polish, bracelet, coin" in message
    assert not (tmp_path / "page.html").exists()


def test_the_switch_of_the_gallery_works(browser, finished_classes):
    opened(browser, finished_classes / "report.html")
    assert browser.get_log("browser") == []
    assert styles(browser, "#gallery .truth-class, #gallery .found-class", "display") == {"inline"}
    assert styles(browser, "#gallery .wrong", "display") == {"none"}
    strokes = styles(browser, "#gallery .truth-class", "stroke")
    assert "rgb(240, 176, 136)" in strokes, "skin has its colour"
    browser.execute_script("document.querySelector('#view-truth').click()")
    assert styles(browser, "#gallery .found-class", "display") == {"none"}
    assert "none" not in styles(browser, "#gallery .truth-class", "fill")
    browser.execute_script("document.querySelector('#view-difference').click()")
    assert styles(browser, "#gallery .truth-class, #gallery .found-class", "display") == {"none"}
    assert styles(browser, "#gallery .wrong", "display") == {"inline"}


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_has_contrast_in_both_schemes(
    browser, finished_classes, labelled, width, scheme, kind
):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened(browser, (finished_classes if kind == "segmentation" else labelled[0]) / "report.html")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= width, "the page as a whole must not scroll sideways"
    (ground,) = styles(browser, "section", "backgroundColor")
    assert (contrast("rgb(0, 0, 0)", ground) > 10) == (scheme == "light")
    for colour in styles(browser, "section td, section th, .matrix span, figcaption, .classes li", "color"):
        assert contrast(colour, ground) >= 4.5, (colour, ground)
