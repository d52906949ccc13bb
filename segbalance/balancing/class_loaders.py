"""The loaders of a dataset's classes, and the order in which elements are drawn from them.

All of it is TensorFlow's own operations: a dataset with Python inside is still called while the interpreter
ends, which ends it badly.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf  # not legacy_keras: a tf.data.Dataset goes with either Keras

from segbalance.balancing.dataset_classes import LabelledElements, require
from segbalance.balancing.plan import BalancePlan

UNSPLIT = ("none", "loss")  # strategies that leave the elements in the dataset's own shares

# There is no Python control flow in these functions, and looking for some takes time for every class.
plain_graph = tf.autograph.experimental.do_not_convert


def class_loaders(
    labelled: LabelledElements, counts: Mapping[Any, int], strategy: str, kept_elements: int
) -> tuple[list[tf.data.Dataset], list[int]]:
    """One pass of each class, or one of all classes where the strategy leaves the shares as they are.

    Args:
        labelled: LabelledElements.
        counts: {class: elements}.
        strategy: one of any_dataset.STRATEGIES.
        kept_elements: as of `any_dataset.balance_dataset`.

    Returns:
        (list of tf.data.Dataset as `whole_pass` gives them, list of how many elements they have)
    """
    if strategy in UNSPLIT:
        total = sum(counts.values())
        elements = whole_pass(labelled.elements, "the dataset", total)
        return [elements.cache() if total <= kept_elements else elements], [total]
    kept, loaders = kept_classes(counts, kept_elements), []
    for (name, count), own in zip(counts.items(), labelled.members(counts), strict=True):
        elements = whole_pass(own, f"class {name}", count)
        loaders.append(elements.cache() if name in kept else elements)
    return loaders, list(counts.values())


def kept_classes(counts: Mapping[Any, int], most: int) -> set[Any]:
    """The smallest classes that have at most `most` elements together, a set."""
    smallest_first = sorted(counts, key=counts.__getitem__)
    together = itertools.accumulate(counts[name] for name in smallest_first)
    return {name for name, total in zip(smallest_first, together, strict=True) if total <= most}


def whole_pass(elements: tf.data.Dataset, what: str, count: int) -> tf.data.Dataset:
    """The same elements, each as a tf.experimental.Optional, with an end after just `count` of them.

    While it is read, it fails with tf.errors.InvalidArgumentError where they are fewer or more.
    """
    optional, spec = tf.experimental.Optional, elements.element_spec
    complaint = f"{what}: expected {count} elements in every pass of the dataset, as counted or given; got"

    @plain_graph
    def present(*parts: Any) -> Any:
        return optional.from_value(tf.nest.pack_sequence_as(spec, tf.nest.flatten(parts)))

    @plain_graph
    def checked(place: tf.Tensor, element: Any) -> tf.Tensor:
        there = element.has_value()
        require(there | (place >= count), complaint, place)
        require(~there | (place < count), complaint, "more")
        return there

    end = tf.data.Dataset.from_tensors(optional.empty(spec))
    return elements.map(present).concatenate(end).enumerate().filter(checked)


def passes(elements: tf.data.Dataset, count: int, shuffle_buffer: int, seed: tf.Tensor) -> tf.data.Dataset:
    """Passes over `count` elements, as `whole_pass` gives them, without end and each shuffled anew.

    Returns:
        tf.data.Dataset of (bool (), whether the element is a copy: not of the first pass; element).
    """

    @plain_graph
    def marked(place: tf.Tensor, numbered: Any) -> tuple[tf.Tensor, Any]:
        return place >= count, numbered[1].get_value()

    if shuffle_buffer > 1:
        # One place more than elements, so that the end of the pass is met before its last element is drawn.
        elements = elements.shuffle(min(count + 1, shuffle_buffer), seed)
    return elements.repeat().enumerate().map(marked)


def draws(
    loaders: Sequence[tf.data.Dataset],
    counts: Sequence[int],
    plan: BalancePlan,
    *,
    batch_size: int | None,
    shuffle_buffer: int,
    seed: int,
) -> tf.data.Dataset:
    """The loaders' elements in the order that a BalancePlan asks for; in each iteration in another one.

    Args:
        loaders: one pass of each, as `class_loaders` gives them.
        counts: elements of each loader.

    Returns:
        tf.data.Dataset of ((bool () whether it is a copy, element), int64 (2,) seed of the draw's own).
    """

    @plain_graph
    def iteration(seeds: tf.Tensor) -> tf.data.Dataset:
        # Of this function's graph alone: the caller's tf.random.set_seed must not change the draws.
        tf.random.set_seed(1)
        endless = [
            passes(loader, count, shuffle_buffer, seeds[number + 2])
            for number, (loader, count) in enumerate(zip(loaders, counts, strict=True))
        ]
        return tf.data.Dataset.zip((mixed(endless, plan, batch_size, seeds[0]), random_seeds(seeds[1])))

    # Every iteration is seeded by its number, however far the one before was read.
    return random_seeds(seed, len(loaders) + 2).take(1).flat_map(iteration)


def mixed(
    loaders: Sequence[tf.data.Dataset], plan: BalancePlan, batch_size: int | None, seed: tf.Tensor
) -> tf.data.Dataset:
    """Endless loaders' elements in the order that a BalancePlan asks for."""
    if plan.balance in UNSPLIT:
        return loaders[0]
    if plan.balance == "exact":
        assert batch_size is not None, "checked with the options"
        return tf.data.Dataset.choose_from_datasets(loaders, exact_choices(plan.shares, batch_size, seed))
    if plan.pass_lengths is not None:  # of oversample
        return tf.data.Dataset.choose_from_datasets(loaders, one_pass_choices(plan.pass_lengths, seed))
    return tf.data.Dataset.sample_from_datasets(loaders, list(plan.shares), seed=seed)


def one_pass_choices(pass_lengths: np.ndarray, seed: tf.Tensor) -> tf.data.Dataset:
    """The classes of the draws of one pass of `oversample`: each class its number of times, shuffled.

    As draws.OversampledPasses; its order takes 8 bytes of memory a draw.

    Args:
        pass_lengths: int (classes,).

    Returns:
        tf.data.Dataset of int64 ().
    """

    @plain_graph
    def shuffled(seeds: tf.Tensor) -> tf.data.Dataset:
        in_order = tf.repeat(tf.range(len(pass_lengths), dtype=tf.int64), pass_lengths)
        return tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(in_order, seeds))

    return random_seeds(seed).take(1).flat_map(shuffled)


def exact_choices(shares: np.ndarray, batch_size: int, seed: tf.Tensor) -> tf.data.Dataset:
    """The classes of draws without end, of which every batch has `shares * batch_size` of each, shuffled.

    As draws.ExactBatches: where that is no whole number, it is the whole number below or above, and the
    places left over go to the classes furthest behind.

    Args:
        shares: float (classes,), sum 1.

    Returns:
        tf.data.Dataset of int64 ().
    """
    due = shares * batch_size
    least = np.floor(due + 1e-9)  # 0.2 * 15 may be a little below 3
    left_over = batch_size - int(least.sum())
    takes_turns = due - least > 1e-9

    @plain_graph
    def batch(drawn: tf.Tensor, numbered_seeds: Any) -> tuple[tf.Tensor, tf.Tensor]:
        number, seeds = numbered_seeds
        behind = tf.where(takes_turns, tf.cast(number + 1, tf.float64) * due - drawn - least, -np.inf)
        furthest = tf.argsort(behind, direction="DESCENDING", stable=True)[:left_over]
        counts = least + tf.reduce_sum(tf.one_hot(furthest, len(shares), dtype=tf.float64), axis=0)
        in_order = tf.repeat(tf.range(len(shares), dtype=tf.int64), tf.cast(counts, tf.int64))
        return drawn + counts, tf.random.experimental.stateless_shuffle(in_order, seeds)

    nothing_drawn = tf.zeros(len(shares), tf.float64)
    return random_seeds(seed).enumerate().scan(nothing_drawn, batch).unbatch()


def random_seeds(seed: int | tf.Tensor, together: int = 2) -> tf.data.Dataset:
    """Seeds for random operations, int64 (together,), without end; others in each iteration."""
    numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return numbers.batch(together, drop_remainder=True)


def in_step() -> tf.data.Options:
    """tf.data.Options under which every loader reads what is drawn from it, when it is drawn.

    TensorFlow would let maps read ahead otherwise: more than is needed, and in no order that repeats. And the
    end of an iterator would wait for the tuner, which sleeps for seconds.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.map_parallelization = False
    options.experimental_optimization.inject_prefetch = False
    return options
