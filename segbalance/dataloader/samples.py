"""Single pairs: which files a sample is made of, and how it is read and transformed."""

import copy
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import cv2
import numpy as np

from segbalance.balancing.skipping import UnreadablePair
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.working_size import Size
from segbalance.transforms.pipelines import apply_transform, check_sample, reseed, valid_transform
from segbalance.transforms.quiet_albumentations import A

if TYPE_CHECKING:
    import pandas as pd

BY_THRESHOLD = MaskEncoding()
PLAIN = -1  # place of the transform that only resizes


class Paths(Sequence[str]):
    """Paths of files below a folder, put together when they are asked for, since there may be millions.

    Args:
        folder: that the names are relative to.
        names: sequence of str.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | np.ndarray) -> None:
        self._folder = os.fspath(folder)
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> "Paths": ...

    def __getitem__(self, place: int | slice) -> "str | Paths":
        if isinstance(place, slice):
            return Paths(self._folder, self.names[place])
        return os.path.join(self._folder, self.names[place])


@dataclass(frozen=True)
class Subset:
    """The pairs of one subset and what is done to them.

    Args:
        name: of the subset.
        images: sequence of the photos' paths.
        masks: sequence of their masks' paths, or of their labels.
        transform: Compose that delivers the model's input size.
        encoding: how the mask files, or labels, encode class ids.
        sizes: int32 (pairs, 2), the width and height that each photo must have, 0 where it may have any; None
            where all may.
        csv_file: that the rows stand in, for messages.
        lines: sequence of the line of each row in it.
    """

    name: str
    images: Sequence[str]
    masks: Sequence[str] | np.ndarray
    transform: A.Compose
    encoding: MaskEncoding | LabelEncoding = BY_THRESHOLD
    sizes: np.ndarray | None = None
    csv_file: str | Path = ""
    lines: "Sequence[int] | pd.Index" = ()

    def __len__(self) -> int:
        return len(self.images)


class Sample(NamedTuple):
    """What one place of a batch is made of.

    Args:
        subset: number of the subset.
        image: path of the photo.
        mask: path of its mask, or its label.
        seed: of the transform.
        plain: True where the pair is only resized.
        size: (width, height) that the photo must have; None or (0, 0) where it may have any.
    """

    subset: int
    image: str
    mask: str
    seed: int
    plain: bool
    size: Size | None = None


class SampleReader:
    """Reads and transforms single pairs; threads may share one, and worker processes get copies.

    Args:
        names: of the subsets.
        transforms: Compose of each subset.
        encodings: MaskEncoding of each subset, or LabelEncoding of all.
        image_size: pixels of the output.
        pairs: PairReader.
    """

    def __init__(
        self,
        names: Sequence[str],
        transforms: Sequence[A.Compose],
        encodings: Sequence[MaskEncoding | LabelEncoding],
        image_size: int,
        pairs: PairReader,
    ) -> None:
        self.names = names
        self.encodings = encodings
        self.image_size = image_size
        self.mask_size = encodings[0].mask_size(image_size)
        self.pairs = pairs
        self._transforms = [*transforms, valid_transform(image_size)]  # the last at PLAIN
        self._own = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_own"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local())

    def pair(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """The pair of a Sample as it is read: uint8 (H, W, 3) RGB and uint8 (H, W) or (1, 1) class ids.

        Raises:
            UnreadablePair: of its files, with the path.
        """
        try:
            return self.pairs.read(sample.image, sample.mask, self.encodings[sample.subset], sample.size)
        except OSError as error:
            named = error.strerror and error.filename
            reason = f"{error.filename}: {error.strerror}" if named else str(error)
        except cv2.error as error:  # of headers that claim sizes beyond its limits
            reason = f"{sample.image} or its mask cannot be decoded: {error.err}"
        raise UnreadablePair(reason)

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """As `pair`, but transformed: uint8 (S, S, 3) RGB and uint8 (S, S) or (1, 1) class ids."""
        image, mask = self.pair(sample)
        transform = self._own_transform(PLAIN if sample.plain else sample.subset)
        reseed(transform, sample.seed)
        labelled = not self.encodings[sample.subset].in_files
        image, moved = apply_transform(transform, image, None if labelled else mask)
        check_sample(f"of subset {self.names[sample.subset]}", image, moved, self.image_size)
        return image, mask if moved is None else moved

    def new_transform(self, subset: int, plain: bool = False) -> A.Compose:
        """A copy of what a sample goes through, to be reseeded by its owner."""
        return copy.deepcopy(self._transforms[PLAIN if plain else subset])

    def _own_transform(self, place: int) -> A.Compose:
        # A Compose that is reseeded for each sample must not be shared between threads.
        copies = self._own.__dict__.setdefault("transforms", {})
        if place not in copies:
            copies[place] = copy.deepcopy(self._transforms[place])
        return copies[place]
