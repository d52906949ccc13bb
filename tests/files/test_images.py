"""Reading image files: what counts as one, how it is turned, and what is refused."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from segbalance.errors import InputError
from segbalance.files import images as image_files
from tests.support.data import draw_pair, write_image

FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}


def encoded(pixels, file_format, **options):
    """The bytes of a file with uint8 `pixels`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def turned_by(orientation):
    """EXIF data with that orientation."""
    exif = Image.Exif()
    exif[image_files.EXIF_ORIENTATION] = orientation
    return exif


def test_walk_is_sorted_and_passes_over_system_files(tmp_path):
    kept = ["a.txt", "b/1.PNG", "b/2.png", "b/deep/x.jpg", "c/1.png"]
    for name in [
        *reversed(kept),
        ".git/a.png",
        "__MACOSX/b/a.png",
        ".DS_Store",
        "b/Thumbs.db",
        "b/.hidden.png",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(image_files.walk_files(tmp_path)) == kept
    assert [name for name in image_files.walk_files(tmp_path) if "/" in name] == kept[1:]


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, stub):
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    stub(os, "scandir", refuse)
    with pytest.raises(
        InputError, match=r"closed: the folder cannot be read \(Permission denied\)\. Check its"
    ):
        list(image_files.walk_files(tmp_path))


def test_empty_folders_are_those_with_nothing_but_system_files(tmp_path):
    for name in ("full/a.png", "full/__MACOSX/x/._a.png", "system/.DS_Store", "system/@eaDir/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "parent" / "bare").mkdir(parents=True)
    assert sorted(image_files.empty_folders(tmp_path)) == [
        str(tmp_path / "parent" / "bare"),
        str(tmp_path / "system"),
    ]


@pytest.mark.parametrize(
    "name, counts",
    [("a.png", True), ("a.JPEG", True), ("a.Tif", True), ("a.webp", True), ("a.gif", False), ("png", False)],
)
def test_image_names(name, counts):
    assert image_files.is_image_name(name) is counts


@pytest.mark.parametrize("extension", FORMATS)
def test_every_type_is_read_as_it_was_written(extension, tmp_path):
    image, mask = draw_pair(0)
    write_image(tmp_path / f"image.{extension}", image)
    write_image(tmp_path / f"mask.{extension}", mask)
    read, grey = (
        image_files.read_image(tmp_path / f"image.{extension}"),
        image_files.read_grey(tmp_path / f"mask.{extension}"),
    )
    assert read.shape == image.shape and grey.shape == mask.shape and read.dtype == grey.dtype == np.uint8
    # The red channel is 200 on the nail and 50 beside it, whatever lossy coding does to the noise.
    assert (abs(read[..., 0].astype(int) - image[..., 0]) < 60).mean() > 0.9
    assert ((grey > 127) == (mask > 127)).mean() > 0.99


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation, turns", [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_reading_turns_an_image_upright(extension, orientation, turns, tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:10, :20] = 255  # one corner is white
    path = tmp_path / f"a.{extension}"
    path.write_bytes(encoded(pixels, FORMATS[extension], exif=turned_by(orientation)))
    expected = np.rot90(pixels, turns)
    for read in (image_files.read_image(path), image_files.read_grey(path)[..., None]):
        assert read.shape[:2] == expected.shape[:2]
        assert ((read > 127) == (expected > 127)).mean() > 0.98
    picture, _ = image_files.open_strictly(path.read_bytes())
    assert image_files.upright_size(picture) == expected.shape[1::-1]


def test_alpha_is_left_out(tmp_path):
    image, mask = draw_pair(1)
    (tmp_path / "a.png").write_bytes(encoded(np.dstack([image, mask]), "PNG"))
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "a.png"), image)


def test_missing_and_damaged_files_raise_oserror_with_their_path(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "empty.png").touch()
    for name in ("bad.png", "empty.png"):
        for read in (image_files.read_image, image_files.read_grey):
            with pytest.raises(OSError, match=f"{name} cannot be decoded"):
                read(tmp_path / name)
    with pytest.raises(OSError, match="none.png"):
        image_files.read_grey(tmp_path / "none.png")


@pytest.mark.parametrize("file_format", FORMATS.values())
def test_a_file_cut_anywhere_is_refused(file_format):
    content = encoded(draw_pair(2)[0], file_format)
    assert image_files.open_strictly(content)[0].size == (60, 50)
    for cut in [0, 1, 20, *np.linspace(30, len(content) - 2, 25, dtype=int)]:
        with pytest.raises(OSError):
            image_files.open_strictly(content[:cut])


def test_what_only_pillow_can_read_is_refused():
    """Training reads with OpenCV, which knows no 32-bit integer TIFF."""
    content = encoded(np.zeros((8, 8), np.int32), "TIFF")
    with pytest.raises(OSError, match="cannot be decoded"):
        image_files.open_strictly(content)


@pytest.mark.parametrize(
    "file_format, options, lossy",
    [
        ("PNG", {}, False),
        ("BMP", {}, False),
        ("JPEG", {}, True),
        ("WEBP", {}, True),
        ("WEBP", {"lossless": True}, False),
        ("TIFF", {}, False),
        ("TIFF", {"compression": "jpeg"}, True),
    ],
)
def test_lossy_files_are_known(file_format, options, lossy):
    content = encoded(draw_pair(3)[0], file_format, **options)
    assert image_files.is_lossy(content, image_files.open_strictly(content)[0]) is lossy


CUT_OFF = {
    "jpg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", {}),
}


@pytest.mark.parametrize("kind", CUT_OFF)
def test_training_refuses_a_file_that_was_cut_off(kind):
    """Training asks OpenCV alone, which some versions ago filled up the rest of a JPEG."""
    file_format, options = CUT_OFF[kind]
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    content = encoded(pixels, file_format, **options)
    for decode in (image_files.decode_colour, image_files.decode_grey):
        assert decode(content).shape[:2] == (90, 120)
        for cut in np.linspace(20, len(content) - 3, 25, dtype=int):
            with pytest.raises(OSError, match="^the file cannot be decoded$"):
                decode(content[:cut])
