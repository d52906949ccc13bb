"""Any tf.data.Dataset of classes -> a balanced one, by the strategies of plan.py.

Every class has a loader, the dataset filtered, in passes without end. The loaders are mixed by
`sample_from_datasets`, or in an order of their own where a strategy promises exact numbers. What costs time,
`decode` and `augment`, comes after the mixing: it is done for what is delivered and for nothing else.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf  # not legacy_keras: a tf.data.Dataset goes with either Keras

from segbalance.balancing import plan as balancing
from segbalance.balancing.class_loaders import class_loaders, draws, in_step
from segbalance.balancing.dataset_classes import LabelledElements
from segbalance.balancing.plan import AUGMENT, balance_plan, class_weights, option_problems
from segbalance.errors import InputError

STRATEGIES = tuple(name for name in balancing.STRATEGIES if name != "pixel")  # which needs masks


@dataclass(frozen=True)
class ClassBalance:
    """The options of balancing that `balance_plan` reads, with classes for its subsets.

    Args:
        balance: one of STRATEGIES.
        balance_alpha: exponent of `power`, 0 (uniform) to 1 (none); 0.5 by default.
        shares: of `shares` or `exact`, {class: share}; 0 leaves a class out, `default` is for the others.
        oversample_only: the classes that `oversample` repeats up to the largest; all by default.
        oversample_below: classes of fewer elements are repeated, besides those of oversample_only.
        copies: how often `oversample` repeats a class, {class: factor}; the others then stay as they are.
        oversample_limit: most repeats of one element in a pass of `oversample`.
    """

    balance: str
    balance_alpha: float | None = None
    shares: dict[Any, float] | None = None
    oversample_only: list[Any] = field(default_factory=list)
    oversample_below: int | None = None
    copies: dict[Any, float] | None = None
    oversample_limit: int | None = None
    # No options: class weights go with the elements, and any_dataset itself tells copies.
    loss_weights = "none"
    augment = "all"

    def __post_init__(self) -> None:
        for name in ("shares", "copies"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, {str(key): value for key, value in given.items()})
        object.__setattr__(self, "oversample_only", [str(name) for name in self.oversample_only])


def balance_dataset(
    dataset: tf.data.Dataset,
    label_fn: Callable[..., Any] | None = None,
    strategy: str = "uniform",
    *,
    counts: Mapping[Any, int] | None = None,
    batch_size: int | None = None,
    decode: Callable[..., Any] | None = None,
    augment: Callable[..., Any] | None = None,
    augment_what: str = "all",
    shuffle_buffer: int = 16,
    kept_elements: int = 0,
    seed: int = 0,
    **options: Any,
) -> tf.data.Dataset:
    """The elements of a finite dataset, each class as often as the strategy says.

    `uniform`: without end, drawn at random, every class with the same share. `power`, `shares`: the same with
    shares by size to a power, or with given ones. `oversample`: one finite pass, in which each class is
    repeated up to the largest; every element comes at least once, and none more than once oftener than
    another of its class. `exact`: batches without end, each with the same number of every class, or by
    `shares`. `none`: the dataset's own passes, without end. `loss`: the same, in triples (image, label,
    weight) for Keras; the weight is that of `plan.class_weights`, float32 ().

    What `dataset` does by itself (reading, decoding) it does for all its N elements once to count them,
    unless `counts` is given; and for all N again in every pass of every class, for a class's loader finds its
    n elements by going through all: N / n are made for one that is drawn. An `image_dataset_from_directory`
    so decodes what is passed over, too. Only `none` and `loss` pass over nothing. Three ways out:

    - `decode`: let `dataset` yield what is cheap, such as paths, or encoded files as
      tfds.decode.SkipDecoding leaves them. `label_fn` sees these; `decode` is called once for each element
      delivered (a few ahead of what is asked for), and never to count or to find.
    - `kept_elements`: the smallest classes, whose loaders pass over most, stay in memory after a pass each.
    - `dataset.cache()`, or `.cache(file)`, without `counts`: the counting fills it, and each element is made
      once in all.

    Nothing else is kept: memory holds `shuffle_buffer` elements of each class, one batch of each class where
    the dataset has batches, and what is being decoded. The data may be larger than memory.

    A seed gives the same elements in the same order, if the dataset itself is repeatable and
    tf.random.set_seed was called alike. Each iteration over the result has another order.

    Args:
        dataset: tf.data.Dataset of single elements or of batches, which are taken apart; such as
            `tfds.load(..., as_supervised=True)` or `image_dataset_from_directory` gives.
        label_fn: function of an element's parts that gives its class, one integer or string; see
            LabelledElements. The second of a pair by default.
        strategy: one of STRATEGIES.
        counts: {class: elements}, by a pass over the dataset if None.
        batch_size: elements a batch; None for single elements. `exact` needs it.
        decode: function of an element's parts that gives the element as it is wanted.
        augment: function of a decoded element's parts that gives an element alike; every draw is augmented by
            itself. If it has an argument `seed`, it is given one, int64 (2,), for the likes of
            tf.image.stateless_random_flip_left_right. Only so are random changes repeatable.
        augment_what: `all` draws; or `copies`, all but an element's first draw in an iteration over the
            result. Under the strategies without end, all but the first pass of a class are copies.
        shuffle_buffer: elements of each class, as they come from `dataset`, to shuffle among. The further
            draws in a pass of `oversample` fall upon those that come first.
        kept_elements: most elements, as they come from `dataset`, to keep in memory.
        seed: of the draws.
        options: those of ClassBalance.

    Returns:
        tf.data.Dataset, of single elements or of batches.

    Raises:
        InputError: the arguments fit neither each other nor the dataset, or it is empty. What only shows
            while the result is read, a pass with other elements than were counted or given, is a
            tf.errors.InvalidArgumentError then.
    """
    balance = _checked_options(strategy, options, batch_size, augment, augment_what)
    labelled = LabelledElements(dataset, label_fn)
    _check_functions(labelled.elements, strategy, decode, augment, augment_what)
    counts = labelled.counts() if counts is None else labelled.checked_counts(counts)
    plan = balance_plan({str(name): count for name, count in counts.items()}, balance, batch_size)
    loaders, sizes = class_loaders(labelled, counts, strategy, kept_elements)
    drawn = draws(loaders, sizes, plan, batch_size=batch_size, shuffle_buffer=shuffle_buffer, seed=seed)
    weigh = _weighing(labelled, counts) if strategy == "loss" else None
    finish = _finishing(decode, augment, augment_what, weigh)
    balanced = drawn.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # So that Keras and len() know it, which cannot be seen through the mixing.
    length = tf.data.INFINITE_CARDINALITY if plan.pass_lengths is None else plan.pass_lengths.sum()
    balanced = balanced.apply(tf.data.experimental.assert_cardinality(int(length))).with_options(in_step())
    if batch_size is None:
        return balanced
    return balanced.batch(batch_size, drop_remainder=strategy == "exact").prefetch(1)


def _checked_options(
    strategy: str,
    options: dict[str, Any],
    batch_size: int | None,
    augment: Callable[..., Any] | None,
    augment_what: str,
) -> ClassBalance:
    """ClassBalance of arguments that fit each other; else InputError says all that do not."""
    if strategy not in STRATEGIES:
        raise InputError(f"strategy {strategy!r} is unknown; known: {', '.join(STRATEGIES)}")
    balance = ClassBalance(strategy, **options)
    problems = list(option_problems(balance))
    if strategy == "exact" and batch_size is None:
        problems.append("strategy exact needs batch_size, for its numbers are those of a batch")
    if batch_size is not None and batch_size < 1:
        problems.append(f"batch_size must be at least 1, got {batch_size}")
    if augment_what not in AUGMENT:
        problems.append(f"augment_what {augment_what!r} is unknown; known: {', '.join(AUGMENT)}")
    if augment_what == "copies" and augment is None:
        problems.append("augment_what copies needs a function augment")
    if problems:
        raise InputError("\n".join(problems))
    return balance


def _check_functions(
    elements: tf.data.Dataset,
    strategy: str,
    decode: Callable[..., Any] | None,
    augment: Callable[..., Any] | None,
    augment_what: str,
) -> None:
    """Raises InputError where an element cannot be what is needed of it in the end."""
    if decode is not None:
        elements = elements.map(decode)
    if augment is not None:
        seed = {"seed": tf.zeros(2, tf.int64)} if _takes_seed(augment) else {}
        augmented = elements.map(lambda *element: augment(*element, **seed))
        if augment_what == "copies" and _types(augmented) != _types(elements):
            raise InputError(
                f"augment_what copies leaves some elements as they are, {elements.element_spec}; expected "
                f"augment to give the same types, got {augmented.element_spec}"
            )
        elements = augmented
    spec = elements.element_spec
    if strategy == "loss" and not (isinstance(spec, tuple) and len(spec) == 2):
        raise InputError(
            f"strategy loss adds a weight to pairs (image, label), got {spec}. Take strategy none and "
            "balancing.class_weights."
        )


def _types(elements: tf.data.Dataset) -> Any:
    return tf.nest.map_structure(lambda spec: spec.dtype, elements.element_spec)


def _takes_seed(augment: Callable[..., Any]) -> bool:
    return "seed" in inspect.signature(augment).parameters


def _weighing(labelled: LabelledElements, counts: Mapping[Any, int]) -> Callable[..., tf.Tensor]:
    """Function of an element's parts that gives the weight of its class, float32 ()."""
    weights = tf.constant(list(class_weights(counts).values()), tf.float32)
    place = labelled.place_function(counts)
    return lambda *element: tf.gather(weights, place(*element))


def _finishing(
    decode: Callable[..., Any] | None,
    augment: Callable[..., Any] | None,
    augment_what: str,
    weigh: Callable[..., tf.Tensor] | None,
) -> Callable[[Any, tf.Tensor], Any]:
    """What becomes of a draw: function((bool (), element), int64 (2,) seed) -> the element delivered."""
    takes_seed = augment is not None and _takes_seed(augment)

    def augmented(element: Any, seed: tf.Tensor) -> Any:
        options = {"seed": seed} if takes_seed else {}
        return _applied(augment, element, options)  # type: ignore[arg-type]  # called where there is one

    def finish(drawn: Any, seed: tf.Tensor) -> Any:
        copy, element = drawn
        weight = () if weigh is None else (_applied(weigh, element),)
        if decode is not None:
            element = _applied(decode, element)
        if augment is not None and augment_what == "copies":
            element = tf.cond(copy, lambda: augmented(element, seed), lambda: element)
        elif augment is not None:
            element = augmented(element, seed)
        return (*element, *weight) if weight else element

    return finish


def _applied(function: Callable[..., Any], element: Any, options: dict[str, Any] | None = None) -> Any:
    """`function` of an element's parts, as Dataset.map calls it."""
    parts = element if isinstance(element, tuple) else (element,)
    return function(*parts, **(options or {}))
