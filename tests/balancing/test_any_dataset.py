"""Any tf.data.Dataset: every strategy's promise by counting, and how often an element is made for it."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from segbalance.legacy_keras import tf  # first, for any_dataset leaves the choice of Keras open
from tests.support.data import write_image
from tests.support.places import ROOT

# isort: split
from segbalance.balancing.any_dataset import balance_dataset
from segbalance.balancing.class_loaders import kept_classes
from segbalance.balancing.dataset_classes import count_classes
from segbalance.balancing.draws import ExactBatches
from segbalance.balancing.plan import class_weights
from segbalance.errors import InputError

SIZES = {0: 9, 1: 4, 2: 2}
TOTAL = 15
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [9, 4, 2]))


def numbers():
    """(number of the element, its class), both int64."""
    return tf.data.Dataset.from_tensor_slices((np.arange(TOTAL), LABELS))


class Counter:
    """Counts the elements that go through `step`."""

    def __init__(self):
        self.made = 0

    def step(self, image, label):
        counted = tf.numpy_function(self._count, [label], label.dtype)
        return image, tf.ensure_shape(counted, label.shape)

    def _count(self, label):
        self.made += 1
        return label


def drawn(dataset, count=None):
    """int64 (draws, 2): number and class of each element, of the first `count`."""
    elements = dataset if count is None else dataset.take(count)
    return np.array([(int(number), int(label)) for number, label, *_ in elements])


def of_class(found, label):
    """The numbers of the elements of a class, in the order of their draws."""
    return found[found[:, 1] == label, 0]


def check_passes(found, sizes=SIZES):
    """Each pass of a class holds every element of it once, and another order than the one before."""
    for label, size in sizes.items():
        own = of_class(found, label)
        own = own[: len(own) // size * size].reshape(-1, size)
        assert len(own) >= 2
        np.testing.assert_array_equal(np.sort(own), np.tile(np.flatnonzero(LABELS == label), (len(own), 1)))
        assert len(np.unique(own, axis=0)) > 1


SHARES = [
    ("uniform", {}, [1 / 3, 1 / 3, 1 / 3]),
    # The square roots of 9, 4 and 2 are 3, 2 and 1.414.
    pytest.param("power", {}, [0.4678, 0.3119, 0.2205], marks=pytest.mark.slow),
    pytest.param("power", {"balance_alpha": 1}, [9 / 15, 4 / 15, 2 / 15], marks=pytest.mark.slow),
    pytest.param("shares", {"shares": {0: 1, "default": 2}}, [0.2, 0.4, 0.4], marks=pytest.mark.slow),
    ("shares", {"shares": {0: 3, 1: 1, 2: 0}}, [0.75, 0.25, 0]),
]


@pytest.mark.parametrize(("strategy", "options", "shares"), SHARES)
def test_shares_hold_to_the_end_and_passes_are_whole(strategy, options, shares):
    found = drawn(balance_dataset(numbers(), strategy=strategy, **options), 1200)
    for half in (found[:600], found[600:]):  # the second one catches a loader that ran dry
        for label, share in enumerate(shares):
            assert abs((half[:, 1] == label).mean() - share) <= 4 * (share * (1 - share) / 600) ** 0.5
    check_passes(found, {label: SIZES[label] for label, share in enumerate(shares) if share})
    np.testing.assert_array_equal(found[:, 1], LABELS[found[:, 0]])


OVERSAMPLED = [
    ({}, [9, 9, 9]),
    ({"oversample_only": [2]}, [9, 4, 9]),
    ({"oversample_below": 4}, [9, 4, 9]),
    ({"copies": {2: 2.5}}, [9, 4, 5]),
    ({"oversample_limit": 2}, [9, 8, 4]),
]


@pytest.mark.parametrize(("options", "lengths"), OVERSAMPLED)
def test_a_pass_of_oversample_is_exact(options, lengths):
    balanced = balance_dataset(numbers(), strategy="oversample", **options)
    assert len(balanced) == sum(lengths)
    passes = [drawn(balanced) for _ in range(3)]
    for found in passes:
        assert np.bincount(found[:, 1]).tolist() == lengths
        for label, length in enumerate(lengths):
            repeats = np.bincount(found[:, 0], minlength=TOTAL)[LABELS == label]
            assert repeats.min() == length // SIZES[label] and repeats.max() == -(-length // SIZES[label])
    assert len({found.tobytes() for found in passes}) == 3, "every pass has another order"


def test_exact_batches_hold_the_same_of_every_class():
    batches = balance_dataset(numbers(), strategy="exact", batch_size=6)
    found = np.stack([np.stack(batch, 1) for batch in batches.take(60).as_numpy_iterator()])
    for batch in found:
        assert np.bincount(batch[:, 1]).tolist() == [2, 2, 2]
    check_passes(found.reshape(-1, 2))
    assert len(np.unique(found[:, :, 1], axis=0)) > 10, "in random order"


BATCHES = [(None, 7), (SIZES, 7), ({0: 1, 1: 1, 2: 0}, 5), (SIZES, 15)]


@pytest.mark.parametrize(("shares", "batch_size"), BATCHES)
def test_exact_batches_count_as_those_of_training(shares, batch_size):
    batches = balance_dataset(numbers(), strategy="exact", batch_size=batch_size, shares=shares)
    found = [np.bincount(label, minlength=3).tolist() for _, label in batches.take(50).as_numpy_iterator()]
    weights = np.array(list((shares or dict.fromkeys(SIZES, 1)).values()))
    order, start = ExactBatches(weights / weights.sum(), seed=0), np.zeros(3, np.int64)
    expected = order.epoch_batches(0, start, batch_size=batch_size, steps=50)
    assert found == [np.bincount(draws % 3, minlength=3).tolist() for draws in expected]


def test_none_goes_through_the_dataset_as_it_is():
    found = drawn(balance_dataset(numbers(), strategy="none"), 10 * TOTAL).reshape(10, TOTAL, 2)
    np.testing.assert_array_equal(np.sort(found[:, :, 0]), np.tile(np.arange(TOTAL), (10, 1)))
    assert len(np.unique(found[:, :, 0], axis=0)) > 5
    in_order = drawn(balance_dataset(numbers(), strategy="none", shuffle_buffer=0), 2 * TOTAL)
    np.testing.assert_array_equal(in_order[:, 0], np.tile(np.arange(TOTAL), 2))


def test_class_weights_by_hand():
    # 15 / (3 * 9), 15 / (3 * 4), 15 / (3 * 2)
    assert class_weights(SIZES) == pytest.approx({0: 5 / 9, 1: 5 / 4, 2: 5 / 2})
    assert class_weights({"cat": 3}) == {"cat": 1}
    for counts in ({}, {0: 5, 1: 0}):
        with pytest.raises(InputError, match="class weights need classes of at least one element each, got"):
            class_weights(counts)


def test_loss_gives_every_class_the_same_weight_in_a_pass():
    found = balance_dataset(numbers(), strategy="loss").take(TOTAL).as_numpy_iterator()
    number, label, weight = (np.array(part) for part in zip(*found, strict=True))
    assert sorted(number) == list(range(TOTAL)) and weight.dtype == np.float32
    np.testing.assert_allclose(np.bincount(label, weight), [5, 5, 5], rtol=1e-6)
    np.testing.assert_allclose(weight.mean(), 1, rtol=1e-6)


def add_100(number, label):
    return number + 100, label


@pytest.mark.parametrize("strategy", ["uniform", "oversample", "none"])
def test_all_draws_are_augmented(strategy):
    found = drawn(balance_dataset(numbers(), strategy=strategy, augment=add_100), 20)
    assert (found[:, 0] >= 100).all()


@pytest.mark.parametrize("strategy", ["uniform", "oversample", "none", "exact", "loss"])
def test_only_copies_are_augmented(strategy):
    options = {"batch_size": 3} if strategy == "exact" else {}
    balanced = balance_dataset(
        numbers(), strategy=strategy, augment=add_100, augment_what="copies", **options
    )
    balanced = balanced.unbatch() if options else balanced
    for _ in range(2):  # iterations; each begins anew
        seen = set()
        for number, _ in drawn(balanced, 27).tolist():
            assert (number >= 100) == (number % 100 in seen), "the first draw as it is, the others not"
            seen.add(number % 100)


def with_seed(number, label, seed):
    return number, label, seed


def seeds_of_two_passes(run_seed):
    balanced = balance_dataset(numbers(), strategy="oversample", augment=with_seed, seed=run_seed)
    return [tuple(seed) for _ in range(2) for *_, seed in balanced.as_numpy_iterator()]


def test_every_draw_is_augmented_by_a_seed_of_its_own():
    first = seeds_of_two_passes(0)
    assert len(set(first)) == len(first) == 2 * 27
    assert first == seeds_of_two_passes(0) and not set(first) & set(seeds_of_two_passes(1))


@pytest.mark.parametrize(
    "strategy",
    ["uniform", *(pytest.param(name, marks=pytest.mark.slow) for name in ("oversample", "none", "exact"))],
)
def test_a_seed_repeats_the_elements(strategy):
    def found(seed):
        options = {"batch_size": 6} if strategy == "exact" else {}
        balanced = balance_dataset(numbers(), strategy=strategy, seed=seed, **options)
        balanced = balanced.unbatch() if options else balanced
        return [drawn(balanced, 26).tolist() for _ in range(2)]

    first = found(3)
    assert first == found(3) and first != found(4)
    assert first[0] != first[1], "the next iteration has another order"


def test_only_delivered_elements_are_decoded():
    decoded = Counter()
    balanced = balance_dataset(numbers(), strategy="oversample", decode=decoded.step)
    assert decoded.made == 0, "not to count the classes"
    for iteration in (1, 2):
        assert len(drawn(balanced)) == 27 and decoded.made == 27 * iteration, "none to find the classes"


def test_without_decode_elements_are_made_to_be_passed_over_and_nothing_is_kept():
    source = Counter()
    balanced = balance_dataset(numbers().map(source.step), strategy="oversample")
    assert source.made == TOTAL, "one pass counts"
    drawn(balanced)
    # Whole passes: 1 of class 0, 3 of class 1 (9 / 4), 5 of class 2 (9 / 2), and the shuffle one ahead each.
    once = source.made - TOTAL
    assert (1 + 2 + 4) * TOTAL < once <= (2 + 4 + 6) * TOTAL
    drawn(balanced)
    assert source.made == TOTAL + 2 * once


def test_given_counts_spare_the_pass_that_counts():
    source = Counter()
    balanced = balance_dataset(numbers().map(source.step), strategy="none", counts=SIZES)
    assert source.made == 0
    drawn(balanced, 2 * TOTAL)
    assert source.made <= 4 * TOTAL, "nothing is passed over"


def test_kept_elements_are_made_in_one_pass_of_their_class():
    source = Counter()
    options = {"strategy": "oversample", "counts": SIZES, "kept_elements": TOTAL}
    balanced = balance_dataset(numbers().map(source.step), **options)
    for _ in range(3):
        assert np.bincount(drawn(balanced)[:, 1]).tolist() == [9, 9, 9]
        assert source.made == 3 * TOTAL, "one pass for each class"


def test_the_smallest_classes_are_kept():
    assert kept_classes(SIZES, 0) == set()
    assert kept_classes(SIZES, 2) == {2}
    assert kept_classes(SIZES, 6) == {1, 2}
    assert kept_classes(SIZES, 14) == {1, 2}
    assert kept_classes(SIZES, 15) == {0, 1, 2}


def test_a_cached_dataset_is_made_once_in_all():
    source = Counter()
    balanced = balance_dataset(numbers().map(source.step).cache(), strategy="oversample")
    for _ in range(3):
        assert np.bincount(drawn(balanced)[:, 1]).tolist() == [9, 9, 9]
    assert source.made == TOTAL


def test_no_more_is_read_ahead_than_the_shuffle_holds():
    source = Counter()
    labels = np.tile(LABELS, 200)
    dataset = tf.data.Dataset.from_tensor_slices((np.arange(3000), labels)).map(source.step)
    counts = {label: 200 * size for label, size in SIZES.items()}
    drawn(balance_dataset(dataset, strategy="none", counts=counts, shuffle_buffer=8), 1)
    assert source.made < 100


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folder train/<class>/<number>.png, 9 of cat, 4 of dog and 2 of eel; the red channel is the number."""
    folder = tmp_path_factory.mktemp("photos")
    for name, label in (("cat", 0), ("dog", 1), ("eel", 2)):
        for number in np.flatnonzero(LABELS == label):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[..., 0] = number
            write_image(folder / "train" / name / f"{number}.png", pixels)
    return folder


def from_tensorflow_datasets(folder, **options):
    import tensorflow_datasets as tfds

    builder = tfds.folder_dataset.ImageFolder(str(folder), shape=(8, 8, 3))
    return builder, builder.as_dataset(split="train", as_supervised=True, **options)


def from_directory(folder, **options):
    return tf.keras.utils.image_dataset_from_directory(folder / "train", image_size=(8, 8), seed=1, **options)


SOURCES = {
    "tensorflow_datasets": lambda folder: from_tensorflow_datasets(folder)[1],
    "directory": lambda folder: from_directory(folder, batch_size=None),
    "directory_in_batches": lambda folder: from_directory(folder, batch_size=4),
    "directory_in_order": lambda folder: from_directory(folder, batch_size=4, shuffle=False),
}


def first_pixel(image, label):
    return image[..., 0, 0, 0], label


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "strategy",
    ["oversample", "exact", *(pytest.param(name, marks=pytest.mark.slow) for name in ("uniform", "none"))],
)
def test_the_libraries_datasets(photos, source, strategy):
    dataset = SOURCES[source](photos)
    options = {"batch_size": 6} if strategy == "exact" else {}
    balanced = balance_dataset(dataset, strategy=strategy, **options)
    image, label = balanced.element_spec
    assert image.shape == ((6, 8, 8, 3) if options else (8, 8, 3)) and label.shape.rank == len(options)
    balanced = balanced.map(first_pixel)
    found = drawn(balanced.unbatch() if options else balanced, None if strategy == "oversample" else 60)
    np.testing.assert_array_equal(found[:, 1], LABELS[found[:, 0]])
    if strategy == "none":
        assert (np.bincount(found[:, 0]) == 4).all()
    elif strategy == "uniform":
        assert all(abs((found[:, 1] == k).mean() - 1 / 3) < 4 * (2 / 9 / 60) ** 0.5 for k in range(3))
    else:
        assert len(set(np.bincount(found[:, 1]))) == 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_shuffled_library_dataset_is_repeatable_if_it_is_seeded(photos, source):
    found = [drawn(balance_dataset(SOURCES[source](photos)).map(first_pixel), 40).tolist() for _ in range(2)]
    assert found[0] == found[1]


def test_encoded_files_of_tensorflow_datasets_are_decoded_when_drawn(photos):
    import tensorflow_datasets as tfds

    builder, encoded = from_tensorflow_datasets(photos, decoders={"image": tfds.decode.SkipDecoding()})
    decoded = Counter()

    def decode(image, label):
        return decoded.step(builder.info.features["image"].decode_example(image), label)

    balanced = balance_dataset(encoded, strategy="oversample", decode=decode)
    for image, label in balanced.as_numpy_iterator():
        path = photos / "train" / ("cat", "dog", "eel")[label] / f"{image[0, 0, 0]}.png"
        np.testing.assert_array_equal(image, cv2.imread(str(path))[..., ::-1])
    assert decoded.made == 27


def test_one_hot_labels_of_the_directory(photos):
    one_hot = from_directory(photos, label_mode="categorical")
    balanced = balance_dataset(one_hot, lambda image, label: tf.argmax(label, -1), "oversample")
    assert np.sum([label for _, label in balanced.as_numpy_iterator()], axis=0).tolist() == [9, 9, 9]
    assert count_classes(one_hot, lambda image, label: tf.argmax(label, -1)) == SIZES


def test_zeros_and_ones_in_an_axis_of_their_own():
    labels = (LABELS > 0).astype(np.float32)[:, None]
    dataset = tf.data.Dataset.from_tensor_slices((np.zeros((TOTAL, 2, 2, 1)), labels))
    for given in (dataset, dataset.batch(4)):
        counts = count_classes(given, lambda image, label: tf.cast(tf.squeeze(label, -1), tf.int64))
        assert counts == {0: 9, 1: 6}


def test_elements_that_are_dictionaries_and_classes_that_have_names():
    names = np.array(["cat", "dog", "eel"])[LABELS]
    parts = {"number": np.arange(TOTAL), "name": names}
    for dataset in (
        tf.data.Dataset.from_tensor_slices(parts),
        tf.data.Dataset.from_tensor_slices(parts).batch(4),
    ):
        assert count_classes(dataset, lambda element: element["name"]) == {"cat": 9, "dog": 4, "eel": 2}
        balanced = balance_dataset(
            dataset, lambda element: element["name"], "shares", shares={"eel": 1, "default": 0},
            augment=lambda element: element | {"number": -element["number"] - 1}, augment_what="copies",
        )  # fmt: skip
        found = [int(element["number"]) for element in balanced.take(6).as_numpy_iterator()]
        eels = set(np.flatnonzero(LABELS == 2).tolist())
        assert set(found[:2]) == eels and {-number - 1 for number in found[2:4]} == eels


def test_classes_are_counted_in_their_order():
    assert list(count_classes(numbers()).items()) == [(0, 9), (1, 4), (2, 2)]
    assert count_classes(numbers().map(lambda number, label: (number, label == 1))) == {0: 11, 1: 4}
    far_apart = tf.data.Dataset.from_tensor_slices((np.arange(4), [-7, 10**12, -7, 3]))
    assert list(count_classes(far_apart).items()) == [(-7, 2), (3, 1), (10**12, 1)]


def images_alone():
    return numbers().map(lambda number, label: number)


WRONG = [
    (numbers, {"strategy": "undersample"}, "strategy 'undersample' is unknown; known: uniform, none"),
    (numbers, {"strategy": "exact"}, "strategy exact needs batch_size, for its numbers are those of a batch"),
    (numbers, {"strategy": "exact", "batch_size": 2}, "of each of the 3 subsets, got batch_size 2"),
    (numbers, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    (numbers, {"augment_what": "some", "augment": add_100}, "augment_what 'some' is unknown; known: all"),
    (numbers, {"augment_what": "copies"}, "augment_what copies needs a function augment"),
    (numbers, {"copies": {1: 2}}, "copies works only with balance oversample, got balance uniform"),
    (numbers, {"strategy": "shares", "shares": {5: 1, "default": 1}}, "names unknown subsets 5; known: 0"),
    (lambda: numbers().repeat(), {}, "the dataset never ends; expected one pass over it. Leave out"),
    (lambda: numbers().take(0), {}, "the dataset has no elements; expected at least one"),
    (images_alone, {}, "the elements are not pairs (image, label), got TensorSpec(shape=(), dtype=tf.int64"),
    (images_alone, {}, "as_supervised=True, for image_dataset_from_directory another label_mode"),
    (lambda: numbers().map(lambda number, label: (number, tf.one_hot(label, 3))), {},
     "label must be one integer or string, got TensorSpec(shape=(3,), dtype=tf.float32"),
    (lambda: numbers().map(lambda number, label: (number, tf.one_hot(label, 3, dtype=tf.int32))), {},
     "label must be one integer or string, got TensorSpec(shape=(3,), dtype=tf.int32"),
    (lambda: numbers().map(lambda number, label: (number, tf.cast(label, tf.float32))).batch(4), {},
     "label must be one integer or string, got TensorSpec(shape=(), dtype=tf.float32"),
    (lambda: numbers().map(lambda number, label: ({"a": number}, label)).batch(4).batch(2), {},
     "label must be one integer or string, got TensorSpec(shape=(None, None), dtype=tf.int64"),
    (numbers, {"strategy": "loss", "decode": lambda number, label: number},
     "strategy loss adds a weight to pairs (image, label), got TensorSpec(shape=(), dtype=tf.int64"),
    (numbers, {"augment": lambda number, label: (number / 2, label), "augment_what": "copies"},
     "expected augment to give the same types, got (TensorSpec(shape=(), dtype=tf.float64"),
    (numbers, {"counts": {0: 9, 1: 4, 2: 3}}, "their sum is 16, but the dataset has 15 elements. Leave"),
    (numbers, {"counts": {0: 9, 1: 4, 2: 2, 3: 0}}, "class 3 has 0 elements; expected at least 1"),
    (numbers, {"counts": {"cat": 15}}, "counts: the labels are int, got class 'cat'"),
    (numbers, {"counts": [9, 4, 2]}, "counts must be {class: elements} with at least one class, got ["),
    (numbers, {"counts": {}}, "counts must be {class: elements} with at least one class, got {}"),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "options", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_what_does_not_fit_is_refused(dataset, options, message):
    with pytest.raises(InputError) as error:
        balance_dataset(dataset(), **options)
    assert message in str(error.value)


def test_photos_without_labels_and_one_hot_labels_of_a_directory_are_refused(photos):
    with pytest.raises(InputError, match="not pairs .image, label."):
        balance_dataset(from_directory(photos, labels=None))
    with pytest.raises(InputError, match="For one-hot labels pass label_fn=lambda image, label: tf.argmax"):
        balance_dataset(from_directory(photos, label_mode="categorical"))


def test_all_arguments_that_do_not_fit_are_named_at_once():
    with pytest.raises(InputError) as error:
        balance_dataset(numbers(), strategy="exact", copies={0: 2}, augment_what="copies")
    assert all(text in str(error.value) for text in ("needs batch_size", "copies works", "needs a function"))
    with pytest.raises(TypeError, match="unexpected keyword argument 'alpha'"):
        balance_dataset(numbers(), strategy="power", alpha=1)


ANY_CLASS = r"class \d: expected \d elements in every pass of the dataset, as counted or given; got\] "
MISMATCHES = [
    ({0: 9, 1: 3, 2: 3}, ANY_CLASS + r"\[(more|2)\]"),
    ({0: 8, 1: 5, 2: 2}, ANY_CLASS + r"\[(more|4)\]"),
    ({0: 9, 1: 4, 3: 2}, r"an element of a class that was not counted or given \(0, 1, 3\); got\] \[2\]"),
]


@pytest.mark.parametrize(("counts", "message"), MISMATCHES)
@pytest.mark.parametrize("strategy", ["uniform", "oversample", "exact"])
def test_given_counts_that_do_not_match_what_arrives_end_it(strategy, counts, message):
    options = {"batch_size": 3} if strategy == "exact" else {}
    balanced = balance_dataset(numbers(), strategy=strategy, counts=counts, **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        drawn(balanced, 60) if not options else drawn(balanced.unbatch(), 60)


def test_counts_of_the_right_sum_for_a_dataset_of_unknown_length():
    unknown = numbers().filter(lambda number, label: number < 10)
    assert len(drawn(balance_dataset(unknown), 30)) == 30
    balanced = balance_dataset(unknown, strategy="none", counts=SIZES)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"dataset: expected 15 elements.*got\] \[10\]"):
        drawn(balanced, 30)


def test_keras_trains_on_the_result():
    tf.keras.utils.set_random_seed(0)
    dataset = numbers().map(lambda number, label: (tf.cast(number, tf.float32)[None], label))
    model = tf.keras.Sequential([tf.keras.layers.Dense(3)])
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    epochs = model.fit(balance_dataset(dataset, strategy="oversample", batch_size=5), epochs=2, verbose=0)
    assert epochs.params["steps"] == 6, "27 elements in batches of 5"
    one_pass = balance_dataset(dataset, strategy="loss").take(TOTAL)
    weighted = model.evaluate(one_pass.batch(TOTAL), verbose=0)
    image, label, _ = next(one_pass.batch(TOTAL).as_numpy_iterator())
    log_probability = tf.nn.log_softmax(model(image)).numpy()[np.arange(TOTAL), label]
    by_class = [-log_probability[label == k].mean() for k in range(3)]
    assert weighted == pytest.approx(np.mean(by_class), rel=1e-5)


def test_balancing_itself_imports_no_tensorflow():
    program = "import segbalance.balancing.plan, sys; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
