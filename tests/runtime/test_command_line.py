"""Exit statuses of commands, and options from a dataclass."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from segbalance.errors import Findings, InputError, listing
from segbalance.runtime.command_line import DONE, FAILED, INTERRUPTED, WRONG_INPUT, command, parse_options
from tests.support.places import ROOT


@dataclass(frozen=True)
class Options:
    """Options for the tests.

    Args:
        root: Where it is.
        count: How many.
        mode: Which way.
        quiet: Say nothing.
        device: The devices.
    """

    root: str
    count: int = 3
    mode: Literal["slow", "fast"] = "slow"
    quiet: bool = False
    device: list[int] = field(default_factory=list)

    def __post_init__(self):
        if self.count < 1:
            raise InputError(f"count must be at least 1, got {self.count}")


def parse(*words, **more):
    return parse_options(Options, list(words), prog="tool", description="A tool.", **more)


@pytest.mark.parametrize(
    "raised, status, message",
    [
        (None, DONE, ""),
        (InputError("no such folder"), WRONG_INPUT, "error: no such folder\n"),
        (KeyboardInterrupt(), INTERRUPTED, "\ninterrupted\n"),
        (SystemExit(0), DONE, ""),
        (SystemExit(2), WRONG_INPUT, ""),
    ],
)
def test_exit_status_and_message(raised, status, message, capsys):
    @command
    def main(argv):
        if raised is not None:
            raise raised

    assert main([]) == status
    assert capsys.readouterr().err == message


def test_unexpected_failure_shows_its_traceback(capsys):
    @command
    def main(argv):
        raise RuntimeError("the disk melted")

    assert main([]) == FAILED
    message = capsys.readouterr().err
    assert message.startswith("Traceback") and message.endswith("RuntimeError: the disk melted\n")


def test_main_takes_words_of_any_type_and_the_command_line_by_default(monkeypatch):
    seen = []
    main = command(seen.append)
    monkeypatch.setattr("sys.argv", ["tool", "--x"])
    assert main([1, "two"]) == main() == DONE
    assert seen == [["1", "two"], ["--x"]]


def test_options_have_the_dataclass_defaults_and_types():
    assert parse("--root", "d") == Options("d")
    words = ["--root", "7", "--count=5", "--mode", "fast", "--quiet", "true", "--device", "0", "1"]
    assert parse(*words) == Options("7", 5, "fast", True, [0, 1])


@pytest.mark.parametrize("words, quiet", [([], False), (["--quiet"], True), (["--quiet", "False"], False)])
def test_a_switch_stands_alone_or_with_its_value(words, quiet):
    assert parse(*words, "--root", "d").quiet is quiet


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "the following arguments are required: --root"),
        (["--root"], "argument --root: expected one argument"),
        (["--root", "d", "--nope", "1"], "unrecognized arguments: --nope 1"),
        (["--root", "d", "--cou", "1"], "unrecognized arguments: --cou 1; did you mean --count?"),
        (["--root", "d", "stray"], "unrecognized arguments: stray"),
        (["--root", "d", "--count", "x"], "--count: Expected int. Got value: x"),
        (["--root", "d", "--mode", "x"], "--mode: Expected one of 'slow', 'fast'. Got value: x"),
        (["--root", "d", "--conut", "3"], "unrecognized arguments: --conut 3; did you mean --count?"),
        (["--count", "3"], "the following arguments are required: --root"),
        (["--root", "d", "--quiet", "x"], "--quiet: Expected bool. Got value: x"),
    ],
)
def test_wrong_words_are_answered_in_the_words_of_the_command_line(words, message):
    with pytest.raises(InputError) as caught:
        parse(*words)
    assert str(caught.value) == f"{message}\nSee `tool --help` for the options."


def test_what_the_dataclass_refuses_is_wrong_input():
    with pytest.raises(InputError, match="^count must be at least 1, got 0$"):
        parse("--root", "d", "--count", "0")


def test_stored_values_give_options_and_the_command_line_overrides_them():
    stored = {"root": "from_file", "count": "9", "device": [1]}
    assert parse(stored=stored) == Options("from_file", 9, device=[1])
    assert parse("--count", "2", stored=stored).count == 2


@pytest.mark.parametrize(
    "stored, message",
    [
        ({"root": "d", "nope": 1}, "Option 'nope' is not accepted"),
        ({"root": "d", "count": "x"}, "--count: Expected int. Got value: x"),
        ({"root": "d", "device": 1}, "--device: expected a list, got 1; write [1]"),
    ],
)
def test_wrong_stored_values_are_wrong_input(stored, message):
    with pytest.raises(InputError) as caught:
        parse(stored=stored)
    assert str(caught.value) == f"{message}\nSee `tool --help` for the options."


@dataclass(frozen=True)
class Size:
    """Size: how large it is.

    Args:
        width: In pixels.
    """

    width: int = 5

    def __post_init__(self):
        if self.width < 1:
            raise InputError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True)
class Place:
    """Place: where it is.

    Args:
        floor: From 0 on.
    """

    floor: int = 0

    def __post_init__(self):
        if self.floor < 0:
            raise InputError(f"floor must not be negative, got {self.floor}")


@dataclass(frozen=True)
class Room:
    """A room."""

    size: Size = field(default_factory=Size)
    place: Place = field(default_factory=Place)
    found: str = field(default="", metadata={"option": False})


@dataclass(frozen=True)
class Wanted:
    """What is wanted.

    Args:
        name: Of the room.
    """

    room: Room
    name: str = "hall"


def parse_room(*words, **more):
    return parse_options(Wanted, list(words), prog="tool", description="A tool.", **more)


def test_groups_have_flat_names_and_headings(capsys):
    expected = Wanted(Room(Size(7), Place(2), "yes"), "attic")
    words = ["--name", "attic", "--width", "7", "--floor", "2"]
    assert parse_room(*words, given={"found": "yes"}) == expected
    assert parse_room(*words[:4], stored={"floor": 2}, given={"found": "yes"}) == expected
    with pytest.raises(InputError, match="unrecognized arguments: --found"):
        parse_room("--found", "yes")
    with pytest.raises(SystemExit):
        parse_room("--help")
    lines = capsys.readouterr().out.splitlines()
    size, place = lines.index("Size: how large it is:"), lines.index("Place: where it is:")
    assert "--width" in lines[size + 1] and "--floor" in lines[place + 1]


def test_what_several_groups_refuse_is_told_at_once():
    with pytest.raises(InputError) as caught:
        parse_room("--width", "0", "--floor", "-1")
    assert str(caught.value) == "width must be at least 1, got 0\nfloor must not be negative, got -1"


def test_examples_in_the_description_keep_their_lines(capsys):
    with pytest.raises(SystemExit):
        parse_options(Size, ["--help"], prog="tool", description="A tool.\n\ntool --width 3\ntool --width 4")
    assert "A tool.\n\ntool --width 3\ntool --width 4\n" in capsys.readouterr().out


def test_help_names_every_option_with_its_meaning_and_default(capsys):
    with pytest.raises(SystemExit) as leaving:
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert leaving.value.code == 0
    for words in (
        "Where it is. (required",
        "How many. (type: int, default: 3)",
        "Say nothing.",
        "The devices.",
    ):
        assert words in text


def test_listing_shows_ten_in_full_and_counts_the_rest():
    assert listing("ab") == "  a\n  b"
    assert listing(list(range(10))).count("\n") == 9
    assert listing(list(range(12))).splitlines()[-2:] == ["  9", "  ... and 2 more"]


def test_findings_report_each_kind_once_with_its_places():
    findings = Findings()
    assert not findings
    findings.raise_if_any()
    findings.add("broken files", "a", "Mend them.")
    findings.add("empty folders", "b", "Fill them.")
    findings.add("broken files", "c", "Mend them.")
    with pytest.raises(InputError) as caught:
        findings.raise_if_any()
    assert str(caught.value) == "broken files: 2\n  a\n  c\nMend them.\n\nempty folders: 1\n  b\nFill them."


def test_the_program_starts_with_its_process():
    program = (
        "import time\ntime.sleep(0.5)\nfrom segbalance.runtime.command_line import IMPORTED, program_start\n"
        "time.sleep(0.2)\nprint(program_start(), IMPORTED)"
    )
    before = time.monotonic()  # the same clock for all processes
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    start, imported = map(float, done.stdout.split())
    assert before - 0.1 < start < imported < time.monotonic() - 0.2
    if Path("/proc/self/stat").exists():
        assert imported - start > 0.4
