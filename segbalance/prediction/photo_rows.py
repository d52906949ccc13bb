"""Photos read for prediction: files that are damaged are found, and large JPEGs are decoded in bands."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from segbalance.dataloader.working_size import Size
from segbalance.files import images as image_files
from segbalance.files.pixel_limit import JPEG_START, MAX_PIXELS, PNG_START, check_pixels, open_lazily

JPEG_END = b"\xff\xd9"
HELD_PIXELS = 2**24  # up to which a photo is decoded at once: 50 MB
MARGIN = 16  # pixels around a window, a JPEG's largest block: its edges lack the colours beside them
PLAIN_MODES = ("L", "RGB")

ReadRows = Callable[[int, int], np.ndarray]  # (top, bottom) -> uint8 (bottom - top, W, 3) RGB


def read_whole_file(path: str | Path) -> bytes:
    """The bytes of a photo's file, as far as can be told without decoding it a complete one.

    Raises:
        OSError: the file is missing, empty, no image, or cut off.
    """
    content = image_files.read_bytes(path)
    if not content:
        raise OSError("the file is empty")
    if content.startswith(PNG_START):
        _verify(content)
    elif not (content.startswith(JPEG_START) and content.endswith(JPEG_END)):
        image_files.open_strictly(content)
    return content


def _verify(content: bytes) -> None:
    """Compares the checksums of a PNG, which decoders do not all do."""
    try:
        open_lazily(content).verify()
    except OSError:
        raise
    except Exception as error:  # Pillow raises a dozen types on damaged files
        raise OSError(f"{type(error).__name__}: {error}") from error


def open_rows(content: bytes, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[Size, ReadRows]:
    """A photo whose rows can be read in any order: its upright (width, height), and `read`.

    A JPEG of more than HELD_PIXELS is decoded anew for each band; all others are held as uint8.

    Args:
        content: bytes of the file.
        path: for the OSError.
        max_pixels: of the photo, by its header.

    Returns:
        ((W, H), function of rows, turned upright)

    Raises:
        OSError: it cannot be decoded or is larger; so does the function.
    """
    if content.startswith(JPEG_START):
        check_pixels(content, max_pixels, path)
        try:
            picture = open_lazily(content)
            turn = image_files.orientation(picture)
        except OSError:
            raise
        except Exception as error:  # as above
            raise OSError(f"{path} cannot be decoded: {error}") from error
        if picture.width * picture.height > HELD_PIXELS and picture.mode in PLAIN_MODES:
            rows = JpegRows(content, path, picture.size, turn)
            return image_files.upright_size(picture), rows.read
    photo = image_files.decode_colour(content, path, max_pixels=max_pixels)
    return photo.shape[1::-1], lambda top, bottom: photo[top:bottom]


class JpegRows:
    """Bands of a JPEG, each decoded from the file's bytes; what lies before it is passed over.

    A baseline JPEG takes the memory of the band alone. Of a progressive one the decoder holds all
    coefficients.

    Args:
        content: bytes of the file.
        path: for the OSError.
        size: (width, height) as stored.
        orientation: of EXIF, 1 to 8.
    """

    def __init__(self, content: bytes, path: str | Path, size: Size, orientation: int) -> None:
        from segbalance.legacy_keras import tf

        self._tf = tf
        self._content = tf.constant(content)
        self._path = path
        self._width, self._height = size
        self._orientation = orientation if orientation in range(1, 9) else 1

    def read(self, top: int, bottom: int) -> np.ndarray:
        """uint8 (bottom - top, W, 3) RGB of the upright photo."""
        turn = self._orientation
        if turn in (1, 2):
            stored = self._window(top, bottom, 0, self._width)
        elif turn in (3, 4):
            stored = self._window(self._height - bottom, self._height - top, 0, self._width)
        elif turn in (5, 6):
            stored = self._window(0, self._height, top, bottom)
        else:
            stored = self._window(0, self._height, self._width - bottom, self._width - top)
        return np.ascontiguousarray(turned(stored, turn))

    def _window(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        y, x = max(0, top - MARGIN), max(0, left - MARGIN)
        height = min(self._height, bottom + MARGIN) - y
        width = min(self._width, right + MARGIN) - x
        try:
            pixels = self._tf.io.decode_and_crop_jpeg(
                self._content, [y, x, height, width], channels=3, dct_method="INTEGER_ACCURATE"
            ).numpy()
        except self._tf.errors.InvalidArgumentError:
            raise OSError(f"{self._path} cannot be decoded; it is damaged or cut off") from None
        return pixels[top - y : bottom - y, left - x : right - x]


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) as stored -> upright, for an EXIF orientation (Exif 2.32, 4.6.4 A) of 1 to 8."""
    flipped = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.swapaxes(0, 1),
        6: lambda: np.rot90(pixels, -1),
        7: lambda: pixels.swapaxes(0, 1)[::-1, ::-1],
        8: lambda: np.rot90(pixels, 1),
    }
    return flipped.get(orientation, lambda: pixels)()
