"""What the evaluation of a run says about what to do next: weak subsets and classes, false alarms, threshold.

Each rule takes the TrainConfig of the run and the figures of its report and yields its Advice, if any.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from segbalance.data_processing.tasks import CLEAN_IMAGES, SCORE_NAMES
from segbalance.evaluation.of_a_run import BEST_THRESHOLD
from segbalance.reports.sentences import Advice, Code, Figure, Part, option, points, quoted, with_interval
from segbalance.runtime.verbs import named, typed
from segbalance.train.config import TrainConfig

CLEAR_GAP = 0.05  # of a score below the mean of the others, from which a part is called weak
LOPSIDED = 0.1  # between misses and false finds, from which the one is called the typical fault
BLURRED = 0.2  # of boundary IoU below the IoU of the images
THRESHOLD_GAIN = 0.01  # of IoU, from which another threshold is worth a word
ALARM_COST = 0.005  # of IoU
WIDE = 0.1  # of an interval, from which more validation images are worth it
SMALL, FEW_WORST = 0.01, 5  # coverage of small objects; fewer bad images than this say nothing
BAD_IOU = 0.5
FEW = 0.2  # a share of misses or false finds up to which it is called small

Figures = Mapping[str, Any]
Row = Mapping[str, Any]


def weakest_subset(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """The subset with the lowest IoU, where it is clearly below the others, and its typical fault."""
    rows = {place: row for place, row in enumerate(figures["evaluation"]["subsets"]) if known(row, "iou")}
    if len(rows) < 2:
        return
    place = min(rows, key=lambda place: rows[place]["iou"])
    row = rows.pop(place)
    gap = fmean(other["iou"] for other in rows.values()) - row["iou"]
    if gap < CLEAR_GAP:
        return
    pointer = f"/evaluation/subsets/{place}"
    than = "subset " + next(iter(rows.values()))["subset"] if len(rows) == 1 else "the mean of the others"
    yield Advice(
        gap,
        (
            f"Subset {row['subset']} is the weakest: IoU ",
            *with_interval(pointer, "iou", row),
            f", {points(gap)} below {than}. ",
            *(subset_fault if config.kind.with_threshold else fault_of_classes)(
                config, pointer, row, figures
            ),
        ),
    )


def known(row: Row, score: str) -> bool:
    """Whether a row has the score; a subset without images or without foreground has none."""
    return row.get(score) is not None


def subset_fault(config: TrainConfig, pointer: str, row: Row, figures: Figures) -> Sequence[Part]:
    """The typical fault of a subset with one foreground, and what helps against it."""
    misses, false = 1 - row["recall"], 1 - row["precision"]
    more = more_draws(config, row["subset"])
    if misses - false > LOPSIDED:
        loss = () if "tversky" in (config.optimisation.loss or "") else (option("loss", "tversky"), " or ")
        rare = f"It misses {misses:.0%} of the foreground; {_only(false)} of what it finds is false. Try "
        return rare, *loss, more, "."
    if false - misses > LOPSIDED:
        data_root = quoted(figures["evaluation"].get("data_root") or config.data.data_root or "data")
        return (
            f"{false:.0%} of what it finds is false; it misses {_only(misses)}. Look for objects that its "
            "masks leave out, here in the gallery and with ",
            Code(f"{typed('doctor')} --data_root {data_root}"),
            ".",
        )
    if row["image_iou"] - row["boundary_iou"] > BLURRED:
        return (
            "The outlines are off: boundary IoU ",
            Figure(f"{pointer}/boundary_iou"),
            ", but ",
            Figure(f"{pointer}/image_iou"),
            f" over the whole masks. Train with larger photos than {config.network.image_size}: ",
            larger_images(config),
            ".",
        )
    both = f"It misses {misses:.0%} of the foreground, and {false:.0%} of what it finds is false. "
    return both, "Add photos of it, or draw it more often: ", more, "."


def _only(share: float) -> str:
    """`only 5%`, or a share that is not small without the word."""
    return f"only {share:.0%}" if share <= FEW else f"{share:.0%}"


def fault_of_classes(config: TrainConfig, pointer: str, row: Row, figures: Figures) -> Sequence[Part]:
    """The class that a subset with several classes is worst at."""
    scored = {number: own["iou"] for number, own in enumerate(row["classes"]) if known(own, "iou")}
    worst = min(scored, key=lambda number: scored[number])
    name = config.filled_in.classes[worst]
    return (
        f"Its worst class is {name}: IoU ",
        Figure(f"{pointer}/classes/{worst}/iou"),
        ". Draw the subset more often: ",
        more_draws(config, row["subset"]),
        ".",
    )


def more_draws(config: TrainConfig, subset: str) -> Code:
    """The option that draws a subset more often than the run did."""
    if config.balancing.balance not in ("uniform", "shares", "exact"):
        return option("balance", "uniform")
    shares = config.balancing.shares or {"default": 1}
    doubled = {subset: 2 * shares.get(subset, shares.get("default", 1))}
    way = "exact" if config.balancing.balance == "exact" else "shares"
    return Code(f"--balance {way} {option('shares', doubled | shares | doubled).text}")


def larger_images(config: TrainConfig) -> Code:
    """An image_size of about one and a half times the run's."""
    step = 48 if config.network.architecture == "pspnet" else 32
    return option("image_size", math.ceil(1.5 * config.network.image_size / step) * step)


def small_objects(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether small objects make up most of the worst images."""
    rows = [
        row
        for row in figures["evaluation"].get("worst", [])
        if (row.get("true_coverage") or 0) > 0 and row["iou"] < BAD_IOU
    ]
    small = [row for row in rows if row["true_coverage"] < SMALL]
    if len(rows) < FEW_WORST or 2 * len(small) < len(rows):
        return
    nothing = sum(row["found_coverage"] == 0 for row in small)
    yield Advice(
        CLEAR_GAP,
        (
            f"Small objects: in {len(small)} of the {len(rows)} worst images the foreground covers less than "
            f"{SMALL:.0%} of the photo; in {nothing} of these nothing is found. Train with ",
            larger_images(config),
            ", or predict in tiles with ",
            Code("--tile"),
            ".",
        ),
    )


def false_alarms(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """What false alarms in subsets without foreground cost."""
    alarms = figures["evaluation"].get("false_alarms")
    if alarms is None or alarms["iou_lost"] < ALARM_COST:
        return
    rows = {row["subset"]: row for row in figures["evaluation"]["subsets"] if CLEAN_IMAGES in row}
    worst = min(rows, key=lambda name: rows[name][CLEAN_IMAGES])
    yield Advice(
        alarms["iou_lost"],
        (
            "False alarms in photos without foreground cost ",
            Figure("/evaluation/false_alarms/iou_lost"),
            f" of the IoU. In subset {worst}, {1 - rows[worst][CLEAN_IMAGES]:.0%} of the photos have one. "
            "Add such photos to the training, or draw them more often: ",
            more_draws(config, worst),
            ".",
        ),
    )


def better_threshold(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Another threshold, where it would gain enough."""
    evaluation = figures["evaluation"]
    best = evaluation.get("best_threshold")
    if best is None or evaluation["all"]["iou"] is None:
        return
    gain = best["iou"] - evaluation["all"]["iou"]
    if gain < THRESHOLD_GAIN:
        return
    yield Advice(
        gain,
        (
            "At threshold ",
            Figure("/evaluation/best_threshold/threshold", "g"),
            f" the IoU would be {points(gain)} higher than at ",
            Figure("/evaluation/threshold", "g"),
            ". Predict with ",
            Code(
                f"{typed('predict')} --work_dir {quoted(config.run.work_dir or '')} --images <folder> "
                f"--threshold {BEST_THRESHOLD}"
            ),
            ".",
        ),
    )


def wide_interval(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether there are too few validation images to know the score."""
    score, row = config.kind.main, figures["evaluation"]["all"]
    if not known(row, score):
        return
    images = row["images"]
    several = f"{images} validation image{'' if images == 1 else 's'}"
    how = (
        "Add photos to the validation set: ",
        Code("--valid_fraction"),
        f" of {named('prepare')}, or valid/.",
    )
    if not known(row, f"{score}_low"):
        yield Advice(WIDE, (f"With {several} nobody knows how good the {SCORE_NAMES[score]} is. ", *how))
        return
    width = row[f"{score}_high"] - row[f"{score}_low"]
    if width < WIDE:
        return
    enough = math.ceil(images * (width / WIDE) ** 2)
    interval = Figure(f"/evaluation/all/{score}_low"), " and ", Figure(f"/evaluation/all/{score}_high")
    yield Advice(
        width / 4,
        (
            f"{several[0].upper()}{several[1:]} leave the {SCORE_NAMES[score]} anywhere between ",
            *interval,
            f"; about {enough} would narrow that to {points(WIDE)}. ",
            *how,
        ),
    )


def unscored_subsets(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Subsets that nobody can judge."""
    names = [row["subset"] for row in figures["evaluation"]["subsets"] if not row["images"]]
    if names:
        subsets = f"subset{'' if len(names) == 1 else 's'} {', '.join(names)}"
        how = (
            "Add some to the validation set: ",
            Code("--valid_fraction"),
            f" of {named('prepare')}, or valid/.",
        )
        yield Advice(WIDE, (f"No validation images, and so no scores: {subsets}. ", *how))
