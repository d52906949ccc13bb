"""Deletes the decoded pairs that `train.py --cache disk` has kept in the user's cache folder."""

from dataclasses import dataclass
from pathlib import Path

from segbalance.dataloader.pair_cache import cache_folder, remove_cache
from segbalance.errors import InputError
from segbalance.runtime.command_line import command, parse_options
from segbalance.runtime.verbs import usage


@dataclass(frozen=True)
class ClearOptions:
    """Options of the command.

    Args:
        folder: Folder of the cache; the user's cache folder by default.
    """

    folder: str | None = None


@command
def main(argv: list[str]) -> None:
    """Deletes the cache and says what it took."""
    options = parse_options(ClearOptions, argv, prog=usage("clear-cache"), description=__doc__)
    folder = options.folder or cache_folder()
    if options.folder and not Path(folder).is_dir():
        raise InputError(f"--folder {folder}: there is no such folder")
    freed = remove_cache(folder)
    print(f"{folder}: {freed / 1e6:.0f} MB freed" if freed else f"{folder}: there is no cache")
