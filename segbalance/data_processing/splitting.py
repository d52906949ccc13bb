"""Which subset and which side of the split each image belongs to."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segbalance.errors import InputError, listing

BY_CLASS = "class:"  # begins --subset_by class:<name>, and the column of a class's share in a table of rows
LONGEST_NAME = 200  # bytes of a subset; train<subset>.csv has a longer temporary name, and 255 is the end


class SplitOptions(Protocol):
    """Those of ManifestOptions that say which subset and which side an image belongs to."""

    @property
    def subset_by(self) -> str: ...
    @property
    def subset_bins(self) -> int: ...
    @property
    def valid_fraction(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def group_by(self) -> str | None: ...


def one_group(option: str, pattern: str, expected: str = "a regular expression") -> re.Pattern[str]:
    """Compiles a regular expression that must have one group."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        problem = f"is not a regular expression ({error})"
    else:
        if compiled.groups == 1:
            return compiled
        problem = f"has {compiled.groups} groups"
    raise InputError(
        f"{option} {pattern!r} {problem}; expected {expected} with one group in parentheses, "
        "as in '/(p[0-9]+)_'"
    )


def subset_names(rows: pd.DataFrame, options: SplitOptions) -> pd.Series:
    """The subset of each row, by folder, coverage, class or regular expression."""
    if options.subset_by == "folder":
        check_subset_names(rows["type"], "--subset_by folder")
        return rows["type"]
    if options.subset_by == "coverage":
        bins = pd.qcut(rows["coverage"], options.subset_bins, labels=False, duplicates="drop")
        return "coverage" + bins.fillna(0).astype(int).astype(str)
    if options.subset_by.startswith(BY_CLASS):
        return _subsets_by_class(rows, options.subset_by)
    names = matches("--subset_by", options.subset_by, rows["images"])
    check_subset_names(names, f"--subset_by {options.subset_by!r}")
    return names


def _subsets_by_class(rows: pd.DataFrame, column: str) -> pd.Series:
    """`<name>` and `no_<name>`: the subsets of images with and without a class.

    Args:
        rows: DataFrame with a column `class:<name>` of each class's share, as class_shares.py gives them.
        column: `class:<name>`.

    Raises:
        InputError: there is no such class, or all images are on one side.
    """
    known = [name for name in rows.columns if name.startswith(BY_CLASS)]
    name = column.removeprefix(BY_CLASS)
    if column not in known:
        names = (
            ", ".join(name.removeprefix(BY_CLASS) for name in known)
            or "none; the masks hold only background and foreground"
        )
        raise InputError(f"--subset_by {column}: there is no class {name!r}; expected one of: {names}")
    subsets = (rows[column] > 0).map({True: name, False: f"no_{name}"})
    check_subset_names(subsets, f"--subset_by {column}")
    if subsets.nunique() < 2:
        raise InputError(
            f"--subset_by {column}: all {len(rows)} images are {subsets.iloc[0]!r}; expected some with the "
            "class and some without. Choose another class."
        )
    return subsets


def check_subset_names(names: Iterable[str], source: str) -> None:
    """Raises InputError where one of the names, given by `source`, cannot stand in train<subset>.csv."""
    unusable = {n for n in names if not n or "/" in n or len(n.encode()) > LONGEST_NAME}
    if unusable:
        raise InputError(
            f"{source} gives the subset names\n{listing([repr(name) for name in sorted(unusable)])}\n"
            f"Expected names that can stand in train<subset>.csv: not empty, no slash, up to {LONGEST_NAME} "
            "bytes. Change them."
        )


def matches(option: str, pattern: str, paths: pd.Series) -> pd.Series:
    """What the one group of `pattern` finds in each path; InputError lists the paths without a match."""
    compiled = one_group(option, pattern)
    found = [compiled.search(path) for path in paths]
    missed = [path for path, match in zip(paths, found, strict=True) if not match or match[1] is None]
    if missed:
        raise InputError(
            f"{option} {pattern!r} does not match {len(missed)} of {len(found)} images:\n{listing(missed)}\n"
            "Expected a match in every path, which is relative to the data root. Widen the expression."
        )
    return pd.Series([match[1] for match in found if match], index=paths.index)


def split_names(rows: pd.DataFrame, options: SplitOptions) -> pd.Series:
    """The split of each row: the data's own folders, else a stratified one that keeps groups together."""
    if (rows["split"] == "valid").any():
        if options.group_by is not None:
            raise InputError(
                "--group_by says how to split the data, but a valid folder splits it already. Leave the "
                "option out, or move the images of valid/ into train/ to have all of them split."
            )
        return rows["split"]
    undivided = rows[rows["split"] != "test"]
    keys = [undivided["image_hash"]]
    if options.group_by is not None:
        keys.append(matches("--group_by", options.group_by, undivided["images"]))
    held_out = held_out_rows(undivided["type"], connected(keys), options.valid_fraction, options.seed)
    if not held_out.any():
        raise InputError(
            f"no images are left for validation: {len(undivided)} images in "
            f"{undivided['type'].nunique()} subsets cannot be divided, as identical images and groups stay "
            "together. Add images, a valid folder, or choose another --group_by."
        )
    splits = rows["split"].fillna("train")
    splits[undivided.index[held_out]] = "valid"
    return splits


def connected(keys: Sequence[pd.Series]) -> np.ndarray:
    """Group number of each row, where rows that share a value of any key belong together.

    Args:
        keys: list of Series of equal length.

    Returns:
        int array (rows,)
    """
    count = len(keys[0])
    first = [_first_rows(key) for key in keys]
    edges = (np.tile(np.arange(count), len(keys)), np.concatenate(first))
    return connected_components(coo_array((np.ones(len(edges[0])), edges), shape=(count, count)))[1]


def _first_rows(key: pd.Series) -> np.ndarray:
    """int array (rows,): for each row the first with its value."""
    codes, _ = pd.factorize(key)
    return np.unique(codes, return_index=True)[1][codes]


def held_out_rows(subsets: pd.Series, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Chooses whole groups for validation, so that each subset gives about `fraction` of its images.

    A subset of two images or more has at least one on each side where its groups allow it; a single image
    is for training.

    Args:
        subsets: Series (rows,) of names.
        groups: int array (rows,).

    Returns:
        bool array (rows,), True for validation.
    """
    codes, _ = pd.factorize(subsets)
    _, groups = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes)
    goals = np.where(sizes > 1, np.clip(np.round(fraction * sizes), 1, np.maximum(sizes - 1, 1)), 0)
    order = np.random.default_rng(seed).permutation(groups.max() + 1).tolist()
    chosen = _choose_groups(_images_by_group(groups, codes), order, sizes.tolist(), goals.tolist())
    return np.isin(groups, chosen)


def _images_by_group(groups: np.ndarray, codes: np.ndarray) -> list[list[tuple[int, int]]]:
    """For each group the list of (subset, its images in the group); both are numbered from 0."""
    keys, counts = np.unique(groups * (codes.max() + 1) + codes, return_counts=True)
    images: list[list[tuple[int, int]]] = [[] for _ in range(groups.max() + 1)]
    columns = [column.tolist() for column in (*np.divmod(keys, codes.max() + 1), counts)]
    for group, subset, count in zip(*columns, strict=True):
        images[group].append((subset, count))
    return images


def _choose_groups(
    images: list[list[tuple[int, int]]], order: list[int], sizes: list[int], goals: list[float]
) -> list[int]:
    """Numbers of the groups for validation: those that bring us nearer to the goals, tried in `order`.

    Args:
        images: what `_images_by_group` returns.
        sizes: images of each subset.
        goals: images of each subset that validation should have.
    """
    taken = [0] * len(sizes)
    chosen: list[int] = []

    def step(group: int) -> float:
        """Change of the distance to the goals by this group; infinite if a subset lost its last image."""
        if any(taken[subset] + count >= sizes[subset] for subset, count in images[group]):
            return math.inf
        return sum(
            abs(goals[subset] - taken[subset] - count) - abs(goals[subset] - taken[subset])
            for subset, count in images[group]
        )

    def choose(group: int) -> None:
        chosen.append(group)
        for subset, count in images[group]:
            taken[subset] += count

    for group in order:
        if step(group) < 0:
            choose(group)
    # A subset whose groups are all larger than its goal: the nearest, if any leaves some behind.
    without = {subset for subset, size in enumerate(sizes) if size > 1 and not taken[subset]}
    candidates: dict[int, list[int]] = {subset: [] for subset in sorted(without)}
    for group in order:
        for subset in without.intersection(subset for subset, _ in images[group]):
            candidates[subset].append(group)
    for subset, found in candidates.items():
        if not taken[subset]:
            nearest = min(found, key=step)
            if step(nearest) < math.inf:
                choose(nearest)
    return chosen
