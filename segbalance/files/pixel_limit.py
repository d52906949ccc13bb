"""The pixels that an image file claims, looked at before anything is decoded.

A file of 300 KB may hold 50,000 x 50,000 pixels, which unfold to gigabytes: a decompression bomb.
"""

import io
import struct
from pathlib import Path

from PIL import Image

# Of Pillow, whose JPEG means MPO too. It knows more, and for some of them (EPS) runs another program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of the segment that tells the size
TILE_WIDTH, TILE_HEIGHT = 322, 323  # tags of TIFF
MAX_PIXELS = 178_956_970  # of an image, by default: beyond it Pillow by itself takes it for a bomb
MOST_PIXELS = 2**30  # that OpenCV decodes
# `check_pixels` stands in for Pillow's own limit, with one that can be chosen.
Image.MAX_IMAGE_PIXELS = None


class TooManyPixels(OSError):
    """The header of a file tells of more pixels than may be decoded."""


def claimed_size(content: bytes) -> tuple[int, int]:
    """(width, height) in pixels that decoding the bytes of a file makes room for, read off the header alone.

    Takes a few microseconds for PNG and JPEG. The size is not turned by the EXIF tag.

    Raises:
        OSError: the content is no image of FORMATS.
    """
    return _png_size(content) or _jpeg_size(content) or _lazy_size(content)


def _png_size(content: bytes) -> tuple[int, int] | None:
    # The first chunk must be the one that tells the size (PNG specification, 5.6).
    if content[:8] == PNG_START and content[12:16] == b"IHDR" and len(content) >= 24:
        return struct.unpack_from(">II", content, 16)
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """As the frame's segment tells it (ITU T.81, B.2.2); None where segments do not follow one another."""
    if not content.startswith(JPEG_START):
        return None
    place = len(JPEG_START)
    while place + 9 <= len(content) and content[place] == 0xFF and 0xC0 <= content[place + 1] <= 0xFE:
        marker, length = content[place + 1], struct.unpack_from(">H", content, place + 2)[0]
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, place + 5)
            return width, height
        if length < 2 or 0xD0 <= marker <= 0xDA:  # a marker without segment, or the pixels begin
            return None
        place += 2 + length
    return None


def _lazy_size(content: bytes) -> tuple[int, int]:
    picture = open_lazily(content)
    if picture.format != "TIFF":
        return picture.size
    # A small image may be the corner of a huge tile.
    tile = [picture.tag_v2.get(tag, 0) for tag in (TILE_WIDTH, TILE_HEIGHT)]  # type: ignore[attr-defined]  # of TIFF
    if not all(isinstance(side, int) for side in tile):
        raise OSError("damaged tags")
    return tuple(map(max, picture.size, tile))


def check_pixels(content: bytes, max_pixels: int, name: str | Path = "the file") -> None:
    """Looks at the header of an image before anything is decoded.

    Raises:
        TooManyPixels: it tells of more than `max_pixels`.
        OSError: the bytes are no image of FORMATS.
    """
    try:
        width, height = claimed_size(content)
    except OSError as error:
        raise OSError(f"{name} cannot be decoded") from error
    if width * height > max_pixels:
        raise TooManyPixels(
            f"{name} has {width}x{height} = {width * height} pixels by its header; {pixel_advice(max_pixels)}"
        )


def pixel_advice(max_pixels: int) -> str:
    """What is expected of an image with more than `max_pixels`, and what to do."""
    return (
        f"expected at most --max_pixels {max_pixels}, for a small file may unfold to gigabytes. Shrink the "
        f"image or leave it out, or raise the limit (up to {MOST_PIXELS}) if the file is what it should be."
    )


def pixel_limit_problem(max_pixels: int) -> str | None:
    """What is wrong with a value of --max_pixels, or None."""
    if 1 <= max_pixels <= MOST_PIXELS:
        return None
    return f"max_pixels must be from 1 to {MOST_PIXELS}, the most that OpenCV decodes; got {max_pixels}"


def open_lazily(content: bytes) -> Image.Image:
    """The PIL image of the bytes of a file, its pixels not decoded yet.

    Raises:
        OSError: the content is no image of FORMATS.
    """
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except OSError:
        raise
    except Exception as error:  # Pillow raises a dozen types on crafted or damaged files
        raise OSError(f"{type(error).__name__}: {error}") from error
