"""How often each class is seen: its share of the pixels of an image, of a subset, of all training images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from segbalance.data_processing.classes import IGNORED, Classes
from segbalance.data_processing.mask_encoding import MaskEncoding, MaskSummary
from segbalance.data_processing.splitting import BY_CLASS
from segbalance.errors import InputError

MOST_SUBSETS = 8  # that get a column of their own in what is printed


def class_shares(summaries: Sequence[MaskSummary], encoding: MaskEncoding, classes: Classes) -> pd.DataFrame:
    """DataFrame of a row a mask: float32 shares in [0, 1] of its pixels, ignored ones counted too.

    Args:
        summaries: list of MaskSummary, which fit the MaskEncoding `encoding`.
        classes: Classes.
    """
    shares = np.zeros((len(summaries), len(classes)), np.float32)
    for row, summary in enumerate(summaries):
        for class_id, pixels in summary.class_pixels(encoding).items():
            if class_id != IGNORED:
                shares[row, class_id] = pixels / summary.pixels
    return pd.DataFrame(shares, columns=[f"{BY_CLASS}{name}" for name in classes.names])


def check_counted(rows: pd.DataFrame) -> None:
    """Raises InputError where all pixels of the training or of the validation masks are ignored.

    Args:
        rows: as for `class_table`.
    """
    columns = [name for name in rows.columns if name.startswith(BY_CLASS)]
    for side in ("train", "valid") if columns else ():
        own = rows.loc[rows["split"] == side, columns].to_numpy()
        if len(own) and not own.any():
            raise InputError(
                f"every pixel of the {len(own)} masks of {side} is ignored, so that nothing is left to learn "
                "or to score. Correct the masks, or --ignore_index."
            )


def class_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """What of each class there is: a list of dicts, empty where `rows` have no shares of classes.

    Args:
        rows: DataFrame with type, width, height, split, and what `class_shares` gives.

    Returns:
        `class`; `images` and `valid`, the training and validation images with it; `share` of the training
        pixels, ignored ones left out, in [0, 1]; `subsets`, {subset: that share}.
    """
    columns = [name for name in rows.columns if name.startswith(BY_CLASS)]
    train, valid = (rows[rows["split"] == side] for side in ("train", "valid"))
    everywhere = _pixel_shares(train, columns)
    subsets = {str(name): _pixel_shares(part, columns) for name, part in train.groupby("type", sort=False)}
    return [
        {
            "class": column.removeprefix(BY_CLASS),
            "images": int((train[column] > 0).sum()),
            "valid": int((valid[column] > 0).sum()),
            "share": everywhere[column],
            "subsets": {name: shares[column] for name, shares in subsets.items()},
        }
        for column in columns
    ]


def _pixel_shares(rows: pd.DataFrame, columns: list[str]) -> dict[str, float]:
    """{column: share of the pixels that count}."""
    pixels = (rows["width"].to_numpy(float) * rows["height"].to_numpy(float)) @ rows[columns].to_numpy(float)
    total = pixels.sum()
    return {name: float(count / total) if total else 0.0 for name, count in zip(columns, pixels, strict=True)}


def printed_class_table(table: list[dict[str, Any]]) -> str:
    """The text of what `class_table` gives."""
    subsets = list(table[0]["subsets"])
    shown = pd.DataFrame(table).drop(columns="subsets")
    if 1 < len(subsets) <= MOST_SUBSETS:
        for name in subsets:
            shown[f"in {name}"] = [row["subsets"][name] for row in table]
    for name in shown.columns[3:]:
        shown[name] = shown[name].map("{:.2%}".format)
    return shown.to_string(index=False)
