"""scripts/compare_runs.py: one page of several runs, with their files' numbers and warnings."""

import json
import shutil

import pytest
import yaml

from segbalance.commands import compare as compare_runs
from segbalance.reports.comparison import run_names
from segbalance.reports.pages import look_up
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config_file import CONFIG
from tests.support.page_parts import check_numbers, check_readable, check_stands_alone

FILES = (CONFIG, "history.csv", "metrics.json", "evaluation_valid.json")


@pytest.fixture
def runs(finished, tmp_path):
    """Folders of two runs that differ in the learning rate, and in the scores of subset b."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        for name in FILES:
            shutil.copy(finished / name, folder / name)
    change(folders[1] / CONFIG, learning_rate=0.0123)
    report = json.loads((folders[1] / "evaluation_valid.json").read_text())
    for row in report["subsets"]:
        if row["subset"] == "b":
            row["iou"] = 0.987
    report["all"]["iou"] = 0.8765
    (folders[1] / "evaluation_valid.json").write_text(json.dumps(report))
    return folders


def change(path, **values):
    """Changes values of a YAML or JSON file."""
    content = yaml.safe_load(path.read_text()) | values
    path.write_text(yaml.safe_dump(content) if path.suffix == ".yaml" else json.dumps(content))


def compared(runs, tmp_path):
    outputs = ["--output", tmp_path / "page.html", "--json", tmp_path / "page.json"]
    assert compare_runs.main([*runs, *outputs]) == DONE
    figures = json.loads((tmp_path / "page.json").read_text())
    return check_stands_alone((tmp_path / "page.html").read_text()), figures


def test_the_page_shows_the_numbers_of_the_files(runs, tmp_path, capsys):
    parts, figures = compared(runs, tmp_path)
    check_readable(parts)
    check_numbers(parts, figures, look_up)
    keys = {attributes["data-key"] for attributes, _ in parts.numbers}
    for number, folder in enumerate(runs):
        report = json.loads((folder / "evaluation_valid.json").read_text())
        run = figures["runs"][number]
        assert run["all"] == report["all"] and run["name"] == folder.name
        assert run["subsets"] == {row["subset"]: row for row in report["subsets"]}
        assert {
            f"/runs/{number}/all/iou",
            f"/runs/{number}/all/iou_low",
            f"/runs/{number}/subsets/b/iou",
        } <= keys
    assert (
        figures["differences"] == [{"option": "learning_rate", "values": ["0.001", "0.0123"]}]
        and figures["warnings"] == []
    )
    printed = capsys.readouterr().out
    assert "0.876" in printed.replace("0.877", "0.876") and "0.987" in printed and "warning" not in printed


def test_the_best_of_each_subset_is_bold(runs, tmp_path):
    parts, _ = compared(runs, tmp_path)
    cells = [own.get("class", "") for own in parts.of("td")]
    assert sum("best" in own for own in cells) == 1 + 2, "of b the second, of a both, of c none"


def test_curves_of_all_runs_lie_over_each_other(runs, tmp_path):
    parts, _ = compared(runs, tmp_path)
    assert len([own for own in parts.of("path") if own.get("class") == "drawn"]) == 4 * 2


def test_what_cannot_be_compared_is_warned_about(runs, tmp_path, capsys):
    change(runs[1] / "evaluation_valid.json", fingerprint="other", threshold=0.4)
    change(runs[1] / CONFIG, image_size=64, fingerprint="another")
    parts, figures = compared(runs, tmp_path)
    printed = capsys.readouterr().out
    for start in (
        "The validation data differ: the runs were scored on different images or masks",
        "The runs were scored at different thresholds",
        "The runs have different input sizes",
        "The runs were trained on different rows",
    ):
        assert any(warning.startswith(start) for warning in figures["warnings"])
        assert f"warning: {start}" in printed and any(start in word for word in parts.words)


def test_subsets_that_only_one_run_has(runs, tmp_path):
    report = json.loads((runs[1] / "evaluation_valid.json").read_text())
    for row in report["subsets"]:
        row["subset"] = row["subset"].replace("b", "x/y~z")
    (runs[1] / "evaluation_valid.json").write_text(json.dumps(report))
    parts, figures = compared(runs, tmp_path)
    check_numbers(parts, figures, look_up)
    assert "/runs/1/subsets/x~1y~0z/iou" in {own["data-key"] for own, _ in parts.numbers}


def test_names_of_runs():
    assert run_names(["x/a", "x/b"]) == ["a", "b"]
    assert run_names(["x/a", "y/a"]) == ["x/a", "y/a"]


def test_mistakes_are_answered_all_at_once(runs, tmp_path, capsys):
    (runs[0] / "evaluation_valid.json").unlink()
    (runs[1] / "metrics.json").write_text("{")
    page = tmp_path / "page.html"
    assert compare_runs.main([*runs, tmp_path, "--output", page]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert "folders that cannot be compared: 3" in error
    assert f"Make it first: python scripts/evaluate.py --work_dir {runs[0]}" in error
    assert "second has no readable metrics.json" in error
    assert f"{tmp_path} has no config.yaml" in error and not page.exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "expected the folders of two or more runs, got 0"),
        (["one"], "expected the folders of two or more runs, got 1"),
        (["one", "./one"], "a run is named twice: one, ./one"),
        (["--work_dirs", "one"], "expected the folders of two or more runs, got 1"),
    ],
)
def test_wrong_options(words, message, capsys):
    assert compare_runs.main(words) == WRONG_INPUT
    assert message in capsys.readouterr().err
