"""What the evaluation of several classes, of pixels or of images, says about what to do next.

The rules take and yield what those of `score_advice` do.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from segbalance.data_processing.tasks import SCORE_NAMES
from segbalance.reports.score_advice import CLEAR_GAP, Figures, Row, known, more_draws
from segbalance.reports.sentences import Advice, Code, Figure, Part, option, points, with_interval
from segbalance.train.config import TrainConfig

OFTEN = 0.1  # of a class's pixels or images that are taken for one other class
PLACE = "/evaluation/all"


def never_found(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Classes that are there and never predicted."""
    rows = _rows(figures)
    missed = [number for number, row in enumerate(rows) if row["true_share"] and not row["found_share"]]
    if not missed:
        return
    names, share = _names(config, missed), sum(rows[number]["true_share"] for number in missed)
    yield Advice(
        len(missed) / len(rows),
        (
            f"{len(missed)} of {len(rows)} classes {'is' if len(missed) == 1 else 'are'} never found: {names}"
            f" ({_percent(share)} of the {config.kind.counted}). Try ",
            more_weight(config),
            ".",
        ),
    )


def weakest_class(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """The class with the lowest score of those that are found, and what it is taken for."""
    number = weakest(config, figures)
    if number is None:
        return
    score, rows = config.kind.class_score, _rows(figures)
    others = [row[score] for other, row in enumerate(rows) if other != number and known(row, score)]
    gap = fmean(others) - rows[number][score]
    if gap < CLEAR_GAP:
        return
    yield Advice(
        gap,
        (
            f"Class {config.filled_in.classes[number]} is the weakest: {SCORE_NAMES[score]} ",
            *with_interval(f"{PLACE}/classes/{number}", score, rows[number]),
            f", {points(gap)} below the mean of the others. ",
            *_fault(config, figures, number),
        ),
    )


def weakest(config: TrainConfig, figures: Figures) -> int | None:
    """The id of the class with the lowest score among those that are found; None for fewer than two."""
    score, rows = config.kind.class_score, _rows(figures)
    found = [number for number, row in enumerate(rows) if known(row, score) and row["found_share"]]
    return min(found, key=lambda number: rows[number][score]) if len(found) > 1 else None


def _fault(config: TrainConfig, figures: Figures, number: int) -> Sequence[Part]:
    """What a class is taken for, or how much of it is missed, and what helps against it."""
    other = _taken_for(figures, number)
    share = figures["evaluation"]["all"]["confusion_shares"][number][other]
    if share >= OFTEN:
        return (
            Figure(f"{PLACE}/confusion_shares/{number}/{other}", ".0%"),
            f" of its {config.kind.counted} are taken for {config.filled_in.classes[other]}. Check the "
            f"{'masks' if config.kind.with_masks else 'labels'} of both, then try ",
            more_weight(config, number),
            ".",
        )
    row = _rows(figures)[number]
    return (
        f"It misses {1 - row['recall']:.0%} of its {config.kind.counted}, and {1 - row['precision']:.0%} of "
        "what it finds is another class. Try ",
        more_weight(config, number),
        ".",
    )


def confused_pair(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """The most frequent confusion, but for those of the weakest class, which has a line of its own."""
    shares, skipped = figures["evaluation"]["all"].get("confusion_shares", []), weakest(config, figures)
    pairs = [(number, _taken_for(figures, number)) for number in range(len(shares)) if number != skipped]
    if not pairs:
        return
    true, found = max(pairs, key=lambda pair: shares[pair[0]][pair[1]])
    if shares[true][found] < OFTEN:
        return
    names = config.filled_in.classes
    yield Advice(
        shares[true][found] / len(shares),
        (
            Figure(f"{PLACE}/confusion_shares/{true}/{found}", ".0%"),
            f" of the {config.kind.counted} of {names[true]} are taken for {names[found]}. Look at both in "
            "the gallery, and add photos that show how they differ.",
        ),
    )


def more_weight(config: TrainConfig, number: int | None = None) -> Code:
    """The option that makes a class, or all rare ones, count more than in the run."""
    balancing = config.balancing
    if not config.kind.with_masks and number is not None:
        return more_draws(config, config.filled_in.classes[number])
    if not config.kind.with_masks and balancing.balance in ("none", "power"):
        return option("balance", "uniform")
    if config.kind.with_masks and balancing.balance in ("none", "loss") and balancing.loss_weights != "pixel":
        return option("balance", "pixel")
    if config.kind.with_masks and "pixel" not in (balancing.balance, balancing.loss_weights):
        return option("loss_weights", "pixel")
    return option("epochs", 2 * config.optimisation.epochs)


def _rows(figures: Figures) -> Sequence[Row]:
    rows: Sequence[Row] = figures["evaluation"]["all"].get("classes", [])
    return rows


def _taken_for(figures: Figures, number: int) -> int:
    """The other class that a class is most often taken for."""
    row = figures["evaluation"]["all"]["confusion_shares"][number]
    return max((other for other in range(len(row)) if other != number), key=lambda other: row[other])


def _names(config: TrainConfig, numbers: Sequence[int]) -> str:
    return ", ".join(config.filled_in.classes[number] for number in numbers)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"
