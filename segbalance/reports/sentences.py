"""Sentences of the report's advice: text, figures that name their source, and what to type."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from segbalance.reports.pages import look_up


class Figure(NamedTuple):
    """A number of the page: the JSON pointer to it, and its format."""

    pointer: str
    form: str = ".3f"


class Code(NamedTuple):
    """Something to type."""

    text: str


Part = str | Figure | Code


@dataclass(frozen=True)
class Advice:
    """One line of advice.

    Args:
        weight: how many points of the score are at stake, 0 to 1; the line with the highest comes first.
        parts: of the line, in order.
    """

    weight: float
    parts: tuple[Part, ...]

    def words(self, figures: Mapping[str, Any]) -> str:
        """The line as plain text, with the numbers of `figures`."""
        return "".join(_words(part, figures) for part in self.parts)


def _words(part: Part, figures: Mapping[str, Any]) -> str:
    if isinstance(part, Figure):
        return f"{look_up(figures, part.pointer):{part.form}}"
    return part.text if isinstance(part, Code) else part


def option(name: str, value: object) -> Code:
    """An option with its value as one types it; a dictionary as JSON."""
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return Code(f"--{name} {shlex.quote(text)}")


def with_interval(pointer: str, score: str, row: Mapping[str, Any]) -> tuple[Part, ...]:
    """A score and, where it is known, its interval: `0.412 (0.380 to 0.450)`."""
    value = Figure(f"{pointer}/{score}")
    if row.get(f"{score}_low") is None:
        return (value,)
    low, high = (Figure(f"{pointer}/{score}_{bound}") for bound in ("low", "high"))
    return value, " (", low, " to ", high, ")"


def points(share: float) -> str:
    """A difference of two scores in whole points of a hundred: `1 point`, `31 points`."""
    number = round(100 * share)
    return f"{number} point{'' if number == 1 else 's'}"


def quoted(*parts: str | Path) -> str:
    """A path as a word of the command line."""
    return shlex.quote(str(Path(*parts)))
