"""What a run reads: its balance plan, its transforms, and the readers and draws behind its batches."""

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from segbalance.balancing.plan import BalancePlan, balance_plan
from segbalance.balancing.skipping import BadFiles
from segbalance.data_processing.classes import colours_of, names_of
from segbalance.data_processing.manifest import Manifest, natural_order, read_manifest
from segbalance.dataloader.pair_cache import PairReader, open_cache
from segbalance.dataloader.samples import Paths, Subset
from segbalance.errors import InputError
from segbalance.runtime.screen import say
from segbalance.runtime.verbs import named
from segbalance.train.config import TrainConfig
from segbalance.transforms.choice import choose_transforms
from segbalance.transforms.own_file import file_of
from segbalance.transforms.pipelines import subset_transforms
from segbalance.transforms.quiet_albumentations import A

# TensorFlow takes seconds to import: the functions below do so, after the input has been checked.
if TYPE_CHECKING:
    from segbalance.balancing.draws import DrawStream
    from segbalance.dataloader.reading import BatchReader


def read_data(config: TrainConfig, **options: Any) -> Manifest:
    """The Manifest that a config names; `options` as `read_manifest` takes them."""
    data = config.data
    return read_manifest(
        data.csv_dir, data.data_root, allow_outside=data.allow_outside, max_pixels=data.max_pixels, **options
    )


def with_transforms(config: TrainConfig, clones_file: str | Path | None = None) -> TrainConfig:
    """The config with its transforms by name, as `choose_transforms` gives them; prints where they come from.

    Args:
        config: whose `transforms` are the user's own words, or trusted.
        clones_file: the clone's transforms.py, if any.
    """
    names, told = choose_transforms(config.data.transforms, clones_file)
    say(told)
    return config.replace(transforms=names, transforms_source=_source(names))


def _source(names: Mapping[Any, str]) -> str | None:
    file = file_of(names.values())
    return file.sha256 if file else None


def resolved(config: TrainConfig, manifest: Manifest, folder: Path) -> TrainConfig:
    """The config with what depends on the data filled in; `folder` is the run's."""
    if not isinstance(config.data.transforms, dict):
        config = with_transforms(config)
    if config.data.task not in (None, manifest.task):
        raise InputError(
            f"task {config.data.task}, but the manifests in {config.data.csv_dir} are for {manifest.task}. "
            f"Leave --task out, or make manifests with {named('prepare')} --task {config.data.task}."
        )
    images = sum(len(table) for table in manifest.train.values())
    return config.replace(
        data_root=str(manifest.data_root),
        csv_dir=str(Path(config.data.csv_dir).resolve()),
        work_dir=str(folder.resolve()),
        working_size=2 * config.network.image_size
        if config.loading.working_size is None
        else config.loading.working_size,
        steps_per_epoch=config.optimisation.steps_per_epoch
        or math.ceil(images / config.optimisation.batch_size),
        transforms_source=_source(config.transforms),
        fingerprint=manifest.training_fingerprint(),
        task=manifest.task,
        loss=config.optimisation.loss or manifest.kind.loss,
        classes=list(names_of(manifest.classes)),
        class_colours=list(colours_of(manifest.classes)),
    )


def checked_plan(config: TrainConfig, manifest: Manifest) -> tuple[BalancePlan, dict[str, A.Compose]]:
    """The plan of a resolved config, and each subset's pipeline. Raises InputError where it does not fit."""
    transforms = subset_transforms(
        config.transforms, list(manifest.train), config.network.image_size, manifest.kind.with_masks
    )
    sizes = {name: len(table) for name, table in manifest.train.items()}
    return balance_plan(sizes, config.balancing, config.optimisation.batch_size), transforms


def pair_reader(config: TrainConfig) -> PairReader:
    """The PairReader of a resolved config."""
    loading = config.loading
    assert loading.working_size is not None, "resolved"
    cache = open_cache(loading.cache, loading.cache_gb)
    return PairReader(cache, loading.working_size, max_pixels=config.data.max_pixels)


def training_parts(
    config: TrainConfig,
    manifest: Manifest,
    plan: BalancePlan,
    transforms: Mapping[str, A.Compose],
    pairs: PairReader | None = None,
) -> "tuple[BatchReader, DrawStream]":
    """What training reads and draws by a resolved config, with what `checked_plan` gave for it.

    Args:
        pairs: the config's own by default.

    Raises:
        InputError: worker processes are wanted, and a transform cannot be sent to them.
    """
    from segbalance.dataloader import batches as dataloader

    if config.loading.num_workers:
        try:
            pickle.dumps(transforms)
        except Exception as error:  # pickle raises several types
            raise InputError(
                f"a transform cannot be sent to worker processes: {error}. Define its functions at the top "
                "level of a module, or read on threads with --num_workers 0."
            ) from None
    return dataloader.training_parts(
        loader_subsets(manifest, manifest.train, transforms),
        plan,
        image_size=config.network.image_size,
        batch_size=config.optimisation.batch_size,
        steps_per_epoch=config.steps_per_epoch,
        seed=config.run.seed,
        pairs=pairs or pair_reader(config),
        processes=config.loading.num_workers or 0,
        bad_files=BadFiles(config.loading.on_bad_file, config.loading.max_bad_files),
    )


def loader_subsets(
    manifest: Manifest, tables: Mapping[str, pd.DataFrame], transforms: Mapping[str, A.Compose]
) -> list[Subset]:
    """The loader's Subset of each table.

    Args:
        tables: `manifest.train`, or what `valid_tables` gives.
        transforms: of each subset.
    """
    lines = manifest.lines if tables is manifest.train else manifest.valid_lines(tables)

    def truths(table: pd.DataFrame) -> Sequence[str] | np.ndarray:
        values = table[manifest.kind.truth].to_numpy()
        return Paths(manifest.data_root, values) if manifest.encoding.in_files else values

    return [
        Subset(
            name,
            Paths(manifest.data_root, table["images"].to_numpy()),
            truths(table),
            transforms[name],
            manifest.encoding,
            photo_sizes(table),
            *lines[name],
        )
        for name, table in tables.items()
    ]


def photo_sizes(table: pd.DataFrame) -> np.ndarray:
    """int32 (rows, 2), the width and height of each row's photo; 0 where the table does not know them."""
    return table[["width", "height"]].fillna(0).clip(0, 2**31 - 1).to_numpy(np.int32)


def valid_tables(manifest: Manifest) -> dict[str, pd.DataFrame]:
    """{subset: validation rows}, the training subsets' order first."""
    tables = {str(name): rows for name, rows in manifest.valid.groupby("type", sort=False)}
    known = [name for name in manifest.train if name in tables]
    return {name: tables[name] for name in known + sorted(tables.keys() - set(known), key=natural_order)}
