"""Many photos through a network that classifies: reading and predicting at the same time."""

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.prediction.many_photos import (
    BATCHES_AHEAD,
    BadPhoto,
    ModelInput,
    Predictor,
    Threads,
    answered_photos,
    read_input,
    submitted_ahead,
)


def table_columns(classes: Sequence[str], with_probabilities: bool = True) -> list[str]:
    """The columns of predictions.csv for the names of the classes."""
    probabilities = ["probability", *(f"probability_{name}" for name in classes)]
    return ["image", "label", *(probabilities if with_probabilities else ())]


def predict_labels(
    predictor: Predictor,
    paths: Sequence[str | Path],
    classes: Sequence[str],
    with_probabilities: bool = True,
    *,
    input_size: int,
    batch_size: int,
    threads: int,
    max_pixels: int = MAX_PIXELS,
) -> Generator[tuple[str | Path, BadPhoto | tuple[str | float, ...]], None, None]:
    """Predicts the class of each photo.

    Args:
        predictor: gives float32 (B, 1, 1, C).
        paths: of the photos.
        classes: names of the classes, by id.
        with_probabilities: False for an exported model that gives ids alone.
        input_size: side to which photos are squeezed.
        batch_size: photos that the network gets at once.
        threads: that read.
        max_pixels: of a photo, by its header.

    Yields:
        (path, BadPhoto or the values of `table_columns` behind the image) in the order of `paths`.
    """

    def read(path: str | Path) -> ModelInput:
        photo = read_input(path, input_size, predictor.working_size, max_pixels=max_pixels)
        return photo._replace(content=b"")  # many wait for the model

    with Threads(threads) as readers:
        reading = submitted_ahead(readers, read, paths, BATCHES_AHEAD * batch_size + threads)
        answers = answered_photos(predictor, reading, batch_size)
        for path, (photo, probability) in zip(paths, answers, strict=True):
            if isinstance(photo, BadPhoto):
                yield path, photo
            else:
                yield path, _labelled(probability[0, 0], classes, with_probabilities)


def _labelled(
    probabilities: np.ndarray, classes: Sequence[str], with_probabilities: bool
) -> tuple[str | float, ...]:
    found = int(np.argmax(probabilities))
    if not with_probabilities:
        return (classes[found],)
    return classes[found], float(probabilities[found]), *map(float, probabilities)
