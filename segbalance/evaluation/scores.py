"""Scores of masks against the truth: over the data, of each subset and image, with intervals and thresholds.

Pixels are counted at the model's input size, as for `val_iou` in history.csv. Where nothing is to be found
and nothing was found, a score is 1; any other 0 / 0 is 0 (`metrics.scores`). Tables without images have none.
A subset without any foreground has the scores of its false alarms instead (`model.false_alarms`).
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd

from segbalance.data_processing.tasks import CLEAN_IMAGES, FALSE_ALARMS, POOLED
from segbalance.model.metrics import THRESHOLD, scores

THRESHOLDS = np.arange(1, 100) / 100
BOUNDARY_WIDTH = 0.02  # of the picture's diagonal
RESAMPLES = 2000
CONFIDENCE = 0.95
RESAMPLED_AT_ONCE = 10**6  # images, so that memory stays bounded
WORST = 20
EXAMPLES = 3  # best, median and worst images shown of each subset

MEANS = {
    "image_iou": "iou",
    "boundary_iou": "boundary_iou",
}  # {score: column of the images it is the mean of}
COUNTS = ["true_positives", "false_positives", "false_negatives"]
EMPTY_RULE = "nothing to find and nothing found scores 1, any other 0/0 scores 0"

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 (B, S, S, 3) photos -> float32 (B, S, S, C)
# uint8 (B, S, S, 3) photos, uint8 (B, S, S, 1) class ids, numbers of the subsets.
Batches = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]
Row = dict[Hashable, Any]  # of a table, by column
Examples = dict[str, list[Row]]  # {kind: rows of images} of a subset


def pooled_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`metrics.scores` as NumPy arrays: counts (..., 3) -> {name: float64 (...)}."""
    return {name: value.numpy() for name, value in scores(counts).items()}


def threshold_counts(mask: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Counts of one image at every threshold; a pixel is found where its probability is greater.

    Args:
        mask: bool (H, W).
        probability: float32 (H, W) in [0, 1].

    Returns:
        int64 (thresholds, 3): true positives, false positives, false negatives.
    """
    # Of each pixel, how many thresholds lie below its probability.
    below = np.searchsorted(THRESHOLDS.astype(np.float32), probability.ravel())
    inside, outside = (
        np.bincount(below[part.ravel()], minlength=len(THRESHOLDS) + 1) for part in (mask, ~mask)
    )
    true, false = (np.cumsum(part[::-1])[::-1][1:] for part in (inside, outside))
    return np.stack([true, false, inside.sum() - true], axis=-1)


def boundary_iou(mask: np.ndarray, found: np.ndarray) -> float:
    """IoU within a band along the outlines of two masks (Cheng et al. 2021, Boundary IoU, CVPR).

    The band lies inside of each mask and is 2 % of the picture's diagonal wide; where a mask touches the edge
    of the picture, that is its outline too. 1 where both masks are empty.

    Args:
        mask, found: bool (H, W).

    Returns:
        in [0, 1].
    """
    width = max(1, round(BOUNDARY_WIDTH * math.hypot(*mask.shape)))
    true_band, found_band = _band(mask, width), _band(found, width)
    either = np.count_nonzero(true_band | found_band)
    return np.count_nonzero(true_band & found_band) / either if either else 1.0


def _band(mask: np.ndarray, width: int) -> np.ndarray:
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (inner == 0)


def intervals(counts: np.ndarray, figures: np.ndarray) -> np.ndarray | None:
    """Percentile bootstrap intervals over images (Efron and Tibshirani 1993, chapter 13).

    Whole images are drawn with replacement, since pixels of one image are not independent. The same input
    gives the same intervals.

    Args:
        counts: int64 (images, 3).
        figures: float64 (images, means), whose means are scores too.

    Returns:
        float64 (scores, 2), the bounds of the middle 95 %: POOLED first, then the means. None for fewer than
        two images, which tell nothing about others.
    """
    if len(counts) < 2:
        return None

    def statistic(*samples: np.ndarray, axis: int) -> np.ndarray:
        totals = np.stack([part.sum(axis=axis) for part in samples[:3]], axis=-1)
        means = [part.mean(axis=axis) for part in samples[3:]]
        return np.stack([*pooled_scores(totals).values(), *means])

    return _resampled((*np.asarray(counts, np.float64).T, *np.asarray(figures, np.float64).T), statistic)


def _resampled(samples: Sequence[np.ndarray], statistic: Callable[..., np.ndarray]) -> np.ndarray:
    """float64 (..., 2): the bounds of a statistic of paired samples (images,)."""
    from scipy.stats import bootstrap  # takes a second to import

    bounds = bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        batch=max(1, RESAMPLED_AT_ONCE // len(samples[0])),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return np.stack([bounds.low, bounds.high], axis=-1)


def alarm_scores(found: np.ndarray, pixels: np.ndarray) -> dict[str, float | None]:
    """FALSE_ALARMS of images without foreground, plain numbers: each with `_low` and `_high`.

    The interval of the share of images is Wilson's (1927), which holds where all of few images are clean;
    that of the share of pixels a bootstrap over images, as in `intervals`. None for fewer than two images.

    Args:
        found, pixels: integers (images,), pixels falsely found and all that count. Images in which none
            counts are left out.
    """
    from scipy.stats import binomtest  # takes a second to import

    found, pixels = found[pixels > 0], pixels[pixels > 0]
    images, clean = len(found), int(np.count_nonzero(found == 0))
    bounds: list[Sequence[float | None]] = [(None, None)] * 2
    if images > 1:
        wilson = binomtest(clean, images).proportion_ci(CONFIDENCE, "wilson")
        share = _resampled((found, pixels), lambda some, all_, axis: some.sum(axis) / all_.sum(axis))
        bounds = [(float(wilson.low), float(wilson.high)), share.tolist()]
    values = clean / images, float(found.sum() / pixels.sum())
    row: dict[str, float | None] = {}
    for name, value, (low, high) in zip(FALSE_ALARMS, values, bounds, strict=True):
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def alarm_loss(rows: Iterable[Mapping[str, Any]], iou: float, without: float) -> dict[str, Any]:
    """What the IoU of all images loses by false alarms in subsets without foreground; {} without such.

    Args:
        rows: of the subsets.
        iou: of all images.
        without: the same if nothing were found in these subsets.
    """
    empty = [row for row in rows if CLEAN_IMAGES in row]
    if not empty:
        return {}
    subsets, images = [row["subset"] for row in empty], sum(row["images"] for row in empty)
    lost = {"iou_without": without, "iou_lost": without - iou}
    return {"false_alarms": {"subsets": subsets, "images": images} | lost}


def weakest_first(rows: Iterable[dict[str, Any]], score: str) -> list[dict[str, Any]]:
    """The subsets by their score, then those without foreground by theirs, then those without images."""
    return sorted(
        rows,
        key=lambda row: [math.inf if row.get(name) is None else row[name] for name in (score, CLEAN_IMAGES)],
    )


@dataclass(frozen=True)
class Evaluation:
    """What was counted.

    Args:
        subsets: names, of subsets without images too.
        images: DataFrame, a row an image: images, masks, subset, iou, f1, precision, recall, boundary_iou,
            true_coverage, found_coverage, and COUNTS.
        counts: int64 (thresholds, 3), those of all images together at every one of THRESHOLDS.
        threshold: above which a pixel counts as found.
        pixels: of an image.
    """

    subsets: list[str]
    images: pd.DataFrame
    counts: np.ndarray
    threshold: float
    pixels: int

    def curve(self) -> list[dict[str, float]]:
        """Scores of all images together at every threshold."""
        rows = pooled_scores(self.counts)
        return [
            {"threshold": float(threshold)} | {name: float(rows[name][place]) for name in POOLED}
            for place, threshold in enumerate(THRESHOLDS)
        ]

    def examples(self, subset: str) -> Examples:
        """The worst, median and best images of a subset, none of them twice."""
        own = self.images[self.images["subset"] == subset]
        if no_foreground(own):
            return spread_examples(own.sort_values("found_coverage", ascending=False, kind="stable"))
        return spread_examples(own.sort_values(["iou", "true_coverage"]))

    def of_subset(self, name: str) -> dict[str, Any]:
        """What the report has of a subset."""
        own = self.images[self.images["subset"] == name]
        if not no_foreground(own):
            return summary(own)
        found = own["false_positives"].to_numpy()
        return summary(own[:0]) | {"images": len(own)} | alarm_scores(found, np.full(len(own), self.pixels))

    def report(self) -> dict[str, Any]:
        """All scores in plain types, the weakest subset first: what is written as JSON."""
        rows = [{"subset": name} | self.of_subset(name) for name in self.subsets]
        everything, curve = summary(self.images), self.curve()
        with_foreground = [row["subset"] for row in rows if CLEAN_IMAGES not in row]
        counts = self.images.loc[self.images["subset"].isin(with_foreground), COUNTS].to_numpy().sum(axis=0)
        worst = self.images.sort_values("iou", kind="stable").head(WORST)
        return {
            "threshold": self.threshold,
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "empty_masks": EMPTY_RULE,
            "all": everything,
            **alarm_loss(rows, everything["iou"], float(pooled_scores(counts)["iou"])),
            "subsets": weakest_first(rows, "iou"),
            # Of several thresholds with the same IoU, the one nearest to the usual.
            "best_threshold": max(curve, key=lambda row: (row["iou"], -abs(row["threshold"] - THRESHOLD))),
            "curve": curve,
            "worst": worst.to_dict("records"),
            "examples": {name: self.examples(name) for name in self.subsets},
        }


def no_foreground(images: pd.DataFrame) -> bool:
    """Whether there are images, and the truth of none has foreground."""
    return len(images) > 0 and not images[["true_positives", "false_negatives"]].to_numpy().any()


def spread_examples(order: pd.DataFrame) -> Examples:
    """{worst, median, best}: the first, middle and last rows, none twice."""
    count, some = len(order), max(1, min(EXAMPLES, len(order) // 3))
    start = (count - some) // 2
    places = {
        "worst": range(some),
        "median": range(start, start + some),
        "best": range(count - 1, count - 1 - some, -1),
    }
    chosen: Examples = {}
    shown: set[int] = set()
    for kind in ("worst", "best", "median"):
        own = [place for place in places[kind] if 0 <= place < count and place not in shown]
        shown |= set(own)
        chosen[kind] = order.iloc[own].to_dict("records")
    return {kind: chosen[kind] for kind in places}


def summary(images: pd.DataFrame) -> dict[str, Any]:
    """Scores of some rows of `Evaluation.images`, plain numbers: each with `_low` and `_high`.

    Without images, all but their number are None; the bounds are for fewer than two.
    """
    names = [*POOLED, *MEANS]
    values: dict[str, Any] = dict.fromkeys(names)
    bounds = None
    if len(images):
        counts, figures = images[COUNTS].to_numpy(), images[list(MEANS.values())]
        values = pooled_scores(counts.sum(axis=0)) | dict(zip(MEANS, figures.mean(), strict=True))
        values = {name: float(value) for name, value in values.items()}
        bounds = intervals(counts, figures.to_numpy())
    row: dict[str, Any] = {"images": len(images)}
    for place, name in enumerate(names):
        low, high = (None, None) if bounds is None else bounds[place].tolist()
        row |= {name: values[name], f"{name}_low": low, f"{name}_high": high}
    return row


def evaluate(
    predict: Predict, batches: Batches, tables: Mapping[str, pd.DataFrame], threshold: float = THRESHOLD
) -> Evaluation:
    """Counts every image of some tables; memory grows by a few numbers an image.

    Args:
        predict: gives probabilities of the foreground: C is 1.
        batches: in the order of the tables and their rows.
        tables: {subset: DataFrame with the columns images and masks}.
    """
    counts = np.zeros((len(THRESHOLDS), 3), np.int64)
    rows, pixels = [], 0
    for photos, masks, _ in batches:
        for mask, probability in zip(masks, predict(photos), strict=True):
            mask, probability = mask[..., 0] > 0, probability[..., 0]
            counts += threshold_counts(mask, probability)
            pixels = mask.size
            rows.append(_image_row(mask, probability > np.float32(threshold)))
    names = pd.concat([table[["images", "masks"]].assign(subset=name) for name, table in tables.items()])
    figures = pd.DataFrame(rows, columns=[*COUNTS, "boundary_iou", "true_coverage", "found_coverage"])
    own = pd.DataFrame(pooled_scores(figures[COUNTS].to_numpy()))
    images = pd.concat([names.reset_index(drop=True), own, figures], axis=1)
    columns = ["images", "masks", "subset", *POOLED, "boundary_iou", "true_coverage", "found_coverage"]
    return Evaluation(list(tables), images[[*columns, *COUNTS]], counts, threshold, pixels)


def _image_row(mask: np.ndarray, found: np.ndarray) -> tuple[float, ...]:
    """COUNTS, Boundary IoU and both coverages of one image, bool (H, W) each."""
    both, there, claimed = (int(np.count_nonzero(part)) for part in (mask & found, mask, found))
    coverages = there / mask.size, claimed / mask.size
    return both, claimed - both, there - both, boundary_iou(mask, found), *coverages
