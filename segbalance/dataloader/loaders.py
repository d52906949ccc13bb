"""The tutorial's way of calling: one loader for each subset, and the endless mixture of several.

A loader is one pass, as everywhere in tf.data; each new iteration of it is the next pass. `train.py` mixes
draws instead, and so finds any step again.
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segbalance.balancing.draws import Draws
from segbalance.data_processing.description import read_description
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.manifest import read_table
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.pairs import SPLITS
from segbalance.data_processing.rows import add_outside, fill_paths, unusable_files
from segbalance.dataloader.batches import InOrder, fixed_settings, plain_graph, read_batches
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import BY_THRESHOLD, Subset
from segbalance.errors import Findings, InputError
from segbalance.files.data_root import DataRoot
from segbalance.legacy_keras import tf
from segbalance.transforms.pipelines import IMAGE_SIZE, delivered_size, valid_transform
from segbalance.transforms.quiet_albumentations import A

DTYPES = ("uint8", "float16", "float32")


def load_data_path(
    data_root: str | Path, csv_path: str | Path, split: str | None = None, *, allow_outside: bool = False
) -> tuple[list[str], list[str]]:
    """The pairs of one manifest.

    Args:
        split: `train`, `valid` or `test`, whose folder the rows are of. Rows as the tutorial writes them,
            `/0/a.png` without a mask, are found below <data_root>/<split>/images; rows with whole paths must
            not be of another. By default the split that the file's name says.
        allow_outside: True lets rows name files out of the data root.

    Returns:
        (image paths, mask paths), lists of str; of a classification's, (image paths, labels).

    Raises:
        InputError: rows lead out of the data root, are of another split, or have no mask.
    """
    if split is not None and split not in SPLITS:
        raise InputError(
            f"split is {split!r}; expected {', '.join(dict.fromkeys(SPLITS.values()))}, or None for what the "
            "file's name says. To read files out of the data root, pass allow_outside=True by its name."
        )
    table, root = read_table(csv_path), DataRoot(data_root, allow_outside=allow_outside)
    labelled = "label" in table and not table["masks"].any()
    if not labelled:
        description = read_description(Path(csv_path).parent) or {}
        path = Path(csv_path)
        fill_paths({path: table}, root, description, {path: path.stem}, SPLITS.get(split or ""))
    columns = ["images"] if labelled else ["images", "masks"]
    _check_rows(table[columns], root, csv_path, split)
    paths = [[os.path.join(data_root, path) for path in table[column]] for column in columns]
    return paths[0], table["label"].tolist() if labelled else paths[1]


def _check_rows(files: pd.DataFrame, root: DataRoot, csv_path: str | Path, split: str | None) -> None:
    """Raises InputError with every row that leads out, is of another split or was left without a file."""
    findings = Findings()
    missing, outside = unusable_files(root, files.to_numpy().ravel().tolist())
    for line, row in files[files.isin(list(outside)).any(axis=1)].iterrows():
        cells = {str(column): path for column, path in row.items()}
        add_outside(findings, f"{csv_path} line {line}", cells, outside)
    not_found = {path for path in missing if path.startswith("/") or not path}
    for line, image in files.loc[files.isin(not_found).any(axis=1), "images"].items():
        advice = "Pass the split whose images folder it lies in, or write whole paths into the rows."
        findings.add("rows without a photo and its mask", f"{csv_path} line {line}: {image!r}", advice)
    if split is not None:
        of_another = files["images"].map(lambda path: _other_split(path, SPLITS[split]))
        for line, image in files.loc[of_another, "images"].items():
            advice = f"Expected those of {split!r}. Pass another split, or leave it out."
            findings.add("rows of another split", f"{csv_path} line {line}: {image}", advice)
    findings.raise_if_any()


def _other_split(path: str, split: str) -> bool:
    """Whether a path below the data root begins with the folder of another split."""
    return SPLITS.get(path.partition("/")[0].lower(), split) != split


def tf_dataset(
    dataset: tuple[Sequence[str], Sequence[str]],
    shuffle: bool = True,
    batch_size: int | None = None,
    transforms: A.Compose | None = None,
    dtype: tf.DType | str = "uint8",
    device: Any = None,
    *,
    image_size: int | None = None,
    encoding: MaskEncoding | LabelEncoding = BY_THRESHOLD,
    seed: int = 0,
    threads: int | None = None,
) -> tf.data.Dataset:
    """The images and masks of one subset: one pass, and in each new iteration the next.

    A pass has an order of its own, where it is shuffled, and augmentation of its own; pass number n of two
    datasets with the same arguments is the same. Whatever looks at an element in between, as
    `next(iter(...))`, begins a pass.

    To mix several, see `sample_from_datasets`.

    Args:
        dataset: (image paths, mask paths), as `load_data_path` gives them; or (image paths, labels), with a
            LabelEncoding as `encoding`.
        shuffle: a fresh permutation each pass, else in order.
        batch_size: images a batch, of which the last may have fewer; None for single pairs.
        transforms: Compose that delivers squares of one size; resizing alone by default.
        dtype: of images and masks. With uint8, images are 0..255 and masks class ids, as this project's
            networks take them. With float32 or float16, images are 0..1, and class ids floats: a mask of one
            foreground is 0 or 1.
        device: accepted, and not looked at: batches are made by the CPU, whatever trains on them. Several
            devices share each batch under a tf.distribute strategy, so `batch_size` counts for all.
        image_size: pixels; by default what `transforms` deliver, 384 without any.
        threads: that read; one a core by default.

    Returns:
        tf.data.Dataset of (([B,] S, S, 3), ([B,] S, S, 1)) of type `dtype`.

    Raises:
        InputError: an argument is wrong, or `transforms` deliver no squares.
    """
    images, masks = dataset
    _check_arguments(images, masks, batch_size)
    wanted = _checked_dtype(dtype)
    size = image_size or (delivered_size(transforms, encoding.in_files) if transforms else IMAGE_SIZE)
    subset = Subset("", images, masks, transforms or valid_transform(size), encoding)
    reader = BatchReader([subset], size, (Draws if shuffle else InOrder)([len(images)], seed), threads)

    @plain_graph
    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(number * len(images), (number + 1) * len(images))

    @plain_graph
    def delivered(image: tf.Tensor, mask: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _scaled(image, wanted), tf.cast(mask, wanted)

    # Single pairs are batches of one: read ahead in larger blocks, each loader would hold a block of pixels.
    at_once = batch_size or 1
    draws = iteration_numbers().flat_map(one_pass).batch(at_once)
    # Keras makes an iterator that it does not use: with a warm start, that would read a pass for nothing.
    batches = read_batches(draws, reader, reader.batches_ahead(at_once), warm_start=False).map(delivered)
    count = -(-len(images) // at_once)
    return (batches if batch_size else batches.unbatch()).apply(
        tf.data.experimental.assert_cardinality(count)
    )


def _check_arguments(images: Sequence[str], masks: Sequence[str], batch_size: int | None) -> None:
    if not len(images) or len(images) != len(masks):
        raise InputError(
            f"dataset has {len(images)} images and {len(masks)} masks or labels; expected as many of the one "
            "as of the other, and at least one, as load_data_path gives them"
        )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected at least 1, or None for single pairs")


def _checked_dtype(dtype: tf.DType | str) -> tf.DType:
    try:
        wanted = tf.as_dtype(dtype)
    except TypeError:
        wanted = None
    if wanted is None or wanted.name not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected {', '.join(DTYPES)}")
    return wanted


def _scaled(image: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """uint8 0..255 as it is, or as floats of 0..1."""
    return image if dtype == tf.uint8 else tf.cast(tf.cast(image, tf.float32) / 255.0, dtype)


def iteration_numbers() -> tf.data.Dataset:
    """A dataset of one element, int64 (): how many iterations of it began before.

    An iteration begins when the element is asked for, not when its iterator is made.
    """
    numbers = itertools.count()

    def begin() -> np.int64:
        return np.int64(next(numbers))

    # No tf.Variable, of which a tf.distribute strategy would make one for each device.
    @plain_graph
    def number(_: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(begin, [], tf.int64), ())

    return tf.data.Dataset.from_tensors(0).map(number)


def sample_from_datasets(
    loaders: Sequence[tf.data.Dataset], weights: Sequence[float] | np.ndarray | None = None, seed: int = 0
) -> tf.data.Dataset:
    """The elements of loaders, each repeated without end, in a random order with these shares.

    tf.data.Dataset.sample_from_datasets hands the share of a loader that has ended to the others; here
    none ends. Nothing is held back to be shuffled: a loader that is to be shuffled brings its own order, as
    `tf_dataset(..., shuffle=True)` does. Take loaders of single pairs and batch what this returns, for a
    loader's batch is of one subset.

    Args:
        loaders: datasets that end, as `tf_dataset` gives them, all of the same types and shapes.
        weights: of each loader; equal by default.
        seed: of the order, which is another in each iteration.

    Returns:
        tf.data.Dataset without end; `model.fit` wants `steps_per_epoch` with it.

    Raises:
        InputError: there is no loader, one is empty, or the weights do not fit.
    """
    shares = _checked_shares(loaders, weights)
    endless = [loader.repeat() for loader in loaders]

    @plain_graph
    def mixed(number: tf.Tensor) -> tf.data.Dataset:
        # Of this function's graph alone: the caller's tf.random.set_seed must not change the order.
        # Never 0, which TensorFlow takes for «no seed».
        tf.random.set_seed(seed + 1)
        return tf.data.Dataset.sample_from_datasets(endless, shares, seed=number)

    mixture = iteration_numbers().flat_map(mixed).with_options(fixed_settings())
    return mixture.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _checked_shares(
    loaders: Sequence[tf.data.Dataset], weights: Sequence[float] | np.ndarray | None
) -> list[float]:
    """The loaders' weights, of sum 1."""
    shares = np.ones(len(loaders)) if weights is None else np.asarray(weights, float)
    if not len(loaders) or shares.shape != (len(loaders),):
        raise InputError(
            f"{len(loaders)} loaders and weights {weights}; expected at least one loader, a weight for each"
        )
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise InputError(f"weights are {weights}; expected numbers of at least 0, one of them above")
    empty = [number for number, loader in enumerate(loaders) if loader.cardinality() == 0]
    if empty:
        raise InputError(f"loaders {', '.join(map(str, empty))} (the first is 0) have no elements")
    return (shares / shares.sum()).tolist()
