"""Manifests in the place of earlier ones: by one process at a time, and nothing of a person's own unasked."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from segbalance.data_processing.description import MANIFEST, read_description
from segbalance.data_processing.manifest import file_hash, write_tables
from segbalance.errors import InputError
from segbalance.files.locks import locked

PATIENCE = 10.0  # seconds to wait for another process that writes


def held_manifests(csv_dir: str | Path) -> AbstractContextManager[None]:
    """Keeps other writers out until the block ends, so that all manifests are of one make."""
    return locked(csv_dir, "manifests written", "--csv_dir", patience=PATIENCE)


def replace_tables(
    csv_dir: str | Path, tables: Mapping[str, pd.DataFrame], description: dict[str, Any], overwrite: bool
) -> None:
    """Writes `tables` as `write_tables` does, and removes the other manifests: those of an earlier state.

    Raises:
        InputError: as `refuse_to_replace`, unless `overwrite` is True: another process may just have written;
            or one is still writing.
    """
    with held_manifests(csv_dir):
        if not overwrite:
            refuse_to_replace(csv_dir, description["data_root"])
        write_tables(csv_dir, tables, description)
        for path in _manifest_files(csv_dir):
            if path.name not in tables:
                path.unlink()


def refuse_to_replace(csv_dir: str | Path, data_root: str | Path) -> None:
    """Raises InputError where `csv_dir` holds what this command should not replace unasked.

    That is manifests of another data root, CSV files edited by hand, or CSV files that were not written here.
    """
    existing = _manifest_files(csv_dir)
    if not existing and not Path(csv_dir, MANIFEST).exists():
        return
    description = read_description(csv_dir) or {}
    if description.get("data_root", str(data_root)) != str(data_root):
        raise InputError(
            f"--csv_dir {csv_dir} holds the manifests of {description['data_root']}, not of {data_root}. "
            "Choose another --csv_dir, or pass --overwrite to replace them."
        )
    hashes = description.get("files", {})
    edited = [path.name for path in existing if hashes.get(path.name) != file_hash(path)]
    if edited:
        raise InputError(
            f"--csv_dir {csv_dir}: {', '.join(sorted(edited))} changed since they were written (or come from "
            "elsewhere). Choose another --csv_dir, or pass --overwrite to replace them."
        )


def _manifest_files(csv_dir: str | Path) -> list[Path]:
    return [
        p for p in Path(csv_dir).glob("*.csv") if p.stem in ("valid", "test") or p.stem.startswith("train")
    ]
