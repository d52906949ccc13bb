"""What `scripts/benchmarks/loader.py` compares: loaders of the same pairs through the same transforms.

A loader is a function of a Race; it returns an iterator over batches without end, and a function that tells
whether it has got going. All read with `working_size.read_pair`, mix the subsets with equal weights and, in a
cached race, hold decoded pixels in memory. Each runs in a process of its own, so libraries are imported late.
"""

import copy
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segbalance.balancing.plan import balance_plan
from segbalance.dataloader.pair_cache import NoCache, PairReader
from segbalance.dataloader.ram_cache import RamCache
from segbalance.dataloader.samples import Subset
from segbalance.dataloader.working_size import read_pair
from segbalance.train.options import BalanceOptions
from segbalance.transforms.pipelines import apply_transform

CACHE_BYTES = 4 * 10**9
PIXELS_HELD = 100000  # the size of the tutorial's shuffle buffer


@dataclass(frozen=True)
class Race:
    """What every loader is given.

    Args:
        subsets: list of Subset, all with one transform.
        image_size: pixels of the output.
        batch_size: images a batch.
        working_size: pixels of the long side after decoding, 0 for the files' own.
        cached: whether decoded pixels are held in memory.
        workers: threads or processes of each loader.
    """

    subsets: list[Subset]
    image_size: int
    batch_size: int
    working_size: int = 0
    cached: bool = False
    workers: int = os.cpu_count()

    @cached_property
    def pairs(self):
        """PairReader of `ours`; it has read all pairs where they are held in memory."""
        pairs = PairReader(RamCache(CACHE_BYTES) if self.cached else NoCache(), self.working_size)
        if self.cached:
            self._for_all(
                lambda subset, row: pairs.read(subset.images[row], subset.masks[row], subset.encoding)
            )
        return pairs

    @cached_property
    def held(self):
        """{subset: its decoded pairs}, as one would hold them for the other libraries; None if uncached."""
        if not self.cached:
            return None
        decoded = iter(self._for_all(self.read))
        return {subset.name: list(itertools.islice(decoded, len(subset))) for subset in self.subsets}

    def _for_all(self, function):
        places = [(subset, row) for subset in self.subsets for row in range(len(subset))]
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(function, *zip(*places, strict=True)))

    def hold(self, name):
        """Decodes what loader `name` holds in memory, before the clock."""
        return self.pairs if name == "ours" else self.held

    def read(self, subset, row):
        """A pair before its transform: uint8 (H, W, 3) and uint8 (H, W)."""
        return read_pair(subset.images[row], subset.masks[row], subset.encoding, self.working_size)

    def pair(self, subset, row):
        """What `read` gives, held in memory or not."""
        return self.held[subset.name][row] if self.cached else self.read(subset, row)

    @property
    def transform(self):
        """The Compose of all subsets."""
        return self.subsets[0].transform


def ours(race):
    """Draws mixed, pixels read by worker processes where a batch needs them."""
    from segbalance.dataloader.batches import training_dataset

    sizes = {subset.name: len(subset) for subset in race.subsets}
    dataset, reader, _ = training_dataset(
        race.subsets,
        balance_plan(sizes, BalanceOptions(), race.batch_size),
        image_size=race.image_size,
        batch_size=race.batch_size,
        steps_per_epoch=-(-sum(sizes.values()) // race.batch_size),
        seed=0,
        pairs=race.pairs,
        processes=race.workers,
    )
    return iter(dataset), reader.ready


def tutorial(race):
    """The tutorial's order: decode, augment, shuffle and repeat the pixels, then mix the subsets."""
    from segbalance.legacy_keras import tf

    def loader(subset):
        def decode(row):
            image, mask = race.pair(subset, row)
            return image, mask[..., None]

        def augment(image, mask):
            image, mask = apply_transform(race.transform, image, mask[..., 0])
            return image, mask[..., None]

        def decoded(row):
            return tf.numpy_function(decode, [row], [tf.uint8, tf.uint8])

        def augmented(image, mask):
            return tf.numpy_function(augment, [image, mask], [tf.uint8, tf.uint8])

        pairs = tf.data.Dataset.range(len(subset)).map(decoded, tf.data.AUTOTUNE)
        return pairs.map(augmented, tf.data.AUTOTUNE).shuffle(PIXELS_HELD).repeat()

    weights = [1 / len(race.subsets)] * len(race.subsets)
    mixed = tf.data.Dataset.sample_from_datasets([loader(subset) for subset in race.subsets], weights, seed=0)
    return iter(mixed.batch(race.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)), at_once


def at_once():
    """True: there is nothing to wait for."""
    return True


class Examples:
    """The pairs of some subsets as a sequence of augmented ones, which is what PyTorch and Grain take.

    Args:
        race: Race.
        subsets: list of Subset.
    """

    def __init__(self, race, subsets):
        self.places = [(subset, row) for subset in subsets for row in range(len(subset))]
        self.race = race
        self._own = threading.local()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_own"}

    def __setstate__(self, state):
        self.__dict__.update(state, _own=threading.local())

    def __len__(self):
        return len(self.places)

    def __getitem__(self, number):
        """(uint8 (S, S, 3), uint8 (S, S, 1)) of pair `number`."""
        if not hasattr(self._own, "transform"):
            self._own.transform = copy.deepcopy(self.race.transform)
        image, mask = self.race.pair(*self.places[number])
        image, mask = apply_transform(self._own.transform, image, mask)
        return image, mask[..., None]


def pytorch(race):
    """PyTorch: DataLoader with a WeightedRandomSampler that gives each subset the same weight."""
    from torch.utils.data import DataLoader, WeightedRandomSampler

    weights = np.concatenate([np.full(len(subset), 1 / len(subset)) for subset in race.subsets])
    loader = DataLoader(
        Examples(race, race.subsets),
        race.batch_size,
        sampler=WeightedRandomSampler(weights, 10**6),
        num_workers=race.workers,
        drop_last=True,
    )
    return iter(loader), at_once


def grain_mixture(race):
    """Grain's MapDataset.mix of the shuffled subsets, each repeated for ever."""
    import grain

    parts = [
        grain.MapDataset.source(Examples(race, [subset])).seed(0).shuffle().repeat()
        for subset in race.subsets
    ]
    return grain.MapDataset.mix(parts, [1 / len(parts)] * len(parts))


def grain_threads(race):
    """Grain: a mixture read by threads."""
    import grain

    options = grain.ReadOptions(num_threads=race.workers, prefetch_buffer_size=2 * race.batch_size)
    batches = grain_mixture(race).to_iter_dataset(options).batch(race.batch_size, drop_remainder=True)
    return iter(batches), at_once


def grain_processes(race):
    """Grain: a mixture read by processes, a thread in each."""
    import grain
    from absl import flags

    flags.FLAGS(["benchmark"])  # its processes want parsed flags
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=race.batch_size)
    batches = grain_mixture(race).to_iter_dataset(options).batch(race.batch_size, drop_remainder=True)
    workers = grain.MultiprocessingOptions(num_workers=race.workers, per_worker_buffer_size=2)
    return iter(batches.mp_prefetch(workers)), at_once


LOADERS = {
    "ours": ours,
    "tutorial": tutorial,
    "pytorch": pytorch,
    "grain threads": grain_threads,
    "grain processes": grain_processes,
}
# What each of them imports.
LIBRARIES = {
    "ours": "segbalance.dataloader.batches",
    "tutorial": "segbalance.legacy_keras",
    "pytorch": "torch.utils.data",
    "grain threads": "grain",
    "grain processes": "grain",
}
