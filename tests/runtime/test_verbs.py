"""Verbs and files: one table, and whatever names a command names the one that is there."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from segbalance.runtime import verbs
from segbalance.runtime.command_line import CommandParser
from segbalance.runtime.verbs import VERBS, as_typed_here, extra, named, typed, usage
from tests.support.places import ROOT

DOORS = {"data_processing.py", "train.py"}


@pytest.fixture(params=["clone", "installed", "module", "notebook", "windows"])
def way(request, monkeypatch):
    """One way in which the package can have been started."""
    started = {
        "clone": "/somewhere/clone/scripts/evaluate.py",
        "installed": "/somewhere/.venv/bin/segbalance",
        "module": str(ROOT / "segbalance" / "__main__.py"),
        "notebook": "/usr/lib/ipykernel_launcher.py",
        "windows": "segbalance.exe",
    }
    monkeypatch.setattr(sys, "argv", [started[request.param]])
    monkeypatch.setattr(verbs, "CLONE", None if request.param == "notebook" else ROOT)
    return request.param


def test_commands_are_named_as_they_were_started(way):
    evaluate = {"clone": "python scripts/evaluate.py", "module": "python -m segbalance evaluate"}
    assert typed("evaluate") == evaluate.get(way, "segbalance evaluate")
    names = {"clone": "data_processing.py", "module": "python -m segbalance prepare"}
    assert named("prepare") == names.get(way, "segbalance prepare")
    usages = {"clone": "make_report.py", "module": "python -m segbalance report"}
    assert usage("report") == usages.get(way, "segbalance report")
    extras = {"clone": '-e ".[export]"', "module": '"segbalance[export]"'}
    assert extra("export") == extras.get(way, '"segbalance[export]"')


def test_a_verb_without_a_file_is_a_verb_everywhere(way):
    program = "python -m segbalance" if way == "module" else "segbalance"
    assert typed("transforms") == named("transforms") == usage("transforms") == f"{program} transforms"


def test_from_elsewhere_a_clones_file_is_named_by_its_path(tmp_path, monkeypatch):
    clone, beside = tmp_path / "my clone", tmp_path / "deep" / "down"
    beside.mkdir(parents=True)
    (clone / "scripts").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["/somewhere/clone/train.py"])
    monkeypatch.setattr(verbs, "CLONE", clone)
    for place, file in (
        (clone, "scripts/evaluate.py"),
        (clone / "scripts", "evaluate.py"),
        (tmp_path, '"my clone/scripts/evaluate.py"'),
        (beside, '"../../my clone/scripts/evaluate.py"'),
    ):
        monkeypatch.chdir(place)
        assert typed("evaluate") == f"python {file}"
        assert named("evaluate") == "scripts/evaluate.py" and usage("evaluate") == "evaluate.py"
    monkeypatch.setattr(verbs, "CLONE", Path("/c"))
    assert typed("train") == "python /c/train.py", "the whole path is shorter"


def test_help_speaks_of_the_commands_that_are_there(monkeypatch):
    parser = CommandParser(
        prog="segbalance predict",
        description="As python train.py --epochs 3 or scripts/fix_masks.py does, not /other/train.py nor "
        "train.python. One more line, for it is wrapped behind the word python scripts/evaluate.py",
    )
    assert "As python train.py --epochs 3 or scripts/fix_masks.py does" in parser.format_help()
    monkeypatch.setattr(sys, "argv", ["segbalance"])
    words = " ".join(parser.format_help().split())
    assert "As segbalance train --epochs 3 or segbalance fix-masks does, not /other/train.py nor" in words
    assert "train.python. One more" in words and "the word segbalance evaluate" in words
    assert as_typed_here("a train.py of yours") == "a segbalance train of yours"


def test_every_verb_has_its_module_and_every_file_calls_its_verb():
    for verb, (purpose, file) in VERBS.items():
        module = f"segbalance.commands.{verb.replace('-', '_')}"
        assert importlib.util.find_spec(module), f"{module} is missing"
        assert len(purpose) <= 70
        if file:
            called = re.findall(
                r"^from (segbalance\.commands\.\w+) import main$", (ROOT / file).read_text(), re.M
            )
            assert called == [module], file


def test_every_module_and_every_file_has_a_verb():
    modules = {path.stem.replace("_", "-") for path in (ROOT / "segbalance/commands").glob("[a-z]*.py")}
    assert modules <= set(VERBS)
    files = {f"scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py")} | DOORS
    assert files - {verb.file for verb in VERBS.values()} == {
        "scripts/make_csv_file.py"
    }  # the tutorial's name


def _spoken_texts(path):
    """The texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value


def test_no_message_names_a_clones_file_itself():
    """But for docstrings, which are translated where they are shown, and the table."""
    named_outright = re.compile(r"scripts/\w+\.py|\b(train|data_processing)\.py|requirements-\w+\.txt")
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in (ROOT / "segbalance").rglob("*.py")
        for line, text in _spoken_texts(path)
        if path.name != "verbs.py" and named_outright.search(text)
    ]
    assert not found, found
