"""Progress of long work: a live bar on a terminal, in a log file a line every 30 seconds."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from segbalance.runtime.screen import is_quiet, is_terminal

LINE_SECONDS = 30.0  # between two lines of a log file
SHORT_SECONDS = 2.0  # work that takes less shows no bar


class ProgressLines(tqdm):
    """tqdm that prints whole lines, without carriage returns, and nothing at its end."""

    monitor_interval = 0  # no thread that prints in between

    def display(self, *arguments: Any, **options: Any) -> None:
        """Prints one line."""
        print(str(self).replace(",  ", ", "), file=sys.stderr, flush=True)

    def clear(self, *arguments: Any, **options: Any) -> None:
        """Nothing is to be wiped out."""

    def close(self) -> None:
        """Ends it without a line."""
        if not self.disable:
            self.disable = True
            self._decr_instances(self)  # type: ignore[attr-defined]  # its stub leaves it out


def progress_of(
    items: Iterable[Any] | None, description: str, total: int, unit: str, *, shown: bool = True
) -> "tqdm[Any]":
    """A tqdm over `items`, or to be told with `update()` where they are None; on standard error.

    Args:
        description: what goes on, as in `reading`.
        total: number of items.
        unit: what is counted, as in `photo`.
        shown: whether it says anything; nothing does under --quiet.
    """
    common: dict[str, Any] = {"desc": description, "total": total, "unit": f" {unit}"}
    common["disable"] = not shown or is_quiet()
    if is_terminal(sys.stderr):
        return tqdm(items, delay=SHORT_SECONDS, leave=False, **common)
    return ProgressLines(
        items,
        delay=LINE_SECONDS,
        mininterval=LINE_SECONDS,
        maxinterval=LINE_SECONDS,
        miniters=1,
        gui=True,  # tqdm's word for: draws itself
        bar_format="{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left",
        **common,
    )
