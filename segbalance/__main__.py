"""The command `segbalance VERB ...`, also `python -m segbalance VERB ...`."""

import difflib
import importlib
import importlib.metadata
import sys
from typing import NoReturn

from segbalance.runtime.leaving import leave
from segbalance.runtime.verbs import COMMAND, VERBS, program

DONE, WRONG_INPUT = 0, 2  # as of every command, without what runtime.command_line takes to import


def main(argv: list[str] | None = None) -> int:
    """Runs the verb that the first word names, and returns its exit status.

    Only the chosen verb's module is imported.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return DONE
    if words[0] == "--version":
        print(version())
        return DONE
    if words[0] not in VERBS:
        print(f"error: {unknown(words[0])}", file=sys.stderr)
        return WRONG_INPUT
    module = importlib.import_module(f"segbalance.commands.{words[0].replace('-', '_')}")
    return module.main(words[1:])


def run() -> NoReturn:
    """The program: `main`, and its end."""
    leave(main())


def overview() -> str:
    """The help: a line for each verb."""
    name = program() or COMMAND
    width = max(map(len, VERBS))
    return "\n".join(
        [
            f"usage: {name} VERB [options]",
            "",
            "Balanced image segmentation: folders -> manifests -> balanced batches -> a trained network.",
            "",
            *(f"  {verb:<{width}}  {purpose}" for verb, (purpose, _) in VERBS.items()),
            "",
            f"`{name} VERB --help` shows the options of one, `{name} --version` the version.",
        ]
    )


def version() -> str:
    """The version of the installed package."""
    try:
        return f"{COMMAND} {importlib.metadata.version(COMMAND)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{COMMAND}, a clone that is not installed"


def unknown(word: str) -> str:
    """The message for a word that is no verb, with the nearest one that is."""
    name = program() or COMMAND
    nearest = difflib.get_close_matches(word.lower(), VERBS, n=1)
    meant = f"; did you mean `{name} {nearest[0]}`?" if nearest else "."
    return f"{word!r} is no verb{meant} `{name} --help` lists all."


if __name__ == "__main__":
    run()
