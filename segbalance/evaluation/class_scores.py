"""Scores of several classes, and of classification: from the confusion matrix of each image.

Pixels (for classification: images) are counted at the model's input size, as for `val_iou` in history.csv.
The class found is the most probable one; IGNORED pixels count nowhere.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from segbalance.data_processing.classes import IGNORED, Classes
from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, POOLED, Task
from segbalance.evaluation.scores import (
    CONFIDENCE,
    RESAMPLED_AT_ONCE,
    RESAMPLES,
    WORST,
    Batches,
    Examples,
    Predict,
    Row,
    alarm_loss,
    alarm_scores,
    spread_examples,
    weakest_first,
)
from segbalance.model.metrics import scores_of_sums

OF_CLASSES = POOLED  # a score of each class, and the mean over classes
OF_ALL = (*OF_CLASSES, "accuracy", "balanced_accuracy")
LABEL_COLUMNS = ("label", "found", "probability", "correct")
ABSENT_RULE = (
    "a class that is neither there nor found has no score and is left out of means; any other 0/0 scores 0"
)

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]  # of an image: true and found ids, probabilities


def confusion_matrix(true: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """int64 (C, C) counts [true, found] of two uint8 arrays of class ids, IGNORED in `true` left out."""
    kept = true != IGNORED
    pairs = true[kept].astype(np.int64) * classes + found[kept]
    return np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)


def marginals(confusion: np.ndarray) -> np.ndarray:
    """(..., C, C) counts [true, found] -> (..., 3, C): right, there and found, which tell all scores."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([right, confusion.sum(axis=-1), confusion.sum(axis=-2)], axis=-2)


def scores_of(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`metrics.class_scores` as NumPy arrays, from (..., 3, C) of `marginals`: {name: float64}."""
    sums = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    return {name: value.numpy() for name, value in scores_of_sums(*sums).items()}


def mean_of_known(values: np.ndarray) -> float:
    """Mean of float64 (N,) without NaN; NaN where there is nothing else."""
    known = values[np.isfinite(values)]
    return known.mean() if len(known) else math.nan


def intervals(counts: np.ndarray, figures: np.ndarray) -> dict[str, np.ndarray]:
    """Percentile bootstrap intervals over images (Efron and Tibshirani 1993, chapter 13).

    Whole images are drawn with replacement, as how often each is drawn: a resample is then a sum with these
    weights. The same input gives the same intervals.

    Args:
        counts: int64 (images, 3, C).
        figures: float64 (images,) whose mean is a score too, NaN for images without one.

    Returns:
        {name: float64 (2,), or (C, 2) of each class} of `scores_of` and `image_iou`, the bounds of the middle
        95 %. {} for fewer than two images, which tell nothing about others.
    """
    images = len(counts)
    if images < 2:
        return {}
    rng, parts = np.random.default_rng(0), []
    flat, at_once = counts.reshape(images, -1).astype(np.float64), max(1, RESAMPLED_AT_ONCE // images)
    known = np.isfinite(figures)
    for first in range(0, RESAMPLES, at_once):
        times = rng.multinomial(images, np.full(images, 1 / images), min(at_once, RESAMPLES - first))
        scores = scores_of((times @ flat).reshape(-1, *counts.shape[1:]))
        drawn = times @ known
        mean = times @ np.where(known, figures, 0) / np.maximum(drawn, 1)
        parts.append(scores | {"image_iou": np.where(drawn > 0, mean, np.nan)})
    return {name: _bounds([part[name] for part in parts]) for name in parts[0]}


def _bounds(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The middle part of resamples (R, ...), without those that have no score: float64 (..., 2)."""
    values = np.concatenate(parts)
    edge = (1 - CONFIDENCE) / 2
    empty = ~np.isfinite(values).any(axis=0)
    bounds = np.nanquantile(np.where(empty, 0, values), [edge, 1 - edge], axis=0)
    return np.moveaxis(np.where(empty, np.nan, bounds), 0, -1)


@dataclass(frozen=True)
class ClassEvaluation:
    """What was counted of masks of several classes.

    Args:
        classes: of the masks.
        subsets: names, of subsets without images too.
        images: DataFrame, a row an image: images, masks, subset, OF_CLASSES (means over the image's classes),
            accuracy and iou_<class>.
        counts: int64 (images, 3, C), `marginals` of each.
        confusions: {subset: int64 (C, C)}.
    """

    kind: ClassVar[Task] = CLASSES
    classes: Classes
    subsets: list[str]
    images: pd.DataFrame
    counts: np.ndarray
    confusions: dict[str, np.ndarray]

    def examples(self, subset: str) -> Examples:
        """The worst, median and best images of a subset, none of them twice.

        Those without a score, of which all is ignored, are none of these.
        """
        own = self.images[(self.images["subset"] == subset) & self.images[self.kind.example_order].notna()]
        return spread_examples(own.sort_values(self.kind.example_order, kind="stable"))

    def summary(self, rows: np.ndarray, confusion: np.ndarray) -> dict[str, Any]:
        """Scores of some images in plain types: each with `_low` and `_high`, None where it has none.

        Args:
            rows: bool (images,).
            confusion: int64 (C, C) of these.
        """
        counts = self.counts[rows]
        figures = self.images[self.kind.example_order].to_numpy(np.float64)[rows]
        scores, bounds = scores_of(marginals(confusion)), intervals(counts, figures)
        together = {name: scores[name] for name in OF_ALL} | self._means_of_images(figures)
        there, found = marginals(confusion)[1:] / max(confusion.sum(), 1)
        classes = [
            {"class": name, "true_share": float(there[number]), "found_share": float(found[number])}
            | with_bounds(*(_of_class(values, number) for values in (scores, bounds)))
            for number, name in enumerate(self.classes.names)
        ]
        row_sums = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        return (
            {"images": int(rows.sum())}
            | with_bounds(together, bounds)
            | {
                "classes": classes,
                "confusion": confusion.tolist(),
                "confusion_shares": (confusion / row_sums).tolist(),
            }
        )

    def _means_of_images(self, figures: np.ndarray) -> dict[str, float]:
        """Scores that are means over the images' own, float64 (images,)."""
        return {"image_iou": mean_of_known(figures)}

    def _no_confusion(self) -> np.ndarray:
        return np.zeros((len(self.classes),) * 2, np.int64)

    def of_subset(self, name: str) -> dict[str, Any]:
        """What the report has of a subset."""
        rows = (self.images["subset"] == name).to_numpy()
        confusion = self.confusions.get(name, self._no_confusion())
        if not no_foreground(confusion):
            return self.summary(rows, confusion)
        nothing = self.summary(np.zeros_like(rows), self._no_confusion())
        there, found = np.moveaxis(self.counts[rows], 1, 0)[1:]
        return (
            self.summary(rows, confusion)
            | {name: value for name, value in nothing.items() if value is None}
            | alarm_scores(found[:, 1:].sum(axis=1), there.sum(axis=1))
        )

    def _without_false_alarms(self) -> np.ndarray:
        """int64 (C, C) of all images, as if nothing were found in subsets without foreground."""
        total = self._no_confusion()
        for confusion in self.confusions.values():
            total += np.diag(confusion.sum(axis=1)) if no_foreground(confusion) else confusion
        return total

    def report(self) -> dict[str, Any]:
        """All scores in plain types, the weakest subset first: what is written as JSON."""
        rows = [{"subset": name} | self.of_subset(name) for name in self.subsets]
        everything = self.summary(
            np.full(len(self.images), True), sum(self.confusions.values(), self._no_confusion())
        )
        without = float(scores_of(marginals(self._without_false_alarms()))["iou"])
        worst = self.images.sort_values(self.kind.example_order, kind="stable").head(WORST)
        return {
            "task": self.kind.name,
            "classes": list(self.classes.names),
            "class_colours": list(self.classes.colours),
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "absent_classes": ABSENT_RULE,
            "all": everything,
            **alarm_loss(rows, everything["iou"], without),
            "subsets": weakest_first(rows, self.kind.subset_order),
            "worst": plain(worst.to_dict("records")),
            "examples": {
                name: {kind: plain(chosen) for kind, chosen in self.examples(name).items()}
                for name in self.subsets
            },
        }


@dataclass(frozen=True)
class LabelEvaluation(ClassEvaluation):
    """What was counted of images that have a class as a whole.

    Args:
        classes, subsets, counts, confusions: as of a ClassEvaluation.
        images: DataFrame, a row an image: images, subset, label, found, probability (of the label), correct.
    """

    kind: ClassVar[Task] = CLASSIFICATION

    def _means_of_images(self, figures: np.ndarray) -> dict[str, float]:
        return {}

    def of_subset(self, name: str) -> dict[str, Any]:
        """The accuracy alone: a subset is a class, of which `all` tells the rest."""
        right = self.images["correct"][self.images["subset"] == name]
        return {"images": len(right), "accuracy": number(right.astype(float).mean())}


def no_foreground(confusion: np.ndarray) -> bool:
    """Whether the true pixels of a confusion matrix are all background."""
    return bool(confusion[0].any() and not confusion[1:].any())


def _of_class(values: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    return {name: values[f"class_{name}"][number] for name in OF_CLASSES if values}


def with_bounds(values: Mapping[str, Any], bounds: Mapping[str, Any]) -> dict[str, float | None]:
    """{name, name_low, name_high} of scores (floats) and their bounds ({name: (2,)}) as plain numbers."""
    row: dict[str, float | None] = {}
    for name, value in values.items():
        low, high = bounds.get(name, (math.nan, math.nan))
        row |= {name: number(value), f"{name}_low": number(low), f"{name}_high": number(high)}
    return row


def number(value: float) -> float | None:
    """A float, None for NaN."""
    return float(value) if math.isfinite(value) else None


def plain(rows: Iterable[Row]) -> list[Row]:
    """The rows without NaN, which JSON does not know."""
    return [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]


def evaluate_classes(
    predict: Predict, batches: Batches, tables: Mapping[str, pd.DataFrame], classes: Classes
) -> ClassEvaluation:
    """Counts every image of some tables; memory grows by a few numbers for each image and class.

    Args:
        predict: gives a probability of each class.
        batches: in the order of the tables and their rows.
        tables: {subset: DataFrame with the columns images and masks}.
        classes: of the masks.
    """
    names, counts, confusions = _count(_answers(predict, batches), tables, classes)
    images = pd.concat([names[["images", "masks", "subset"]], _mask_table(counts, classes)], axis=1)
    return ClassEvaluation(classes, list(tables), images, counts, confusions)


def evaluate_labels(
    predict: Predict, batches: Batches, tables: Mapping[str, pd.DataFrame], classes: Classes
) -> LabelEvaluation:
    """As `evaluate_classes`, of images that have a class as a whole: H and W of ids and answers are 1."""
    labels = []

    def remembered() -> Iterator[Answer]:
        for answer in _answers(predict, batches):
            labels.append(_label_row(*answer, classes))
            yield answer

    names, counts, confusions = _count(remembered(), tables, classes)
    figures = pd.DataFrame(labels, columns=list(LABEL_COLUMNS))
    images = pd.concat([names[["images", "subset"]], figures], axis=1)
    return LabelEvaluation(classes, list(tables), images, counts, confusions)


def _answers(predict: Predict, batches: Batches) -> Iterator[Answer]:
    """Yields of each image the uint8 (H, W) ids that are true and found, and the float32 (H, W, C)."""
    for photos, ids, _ in batches:
        for true, probability in zip(ids, predict(photos), strict=True):
            yield true[..., 0], probability.argmax(axis=-1).astype(np.uint8), probability


def _count(
    answers: Iterable[Answer], tables: Mapping[str, pd.DataFrame], classes: Classes
) -> tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]:
    """(rows of the tables with their subset, int64 (images, 3, C), {subset: int64 (C, C)})."""
    names = pd.concat([table.assign(subset=name) for name, table in tables.items()]).reset_index(drop=True)
    confusions: dict[str, np.ndarray] = {}
    counts: list[np.ndarray] = []
    for true, found, _ in answers:
        confusion = confusion_matrix(true, found, len(classes))
        subset = names["subset"][len(counts)]
        confusions[subset] = confusions.get(subset, 0) + confusion
        counts.append(marginals(confusion))
    return names, np.stack(counts) if counts else np.empty((0, 3, len(classes)), np.int64), confusions


def _mask_table(counts: np.ndarray, classes: Classes) -> pd.DataFrame:
    """The scores of each image: means over its classes, and the IoU of each."""
    scores = scores_of(counts)
    table = {name: scores[name] for name in (*OF_CLASSES, "accuracy")}
    of_classes = zip(classes.names, scores["class_iou"].T, strict=True)
    return pd.DataFrame(table | {f"iou_{name}": iou for name, iou in of_classes})


def _label_row(
    true: np.ndarray, found: np.ndarray, probability: np.ndarray, classes: Classes
) -> tuple[str, str, float, bool]:
    """What one image shows, what was found, how probable the truth was held to be, whether it was found."""
    label, answer = int(true[0, 0]), int(found[0, 0])
    return classes.names[label], classes.names[answer], float(probability[0, 0, label]), label == answer
