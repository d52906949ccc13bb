"""Pairs that cannot be read any more: whether training stops, what takes their place, and the record of it.

A skipped draw takes its row from the next draw of its subset whose pair can be read; its sample seed stays
its own, for that draw comes too, and the two are not to be the same picture. The record tells by the number
of each skipped draw what took its place, so that a run can be gone on with and a sample drawn again whatever
has become of the files since.
"""

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from segbalance.errors import InputError, listing

WAYS = ("stop", "skip")
ADVICE = "Put the files back as they were when the manifests were made, or make the manifests again."
SKIP_ADVICE = (
    "--on_bad_file skip goes on with other images of the subset, though never in place of those of valid.csv."
)


class UnreadablePair(OSError):
    """A photo or mask is missing, cannot be decoded, or is not what the manifests say."""


class BadPair(NamedTuple):
    """A pair that could not be read.

    Args:
        subset: name of the subset.
        image, mask: paths of the files, as its row has them.
        csv_file, line: where its row stands, the first line being 1; "" and 0 where there is no manifest.
        reason: what is wrong, with the path.
    """

    subset: str
    image: str
    mask: str
    csv_file: str
    line: int
    reason: str

    def describe(self) -> str:
        """One line for people."""
        place = f"{self.csv_file} line {self.line}" if self.csv_file else f"image {self.image}"
        return f"{f'subset {self.subset}, ' if self.subset else ''}{place}: {self.reason}"


class SkippedDraw(NamedTuple):
    """A draw whose pair could not be read, and what took its place.

    Args:
        step, item: training step and place in its batch, counted from 0.
        draw: its number.
        position: of the draw among its subset's.
        replaced_by: position of the draw whose row took its place.
        subset, image, mask, csv_file, line, reason: of its BadPair.
    """

    step: int
    item: int
    draw: int
    position: int
    replaced_by: int
    subset: str
    image: str
    mask: str
    csv_file: str
    line: int
    reason: str


class BadFiles:
    """Decides what is done about pairs that cannot be read, and keeps the record. Threads may share one.

    Args:
        on_bad_file: one of WAYS.
        most: distinct images that are skipped, before training stops all the same.
    """

    def __init__(self, on_bad_file: str = "stop", most: int = 10) -> None:
        self.on_bad_file = on_bad_file
        self.most = most
        self._skips: dict[int, SkippedDraw] = {}  # {draw: SkippedDraw}
        self._found: dict[str, BadPair] = {}  # {image: BadPair} in the order in which they were met
        self._lock = threading.Lock()

    def position(self, draw: int, position: int) -> int:
        """Position of the draw whose row `draw`, its own position given, stands for."""
        skip = self._skips.get(draw)
        return position if skip is None else skip.replaced_by

    def skip(self, draw: int) -> SkippedDraw | None:
        """The SkippedDraw of that number, or None."""
        return self._skips.get(draw)

    def skips(self) -> list[SkippedDraw]:
        """The SkippedDraws in the order of training."""
        with self._lock:
            return sorted(self._skips.values())

    def meet(self, pair: BadPair) -> None:
        """Takes note of a BadPair, and warns of each image once.

        Raises:
            InputError: training is to stop.
        """
        if self.on_bad_file == "stop":
            raise InputError(f"{pair.describe()}\n{ADVICE} {SKIP_ADVICE}")
        with self._lock:
            new = self._found.setdefault(pair.image, pair) is pair
            found = list(self._found.values())
        number = [other.image for other in found].index(pair.image) + 1
        if number > self.most:
            raise InputError(
                f"images that cannot be read any more: {number}, more than --max_bad_files {self.most}\n"
                f"{self._listed(found[:number])}\n"
                "Put the files back as they were, or make the manifests again, or allow more --max_bad_files."
            )
        if new:
            print(
                f"\nwarning: {pair.describe()}; others of the subset take its place "
                f"({number} of at most {self.most} such images)",
                flush=True,
            )

    def give_up(self, subset: str) -> NoReturn:
        """Raises the InputError for a subset, by its name, of which nothing can be read."""
        with self._lock:
            own = [pair for pair in self._found.values() if pair.subset == subset]
        raise InputError(
            f"no image of subset {subset} can be read any more:\n{self._listed(own)}\n"
            "Put the files back as they were, or make the manifests again without them."
        )

    def _listed(self, pairs: Iterable[BadPair]) -> str:
        lines = [pair.describe() for pair in sorted(pairs)]
        return listing(lines, len(lines))

    def record(self, skip: SkippedDraw) -> None:
        """Keeps a SkippedDraw; of a draw that is skipped again, what takes its place now."""
        with self._lock:
            first = self._skips.get(skip.draw, skip)
            self._skips[skip.draw] = first._replace(replaced_by=skip.replaced_by)

    def state(self) -> dict[str, Any]:
        """All that was met and skipped so far, in the plain types of JSON."""
        with self._lock:
            skips, found = sorted(self._skips.values()), self._found.values()
            return {"skips": [list(skip) for skip in skips], "found": [list(pair) for pair in found]}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.replay(SkippedDraw(*values) for values in state["skips"])
        with self._lock:
            self._found = {pair.image: pair for pair in (BadPair(*values) for values in state["found"])}

    def replay(self, skips: Iterable[SkippedDraw]) -> None:
        """Takes the SkippedDraws of an earlier run over: what took their place then does so again."""
        with self._lock:
            self._skips = {skip.draw: skip for skip in skips}
            self._found = {}
            for skip in sorted(self._skips.values()):
                pair = BadPair(**{name: getattr(skip, name) for name in BadPair._fields})
                self._found.setdefault(pair.image, pair)
