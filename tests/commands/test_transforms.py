"""A run with a person's own transforms, from train.py to the replay; and the command that writes the file."""

import hashlib
import importlib
import runpy
import shutil
import sys

import pytest
import yaml

from segbalance.commands import replay, train
from segbalance.commands import report as make_report
from segbalance.commands import transforms as write_template
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config_file import CONFIG, load_config
from segbalance.transforms.own_file import forget_own_file
from tests.support.data import TINY
from tests.support.places import ROOT

OWN = """
from pathlib import Path

from segbalance.transforms.pipelines import resize
from segbalance.transforms.quiet_albumentations import A

SUBSET_TRANSFORMS = {"a": "soft", "default": "light"}
with Path(__MARKER__).open("a") as file:
    print(__file__, file=file)


def soft(image_size):
    return A.Compose([A.HorizontalFlip(p=0.5), resize(image_size)])
"""
NAMES = {"a": "transforms:soft", "default": "light"}
WORDS = '{"a": "transforms:soft", "default": "light"}'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working folder that holds nothing; the path and the loaded file are as before after each test."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "elsewhere"
    forget_own_file()


def write_own(path, marker):
    path.parent.mkdir(exist_ok=True)
    path.write_text(OWN.replace("__MARKER__", repr(str(marker))))
    return path


@pytest.fixture
def clone(tmp_path):
    """The transforms.py of a clone; every time that it is run it adds its path to `ran` beside it."""
    return write_own(tmp_path / "clone" / "transforms.py", tmp_path / "clone" / "ran")


@pytest.fixture
def begun(one_convolution, tables, clone, tmp_path):
    """The folder of a run of two epochs that went by the clone's file, its checkpoints included."""
    run = tmp_path / "run"
    words = [*TINY, "--csv_dir", tables, "--work_dir", run]
    assert train.main(words, transforms_file=clone) == DONE
    return run


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_run_folder_keeps_what_was_run_and_needs_ones_word_again(begun, clone, tmp_path, capsys):
    config = load_config(begun)
    assert config.data.transforms == NAMES and config.filled_in.transforms_source == sha256(clone)
    assert (begun / "transforms.py").read_bytes() == clone.read_bytes()

    go_on = ["--resume", begun, "--epochs", "3"]
    draw = ["--work_dir", begun, "--step", "0", "--item", "0", "--output", tmp_path / "drawn"]
    for main, words in (
        (train.main, go_on),
        (train.main, ["--config", begun / CONFIG, "--work_dir", tmp_path / "new"]),
        (replay.main, draw),
        (make_report.main, ["--work_dir", begun]),
    ):
        assert main(words, transforms_file=clone) == WRONG_INPUT
        error = capsys.readouterr().err
        assert "names transforms that would be imported and run:\n  a: transforms:soft\n" in error
        assert f"  --transforms '{WORDS}'" in error and "as in --transforms my_transforms.py" in error
    assert clone.with_name("ran").read_text().count("\n") == 1

    for main, words in ((replay.main, draw), (train.main, go_on)):
        for own in (WORDS, clone):
            assert main([*words, "--transforms", own], transforms_file=clone) == DONE
            assert "warning" not in capsys.readouterr().out
    assert load_config(begun).filled_in.transforms_source == sha256(clone)
    assert set(clone.with_name("ran").read_text().split()) == {str(clone)}, "the copy in the run was run"


def test_outside_of_a_clone_the_message_says_how(begun, clone, capsys):
    go_on = ["--resume", begun, "--epochs", "3", "--transforms"]
    assert train.main([*go_on, WORDS]) == WRONG_INPUT
    assert "Let SUBSET_TRANSFORMS in it name the function, and pass the path" in capsys.readouterr().err
    assert train.main([*go_on, clone]) == DONE


def test_a_file_that_changed_since_is_told(begun, clone, tmp_path, capsys):
    clone.write_text(clone.read_text() + "# a remark\n")
    capsys.readouterr()
    draw = ["--work_dir", begun, "--step", "0", "--item", "0", "--output", tmp_path / "drawn"]
    assert replay.main([*draw, "--transforms", clone]) == DONE
    assert capsys.readouterr().out.startswith(f"warning: {clone} is not the file of the run: training may")
    assert train.main(["--resume", begun, "--epochs", "3", "--transforms", clone]) == DONE
    before, now = sha256(begun / "transforms.py"), sha256(clone)
    out = capsys.readouterr().out
    assert out.count("warning") == 1 and "warning: the rest of the run may not be what it would" in out
    assert f": transforms_file {out.partition('transforms_file ')[2][:16]} then, {now[:16]} now\n" in out
    assert before == now == load_config(begun).filled_in.transforms_source, (
        "the copy is that of the last file"
    )


def test_a_run_that_names_built_in_ones_needs_no_file(one_convolution, tables, tmp_path, capsys):
    broken = tmp_path / "transforms.py"
    broken.write_text("raise RuntimeError\n")
    words = [*TINY, "--csv_dir", tables, "--work_dir", tmp_path / "run", "--transforms", '{"a": "strong"}']
    assert train.main(words, transforms_file=broken) == DONE
    assert load_config(tmp_path / "run").filled_in.transforms_source is None
    assert not (tmp_path / "run" / "transforms.py").exists()
    assert train.main(["--resume", tmp_path / "run", "--epochs", "3"], transforms_file=broken) == DONE
    assert "\ntransforms: built in\n" in f"\n{capsys.readouterr().out}"


def test_ones_own_yaml_may_name_the_file(one_convolution, tables, clone, tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(f"transforms: {clone}\n")
    words = [*TINY, "--csv_dir", tables, "--work_dir", tmp_path / "run", "--config", tmp_path / "own.yaml"]
    assert train.main(words) == DONE
    assert f"transforms: {clone}, built in\n" in capsys.readouterr().out
    assert load_config(tmp_path / "run").data.transforms == NAMES


@pytest.mark.parametrize("stored", ["{file}", '{{"a": "{file}"}}'])
def test_a_stored_path_is_not_followed(stored, begun, clone, tmp_path, capsys):
    evil = write_own(tmp_path / "evil.py", tmp_path / "evil_ran")
    options = yaml.safe_load((begun / CONFIG).read_text())
    options["transforms"] = yaml.safe_load(stored.format(file=evil))
    (begun / CONFIG).write_text(yaml.safe_dump(options))
    shutil.copy(begun / "transforms.py", begun / "evil.py")
    for main, words in (
        (train.main, ["--resume", begun]),
        (train.main, ["--config", begun / CONFIG]),
        (replay.main, ["--work_dir", begun, "--step", "0", "--item", "0"]),
        (make_report.main, ["--work_dir", begun]),
    ):
        assert main(words, transforms_file=clone) == WRONG_INPUT
        assert "names transforms that would be imported and run" in capsys.readouterr().err
    assert not (tmp_path / "evil_ran").exists()


HAND_OVER = {
    "train.py": "train",
    "scripts/make_report.py": "report",
    "scripts/profile_loader.py": "profile",
    "scripts/replay_sample.py": "replay",
}


@pytest.mark.parametrize("script", HAND_OVER)
def test_doors_and_scripts_hand_over_the_clones_file(script, stub):
    handed = []
    command = importlib.import_module(f"segbalance.commands.{HAND_OVER[script]}")
    stub(command, "main", lambda **options: handed.append(options))
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert handed == [{"transforms_file": ROOT / "transforms.py"}]


def test_the_template_is_written(elsewhere, capsys):
    assert write_template.main(["--output", "mine.py"]) == DONE
    assert (elsewhere / "mine.py").read_bytes() == (ROOT / "segbalance/transforms/template.py").read_bytes()
    assert capsys.readouterr().out == "wrote mine.py; train with --transforms mine.py\n"


def test_the_template_replaces_nothing_unasked(elsewhere, capsys):
    (elsewhere / "mine.py").write_text("mine")
    assert write_template.main(["--output", "mine.py"]) == WRONG_INPUT
    assert (
        "--output mine.py is there already. Choose another, or pass --overwrite." in capsys.readouterr().err
    )
    assert (elsewhere / "mine.py").read_text() == "mine"
    assert write_template.main(["--output", "mine.py", "--overwrite"]) == DONE
    assert write_template.main(["--output", "mine.txt"]) == WRONG_INPUT
    assert "output must be a file that ends in .py, got 'mine.txt'" in capsys.readouterr().err
