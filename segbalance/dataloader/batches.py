"""Manifests -> balanced batches: draws are shuffled and mixed, pixels are read where a batch needs them."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from segbalance.balancing.draws import Draws, DrawStream, ExactBatches, OversampledPasses
from segbalance.balancing.plan import BalancePlan
from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import Subset
from segbalance.legacy_keras import tf

BATCHES_A_BLOCK = 16  # of draws, for their way between TensorFlow and Python costs more than a batch of them

# There is no Python control flow in these functions, and looking for some delays the first batch.
plain_graph = tf.autograph.experimental.do_not_convert

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # images, masks, subsets


class Reader(Protocol):
    """What reads a batch: a BatchReader, or what stands for one."""

    image_size: int
    mask_size: int

    def batches_ahead(self, batch_size: int) -> int: ...

    def read(
        self, draws: np.ndarray, plain: np.ndarray, step: int = -1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


class Stream(Protocol):
    """What says which draws come when: a DrawStream, or what stands for one."""

    batch_size: int

    def steps(self, first_step: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...


def subset_draws(index: int, subsets: int, position: int | tf.Tensor = 0) -> tf.data.Dataset:
    """The loader of subset number `index` of `subsets`: its draws without end, from `position` on.

    Returns:
        tf.data.Dataset of int64 scalars.
    """
    # Not Dataset.counter, which calls a function for each number.
    return tf.data.Dataset.range(index + subsets * position, tf.int64.max, subsets)


class Mixture:
    """The loaders of all subsets, mixed by `sample_from_datasets` with the weights `shares`.

    Each epoch the mixture is seeded anew and every loader goes on where it stands, so that a later epoch is
    found without its pixels. The draws are a function of (shares, seed, epoch, positions) alone.

    Args:
        shares: float (subsets,), sum 1.
        seed: of the run.
    """

    def __init__(self, shares: Sequence[float] | np.ndarray, seed: int) -> None:
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._positions = tf.Variable(tf.zeros(len(shares), tf.int64), trainable=False)

        @plain_graph
        def mix() -> tf.data.Dataset:
            # Of this function's graph alone: the caller's tf.random.set_seed must not change the draws.
            # Never 0, which TensorFlow takes for «no seed».
            tf.random.set_seed(seed + 1)
            loaders = [subset_draws(k, len(shares), self._positions[k]) for k in range(len(shares))]
            return tf.data.Dataset.sample_from_datasets(loaders, list(shares), seed=self._epoch.read_value())

        self._mix = mix
        self._blocks: dict[tuple[int, int], Iterator[tf.Tensor]] = {}  # by batch size and steps

    def epoch_batches(
        self, epoch: int, positions: np.ndarray, *, batch_size: int, steps: int
    ) -> Iterator[np.ndarray]:
        """Yields the int64 (batch_size,) draws of the `steps` steps of an epoch.

        Args:
            positions: int64 (subsets,), where each loader stands at the epoch's start.
        """
        self._epoch.assign(epoch)
        self._positions.assign(positions)
        # One iterator serves every epoch, for making one takes as long as mixing thousands of draws.
        blocks = self._blocks.pop((batch_size, steps), None) or self._endless_epochs(batch_size, steps)
        steps_done = 0
        while steps_done < steps:
            block = next(blocks).numpy()
            steps_done += len(block)
            yield from block
        self._blocks[batch_size, steps] = blocks

    def _endless_epochs(self, batch_size: int, steps: int) -> Iterator[tf.Tensor]:
        @plain_graph
        def blocks(_: tf.Tensor) -> tf.data.Dataset:
            return self._mix().batch(batch_size).take(steps).batch(BATCHES_A_BLOCK)

        # Each element of the counter is an epoch, mixed as the variables say when it is reached.
        return iter(tf.data.Dataset.counter().flat_map(blocks).with_options(fixed_settings()))


def draw_order(plan: BalancePlan, seed: int) -> ExactBatches | OversampledPasses | Mixture:
    """What decides on the next subset under a BalancePlan."""
    if plan.balance == "exact":
        return ExactBatches(plan.shares, seed)
    if plan.pass_lengths is not None:
        return OversampledPasses(plan.pass_lengths, seed)
    return Mixture(plan.shares, seed)


def read_batches(
    draws: tf.data.Dataset, reader: Reader, batches_ahead: int, *, warm_start: bool = True
) -> tf.data.Dataset:
    """Dataset of int64 (B,) draws or of the arguments of `reader.read` -> dataset of what that gives.

    Args:
        warm_start: whether to read from the iterator's making on, while the model is traced.
    """
    size, mask_size = reader.image_size, reader.mask_size

    @plain_graph
    def read(batch: tf.Tensor, plain: tf.Tensor | None = None, step: tf.Tensor | int = -1) -> Batch:
        if plain is None:
            plain = tf.zeros_like(batch, tf.bool)
        images, masks, subsets = tf.numpy_function(
            reader.read, [batch, plain, step], [tf.uint8, tf.uint8, tf.int32], stateful=False
        )
        images.set_shape((batch.shape[0], size, size, 3))
        masks.set_shape((batch.shape[0], mask_size, mask_size, 1))
        subsets.set_shape((batch.shape[0],))
        return images, masks, subsets

    batches = draws.map(read, num_parallel_calls=batches_ahead, deterministic=True)
    options = fixed_settings()
    options.experimental_warm_start = warm_start
    return batches.prefetch(batches_ahead).with_options(options)


def timed_waiting(batches: tf.data.Dataset) -> tuple[tf.data.Dataset, tf.Variable]:
    """Measures how long the consumer of a dataset waits for it.

    The clock runs from the moment in which an element is asked for to that in which it is handed over; it
    is part of the graph. What asks ahead of the model, as `prefetch` and tf.distribute over several devices
    do, would itself be the consumer.

    Returns:
        (dataset of the same elements, scalar float64 tf.Variable of the seconds waited so far)
    """
    with tf.device("CPU:0"):
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def stop(asked: tf.Tensor, *element: tf.Tensor) -> tuple[tf.Tensor, ...]:
        waited.assign_add(tf.timestamp() - asked)
        return element

    # Zip asks its datasets one after the other, so that the clock is read before the element is waited for.
    asked = tf.data.Dataset.counter().map(lambda _: tf.timestamp())
    timed = tf.data.Dataset.zip((asked, batches)).map(lambda asked, element: stop(asked, *element))
    return timed.with_options(fixed_settings()), waited


def fixed_settings() -> tf.data.Options:
    """tf.data.Options without autotuning, for there is nothing left to tune.

    The tuner sleeps for twice as long each time, and an iterator's end waits for it: up to as long again as
    the iterator has lived.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def training_parts(
    subsets: Sequence[Subset],
    plan: BalancePlan,
    *,
    image_size: int,
    batch_size: int,
    steps_per_epoch: int,
    seed: int,
    **reading: Any,
) -> tuple[BatchReader, DrawStream]:
    """What training draws and what reads it, balanced as the BalancePlan `plan` says.

    Args:
        subsets: list of Subset, in the order of the plan's.
        reading: `threads`, `pairs`, `processes` and `bad_files` of BatchReader.

    Returns:
        (BatchReader, DrawStream)
    """
    draws = Draws([len(subset) for subset in subsets], seed, plan.pass_lengths)
    reader = BatchReader(subsets, image_size, draws, **reading)
    stream = DrawStream(
        draw_order(plan, seed),
        draws,
        [subset.images for subset in subsets],
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        augment=plan.augment,
        bad_files=reader.bad_files,
    )
    return reader, stream


def training_batches(reader: Reader, stream: Stream, first_step: int = 0) -> tf.data.Dataset:
    """Endless batches of a DrawStream, read by a BatchReader.

    Returns:
        tf.data.Dataset of uint8 (B, S, S, 3) images, uint8 (B, S, S, 1) class ids, (B, 1, 1, 1) of labels,
        and int32 (B,) subsets.
    """
    size = (BATCHES_A_BLOCK, stream.batch_size)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        steps = stream.steps(first_step)
        for first in itertools.count(first_step, BATCHES_A_BLOCK):
            draws, plain = zip(*itertools.islice(steps, BATCHES_A_BLOCK), strict=True)
            yield np.stack(draws), np.stack(plain), np.arange(first, first + BATCHES_A_BLOCK)

    steps = tf.data.Dataset.from_generator(
        blocks,
        output_signature=(
            tf.TensorSpec(size, tf.int64),
            tf.TensorSpec(size, tf.bool),
            tf.TensorSpec(size[:1], tf.int64),
        ),
    ).unbatch()
    return read_batches(steps, reader, reader.batches_ahead(stream.batch_size))


def training_dataset(
    subsets: Sequence[Subset], plan: BalancePlan, *, first_step: int = 0, **options: Any
) -> tuple[tf.data.Dataset, BatchReader, DrawStream]:
    """Endless batches balanced as the BalancePlan `plan` says, from the first step to the last.

    A batch is a function of the arguments and its step alone, whatever reads it.

    Args:
        subsets: list of Subset, in the order of the plan's.
        options: the others of `training_parts`.

    Returns:
        (dataset as `training_batches` gives it, its BatchReader, its DrawStream)
    """
    reader, stream = training_parts(subsets, plan, **options)
    return training_batches(reader, stream, first_step), reader, stream


def validation_dataset(
    subsets: Sequence[Subset],
    *,
    image_size: int,
    batch_size: int,
    threads: int | None = None,
    pairs: PairReader | None = None,
) -> tuple[tf.data.Dataset, BatchReader]:
    """Every pair of `subsets` once, in order; the last batch may be smaller.

    A pair that cannot be read always ends it, for scores of fewer images must not pass as those of all.

    Returns:
        (dataset as `training_dataset` gives it, BatchReader)
    """
    in_order = InOrder([len(subset) for subset in subsets], seed=0)
    reader = BatchReader(subsets, image_size, in_order, threads, pairs)
    every = np.concatenate(
        [index + len(subsets) * np.arange(len(subset)) for index, subset in enumerate(subsets)]
    )
    draws = tf.data.Dataset.from_tensor_slices(every).batch(batch_size)
    return read_batches(draws, reader, reader.batches_ahead(batch_size)), reader


class InOrder(Draws):
    """Draws without shuffling: a subset's position is its row."""

    def row(self, subset: int, position: int) -> int:
        return position % int(self.sizes[subset])
