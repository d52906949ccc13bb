"""What a run folder or its config.yaml may not bring about by itself: to have code imported."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from segbalance.errors import InputError, listing


def trusted_transforms(
    stored: Mapping[str, str], given: Mapping[str, str] | None, source: str | Path
) -> Mapping[str, str]:
    """Which subset gets which pipeline, from a config.yaml that may come from elsewhere.

    A `package.module:function` is code. It is imported only where the user's own command line names it.

    Args:
        stored: what the file says, {subset or `default`: name}.
        given: what --transforms says, or None.
        source: the file, for the message.

    Returns:
        `given`, or `stored` where nothing is given and it names no function.

    Raises:
        InputError: names the functions, and how to allow them.
    """
    functions = [f"{subset}: {name}" for subset, name in stored.items() if ":" in name]
    if given is not None or not functions:
        return stored if given is None else given
    raise InputError(
        f"{source} names transforms that would be imported and run:\n{listing(functions)}\n"
        "The file may come from elsewhere, so this is done only on your own word. If you trust them, pass\n"
        f"  --transforms {shlex.quote(json.dumps(stored))}"
    )
