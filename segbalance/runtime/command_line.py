"""What every command shares: typed options from a dataclass, and its exit status."""

import argparse
import dataclasses
import functools
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import docstring_parser
from jsonargparse import ArgumentParser

from segbalance.errors import InputError, visible
from segbalance.runtime.plain_yaml import check_config_file
from segbalance.runtime.verbs import as_typed_here

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
Options = TypeVar("Options")


def command(function: Callable[..., object]) -> Callable[..., int]:
    """Turns `function(argv, ...)` into a `main(argv=None, ...)` that returns the exit status.

    What a door or script hands over by name, such as the path of its transforms.py, is passed on.
    0 done, 1 an unexpected failure (with traceback), 2 wrong input (message only), 130 Ctrl-C.
    """

    @functools.wraps(function)
    def main(argv: Iterable[object] | None = None, **handed_over: Any) -> int:
        try:
            function(sys.argv[1:] if argv is None else [str(word) for word in argv], **handed_over)
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


def parse_options(
    options_class: type[Options], argv: Sequence[str], *, prog: str, description: str, config: bool = False
) -> Options:
    """Reads the command line (with `config` also a YAML file) into the dataclass `options_class`.

    The dataclass is the one place of names, types, defaults and help (`Args:` of its docstring).
    A list option takes its values one after another: `--device 0 1`. A bool option may stand alone:
    `--overwrite` means `--overwrite true`.

    Raises:
        InputError: an unknown option, a value of the wrong type, or what the dataclass itself refuses.
    """
    for path in _config_files(argv) if config else ():
        check_config_file(path)
    try:
        parser = _parser(options_class, prog, description, config)  # type: ignore[arg-type]  # it is hashable
        values = parser.parse_args(argv).as_dict()
    except (argparse.ArgumentError, ValueError) as error:  # the latter of a number with thousands of digits
        raise InputError(f"{_in_plain_words(error)}\nSee `{prog} --help` for the options.") from None
    values.pop("config", None)
    return options_class(**values)


class CommandParser(ArgumentParser):
    """A parser whose help names commands as they are typed here."""

    def format_help(self, *formatter: Any) -> str:
        return as_typed_here(super().format_help(*formatter))


@functools.cache
def _parser(options_class: type[Any], prog: str, description: str, config: bool) -> ArgumentParser:
    parser = CommandParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)
    if config:
        parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    fields = dataclasses.fields(options_class)
    list_fields = [f for f in fields if typing.get_origin(f.type) is list]
    switches = [f for f in fields if f.type is bool]
    by_hand = {f.name for f in list_fields + switches}
    parser.add_class_arguments(options_class, skip=by_hand, as_group=False)
    help_texts = {
        parameter.arg_name: parameter.description
        for parent in reversed(options_class.__mro__)
        for parameter in docstring_parser.parse(parent.__doc__).params
    }
    for field in switches:
        parser.add_argument(
            f"--{field.name}",
            type=bool,
            nargs="?",
            const=True,
            default=field.default,
            help=help_texts[field.name],
        )
    for field in list_fields:
        (item_type,) = typing.get_args(field.type)
        parser.add_argument(
            f"--{field.name}",
            type=item_type,
            nargs="+",
            default=field.default_factory(),  # type: ignore[operator]  # a list has one
            help=help_texts[field.name],
        )
    return parser


def _config_files(argv: Sequence[str]) -> list[str]:
    """The values of --config among the words of a command line."""
    after = [word for before, word in zip(argv, argv[1:], strict=False) if before == "--config"]
    return after + [word.partition("=")[2] for word in argv if word.startswith("--config=")]


def _in_plain_words(error: Exception) -> str:
    """The parser's message in the words of the command line instead of Python's types."""
    text = re.sub(r'Parser key "(.+?)":\s*', r"--\1: ", str(error))
    text = re.sub(
        r"^(--config: )?Unexpected config: *", "--config: expected lines like `name: value`, got ", text
    )
    text = re.sub(r"a <class '(\w+)'>", r"\1", text)
    return re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", text)
