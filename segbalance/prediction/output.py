"""What a prediction leaves behind: the mask, and on request probabilities and an overlay, in row bands."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from segbalance.data_processing.classes import Classes, names_of
from segbalance.data_processing.tasks import CLASSES, FOREGROUND, TASKS, Task, task_of
from segbalance.dataloader.working_size import Size, decode_photo, working_shape
from segbalance.files.pixel_limit import MOST_PIXELS
from segbalance.files.writing import open_together
from segbalance.prediction.png_stream import PngWriter
from segbalance.prediction.row_bands import ObjectCounter, disc, smoothed_bands

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
        classes: Classes, of which each pixel gets the most probable one; threshold, foreground and smooth
            then mean nothing. None for background and foreground.
        colours: whether mask files show ids in the colours of their classes, as a palette.
        smooth: diameter of the smoothing disc as a part of the photo's short side; 0 for no smoothing.
        min_object: smallest object that is counted, in pixels.
        probabilities: bits of the probability file, 8 or 16; 0 for none. Of several classes it holds that of
            the class that was found.
        overlay: whether to draw the mask on the photo.
    """

    threshold: float = 0.5
    foreground: int = 255
    classes: Classes | None = None
    colours: bool = False
    smooth: float = 0.0
    min_object: int = 1
    probabilities: int = 0
    overlay: bool = False

    @property
    def answer(self) -> "ForegroundAnswer | ClassAnswer":
        """What becomes of the network's answers."""
        return ANSWERS[task_of(TASKS[0], self.classes)](self)

    def places(self, output: str | Path, name: str) -> dict[str, Path]:
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


def outcome_columns(classes: Classes | None) -> list[str]:
    """Names of the numbers that `write_outputs` returns; `classes` is Classes or None."""
    foreground = names_of(classes)[1:]
    return [*Outcome._fields, *(f"{what}_{name}" for name in foreground for what in ("coverage", "objects"))]


def write_outputs(
    bands: Iterable[np.ndarray], size: Size, places: Mapping[str, Path], choice: OutputChoice, content: bytes
) -> tuple[float, ...]:
    """Writes all files of one photo, whole or not at all.

    Args:
        bands: iterable of float32 (R, W), or (R, W, C) where there are classes, probabilities from top to
            bottom.
        size: (W, H) of the photo.
        places: {kind: Path}.
        choice: OutputChoice.
        content: bytes of the photo, for the overlay.

    Returns:
        Outcome; of several classes a tuple of its four numbers, all but the background being foreground, and
        then of part and objects of each.

    Raises:
        InputError: a place cannot be written to.
    """
    answer = choice.answer
    counters = [MaskCounter(number) for number in answer.colours]
    with open_together(places) as files:
        if PROBABILITIES in files:
            probabilities = PngWriter(files[PROBABILITIES], *size, bits=choice.probabilities)
            bands = _also_written(bands, probabilities, choice.probabilities)
        sketch = Sketch(size) if OVERLAYS in files else None
        masks = PngWriter(files[MASKS], *size, palette=answer.palette)
        for ids in answer.found_bands(bands, size):
            masks.write(answer.in_file(ids))
            for counter in counters:
                counter.add(ids)
            if sketch:
                sketch.add(ids)
        masks.close()
        if PROBABILITIES in files:
            probabilities.close()
        if sketch:
            # It was read before, and so has no more pixels than it may.
            photo, _ = decode_photo(content, places[OVERLAYS], OVERLAY_SIZE, max_pixels=MOST_PIXELS)
            files[OVERLAYS].write(overlay(photo, sketch.mask, answer.colours))
    pixels = size[0] * size[1]
    found = [(counter.pixels / pixels, counter.objects(choice.min_object)) for counter in counters]
    coverage = sum(counter.pixels for counter in counters) / pixels
    return answer.outcome(Outcome(*size, coverage, sum(objects for _, objects in found)), found)


class ForegroundAnswer:
    """Probabilities of one foreground -> class ids, what the mask file holds, and what is told of it.

    Args:
        choice: OutputChoice.
    """

    colours: dict[int, Sequence[int]] = {1: COLOUR}  # RGB, of each id that is counted and drawn
    palette: np.ndarray | None = None  # of the mask file

    def __init__(self, choice: OutputChoice) -> None:
        self.choice = choice

    def found_bands(self, bands: Iterable[np.ndarray], size: Size) -> Iterator[np.ndarray]:
        """Yields uint8 (R, W) class ids from float32 (R, W) bands of a photo of this (W, H)."""
        found = ((band > np.float32(self.choice.threshold)).view(np.uint8) for band in bands)
        smooth = self.choice.smooth
        return smoothed_bands(found, disc(disc_side(size, smooth))) if smooth else found

    def in_file(self, ids: np.ndarray) -> np.ndarray:
        """uint8 (R, W) class ids -> what stands for them in the mask file."""
        return ids * np.uint8(self.choice.foreground)

    def outcome(self, outcome: Outcome, found: list[tuple[float, int]]) -> tuple[float, ...]:
        """What `write_outputs` returns, from part and objects of all and of each id that is counted."""
        return outcome


class ClassAnswer:
    """The same of several classes, of which the most probable one is found."""

    def __init__(self, choice: OutputChoice) -> None:
        assert choice.classes is not None, "this is the answer of several classes"
        rgb = choice.classes.rgb[: len(choice.classes)]
        self.colours: dict[int, Sequence[int]] = {
            number: rgb[number].tolist() for number in range(1, len(rgb))
        }
        self.palette = rgb if choice.colours else None

    def found_bands(self, bands: Iterable[np.ndarray], size: Size) -> Iterator[np.ndarray]:
        """Yields uint8 (R, W) class ids from float32 (R, W, C) bands."""
        return (band.argmax(axis=-1).astype(np.uint8) for band in bands)

    def in_file(self, ids: np.ndarray) -> np.ndarray:
        """The ids themselves."""
        return ids

    def outcome(self, outcome: Outcome, found: list[tuple[float, int]]) -> tuple[float, ...]:
        """As that of ForegroundAnswer, with part and objects of each class behind."""
        return (*outcome, *itertools.chain(*found))


ANSWERS: dict[Task, type[ForegroundAnswer] | type[ClassAnswer]] = {
    FOREGROUND: ForegroundAnswer,
    CLASSES: ClassAnswer,
}


class MaskCounter:
    """Counts pixels and connected objects of one class in masks that come in bands.

    Args:
        class_id: of the pixels that count.
    """

    def __init__(self, class_id: int) -> None:
        self._class_id = class_id
        self._objects = ObjectCounter()
        self.pixels = 0

    def add(self, ids: np.ndarray) -> None:
        """The next uint8 (R, W) rows of class ids."""
        # A number is not among what OpenCV's types let it compare.
        mask = cv2.compare(ids, self._class_id, cv2.CMP_EQ) & 1  # type: ignore[call-overload]
        self._objects.add(mask)
        self.pixels += cv2.countNonZero(mask)

    def objects(self, least: int) -> int:
        """Number of objects of at least so many pixels."""
        return int((self._objects.areas() >= least).sum())


def disc_side(size: Size, part: float) -> int:
    """Odd diameter of a disc, in pixels, that is `part` of the short side, and 3 at least."""
    return max(3, round(part * min(size)) | 1)


def _also_written(bands: Iterable[np.ndarray], writer: PngWriter, bits: int) -> Iterator[np.ndarray]:
    most = 2**bits - 1
    for band in bands:
        highest = band.max(axis=-1) if band.ndim == 3 else band
        writer.write((highest * np.float32(most) + np.float32(0.5)).astype(f"u{bits // 8}"))
        yield band


class Sketch:
    """A small copy of a mask that comes in bands: the pixels in the middle of each of its own.

    Args:
        size: (W, H) of the mask.
    """

    def __init__(self, size: Size) -> None:
        width, height = working_shape(size, OVERLAY_SIZE)
        self._columns = ((np.arange(width) + 0.5) * size[0] / width).astype(int)
        self._rows = ((np.arange(height) + 0.5) * size[1] / height).astype(int)
        self._top = 0
        self._parts: list[np.ndarray] = []

    def add(self, mask: np.ndarray) -> None:
        """The next uint8 (R, W) rows."""
        first, last = np.searchsorted(self._rows, [self._top, self._top + len(mask)])
        self._parts.append(mask[self._rows[first:last] - self._top][:, self._columns])
        self._top += len(mask)

    @property
    def mask(self) -> np.ndarray:
        """uint8 (h, w)"""
        return np.concatenate(self._parts)


def overlay(photo: np.ndarray, ids: np.ndarray, colours: Mapping[int, Sequence[int]]) -> bytes:
    """The photo with the mask tinted and outlined, as the bytes of a JPEG file.

    Args:
        photo: uint8 (h, w, 3) RGB.
        ids: uint8 (h, w) of class ids; the background is left as it is.
        colours: {id: (red, green, blue)} of those that are drawn.
    """
    drawn = photo.copy()
    for number, colour in colours.items():
        inside = ids == number
        drawn[inside] = (1 - OPACITY) * photo[inside] + OPACITY * np.array(colour)
        contours, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, colour, max(1, round(max(ids.shape) / 600)))
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), options)[1].tobytes()
