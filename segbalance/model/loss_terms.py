"""The loss as text: a sum of named terms, each with a factor or without, as in `0.5*dice+1*focal`."""

import math

from segbalance.data_processing.tasks import FOREGROUND
from segbalance.errors import InputError

LOSSES = ("dice", "jaccard", "focal", "bce", "tversky")
DEFAULT_LOSS = FOREGROUND.loss


def loss_terms(text: str) -> list[tuple[float, str]]:
    """'0.5*dice+focal' -> [(0.5, "dice"), (1.0, "focal")].

    Raises:
        InputError: it is no such sum, or names an unknown loss, or one twice.
    """
    terms = [_term(part, text) for part in text.split("+")]
    names = [name for _, name in terms]
    twice = [name for name in LOSSES if names.count(name) > 1]
    if twice:
        raise InputError(f"loss {text!r} names {', '.join(twice)} twice; give one factor for both")
    return terms


def _term(part: str, text: str) -> tuple[float, str]:
    factor, star, name = part.rpartition("*")
    name = name.strip()
    if name not in LOSSES:
        raise InputError(
            f"loss {text!r}: {name!r} is unknown; expected one of {', '.join(LOSSES)}, or a sum of them such "
            f"as {DEFAULT_LOSS} or 0.5*dice+1*focal"
        )
    return (_factor(factor, name, text) if star else 1.0), name


def _factor(words: str, name: str, text: str) -> float:
    try:
        factor = float(words)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise InputError(
            f"loss {text!r}: the factor of {name} must be a number greater than 0, got {words.strip()!r}"
        )
    return factor
