"""Every recipe of docs/how-to/any-dataset.md runs and does what it says."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segbalance.legacy_keras import tf
from tests.support.data import write_image

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "any-dataset.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.M | re.S)
CATS, DOGS = 10, 3  # of class 0 and 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """data/train with photos whose red channel is their number; the green one is 200 in their left half."""
    folder = tmp_path_factory.mktemp("recipes")
    for name, first, count in (("cat", 0, CATS), ("dog", 100, DOGS)):
        for number in range(first, first + count):
            pixels = np.full((64, 64, 3), number, np.uint8)
            pixels[:, :32, 1] = 200
            write_image(folder / "data" / "train" / name / f"{number}.png", pixels)
    return folder


@pytest.fixture(scope="module")
def left_behind(folder):
    """{heading: the names after its block}; the blocks run one after the other."""
    before, names, found = os.getcwd(), {}, {}
    os.chdir(folder)
    try:
        for number, (heading, code) in enumerate(RECIPES):
            path = folder / f"recipe_{number}.py"  # a file, for TensorFlow reads the source of functions
            path.write_text(code, encoding="utf-8")
            exec(compile(code, path, "exec"), names)
            found[heading] = dict(names)
    finally:
        os.chdir(before)
    return found


@pytest.fixture
def recipe(left_behind, folder, monkeypatch):
    """Function(heading) -> what its block left behind, as attributes; in the folder of the data."""
    monkeypatch.chdir(folder)
    return lambda heading: SimpleNamespace(**left_behind[heading])


def labels(dataset, count=None):
    elements = dataset if count is None else dataset.take(count)
    return np.array([int(element[1]) for element in elements])


def photo_numbers(images):
    return np.rint(images[..., 0, 0, 0]).astype(int)


def test_every_section_has_one_recipe():
    headings = [heading for heading, _ in RECIPES]
    assert len(headings) == PAGE.count("```python") == PAGE.count("\n## ") == len(set(headings)) >= 10


def test_data(recipe):
    own = recipe("The data")
    assert own.counts == {0: CATS, 1: DOGS}


def test_oversampling(recipe):
    own = recipe("Oversample the minority classes")
    assert np.bincount(labels(own.balanced)).tolist() == [CATS, CATS]
    assert len(own.batches) == 2 * CATS / 4
    images = np.concatenate([images for images, _ in own.batches.as_numpy_iterator()])
    assert set(photo_numbers(images)) == {*range(CATS), *range(100, 100 + DOGS)}


def test_the_same_number_by_chance(recipe):
    own = recipe("The same number of images per class")
    root = CATS**0.5 / (CATS**0.5 + DOGS**0.5)
    for dataset, share in ((own.balanced, 0.5), (own.milder, root), (own.chosen, 0.7)):
        sigma = (share * (1 - share) / 400) ** 0.5
        assert abs((labels(dataset, 400) == 0).mean() - share) < 4 * sigma


def test_duplicates_in_memory(recipe):
    own = recipe("Duplicate training samples in memory")
    images, found = zip(*own.balanced.as_numpy_iterator(), strict=True)
    numbers = np.bincount(photo_numbers(np.stack(images)), minlength=100 + DOGS)
    assert numbers[:CATS].tolist() == [1] * CATS and numbers[100:].tolist() == [3] * DOGS
    assert np.bincount(found).tolist() == [CATS, 3 * DOGS]


def test_only_the_duplicates_are_augmented(recipe):
    own = recipe("Augment the duplicates only")
    images = np.stack([image for image, _ in own.balanced.as_numpy_iterator()])
    plain = (images[:, 0, 0, 1] == 200) & (images[:, 0, -1, 1] < 200)
    assert len(images) == 2 * CATS and plain.sum() == CATS + DOGS
    assert len(set(photo_numbers(images[plain]))) == CATS + DOGS
    copies = images[~plain].reshape(CATS - DOGS, -1)
    assert len(np.unique(copies, axis=0)) == CATS - DOGS, "no two copies are alike"


def test_the_same_number_in_every_batch(recipe):
    own = recipe("The same number in every batch")
    for _, found in own.batches.take(20).as_numpy_iterator():
        assert np.bincount(found).tolist() == [2, 2]


def test_stratified_batches(recipe):
    own = recipe("Stratified batches")
    found = np.stack([found for _, found in own.batches.take(13).as_numpy_iterator()])
    dogs = found.sum(axis=1)
    # 5 * 3 / 13 = 1.15: one or two dogs a batch, and 15 in 13 batches.
    assert set(dogs) == {1, 2} and dogs.sum() == 15


def test_class_weights(recipe):
    own = recipe("Class weights")
    # 13 / (2 * 10) = 0.65 and 13 / (2 * 3) = 2.167
    assert own.weights == pytest.approx({0: 0.65, 1: 13 / 6})
    for _, label, weight in own.weighted.take(20).as_numpy_iterator():
        assert weight == pytest.approx(own.weights[label])


def test_a_stratified_split(recipe):
    own = recipe("A stratified split first")
    assert np.bincount(own.valid_labels).tolist() == [2, 1]
    assert not set(own.train) & set(own.valid)


def test_only_what_is_drawn_is_decoded(recipe):
    own = recipe("Decode only what is drawn")
    images, found = zip(*own.balanced.as_numpy_iterator(), strict=True)
    assert np.bincount(found).tolist() == [8, 8]
    drawn = {Path("data", "train", "cat" if number < 100 else "dog", f"{number}.png")
             for number in photo_numbers(np.stack(images))}  # fmt: skip
    assert drawn == set(map(Path, own.train))


def test_tensorflow_datasets(recipe):
    own = recipe("TensorFlow Datasets")
    assert own.encoded.element_spec[0].dtype == tf.string, "files as they are"
    images, found = zip(*own.batches.as_numpy_iterator(), strict=True)
    assert np.bincount(np.concatenate(found)).tolist() == [CATS, CATS]
    numbers = photo_numbers(np.concatenate(images))
    np.testing.assert_array_equal(numbers >= 100, np.concatenate(found) == 1)
