"""The written pages: all are in the navigation, and what they show exists and parses."""

import re
import shlex
from urllib.parse import urlsplit

import pytest

from scripts.docs import figures, hooks
from segbalance.commands import prepare
from segbalance.runtime.command_line import DONE
from segbalance.runtime.verbs import VERBS
from segbalance.transforms.pipelines import TRANSFORMS
from tests.support.command_lines import parsed
from tests.support.data import write_data
from tests.support.places import ROOT
from tests.support.site_pages import COMMANDS, DOCS, PAGES, SETTINGS, nav_pages

GENERATED = {hooks.COMMANDS, hooks.NAMES, *(f"reference/commands/{verb}.md" for verb in VERBS)}


def test_the_navigation_has_every_page_once():
    pages = nav_pages()
    assert sorted(pages) == sorted({*PAGES, *GENERATED})
    commands = [page for page in pages if page.startswith("reference/commands/")]
    assert commands == [hooks.COMMANDS, *(f"reference/commands/{verb}.md" for verb in VERBS)]


def test_the_site_is_readable_without_a_network():
    theme, plugins = SETTINGS["theme"], SETTINGS["plugins"]
    assert theme["font"] is False and "offline" in plugins and "search" in plugins
    assert [shade["media"] for shade in theme["palette"]] == [
        "(prefers-color-scheme: light)",
        "(prefers-color-scheme: dark)",
    ]
    assert all((DOCS / name).is_file() for name in (*SETTINGS["extra"]["polyfills"], *SETTINGS["extra_css"]))


def test_there_are_commands_and_most_of_the_guides_run():
    guides = [shown for shown in COMMANDS if shown.page.startswith("how-to/")]
    assert len(COMMANDS) > 50 and sum(shown.reason is None for shown in guides) > 25
    assert sum(text.count("```bash") for text in PAGES.values()) == len(
        re.findall(r"^```bash$", "\n".join(PAGES.values()), re.M)
    ), "a block inside of something else is not seen by the tests"


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: f"{shown.page}: {shlex.join(shown.words)[:60]}")
def test_a_command_parses(shown):
    assert parsed(shlex.join(shown.words)) is not None


def test_python_stands_where_a_test_runs_it():
    own = {page for page, text in PAGES.items() if "```python" in text}
    assert own == {"how-to/any-dataset.md", "reference/index.md", "tutorial/published.md"}


def test_python_of_the_reference_runs():
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGES["reference/index.md"], re.M | re.S)
    names = {}
    exec(compile(code, "reference/index.md", "exec"), names)
    assert names["config"].network.image_size == 96


def test_the_tutorials_calls_give_batches(tmp_path):
    root = write_data(tmp_path / "data", {"0": 2, "1": 1})
    assert prepare.main(["--data_root", str(root), "--csv_dir", str(tmp_path / "csv")]) == DONE
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGES["tutorial/published.md"], re.M | re.S)
    names = {}
    exec(compile(code, "tutorial/published.md", "exec"), names)
    images, masks = next(iter(names["mixed_loaders"](str(root), str(tmp_path / "csv"), 2)))
    assert images.shape == (16, 384, 384, 3) and masks.shape == (16, 384, 384, 1)
    assert 0 <= images.numpy().min() < images.numpy().max() <= 1


def test_the_options_file_of_the_reference_parses(tmp_path):
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGES["reference/index.md"], re.M | re.S)
    (tmp_path / "run.yaml").write_text(text)
    assert (
        parsed(f"train.py --config {tmp_path / 'run.yaml'} --balance shares").config.network.image_size == 96
    )


@pytest.mark.parametrize("page", ["rendered", "nails"])
def test_the_tutorials_outputs_and_pictures_are_there_and_used(page):
    text = PAGES[f"tutorial/{page}.md"]
    used = [step.text for step in figures.steps(text) if step.kind != "commands"]
    folder = DOCS / "tutorial" / page
    assert sorted(used) == sorted(f"{page}/{path.name}" for path in folder.iterdir())
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6


def test_external_links_are_whole():
    for page, text in PAGES.items():
        for link in re.findall(r"\]\((\w+:[^)\s]*)\)", text):
            parts = urlsplit(link)
            assert parts.scheme == "https" and "." in parts.netloc, (page, link)


def test_options_that_pages_name_exist():
    known = {"--version", "--help"}
    for verb in VERBS:
        known |= {name for action in hooks.parser_of(verb)._actions for name in action.option_strings}
    for page, text in PAGES.items():
        own = set(re.findall(r"(?<![\w-])--[a-z_]+", re.sub(r"```(bash|text).*?```", "", text, flags=re.S)))
        assert own - known - {"--quick", "--earlier"} == set(), page


def steps(transform):
    """A pipeline as the page about transforms writes it."""
    names = []
    for step in transform.transforms:
        inner = ""
        if hasattr(step, "transforms"):
            inner = f"({', '.join(type(one).__name__ for one in step.transforms)})"
        names.append(f"{type(step).__name__}{inner}")
    return ", ".join(names)


def test_the_table_of_pipelines_is_true():
    page = (ROOT / "docs/how-to/transforms.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w*(?:Resize|Flip).*?) \|", page, re.M))
    assert rows == {name: steps(function(64)) for name, function in TRANSFORMS.items()}
