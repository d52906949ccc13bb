"""Many photos through a model: reading, predicting and writing at the same time, in bounded memory."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np

from segbalance.dataloader.working_size import Size, decode_photo
from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.prediction.output import OutputChoice, write_outputs
from segbalance.prediction.photo_rows import ReadRows, open_rows, read_whole_file
from segbalance.prediction.row_bands import narrow_bands, stretched_bands
from segbalance.prediction.tiling import shrunk_rows, stitched_bands, tile_starts, without_single_class
from segbalance.runtime.progress import progress_of

BATCHES_AHEAD = 2  # of small photos waiting for the model, and of its answers waiting to be written
UNREADABLE = OSError, cv2.error  # OpenCV has its own for pictures beyond its limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class Predictor(Protocol):
    """What gives probabilities: a run's network, or an exported model.

    Args:
        input_size: side of the photos that it takes, None for any.
        working_size: long side to which photos were shrunk before training; 0 for none.
    """

    @property
    def input_size(self) -> int | None: ...
    @property
    def working_size(self) -> int: ...

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (B, S, S, 3) RGB -> float32 (B, S, S, C) in [0, 1]: C classes, or 1 for the foreground."""
        ...


class FlippedMean:
    """A Predictor that asks another about a photo, its mirror images and the photo upside down."""

    # Of (B, H, W, C): as it is, left to right, top to bottom, both.
    AXES: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.input_size = predictor.input_size
        self.working_size = predictor.working_size

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """The mean of the four answers, each flipped back."""
        total = np.zeros((), np.float32)
        for axes in self.AXES:
            total = total + np.flip(self._predictor(np.ascontiguousarray(np.flip(photos, axes))), axes)
        return total / len(self.AXES)


class BadPhoto(Exception):
    """A photo that cannot be read; the message says why."""


Job = tuple[str | Path, Mapping[str, Path]]  # path of a photo, {kind: place} of its outputs
Done = tuple[str | Path, tuple[float, ...] | BadPhoto]  # path of a photo, what `write_outputs` returned


class ModelInput(NamedTuple):
    """A photo as the model gets it.

    Args:
        pixels: uint8 (S, S, 3) RGB.
        size: (W, H) of the photo.
        content: bytes of its file.
    """

    pixels: np.ndarray
    size: Size
    content: bytes


def read_input(
    path: str | Path, input_size: int, working_size: int, *, max_pixels: int = MAX_PIXELS
) -> ModelInput:
    """Reads a photo as the validation photos of training were: shrunk to working size, then squeezed.

    Raises:
        BadPhoto: the file is missing, damaged, no image, or larger than `max_pixels`.
    """
    try:
        content = read_whole_file(path)
        photo, size = decode_photo(content, path, working_size, max_pixels=max_pixels)
    except UNREADABLE as error:
        raise BadPhoto(_reason(error)) from None
    pixels = cv2.resize(photo, (input_size, input_size), interpolation=cv2.INTER_LINEAR)
    return ModelInput(pixels, size, content)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return "not an image" if text.startswith("cannot identify image file") else text


def predict_squeezed(
    predictor: Predictor,
    jobs: Sequence[Job],
    choice: OutputChoice,
    *,
    input_size: int,
    batch_size: int,
    threads: int,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Done, None, None]:
    """Predicts each photo in one piece. Threads read and write while the model is at work.

    Args:
        jobs: photos and the places of their outputs.
        input_size: side to which photos are squeezed.
        batch_size: photos that the model gets at once.
        threads: that read, and as many that write.
        max_pixels: of a photo, by its header.

    Yields:
        In the order of `jobs`.

    Raises:
        InputError: a place cannot be written to.
    """
    limit = BATCHES_AHEAD * batch_size + threads

    def read(path: str | Path) -> ModelInput:
        photo = read_input(path, input_size, predictor.working_size, max_pixels=max_pixels)
        return photo if choice.overlay else photo._replace(content=b"")  # many wait for the model

    def write(places: Mapping[str, Path], photo: ModelInput, probability: np.ndarray) -> tuple[float, ...]:
        ratio = len(probability) / photo.size[1]
        bands = stretched_bands(narrow_bands(probability), photo.size, ratio, photo.size[0])
        return write_outputs(bands, photo.size, places, choice, photo.content)

    with Threads(threads) as readers, Threads(threads) as writers:
        reading = submitted_ahead(readers, read, [path for path, _ in jobs], limit)
        writing: deque[tuple[str | Path, BadPhoto | Future[tuple[float, ...]]]] = deque()
        answers = answered_photos(predictor, reading, batch_size)
        for (path, places), (photo, probability) in zip(jobs, answers, strict=True):
            if isinstance(photo, BadPhoto):
                writing.append((path, photo))
            else:
                future = writers.submit(write, places, photo, without_single_class(probability))
                writing.append((path, future))
            if len(writing) > limit:
                yield _finished(*writing.popleft())
        while writing:
            yield _finished(*writing.popleft())


def answered_photos(
    predictor: Predictor, reading: Iterator[Future[ModelInput]], batch_size: int
) -> Iterator[tuple[ModelInput | BadPhoto, Any]]:
    """Yields (ModelInput, float32 (H, W, C) of the model) or (BadPhoto, None) of every photo, in order.

    Args:
        reading: futures of `read_input`.
        batch_size: photos that the model gets at once.
    """
    while batch := [_read_result(future) for future in itertools.islice(reading, batch_size)]:
        good = [photo.pixels for photo in batch if isinstance(photo, ModelInput)]
        answers = iter(predictor(np.stack(good)) if good else ())
        for photo in batch:
            yield photo, next(answers) if isinstance(photo, ModelInput) else None


def _read_result(future: Future[ModelInput]) -> ModelInput | BadPhoto:
    """What a future of `read_input` gives: ModelInput or BadPhoto."""
    try:
        return future.result()
    except BadPhoto as bad:
        return bad


def _finished(path: str | Path, outcome: BadPhoto | Future[tuple[float, ...]]) -> Done:
    return path, outcome if isinstance(outcome, BadPhoto) else outcome.result()


class Threads(ThreadPoolExecutor):
    """An executor that begins nothing new once its block is left by an exception."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel_futures=kind is not None)


def submitted_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], limit: int
) -> Iterator[Future[Result]]:
    """Yields the futures of `function` for all items in their order, never more than `limit` begun ahead."""
    left = iter(items)
    waiting: deque[Future[Result]] = deque()
    while True:
        waiting.extend(pool.submit(function, item) for item in itertools.islice(left, limit - len(waiting)))
        if not waiting:
            return
        yield waiting.popleft()


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yields the items, none of which is None; the next one is made on a thread in the meantime."""
    left = iter(items)

    def take() -> Item | None:
        return next(left, None)

    with Threads(1) as pool:
        waiting = pool.submit(take)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(take)
            yield item


def predict_tiled(
    predictor: Predictor,
    jobs: Sequence[Job],
    choice: OutputChoice,
    *,
    tile: int,
    overlap: int,
    shrink: int,
    batch_size: int,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Done, None, None]:
    """Predicts each photo in tiles at its own resolution, or `shrink` times smaller.

    Reading, the model and writing work on different bands of a photo at the same time.

    Args:
        tile: side of a tile.
        overlap: pixels that neighbouring tiles share at least.
        shrink: 1 or more.
        batch_size: tiles that the model gets at once.
        jobs, max_pixels: as for `predict_squeezed`.

    Yields:
        In the order of `jobs`.
    """
    for path, places in jobs:
        try:
            content, read, size = _readable(path, max_pixels)
            read, small = shrunk_rows(read, size, shrink)
            read = prepared(read, small[1], tile, overlap, path)
            bands = one_ahead(stitched_bands(read, small, tile, overlap, predictor, batch_size))
            if shrink > 1:
                bands = stretched_bands(bands, size, 1 / shrink, small[0] * shrink)
            yield path, write_outputs(bands, size, places, choice, content)
        except BadPhoto as bad:
            yield path, bad


def _readable(path: str | Path, max_pixels: int) -> tuple[bytes, ReadRows, Size]:
    """(bytes, function that reads rows, (W, H)) of a photo; all fail with BadPhoto."""
    try:
        content = read_whole_file(path)
        size, read = open_rows(content, path, max_pixels=max_pixels)
    except UNREADABLE as error:
        raise BadPhoto(_reason(error)) from None

    def read_or_fail(top: int, bottom: int) -> np.ndarray:
        try:
            return read(top, bottom)
        except UNREADABLE as error:
            raise BadPhoto(_reason(error)) from None

    return content, read_or_fail, size


def prepared(read: ReadRows, height: int, tile: int, overlap: int, path: str | Path) -> ReadRows:
    """`read` for rows of tiles in their order; the next one is read while the model is at work."""
    starts = tile_starts(height, tile, overlap).tolist()
    bands = ((start, read(start, min(start + tile, height))) for start in starts)
    shown = progress_of(one_ahead(bands), str(path), len(starts), "row of tiles")
    upcoming = iter(shown)

    def read_next(top: int, bottom: int) -> np.ndarray:
        start, band = next(upcoming)
        assert (start, start + len(band)) == (top, bottom), "rows of tiles come in order"
        return band

    return read_next
