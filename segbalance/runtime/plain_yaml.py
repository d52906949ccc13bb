"""Config files are data: no tag, no alias, no other file, nothing endless."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from segbalance.errors import InputError

MOST_BYTES = 10**6
DEEPEST = 20  # mappings and lists in one another
# Keys on which the parser would act: it reads another file, prints the options, or prints the help.
ACTIONS = {"config", "print_config", "help"}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_config_file(path: str | Path) -> None:
    """Raises InputError where a config file is more than plain data.

    What is no YAML, or no file, is left to the parser of the options.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError):
        return
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES} bytes; expected a YAML file of options")
    if b"\0" in content or not _is_utf8(content):
        raise InputError(f"{path} is no text; expected a YAML file of options in UTF-8")
    try:
        problem = _problem(yaml.parse(content, LOADER))
        if problem:
            raise InputError(f"{path} {problem}. Expected a YAML file of options and their plain values.")
        root = yaml.compose(content, LOADER)
    except yaml.YAMLError:
        return
    names = [key.value for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    acting = [name for name in names if str(name).rstrip("+").partition(".")[0] in ACTIONS]
    if acting:
        raise InputError(
            f"{path}: {', '.join(acting)} is for the command line only. Expected a YAML file of options and "
            "their plain values."
        )


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
            return f"line {line}: has the alias *{event.anchor}, and a few of them unfold to gigabytes"
        if getattr(event, "tag", None) not in (None, "!"):
            return f"line {line}: has the tag {event.tag}, which stands for an object of code"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return f"line {line}: is nested more than {DEEPEST} deep"
    return None
