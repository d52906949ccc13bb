"""PNGs written in bands are read back the same by two decoders."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.prediction.png_stream import PngWriter


def written(pixels, cuts, bits=8, palette=None):
    file = io.BytesIO()
    writer = PngWriter(file, *pixels.shape[::-1], bits=bits, palette=palette)
    for rows in np.split(pixels, cuts):
        writer.write(rows)
    writer.close()
    return file.getvalue()


@pytest.mark.parametrize("cuts", [[], [1], [5, 6, 30]])
@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_come_back(bits, cuts):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (37, 53)).astype(f"u{bits // 8}")
    content = written(pixels, cuts, bits)
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), pixels
    )
    picture = Image.open(io.BytesIO(content))
    picture.load()
    np.testing.assert_array_equal(np.array(picture), pixels)
    Image.open(io.BytesIO(content)).verify()


def test_a_palette_shows_its_colours():
    palette = np.random.default_rng(1).integers(0, 256, (7, 3), np.uint8)
    pixels = np.random.default_rng(0).integers(0, 7, (37, 53), np.uint8)
    content = written(pixels, [5, 6, 30], palette=palette)
    picture = Image.open(io.BytesIO(content))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), pixels)
    np.testing.assert_array_equal(np.array(picture.convert("RGB")), palette[pixels])
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decoded, palette[pixels])
    Image.open(io.BytesIO(content)).verify()


def test_masks_are_small():
    mask = np.zeros((3000, 4000), np.uint8)
    cv2.circle(mask, (2000, 1500), 900, 255, -1)
    assert len(written(mask, [1000])) < 60_000


def test_a_file_that_lacks_rows_is_not_ended():
    writer = PngWriter(io.BytesIO(), 5, 4)
    writer.write(np.zeros((3, 5), np.uint8))
    with pytest.raises(ValueError, match="1 rows of the PNG are missing"):
        writer.close()
