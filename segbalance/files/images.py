"""Image files: which ones count, how pixels are read, and a strict decode that finds damaged files."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
from PIL import Image, ImageOps

from segbalance.errors import InputError
from segbalance.files.data_root import is_within
from segbalance.files.pixel_limit import MAX_PIXELS, check_pixels, open_lazily

# OpenCV's own threads would fight those of tf.data and of the checks.
cv2.setNumThreads(0)
# Its log repeats, less clearly, what the exceptions here say.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: what some phones and cameras write as .jpg
GREY_MODES = ("1", "L", "LA")  # of PIL images
EXIF_KEYS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}  # of a PIL image's `info`
EXIF_ORIENTATION = 0x0112
TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
Listed = tuple[str, list[os.DirEntry[str]], list[os.DirEntry[str]]]  # a folder, its files, its folders


def is_system_name(name: str) -> bool:
    """True for what operating systems leave in folders: dot files, Thumbs.db and their kind."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def walk_files(folder: str | Path, leads_out: Callable[[str], bool] | None = None) -> Iterator[str]:
    """Yields the files below `folder`, relative to it with `/`, sorted; system files are passed over.

    Args:
        leads_out: function of the path of a symbolic link that tells whether to leave it alone: a file is
            yielded all the same, a folder is not gone into. By default all links are followed.
    """
    folder = os.fspath(folder)
    for directory, files, _ in _walk(folder, leads_out):
        parent = Path(directory).relative_to(folder).as_posix()
        for entry in files:
            if leads_out and entry.is_symlink():
                leads_out(entry.path)
            yield entry.name if parent == "." else f"{parent}/{entry.name}"


def _walk(folder: str, leads_out: Callable[[str], bool] | None) -> Iterator[Listed]:
    """Yields (path, its files, its folders) of `folder` and of the folders below it, sorted, as os.DirEntry.

    A link to a folder that one has come through would lead round for ever and is not followed; what lies
    there is found without it.
    """
    waiting: list[tuple[str, tuple[str, ...]]] = [(folder, (os.path.realpath(folder),))]
    while waiting:
        path, trail = waiting.pop()
        try:
            with os.scandir(path) as listed:
                entries = [entry for entry in listed if not is_system_name(entry.name)]
        except OSError as error:
            _unreadable(error)
        files: list[os.DirEntry[str]] = []
        folders: list[os.DirEntry[str]] = []
        for entry in sorted(entries, key=lambda entry: entry.name):
            (folders if _is_folder(entry) else files).append(entry)
        yield path, files, folders
        for entry in reversed(folders):
            real = os.path.join(trail[-1], entry.name)
            if entry.is_symlink():
                real = os.path.realpath(entry.path)
                if (leads_out and leads_out(entry.path)) or any(is_within(real, seen) for seen in trail):
                    continue
            waiting.append((entry.path, (*trail, real)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _unreadable(error: OSError) -> NoReturn:
    """A folder that may not be read is not passed over, for the images in it."""
    raise InputError(
        f"{error.filename}: the folder cannot be read ({error.strerror}). Check its permissions."
    )


def empty_folders(folder: str | Path, leads_out: Callable[[str], bool] | None = None) -> list[str]:
    """The folders at or below `folder` that hold neither a file nor a folder, system files aside.

    Args:
        leads_out: as in `walk_files`.
    """
    walk = _walk(os.fspath(folder), leads_out)
    return [path for path, files, folders in walk if not files and not folders]


def is_image_name(path: str) -> bool:
    """True if the extension is one of EXTENSIONS, in upper or lower case."""
    return path.lower().endswith(EXTENSIONS)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file. Raises OSError."""
    with open(path, "rb", buffering=0, opener=_open_at_once) as file:  # a buffer would be made for nothing
        return file.read()


def _open_at_once(path: str, flags: int) -> int:
    """A named pipe among the images is an empty file, instead of a wait without end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a photo as uint8 (H, W, 3), RGB, turned upright by its EXIF tag, without alpha.

    Raises:
        OSError: the file is missing, cannot be decoded, or has more than `max_pixels`.
    """
    return decode_colour(Path(path).read_bytes(), path, max_pixels=max_pixels)


def read_grey(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a file as uint8 (H, W), turned upright by its EXIF tag. Raises OSError like `read_image`."""
    return decode_grey(Path(path).read_bytes(), path, max_pixels=max_pixels)


def read_indices(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a file with a palette as uint8 (H, W), each pixel's place in the palette; turned upright.

    OpenCV knows the colours alone.

    Raises:
        OSError: as `read_image`, or the file has no palette.
    """
    content = read_bytes(path)
    check_pixels(content, max_pixels, path)
    try:
        picture = open_lazily(content)
        if picture.mode != "P":
            raise OSError(f"{path} has no palette")
        picture.load()
    except OSError:
        raise
    except Exception as error:  # whatever Pillow raises on a damaged file
        raise OSError(f"{path} cannot be decoded: {error}") from error
    return np.asarray(ImageOps.exif_transpose(picture))


def decode_colour(
    content: bytes, name: str | Path = "the file", *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decodes the bytes of a file as `read_image` does: uint8 (H, W, 3), RGB. `name` is for the OSError."""
    check_pixels(content, max_pixels, name)
    return decode_unchecked(content, cv2.IMREAD_COLOR_RGB, name)


def decode_grey(content: bytes, name: str | Path = "the file", *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes the bytes of a file as `read_grey` does: uint8 (H, W). `name` is for the OSError."""
    check_pixels(content, max_pixels, name)
    return decode_unchecked(content, cv2.IMREAD_GRAYSCALE, name)


def decode_unchecked(content: bytes, flags: int, name: str | Path = "the file") -> np.ndarray:
    """Decodes the bytes of a file, the first of its frames, with OpenCV's `flags`, after `check_pixels`.

    Raises:
        OSError: they cannot be decoded.
    """
    try:
        # Not cv2.imread, which fails on some files that imdecode reads (TIFF with an orientation).
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:  # its own limits
        raise OSError(f"{name} cannot be decoded: {error.err}") from error
    if pixels is None:
        raise OSError(f"{name} cannot be decoded")
    return pixels


def open_strictly(
    content: bytes, name: str | Path = "the file", *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, np.ndarray | None]:
    """Decodes the bytes of a file with Pillow and OpenCV: each passes damaged files that the other refuses.

    Returns:
        (the loaded PIL image, not turned by its EXIF tag; its pixels as `decode_picture` gives them, or None
        for a JPEG file, where Pillow is the stricter one and OpenCV not asked)

    Raises:
        TooManyPixels: it has more than `max_pixels`.
        OSError: the content is no image, is damaged or incomplete, or holds several pictures.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of harmless metadata; what is wrong raises
            picture = open_lazily(content)
            check_pixels(content, max_pixels, name)
            _refuse_several(picture)
            picture.load()
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    return picture, None if picture.format in JPEG_FORMATS else decode_picture(
        content, picture, max_pixels=max_pixels
    )


def _refuse_several(picture: Image.Image) -> None:
    """Raises OSError for an animation or several pages, of which only the first would be seen."""
    if picture.format not in JPEG_FORMATS and getattr(picture, "is_animated", False):
        raise OSError("holds several pictures (an animation, or pages); save the one you need as a file")


def decode_picture(content: bytes, picture: Image.Image, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes the bytes of a PIL image's file: uint8 (H, W) if it is grey, else (H, W, 3) RGB."""
    decode = decode_grey if picture.mode in GREY_MODES else decode_colour
    return decode(content, max_pixels=max_pixels)


def is_lossy(content: bytes, picture: Image.Image) -> bool:
    """True if the file of a PIL image stores pixels only roughly, so that masks in it have grey fringes."""
    if picture.format == "WEBP":
        return content[12:16] != b"VP8L"
    return picture.format in JPEG_FORMATS or picture.info.get("compression") == "jpeg"


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation of a PIL image, 1 (upright) to 8."""
    # Of a small file, getexif takes a good part of the decoding time to find nothing.
    if picture.format != "TIFF" and EXIF_KEYS.isdisjoint(picture.info):
        return 1
    return picture.getexif().get(EXIF_ORIENTATION, 1)


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) in pixels of a PIL image as it is displayed."""
    width, height = picture.size
    return (height, width) if orientation(picture) in TRANSPOSED else (width, height)
