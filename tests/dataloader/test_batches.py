"""The invariants of the loader: mixed as draws, never dry, a function of the seed, uint8, class ids."""

import gc
import hashlib
import itertools
import os

import albumentations as A
import cv2
import numpy as np
import pytest

from segbalance.balancing.draws import Draws, DrawStream
from segbalance.balancing.ledger import epoch_rows, p_value
from segbalance.balancing.plan import balance_plan
from segbalance.data_processing.manifest import read_manifest
from segbalance.dataloader.batches import (
    Subset,
    draw_order,
    training_dataset,
    validation_dataset,
)
from segbalance.dataloader.pair_cache import PairReader, RamCache
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import Paths
from segbalance.errors import InputError
from segbalance.files.images import read_image
from segbalance.legacy_keras import tf
from segbalance.train.options import BalanceOptions
from segbalance.transforms.pipelines import train_transform, valid_transform
from tests.support.data import write_data

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


def training(subsets, balance=None, **options):
    defaults = {"image_size": SIZE, "batch_size": 8, "steps_per_epoch": 4, "seed": 0}
    own_plan = plan([len(subset) for subset in subsets], **balance or {})
    return training_dataset(subsets, own_plan, **defaults | options)


def fingerprint(elements):
    digest = hashlib.sha256()
    for array in itertools.chain(*elements):
        digest.update(array.tobytes())
    return digest.hexdigest()


def plan(sizes, balance="uniform", batch_size=16, **options):
    named = {str(number): size for number, size in enumerate(sizes)}
    return balance_plan(named, BalanceOptions(balance, **options), batch_size)


def stream(own_plan, seed=0, batch_size=16, steps_per_epoch=70):
    """The DrawStream that training would have."""
    sizes = own_plan.sizes
    draws = Draws(sizes, seed, own_plan.pass_lengths)
    options = {"batch_size": batch_size, "steps_per_epoch": steps_per_epoch, "augment": own_plan.augment}
    return DrawStream(draw_order(own_plan, seed), draws, [range(size) for size in sizes], **options)


def drawn(own_stream, steps, first_step=0):
    """int64 (steps, B) draws."""
    return np.stack([draws for draws, _ in itertools.islice(own_stream.steps(first_step), steps)])


STRATEGIES = [
    {"balance": "uniform"},
    {"balance": "none"},
    {"balance": "power", "balance_alpha": 0.3},
    {"balance": "shares", "shares": {"0": 0, "4": 0.5, "default": 1}},
    {"balance": "oversample"},
    {"balance": "oversample", "copies": {"4": 3}},
    {"balance": "exact"},
]


@pytest.mark.parametrize("options", STRATEGIES, ids=str)
def test_every_strategy_keeps_its_shares_from_the_first_epoch_to_the_last(options):
    """100 epochs of the tutorial's data, first, middle and last tenth apart: none runs dry."""
    own = plan(TUTORIAL, **options)
    subsets = drawn(stream(own), 100 * 70).reshape(100, -1) % 5
    counts = np.stack([np.bincount(epoch, minlength=5) for epoch in subsets])
    assert not counts[:, own.shares == 0].any()
    # Of n independent draws with share p the standard deviation of the share is sqrt(p (1 - p) / n); exact
    # strategies stay far inside it.
    for first in (0, 45, 90):
        tenth = counts[first : first + 10].sum(0)
        sigma = (own.shares * (1 - own.shares) / tenth.sum()) ** 0.5
        assert (np.abs(tenth / tenth.sum() - own.shares) <= 4 * sigma).all()
        assert p_value(tenth, own.shares) > 1e-6
    # Each epoch apart too; 500 looks at most stay within 4.5 sigma.
    sigma = (own.shares * (1 - own.shares) / subsets.shape[1]) ** 0.5
    assert (np.abs(counts / subsets.shape[1] - own.shares) <= 4.5 * sigma).all()
    random = options["balance"] not in ("oversample", "exact")
    assert (counts.std(0) > 2).sum() >= 4 or not random, "a random mixture varies from epoch to epoch"


def test_exact_and_oversample_are_exact_in_training_too():
    """What the plan promises is what `draw_order` delivers, not the same shares by chance."""
    batches = drawn(stream(plan([70, 20, 10], balance="exact"), batch_size=9), 70) % 3
    assert all(np.bincount(batch).tolist() == [3, 3, 3] for batch in batches)
    own = stream(plan([70, 20, 10], balance="oversample", copies={"2": 4}), batch_size=10)
    passes = drawn(own, 13 * 4).reshape(4, 130)
    for one_pass in passes:
        assert np.bincount(one_pass % 3).tolist() == [70, 20, 40]
        times = np.bincount([own.draws.row(2, int(draw) // 3) for draw in one_pass[one_pass % 3 == 2]])
        assert times.tolist() == [4] * 10


def test_reader_and_stream_know_the_passes_of_oversample(subsets):
    _, reader, own_stream = training(subsets, {"balance": "oversample", "copies": {"1": 1.4}})
    assert reader.draws.pass_lengths == [6, 4, 1] and own_stream.draws is reader.draws


@pytest.mark.parametrize("balance", ["uniform", "exact", "oversample"])
def test_the_order_of_the_subsets_depends_on_the_run_seed(subsets, balance):
    first, other = (drawn(training(subsets, {"balance": balance}, seed=seed)[2], 8) % 3 for seed in (0, 1))
    assert (first != other).any()


def test_no_draw_is_lost_or_repeated_across_epochs():
    draws = drawn(stream(plan([9, 5, 4]), batch_size=6, steps_per_epoch=5), 40).ravel()
    for subset in range(3):
        positions = draws[draws % 3 == subset] // 3
        np.testing.assert_array_equal(positions, np.arange(len(positions)))


def test_a_late_step_is_found_without_its_forerunners():
    def steps(first, count):
        return drawn(stream(plan([4, 4]), 7, batch_size=4, steps_per_epoch=5), count, first)

    np.testing.assert_array_equal(steps(13, 9), steps(0, 22)[13:])


def test_the_draws_depend_on_the_run_seed_not_on_the_global_one():
    def draws(seed, global_seed):
        tf.random.set_seed(global_seed)
        return drawn(stream(plan([4, 4]), seed, batch_size=32, steps_per_epoch=2), 4)

    np.testing.assert_array_equal(draws(0, 1), draws(0, 2))
    assert (draws(0, 1) != draws(1, 1)).any()
    epochs = draws(0, 1).reshape(2, -1) % 2
    assert (epochs[0] != epochs[1]).any(), "each epoch has its own mixture"


# Of draws, rows and sample seeds, each the sha256 of 200 steps. Where they change, a run of an older version
# can no longer be repeated.
AS_EVER = {
    "uniform": (
        "b6c178b88ba27a19a7e6c04197b28bc54931706665f79344827e996ccdb2a11b",
        "7f676b078254717feea5349d39cc6e11587b9b81099f0fc913e42c6530ed0053",
        "7956f352a6a6778341efbb7a1afa5483425017ce961484e91acb577feb09bd5c",
    ),
    "exact": (
        "2f1dae007fc25a7d9e3e1adc66c29ff4fb4f0c0c9536e52cf6bd1291e061f6a3",
        "4275abec135a341217d6923cb91827179e8e51cc7164c20463864c56136d6e32",
        "8586135f21048e85d56098098f2462dfd7bf54f759e24894e861e2055f09973e",
    ),
    "oversample": (
        "898806f4391188f9e259787b9328df3a57386679cae5546f6ccd79a6b8d352f0",
        "6ff67c2322d3044a81bc7a1382c8db1eeb139085f1152a29e8c9f8e998ac5b00",
        "b427be0083f920cd291f490b4152506fd26d81c9371f0074301b11f5d466f57b",
    ),
}


@pytest.mark.parametrize("balance", AS_EVER)
def test_a_run_draws_what_it_always_drew(balance):
    """Nearly three epochs of 70 steps; where TensorFlow mixes, its version counts too."""
    own = stream(plan(TUTORIAL, balance))
    draws = drawn(own, 200)
    places = list(zip(*(part.ravel().tolist() for part in own.draws.split(draws)), strict=True))
    rows = np.array([own.draws.row(*place) for place in places], "<i8")
    seeds = np.array([own.draws.sample_seed(*place) for place in places], "<u8")
    assert draws.dtype == np.int64
    arrays = (draws.astype("<i8"), rows, seeds)
    assert tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays) == AS_EVER[balance]


def test_batches_do_not_depend_on_the_number_of_threads(subsets):
    prints = {fingerprint(take(training(subsets, threads=n)[0], 9)) for n in (1, 2, 4)}
    assert len(prints) == 1
    assert fingerprint(take(training(subsets, seed=1)[0], 9)) not in prints


@pytest.mark.parametrize("options", STRATEGIES[:1] + STRATEGIES[4:7], ids=str)
def test_the_ledger_is_what_the_batches_hold(manifests, options):
    """Every photo is painted in a colour of its own, so that the pixels tell what was delivered."""
    root, csv_dir = manifests
    resize = A.Compose([A.Resize(SIZE, SIZE, interpolation=0)])
    subsets = make_subsets(csv_dir, resize)
    for subset in subsets:
        for number, path in enumerate(subset.images):
            painted = np.full((50, 60, 3), 20 * number, np.uint8)
            assert cv2.imwrite(path, painted)
    options = options | {"copies": {"2": 3}} if options.get("copies") else options
    balance = plan([6, 3, 1], **options)
    dataset, _, own_stream = training(subsets, options, steps_per_epoch=5)
    batches = take(dataset, 15)
    for epoch in range(3):
        rows = epoch_rows(epoch, balance, own_stream)
        seen = {}
        for images, _, numbers in batches[5 * epoch : 5 * epoch + 5]:
            for image, subset in zip(images, numbers, strict=True):
                seen.setdefault(int(subset), []).append(int(image[0, 0, 0]) // 20)
        assert sum(row["draws"] for row in rows) == 40
        for subset, row in enumerate(rows):
            times = np.bincount(seen[subset])
            assert (row["draws"], row["images"]) == (times.sum(), np.count_nonzero(times))
            assert row["max_repeats"] == times.max()


def test_with_copies_only_the_further_draws_are_augmented(manifests):
    white = A.Compose([A.Resize(SIZE, SIZE), A.Lambda(image=lambda x, **_: np.full_like(x, 255))])
    own = make_subsets(manifests[1], white)
    dataset, _, own_stream = training(own, {"augment": "copies"}, steps_per_epoch=6)
    plain = np.stack([plain for _, plain in itertools.islice(own_stream.steps(), 12)])
    augmented = np.stack([(images == 255).all((1, 2, 3)) for images, _, _ in take(dataset, 12)])
    np.testing.assert_array_equal(augmented, ~plain)
    assert 0 < plain.mean() < 0.5
    assert all((images == 255).all() for images, _, _ in take(training(own)[0], 6)), "all by default"


def test_batches_do_not_depend_on_the_cache(subsets):
    plain = fingerprint(take(training(subsets)[0], 12))
    for limit, kept in ((200_000, 10), (49_000, 4), (0, 0)):
        cache = RamCache(limit)
        assert fingerprint(take(training(subsets, pairs=PairReader(cache))[0], 12)) == plain
        assert len(cache) == kept, "twelve batches draw each of the ten pairs"


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


def test_the_first_batch_decodes_a_few_batches_not_the_data(tmp_path, stub):
    root = write_data(tmp_path, {"a": 200})
    images = sorted(str(path) for path in (root / "train/images/a").iterdir())
    masks = [path.replace("images", "masks") for path in images]
    read, count = PairReader.read, itertools.count()
    stub(PairReader, "read", lambda *pair: (next(count), read(*pair))[1])
    take(training([Subset("a", images, masks, valid_transform(SIZE))], batch_size=4)[0], 1)
    assert next(count) < 80


def test_validation_gives_every_pair_once_in_order(subsets):
    resized = [Subset(s.name, s.images, s.masks, valid_transform(SIZE)) for s in subsets]
    batches = take(validation_dataset(resized, image_size=SIZE, batch_size=4)[0], 100)
    assert [len(batch[0]) for batch in batches] == [4, 4, 2]
    assert np.concatenate([batch[2] for batch in batches]).tolist() == [0] * 6 + [1] * 3 + [2]
    reader = BatchReader(resized, SIZE, Draws([6, 3, 1], 0))
    singles = [valid_transform(SIZE)(image=read_image(path))["image"] for path in resized[0].images]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches])[:6], singles)
    assert reader.failure is None


def test_a_file_that_went_bad_is_named(subsets):
    with open(subsets[2].images[0], "wb") as file:
        file.write(b"rubbish")
    dataset, reader, _ = training(subsets)
    with pytest.raises(tf.errors.OpError):
        take(dataset, 10)
    assert "images/c/0.png cannot be decoded" in str(reader.failure)


def test_a_mask_of_another_size_is_named(subsets):
    bad = [Subset("a", subsets[0].images[:1], subsets[1].masks[:1], valid_transform(SIZE))]
    cv2.imwrite(bad[0].masks[0], np.zeros((9, 9), np.uint8))
    reader = BatchReader(bad, SIZE, Draws([1], 0))
    with pytest.raises(InputError, match="is 60x50, its mask 9x9; make the manifests again"):
        reader.read(np.array([0]), np.array([False]))


def test_paths_are_put_together_when_asked_for(tmp_path):
    names = ["a/0.png", "/elsewhere/1.png", "b/2.png"]
    paths = Paths(tmp_path, names)
    expected = [os.path.join(tmp_path, name) for name in names]
    assert len(paths) == 3 and list(paths) == expected and paths[-1] == expected[-1]
    assert list(paths[1:]) == expected[1:] and paths.index(expected[2]) == 2
    with pytest.raises(IndexError):
        paths[3]
