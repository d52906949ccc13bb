"""The report: it stands alone, its numbers are those of the files, and a browser shows what it should."""

import base64
import copy
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from segbalance.commands import report as make_report
from segbalance.data_processing.manifest import read_manifest
from segbalance.prediction.predictor import RunPredictor
from segbalance.reports import report as run_report
from segbalance.reports.pages import look_up, picture_source
from segbalance.reports.pictures import LONGEST, compared, outlines, training_samples
from segbalance.reports.report import report_notes, report_page, run_figures, share_figures
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config_file import CONFIG, load_config
from tests.support.browser import chromium
from tests.support.data import copied_run
from tests.support.page_parts import PageParts, check_numbers, check_readable, check_stands_alone


@pytest.fixture(scope="module")
def page(finished):
    """The page that train.py has written."""
    return (finished / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def predict(finished):
    return RunPredictor(finished)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run."""
    return copied_run(finished, tmp_path / "run")


@pytest.fixture
def run_folder(copied, predict, stub):
    """A copy of the finished run whose network is built once for all tests."""
    stub("segbalance.prediction.predictor.RunPredictor", lambda work_dir: predict)
    return copied


def figures_of_files(folder):
    """The figures of a page, read from the files of a run folder without the project's functions."""
    history = pd.read_csv(folder / "history.csv")
    ledger = pd.read_csv(folder / "ledger.csv", dtype={"subset": str})
    subsets, total = [], 0
    for name in dict.fromkeys(ledger["subset"]):
        rows = ledger[ledger["subset"] == name]
        own = {"subset": name, "share": rows["share"].iloc[-1], "draws": sum(rows["draws"])}
        subsets.append(own | {"images": max(rows["images"]), "max_repeats": max(rows["max_repeats"])})
        total += sum(rows["draws"])
    for own in subsets:
        own["delivered"] = own["draws"] / total
    return {
        "metrics": json.loads((folder / "metrics.json").read_text()),
        "evaluation": json.loads((folder / "evaluation_valid.json").read_text()),
        "history": [dict(row) for _, row in history.iterrows()],
        "shares": {
            "epochs": ledger["epoch"].max(),
            "lowest_p_value": ledger["p_value"].min(),
            "subsets": subsets,
        },
    }


def test_the_page_stands_alone_and_can_be_read(page):
    parts = check_stands_alone(page)
    check_readable(parts)
    views = [own["value"] for own in parts.of("input") if own["name"] == "view"]
    assert views == ["both", "photo", "truth", "found", "difference"]
    assert [text for level, text in parts.headings if level == 2] == [
        "What to do next", "Summary", "IoU of the subsets, the weakest first", "Curves",
        "Shares of the training images", "Thresholds", "Gallery", "Worst images",
        "Training images as the network saw them", "Config and data",
    ]  # fmt: skip


def test_all_numbers_equal_those_in_the_files(finished, page):
    parts, figures = PageParts(page), figures_of_files(finished)
    check_numbers(parts, figures, look_up)
    keys = {attributes["data-key"] for attributes, _ in parts.numbers}
    for name in ("iou", "f1", "precision", "recall", "boundary_iou", "image_iou"):
        assert {
            f"/evaluation/all/{name}",
            f"/evaluation/all/{name}_low",
            f"/evaluation/subsets/1/{name}",
        } <= keys
    assert {f"/shares/subsets/2/{name}" for name in ("share", "delivered", "draws", "max_repeats")} <= keys
    assert {
        "/metrics/epoch",
        "/history/1/val_iou",
        "/evaluation/worst/4/iou",
        "/shares/lowest_p_value",
    } <= keys
    assert {"/evaluation/best_threshold/iou", "/evaluation/examples/a/best/0/iou"} <= keys
    # And no number with a decimal point stands there without naming its source.
    others = [word for word in parts.words if re.search(r"\d\.\d", word)]
    versions = [word for word in others if word.strip().startswith("with tensorflow ")]
    cells = {str(value) for _, *values in run_report.config_rows(load_config(finished)) for value in values}
    assert [word for word in others if word not in versions and word not in cells] == []


def test_numbers_that_are_not_the_files_are_noticed(finished, page):
    figures = figures_of_files(finished)
    wrong = copy.deepcopy(figures)
    wrong["evaluation"]["subsets"][0]["recall_low"] += 1e-9
    with pytest.raises(AssertionError, match="/evaluation/subsets/0/recall_low"):
        check_numbers(PageParts(page), wrong, look_up)
    written = re.sub(r'(data-key="/evaluation/all/iou" data-format=".3f">)[^<]*', r"\g<1>9.999", page)
    with pytest.raises(AssertionError, match="/evaluation/all/iou"):
        check_numbers(PageParts(written), figures, look_up)


def test_bars_and_curves_are_drawn_from_the_same_numbers(finished, page):
    figures = figures_of_files(finished)
    widths = [float(own["width"]) for own in PageParts(page).of("rect") if "class" not in own]
    rows = [figures["evaluation"]["all"], *figures["evaluation"]["subsets"]]
    assert widths == pytest.approx([100 * row["iou"] for row in rows if row["iou"] is not None], abs=1e-3)
    whiskers = [own for own in PageParts(page).of("line") if own.get("class") == "whisker"]
    assert float(whiskers[0]["x1"]) == pytest.approx(100 * rows[0]["iou_low"], abs=1e-3)
    shares = [own for own in PageParts(page).of("rect") if own.get("class") == "share"]
    delivered = [100 * row["delivered"] for row in figures["shares"]["subsets"]]
    assert [float(own["width"]) for own in shares] == pytest.approx(delivered, abs=1e-3)
    assert float(whiskers[-1]["x1"]) == pytest.approx(
        100 * figures["shares"]["subsets"][-1]["share"], abs=1e-3
    )
    assert (
        len([own for own in PageParts(page).of("path") if own.get("class") == "drawn"])
        == 3 + 3 + 2 + 1 + 4 + 1
    )


def test_the_gallery_shows_each_example_once(finished, page):
    report = figures_of_files(finished)["evaluation"]
    expected = [
        f"{row['images']}, among the {kind} of subset {subset}, with true and predicted outlines"
        for subset in "ab"
        for kind in ("worst", "median", "best")
        for row in report["examples"][subset][kind]
    ]
    pictures = PageParts(page).of("img")
    assert [own["alt"] for own in pictures if "among the" in own["alt"]] == expected and len(expected) == 5
    for own in pictures:
        content = base64.b64decode(own["src"].removeprefix("data:image/webp;base64,"))
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape[:2] == (int(own["height"]), int(own["width"]))


def test_outlines_go_around_the_mask():
    mask = np.zeros((20, 30), bool)
    mask[5:10, 10:21] = True
    assert outlines(mask) == "M10.5 5.5L10.5 9.5L20.5 9.5L20.5 5.5Z"
    mask[6:9, 12:15] = False
    assert outlines(mask).count("M") == 2, "the hole too"
    assert outlines(np.zeros((4, 4), bool)) == ""


def test_a_compared_picture_is_small_and_its_layers_are_the_masks():
    photo, mask = np.full((400, 800, 3), 90, np.uint8), np.zeros((400, 800), np.uint8)
    mask[:, :400] = 1
    probability = np.zeros((32, 32), np.float32)
    probability[:16] = 1  # the upper half is found, the left half true
    picture = compared(photo, mask, probability, 0.5, "a.png", "/x")
    assert (picture.width, picture.height) == (LONGEST, LONGEST // 2)
    half, across = LONGEST // 2, LONGEST // 4
    assert bounds(picture.layers["truth"]) == (0.5, 0.5, half - 0.5, half - 0.5)
    assert bounds(picture.layers["found"]) == (0.5, 0.5, LONGEST - 0.5, across - 0.5)
    assert bounds(picture.layers["missed"]) == (0.5, across + 0.5, half - 0.5, half - 0.5)
    assert bounds(picture.layers["extra"]) == (half + 0.5, 0.5, LONGEST - 0.5, across - 0.5)


def bounds(path):
    """(left, top, right, bottom) of SVG path data."""
    numbers = np.array(re.findall(r"[\d.]+", path), float).reshape(-1, 2)
    return *numbers.min(axis=0), *numbers.max(axis=0)


def test_the_training_samples_are_what_training_saw(finished):
    """The first draws of the run, read again through its own loader."""
    from segbalance.dataloader.batches import training_batches
    from segbalance.train.inputs import checked_plan, training_parts

    config = load_config(finished)
    manifest = read_manifest(config.data.csv_dir)
    parts = training_parts(config, manifest, *checked_plan(config, manifest))
    photos, _, subsets = next(training_batches(*parts).as_numpy_iterator())
    samples = {name: pictures for name, _, pictures in training_samples(config, manifest)}
    assert list(samples) == ["a", "b", "c"] and sum(map(len, samples.values())) <= 3 * 4
    for number, name in enumerate("abc"):
        for photo, picture in zip(photos[subsets == number], samples[name], strict=False):
            assert picture.source == picture_source(photo)


def test_names_from_the_data_are_escaped(finished, copied, tables, predict, stub):
    evil = '<img src=x onerror="alert(1)">'
    stub(run_report, "training_samples", lambda *_: [(evil, evil, [])])
    stub(run_report, "gallery", lambda *_: [])
    config, manifest = load_config(finished), read_manifest(tables)
    folder = copied.rename(copied.with_name(evil))
    figures = run_figures(folder)
    figures["evaluation"] = json.loads((finished / "evaluation_valid.json").read_text())
    figures["evaluation"]["subsets"][0]["subset"] = evil
    figures["evaluation"]["worst"][0]["images"] = f"{evil}.png"
    text = report_page(config.replace(work_dir=str(folder)), manifest, figures, predict)
    assert "<img" not in text and text.count("&lt;img src=x onerror=") >= 6
    check_stands_alone(text)


@pytest.mark.slow
def test_the_command_writes_the_same_page_again(run_folder, page, capsys):
    assert make_report.main(["--work_dir", run_folder]) == DONE
    assert f"wrote {run_folder / 'report.html'}" in capsys.readouterr().out
    again = (run_folder / "report.html").read_text(encoding="utf-8")
    own = [text for _, text in PageParts(again).numbers]
    assert own == [text for _, text in PageParts(page).numbers]
    assert PageParts(again).of("img") == PageParts(page).of("img")


@pytest.mark.slow
def test_another_threshold_and_place(run_folder, tmp_path):
    words = ["--work_dir", run_folder, "--output", tmp_path / "new/page.html"]
    assert make_report.main([*words, "--threshold", "0.3"]) == DONE
    figures = figures_of_files(run_folder)
    assert figures["evaluation"]["threshold"] == 0.3 and not (run_folder / "report.html").exists()
    check_numbers(PageParts((tmp_path / "new/page.html").read_text()), figures, look_up)
    best = figures["evaluation"]["best_threshold"]["threshold"]
    assert make_report.main([*words, "--threshold", "best"]) == DONE
    assert figures_of_files(run_folder)["evaluation"]["threshold"] == best


def test_rows_that_changed_are_said_and_no_samples_shown(run_folder, tables, tmp_path):
    shutil.copytree(tables, tmp_path / "manifests")
    config = yaml.safe_load((run_folder / CONFIG).read_text())
    (run_folder / CONFIG).write_text(yaml.safe_dump(config | {"csv_dir": str(tmp_path / "manifests")}))
    path = tmp_path / "manifests/traina.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert make_report.main(["--work_dir", run_folder]) == DONE
    text = (run_folder / "report.html").read_text()
    assert "The training rows in the manifests have changed since the run." in text
    assert "Not shown: the training rows have changed since the run." in text


def test_the_notes(finished):
    config, figures = load_config(finished), run_figures(finished)
    figures["evaluation"] = json.loads((finished / "evaluation_valid.json").read_text())
    without = "No validation images, and so no scores: subset c."
    assert list(report_notes(config, figures, True)) == [without]
    figures["metrics"]["iou"] += 0.01
    assert list(report_notes(config, figures, True))[1] == (
        "The IoU is not the one that training measured. A possible cause: changed validation data."
    )


def test_shares_of_a_ledger_by_hand():
    ledger = pd.DataFrame(
        {
            "epoch": [1, 1, 2, 2],
            "subset": ["a", "b", "a", "b"],
            "share": [0.5] * 4,
            "draws": [6, 4, 5, 5],
            "images": [3, 4, 4, 5],
            "max_repeats": [2, 1, 2, 3],
            "p_value": [0.5, 0.5, 1.0, 1.0],
        }
    )
    shares = share_figures(ledger)
    assert shares["epochs"] == 2 and shares["lowest_p_value"] == 0.5
    b = {"subset": "b", "share": 0.5, "delivered": 0.45, "draws": 9, "images": 5, "max_repeats": 3}
    assert shares["subsets"][1] == b | {"skipped": 0}, "an old ledger has no such column"
    assert share_figures(ledger.assign(skipped=[0, 1, 0, 2]))["subsets"][1] == b | {"skipped": 3}


def test_a_folder_that_is_no_finished_run(copied, tmp_path, capsys):
    (copied / "metrics.json").unlink()
    assert make_report.main(["--work_dir", copied]) == WRONG_INPUT
    assert (
        "is not the folder of a finished run. Expected metrics.json, history.csv" in capsys.readouterr().err
    )
    assert make_report.main(["--work_dir", tmp_path]) == WRONG_INPUT
    assert "has no config.yaml; expected the folder of a run" in capsys.readouterr().err
    assert make_report.main(["--work_dir", tmp_path, "--threshold", "1", "--batch_size", "0"]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert "threshold must be best" in error and "batch_size must be greater than 0, got 0" in error
    assert not list(copied.glob("*.html")) and not list(tmp_path.glob("*.html"))


def test_images_only_resized_are_no_samples(finished):
    config = load_config(finished)
    manifest = read_manifest(config.data.csv_dir)
    plain = config.replace(augment="copies", steps_per_epoch=1)
    shown = sum(len(pictures) for _, _, pictures in training_samples(plain, manifest))
    every = config.replace(steps_per_epoch=1)
    assert shown < sum(len(pictures) for _, _, pictures in training_samples(every, manifest)) == 4


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium with its console's messages."""
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def opened(browser, path, width=1280, height=900):
    """Opens a page and returns what the browser asked the network for."""
    browser.get("about:blank")
    browser.get_log("performance")
    browser.set_window_size(width, height)
    browser.get(Path(path).as_uri())
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def styles(browser, selector, name):
    """Different values of a computed style over the elements of a selector."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => getComputedStyle(e)[arguments[1]])"
    return set(browser.execute_script(script, selector, name))


def test_chromium_opens_it_without_errors_or_requests(browser, finished):
    urls = opened(browser, finished / "report.html")
    assert [url for url in urls if not url.startswith("data:")] == [(finished / "report.html").as_uri()]
    assert browser.get_log("browser") == []
    sizes = browser.execute_async_script(
        "const done = arguments[0], images = [...document.images];"
        "images.forEach(image => image.loading = 'eager');"
        "Promise.all(images.map(image => image.decode())).then(() => done(images.map(i => i.naturalWidth)));"
    )
    assert len(sizes) >= 8 and all(size > 0 for size in sizes)
    picture = cv2.imdecode(np.frombuffer(browser.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50, "something is drawn"


def test_the_switch_of_the_gallery_works_by_mouse_and_keyboard(browser, finished):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, finished / "report.html")
    assert styles(browser, "#gallery .truth", "display") == {"inline"}
    assert styles(browser, "#gallery .missed, #gallery .extra", "display") <= {"none"}
    browser.find_element(By.CSS_SELECTOR, "label:has(#view-truth)").click()
    assert styles(browser, "#gallery .found", "display") == {"none"}
    assert styles(browser, "#gallery .truth", "display") == {"inline"}
    assert "none" not in styles(browser, "#gallery .truth", "fill")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)  # to the prediction
    assert styles(browser, "#gallery .truth", "display") == {"none"}
    assert styles(browser, "#gallery .found", "display") == {"inline"}
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)  # to the difference
    assert styles(browser, "#gallery .truth, #gallery .found", "display") == {"none"}
    assert styles(browser, "#gallery .missed, #gallery .extra", "display") == {"inline"}
    browser.find_element(By.ID, "view-photo").click()
    assert styles(browser, "#gallery .overlay", "display") == {"none"}
    before = browser.execute_script("return document.querySelector('#gallery img').clientWidth")
    browser.find_element(By.CSS_SELECTOR, "label:has(#size-large)").click()
    assert browser.execute_script("return document.querySelector('#gallery img').clientWidth") > before


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_has_contrast_in_both_schemes(browser, finished, width, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened(browser, finished / "report.html")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= width, "the page as a whole must not scroll sideways"
    (ground,) = styles(browser, "section", "backgroundColor")
    assert (contrast("rgb(0, 0, 0)", ground) > 10) == (scheme == "light")
    words = "section p:not(.warning), dt, dd, section td, section th, section span, figcaption, section a"
    for colour in styles(browser, f"{words}, summary, label, h2, h3, h4", "color"):
        assert contrast(colour, ground) >= 4.5, (colour, ground)


def contrast(one, other):
    """WCAG 2's contrast ratio of two CSS colours."""

    def luminance(colour):
        channels = np.array(re.findall(r"[\d.]+", colour)[:3], float) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722] + 0.05

    dark, light = sorted([luminance(one), luminance(other)])
    return light / dark
