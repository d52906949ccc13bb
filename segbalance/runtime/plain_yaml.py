"""Config files are data: no tag, no alias, no other file, nothing endless."""

import collections
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from segbalance.errors import InputError

MOST_BYTES = 10**6
DEEPEST = 20  # mappings and lists in one another
# Keys on which the parser would act: it reads another file, prints the options, or prints the help.
ACTIONS = {"config", "print_config", "help"}
EXPECTED = "expected a YAML file of options"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlainLoader(LOADER):  # type: ignore[misc, valid-type]  # one of two, by what PyYAML has
    """A safe loader that leaves dates as text: a folder may be called 2026-01-31."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in LOADER.yaml_implicit_resolvers.items()
    }


def read_options(path: str | Path) -> dict[str, Any]:
    """The content of a config file, {option: value}.

    Raises:
        InputError: it cannot be read, or is more than plain data.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--config {path} cannot be read: {reason}; {EXPECTED}") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES} bytes; {EXPECTED}")
    if b"\0" in content or not _is_utf8(content):
        raise InputError(f"{path} is not a text file; {EXPECTED} in UTF-8")
    try:
        problem = _problem(yaml.parse(content, LOADER))
        if problem:
            raise InputError(f"{path} {problem}. Expected a YAML file of options and their plain values.")
        values = yaml.load(content, PlainLoader)
        twice = _repeated(yaml.compose(content, PlainLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {_in_one_line(error)}; {EXPECTED}") from None
    if twice:
        raise InputError(f"{path} names {', '.join(twice)} more than once; leave one of each")
    if not isinstance(values, dict):
        shown = repr(values) if len(repr(values)) < 100 else f"{repr(values)[:100]}..."
        raise InputError(f"{path}: expected lines like `name: value`, got {shown}")
    acting = [str(name) for name in values if str(name).rstrip("+").partition(".")[0] in ACTIONS]
    if acting:
        raise InputError(
            f"{path}: {', '.join(acting)} is for the command line only. Expected a YAML file of options and "
            "their plain values."
        )
    return {str(name): value for name, value in values.items()}


def _repeated(root: yaml.Node | None) -> list[str]:
    """The options that stand more than once in a file; YAML itself takes the last."""
    if not isinstance(root, yaml.MappingNode):
        return []
    counts = collections.Counter(str(key.value) for key, _ in root.value)
    return [name for name, count in counts.items() if count > 1]


def _in_one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark else ""
    return place + " ".join(str(getattr(error, "problem", None) or error).split())


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _problem(events: Iterable[Any]) -> str | None:
    """The first thing in a YAML file that is more than data, in words; None if there is none."""
    depth = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return f"line {line}: uses the alias *{event.anchor}, which is refused: a few can fill the memory"
        if getattr(event, "tag", None) not in (None, "!"):
            return f"line {line}: uses the tag {event.tag}, which is refused: it would create a Python object"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return f"line {line}: is nested more than {DEEPEST} deep"
    return None
