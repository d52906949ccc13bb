"""Photos from files, folders and globs: each once, with a name of its own, and never an output."""

import os

import pytest

from segbalance.errors import InputError
from segbalance.files.photo_search import find_photos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the files of a test lie, and where it runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def found(*arguments, output="out"):
    return {photo.path: photo.name for photo in find_photos(arguments, output)}


def test_a_folder_is_mirrored(folder):
    touch(folder, "photos/a.jpg", "photos/day 1/b.PNG", "photos/notes.txt", "photos/.hidden.jpg", "c.jpg")
    assert found("photos") == {"photos/a.jpg": "a", "photos/day 1/b.PNG": "day 1/b"}


def test_a_folder_with_one_folder_in_it_is_mirrored_too(folder):
    touch(folder, "photos/day 1/b.png")
    assert found("photos") == {"photos/day 1/b.png": "day 1/b"}


@pytest.mark.parametrize("pattern", ["photos/*.jpg", "photos/**/*.jpg"])
def test_globs_are_expanded_here_too(pattern, folder):
    touch(folder, "photos/a.jpg", "photos/b.jpg", "photos/deep/c.jpg", "photos/d.txt")
    names = {"photos/a.jpg": "a", "photos/b.jpg": "b"}
    assert found(pattern) == names | ({"photos/deep/c.jpg": "deep/c"} if "**" in pattern else {})
    assert found("photos/[a].jpg") == {"photos/a.jpg": "a"}


def test_a_glob_of_folders_takes_what_is_in_them(folder):
    touch(folder, "photos/1/a.jpg", "photos/2/a.jpg", "photos/readme.txt")
    assert found("photos/*") == {"photos/1/a.jpg": "1/a", "photos/2/a.jpg": "2/a"}


def test_a_name_like_a_glob_is_a_file_first(folder):
    touch(folder, "a[1].jpg", "a1.jpg")
    assert found("a[1].jpg") == {"a[1].jpg": "a[1]"}


def test_a_photo_named_twice_comes_once(folder):
    touch(folder, "photos/a.jpg")
    assert found("photos", "photos/a.jpg", "photos/*.jpg", os.path.abspath("photos/a.jpg")) == {
        "photos/a.jpg": "a"
    }


def test_folders_of_one_name_stand_apart(folder):
    touch(folder, "monday/nails/a.jpg", "tuesday/nails/a.jpg")
    assert found("monday/nails", "tuesday/nails/") == {
        "monday/nails/a.jpg": "monday/nails/a",
        "tuesday/nails/a.jpg": "tuesday/nails/a",
    }


def test_names_that_differ_only_in_their_extension_keep_it(folder):
    touch(folder, "a.jpg", "a.png", "b.jpg", "C.jpg", "c.png")
    assert found(".") == {
        "./a.jpg": "a.jpg",
        "./a.png": "a.png",
        "./b.jpg": "b",
        "./C.jpg": "C.jpg",
        "./c.png": "c.png",
    }


def test_names_that_cannot_be_told_apart_are_refused(folder):
    touch(folder, "a.jpg", "a.png", "a.jpg.png", "b.jpg")
    with pytest.raises(InputError, match="(?s)would have one name: 1\n.*a.jpg.* and .*a.jpg.*Rename one"):
        find_photos(["."], "out")


def test_what_lies_in_the_output_is_left_out(folder):
    touch(folder, "photos/a.jpg", "photos/out/masks/a.png", "photos/outside/b.jpg")
    assert found("photos", output="photos/out") == {
        "photos/a.jpg": "a",
        "photos/outside/b.jpg": "outside/b",
    }
    with pytest.raises(InputError, match="all 3 images lie in --output photos, which is left out"):
        find_photos(["photos"], "photos")


def test_everything_that_leads_nowhere_is_told_at_once(folder):
    touch(folder, "text/a.txt")
    with pytest.raises(InputError) as error:
        find_photos(["text", "missing.jpg", "text/*", "b*.jpg"], "out")
    assert str(error.value) == (
        "--images without an image: 4\n"
        "  text  no image in this folder\n"
        "  missing.jpg  there is no such file\n"
        "  text/*  no image matches\n"
        "  b*.jpg  no image matches\n"
        "Expected image files, folders that hold some, or globs such as 'photos/*.jpg'."
    )


def test_a_file_is_taken_at_its_word(folder):
    touch(folder, "photo")
    assert found("photo") == {"photo": "photo"}


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX alone")
def test_names_that_no_table_can_hold_are_refused(folder):
    with open(b"a\xff.jpg", "wb"):
        pass
    with pytest.raises(InputError, match="name is not UTF-8: 1"):
        find_photos(["."], "out")
