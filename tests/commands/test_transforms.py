"""A run with a person's own transforms, from train.py to the replay; and the command that writes the file."""

import hashlib
import importlib
import json
import runpy
import shlex
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
    assert "Name the function in SUBSET_TRANSFORMS of that file, and pass the file" in capsys.readouterr().err
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


def test_a_renamed_file_and_the_copy_of_the_run_are_the_runs_file(begun, clone, tmp_path, capsys):
    renamed = clone.rename(clone.with_name("renamed.py"))
    draw = ["--work_dir", begun, "--step", "0", "--item", "0", "--output", tmp_path / "drawn"]
    capsys.readouterr()
    for epochs, file in (("3", renamed), ("4", begun / "transforms.py")):
        assert train.main(["--resume", begun, "--epochs", epochs, "--transforms", file]) == DONE
        assert replay.main([*draw, "--transforms", file]) == DONE
        assert "warning" not in capsys.readouterr().out
    assert load_config(begun).data.transforms == NAMES


def test_a_module_of_the_files_name_is_never_taken_for_it(one_convolution, tables, clone, tmp_path, capsys):
    file, run = clone.rename(clone.with_name("mine.py")), tmp_path / "run"
    write_own(tmp_path / "elsewhere" / "mine.py", tmp_path / "imported")
    assert train.main([*TINY, "--csv_dir", tables, "--work_dir", run, "--transforms", file]) == DONE
    assert train.main(["--resume", run]) == WRONG_INPUT
    advised = json.loads(shlex.split(capsys.readouterr().err)[-1])
    assert train.main(["--resume", run, "--epochs", "3", "--transforms", json.dumps(advised)]) == WRONG_INPUT
    assert not (tmp_path / "imported").exists()


def test_a_run_that_takes_leave_of_its_file_says_so_and_drops_the_copy(begun, clone, tmp_path, capsys):
    built_in = ["--transforms", '{"default": "light"}']
    draw = ["--work_dir", begun, "--step", "0", "--item", "0", "--output", tmp_path / "drawn"]
    capsys.readouterr()
    none_now = "warning: the run had a file of transforms, now none: training may have seen other pixels\n"
    for main, words in ((replay.main, draw), (make_report.main, ["--work_dir", begun])):
        main([*words, *built_in], transforms_file=clone)  # the report may not know the stub of a network
        assert none_now in capsys.readouterr().out
    assert (begun / "transforms.py").exists()
    go_on = ["--resume", begun, "--epochs", "3", "--force", *built_in]
    assert train.main(go_on, transforms_file=clone) == DONE
    assert f"transforms_file {sha256(clone)[:16]} then, none now" in capsys.readouterr().out
    assert load_config(begun).filled_in.transforms_source is None and not (begun / "transforms.py").exists()


@pytest.mark.parametrize("now", ["another file", "no file"])
def test_before_the_first_checkpoint_another_file_is_told_too(now, begun, clone, tmp_path, capsys):
    shutil.rmtree(begun / "checkpoints")
    other = clone.with_name("other.py")
    other.write_text(clone.read_text() + "# a remark\n")
    given, warning = {
        "another file": (other, f"warning: {other} is not the file of the run: training"),
        "no file": ('{"default": "light"}', "warning: the run had a file of transforms, now none: training"),
    }[now]
    capsys.readouterr()
    assert train.main(["--resume", begun, "--force", "--transforms", given]) == DONE
    assert warning in capsys.readouterr().out


def test_a_file_in_the_run_folder_that_is_not_the_copy_stays(begun):
    (begun / "transforms.py").write_text("# my own work")
    go_on = ["--resume", begun, "--epochs", "3", "--force", "--transforms", '{"default": "light"}']
    assert train.main(go_on) == DONE
    assert (begun / "transforms.py").read_text() == "# my own work"


def test_a_file_that_chooses_otherwise_now_is_answered_with_the_copy(begun, clone, capsys):
    clone.write_text(clone.read_text().replace('"default": "light"', '"default": "strong"'))
    go_on = ["--resume", begun, "--epochs", "3", "--transforms"]
    assert train.main([*go_on, clone]) == WRONG_INPUT
    kept = begun / "transforms.py"
    assert (
        "The file of transforms says something else now, or is another; the run folder keeps it as it was: "
        f"--transforms {kept}. Leave other options out, or begin a new run; --force"
        in capsys.readouterr().err
    )
    kept.rename(kept.with_name("kept.py"))
    assert train.main([*go_on, clone]) == WRONG_INPUT
    assert "or is another; put it back as it was. Leave other" in capsys.readouterr().err
    kept.with_name("kept.py").rename(kept)
    assert train.main([*go_on, '{"a": "transforms:soft"}'], transforms_file=kept) == WRONG_INPUT
    assert f"The run's own transforms: --transforms '{WORDS}'. Leave other" in capsys.readouterr().err
    assert train.main([*go_on, kept]) == DONE


def test_a_folder_without_a_run_is_told_before_anything_is_run(clone, tmp_path, capsys):
    for resume in (tmp_path / "nowhere", tmp_path):
        assert train.main(["--resume", resume], transforms_file=clone) == WRONG_INPUT
        shown = capsys.readouterr()
        assert "has no config.yaml; expected the folder of a run" in shown.err and shown.out == ""
    assert not clone.with_name("ran").exists()


def test_a_run_that_names_built_in_ones_needs_no_file(one_convolution, tables, tmp_path, capsys):
    broken = tmp_path / "transforms.py"
    broken.write_text("raise RuntimeError\n")
    words = [*TINY, "--csv_dir", tables, "--work_dir", tmp_path / "run", "--transforms", '{"a": "strong"}']
    assert train.main(words, transforms_file=broken) == DONE
    assert load_config(tmp_path / "run").filled_in.transforms_source is None
    assert not (tmp_path / "run" / "transforms.py").exists()
    assert train.main(["--resume", tmp_path / "run", "--epochs", "3"], transforms_file=broken) == DONE
    assert "\ntransforms: built in\n" in f"\n{capsys.readouterr().out}"


def test_ones_own_yaml_may_not_name_the_file_but_the_command_line_beside_it(
    one_convolution, tables, clone, tmp_path, capsys
):
    (tmp_path / "own.yaml").write_text(f"transforms: {clone}\n")
    words = [*TINY, "--csv_dir", tables, "--work_dir", tmp_path / "run", "--config", tmp_path / "own.yaml"]
    assert train.main(words) == WRONG_INPUT
    assert f"--transforms {clone}" in capsys.readouterr().err
    assert train.main([*words, "--transforms", clone]) == DONE
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
    if script == "train.py":
        stub("segbalance.runtime.leaving.leave", lambda status: sys.exit(status))  # this process goes on
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
    assert "--output mine.py already exists. Choose another, or pass --overwrite." in capsys.readouterr().err
    assert (elsewhere / "mine.py").read_text() == "mine"
    assert write_template.main(["--output", "mine.py", "--overwrite"]) == DONE
    assert write_template.main(["--output", "mine.txt"]) == WRONG_INPUT
    assert "output must be a file that ends in .py, got 'mine.txt'" in capsys.readouterr().err
