"""What each subset was promised and what it got, worked out from the draws: ledger.csv and skipped.csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segbalance.balancing.draws import DrawStream
from segbalance.balancing.plan import BalancePlan
from segbalance.balancing.skipping import BadFiles, SkippedDraw
from segbalance.errors import InputError
from segbalance.files.writing import write_atomically

LEDGER, SKIPPED = "ledger.csv", "skipped.csv"
SUSPICIOUS = 1e-6
# Below that, chi-square is no longer the statistic's distribution (Cochran 1954).
LEAST_EXPECTED = 5


def p_value(counts: Sequence[int] | np.ndarray, shares: Sequence[float] | np.ndarray) -> float:
    """How likely counts at least this far from `shares` are, by Pearson's chi-square test.

    Args:
        counts: int (subsets,), draws of each.
        shares: float (subsets,), sum 1; a subset of share 0 must have no draw.

    Returns:
        float in [0, 1]; 1 where only one subset is drawn.
    """
    from scipy.stats import chisquare  # takes a second to import

    counts, drawn = np.asarray(counts), np.asarray(shares) > 0
    if counts[~drawn].any():
        return 0.0
    if np.count_nonzero(drawn) == 1:
        return 1.0
    return float(chisquare(counts[drawn], counts.sum() * np.asarray(shares)[drawn]).pvalue)


def epoch_rows(epoch: int, plan: BalancePlan, stream: DrawStream) -> list[dict[str, Any]]:
    """The rows of ledger.csv for one epoch, counted from 0, that the DrawStream `stream` has finished.

    Returns:
        list of dict, one for each subset of the BalancePlan `plan`.
    """
    repeats, skipped = stream.repeats(epoch), stream.skipped(epoch)
    counts = np.array([own.sum() for own in repeats])
    p = p_value(counts, plan.shares)
    return [
        {
            "epoch": epoch + 1,
            "subset": name,
            "share": share,
            "draws": int(own.sum()),
            "images": int(np.count_nonzero(own)),
            "max_repeats": int(own.max()),
            "p_value": p,
            "skipped": len(own_skips),
        }
        for name, share, own, own_skips in zip(plan.subsets, plan.shares, repeats, skipped, strict=True)
    ]


def suspicion(rows: list[dict[str, Any]]) -> str | None:
    """A warning about one epoch's rows, or None."""
    draws = sum(row["draws"] for row in rows)
    expected = [row["share"] * draws for row in rows if row["share"]]
    if rows[0]["p_value"] >= SUSPICIOUS or min(expected) < LEAST_EXPECTED:
        return None
    got = ", ".join(f"{row['subset']} {row['draws']} of {row['share'] * draws:.0f}" for row in rows)
    return (
        f"warning: epoch {rows[0]['epoch']} did not keep its shares (p = {rows[0]['p_value']:.0e}); "
        f"draws delivered of draws expected: {got}"
    )


def write_ledger(rows: list[dict[str, Any]], folder: str | Path) -> None:
    """Writes all rows of ledger.csv, whole or not at all."""
    write_atomically(Path(folder, LEDGER), pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def read_ledger(folder: str | Path) -> pd.DataFrame:
    """ledger.csv as a DataFrame; subsets are text."""
    return pd.read_csv(Path(folder, LEDGER), dtype={"subset": str})


def write_skipped(bad_files: BadFiles, folder: str | Path, steps_per_epoch: int, epochs: int) -> None:
    """Writes skipped.csv, whole or not at all; nothing where nothing was skipped.

    Args:
        bad_files: BadFiles of the run.
        folder: of the run.
        steps_per_epoch: for the column `epoch`.
        epochs: of the run; what was read ahead for later ones is left out.
    """
    rows = [
        {"epoch": skip.step // steps_per_epoch + 1} | skip._asdict()
        for skip in bad_files.skips()
        if skip.step < steps_per_epoch * epochs
    ]
    if rows:
        write_atomically(Path(folder, SKIPPED), pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def read_skipped(folder: str | Path) -> list[SkippedDraw]:
    """The SkippedDraws in a run's skipped.csv, none where it has no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = Path(folder, SKIPPED)
    if not path.exists():
        return []
    kinds = SkippedDraw.__annotations__
    try:
        rows = csv.DictReader(io.StringIO(path.read_bytes().decode()), strict=True)
        return [SkippedDraw(**{name: kind(row[name]) for name, kind in kinds.items()}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a record of skipped draws: {type(error).__name__} {error}. Expected "
            f"the columns {', '.join(kinds)}, the numbers whole; put it back as the run wrote it."
        ) from None
