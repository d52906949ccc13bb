"""What to do next with a run: the lines at the top of its report, each worked out from this run's figures."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from segbalance.data_processing.tasks import SCORE_NAMES
from segbalance.reports import class_advice, score_advice, training_advice
from segbalance.reports.sentences import Advice, Code, Part, quoted, with_interval
from segbalance.runtime.verbs import typed
from segbalance.train.config import TrainConfig

MOST_LINES = 10

Rule = Callable[[TrainConfig, Mapping[str, Any]], Iterator[Advice]]

RULES: tuple[Rule, ...] = (
    training_advice.skipped_files,
    training_advice.hardly_learned,
    training_advice.overfitting,
    training_advice.still_improving,
    training_advice.single_epoch,
    training_advice.never_decayed,
    training_advice.no_progress,
    training_advice.random_encoder,
    training_advice.memorised,
    class_advice.never_found,
    class_advice.weakest_class,
    class_advice.confused_pair,
    score_advice.weakest_subset,
    score_advice.false_alarms,
    score_advice.better_threshold,
    score_advice.small_objects,
    score_advice.unscored_subsets,
    score_advice.wide_interval,
)


def next_steps(config: TrainConfig, figures: Mapping[str, Any]) -> list[Advice]:
    """At most MOST_LINES of Advice, the most important first; one line where no rule applies.

    Args:
        config: of the run.
        figures: of `run_figures`, with `evaluation`.
    """
    lines = [line for rule in RULES for line in rule(config, figures)]
    lines.sort(key=lambda line: -line.weight)
    return lines[:MOST_LINES] or [nothing_stands_out(config, figures)]


def nothing_stands_out(config: TrainConfig, figures: Mapping[str, Any]) -> Advice:
    """The line of a run in which no rule finds anything."""
    score, row = config.kind.main, figures["evaluation"]["all"]
    value: tuple[Part, ...] = ("unknown",)
    if row[score] is not None:
        value = with_interval("/evaluation/all", score, row)
    predict = f"{typed('predict')} --work_dir {quoted(config.run.work_dir or '')} --images <folder>"
    begin = f"Nothing stands out: the {SCORE_NAMES[score]} of {row['images']} validation images is "
    return Advice(0, (begin, *value, ". Try it on your own photos: ", Code(predict), "."))
