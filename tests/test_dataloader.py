"""The invariants of the loader: mixed as draws, never dry, a function of the seed, uint8, class ids."""

import gc
import hashlib
import itertools

import albumentations as A
import numpy as np
import pytest
from conftest import write_data

import dataloader
from balancing import Draws, subset_shares
from dataloader import (
    BatchReader,
    Mixture,
    Subset,
    load_data_path,
    tf_dataset,
    training_dataset,
    validation_dataset,
)
from legacy_keras import tf
from manifest import read_manifest
from transforms import train_transform, valid_transform

TUTORIAL = [749, 144, 126, 52, 34]
SIZE = 32


@pytest.fixture
def subsets(manifests):
    """Subsets a, b and c with the tutorial's transform at 32 pixels."""
    return make_subsets(manifests[1], train_transform(SIZE))


def make_subsets(csv_dir, transform):
    manifest = read_manifest(csv_dir)
    root = manifest.data_root
    return [
        Subset(
            name,
            [str(root / path) for path in table["images"]],
            [str(root / path) for path in table["masks"]],
            transform,
            manifest.encoding,
        )
        for name, table in manifest.train.items()
    ]


def take(dataset, count):
    """The first `count` elements as NumPy arrays; the iterator is gone afterwards."""
    iterator = dataset.as_numpy_iterator()
    elements = list(itertools.islice(iterator, count))
    del iterator
    gc.collect()
    return elements


def training(subsets, **options):
    defaults = {"image_size": SIZE, "batch_size": 8, "steps_per_epoch": 4, "seed": 0}
    return training_dataset(
        subsets, subset_shares([len(s) for s in subsets], "uniform"), **defaults | options
    )


def fingerprint(elements):
    digest = hashlib.sha256()
    for array in itertools.chain(*elements):
        digest.update(array.tobytes())
    return digest.hexdigest()


def test_shares_hold_in_every_epoch_of_a_long_run():
    shares, steps, batch_size = subset_shares(TUTORIAL, "uniform"), 70, 16
    batches = Mixture(shares, seed=0).batches(batch_size=batch_size, steps_per_epoch=steps)
    draws = np.stack(list(itertools.islice(batches, 100 * steps))).reshape(100, -1)
    counts = np.stack([np.bincount(epoch % 5, minlength=5) for epoch in draws])
    # Of n draws with share p the standard deviation of the share is sqrt(p (1 - p) / n).
    sigma = (0.2 * 0.8 / draws.shape[1]) ** 0.5
    assert np.abs(counts / draws.shape[1] - 0.2).max() < 4 * sigma
    sigma = (0.2 * 0.8 / (50 * draws.shape[1])) ** 0.5
    for half in (counts[:50], counts[50:]):  # the second half catches a loader that ran dry
        assert np.abs(half.sum(0) / half.sum() - 0.2).max() < 4 * sigma
    assert (counts.std(0) > 0).all(), "a random mixture varies from epoch to epoch"


def test_shares_follow_the_sizes_without_balancing():
    shares = subset_shares(TUTORIAL, "none")
    batches = Mixture(shares, seed=1).batches(batch_size=100, steps_per_epoch=200)
    counts = np.bincount(np.concatenate(list(itertools.islice(batches, 200))) % 5, minlength=5)
    sigma = (shares * (1 - shares) / 20000) ** 0.5
    assert (np.abs(counts / 20000 - shares) < 4 * sigma).all()


def test_no_draw_is_lost_or_repeated_across_epochs():
    batches = Mixture([0.5, 0.3, 0.2], seed=0).batches(batch_size=6, steps_per_epoch=5)
    draws = np.concatenate(list(itertools.islice(batches, 40)))
    for subset in range(3):
        positions = draws[draws % 3 == subset] // 3
        np.testing.assert_array_equal(positions, np.arange(len(positions)))


def test_a_late_step_is_found_without_its_forerunners():
    def steps(first, count):
        batches = Mixture([0.5, 0.5], seed=7).batches(batch_size=4, steps_per_epoch=5, first_step=first)
        return np.stack(list(itertools.islice(batches, count)))

    np.testing.assert_array_equal(steps(13, 9), steps(0, 22)[13:])


def test_the_draws_depend_on_the_run_seed_not_on_the_global_one():
    def draws(seed, global_seed):
        tf.random.set_seed(global_seed)
        batches = Mixture([0.5, 0.5], seed).batches(batch_size=32, steps_per_epoch=2)
        return np.stack(list(itertools.islice(batches, 4)))

    np.testing.assert_array_equal(draws(0, 1), draws(0, 2))
    assert (draws(0, 1) != draws(1, 1)).any()
    epochs = draws(0, 1).reshape(2, -1) % 2
    assert (epochs[0] != epochs[1]).any(), "each epoch has its own mixture"


def test_batches_do_not_depend_on_the_number_of_threads(subsets):
    prints = {fingerprint(take(training(subsets, threads=n)[0], 9)) for n in (1, 2, 4)}
    assert len(prints) == 1
    assert fingerprint(take(training(subsets, seed=1)[0], 9)) not in prints


def test_batches_start_at_any_step(subsets):
    whole, late = take(training(subsets)[0], 9), take(training(subsets, first_step=6)[0], 3)
    assert fingerprint(whole[6:]) == fingerprint(late)


def test_batches_are_uint8_class_ids_of_the_right_shape(subsets):
    images, masks, numbers = take(training(subsets)[0], 1)[0]
    assert (images.shape, images.dtype) == ((8, SIZE, SIZE, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((8, SIZE, SIZE, 1), np.uint8)
    assert set(np.unique(masks)) == {0, 1}
    assert numbers.dtype == np.int32 and set(numbers) <= {0, 1, 2}


def test_image_and_mask_move_together(manifests):
    transform = A.Compose([A.HorizontalFlip(p=0.5), A.Crop(0, 0, SIZE, SIZE)])
    batches = take(training(make_subsets(manifests[1], transform))[0], 6)
    images, masks = (np.concatenate([batch[part] for batch in batches]) for part in (0, 1))
    np.testing.assert_array_equal(images[..., 0] > 127, masks[..., 0] == 1)
    assert 0 < masks.mean() < 1


def test_every_subset_keeps_its_own_transform(subsets):
    def painted(value):
        return A.Compose([A.Resize(SIZE, SIZE), A.Lambda(image=lambda x, **_: np.full_like(x, value))])

    own = [
        Subset(subset.name, subset.images, subset.masks, painted(10 + number))
        for number, subset in enumerate(subsets)
    ]
    for images, _, numbers in take(training(own)[0], 5):
        np.testing.assert_array_equal(images[:, 0, 0, 0], 10 + numbers)


def test_the_first_batch_decodes_a_few_batches_not_the_data(tmp_path, monkeypatch):
    root = write_data(tmp_path, {"a": 200})
    images = sorted(str(path) for path in (root / "train/images/a").iterdir())
    masks = [path.replace("images", "masks") for path in images]
    read, count = dataloader.read_image, itertools.count()
    monkeypatch.setattr(dataloader, "read_image", lambda path: (next(count), read(path))[1])
    take(training([Subset("a", images, masks, valid_transform(SIZE))], batch_size=4)[0], 1)
    assert next(count) < 80


def test_validation_gives_every_pair_once_in_order(subsets):
    resized = [Subset(s.name, s.images, s.masks, valid_transform(SIZE)) for s in subsets]
    batches = take(validation_dataset(resized, image_size=SIZE, batch_size=4)[0], 100)
    assert [len(batch[0]) for batch in batches] == [4, 4, 2]
    assert np.concatenate([batch[2] for batch in batches]).tolist() == [0] * 6 + [1] * 3 + [2]
    reader = BatchReader(resized, SIZE, Draws([6, 3, 1], 0))
    singles = [
        valid_transform(SIZE)(image=dataloader.read_image(path))["image"] for path in resized[0].images
    ]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches])[:6], singles)
    assert reader.failure is None


def test_a_file_that_went_bad_is_named(subsets):
    with open(subsets[2].images[0], "wb") as file:
        file.write(b"rubbish")
    dataset, reader = training(subsets)
    with pytest.raises(tf.errors.OpError):
        take(dataset, 10)
    assert "images/c/0.png cannot be decoded" in str(reader.failure)


def test_a_mask_of_another_size_is_named(subsets):
    bad = [Subset("a", subsets[0].images[:1], subsets[1].masks[:1], valid_transform(SIZE))]
    import cv2

    cv2.imwrite(bad[0].masks[0], np.zeros((9, 9), np.uint8))
    reader = BatchReader(bad, SIZE, Draws([1], 0))
    with pytest.raises(OSError, match="is 60x50, its mask 9x9; make the manifests again"):
        reader.read(np.array([0]))


def test_load_data_path_gives_the_pairs_of_one_manifest(manifests):
    root, csv_dir = manifests
    images, masks = load_data_path(root, csv_dir / "trainb.csv")
    assert images == [str(root / f"train/images/b/{n}.png") for n in range(3)]
    assert masks == [path.replace("images", "masks") for path in images]


def test_tf_dataset_without_shuffling_keeps_the_order(manifests):
    pairs = load_data_path(manifests[0], manifests[1] / "traina.csv")
    elements = take(tf_dataset(pairs, shuffle=False, image_size=SIZE, passes=2), 100)
    assert len(elements) == 12 and elements[0][0].shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(elements[0][0], elements[6][0])
    batches = take(tf_dataset(pairs, shuffle=False, batch_size=4, image_size=SIZE, passes=1), 100)
    assert [batch[1].shape for batch in batches] == [(4, SIZE, SIZE, 1), (2, SIZE, SIZE, 1)]
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), [e[0] for e in elements[:6]])


def test_tf_dataset_shuffles_each_pass_anew(manifests):
    pairs = load_data_path(manifests[0], manifests[1] / "traina.csv")
    elements = take(tf_dataset(pairs, image_size=SIZE), 24)
    passes = [[image.tobytes() for image, _ in elements[6 * n : 6 * n + 6]] for n in range(4)]
    assert all(sorted(order) == sorted(passes[0]) for order in passes)
    assert len({tuple(order) for order in passes}) > 1


def test_the_tutorials_recipe_keeps_its_balance(manifests):
    root, csv_dir = manifests

    def painted(value):
        return A.Compose([A.Resize(SIZE, SIZE), A.Lambda(image=lambda x, **_: np.full_like(x, value))])

    loaders = [
        tf_dataset(
            load_data_path(root, csv_dir / f"train{name}.csv"),
            transforms=painted(number),
            image_size=SIZE,
        )
        for number, name in enumerate("abc")
    ]
    mixed = tf.data.Dataset.sample_from_datasets(loaders, [1 / 3] * 3, seed=0).batch(10)
    numbers = np.concatenate([images[:, 0, 0, 0] for images, _ in take(mixed, 60)])
    sigma = (1 / 3 * 2 / 3 / 300) ** 0.5
    for half in (numbers[:300], numbers[300:]):
        assert np.abs(np.bincount(half, minlength=3) / 300 - 1 / 3).max() < 4 * sigma
