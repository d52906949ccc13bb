"""The command `segbalance`: a line per verb, the verb's module only when it is chosen."""

import importlib.metadata
import subprocess
import sys

import pytest

from segbalance import __main__ as command
from segbalance.runtime.verbs import VERBS
from tests.support.places import ROOT

LIGHT = """
import sys
{program}
heavy = {{"tensorflow", "tf_keras", "pandas", "numpy", "cv2", "matplotlib", "jsonargparse"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("segbalance.commands")]
"""


@pytest.fixture(autouse=True)
def started_as_segbalance(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/segbalance"])


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_help_has_a_line_for_every_verb(words, capsys):
    assert command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: segbalance VERB [options]"
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(VERBS)


def test_a_verb_gets_the_words_after_it_and_its_status_is_returned(capsys):
    assert command.main(["sample-data", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: segbalance sample-data --output OUTPUT\n")
    assert command.main(["clear-cache", "--folder", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: --folder nowhere: there is no such folder\n"
    assert command.main(["clear-cache", "--blub"]) == 2
    assert "See `segbalance clear-cache --help` for the options." in capsys.readouterr().err


@pytest.mark.parametrize(
    "word, nearest", [("trian", "train"), ("fix_masks", "fix-masks"), ("Predict", "predict")]
)
def test_an_unknown_verb_is_answered_with_the_nearest(word, nearest, capsys):
    assert command.main([word]) == 2
    assert capsys.readouterr().err == (
        f"error: '{word}' is no verb; did you mean `segbalance {nearest}`? `segbalance --help` lists all.\n"
    )


def test_a_word_like_no_verb_is_answered_without_a_guess(capsys):
    assert command.main(["xyzzy"]) == 2
    assert capsys.readouterr().err == "error: 'xyzzy' is no verb. `segbalance --help` lists all.\n"


def test_the_version(capsys, stub):
    stub(importlib.metadata, "version", {"segbalance": "1.2.3"}.get)
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == "segbalance 1.2.3\n"

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    stub(importlib.metadata, "version", missing)
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == "segbalance, a clone that is not installed\n"


@pytest.mark.parametrize(
    "program",
    ["import segbalance; dir(segbalance)", "from segbalance.__main__ import main; main(['--help'])"],
    ids=["import", "help"],
)
def test_importing_the_package_and_its_help_load_nothing_heavy(program):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(program=program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_python_m():
    done = subprocess.run(
        [sys.executable, "-m", "segbalance", "train", "--epochs", "none"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "See `python -m segbalance train --help`" in done.stderr
