"""CONTRIBUTING.md names files, names in them, and targets of make that exist."""

import re

import pytest

from tests.support.places import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
GUIDES = re.findall(r"^\*\*\.\.\. an? ([\w ]+)\.\*\*(.+?)(?=\n\n)", TEXT, re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^(segbalance|tests|scripts)/.*\.py$")


def test_there_is_a_guide_for_each_thing_that_is_added():
    assert [thing for thing, _ in GUIDES] == [
        "balance strategy", "architecture", "loss", "check of the data", "export format", "command",
    ]  # fmt: skip


@pytest.mark.parametrize(("thing", "guide"), GUIDES, ids=[thing for thing, _ in GUIDES])
def test_a_guides_files_exist_and_hold_the_names(thing, guide):
    quoted = re.findall(r"`([^`]+)`", guide)
    files = [ROOT / name for name in quoted if FILE.match(name)]
    assert files and all(file.is_file() for file in files), [
        str(file) for file in files if not file.is_file()
    ]
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    names = [name for name in quoted if re.fullmatch(r"[A-Za-z_]+(\.[a-z_]+)?", name) and name != "export"]
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", code)] == []


@pytest.mark.parametrize(
    ("names", "file"), re.findall(r"((?:`[A-Za-z_]+`(?:, | and )?)+) of\s+`([\w/]+\.py)`", TEXT)
)
def test_names_stand_in_the_file_that_is_said_to_have_them(names, file):
    code = (ROOT / file).read_text(encoding="utf-8")
    assert [name for name in re.findall(r"`(\w+)`", names) if not re.search(rf"\b{name}\b", code)] == []


def test_targets_and_folders_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert len(targets) >= 6
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
    assert [name for name in re.findall(r"`([a-z_/]+/)`", TEXT) if not (ROOT / name).is_dir()] == []


def test_the_rooms_are_those_of_the_contract():
    layers = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1].split("]")[0]
    assert TEXT.split("```\n")[1].split("\n")[:-1] == re.findall(r'"(.+)"', layers)
