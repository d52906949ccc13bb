"""Every command of the site that is not marked `parsed only` runs, page by page, on small data."""

import importlib
import shutil

import pytest

from segbalance.runtime.command_line import DONE
from segbalance.runtime.verbs import FILES
from tests.support.data import TINY, write_data
from tests.support.places import ROOT
from tests.support.site_pages import COMMANDS

PAGES = sorted({shown.page for shown in COMMANDS if shown.reason is None})
SMALL = {  # what makes a command quick; the last of an option counts
    "scripts/make_sample_data.py": ["--scale", "0.03", "--image_size", "64"],
    "scripts/profile_loader.py": [*TINY, "--seconds", "0.2", "--no_model"],
    "scripts/export_model.py": "--representative_images 4 --check_images 2 --most_iou_lost 1".split(),
}


@pytest.fixture
def workplace(tmp_path, finished, monkeypatch):
    """A folder with data, manifests, two runs and photos, as the guides suppose; it is the working folder."""
    monkeypatch.chdir(tmp_path)
    root = write_data(tmp_path / "data", {"a": 6, "b": 4, "c": 2})
    write_data(root, {"a": 2, "b": 2}, "valid", first_seed=1)
    from segbalance.commands import prepare

    assert prepare.main(["--data_root", "data"]) == DONE
    for run in ("first", "second"):
        shutil.copytree(finished, tmp_path / "runs" / run)
    shutil.copytree(root / "valid" / "images" / "a", tmp_path / "photos")
    return tmp_path


def without_decoder(options, arguments):
    """The options without those that a classification refuses, if `arguments` are of one."""
    place = options.index("--decoder_filters")
    return options[:place] + options[place + 6 :] if "csv_trinkets" in arguments else options


def run(words, unique):
    """The exit status of a command of the site, made small."""
    _, script, *arguments = words
    verb = FILES.get(script, script)
    main = importlib.import_module(f"segbalance.commands.{verb.replace('-', '_')}").main
    if verb == "train" and "--resume" not in arguments:
        arguments += [*without_decoder(TINY, arguments), "--epochs", "1"]
        arguments += [] if "--work_dir" in arguments else ["--work_dir", f"runs/{unique}"]
    arguments += SMALL.get(script, [])
    handed = {"transforms_file": ROOT / "transforms.py"} if verb == "train" else {}
    return main(arguments, **handed)


def test_some_pages_run():
    assert len(PAGES) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page, workplace):
    for number, shown in enumerate(COMMANDS):
        if shown.page == page and shown.reason is None:
            assert run(shown.words, number) == DONE, " ".join(shown.words)
