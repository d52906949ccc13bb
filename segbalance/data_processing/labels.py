"""Labels of images by name, and their class ids: what mask_encoding.py is for masks."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LabelEncoding:
    """How to turn the label of an image into a mask of one pixel.

    Args:
        names: of the classes, by id.
    """

    names: tuple[str, ...]
    kind = "labels"
    in_files = False

    def mask_size(self, image_size: int) -> int:
        """Side of the masks that belong to photos of this side, in pixels."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """For fingerprints; manifest.json names the classes."""
        return {"kind": self.kind, "ids": {name: number for number, name in enumerate(self.names)}}

    def describe(self) -> str:
        """One line for people."""
        return f"one of the classes {', '.join(self.names)}"

    def read(self, label: str) -> np.ndarray:
        """The label's class id, uint8 (1, 1). Raises OSError where there is no such class."""
        try:
            return np.full((1, 1), self.names.index(label), np.uint8)
        except ValueError:
            raise OSError(f"label {label!r} is not {self.describe()}") from None
