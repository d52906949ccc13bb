"""Bands of rows give what the whole picture gives, wherever it is cut."""

import cv2
import numpy as np
import pytest

from segbalance.prediction import row_bands
from segbalance.prediction.row_bands import (
    ObjectCounter,
    disc,
    most_probable,
    narrow_bands,
    smoothed_bands,
    stretched_bands,
    with_last,
)

CUTS = [[], [1], [3, 4, 20], list(range(1, 48))]


def bands(pixels, cuts):
    return np.split(pixels, [cut for cut in cuts if cut < len(pixels)])


def blobs(height=48, width=70, seed=0):
    """uint8 (H, W) of 0 and 1: blobs of all sizes, specks and holes among them."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), 1.3) > 0.05).astype(np.uint8)


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("size", [(200, 131), (70, 48), (33, 20), (1, 1), (70, 3000)])
def test_stretching_is_bilinear(size, cuts, monkeypatch):
    monkeypatch.setattr(row_bands, "BAND_PIXELS", 700)
    small = np.random.default_rng(0).random((48, 70), np.float32)
    parts = list(stretched_bands(bands(small, cuts), size, 48 / size[1], size[0]))
    expected = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    assert max(len(part) for part in parts) <= max(1, 700 // size[0])
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(200, 131), (70, 48), (33, 20), (70, 3000)])
def test_maps_of_several_classes_are_stretched_alike(size, monkeypatch):
    monkeypatch.setattr(row_bands, "BAND_PIXELS", 3500)
    small = np.random.default_rng(0).random((48, 70, 5), np.float32)
    narrow = narrow_bands(small)
    assert [len(band) for band in narrow] == [row_bands.NARROW] * 12
    parts = list(stretched_bands(narrow, size, 48 / size[1], size[0]))
    assert max(len(part) for part in parts) <= max(1, 3500 // (5 * size[0])), "the classes count too"
    channels = [
        cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR) for channel in np.moveaxis(small, -1, 0)
    ]
    expected = np.stack(channels, axis=-1)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)
    ordered = np.sort(expected, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-4
    found = most_probable(small, size)
    assert found.dtype == np.uint8 and clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], expected.argmax(axis=-1)[clear])


def test_the_most_probable_class_is_taken_after_resizing():
    """Between 0.6, 0.4, 0 and 0, 0.4, 0.6 lies 0.3, 0.4, 0.3: the second class, though nowhere before."""
    small = np.float32([[[0.6, 0.4, 0.0], [0.0, 0.4, 0.6]]])
    assert most_probable(small, (9, 1)).tolist() == [[0, 0, 0, 0, 1, 2, 2, 2, 2]]


@pytest.mark.parametrize("cuts", CUTS)
def test_a_map_that_reaches_beyond_the_photo_is_cut(cuts):
    small = np.random.default_rng(0).random((48, 70), np.float32)
    expected = cv2.resize(small, (210, 144), interpolation=cv2.INTER_LINEAR)[:143, :208]
    found = np.concatenate(list(stretched_bands(bands(small, cuts), (208, 143), 1 / 3, 210)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("side", [3, 5])
def test_smoothing_does_not_depend_on_the_cuts(side, cuts):
    # Noise: results depend on rows as far away as they can.
    mask = (np.random.default_rng(0).standard_normal((400, 300)) > -0.6).astype(np.uint8)
    kernel = disc(side)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    expected = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)
    parts = list(smoothed_bands(bands(mask, [*cuts, *range(60, 400, 20)]), kernel))
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert 0 < (expected != mask).mean() and len(np.unique(expected)) == 2
    assert len(parts) > 1


def test_smoothing_by_hand():
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (30, 30), 15, 1, -1)
    disc_alone = mask.copy()
    mask[5:7, 5:7] = 1  # a speck
    mask[30:32, 29:31] = 0  # a hole
    (smooth,) = smoothed_bands([mask], disc(5))
    assert smooth[5:7, 5:7].sum() == 0 and smooth[28:34, 27:33].all()
    assert (smooth != disc_alone).sum() < 20


def areas(mask, cuts):
    counter = ObjectCounter()
    for band in bands(mask, cuts):
        counter.add(np.ascontiguousarray(band))
    return sorted(counter.areas().tolist())


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_objects_are_those_of_the_whole_mask(seed, cuts):
    mask = blobs(seed=seed)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    assert areas(mask, cuts) == sorted(statistics[1:, cv2.CC_STAT_AREA].tolist()) and len(statistics) > 10


DIAGONALS = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], np.uint8)


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2, 3]])
def test_diagonal_neighbours_are_one_object(cuts):
    # 4 pixels joined by corners above, two single ones below.
    assert areas(DIAGONALS, cuts) == [1, 1, 4]


def test_arms_that_meet_below_are_one_object():
    arms = np.array([[1, 0, 1, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]], np.uint8)
    assert areas(arms, [1, 2]) == [11]
    assert areas(np.zeros((4, 5), np.uint8), [2]) == []


def test_the_last_one_is_marked():
    assert list(with_last("abc")) == [("a", False), ("b", False), ("c", True)]
    assert list(with_last("")) == []
