"""Whoever runs the tests reads last what was left out."""

import os
import subprocess
import sys

import pytest

from tests.support.places import ROOT

TESTS = """
import pytest

@pytest.fixture
def browser():
    pytest.skip("needs a browser: install one")

@pytest.mark.parametrize("number", range(3))
def test_page(number, browser): ...

@pytest.mark.skipif(True, reason="needs another user")
def test_user(): ...

def test_number(): ...
"""


def last_line(folder, tests, *options):
    (folder / "test_some.py").write_text(tests)
    words = "-q -p no:cacheprovider -p tests.support.skipped".split()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *options, folder / "test_some.py"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("options", [(), ("-n", 1)], ids=["alone", "xdist"])
def test_the_last_line_says_what_was_skipped_and_how_to_have_it(options, tmp_path):
    line = last_line(tmp_path, TESTS, *map(str, options))
    assert line == "skipped tests: 3 (needs a browser: install one); 1 (needs another user)"


def test_nothing_is_said_where_nothing_was_skipped(tmp_path):
    assert last_line(tmp_path, "def test_number(): ...").startswith("1 passed")
