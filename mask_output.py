"""What a prediction leaves behind: the mask, and on request probabilities and an overlay, in row bands."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from errors import InputError
from pixel_limit import MOST_PIXELS
from png_stream import PngWriter
from row_bands import ObjectCounter, disc, smoothed_bands
from working_size import decode_photo, working_shape

MASKS, PROBABILITIES, OVERLAYS = "masks", "probabilities", "overlays"
OVERLAY_SIZE = 2048  # most pixels of an overlay's long side: it is to be looked at
COLOUR = (255, 0, 200)  # RGB
OPACITY = 0.35
JPEG_QUALITY = 90


@dataclass(frozen=True)
class OutputChoice:
    """What to write, and how.

    Args:
        threshold: a pixel whose probability is greater is foreground.
        foreground: its value in the mask file; the background is 0.
        smooth: diameter of the smoothing disc as a part of the photo's short side; 0 for no smoothing.
        min_object: smallest object that is counted, in pixels.
        probabilities: bits of the probability file, 8 or 16; 0 for none.
        overlay: whether to draw the mask on the photo.
    """

    threshold: float = 0.5
    foreground: int = 255
    smooth: float = 0.0
    min_object: int = 1
    probabilities: int = 0
    overlay: bool = False

    def places(self, output, name):
        """{kind: Path} of the files of a photo whose outputs are called `name`."""
        kinds = {MASKS: ".png"}
        if self.probabilities:
            kinds[PROBABILITIES] = ".png"
        if self.overlay:
            kinds[OVERLAYS] = ".jpg"
        return {kind: Path(output, kind, f"{name}{extension}") for kind, extension in kinds.items()}


class Outcome(NamedTuple):
    """What a mask shows: the photo's pixels, the foreground's part of them in [0, 1], connected objects."""

    width: int
    height: int
    coverage: float
    objects: int


def write_outputs(bands, size, places, choice, content):
    """Writes all files of one photo, whole or not at all.

    Args:
        bands: iterable of float32 (R, W), probabilities from top to bottom.
        size: (W, H) of the photo.
        places: {kind: Path}.
        choice: OutputChoice.
        content: bytes of the photo, for the overlay.

    Returns:
        Outcome

    Raises:
        InputError: a place cannot be written to.
    """
    counter, foreground = ObjectCounter(), 0
    with open_together(places) as files:
        if PROBABILITIES in files:
            probabilities = PngWriter(files[PROBABILITIES], *size, bits=choice.probabilities)
            bands = _also_written(bands, probabilities, choice.probabilities)
        sketch = Sketch(size) if OVERLAYS in files else None
        masks = PngWriter(files[MASKS], *size)
        found = ((band > np.float32(choice.threshold)).view(np.uint8) for band in bands)
        if choice.smooth:
            found = smoothed_bands(found, disc(disc_side(size, choice.smooth)))
        for mask in found:
            masks.write(mask * np.uint8(choice.foreground))
            counter.add(mask)
            foreground += cv2.countNonZero(mask)
            if sketch:
                sketch.add(mask)
        masks.close()
        if PROBABILITIES in files:
            probabilities.close()
        if sketch:
            photo, _ = decode_photo(
                content, places[OVERLAYS], OVERLAY_SIZE, MOST_PIXELS
            )  # it was read before
            files[OVERLAYS].write(overlay(photo, sketch.mask))
    objects = int((counter.areas() >= choice.min_object).sum())
    return Outcome(*size, foreground / (size[0] * size[1]), objects)


def disc_side(size, part):
    """Odd diameter of a disc, in pixels, that is `part` of the short side, and 3 at least."""
    return max(3, round(part * min(size)) | 1)


def _also_written(bands, writer, bits):
    most = 2**bits - 1
    for band in bands:
        writer.write((band * np.float32(most) + np.float32(0.5)).astype(f"u{bits // 8}"))
        yield band


@contextlib.contextmanager
def open_together(places):
    """Files open for writing under temporary names; renamed if the block ends well, deleted if not.

    Args:
        places: {key: Path}.

    Yields:
        {key: binary file}

    Raises:
        InputError: a place cannot be written to. An OSError of something else than these files must not
            leave the block.
    """
    temporary = {key: path.with_name(f".{path.name}.{os.getpid()}.tmp") for key, path in places.items()}
    try:
        with contextlib.ExitStack() as stack:
            for path in temporary.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            yield {key: stack.enter_context(open(path, "wb")) for key, path in temporary.items()}
        for key, path in temporary.items():
            path.replace(places[key])
    except OSError as error:
        raise InputError(
            f"{next(iter(places.values()))} cannot be written: {error.strerror or error}. "
            "Choose a folder that can be written to and has room left."
        ) from None
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):  # the folder itself may be what is wrong
                path.unlink(missing_ok=True)


class Sketch:
    """A small copy of a mask that comes in bands: the pixels in the middle of each of its own.

    Args:
        size: (W, H) of the mask.
    """

    def __init__(self, size):
        width, height = working_shape(size, OVERLAY_SIZE)
        self._columns = ((np.arange(width) + 0.5) * size[0] / width).astype(int)
        self._rows = ((np.arange(height) + 0.5) * size[1] / height).astype(int)
        self._top = 0
        self._parts = []

    def add(self, mask):
        """The next uint8 (R, W) rows."""
        first, last = np.searchsorted(self._rows, [self._top, self._top + len(mask)])
        self._parts.append(mask[self._rows[first:last] - self._top][:, self._columns])
        self._top += len(mask)

    @property
    def mask(self):
        """uint8 (h, w)"""
        return np.concatenate(self._parts)


def overlay(photo, mask):
    """The photo with the mask tinted and outlined, as the bytes of a JPEG file.

    Args:
        photo: uint8 (h, w, 3) RGB.
        mask: uint8 (h, w) of 0 and 1.
    """
    drawn, inside = photo.copy(), mask > 0
    drawn[inside] = (1 - OPACITY) * photo[inside] + OPACITY * np.array(COLOUR)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, COLOUR, max(1, round(max(mask.shape) / 600)))
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), options)[1].tobytes()
