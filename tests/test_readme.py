"""The README's commands exist and parse, and the files it names are there."""

import re
from pathlib import Path

import pytest

from segbalance.train.config import TrainConfig
from tests.support.command_lines import OPTIONS, parsed
from tests.support.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python ((?:[a-z_]+/)?[a-z_]+\.py[^\n`]*)", README)) - {"train.py --help"})
FILES = sorted(set(re.findall(r"\b(?:[a-z_]+/)*[a-z_-]+\.(?:py|png|txt)\b", README)))
MADE = {"photo.png", "photo_mask.png", "contact_sheet.png", "curves.png", "my_transforms.py"}


def test_the_readme_takes_a_minute():
    assert len(README.splitlines()) <= 150


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 4 and len(FILES) >= 9


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line):
    assert isinstance(parsed(line), OPTIONS[line.split()[0]])


@pytest.mark.parametrize("name", FILES)
def test_files_exist(name):
    assert Path(name).name in MADE or any((ROOT / folder / name).exists() for folder in ("", "scripts"))


@pytest.mark.parametrize("option", sorted(set(re.findall(r"(--[a-z_]+)", README))))
def test_options_exist(option):
    known = {name for options in OPTIONS.values() for name in options.__dataclass_fields__}
    known |= {*TrainConfig().options(), "config", "help"}
    assert option.removeprefix("--") in known


BLOCKS = [block for block in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S) if "import" in block]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_in_the_readme_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_there_is_python_in_the_readme():
    assert any("TrainConfig.of(" in block for block in BLOCKS)
