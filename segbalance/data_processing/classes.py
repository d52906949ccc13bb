"""The classes of a data set: names and colours by id, and the id of what counts nowhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segbalance.errors import InputError, visible

IGNORED = 255  # id of pixels that are left out of the loss and of every score
MOST_CLASSES = 254  # ids 0 to 253; mask_encoding.py marks values without a name with 254
IGNORED_COLOUR = "#808080"


@dataclass(frozen=True)
class Classes:
    """Names and colours of at least two classes.

    Args:
        names: by id; 0 is the background in segmentation.
        colours: by id, "#rrggbb".
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]

    @classmethod
    def named(cls, names: Sequence[str], colours: Sequence[str]) -> "Classes | None":
        """The Classes of these names and colours; None without colours, of one foreground."""
        return cls(tuple(names), tuple(colours)) if colours else None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def rgb(self) -> np.ndarray:
        """uint8 (256, 3), the colour of each id, IGNORED_COLOUR where there is no class."""
        table = np.full((256, 3), rgb(IGNORED_COLOUR), np.uint8)
        table[: len(self)] = [rgb(colour) for colour in self.colours]
        return table

    def colour_masks(self, ids: np.ndarray) -> np.ndarray:
        """uint8 (..., H, W) class ids -> uint8 (..., H, W, 3) in their colours."""
        return self.rgb[ids]


def names_of(classes: Classes | None) -> tuple[str, ...]:
    """The names by id; none of background and foreground alone."""
    return classes.names if classes else ()


def colours_of(classes: Classes | None) -> tuple[str, ...]:
    """The colours by id, as far as `names_of`."""
    return classes.colours if classes else ()


def checked_classes(names: Sequence[str], colours: Sequence[str], source: str | Path) -> Classes:
    """Classes of names and colours that were read from somewhere.

    Raises:
        InputError: there are fewer than two or too many, names repeat, or a colour is none; `source` says
            where.
    """
    problems = []
    if not 2 <= len(names) <= MOST_CLASSES:
        problems.append(f"{len(names)} classes, expected 2 to {MOST_CLASSES}")
    if len(set(names)) < len(names):
        problems.append(f"classes that share a name: {', '.join(names)}")
    if any(visible(name) != name for name in names):
        problems.append(f"names with control characters: {', '.join(map(visible, names))}")
    if len(colours) != len(names):
        problems.append(f"{len(colours)} colours for {len(names)} classes")
    wrong = [colour for colour in colours if not re.fullmatch("#[0-9a-f]{6}", colour)]
    if wrong:
        problems.append(f"colours {', '.join(map(repr, wrong))}, expected #rrggbb")
    if problems:
        raise InputError(f"{source}: {'; '.join(problems)}")
    return Classes(tuple(names), tuple(colours))


def rgb(colour: str) -> tuple[int, ...]:
    """'#ff8000' -> (255, 128, 0)."""
    return tuple(bytes.fromhex(colour[1:]))


def usual_colour(class_id: int) -> str:
    """The colour of a class in the PASCAL VOC development kit (its VOClabelcolormap), "#rrggbb".

    The three lowest bits of the id are the highest of red, green and blue, the next three the second highest,
    and so on: 0 is black, and ids near each other look different.
    """
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            bit = class_id >> (3 * place + channel) & 1
            channels[channel] |= bit << (7 - place)
    return "#{:02x}{:02x}{:02x}".format(*channels)
