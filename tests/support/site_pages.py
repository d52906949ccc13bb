"""The site's pages as they are written, and the commands that they show."""

import re
from typing import NamedTuple

import yaml

from scripts.docs.figures import command_lines
from tests.support.places import ROOT

DOCS = ROOT / "docs"
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
BLOCK = re.compile(r"^(?:<!-- parsed only: (?P<reason>.+) -->\n)?```bash\n(?P<lines>.*?)^```", re.M | re.S)


class Shown(NamedTuple):
    """A command of a page: its words, and why it is parsed only, or None if a test runs it."""

    page: str
    words: list[str]
    reason: str | None


COMMANDS = [
    Shown(page, words, block["reason"])
    for page, text in sorted(PAGES.items())
    for block in BLOCK.finditer(text)
    for words in command_lines(block["lines"])
]


def nav_pages(entry=None):
    """The files of the navigation, in its order."""
    entry = SETTINGS["nav"] if entry is None else entry
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in nav_pages(child)]
