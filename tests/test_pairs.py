"""Pairs of image and mask: found in the folders, and checked by one reading."""

import cv2
import numpy as np
import pytest
from conftest import draw_pair, write_data, write_image
from PIL import Image

from errors import Findings, InputError
from pairs import (
    EXPECTED_LAYOUT,
    Folders,
    Pair,
    find_folders,
    find_pairs,
    inspect_pairs,
    likely_suffix,
    subset_folder,
)


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
        "Masks/2/b.png": "expected an image Images/2/b.*; Images/2/b.heic is of no type that is read",
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
    assert search.unpaired["Images/c.png"].endswith("; Masks/c_mask.gif is of no type that is read")


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


def save(path, pixels, **options):
    """Writes with Pillow; `orientation` is an EXIF tag."""
    exif = Image.Exif()
    exif[0x0112] = options.pop("orientation", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, exif=exif, **options)


def inspect(root, image="image.png", mask="mask.png"):
    """(PairFacts or None, message of the findings) of one pair."""
    findings, pair = Findings(), Pair(None, "all", image, mask)
    facts = inspect_pairs(root, [pair], findings)
    assert (pair in facts) == (not findings)
    return facts.get(pair), findings.message()


@pytest.fixture
def pair_root(tmp_path):
    """A folder with a good image.png and mask.png of 60x50."""
    image, mask = draw_pair(0)
    write_image(tmp_path / "image.png", image)
    write_image(tmp_path / "mask.png", mask)
    return tmp_path


def test_facts_of_a_good_pair(pair_root):
    fact, message = inspect(pair_root)
    assert message == ""
    assert (fact.width, fact.height, fact.mask.kind) == (60, 50, "binary")
    assert fact.image_hash != fact.mask_hash and len(fact.image_hash) == 64


def test_many_pairs_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("pairs.AT_ONCE", 3)
    root = write_data(tmp_path, {"a": 7}, height=40, width=50)
    pairs = find_pairs(root, find_folders(root)).pairs
    facts = inspect_pairs(root, pairs, Findings())
    assert list(facts) == pairs
    assert len({fact.image_hash for fact in facts.values()}) == 7


@pytest.mark.parametrize("name", ["image.png", "mask.png"])
@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda content: b"", "the file is empty"),
        (lambda content: b"plain text", "not an image"),
        (lambda content: content[: len(content) // 2], "truncated|broken|unrecognized"),
        (lambda content: content[:-5], "cannot be decoded"),
    ],
)
def test_damaged_files_are_named_with_the_reason(name, damage, reason, pair_root):
    path = pair_root / name
    path.write_bytes(damage(path.read_bytes()))
    _, message = inspect(pair_root)
    head, place, advice = message.split("\n")
    assert head == "files that cannot be decoded: 1"
    assert place.startswith(f"  {name}  ") and any(words in place for words in reason.split("|"))
    assert advice == "Replace the damaged files, or move image and mask away."


def test_a_truncated_jpeg_is_found(pair_root):
    content = cv2.imencode(".jpg", draw_pair(0)[0])[1].tobytes()
    (pair_root / "image.jpg").write_bytes(content[:-200])
    assert "  image.jpg  image file is truncated" in inspect(pair_root, "image.jpg")[1]


def test_both_damaged_files_of_a_pair_are_named(pair_root):
    (pair_root / "image.png").write_bytes(b"")
    (pair_root / "mask.png").unlink()
    message = inspect(pair_root)[1]
    assert (
        "cannot be decoded: 2\n  image.png  the file is empty\n  mask.png  No such file or directory\n"
        in message
    )


def test_different_sizes(pair_root):
    write_image(pair_root / "mask.png", draw_pair(0, 50, 61)[1])
    assert inspect(pair_root)[1] == (
        "pairs of different size: 1\n  image.png 60x50, mask.png 61x50\n"
        "Expected equal sizes; save the masks in their image's size."
    )


EXIF_ADVICE = (
    "Save the images upright, without the EXIF tag; turn the masks too where they were drawn on the "
    "unturned image."
)


@pytest.mark.parametrize(
    "orientation, image_size, mask_size, fine",
    [
        (1, (60, 50), (60, 50), True),
        (6, (60, 50), (50, 60), True),  # the mask was drawn on the image as displayed
        (6, (60, 50), (60, 50), False),
        (6, (50, 50), (50, 50), False),  # a square does not tell
        (3, (60, 50), (60, 50), False),
        (8, (60, 50), (50, 60), True),
    ],
)
def test_exif_rotation_of_the_image_alone(orientation, image_size, mask_size, fine, tmp_path):
    save(tmp_path / "image.jpg", draw_pair(0, *image_size[::-1])[0], orientation=orientation)
    save(tmp_path / "mask.png", draw_pair(0, *mask_size[::-1])[1])
    fact, message = inspect(tmp_path, "image.jpg")
    displayed = image_size[::-1] if orientation >= 5 else image_size
    if fine:
        assert (fact.width, fact.height) == displayed
    else:
        assert message == (
            "pairs of which only one file has an EXIF rotation: 1\n"
            f"  image.jpg  EXIF orientation {orientation}, displayed {displayed[0]}x{displayed[1]}; "
            f"mask.png  EXIF orientation 1, {mask_size[0]}x{mask_size[1]}\n{EXIF_ADVICE}"
        )


@pytest.mark.parametrize("orientation, size", [(3, (60, 50)), (6, (50, 60))])
def test_the_same_exif_rotation_of_both_is_fine(orientation, size, tmp_path):
    image, mask = draw_pair(0)
    save(tmp_path / "image.jpg", image, orientation=orientation)
    save(tmp_path / "mask.png", mask, orientation=orientation)
    fact, message = inspect(tmp_path, "image.jpg")
    assert (message, fact.width, fact.height) == ("", *size)


COPY = (
    "masks that are a copy of their image: 1\n  {mask} = {image}\n"
    "Expected a mask of the image; put the right file there."
)


def photo():
    """A smooth picture, which JPEG and grey conversion hardly change."""
    ramp = np.add.outer(np.arange(50), 2 * np.arange(60)).astype(np.uint8)
    return np.dstack([ramp, ramp + 30, 200 - ramp])


@pytest.mark.parametrize("mask", ["same.png", "jpeg.jpg", "grey.png"])
def test_a_mask_that_is_a_copy_of_its_image(mask, tmp_path):
    save(tmp_path / "image.png", photo())
    copies = {"same.png": photo(), "jpeg.jpg": photo(), "grey.png": cv2.cvtColor(photo(), cv2.COLOR_RGB2GRAY)}
    save(tmp_path / mask, copies[mask])
    assert COPY.format(mask=mask, image="image.png") in inspect(tmp_path, mask=mask)[1]


def test_identical_bytes_are_a_copy_even_of_a_black_and_white_image(tmp_path):
    for name in ("image.png", "mask.png"):
        write_image(tmp_path / name, draw_pair(0)[1])
    assert COPY.format(mask="mask.png", image="image.png") in inspect(tmp_path)[1]


def test_a_mask_of_many_greys_is_no_copy(pair_root):
    write_image(pair_root / "mask.png", cv2.blur(draw_pair(0)[1], (25, 25)))
    assert inspect(pair_root)[1] == ""


@pytest.mark.parametrize(
    "mode, place",
    [("I;16", "16-bit grey"), ("F", "floating point"), ("CMYK", "CMYK")],
)
def test_masks_of_an_unusable_type(mode, place, pair_root):
    mask = draw_pair(0)[1]
    picture = (
        Image.fromarray(mask.astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(mask).convert(mode)
    )
    name = "mask.png" if mode == "I;16" else "mask.tif"
    picture.save(pair_root / name)
    if mode == "F":  # OpenCV may refuse it before
        assert inspect(pair_root, mask=name)[0] is None
        return
    assert inspect(pair_root, mask=name)[1] == (
        f"masks of an unusable type: 1\n  {name}  {place}\n"
        "Expected 8-bit grey, palette or RGB; save the masks as 8-bit PNG."
    )


def test_transparent_masks(pair_root):
    mask = draw_pair(0)[1]
    clear = np.dstack([np.full_like(mask, 255)] * 3 + [mask])
    Image.fromarray(clear).save(pair_root / "mask.png")
    expected = (
        "masks with transparent pixels: 1\n  mask.png\n"
        "Transparency has no meaning here; flatten the masks to grey or RGB."
    )
    assert inspect(pair_root)[1] == expected
    palette = Image.fromarray((mask > 0).astype(np.uint8), "P")
    palette.putpalette([255, 255, 255, 255, 255, 255])
    palette.save(pair_root / "mask.png", transparency=0)
    assert inspect(pair_root)[1] == expected
    opaque = np.dstack([mask] * 3 + [np.full_like(mask, 255)])
    Image.fromarray(opaque).save(pair_root / "mask.png")
    assert inspect(pair_root)[0].mask.kind == "binary"


@pytest.mark.parametrize(
    "name, options, kind",
    [
        ("mask.jpg", {"quality": 80}, "fringed"),
        ("mask.webp", {"quality": 60}, "fringed"),
        ("mask.webp", {"lossless": True}, "binary"),
        ("mask.bmp", {}, "binary"),
    ],
)
def test_masks_of_every_type_are_summarised(name, options, kind, pair_root):
    Image.fromarray(draw_pair(0)[1]).save(pair_root / name, **options)
    assert inspect(pair_root, mask=name)[0].mask.kind == kind


def test_a_lossless_webp_may_hold_ids(pair_root):
    ids = (draw_pair(0)[1] > 0).astype(np.uint8)
    Image.fromarray(np.dstack([ids] * 3)).save(pair_root / "mask.webp", lossless=True)
    summary = inspect(pair_root, mask="mask.webp")[0].mask
    assert (summary.kind, summary.values[-1]) == ("binary", (1, int(ids.sum())))


def test_files_are_only_read(pair_root):
    before = {path.name: path.read_bytes() for path in pair_root.iterdir()}
    inspect(pair_root)
    assert {path.name: path.read_bytes() for path in pair_root.iterdir()} == before != {}
