"""Image files: which ones count, how pixels are read, and a strict decode that finds damaged files."""

import io
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from errors import InputError

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


def is_system_name(name):
    """True for what operating systems leave in folders: dot files, Thumbs.db and their kind."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def walk_files(folder):
    """Yields the files below `folder`, relative to it with `/`, sorted; system files are passed over."""
    for directory, subdirectories, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        subdirectories[:] = sorted(name for name in subdirectories if not is_system_name(name))
        parent = Path(directory).relative_to(folder).as_posix()
        for name in sorted(names):
            if not is_system_name(name):
                yield name if parent == "." else f"{parent}/{name}"


def _unreadable(error):
    """os.walk would pass over a folder that it may not read, and the images in it."""
    raise InputError(
        f"{error.filename}: the folder cannot be read ({error.strerror}). Check its permissions."
    )


def empty_folders(folder):
    """The folders at or below `folder` that hold neither a file nor a folder, system files aside."""
    found = []
    for directory, subdirectories, names in os.walk(folder, followlinks=True):
        subdirectories[:] = [name for name in subdirectories if not is_system_name(name)]
        if not subdirectories and all(is_system_name(name) for name in names):
            found.append(directory)
    return found


def is_image_name(path):
    """True if the extension is one of EXTENSIONS, in upper or lower case."""
    return path.lower().endswith(EXTENSIONS)


def read_bytes(path):
    """The bytes of a file. Raises OSError."""
    with open(path, "rb", buffering=0) as file:  # a buffer would be made for nothing
        return file.read()


def read_image(path):
    """Reads a photo as uint8 (H, W, 3), RGB, turned upright by its EXIF tag, without alpha.

    Raises:
        OSError: the file is missing or cannot be decoded.
    """
    return decode_colour(Path(path).read_bytes(), path)


def read_grey(path):
    """Reads a file as uint8 (H, W), turned upright by its EXIF tag. Raises OSError like `read_image`."""
    return decode_grey(Path(path).read_bytes(), path)


def decode_colour(content, name="the file"):
    """Decodes the bytes of a file as `read_image` does: uint8 (H, W, 3), RGB. `name` is for the OSError."""
    return _decode(content, cv2.IMREAD_COLOR_RGB, name)


def decode_grey(content, name="the file"):
    """Decodes the bytes of a file as `read_grey` does: uint8 (H, W). `name` is for the OSError."""
    return _decode(content, cv2.IMREAD_GRAYSCALE, name)


def _decode(content, flags, name):
    # Not cv2.imread, which fails on some files that imdecode reads (TIFF with an orientation).
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if pixels is None:
        raise OSError(f"{name} cannot be decoded")
    return pixels


def open_strictly(content):
    """Decodes the bytes of a file with Pillow and OpenCV: each passes damaged files that the other refuses.

    Returns:
        (the loaded PIL image, not turned by its EXIF tag; its pixels as `decode_picture` gives them, or None
        for a JPEG file, where Pillow is the stricter one and OpenCV not asked)

    Raises:
        OSError: the content is no image, or is damaged or incomplete.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of harmless metadata; what is wrong raises
            picture = Image.open(io.BytesIO(content))
            picture.load()
    except OSError:
        raise
    except Exception as error:  # Pillow raises a dozen types on crafted or damaged files
        raise OSError(f"{type(error).__name__}: {error}") from error
    return picture, None if picture.format in JPEG_FORMATS else decode_picture(content, picture)


def decode_picture(content, picture):
    """Decodes the bytes of a PIL image's file: uint8 (H, W) if it is grey, else (H, W, 3) RGB."""
    return decode_grey(content) if picture.mode in GREY_MODES else decode_colour(content)


def is_lossy(content, picture):
    """True if the file of a PIL image stores pixels only roughly, so that masks in it have grey fringes."""
    if picture.format == "WEBP":
        return content[12:16] != b"VP8L"
    return picture.format in JPEG_FORMATS or picture.info.get("compression") == "jpeg"


def orientation(picture):
    """The EXIF orientation of a PIL image, 1 (upright) to 8."""
    # Of a small file, getexif takes a good part of the decoding time to find nothing.
    if picture.format != "TIFF" and EXIF_KEYS.isdisjoint(picture.info):
        return 1
    return picture.getexif().get(EXIF_ORIENTATION, 1)


def upright_size(picture):
    """(width, height) in pixels of a PIL image as it is displayed."""
    width, height = picture.size
    return (height, width) if orientation(picture) in TRANSPOSED else (width, height)
