"""What a checkup looked at, for the checks and for those who show it."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.pairs import Pair


@dataclass
class Examined:
    """What was looked at, for those who show it.

    Args:
        data_root: folder of the data.
        pairs: {path of an image or a mask: Pair}.
        rows: DataFrame, one row a pair without a fault of its files: images, masks, type, split, width,
            height, image_hash, coverage, kind (of the mask's summary).
        encoding: MaskEncoding of most masks, None if that is not plain.
        strangers: paths of the masks that do not follow it.
        fringed: True if any mask has grey fringes.
    """

    data_root: Path
    pairs: dict[str, Pair] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    encoding: MaskEncoding | None = None
    strangers: set[str] = field(default_factory=set)
    fringed: bool = False
