"""Scores that an evaluation has to reach, as in `iou=0.8 worst_iou=0.6`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, Task
from segbalance.errors import InputError

BELOW = 3  # exit status
WORST = "worst_"  # in front of a score: of the subset where it is lowest
OF_SUBSETS = {
    FOREGROUND: tuple(FOREGROUND.compared),
    CLASSES: tuple({**CLASSES.compared, **CLASSES.means}),
    CLASSIFICATION: (CLASSIFICATION.subset_order,),
}  # scores that the report has of each subset


@dataclass(frozen=True)
class Gate:
    """What one score has to be at least.

    Args:
        name: of the score, perhaps behind WORST.
        least: in [0, 1].
    """

    name: str
    least: float


def parse_gates(words: Sequence[str]) -> list[Gate]:
    """The gates of --fail_below. Raises InputError where one is not like iou=0.8."""
    return [_parse(word) for word in words]


def _parse(word: str) -> Gate:
    name, _, value = word.partition("=")
    try:
        gate = Gate(name, float(value))
    except ValueError:
        gate = Gate("", -1)
    if not gate.name or not 0 <= gate.least <= 1:
        raise InputError(
            f"fail_below {word!r}: expected the name of a score and a number from 0 to 1, as in iou=0.8"
        )
    return gate


def check_names(gates: Iterable[Gate], kind: Task) -> None:
    """Raises InputError where a task has no score of some name."""
    known = [*dict.fromkeys([*kind.compared, *kind.means]), *(WORST + name for name in OF_SUBSETS[kind])]
    unknown = [gate.name for gate in gates if gate.name not in known]
    if unknown:
        raise InputError(
            f"fail_below {', '.join(unknown)}: there is no such score of this run; known: {', '.join(known)}"
        )


def check_gates(gates: Iterable[Gate], report: Mapping[str, Any]) -> tuple[list[str], bool]:
    """(a line for each gate, whether all were passed) for what an evaluation writes as JSON.

    A score that the images do not tell is below every gate.
    """
    lines, passed = [], True
    for gate in gates:
        got, where = _score(gate.name, report)
        reached = got is not None and got >= gate.least
        passed = passed and reached
        value = "no number" if got is None else f"{got:.4f}{where}"
        lines.append(
            f"{gate.name}: got {value}, expected at least {gate.least:g}: {'passed' if reached else 'BELOW'}"
        )
    return lines, passed


def _score(name: str, report: Mapping[str, Any]) -> tuple[float | None, str]:
    """A score of the report, None where there is no number, and the subset that it is of, if any."""
    if not name.startswith(WORST):
        return report["all"][name], ""
    known = list(_known(report["subsets"], name.removeprefix(WORST)))
    if not known:
        return None, ""
    score, subset = min(known)
    return score, f" (subset {subset})"


def _known(subsets: Iterable[Mapping[str, Any]], name: str) -> Iterator[tuple[float, str]]:
    for row in subsets:
        if row.get(name) is not None:
            yield row[name], row["subset"]
