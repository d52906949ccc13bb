"""A run -> an export that is like it: written, compared with the run's network, and only then put in place.

Only weights are read from the run: config -> network in float32 -> weights, whatever precision it trained in.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from segbalance.legacy_keras import tf

from segbalance.data_processing.manifest import Manifest, by_type
from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.working_size import Size, shrink_photo, working_shape
from segbalance.errors import InputError
from segbalance.evaluation.class_scores import confusion_matrix
from segbalance.exporting.exported_model import (
    DESCRIPTION,
    MODEL_NAMES,
    ExportDescription,
    ExportedModel,
    load_exported,
)
from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.files.writing import check_writable, json_text, whole_folder
from segbalance.train.config import TrainConfig

CHECK, CARD = "check.json", "MODEL_CARD.md"
OWN_FILES = {DESCRIPTION, CHECK, CARD, *MODEL_NAMES.values()}
CLASSES = ("background", "foreground")
# Of the probabilities, on photos that have the input's size already; measured: 6e-6, with float16 0.011.
LARGEST_DIFFERENCE = {"none": 1e-4, "float16": 5e-2}
# Of all pixels, or of the labels but for one; inside a dynamic model resized photos differ by a level here
# and there. Measured on a trained run: 0.0001 dynamic, 0.0006 int8; on one of six steps 0.007 and 0.03.
MOST_DIFFERING = {"none": 0.01, "float16": 0.01, "int8": 0.05}
ADVICE = {
    "none": "Try another --format or --size.",
    "float16": "Try --quantize none.",
    "int8": "Try --quantize float16, or more --representative_images.",
}

Pair = tuple[str, np.ndarray, np.ndarray]  # subset, uint8 (H, W, 3) photo, uint8 (H, W) class ids


def describe(
    config: TrainConfig, *, format: str, size: str, output_type: str, quantize: str
) -> ExportDescription:
    """The ExportDescription of a run's config and the chosen options."""
    from segbalance.model.metrics import THRESHOLD

    network, filled_in = config.network, config.filled_in
    return ExportDescription(
        format=format,
        size=size,
        output_type=output_type,
        quantize=quantize,
        image_size=network.image_size,
        working_size=config.loading.working_size or 0,
        threshold=THRESHOLD,
        classes=tuple(filled_in.classes) or CLASSES,
        backbone=network.backbone,
        class_colours=tuple(filled_in.class_colours),
        task=config.kind.name,
    )


def check_place(folder: str | Path, overwrite: bool) -> None:
    """Raises InputError where `folder` cannot be written, or holds what must not be replaced."""
    folder = Path(folder)
    check_writable("--output", folder.parent)
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise InputError(f"--output {folder} is not a folder; choose another name")
    found = {path.name for path in folder.iterdir()}
    if found and not (DESCRIPTION in found and found <= OWN_FILES):
        raise InputError(f"--output {folder} holds files that are not an export; choose another folder")
    if found and not overwrite:
        raise InputError(
            f"--output {folder} holds an export. Choose another folder, or pass --overwrite to replace it."
        )


def drawn_evenly(tables: Mapping[str, pd.DataFrame], count: int, seed: int) -> list[tuple[str, int]]:
    """Draws rows evenly over the subsets, each once; what a small one lacks, the others give.

    Returns:
        [(subset, row number)], at most `count`.
    """
    rng = np.random.default_rng(seed)
    ranked = [
        (rank, name, int(row))
        for name, table in tables.items()
        for rank, row in enumerate(rng.permutation(len(table)))
    ]
    # The sort is stable: the first of each subset, then the second of each.
    return [(name, row) for _, name, row in sorted(ranked, key=lambda place: place[0])[:count]]


def drawn_pairs(
    manifest: Manifest,
    tables: Mapping[str, pd.DataFrame],
    count: int,
    seed: int,
    working_size: int = 0,
    *,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Pair]:
    """Yields the pairs of `drawn_evenly`'s rows.

    In classification the ids are (1, 1), that of the label.

    Raises:
        InputError: a file cannot be read, or has more than `max_pixels`.
    """
    reader = PairReader(working_size=working_size, max_pixels=max_pixels)
    for name, row in drawn_evenly(tables, count, seed):
        table = tables[name]
        truth = table[manifest.kind.truth][row]
        truth = manifest.data_root / truth if manifest.encoding.in_files else truth
        try:
            photo, ids = reader.read(manifest.data_root / table["images"][row], truth, manifest.encoding)
        except OSError as error:
            raise InputError(f"{error}. The files must be those that the manifests describe.") from None
        yield name, photo, ids


def as_trained(photo: np.ndarray, description: ExportDescription) -> np.ndarray:
    """Photo uint8 (H, W, 3) -> uint8 (S, S, 3), resized as for training."""
    shrunk = shrink_photo(photo, working_shape(photo.shape[1::-1], description.working_size))
    size = (description.image_size, description.image_size)
    return cv2.resize(shrunk, size, interpolation=cv2.INTER_LINEAR)


def compare(network: "tf.keras.Model", exported: ExportedModel, pairs: Iterable[Pair]) -> dict[str, Any]:
    """How far an export is from the network that it was made of.

    Args:
        network: what `predictor.load_network` returns.
        exported: made of it.
        pairs: what `drawn_pairs` yields, photos at their own size.

    Returns:
        images; the largest and the mean difference of the probabilities on photos of the input's size,
        and the largest at the photos' own size, where the model resizes (None for masks and for what was
        not compared); `mask_pixels_differing`, in classification `labels_differing`, a share; the
        description's score of both over all pixels or labels, and what is lost; the same scores by subset.
        All but the first two are at the photos' own size for a dynamic model.
    """
    description = exported.description
    rows: list[dict[str, Any]] = []
    for name, photo, mask in pairs:
        small = as_trained(photo, exported.description)
        expected = network(small[None], training=False).numpy()[0]
        found = exported(small[None])[0]
        difference = np.abs(expected - found)
        row: dict[str, Any] = {"subset": name, "largest": difference.max(), "mean": difference.mean()}
        if description.size == "dynamic":
            found = exported(photo[None])[0]
        if description.kind.with_masks:
            expected, mask = at_one_size(expected, mask, found.shape[1::-1])
        masks = [answered_ids(answer, description) for answer in (expected, found)]
        row |= {"resized": np.abs(expected - found).max(), "pixels": mask.size}
        row |= {"differing": (masks[0] != masks[1]).sum()}
        rows.append(row | {"counts": np.stack([counted(mask, answer, description) for answer in masks])})
    return summary(pd.DataFrame(rows), description)


def at_one_size(probability: np.ndarray, mask: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """float32 (H, W, C) and uint8 (H', W') -> the same at this (width, height)."""
    if probability.shape[1::-1] != size:
        resized = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)
        probability = resized.reshape(*resized.shape[:2], -1)  # OpenCV drops a single channel
    return probability, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)


def answered_ids(probability: np.ndarray, description: ExportDescription) -> np.ndarray:
    """float32 (H, W, C) probabilities -> uint8 (H, W) class ids."""
    if description.kind.with_threshold:
        return (probability[..., 0] > description.threshold).astype(np.uint8)
    return probability.argmax(axis=-1).astype(np.uint8)


def counted(true: np.ndarray, found: np.ndarray, description: ExportDescription) -> np.ndarray:
    """uint8 class ids of a photo, true and found -> what `both_scores` adds up, int64 (3,) or (C, C)."""
    if description.kind.with_threshold:
        return np.array(confusion(true > 0, found > 0))
    return confusion_matrix(true, found, len(description.classes))


def summary(rows: pd.DataFrame, description: ExportDescription) -> dict[str, Any]:
    """What `compare` returns, from one row for each photo."""
    probabilities, score = description.output_type == "probability", description.kind.main
    resized = probabilities and description.size == "dynamic"
    subsets = rows.groupby("subset", sort=False)["counts"]
    return {
        "images": len(rows),
        "largest_difference": float(rows["largest"].max()) if probabilities else None,
        "mean_difference": float(rows["mean"].mean()) if probabilities else None,
        "largest_difference_resized": float(rows["resized"].max()) if resized else None,
        f"{description.kind.likeness}_differing": float(rows["differing"].sum() / rows["pixels"].sum()),
        **both_scores(np.sum(rows["counts"].tolist(), axis=0), score),
        "subsets": [
            {"subset": name, "images": len(own)} | both_scores(np.sum(own.tolist(), axis=0), score)
            for name, own in subsets
        ],
    }


def confusion(mask: np.ndarray, found: np.ndarray) -> list[int]:
    """True positives, false positives and false negatives of two bool arrays."""
    return [int((a & b).sum()) for a, b in ((mask, found), (~mask, found), (mask, ~found))]


def both_scores(counts: np.ndarray, score: str) -> dict[str, float]:
    """{<score>_keras, <score>_export, <score>_lost}: of the network, of the export, and what is lost.

    Args:
        counts: int64 (2, 3), or confusion matrices (2, C, C).
        score: name among `metrics.scores`, or `metrics.class_scores`.
    """
    from segbalance.model.metrics import class_scores, scores

    keras, export = (float(value) for value in (scores if counts.ndim == 2 else class_scores)(counts)[score])
    return {f"{score}_keras": keras, f"{score}_export": export, f"{score}_lost": keras - export}


def check_likeness(check: Mapping[str, Any], description: ExportDescription, most_lost: float) -> None:
    """Raises InputError where the comparison says that the export is not like the run's network."""
    differing = MOST_DIFFERING[description.quantize]
    if not description.kind.with_masks:
        differing = max(differing, 1 / check["images"])
    limits = {
        "largest_difference": LARGEST_DIFFERENCE.get(description.quantize, 1),
        f"{description.kind.likeness}_differing": differing,
        f"{description.kind.main}_lost": most_lost,
    }
    wrong = [
        f"  {name.replace('_', ' ')} {check[name]:.3g}, expected at most {limit:.3g}"
        for name, limit in limits.items()
        if check[name] is not None and not check[name] <= limit
    ]
    if wrong:
        headline = (
            f"the {description.format} export (quantize {description.quantize}) is not like the run's "
            f"network on {check['images']} validation images:"
        )
        advice = ADVICE[description.quantize]
        raise InputError("\n".join([headline, *wrong, f"Nothing was written. {advice}"]))


def export(
    config: TrainConfig,
    manifest: Manifest,
    description: ExportDescription,
    folder: str | Path,
    *,
    representative_images: int,
    check_images: int,
    most_lost: float,
    seed: int,
) -> dict[str, Any]:
    """Writes the export of a run into `folder`, which may only hold an earlier one.

    Args:
        config: of the run, with its work_dir and the limits that the user has chosen.
        description: of what is to be written.
        representative_images: training photos from which int8 takes the ranges.
        check_images: validation photos for the comparison.
        most_lost: of the description's score, in [0, 1].
        seed: of the choice of both.

    Returns:
        what `compare` found, with the model's megabytes.

    Raises:
        InputError: the export is not like the run's network, or cannot be written.
    """
    from segbalance.exporting.formats import WRITERS
    from segbalance.exporting.model_card import model_card
    from segbalance.prediction.predictor import load_network

    work_dir, max_pixels = config.run.work_dir, config.data.max_pixels
    assert work_dir is not None, "a run has a folder"
    network = load_network(work_dir)
    calibration = drawn_pairs(
        manifest, manifest.train, representative_images, seed, description.working_size, max_pixels=max_pixels
    )
    with whole_folder(folder) as new:
        photos = (as_trained(photo, description) for _, photo, _ in calibration)
        model = WRITERS[description.format](network, description, new, photos)
        (new / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
        pairs = drawn_pairs(manifest, by_type(manifest.valid), check_images, seed, 0, max_pixels=max_pixels)
        check = compare(network, load_exported(new), pairs) | {"megabytes": megabytes(model)}
        check_likeness(check, description, most_lost)
        (new / CHECK).write_text(json_text(check), encoding="utf-8")
        (new / CARD).write_text(model_card(config, manifest, description, check), encoding="utf-8")
    return check


def megabytes(place: Path) -> float:
    """Size of a file, or of a folder with all in it, in 10**6 bytes."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6
