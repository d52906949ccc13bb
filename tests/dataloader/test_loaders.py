"""The tutorial's calls: pairs of a manifest, a loader of one pass each, and their endless mixture."""

import gc
import itertools

import albumentations as A
import numpy as np
import pytest

import dataloader
import segbalance
from segbalance.data_processing.labels import LabelEncoding
from segbalance.dataloader.loaders import load_data_path, sample_from_datasets, tf_dataset
from segbalance.errors import InputError
from segbalance.files.images import read_image
from segbalance.legacy_keras import tf
from segbalance.transforms.pipelines import train_transform, valid_transform

SIZE = 32


def take(dataset, count=None):
    """The first `count` elements of an iteration, or all, as NumPy arrays; its iterator is gone then."""
    iterator = dataset.as_numpy_iterator()
    elements = list(itertools.islice(iterator, count))
    del iterator
    gc.collect()
    return elements


def one_pass(dataset):
    """The images of one iteration, as bytes."""
    return [image.tobytes() for image, _ in take(dataset)]


def painted(value):
    """A Compose whose images have one value throughout."""
    return A.Compose([A.Resize(SIZE, SIZE), A.Lambda(image=lambda x, **_: np.full_like(x, value))])


@pytest.fixture
def pairs(manifests):
    """Function(subset) -> its pairs."""
    root, csv_dir = manifests
    return lambda name: load_data_path(root, csv_dir / f"train{name}.csv", "train")


def test_the_names_are_behind_the_door_and_in_the_package():
    for name in ("load_data_path", "tf_dataset", "sample_from_datasets"):
        assert getattr(dataloader, name) is getattr(segbalance, name)
        assert name in dataloader.__all__


# load_data_path


@pytest.mark.parametrize("split", [(), ("train",), (None,)])
def test_load_data_path_gives_the_pairs_of_one_manifest(manifests, split):
    root, csv_dir = manifests
    images, masks = load_data_path(root, csv_dir / "trainb.csv", *split)
    assert images == [str(root / f"train/images/b/{n}.png") for n in range(3)]
    assert masks == [path.replace("images", "masks") for path in images]


@pytest.mark.parametrize("split, subset", [("train", "a"), ("valid", "b"), ("val", "b")])
def test_rows_as_the_tutorial_writes_them_lie_below_the_splits_images(data_root, tmp_path, split, subset):
    """Its CSV files have the path below <data_root>/<split>/images, and no masks."""
    csv_path = tmp_path / "nails.csv"
    csv_path.write_text(f"images,type\n/{subset}/1.png,{subset}\n/{subset}/0.png,{subset}\n")
    images, masks = load_data_path(data_root, csv_path, split)
    folder = {"val": "valid"}.get(split, split)
    assert images == [str(data_root / f"{folder}/images/{subset}/{n}.png") for n in (1, 0)]
    assert masks == [path.replace("images", "masks") for path in images]


def test_without_a_split_the_files_name_says_it(data_root, tmp_path):
    for name in ("train0", "valid"):
        (tmp_path / f"{name}.csv").write_text("images\n/a/1.png\n")
        images, _ = load_data_path(data_root, tmp_path / f"{name}.csv")
        assert images == [str(data_root / f"{name.rstrip('0')}/images/a/1.png")]


def test_rows_of_another_split_are_named(manifests):
    root, csv_dir = manifests
    with pytest.raises(InputError, match=r"rows of another split: 3\n.*trainb\.csv line 2: train/images/b/0"):
        load_data_path(root, csv_dir / "trainb.csv", "valid")


def test_a_row_that_no_folder_has_is_named(data_root, tmp_path):
    (tmp_path / "t.csv").write_text("images\n/a/1.png\n/a/5.png\n")
    with pytest.raises(
        InputError, match=r"without a photo and its mask: 1\n.*line 3: '/a/5.png'\nPass the spl"
    ):
        load_data_path(data_root, tmp_path / "t.csv", "valid")


@pytest.mark.parametrize("third", [True, "trian", ""])
def test_the_third_argument_switches_no_check_off(manifests, third):
    root, csv_dir = manifests
    with pytest.raises(
        InputError, match="split is .*expected train, valid, test, or None.*allow_outside=True"
    ):
        load_data_path(root, csv_dir / "trainb.csv", third)
    with pytest.raises(TypeError):
        load_data_path(root, csv_dir / "trainb.csv", "train", True)


# tf_dataset


def test_it_is_one_pass_of_known_length(pairs):
    for shuffle in (False, True):
        single = tf_dataset(pairs("a"), shuffle, transforms=train_transform(SIZE))
        assert single.cardinality() == len(take(single)) == 6
        batches = tf_dataset(pairs("a"), shuffle, 4, train_transform(SIZE))
        assert batches.cardinality() == 2
        assert [mask.shape for _, mask in take(batches)] == [(4, SIZE, SIZE, 1), (2, SIZE, SIZE, 1)]


def test_without_shuffling_it_keeps_the_order(pairs):
    loader = tf_dataset(pairs("a"), shuffle=False, image_size=SIZE)
    elements = take(loader)
    resized = valid_transform(SIZE)
    for path, (image, _) in zip(pairs("a")[0], elements, strict=True):
        np.testing.assert_array_equal(image, resized(image=read_image(path))["image"])
    assert one_pass(loader) == [image.tobytes() for image, _ in elements]
    batches = take(tf_dataset(pairs("a"), shuffle=False, batch_size=4, image_size=SIZE))
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), [e[0] for e in elements])


def test_each_iteration_is_the_next_pass_in_a_new_order(pairs):
    loader = tf_dataset(pairs("a"), image_size=SIZE)
    passes = [tuple(one_pass(loader)) for _ in range(4)]
    assert all(sorted(order) == sorted(passes[0]) for order in passes)
    assert len(set(passes)) > 1
    again = tf_dataset(pairs("a"), image_size=SIZE)
    assert [tuple(one_pass(again)) for _ in range(4)] == passes
    repeated = one_pass(tf_dataset(pairs("a"), image_size=SIZE).repeat(4))
    assert repeated == list(itertools.chain(*passes)), "a repeat is four iterations"
    other = tf_dataset(pairs("a"), image_size=SIZE, seed=1)
    assert [tuple(one_pass(other)) for _ in range(4)] != passes


def test_each_iteration_is_augmented_anew(pairs):
    loader = tf_dataset(pairs("a"), False, transforms=train_transform(SIZE))
    passes = [one_pass(loader) for _ in range(3)]
    assert all(len(set(images)) > 1 for images in zip(*passes, strict=True))
    again = tf_dataset(pairs("a"), False, transforms=train_transform(SIZE))
    assert [one_pass(again) for _ in range(3)] == passes


def test_a_pass_left_early_is_a_pass(pairs):
    loader, whole = (tf_dataset(pairs("a"), image_size=SIZE) for _ in range(2))
    take(loader, 1)
    one_pass(whole)
    assert one_pass(loader) == one_pass(whole)


def test_the_tutorials_float_types_are_0_to_1(pairs):
    plain = take(tf_dataset(pairs("a"), False, 6, train_transform(SIZE)))[0]
    assert [part.dtype for part in plain] == [np.uint8, np.uint8] and plain[0].max() > 200
    for dtype in (tf.float32, "float32", np.float32, tf.float16):
        image, mask = take(tf_dataset(pairs("a"), False, 6, train_transform(SIZE), dtype, [0]))[0]
        assert image.dtype == mask.dtype == tf.as_dtype(dtype).as_numpy_dtype
        np.testing.assert_array_equal(image, (plain[0] / np.float32(255)).astype(image.dtype))
        np.testing.assert_array_equal(mask, plain[1])
        assert image.max() <= 1 and set(np.unique(mask)) == {0, 1}


@pytest.mark.parametrize("device", [None, [0], [0, 1], "cpu"])
def test_whatever_the_device_the_batches_are_the_same(pairs, device):
    batches = take(tf_dataset(pairs("a"), False, 4, image_size=SIZE, device=device))
    assert [len(image) for image, _ in batches] == [4, 2]


def test_the_size_is_that_of_the_transforms(pairs):
    for transforms, size in ((train_transform(48), 48), (train_transform(), 384), (None, 384)):
        element = tf_dataset(pairs("c"), transforms=transforms).element_spec
        assert [part.shape for part in element] == [(size, size, 3), (size, size, 1)]


def test_labels_take_the_place_of_masks(labelled_manifests):
    root, csv_dir = labelled_manifests
    dataset = load_data_path(root, csv_dir / "traindog.csv", "train")
    encoding = LabelEncoding(("cat", "dog", "owl"))
    loader = tf_dataset(dataset, False, None, valid_transform(SIZE), "float32", encoding=encoding)
    image, label = take(loader)[-1]
    assert image.shape == (SIZE, SIZE, 3) and label.shape == (1, 1, 1) and label.item() == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dtype": "int32"}, "dtype is 'int32'; expected uint8, float16, float32"),
        ({"dtype": "fluoat32"}, "dtype is 'fluoat32'"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1, or None"),
        ({"dataset": ([], [])}, "dataset has 0 images and 0 masks"),
        ({"dataset": (["a.png"], [])}, "dataset has 1 images and 0 masks"),
        ({"transforms": A.Compose([A.Resize(32, 40)])}, "transforms deliver 40x32 .*end with A.Resize"),
        ({"transforms": A.Compose([A.NoOp()])}, "transforms deliver 400x512"),
        ({"transforms": A.Compose([A.CenterCrop(999, 999)])}, "transforms failed on a trial image: "),
        ({"transforms": A.Compose([A.Resize(32, 32), A.ToFloat(255)])}, "delivers image float32"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(InputError, match=message):
        tf_dataset(**{"dataset": (["a.png"], ["m.png"])} | change)


class Recorder(tf.keras.Model):
    """A model that keeps what `fit` brings."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def train_step(self, batch):
        self.seen.append([image.tobytes() for image in batch[0].numpy()])
        return {}


def test_model_fit_has_epochs(pairs):
    """Each epoch is a pass, and the first epoch the first pass: none is read for nothing."""
    model = Recorder()
    model.compile(run_eagerly=True)
    model.fit(tf_dataset(pairs("a"), batch_size=4, image_size=SIZE), epochs=3, verbose=0)
    assert [len(batch) for batch in model.seen] == [4, 2] * 3
    loader = tf_dataset(pairs("a"), image_size=SIZE)
    expected = [one_pass(loader) for _ in range(3)]
    assert [sum(model.seen[2 * epoch : 2 * epoch + 2], []) for epoch in range(3)] == expected


def test_under_a_strategy_it_is_the_same(pairs):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        loader = tf_dataset(pairs("a"), image_size=SIZE)
        mixture = sample_from_datasets([loader], seed=3)
    assert one_pass(loader) == one_pass(tf_dataset(pairs("a"), image_size=SIZE))
    assert len(take(mixture, 9)) == 9


def test_shuffled_and_repeated_as_in_the_tutorial_it_ends(pairs):
    """Behind a loader without end, this would fill memory before the first element."""
    loader = tf_dataset(pairs("a"), False, image_size=SIZE)
    repeated = loader.apply(tf.data.experimental.shuffle_and_repeat(100000, count=3))
    assert repeated.cardinality() == 18
    images = one_pass(repeated)
    assert len(images) == 18 and sorted(images) == sorted(3 * one_pass(loader))


# sample_from_datasets


def mixed_numbers(pairs, count, **options):
    """Which subset each of the first `count` elements is of."""
    loaders = [
        tf_dataset(pairs(name), transforms=painted(number), image_size=SIZE)
        for number, name in enumerate("abc")
    ]
    mixture = sample_from_datasets(loaders, **options)
    assert mixture.cardinality() == tf.data.INFINITE_CARDINALITY
    return np.array([image[0, 0, 0] for image, _ in take(mixture, count)])


@pytest.mark.parametrize("weights", [None, [1, 1, 2], (0.0, 0.5, 0.5)])
def test_the_mixture_keeps_its_shares_and_never_runs_dry(pairs, weights):
    """Subset c has one pair, so that its loader is repeated hundreds of times."""
    shares = np.ones(3) / 3 if weights is None else np.array(weights) / sum(weights)
    numbers = mixed_numbers(pairs, 900, weights=weights)
    for half in (numbers[:450], numbers[450:]):  # the second half catches a loader that ran dry
        sigma = (shares * (1 - shares) / 450) ** 0.5
        assert (np.abs(np.bincount(half, minlength=3) / 450 - shares) <= 4 * sigma).all()


def test_the_order_is_the_seeds_alone(pairs):
    tf.random.set_seed(1)
    first = mixed_numbers(pairs, 60)
    tf.random.set_seed(2)
    np.testing.assert_array_equal(mixed_numbers(pairs, 60, seed=0), first)
    assert (mixed_numbers(pairs, 60, seed=1) != first).any()


def test_each_iteration_of_the_mixture_has_another_order():
    mixture = sample_from_datasets([tf.data.Dataset.from_tensors(k) for k in range(2)])
    orders = [tuple(int(k) for k in take(mixture, 60)) for _ in range(3)]
    assert len(set(orders)) == 3
    again = sample_from_datasets([tf.data.Dataset.from_tensors(k) for k in range(2)])
    assert [tuple(int(k) for k in take(again, 60)) for _ in range(3)] == orders


def test_in_the_mixture_every_pass_of_a_loader_is_whole(pairs):
    loader = tf_dataset(pairs("a"), image_size=SIZE)
    other = tf_dataset(pairs("b"), image_size=SIZE)
    expected, alone = one_pass(loader.repeat(5)), tf_dataset(pairs("a"), image_size=SIZE)
    of_b = set(one_pass(other))
    mixture = [image.tobytes() for image, _ in take(sample_from_datasets([alone, other]), 40)]
    of_a = [image for image in mixture if image not in of_b]
    assert len(of_a) > 6 and of_a == expected[: len(of_a)]


def test_no_pixels_are_held_back_to_be_shuffled(tmp_path):
    """Of a long loader, only what is drawn and read ahead is asked for."""
    asked = itertools.count()

    def element(number):
        next(asked)
        return number

    endless = tf.data.Dataset.range(10**6).map(lambda n: tf.numpy_function(element, [n], tf.int64))
    assert len(take(sample_from_datasets([endless, endless]), 20)) == 20
    assert next(asked) <= 24


@pytest.mark.parametrize(
    "loaders, weights, message",
    [
        ([], None, "0 loaders and weights None; expected at least one"),
        ([1, 1], [1, 1, 1], "2 loaders and weights .*a weight for each"),
        ([1, 1], [1, -1], "weights are .*at least 0"),
        ([1, 1], [0, 0], "weights are .*one of them above"),
        ([1, 0], None, r"loaders 1 \(the first is 0\) have no elements"),
    ],
)
def test_wrong_mixtures(loaders, weights, message):
    with pytest.raises(InputError, match=message):
        sample_from_datasets([tf.data.Dataset.range(count) for count in loaders], weights)
