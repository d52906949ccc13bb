"""What a run folder or its config.yaml may not bring about by itself: to have code imported."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segbalance.errors import InputError, listing

Choice = Mapping[Any, str] | str  # {subset or `default`: name}, or the path of a file


def trusted_transforms(stored: Choice | None, given: Choice | None, source: str | Path) -> Choice | None:
    """Which subset gets which pipeline, from a config.yaml that may come from elsewhere.

    What is not built in is code, and so is a path. It is run only where the user's own command line names it.

    Args:
        stored: what the file says, if anything.
        given: what --transforms says, or None.
        source: the file, for the message.

    Returns:
        `given`, or `stored` where nothing is given and all that it names is built in.

    Raises:
        InputError: names the functions, and how to allow them.
    """
    from segbalance.transforms.choice import is_built_in  # Albumentations takes half a second

    if given is not None or stored is None:
        return given
    if isinstance(stored, str):
        functions, words = [stored], stored
    else:
        functions = [f"{subset}: {name}" for subset, name in stored.items() if not is_built_in(name)]
        words = json.dumps(stored)
    if not functions:
        return stored
    raise InputError(
        f"{source} names transforms that would be imported and run:\n{listing(functions)}\n"
        "The file may come from elsewhere, so this is done only on your own word. If you trust them, name "
        "the file that they come from, as in --transforms my_transforms.py, or pass\n"
        f"  --transforms {shlex.quote(words)}"
    )
