"""The table of the classes that a person writes: what each value in the mask files means.

A row names an id, its class and the colour or grey value that stands for it in the mask files. Where these
hold the ids themselves, as grey values or as places in a palette, the colour is for pictures alone.
"""

import collections
import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segbalance.data_processing.classes import IGNORED, MOST_CLASSES, Classes, usual_colour
from segbalance.data_processing.mask_encoding import MOST_VALUES, MaskEncoding, MaskSummary
from segbalance.errors import Findings, InputError, listing, visible

MOST_UNNAMED = 100  # values that an error lists

Named = tuple[str, int | str | None]  # the name of a class, and the first value that stands for it

_ADVICE = (
    "Expected id,name,colour with an id for each class from 0 (background) on, as in `1,nail,#ff0000`; the "
    "id of --ignore_index may be there too."
)


@dataclass(frozen=True)
class ClassTable:
    """What the table says.

    Args:
        values: ((grey value or "#rrggbb", id), ...) as written, IGNORED for the ignored id.
        classes: Classes.
        ignore_index: id that the person gave to what counts nowhere, or None.
    """

    values: tuple[tuple[int | str, int], ...]
    classes: Classes
    ignore_index: int | None = None

    @property
    def is_binary(self) -> bool:
        """True for foreground and background alone."""
        return len(self.classes) == 2 and self.ignore_index is None

    @property
    def most_values(self) -> int:
        """Distinct values up to which masks must be counted (`inspection.inspect_pairs`)."""
        return max(MOST_VALUES, len(self.values) + 1, len(self.classes) + 1)

    def encodings(self) -> list[MaskEncoding]:
        """The MaskEncodings that the table may stand for, the plainest first."""
        written = dict(self.values)
        kinds = {type(value) for value in written}
        ids = {number: number for number in range(len(self.classes))}
        if self.ignore_index is not None:
            ids[self.ignore_index] = IGNORED
        found = []
        if kinds == {str}:
            found.append(MaskEncoding("colours", self.values))
        elif kinds == {int}:
            if self.ignore_index is not None and IGNORED not in written.values():
                written = {self.ignore_index: IGNORED, **written}
            found += [MaskEncoding(kind, tuple(written.items())) for kind in ("values", "indices")]
        if kinds != {int}:
            found += [MaskEncoding(kind, tuple(ids.items())) for kind in ("values", "indices")]
        return found

    def encoding(self, summaries: Iterable[MaskSummary]) -> MaskEncoding:
        """The one of `encodings` that most masks fit, the plainest of several.

        Args:
            summaries: iterable of MaskSummary.
        """
        summaries = list(summaries)
        return max(self.encodings(), key=lambda one: sum(summary.fits(one) for summary in summaries))

    def checked_encoding(self, summaries: dict[str, MaskSummary], place: str) -> MaskEncoding:
        """The `encoding` of all masks.

        Args:
            summaries: {path of the mask: MaskSummary}.
            place: path of the table, for the error.

        Raises:
            InputError: masks hold values that the table does not name.
        """
        encoding = self.encoding(summaries.values())
        strays = [path for path, summary in summaries.items() if not summary.fits(encoding)]
        if strays:
            raise InputError(
                f"{len(strays)} masks hold values that --classes {place} does not name:\n"
                f"{listing([f'{path}  {_unnamed(summaries[path], encoding)}' for path in strays])}\n"
                f"in all: {_unnamed_in_all([summaries[path] for path in strays], encoding)}\n"
                "Add these values to the table, or correct the masks (lossy JPEG masks must be PNG)."
            )
        return encoding


def _unnamed(summary: MaskSummary, encoding: MaskEncoding) -> str:
    """The values of a mask that the encoding does not name, in words."""
    named = summary.named_values(encoding)
    if named is None:
        return "colours" if summary.values else "too many values for a table"
    return ", ".join(str(value) for value in sorted(named.keys() - dict(encoding.ids).keys()))


def _unnamed_in_all(summaries: Iterable[MaskSummary], encoding: MaskEncoding) -> str:
    """The values that the encoding does not name, with the number of masks that hold each."""
    found: collections.Counter[int | str] = collections.Counter()
    for summary in summaries:
        found.update((summary.named_values(encoding) or {}).keys() - dict(encoding.ids).keys())
    values = [f"{value} (in {found[value]})" for value in sorted(found)]
    more = f", and {len(values) - MOST_UNNAMED} more" if len(values) > MOST_UNNAMED else ""
    return ", ".join(values[:MOST_UNNAMED]) + more or "none that a table could name"


def read_classes(path: str | Path, ignore_index: int | None = None) -> ClassTable:
    """Reads the table of the classes: a CSV file with the columns id, name, colour.

    `colour` is "#rrggbb", a grey value 0..255, or nothing where the masks hold the ids; several colours may
    stand for one id.

    Args:
        ignore_index: id of pixels that count nowhere.

    Raises:
        InputError: every row that is wrong, by its line number.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or ()
            rows = dict([(reader.line_num, row) for row in reader])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--classes {path}: cannot be read ({error}); expected a CSV file") from None
    missing = {"id", "name", "colour"} - set(header)
    if missing:
        found = ", ".join(header) or "nothing"
        raise InputError(f"--classes {path}: the first line is {found}. {_ADVICE}")
    findings = Findings()
    values: dict[int | str, int] = {}
    names: dict[int, Named] = {}
    for line, row in rows.items():
        problem = _add_row(row, values, names, ignore_index)
        if problem:
            findings.add("rows of the classes that are wrong", f"{path} line {line}: {problem}", _ADVICE)
    findings.raise_if_any()
    return _checked_table(path, values, names, ignore_index)


def _add_row(
    row: Mapping[str, str | None],
    values: dict[int | str, int],
    names: dict[int, Named],
    ignore_index: int | None,
) -> str | None:
    """Adds a row to {value: id} and {id: (name, first value)}; returns what is wrong with it, or None."""
    text, name = (row.get("id") or "").strip(), (row.get("name") or "").strip()
    colour = (row.get("colour") or "").strip().lower()
    is_number = text.isascii() and text.isdecimal() and len(text) <= 3
    if not is_number or (int(text) >= MOST_CLASSES and int(text) != ignore_index):
        hint = "; or is it what --ignore_index should name?" if text == str(IGNORED) else ""
        return f"id is {text!r}, expected a number from 0 to {MOST_CLASSES - 1}{hint}"
    value: int | str | None
    if colour.isascii() and colour.isdecimal() and len(colour) <= 3 and int(colour) <= 255:
        value = int(colour)
    elif len(colour) == 7 and colour[0] == "#" and all(c in "0123456789abcdef" for c in colour[1:]):
        value = colour
    elif colour:
        return f"colour is {colour!r}, expected #rrggbb, a grey value 0..255 or nothing"
    else:
        value = None
    if value in values:
        return f"colour {colour} stands there twice"
    if visible(name) != name:
        return f"name is {visible(name)!r}, expected one without control characters"
    class_id = IGNORED if int(text) == ignore_index else int(text)
    first, shown = names.setdefault(class_id, (name, value))
    if first and name and first != name:
        return f"id {text} is {name!r}, but {first!r} in a row above; expected one name for an id"
    names[class_id] = first or name, shown
    if value is not None:
        values[value] = class_id
    return None


def _checked_table(
    path: str | Path, values: dict[int | str, int], names: dict[int, Named], ignore_index: int | None
) -> ClassTable:
    names.pop(IGNORED, None)
    ids = sorted(names)
    if len(ids) < 2 or ids != list(range(len(ids))):
        expected = f"each of 0 to {max([*ids, 1])}"
        raise InputError(f"--classes {path}: the ids are {ids}; expected {expected}. {_ADVICE}")
    if len({type(value) for value in values}) > 1:
        raise InputError(
            f"--classes {path} mixes grey values and #rrggbb colours; expected one of them. "
            "Write grey 128 as #808080."
        )
    without = [str(number) for number in ids if number not in values.values()]
    if values and without:
        raise InputError(
            f"--classes {path}: the ids {', '.join(without)} have no colour, but others do; expected one for "
            f"each, or for none. {_ADVICE}"
        )
    given = [name for name, _ in names.values() if name]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise InputError(
            f"--classes {path}: {', '.join(twice)} names several ids; expected a name for each. {_ADVICE}"
        )
    taken = IGNORED if ignore_index is None else values.get(ignore_index, IGNORED)
    if taken != IGNORED and IGNORED not in values.values():
        raise InputError(
            f"--classes {path}: the grey value {ignore_index} is class {taken}, but --ignore_index "
            f"{ignore_index} takes it for what counts nowhere. Give another --ignore_index, with a row of "
            "its grey value."
        )
    shown = [names[number][1] for number in ids]
    classes = Classes(
        tuple(names[number][0] or f"class {number}" for number in ids),
        tuple(
            colour if isinstance(colour, str) else usual_colour(number) for number, colour in enumerate(shown)
        ),
    )
    return ClassTable(tuple(values.items()), classes, ignore_index)
