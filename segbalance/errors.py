"""Wrong input: one exception for it, and a collector that reports every finding at once."""

import re
from collections.abc import Sequence

SHOWN_IN_FULL = 10
# Control characters, which a terminal obeys, lone surrogates, and what turns the direction of writing.
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(Exception):
    """The user's input is wrong; commands print the message without traceback and end with status 2.

    The message says what is wrong, where, what was expected and what to do.
    """


def visible(text: object) -> str:
    """`text` with everything escaped that a name could fool the reader of a terminal with."""
    return HIDDEN.sub(lambda sign: sign[0].encode("unicode_escape").decode(), str(text))


def listing(items: Sequence[object], shown: int = SHOWN_IN_FULL) -> str:
    """Indented lines, the first `shown` in full and the rest counted."""
    lines = [f"  {visible(item)}" for item in items[:shown]]
    if len(items) > shown:
        lines.append(f"  ... and {len(items) - shown} more")
    return "\n".join(lines)


class Findings:
    """Collects everything that is wrong, so that one message reports it all.

    Each kind of finding has a headline, the places it was found at, and the way out.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def add(self, headline: str, place: object, advice: str) -> None:
        """Records one finding; `headline` is the sentence after the count, as in «3 images have no mask»."""
        self._kinds.setdefault((headline, advice), []).append(str(place))

    def kinds(self) -> list[tuple[str, tuple[str, ...], str]]:
        """(headline, places, advice) of each kind, in the order of their first findings."""
        return [(headline, tuple(places), advice) for (headline, advice), places in self._kinds.items()]

    def message(self) -> str:
        return "\n\n".join(
            f"{headline}: {len(places)}\n{listing(places)}\n{advice}"
            for (headline, advice), places in self._kinds.items()
        )

    def raise_if_any(self) -> None:
        """Raises InputError with every finding, or returns."""
        if self._kinds:
            raise InputError(self.message())
