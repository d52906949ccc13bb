"""What manifest.json says of the tables beside it, read with care."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbalance.data_processing.classes import Classes, checked_classes
from segbalance.data_processing.rows import AGAIN
from segbalance.data_processing.tasks import TASKS, Task, task_of
from segbalance.errors import InputError

MANIFEST = "manifest.json"
VERSION = 1
# What readers look up in manifest.json, with its type.
DESCRIBED = {
    "data_root": str,
    "fingerprint": str,
    "options": dict,
    "files": dict,
    "mask_encoding": dict,
    "task": str,
    "classes": dict,
    "class_colours": dict,
}
KINDS = {str: "text", dict: "names with values"}


def read_description(csv_dir: str | Path) -> dict[str, Any] | None:
    """The content of manifest.json, or None where there is none. Raises InputError where it is damaged."""
    path = Path(csv_dir, MANIFEST)
    if not path.exists():
        return None
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # the last of brackets without end
        raise InputError(f"{path} cannot be read: {error}. {AGAIN}") from None
    if not isinstance(description, dict) or description.get("version") != VERSION:
        raise InputError(f"{path}: expected a manifest of version {VERSION}. {AGAIN}")
    for name, kind in DESCRIBED.items():
        if not isinstance(description.get(name, kind()), kind):
            raise InputError(f"{path}: {name} is {description[name]!r}, expected {KINDS[kind]}. {AGAIN}")
    if description.get("task", TASKS[0]) not in TASKS:
        raise InputError(f"{path}: task is {description['task']!r}, expected {' or '.join(TASKS)}. {AGAIN}")
    if not isinstance(description.get("options", {}).get("mask_suffix", ""), str):
        raise InputError(f"{path}: mask_suffix among the options is no text. {AGAIN}")
    return description


def described_task(description: Mapping[str, Any]) -> Task:
    """The Task of a manifest.json."""
    return task_of(description.get("task"), "class_colours" in description)


def described_classes(description: Mapping[str, Any]) -> Classes | None:
    """The Classes of a manifest.json, None where it describes foreground and background alone.

    Raises:
        InputError: names and colours do not fit each other.
    """
    if "class_colours" not in description:
        return None
    tables = [description.get(key, {}) for key in ("classes", "class_colours")]
    ids = [str(number) for number in range(len(tables[0]))]
    if any(list(table) != ids or not all(isinstance(v, str) for v in table.values()) for table in tables):
        raise InputError(f"{MANIFEST}: classes and class_colours do not name the same ids from 0 on. {AGAIN}")
    names, colours = (tuple(table.values()) for table in tables)
    return checked_classes(names, colours, MANIFEST)
