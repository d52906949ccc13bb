"""The pictures of a report: photos with the outlines of both masks, and what training made of some images."""

import gc
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from segbalance.balancing.ledger import read_skipped
from segbalance.data_processing.classes import IGNORED, IGNORED_COLOUR, Classes
from segbalance.data_processing.manifest import Manifest
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, Task
from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import Sample
from segbalance.dataloader.working_size import Size, decode_photo, shrink_mask, shrink_photo, working_shape
from segbalance.files.images import read_bytes
from segbalance.prediction.row_bands import most_probable
from segbalance.reports.pages import picture_source, pointer_part
from segbalance.train.config import TrainConfig
from segbalance.train.inputs import checked_plan, training_parts
from segbalance.transforms.pipelines import apply_transform, valid_transform

LONGEST = 288  # pixels of a picture's longer side
SAMPLES = 6  # of each subset's training images
KINDS = ("worst", "median", "best")
BACKDROP = 254  # marks pixels that are right; no class has this id


Part = tuple[str, str, str]  # kind, colour, SVG path data
Example = Mapping[str, Any]  # a row of the evaluation's report


class Picture(NamedTuple):
    """A picture of the page.

    Args:
        source: data URI of the photo.
        width, height: of it, in pixels.
        name: of the file, with folders where they are known.
        layers: {`truth`, `found`, `missed`, `extra`: SVG path data in pixels}, as far as there are such.
        pointer: of its row among the figures, None if there is none.
        parts: of several classes, in place of layers: list of (`truth-class`, `found-class`, `wrong` or
            `ignored`, colour, SVG path data).
    """

    source: str
    width: int
    height: int
    name: str
    layers: dict[str, str]
    pointer: str | None = None
    parts: tuple[Part, ...] = ()

    @property
    def file(self) -> str:
        """The name without its folders."""
        return self.name.rpartition("/")[2]


Sections = list[tuple[str, list[tuple[str, list[Picture]]]]]  # of subsets, and in each of KINDS


def outlines(mask: np.ndarray) -> str:
    """SVG path data along the outlines of a bool mask (H, W), holes included; empty for an empty mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Pixels are counted from their middle, which lies half a pixel from the picture's corner.
    return "".join(
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in contour[:, 0].tolist()) + "Z"
        for contour in contours
    )


def compared(
    photo: np.ndarray, mask: np.ndarray, probability: np.ndarray, threshold: float, name: str, pointer: str
) -> Picture:
    """Picture of a photo with its true and its predicted mask.

    Args:
        photo: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W) class ids.
        probability: float32 (S, S) of the network.
    """
    size = working_shape(photo.shape[1::-1], LONGEST)
    true = shrink_mask(mask, size) > 0
    found = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR) > threshold
    layers = {"truth": true, "found": found, "missed": true & ~found, "extra": found & ~true}
    paths = {kind: outlines(part) for kind, part in layers.items()}
    return Picture(picture_source(shrink_photo(photo, size)), *size, name, paths, pointer)


def compared_classes(
    photo: np.ndarray, ids: np.ndarray, probability: np.ndarray, classes: Classes, name: str, pointer: str
) -> Picture:
    """Picture of a photo with the outlines of its true and predicted classes, all but the background's.

    Args:
        photo: uint8 (H, W, 3) RGB.
        ids: uint8 (H, W) class ids.
        probability: float32 (S, S, C) of the network.
    """
    size = working_shape(photo.shape[1::-1], LONGEST)
    true, found = shrink_mask(ids, size), most_probable(probability, size)
    wrong = np.where(true == IGNORED, true, np.where(true != found, found, BACKDROP))
    parts = [
        *class_parts(true, classes),
        *(
            (kind, colour, outlines(found == number))
            for kind, number, colour in _shown("found-class", classes)
        ),
        *((kind, colour, outlines(wrong == number)) for kind, number, colour in _shown("wrong", classes, 0)),
    ]
    return Picture(picture_source(shrink_photo(photo, size)), *size, name, {}, pointer, tuple(parts))


def class_parts(ids: np.ndarray, classes: Classes) -> tuple[Part, ...]:
    """The outlines of each class in a mask (uint8 (H, W)), and of what is ignored, as parts of a Picture."""
    shown = _shown("truth-class", classes)
    parts = [(kind, colour, outlines(ids == number)) for kind, number, colour in shown]
    return (*parts, ("ignored", IGNORED_COLOUR, outlines(ids == IGNORED)))


def _shown(kind: str, classes: Classes, first: int = 1) -> list[tuple[str, int, str]]:
    return [(kind, number, classes.colours[number]) for number in range(first, len(classes))]


class Easel(NamedTuple):
    """What examples are drawn with.

    Args:
        manifest: Manifest whose images they are.
        pairs: PairReader.
        predict: function of uint8 (B, S, S, 3) photos that returns float32 (B, S, S, C) probabilities.
        image_size: S.
        threshold: of one foreground.
    """

    manifest: Manifest
    pairs: PairReader
    predict: Callable[[np.ndarray], np.ndarray]
    image_size: int
    threshold: float | None

    def answered(self, row: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) photo and uint8 (H, W) class ids of a row, float32 (S, S, C) probabilities."""
        image, mask_file = (str(self.manifest.data_root / row[column]) for column in ("images", "masks"))
        photo, mask = self.pairs.read(image, mask_file, self.manifest.encoding)
        small, _ = apply_transform(valid_transform(self.image_size), photo, mask)
        return photo, mask, np.asarray(self.predict(small[None]))[0]


def foreground_example(easel: Easel, row: Example, pointer: str) -> Picture:
    """Picture of a row of one foreground; `pointer` is that of its figures."""
    photo, mask, probability = easel.answered(row)
    assert easel.threshold is not None, "one foreground has a threshold"
    return compared(photo, mask, probability[..., 0], easel.threshold, row["images"], pointer)


def class_example(easel: Easel, row: Example, pointer: str) -> Picture:
    """The same of several classes."""
    assert easel.manifest.classes is not None, "several classes have names"
    return compared_classes(*easel.answered(row), easel.manifest.classes, row["images"], pointer)


def thumbnail(easel: Easel, row: Example, pointer: str) -> Picture:
    """The same of an image with a label: the photo alone, small."""
    path = easel.manifest.data_root / row["images"]
    photo, _ = decode_photo(read_bytes(path), path, LONGEST, max_pixels=easel.pairs.max_pixels)
    height, width = photo.shape[:2]
    return Picture(picture_source(photo), width, height, row["images"], {}, pointer)


EXAMPLES = {FOREGROUND: foreground_example, CLASSES: class_example, CLASSIFICATION: thumbnail}


def gallery(examples: Mapping[str, Mapping[str, Sequence[Example]]], easel: Easel) -> Sections:
    """The examples of every subset as pictures.

    Args:
        examples: {subset: {kind: rows}} of the evaluation's report.

    Returns:
        [(subset, [(kind, list of Picture)])] without subsets that have no images.
    """
    sections: Sections = []
    draw = EXAMPLES[easel.manifest.kind]
    for subset, kinds in examples.items():
        start = f"/evaluation/examples/{pointer_part(subset)}"
        drawn = [
            (kind, [draw(easel, row, f"{start}/{kind}/{place}") for place, row in enumerate(kinds[kind])])
            for kind in KINDS
        ]
        drawn = [(kind, pictures) for kind, pictures in drawn if pictures]
        sections += [(subset, drawn)] if drawn else []
    return sections


def training_samples(config: TrainConfig, manifest: Manifest) -> list[tuple[str, str, list[Picture]]]:
    """The first augmented images of each subset, bit for bit as the run trained on them.

    Returns:
        [(subset, name of its transform, its pictures)]
    """
    work_dir = config.run.work_dir
    assert work_dir is not None, "a run has a folder"
    plan, transforms = checked_plan(config, manifest)
    here = config.replace(num_workers=0, cache="off")
    reader, stream = training_parts(here, manifest, plan, transforms)
    reader.bad_files.replay(read_skipped(work_dir))
    drawn: dict[str, list[Picture]] = {
        name: [] for name, share in zip(plan.subsets, plan.shares, strict=True) if share
    }
    steps = stream.steps()
    for draws, plain in itertools.islice(steps, config.steps_per_epoch):
        for draw in draws[~plain].tolist():
            subset, position = stream.draws.split(draw)
            own = drawn[plan.subsets[subset]]
            if len(own) < SAMPLES:
                own.append(_sample(reader, reader.sample(subset, position), config))
        if all(len(own) == SAMPLES for own in drawn.values()):
            break
    steps.close()
    gc.collect()  # the iterator inside it must not live until the process ends
    choice = config.transforms
    default = choice.get("default", "train")
    return [(name, choice.get(name, default), own) for name, own in drawn.items()]


def _sample(reader: BatchReader, sample: Sample, config: TrainConfig) -> Picture:
    image, mask = reader.samples.read(sample)
    size = working_shape(image.shape[1::-1], LONGEST // 2)
    source, marks = picture_source(shrink_photo(image, size)), SAMPLE_MARKS[config.kind]
    picture = Picture(source, *size, Path(sample.image).name, {})
    return picture._replace(**marks(mask, size, config.class_list))


# What of a mask is drawn into a training image: functions of (mask, size, classes) that give it to a Picture.
SAMPLE_MARKS: dict[Task, Callable[[np.ndarray, Size, Any], dict[str, Any]]] = {
    FOREGROUND: lambda mask, size, classes: {"layers": {"truth": outlines(shrink_mask(mask, size) > 0)}},
    CLASSES: lambda mask, size, classes: {"parts": class_parts(shrink_mask(mask, size), classes)},
    CLASSIFICATION: lambda mask, size, classes: {},
}
