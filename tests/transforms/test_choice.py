"""Which subset gets which transform: by the command line, a file, or neither."""

import sys

import pytest

from segbalance.errors import InputError
from segbalance.transforms.choice import choose_transforms, is_built_in
from segbalance.transforms.own_file import forget_own_file, own_file
from segbalance.transforms.pipelines import TRANSFORMS

CLONES = """
import functools
from segbalance.transforms.pipelines import light_transform, resize, strong_transform
from segbalance.transforms.quiet_albumentations import A

def plain(image_size):
    return A.Compose([resize(image_size)])

def make(image_size, p):
    return A.Compose([A.HorizontalFlip(p=p), resize(image_size)])

flips = functools.partial(make, p=1)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty working folder; the path and the loaded file are as before after each test."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget_own_file()
    yield tmp_path / "work"
    forget_own_file()


def write(path, choice):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{CLONES}\nSUBSET_TRANSFORMS = {choice}\n")
    return path


@pytest.fixture
def clone(tmp_path):
    """The transforms.py of a clone that chooses one of each kind."""
    choice = (
        "{0: 'plain', '1': flips, '2': strong_transform, '3': 'my_package.my_module:go', 'default': 'light'}"
    )
    return write(tmp_path / "clone/transforms.py", choice)


def test_without_a_file_every_subset_gets_train():
    assert choose_transforms(None) == ({"default": "train"}, "transforms: built in")


def test_the_clones_file_decides(clone):
    names, told = choose_transforms(None, clone)
    assert names == {
        "0": "transforms:plain",
        "1": "transforms:flips",
        "2": "strong",
        "3": "my_package.my_module:go",
        "default": "light",
    }
    assert told == f"transforms: {clone}, built in, my_package.my_module" and own_file().path == clone


def test_a_file_on_the_command_line_takes_its_place(clone, tmp_path, monkeypatch):
    given = write(tmp_path / "own/mine.py", "{'default': plain}")
    monkeypatch.chdir(given.parent)
    assert choose_transforms("mine.py", clone) == ({"default": "transforms:plain"}, f"transforms: {given}")


def test_words_are_looked_up_among_the_built_in_ones_then_in_the_clones_file(clone):
    names, told = choose_transforms({"4": "plain", "3": "strong", "2": "transforms:flips"}, clone)
    assert names == {"4": "transforms:plain", "3": "strong", "2": "transforms:flips"}
    assert told == f"transforms: {clone}, built in"
    assert choose_transforms({"4": "light_transform"}, clone)[0] == {"4": "light"}
    # Stored names are words that mean the same again.
    assert choose_transforms(names, clone) == (names, told)


def test_an_unknown_name_lists_the_files_functions(clone):
    with pytest.raises(InputError) as caught:
        choose_transforms({"4": "plian"}, clone)
    assert str(caught.value) == (
        "transform 'plian' is unknown; known: train, train_fast, valid, light, strong, plain, make, "
        "or package.module:function"
    )
    with pytest.raises(InputError, match="light, strong, or package.module:function"):
        choose_transforms({"4": "plain"})


def test_a_function_without_a_name_of_its_own(tmp_path):
    path = write(tmp_path / "mine.py", "{'default': lambda size: plain(size)}")
    with pytest.raises(InputError, match="mine.py: the transform <function <lambda> .*define it with def"):
        choose_transforms(str(path))


def test_a_function_without_a_file_has_no_name():
    with pytest.raises(InputError, match=r"is a function of no file of transforms.*expected a name"):
        choose_transforms({"a": lambda image_size: None})


def test_a_file_that_nothing_comes_from_is_told_but_does_not_count(tmp_path):
    path = write(tmp_path / "clone/transforms.py", "{'default': 'light'}")
    assert choose_transforms(None, path) == (
        {"default": "light"},
        f"transforms: built in, as {path} says",
    )


def test_a_broken_file_does_not_matter_where_only_built_in_ones_are_named(tmp_path):
    path = tmp_path / "transforms.py"
    path.write_text("raise RuntimeError\n")
    for name in (*TRANSFORMS, "my_package.my_module:go"):
        assert choose_transforms({"default": name}, path)[0] == {"default": name}
    for given in ({"default": "mine"}, {"default": "transforms:mine"}, None):
        with pytest.raises(InputError, match="cannot be run: RuntimeError"):
            choose_transforms(given, path)


def test_the_file_of_an_earlier_choice_is_forgotten(clone):
    choose_transforms(None, clone)
    choose_transforms({"default": "train"}, clone)
    assert own_file() is None


def test_a_file_in_the_working_folder_that_does_not_decide_is_named(place, clone):
    warning = (
        f"\nwarning: {place / 'transforms.py'} is not used; pass --transforms transforms.py to have it decide"
    )
    own = write(place / "transforms.py", "{'default': 'light'}")
    assert choose_transforms(None)[1] == f"transforms: built in{warning}"
    assert choose_transforms(None, clone)[1].endswith(warning)
    for given, clones_file in (
        (None, own),
        (None, place / "../work/transforms.py"),
        ("transforms.py", clone),
        ({"default": "train"}, clone),
    ):
        assert "warning" not in choose_transforms(given, clones_file)[1]


def test_what_is_built_in():
    assert all(map(is_built_in, TRANSFORMS))
    for name in ("gentle", "transforms:train", "transforms:gentle", "os:getcwd", "mine.py", "", "train "):
        assert not is_built_in(name)
