"""Pairs of image and mask, found in the folders."""

import pytest

from segbalance.data_processing.pairs import (
    EXPECTED_LAYOUT,
    Folders,
    Pair,
    find_folders,
    find_pairs,
    likely_suffix,
    subset_folder,
)
from segbalance.errors import InputError


def touch(root, *names):
    """Makes empty files; a name that ends in / is a folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def test_folders_of_the_divided_layout(tmp_path):
    touch(
        tmp_path, "train/images/", "train/masks/", "val/Images/", "val/Masks/", "test/images/", "test/masks/"
    )
    touch(tmp_path, "notes/", ".git/")
    assert find_folders(tmp_path) == [
        Folders("test", "test/images", "test/masks"),
        Folders("train", "train/images", "train/masks"),
        Folders("valid", "val/Images", "val/Masks"),
    ]


def test_folders_of_the_flat_layout(tmp_path):
    assert find_folders(touch(tmp_path, "Images/", "Masks/", "valid/")) == [Folders(None, "Images", "Masks")]


@pytest.mark.parametrize(
    "names, message",
    [
        ([], ": no images found there. {layout} Found: no folders."),
        (["a/", "b/"], ": no images found there. {layout} Found: a, b."),
        (["valid/images/", "valid/masks/"], ": no images found there. {layout} Found: valid."),
        (
            ["Images/", "Masks/", "train/images/", "train/masks/"],
            " holds both layouts: Images/ and train/images/. {layout} Move one of them away.",
        ),
    ],
)
def test_a_data_root_without_one_layout_is_refused(names, message, tmp_path):
    with pytest.raises(InputError) as caught:
        find_folders(touch(tmp_path, *names))
    assert str(caught.value) == f"--data_root {tmp_path}" + message.format(layout=EXPECTED_LAYOUT)


@pytest.mark.parametrize(
    "names, place, message",
    [
        (["Images/"], "Images", "has no masks folder beside it"),
        (["train/images/", "train/masks/", "valid/images/"], "valid/images", "has no masks folder beside it"),
        (["train/images/", "train/masks/", "valid/pictures/"], "valid", "has no images folder"),
    ],
)
def test_half_a_layout_is_refused(names, place, message, tmp_path):
    with pytest.raises(InputError) as caught:
        find_folders(touch(tmp_path, *names))
    assert str(caught.value) == f"{tmp_path / place} {message}. {EXPECTED_LAYOUT}"


def test_a_missing_data_root_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"^--data_root {tmp_path}/none: there is no such folder$"):
        find_folders(tmp_path / "none")


@pytest.mark.parametrize("path, name", [("a.png", "all"), ("2/a.png", "2"), ("2/deep/er/a.png", "2")])
def test_the_subset_is_the_first_folder(path, name):
    assert subset_folder(path) == name


FLAT = [Folders(None, "Images", "Masks")]


def test_pairs_by_path_without_extension(tmp_path):
    touch(tmp_path, "Images/a.JPG", "Images/2/a.png", "Images/2/deep/a.tif", "Images/2/photo.v1.png")
    touch(tmp_path, "Images/2/photo.v2.png", "Masks/2/photo.v2.png")
    touch(tmp_path, "Masks/a.png", "Masks/2/a.BMP", "Masks/2/deep/a.webp", "Masks/2/photo.v1.jpeg")
    touch(tmp_path, "Images/Thumbs.db", "Masks/.DS_Store", "Images/2/.hidden.png")
    search = find_pairs(tmp_path, FLAT)
    assert search.pairs == [
        Pair(None, "2", "Images/2/a.png", "Masks/2/a.BMP"),
        Pair(None, "2", "Images/2/deep/a.tif", "Masks/2/deep/a.webp"),
        Pair(None, "2", "Images/2/photo.v1.png", "Masks/2/photo.v1.jpeg"),
        Pair(None, "2", "Images/2/photo.v2.png", "Masks/2/photo.v2.png"),
        Pair(None, "all", "Images/a.JPG", "Masks/a.png"),
    ]
    assert (search.images, search.unpaired, search.others, bool(search.findings)) == (5, {}, [], False)


def test_unpaired_files_say_what_was_expected(tmp_path):
    touch(
        tmp_path, "Images/2/a.png", "Images/2/b.heic", "Masks/2/b.png", "Masks/3/c.png", "Images/3/notes.txt"
    )
    search = find_pairs(tmp_path, FLAT)
    assert search.unpaired == {
        "Images/2/a.png": "expected Masks/2/a.png (or .jpg, .jpeg, .bmp, .tif, .tiff, .webp)",
        "Masks/2/b.png": "expected an image Images/2/b.*; Images/2/b.heic has an unsupported type",
        "Masks/3/c.png": "expected an image Images/3/c.*",
    }
    assert search.others == ["Images/2/b.heic", "Images/3/notes.txt"]


def test_mask_suffix(tmp_path):
    touch(tmp_path, "Images/a.png", "Masks/a_mask.png", "Images/b.png", "Masks/b.png", "Images/c.png")
    touch(tmp_path, "Masks/c_mask.gif")
    search = find_pairs(tmp_path, FLAT, "_mask")
    assert [(pair.image, pair.mask) for pair in search.pairs] == [("Images/a.png", "Masks/a_mask.png")]
    assert search.unpaired["Masks/b.png"] == "expected a name that ends in _mask (--mask_suffix)"
    assert search.unpaired["Images/b.png"].startswith("expected Masks/b_mask.png (or .jpg")
    assert search.unpaired["Images/c.png"].endswith("; Masks/c_mask.gif has an unsupported type")


def test_names_that_cannot_be_paired_are_findings(tmp_path):
    touch(
        tmp_path, "Images/1/a.png", "Images/1/a.jpg", "Masks/1/a.png", "Images/bare/", "Images/1/\udcff.png"
    )
    message = find_pairs(tmp_path, FLAT).findings.message()
    assert (
        "files that differ only in extension: 1\n  Images/1/a.jpg and Images/1/a.png\nKeep one of each."
        in message
    )
    assert "folders without any image: 1\n  Images/bare\nDelete them, or put images in." in message
    assert "files whose name is not UTF-8: 1\n  'Images/1/\\udcff.png'\nRename the files;" in message


@pytest.mark.parametrize(
    "paths, suffix",
    [
        (["i/a.png", "i/b.png", "m/a_mask.png", "m/b_mask.png", "m/a_mask_old.png"], "_mask"),
        (["i/left.png", "m/right.png"], None),
        ([], None),
    ],
)
def test_likely_suffix(paths, suffix):
    assert likely_suffix(paths) == suffix


def test_masks_of_a_split_without_its_images_are_not_passed_over(tmp_path):
    for folder in ("train/images/a", "train/masks/a", "test/masks/a"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError, match="test has no images folder"):
        find_folders(tmp_path)
