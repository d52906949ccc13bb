"""What every command shares: typed options from a dataclass, and its exit status."""

import argparse
import dataclasses
import difflib
import functools
import os
import re
import sys
import textwrap
import time
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import docstring_parser
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from segbalance.errors import InputError, visible
from segbalance.runtime.screen import own_screen
from segbalance.runtime.verbs import as_typed_here

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
IMPORTED = time.monotonic()
HELP_WIDTH = 100
Options = TypeVar("Options")


def command(function: Callable[..., object]) -> Callable[..., int]:
    """Turns `function(argv, ...)` into a `main(argv=None, ...)` that returns the exit status.

    What a door or script hands over by name, such as the path of its transforms.py, is passed on.
    0 done, 1 an unexpected failure (with traceback), 2 wrong input (message only), 130 Ctrl-C; or what the
    function itself leaves with.
    """

    @functools.wraps(function)
    def main(argv: Iterable[object] | None = None, **handed_over: Any) -> int:
        with own_screen():
            return _status(sys.argv[1:] if argv is None else [str(word) for word in argv], handed_over)

    def _status(words: list[str], handed_over: dict[str, Any]) -> int:
        try:
            function(words, **handed_over)
        except InputError as error:
            lines = str(error).split("\n")
            print("error: " + "\n".join(map(visible, lines)), file=sys.stderr)
            return WRONG_INPUT
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return INTERRUPTED
        except SystemExit as leaving:  # argparse leaves this way after --help
            return leaving.code or DONE  # type: ignore[return-value]  # with a number
        except Exception:
            traceback.print_exc()
            return FAILED
        return DONE

    return main


def program_start() -> float:
    """The `time.monotonic()` at which this process began; of this import, where the system does not tell."""
    try:
        # Ticks since the machine's start: field 22 of proc(5), behind a name in parentheses.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return IMPORTED
    return min(time.monotonic() - age, IMPORTED)


def parse_options(
    options_class: type[Options],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    stored: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    first: Sequence[str] = (),
) -> Options:
    """Reads the command line into the dataclass `options_class`.

    The dataclass is the one place of names, types, defaults and help (`Args:` of its docstring). A field that
    is a dataclass itself is a group: its fields are options like the others, under a heading of their own,
    the first line of its docstring.
    A list option takes its values one after another: `--device 0 1`. A bool option may stand alone:
    `--overwrite` means `--overwrite true`.

    Args:
        stored: values by option, read from --config, which the command line goes before; None for a command
            without --config.
        given: values of the fields that are no options, by field.
        first: the options that `--help` shows, one screen of them; `--help all` shows all. All by default.

    Raises:
        InputError: an unknown option, a value of the wrong type, or what the dataclasses themselves refuse.
    """
    parser = _parser(options_class, prog, description, stored is not None)  # type: ignore[arg-type]  # it is hashable
    if first and {"-h", "--help"} & set(argv):
        show_all = argv[-1] == "all" and argv[-2] in ("-h", "--help")
        print(parser.format_help() if show_all else _short_help(options_class, parser, first))
        raise SystemExit(DONE)
    try:
        _check_lists(options_class, stored or {})
        before = parser.parse_object(stored) if stored else None
        values = parser.parse_args(argv, before).as_dict()
    except (argparse.ArgumentError, ValueError) as error:  # the latter of a number with thousands of digits
        words = _in_plain_words(error, _names(options_class))
        raise InputError(f"{words}\nSee `{prog} --help` for the options.") from None
    return _built(options_class, values | dict(given or {}))


def _check_lists(options_class: Any, stored: Mapping[str, Any]) -> None:
    """Raises ValueError where the value of a list option is none, which the parser does not say well."""
    for field in dataclasses.fields(options_class):
        if _is_group(field):
            _check_lists(field.type, stored)
        elif typing.get_origin(field.type) is list:
            value = stored.get(field.name)
            if value is not None and not isinstance(value, list):
                raise ValueError(f"--{field.name}: expected a list, got {value!r}; write [{value}]")


def checked_values(options_class: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, {field: value}, with the types of the dataclass's fields; those that are missing by default.

    Raises:
        InputError: an unknown name, or a value of the wrong type.
    """
    try:
        _check_lists(options_class, values)
        return _parser(options_class, "", "", False).parse_object(values).as_dict()
    except (argparse.ArgumentError, ValueError) as error:
        raise InputError(_in_plain_words(error, _names(options_class)).replace("--", "")) from None


def _names(options_class: Any) -> list[str]:
    """The options of a dataclass, those of its groups among them."""
    fields = [field for field in dataclasses.fields(options_class) if _is_option(field)]
    return [
        name
        for field in fields
        for name in (_names(_group_type(field)) if _is_group(field) else [field.name])
    ]


def _built(options_class: Any, values: Mapping[str, Any]) -> Any:
    """The dataclass of flat values; what is wrong in several groups and beside them is told at once."""
    fields = dataclasses.fields(options_class)
    options = [field for field in fields if not _is_group(field)]
    own = {field.name: values[field.name] for field in options if field.name in values}
    groups: dict[str, Any] = {}
    problems = []
    for field in filter(_is_group, fields):
        try:
            groups[field.name] = _built(_group_type(field), values)
        except InputError as error:
            problems.append(str(error))
            groups[field.name] = _group_type(field)()  # so that the others can be looked at
    try:
        built = options_class(**own, **groups)
    except InputError as error:
        # Of groups that stand in for wrong ones nothing can be said.
        problems += [str(error)] if any(map(_is_option, options)) or not problems else []
    if problems:
        raise InputError("\n".join(problems))
    return built


def _is_option(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("option", True))


def _group_type(field: dataclasses.Field[Any]) -> Any:
    return field.type  # a class: option classes have no postponed annotations


def _is_group(field: dataclasses.Field[Any]) -> bool:
    return _is_option(field) and dataclasses.is_dataclass(field.type)


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of a description, which hold examples, as they are."""


class CommandParser(ArgumentParser):
    """A parser whose help names commands as they are typed here."""

    def format_help(self, *formatter: Any) -> str:
        return as_typed_here(super().format_help(*formatter))


@functools.cache
def _parser(options_class: type[Any], prog: str, description: str, config: bool) -> ArgumentParser:
    parser = CommandParser(
        prog=prog,
        usage="%(prog)s [--config FILE] [OPTIONS]" if config else None,
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    if config:
        parser.add_argument("--config", help="YAML file with any of the options below")
    _add_options(parser, parser, options_class)
    return parser


def _short_help(options_class: Any, parser: ArgumentParser, first: Sequence[str]) -> str:
    """The help of some options: the first sentence and the default of each, and its choices."""
    described = _described(options_class)
    lines = [f"usage: {parser.prog} [OPTIONS]", "", (parser.description or "").strip(), ""]
    for name in first:
        field, text = described[name]
        text = " ".join(text.split()).split(". ")[0].removesuffix(".")
        default = field.default_factory() if callable(field.default_factory) else field.default
        if typing.get_origin(field.type) is typing.Literal:
            text += f": {', '.join(typing.get_args(field.type))}"
        text += "" if default is None or field.type is bool else f" (default: {default})"
        lines += textwrap.wrap(
            text, HELP_WIDTH, initial_indent=f"  --{name:<16} ", subsequent_indent=" " * 21
        )
    lines += ["", f"`{parser.prog} --help all` shows all options, with all that they do."]
    return as_typed_here("\n".join(lines))


def _described(options_class: Any) -> dict[str, tuple[dataclasses.Field[Any], str]]:
    """{option: (its field, its help)} of a dataclass and its groups."""
    texts = _texts(options_class)
    found: dict[str, tuple[dataclasses.Field[Any], str]] = {}
    for field in filter(_is_option, dataclasses.fields(options_class)):
        own = {field.name: (field, texts.get(field.name, ""))}
        found |= _described(_group_type(field)) if _is_group(field) else own
    return found


def _texts(options_class: Any) -> dict[str, str]:
    """{field: help}, from the docstrings of a dataclass and its parents."""
    return {
        each.arg_name: each.description or ""
        for parent in reversed(options_class.__mro__)
        for each in docstring_parser.parse(parent.__doc__).params
    }


def _add_options(parser: Any, place: Any, options_class: Any) -> None:
    """Adds the fields of a dataclass to `place`, the parser or a group of it; its own groups behind them."""
    texts = _texts(options_class)
    fields = [field for field in dataclasses.fields(options_class) if _is_option(field)]
    for field in [field for field in fields if not _is_group(field)]:
        _add_option(place, field, texts[field.name])
    for field in [field for field in fields if _is_group(field)]:
        heading = (docstring_parser.parse(field.type.__doc__).short_description or "").rstrip(".")
        nested = any(map(_is_group, dataclasses.fields(_group_type(field))))
        _add_options(parser, parser if nested else parser.add_argument_group(heading), field.type)


def _add_option(place: Any, field: dataclasses.Field[Any], text: str) -> None:
    options: dict[str, Any] = {"type": field.type, "help": text}
    if field.default is not dataclasses.MISSING:
        options["default"] = field.default
    elif field.default_factory is not dataclasses.MISSING:
        options["default"] = field.default_factory()
    else:
        options["required"] = True
    if field.type is bool:
        options |= {"nargs": "?", "const": True}
    elif typing.get_origin(field.type) is list:
        options |= {"nargs": "+", "type": typing.get_args(field.type)[0]}
    place.add_argument(f"--{field.name}", **options)


def _in_plain_words(error: Exception, names: Sequence[str]) -> str:
    """The parser's message in the words of the command line instead of Python's types.

    Args:
        names: of the options, one of which may be meant by an unknown one.
    """
    text = re.sub(r'Parser key "(.+?)":\s*', r"--\1: ", str(error))
    text = re.sub(r"a <class '(\w+)'>", r"\1", text)
    text = re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", text)
    text = re.sub(r"(?<=arguments are required: )(.+)", lambda found: _as_options(found[1]), text)
    unknown = re.search(r"Option '(?:\w+\.)*(\w+)' is not accepted|unrecognized arguments: --(\w+)", text)
    meant = difflib.get_close_matches(unknown[1] or unknown[2], names, n=1) if unknown else []
    return f"{text}; did you mean --{meant[0]}?" if meant else text


def _as_options(names: str) -> str:
    return ", ".join(f"--{name}" for name in names.split(", "))
