"""Decompression bombs: refused by their header, before anything is decoded."""

import io
import struct
import time
import tracemalloc
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.data_processing.inspection import inspect_pairs
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.pairs import Pair
from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.working_size import decode_photo, read_pair
from segbalance.errors import Findings
from segbalance.files import images as image_files
from segbalance.files.pixel_limit import (
    MAX_PIXELS,
    MOST_PIXELS,
    TooManyPixels,
    check_pixels,
    claimed_size,
    pixel_advice,
    pixel_limit_problem,
)
from tests.support.data import draw_pair

SIZE = (300, 200)
PIXELS = SIZE[0] * SIZE[1]
FORMATS = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "JPEG": {},
    "MPO": {},
}


def encoded(pixels, file_format, **options):
    """The bytes of a file with uint8 `pixels`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def png_bomb(width, height):
    """The bytes of a whole PNG file of one grey, a thousandth of its pixels."""
    row = bytes(1 + width)
    packer = zlib.compressobj(9)
    content = b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])
    return _png(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), content)


def _png(header, content):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def claims_of(file_format, width, height):
    """The bytes of a small file whose header tells of another size."""
    if file_format == "PNG":
        return _png(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), zlib.compress(bytes(100)))
    content = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), file_format))
    if file_format == "JPEG":
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", height, width)
    elif file_format == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    elif file_format == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    elif file_format == "TIFF":
        return tiff(width, height)
    return bytes(content)


def tiff(width, height, tile=None):
    """The bytes of a TIFF file of one grey whose only strip or tile is not there."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1)]
    if tile:
        tags += [(322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, 8), (325, 4, 1, 8)]
    else:
        tags += [(273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 8)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_size_is_read_off_the_header(file_format):
    content = encoded(draw_pair(0, SIZE[1], SIZE[0])[0], file_format, **FORMATS[file_format])
    assert claimed_size(content) == SIZE
    check_pixels(content, PIXELS)
    with pytest.raises(TooManyPixels):
        check_pixels(content, PIXELS - 1)


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"comment": b"\xff\xc0" * 50}, {"exif": b"Exif\0\0"}]
)
def test_the_size_of_a_jpeg_stands_behind_other_segments(options):
    content = encoded(draw_pair(0, SIZE[1], SIZE[0])[0], "JPEG", **options)
    assert claimed_size(content) == SIZE
    assert claimed_size(content[:2] + b"\xff" + content[2:]) == SIZE, "a fill byte: Pillow is asked"


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "GIF", "TIFF"])
def test_a_header_that_claims_too_much_is_refused_without_decoding(file_format, stub):
    content = claims_of(file_format, 50_000, 60_000)
    stub.never(cv2, "imdecode")
    stub.never(Image.Image, "load")
    for read in (image_files.decode_colour, image_files.decode_grey, image_files.open_strictly, decode_photo):
        with pytest.raises(TooManyPixels) as caught:
            read(content, "bomb")
        assert str(caught.value) == (
            f"bomb has 50000x60000 = 3000000000 pixels by its header; {pixel_advice(MAX_PIXELS)}"
        )
    with pytest.raises(TooManyPixels, match="photo has 50000x60000"):
        decode_photo(content, "photo", working_size=64)
    assert f"expected at most --max_pixels {MAX_PIXELS}, for a small file" in pixel_advice(MAX_PIXELS)


def test_a_small_image_of_a_huge_tile_is_refused():
    assert claimed_size(tiff(20, 30)) == (20, 30)
    assert claimed_size(tiff(20, 30, tile=64)) == (64, 64)
    with pytest.raises(TooManyPixels, match="has 60000x60000 = "):
        image_files.decode_grey(tiff(20, 30, tile=60_000))


@pytest.mark.slow
def test_a_real_bomb_takes_neither_time_nor_memory(tmp_path):
    content = png_bomb(50_000, 4_000)
    assert len(content) < 250_000
    (tmp_path / "bomb.png").write_bytes(content)
    tracemalloc.start()
    started = time.perf_counter()
    for read in (image_files.read_image, image_files.read_grey, MaskEncoding().read):
        with pytest.raises(TooManyPixels, match="bomb.png has 50000x4000 = 200000000 pixels"):
            read(tmp_path / "bomb.png")
    seconds, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 0.5 and peak < 10 * len(content)


@pytest.mark.slow
def test_a_larger_limit_lets_larger_images_through():
    """Of 14,000 x 14,000 pixels Pillow would say by itself that they may be a bomb."""
    content = png_bomb(14_000, 14_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture, pixels = image_files.open_strictly(content, max_pixels=14_000**2)
    assert picture.size == (14_000, 14_000) and pixels.shape == (14_000, 14_000)
    assert image_files.decode_grey(content, max_pixels=14_000**2).shape == (14_000, 14_000)


def test_what_opencv_itself_refuses_is_an_oserror():
    with pytest.raises(OSError, match="strip.png cannot be decoded"):
        image_files.decode_grey(claims_of("PNG", 2**21, 2), "strip.png")


@pytest.mark.parametrize("value", [0, -1, MOST_PIXELS + 1])
def test_a_limit_that_means_nothing(value):
    assert pixel_limit_problem(value) == (
        f"max_pixels must be from 1 to 1073741824, the most that OpenCV decodes; got {value}"
    )
    assert (
        pixel_limit_problem(1) is pixel_limit_problem(MAX_PIXELS) is pixel_limit_problem(MOST_PIXELS) is None
    )


def test_types_that_run_programs_are_no_images():
    """Pillow gives EPS to Ghostscript."""
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 30\n%%EndComments\nshowpage\n%%EOF\n"
    assert Image.open(io.BytesIO(content)).format == "EPS"
    with pytest.raises(OSError, match="cannot identify image file"):
        image_files.open_strictly(content)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0\1", b"II*\0"]
)
def test_half_a_header_is_no_image(content):
    with pytest.raises(OSError, match="x.png cannot be decoded"):
        check_pixels(content, MAX_PIXELS, "x.png")


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_many_frames_only_the_first_is_decoded(file_format):
    frames = [Image.fromarray(np.full((50, 60, 3), level, np.uint8)) for level in (40, 120, 250)]
    buffer = io.BytesIO()
    frames[0].save(buffer, file_format, save_all=True, append_images=frames[1:])
    assert abs(int(image_files.decode_grey(buffer.getvalue()).max()) - 40) < 3
    assert image_files.decode_colour(buffer.getvalue()).shape == (50, 60, 3)
    with pytest.raises(
        OSError, match="holds several pictures"
    ):  # where data is checked, nothing is passed over
        image_files.open_strictly(buffer.getvalue())


# The limit on its way


def write_files(tmp_path):
    """image.png and mask.png of SIZE; returns their paths."""
    image, mask = draw_pair(0, SIZE[1], SIZE[0])
    (tmp_path / "image.png").write_bytes(encoded(image, "PNG"))
    (tmp_path / "mask.png").write_bytes(encoded(mask, "PNG"))
    return tmp_path / "image.png", tmp_path / "mask.png"


@pytest.mark.parametrize("working_size", [0, 100])
@pytest.mark.parametrize("large", ["image.png", "mask.png"])
def test_pairs_are_read_up_to_the_limit(tmp_path, large, working_size):
    paths = write_files(tmp_path)
    other = paths[large == "image.png"]
    other.write_bytes(encoded(np.zeros((10, 10), np.uint8), "PNG"))
    with pytest.raises(TooManyPixels, match=f"{large} has 300x200"):
        read_pair(*paths, MaskEncoding(), working_size, max_pixels=PIXELS - 1)
    with pytest.raises(TooManyPixels, match=f"{large} has 300x200"):
        PairReader(working_size=working_size, max_pixels=PIXELS - 1).read(*paths, MaskEncoding())
    write_files(tmp_path)
    photo, mask = PairReader(working_size=working_size, max_pixels=PIXELS).read(*paths, MaskEncoding())
    assert photo.shape[:2] == mask.shape


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_inspection_names_every_file_that_is_too_large(tmp_path, workers):
    write_files(tmp_path)
    findings, pair = Findings(), Pair(None, "all", "image.png", "mask.png")
    assert inspect_pairs(tmp_path, [pair], findings, workers, max_pixels=PIXELS - 1) == {}
    places = "  image.png  300x200\n  mask.png  300x200"
    assert findings.message() == f"images with too many pixels: 2\n{places}\n{pixel_advice(PIXELS - 1)}"
    assert list(inspect_pairs(tmp_path, [pair], Findings(), workers, max_pixels=PIXELS)) == [pair]


def test_looking_costs_little_of_decoding():
    """Less than a twentieth even on a busy machine; about half a hundredth on a quiet one."""
    content = encoded(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8), "PNG")

    def best(function, count):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(count):
                function()
            times.append((time.perf_counter() - started) / count)
        return min(times)

    looking = best(lambda: check_pixels(content, MAX_PIXELS), 1000)
    decoding = best(lambda: image_files.decode_unchecked(content, cv2.IMREAD_COLOR_RGB), 10)
    assert looking < decoding / 20
