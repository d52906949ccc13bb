"""The pictures of a report: photos with the outlines of both masks, and what training made of some images."""

import dataclasses
import gc
import itertools
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ledger import read_skipped
from pages import picture_source, pointer_part
from run_data import checked_plan, training_parts
from transforms import apply_transform, valid_transform
from working_size import shrink_mask, shrink_photo, working_shape

LONGEST = 288  # pixels of a picture's longer side
SAMPLES = 6  # of each subset's training images
KINDS = ("worst", "median", "best")


class Picture(NamedTuple):
    """A picture of the page.

    Args:
        source: data URI of the photo.
        width, height: of it, in pixels.
        name: of the file, with folders where they are known.
        layers: {`truth`, `found`, `missed`, `extra`: SVG path data in pixels}, as far as there are such.
        pointer: of its row among the figures, None if there is none.
    """

    source: str
    width: int
    height: int
    name: str
    layers: dict
    pointer: str | None = None

    @property
    def file(self):
        """The name without its folders."""
        return self.name.rpartition("/")[2]


def outlines(mask):
    """SVG path data along the outlines of a bool mask (H, W), holes included; empty for an empty mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Pixels are counted from their middle, which lies half a pixel from the picture's corner.
    return "".join(
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in contour[:, 0].tolist()) + "Z"
        for contour in contours
    )


def compared(photo, mask, probability, threshold, name, pointer):
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


def gallery(examples, manifest, pairs, predict, image_size, threshold):
    """The examples of every subset as pictures.

    Args:
        examples: {subset: {kind: rows}} of the evaluation's report.
        manifest: Manifest whose images they are.
        pairs: PairReader.
        predict: function of uint8 (B, S, S, 3) photos that returns float32 (B, S, S, 1) probabilities.

    Returns:
        [(subset, [(kind, list of Picture)])] without subsets that have no images.
    """
    resize = valid_transform(image_size)

    def picture(row, pointer):
        paths = [manifest.data_root / row[column] for column in ("images", "masks")]
        photo, mask = pairs.read(*map(str, paths), manifest.encoding)
        small, _ = apply_transform(resize, photo, mask)
        probability = np.asarray(predict(small[None]))[0, ..., 0]
        return compared(photo, mask, probability, threshold, row["images"], pointer)

    sections = []
    for subset, kinds in examples.items():
        start = f"/evaluation/examples/{pointer_part(subset)}"
        drawn = [
            (kind, [picture(row, f"{start}/{kind}/{place}") for place, row in enumerate(kinds[kind])])
            for kind in KINDS
        ]
        drawn = [(kind, pictures) for kind, pictures in drawn if pictures]
        sections += [(subset, drawn)] if drawn else []
    return sections


def training_samples(config, manifest):
    """The first augmented images of each subset, bit for bit as the run trained on them.

    Returns:
        [(subset, name of its transform, list of Picture)]
    """
    plan, transforms = checked_plan(config, manifest)
    here = dataclasses.replace(config, num_workers=0, cache="off")
    reader, stream = training_parts(here, manifest, plan, transforms)
    reader.bad_files.replay(read_skipped(config.work_dir))
    drawn = {name: [] for name, share in zip(plan.subsets, plan.shares, strict=True) if share}
    steps = stream.steps()
    for draws, plain in itertools.islice(steps, config.steps_per_epoch):
        for draw in draws[~plain].tolist():
            subset, position = stream.draws.split(draw)
            own = drawn[plan.subsets[subset]]
            if len(own) < SAMPLES:
                own.append(_sample(reader, reader.sample(subset, position)))
        if all(len(own) == SAMPLES for own in drawn.values()):
            break
    steps.close()
    gc.collect()  # the iterator inside it must not live until the process ends
    default = config.transforms.get("default", "train")
    return [(name, config.transforms.get(name, default), own) for name, own in drawn.items()]


def _sample(reader, sample):
    image, mask = reader.samples.read(sample)
    size = working_shape(image.shape[1::-1], LONGEST // 2)
    layers = {"truth": outlines(shrink_mask(mask, size) > 0)}
    return Picture(picture_source(shrink_photo(image, size)), *size, Path(sample.image).name, layers)
