"""Photos in bands: upright, the same pixels as decoded at once, and damaged files found."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.files import images as image_files
from segbalance.prediction import photo_rows
from segbalance.prediction.photo_rows import JpegRows, open_rows, read_whole_file, turned


def picture(width=200, height=140):
    """A photo whose content tells its orientation."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256], -1).astype(
        np.uint8
    )


def jpeg(pixels, orientation=1, **options):
    exif, file = Image.Exif(), io.BytesIO()
    exif[image_files.EXIF_ORIENTATION] = orientation
    Image.fromarray(pixels).save(file, "JPEG", quality=92, exif=exif, **options)
    return file.getvalue()


@pytest.fixture
def no_photo_is_held(monkeypatch):
    monkeypatch.setattr(photo_rows, "HELD_PIXELS", 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_of_a_jpeg_are_those_of_the_upright_photo(orientation, no_photo_is_held):
    content = jpeg(picture(), orientation)
    whole = image_files.decode_colour(content)
    size, read = open_rows(content, "a.jpg")
    assert size == whole.shape[1::-1] and isinstance(read.__self__, JpegRows)
    for top, bottom in ((0, 30), (30, 41), (90, size[1]), (0, size[1])):
        band = read(top, bottom)
        assert band.dtype == np.uint8 and band.flags["C_CONTIGUOUS"]
        # Two decoders may round differently by a level or two.
        assert np.abs(band.astype(int) - whole[top:bottom]).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_what_exif_says(orientation):
    pixels = picture(7, 5)
    content = Image.fromarray(pixels)
    exif, file = Image.Exif(), io.BytesIO()
    exif[image_files.EXIF_ORIENTATION] = orientation
    content.save(file, "TIFF", exif=exif)
    from PIL import ImageOps

    expected = np.array(ImageOps.exif_transpose(Image.open(file)))
    np.testing.assert_array_equal(turned(pixels, orientation), expected)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2}])
def test_all_kinds_of_jpeg_are_read_in_bands(options, no_photo_is_held):
    content = jpeg(picture(), **options)
    whole = image_files.decode_colour(content)
    _, read = open_rows(content, "a.jpg")
    assert np.abs(read(50, 80).astype(int) - whole[50:80]).max() <= 2


def test_grey_jpegs_have_three_channels(no_photo_is_held):
    content = jpeg(picture()[..., 0])
    size, read = open_rows(content, "a.jpg")
    assert size == (200, 140) and read(0, 9).shape == (9, 200, 3)


@pytest.mark.parametrize("extension", [".png", ".tif", ".bmp", ".jpg"])
def test_other_files_and_small_jpegs_are_decoded_once(extension, tmp_path):
    path = tmp_path / f"a{extension}"
    assert cv2.imwrite(str(path), picture()[..., ::-1])
    size, read = open_rows(read_whole_file(path), path)
    assert size == (200, 140)
    np.testing.assert_array_equal(read(20, 33), image_files.read_image(path)[20:33])


def test_a_damaged_jpeg_fails_at_the_band_that_is_damaged(no_photo_is_held):
    content = jpeg(picture(400, 4000))
    _, read = open_rows(content[: len(content) // 2], "a.jpg")
    assert read(0, 64).shape == (64, 400, 3)
    with pytest.raises(OSError, match="a.jpg cannot be decoded; it is damaged or cut off"):
        read(3900, 4000)


def test_a_damaged_header_is_an_oserror(no_photo_is_held):
    with pytest.raises(OSError):
        open_rows(b"\xff\xd8\xff\xe0 nothing", "a.jpg")


@pytest.mark.parametrize("extension", [".png", ".tif", ".bmp", ".jpg", ".webp"])
def test_files_that_are_cut_off_are_found(extension, tmp_path):
    path = tmp_path / f"a{extension}"
    assert cv2.imwrite(str(path), picture()[..., ::-1])
    content = path.read_bytes()
    assert read_whole_file(path) == content
    for part in (content[: len(content) * 2 // 3], content[: len(content) // 4], content[:5]):
        path.write_bytes(part)
        with pytest.raises(OSError):
            read_whole_file(path)


def test_a_png_with_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), picture())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError):
        read_whole_file(path)


def test_empty_and_missing_files_are_found(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(OSError, match="the file is empty"):
        read_whole_file(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError):
        read_whole_file(tmp_path / "b.jpg")


def test_a_jpeg_with_something_behind_it_is_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(picture()) + b"of some cameras")
    assert read_whole_file(tmp_path / "a.jpg").endswith(b"cameras")
