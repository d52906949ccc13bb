"""Image files: which ones count, how pixels are read, and a strict decode that finds damaged files."""

import io
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# OpenCV's own threads would fight those of tf.data and of the checks.
cv2.setNumThreads(0)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
JPEG_EXTENSIONS = (".jpg", ".jpeg")
EXIF_ORIENTATION = 0x0112
TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap width and height


def is_system_name(name):
    """True for what operating systems leave in folders: dot files, Thumbs.db and their kind."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def walk_files(folder):
    """Yields the files below `folder`, relative to it with `/`, sorted; system files are passed over."""
    for directory, subdirectories, names in os.walk(folder, followlinks=True):
        subdirectories[:] = sorted(name for name in subdirectories if not is_system_name(name))
        for name in sorted(names):
            if not is_system_name(name):
                yield Path(directory, name).relative_to(folder).as_posix()


def empty_folders(folder):
    """The folders at or below `folder` that hold neither a file nor a folder, system files aside."""
    return [
        directory
        for directory, subdirectories, names in os.walk(folder, followlinks=True)
        if all(is_system_name(name) for name in subdirectories + names)
    ]


def is_image_name(path):
    """True if the extension is one of EXTENSIONS, in upper or lower case."""
    return path.lower().endswith(EXTENSIONS)


def read_image(path):
    """Reads a photo as uint8 (H, W, 3), RGB, turned upright by its EXIF tag, without alpha.

    Raises:
        OSError: the file is missing or cannot be decoded.
    """
    return _decoded(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), path)


def read_grey(path):
    """Reads a file as uint8 (H, W), turned upright by its EXIF tag. Raises OSError like `read_image`."""
    return _decoded(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), path)


def _decoded(pixels, path):
    if pixels is None:
        reason = "cannot be decoded" if os.path.isfile(path) else "does not exist"
        raise OSError(f"{path} {reason}")
    return pixels


def open_strictly(content):
    """Decodes the bytes of a file with Pillow, which, unlike OpenCV, refuses truncated files.

    Returns:
        The loaded PIL image, not turned by its EXIF tag.

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
    return picture


def orientation(picture):
    """The EXIF orientation of a PIL image, 1 (upright) to 8."""
    return picture.getexif().get(EXIF_ORIENTATION, 1)


def upright_size(picture):
    """(width, height) in pixels of a PIL image as it is displayed."""
    width, height = picture.size
    return (height, width) if orientation(picture) in TRANSPOSED else (width, height)


def decode_grey(content):
    """Decodes bytes as `read_grey` decodes the file: uint8 (H, W)."""
    return _decoded(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE), "the content")


def decode_colour(content):
    """Decodes bytes as `read_image` decodes the file: uint8 (H, W, 3), RGB."""
    return _decoded(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB), "the content")
