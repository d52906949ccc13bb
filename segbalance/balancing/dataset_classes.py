"""Which class each element of a tf.data.Dataset belongs to, and how many elements there are of each."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from numbers import Integral
from typing import Any

import tensorflow as tf  # not legacy_keras: a tf.data.Dataset goes with either Keras

from segbalance.errors import InputError

COUNTED_AT_ONCE = 1024  # labels, for their way from TensorFlow to Python costs more than the label
ONE_LABEL = (
    "For one-hot labels pass label_fn=lambda image, label: tf.argmax(label, -1); for 0.0 and 1.0 in an axis "
    "of its own, label_fn=lambda image, label: tf.cast(tf.squeeze(label, -1), tf.int64)."
)


def count_classes(
    dataset: tf.data.Dataset, label_fn: Callable[..., Any] | None = None
) -> dict[int | str, int]:
    """Elements of each class, by one pass over a dataset; see LabelledElements.

    Returns:
        {class: elements}, in the order of the classes, which are int or str.

    Raises:
        InputError: the dataset is empty or without end, or its labels are not one integer or string each.
    """
    return LabelledElements(dataset, label_fn).counts()


class LabelledElements:
    """The single elements of a tf.data.Dataset and their classes.

    Batches are told by labels of one axis that is the first axis of all else too, and are taken apart.

    Args:
        dataset: finite.
        label_fn: what an element's parts go into, as with `Dataset.map`; gives its class, an integer or
            string (). For a dataset of batches it is given batches too, and gives the classes (B,). The
            second of a pair by default.

    Raises:
        InputError: the dataset has no end or no labels, or they are not one integer or string an element.
    """

    def __init__(self, dataset: tf.data.Dataset, label_fn: Callable[..., Any] | None = None) -> None:
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise InputError("the dataset never ends; expected one pass over it. Leave out its repeat().")
        self.label_fn = _label_of_pair(dataset.element_spec) if label_fn is None else label_fn
        self.elements, labels = dataset, dataset.map(self.label_fn)
        if _are_batches(dataset.element_spec, labels.element_spec):
            self.elements, labels = dataset.unbatch(), labels.unbatch()
        _check_label(labels.element_spec)
        self._labels = labels
        self.kind = str if labels.element_spec.dtype == tf.string else int

    def counts(self) -> dict[int | str, int]:
        """{class: elements} by one pass, in the order of the classes.

        Raises:
            InputError: there are no elements.
        """
        counted: Counter[Any] = Counter()
        for labels in self._labels.batch(COUNTED_AT_ONCE).as_numpy_iterator():
            counted.update(labels.tolist())
        if not counted:
            raise InputError("the dataset has no elements; expected at least one")
        names = {name: name.decode() if self.kind is str else int(name) for name in counted}
        return {names[name]: counted[name] for name in sorted(counted)}

    def checked_counts(self, given: Mapping[Any, int]) -> dict[int | str, int]:
        """`given`, {class: elements}, as far as it can be checked without a pass.

        Raises:
            InputError: everything that is wrong with it.
        """
        if problems := list(self._count_problems(given)):
            raise InputError("\n".join(problems))
        return {self.kind(name): int(count) for name, count in given.items()}

    def _count_problems(self, given: Any) -> Iterator[str]:
        if not isinstance(given, Mapping) or not given:
            yield f"counts must be {{class: elements}} with at least one class, got {given!r}"
            return
        expected = str if self.kind is str else Integral
        for name in [name for name in given if not isinstance(name, expected)]:
            yield f"counts: the labels are {self.kind.__name__}, got class {name!r}"
        for name in [name for name, count in given.items() if count < 1]:
            yield f"counts: class {name} has {given[name]} elements; expected at least 1, or leave it out"
        known, total = int(self.elements.cardinality()), sum(given.values())
        if known >= 0 and known != total:
            yield (
                f"counts: their sum is {total}, but the dataset has {known} elements. Leave counts out to "
                "have them counted."
            )

    def members(self, names: Collection[int | str]) -> list[tf.data.Dataset]:
        """The elements of each class of `names`, one dataset for each.

        While they are read, they fail with tf.errors.InvalidArgumentError at a class that has no name.
        """
        place = self.place_function(names)

        def own(number: int) -> tf.data.Dataset:
            return self.elements.filter(lambda *element: tf.equal(place(*element), number))

        return [own(number) for number in range(len(names))]

    def place_function(self, names: Collection[int | str]) -> Callable[..., tf.Tensor]:
        """Function of an element's parts that gives the place of its class in `names`, int64 ()."""
        known = tf.constant(list(names), tf.string if self.kind is str else tf.int64)
        complaint = f"an element of a class that was not counted or given ({', '.join(map(str, names))}); got"

        def place(*element: Any) -> tf.Tensor:
            label = tf.cast(self.label_fn(*element), known.dtype)
            same = tf.equal(known, label)
            require(tf.reduce_any(same), complaint, label)
            return tf.argmax(tf.cast(same, tf.int32))

        return place


def require(condition: tf.Tensor, *complaint: Any) -> None:
    """Fails with tf.errors.InvalidArgumentError where a dataset's function finds `condition` False."""
    # tf.debugging.Assert makes a branch of it, which takes longer than everything else in such a function.
    tf.raw_ops.Assert(condition=condition, data=complaint)


def _label_of_pair(spec: Any) -> Callable[..., Any]:
    """The label_fn of pairs (image, label)."""
    if isinstance(spec, tuple) and len(spec) == 2:
        return lambda image, label: label
    raise InputError(
        f"the elements are not pairs (image, label), got {spec}. For tfds.load pass as_supervised=True, for "
        "image_dataset_from_directory another label_mode than None; or say with label_fn what an element's "
        "class is."
    )


def _are_batches(spec: Any, label: Any) -> bool:
    """Whether all parts of an element have the one axis of its labels as their first."""
    if not isinstance(label, tf.TensorSpec) or label.shape.rank != 1:
        return False
    parts = [part.shape for part in tf.nest.flatten(spec)]
    return all(shape.rank and shape[0] == label.shape[0] for shape in parts)


def _check_label(spec: Any) -> None:
    """Raises InputError unless `spec` is that of one integer or string."""
    known = isinstance(spec, tf.TensorSpec) and spec.shape.rank == 0
    if not known or not (spec.dtype.is_integer or spec.dtype in (tf.bool, tf.string)):
        raise InputError(f"an element's label must be one integer or string, got {spec}. {ONE_LABEL}")
