"""What the curves and the draws of a run say about what to do next: too long, too short, too often the same.

The rules take and yield what those of `score_advice` do.
"""

import math
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from segbalance.balancing.ledger import SKIPPED
from segbalance.data_processing.tasks import SCORE_NAMES
from segbalance.reports.score_advice import Figures
from segbalance.reports.sentences import Advice, Code, Figure, Part, option, points, quoted
from segbalance.runtime.verbs import typed
from segbalance.train.config import TrainConfig

LOSS_ROSE = 0.1  # of the lowest validation loss, from which it counts as risen
FEWEST_EPOCHS = 3  # after the lowest validation loss; fewer may be noise
STILL_RISING = 0.01  # of the score over the last quarter of the run
HARDLY_FELL = 0.05  # of the training loss of the first epoch
IDLE_EPOCHS = 5  # without a better score, and at least a quarter of the run
GOOD = 0.9  # of a score that random initial weights have not held back
OFTEN_DRAWN, OFTENER = 100, 3  # draws of each image, and times the median of the subsets
WARM_UP_WEIGHT, FAILED_WEIGHT, SMALL_WEIGHT = 0.2, 0.5, 0.02  # where no score tells what is at stake

Row = Mapping[str, Any]


def overfitting(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether the validation loss has risen while the training loss fell."""
    history = figures["history"]
    lowest, last = _lowest(history, "val_loss"), len(history) - 1
    if lowest is None or not _overfits(history, lowest):
        return
    score = f"val_{config.kind.main}"
    fallen = max((row[score] or 0) for row in history) - (history[last][score] or 0)
    epoch = history[lowest]["epoch"]
    yield Advice(
        0.05 + fallen,
        (
            f"Overfitting: since epoch {epoch:.0f} the validation loss has risen from ",
            *_from_to(lowest, last, "val_loss"),
            ", while the training loss fell from ",
            *_from_to(lowest, last, "loss"),
            ". Add photos, or try ",
            *_against_overfitting(config),
            ".",
        ),
    )


def _overfits(history: list[Row], lowest: int) -> bool:
    """Whether the losses part after the row of the lowest validation loss."""
    first, last = history[lowest], history[-1]
    since = len(history) - 1 - lowest
    if since < max(FEWEST_EPOCHS, len(history) / 10) or not _finite(last, "val_loss", "loss"):
        return False
    return last["val_loss"] >= (1 + LOSS_ROSE) * first["val_loss"] and last["loss"] < first["loss"]


def _lowest(history: list[Row], column: str) -> int | None:
    """Number of the row with the lowest value, None where there is none."""
    known = [number for number, row in enumerate(history) if _finite(row, column)]
    return min(known, key=lambda number: history[number][column], default=None)


def _finite(row: Row, *columns: str) -> bool:
    return all(row[column] is not None and math.isfinite(row[column]) for column in columns)


def _from_to(first: int, last: int, column: str) -> tuple[Part, ...]:
    return Figure(f"/history/{first}/{column}"), " to ", Figure(f"/history/{last}/{column}")


def _against_overfitting(config: TrainConfig) -> tuple[Part, ...]:
    """Stronger transforms where there are such, or else more weight decay."""
    if isinstance(config.data.transforms, dict) and set(config.data.transforms.values()) <= {"strong"}:
        return (option("weight_decay", f"{10 * config.optimisation.weight_decay:g}"),)
    return (option("transforms", {"default": "strong"}),)


def still_improving(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether the score was still rising when the run ended."""
    history, score = figures["history"], f"val_{config.kind.main}"
    epochs, best = len(history), figures["metrics"]["epoch"]
    before = history[max(0, epochs - 1 - epochs // 4 - (epochs < 4))]
    if epochs < 2 or best < epochs - epochs // 10 or not _finite(before, score):
        return
    rise = history[-1][score] - before[score]
    if rise < STILL_RISING:
        return
    since = epochs - before["epoch"]
    yield Advice(
        rise,
        (
            f"Still improving: epoch {best:.0f} of {epochs} is the best, and the {_name(config)} rose by "
            f"{points(rise)} in the last {_epochs(since)}. Train longer: ",
            option("epochs", 2 * epochs),
            ".",
        ),
    )


def _name(config: TrainConfig) -> str:
    return SCORE_NAMES[config.kind.main]


def _epochs(count: float) -> str:
    return "epoch" if count == 1 else f"{count:.0f} epochs"


def single_epoch(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """A run that has no curves yet."""
    if len(figures["history"]) == 1:
        yield Advice(
            WARM_UP_WEIGHT,
            (
                f"The run has one epoch of {config.optimisation.steps_per_epoch} steps, so its curves say "
                "nothing yet. Train longer: ",
                option("epochs", 20),
                ".",
            ),
        )


def no_progress(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether the end of the run brought nothing, without overfitting."""
    history, best = figures["history"], figures["metrics"]["epoch"]
    idle, lowest = len(history) - best, _lowest(history, "val_loss")
    if idle < max(IDLE_EPOCHS, len(history) / 4) or (lowest is not None and _overfits(history, lowest)):
        return
    yield Advice(
        SMALL_WEIGHT,
        (
            f"The {_name(config)} has not risen for {_epochs(idle)}, since epoch {best:.0f} of {len(history)}"
            ". More epochs will not help; save the time with ",
            option("patience", max(1, round(idle / 2))),
            ".",
        ),
    )


def hardly_learned(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether the training loss has not fallen, or is no number."""
    history = figures["history"]
    if len(history) < FEWEST_EPOCHS:
        return
    rate, last = config.optimisation.learning_rate, len(history) - 1
    if not _finite(history[-1], "loss") or not _finite(history[0], "loss"):
        broken: Part = f"The training loss is not a number after {_epochs(len(history))}. Lower the rate: "
        yield Advice(1, (broken, option("learning_rate", f"{rate / 10:g}"), "."))
        return
    first, end = history[0]["loss"], history[-1]["loss"]
    if end > (1 - HARDLY_FELL) * first:
        rate = rate / 10 if end > first else rate * 3
        yield Advice(
            FAILED_WEIGHT,
            (
                "The network has hardly learned: the training loss went from ",
                *_from_to(0, last, "loss"),
                f" in {_epochs(len(history))}. Try ",
                option("learning_rate", f"{rate:g}"),
                ".",
            ),
        )


def never_decayed(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether the warm-up took the whole run."""
    history, warmup = figures["history"], config.optimisation.warmup_epochs
    if len(history) < 2 or warmup < len(history):
        return
    yield Advice(
        WARM_UP_WEIGHT,
        (
            f"The warm-up of {warmup:.0f} epochs took all {len(history)} epochs, so the learning rate never "
            "came down. Train longer, or set ",
            option("warmup_epochs", 1),
            ".",
        ),
    )


def random_encoder(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Whether the encoder began with random weights, and the score leaves room."""
    value = figures["evaluation"]["all"][config.kind.main]
    if config.network.encoder_weights != "none" or value is None or value >= GOOD:
        return
    yield Advice(
        (GOOD - value) / 4,
        (
            f"The encoder began with random weights, and the {_name(config)} is ",
            Figure(f"/evaluation/all/{config.kind.main}"),
            ". Begin with trained ones: ",
            option("encoder_weights", "imagenet"),
            ".",
        ),
    )


def memorised(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """The subset whose few images the network has seen far more often than the others'."""
    # Where an image comes twice in an epoch, all of its subset come once, so `images` is all of them.
    rows = [row for row in figures["shares"]["subsets"] if row["images"]]
    often = [row["draws"] / row["images"] for row in rows]
    usual = median(often)
    number = max(range(len(rows)), key=lambda number: often[number])
    row, most = rows[number], often[number]
    if row["max_repeats"] < 2 or most < max(OFTEN_DRAWN, OFTENER * usual):
        return
    place = figures["shares"]["subsets"].index(row)
    transforms = {row["subset"]: "strong", "default": "train"}
    yield Advice(
        0.05,
        (
            f"The network may have learned subset {row['subset']} by heart: each of its ",
            Figure(f"/shares/subsets/{place}/images", ".0f"),
            f" photos was drawn {most:.0f} times; in the median subset {usual:.0f} times. "
            "Add photos, or try ",
            option("transforms", transforms),
            ".",
        ),
    )


def skipped_files(config: TrainConfig, figures: Figures) -> Iterator[Advice]:
    """Training images that could not be read."""
    skipped = {row["subset"]: row["skipped"] for row in figures["shares"]["subsets"] if row.get("skipped")}
    if not skipped:
        return
    draws = sum(skipped.values())
    data_root = quoted(figures["evaluation"].get("data_root") or config.data.data_root or "data")
    yield Advice(
        1,
        (
            f"{draws} draw{'' if draws == 1 else 's'} of subset{'' if len(skipped) == 1 else 's'} "
            f"{', '.join(skipped)} hit files that cannot be read; {SKIPPED} in the run folder names them. "
            "Replace them, then check the data: ",
            Code(f"{typed('doctor')} --data_root {data_root}"),
            ".",
        ),
    )
