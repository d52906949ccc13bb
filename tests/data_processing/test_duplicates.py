"""Photos that are the same or look the same: what is found is what comparing all with all finds."""

import cv2
import numpy as np
import pytest

from segbalance.data_processing.duplicates import (
    MOST_BITS,
    close_hashes,
    groups,
    look_alikes,
    thumbnail_correlation,
)
from segbalance.doctor.appearance import look_at_photo
from segbalance.sample_data.rendering import render_pair


def test_groups_share_a_key_and_none_is_no_key():
    assert groups(["a", "b", None, "a", None, "c", "b", "a"]) == [[0, 3, 7], [1, 6]]


@pytest.mark.parametrize("at_once", [1, 7, 4_000_000])
def test_close_hashes_are_those_of_all_pairs(at_once, monkeypatch):
    monkeypatch.setattr("segbalance.data_processing.duplicates.AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (300, 8), np.uint8)
    second = rng.integers(0, 256, (80, 8), np.uint8)
    for j in range(60):  # 0 to 9 bits away from one of the first
        bits = np.unpackbits(first[j])
        bits[rng.choice(64, j % 10, replace=False)] ^= 1
        second[j] = np.packbits(bits)
    distances = np.bitwise_count(first[:, None] ^ second[None]).sum(axis=-1)
    expected = [tuple(pair) for pair in np.argwhere(distances <= MOST_BITS).tolist()]
    assert close_hashes(first, second) == expected and len(expected) >= 48


def test_of_many_close_hashes_the_closest_few_are_kept():
    first = np.zeros((1000, 8), np.uint8)
    first[:, 7] = np.arange(1000) % 128 + 1  # never 0
    first[777, 7] = 0
    found = close_hashes(first, np.zeros((5, 8), np.uint8))
    assert {(777, j) for j in range(5)} <= set(found)
    assert len(found) <= 8 * 4 * 5


def test_no_photos_on_one_side():
    assert close_hashes(np.zeros((0, 8), np.uint8), np.zeros((3, 8), np.uint8)) == []


def test_the_work_grows_with_the_photos_and_not_with_their_pairs():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 256, (40_000, 8), np.uint8), rng.integers(0, 256, (10_000, 8), np.uint8)
    second[:10] = first[:10]
    assert {(j, j) for j in range(10)} <= set(close_hashes(first, second))


def photos(*seeds):
    return [render_pair(0, "train", "2", seed, 96)[0] for seed in seeds]


def changed(photo, way):
    if way == "jpeg":
        return cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
    if way == "brighter":
        return np.clip(photo * 1.2 + 10, 0, 255).astype(np.uint8)
    if way == "smaller":
        return cv2.resize(photo, (64, 60), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 8, photo.shape)
    return np.clip(photo + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("way", ["jpeg", "brighter", "smaller", "noisy"])
def test_changed_copies_look_alike_and_others_do_not(way):
    originals = photos(*range(12))
    copies = [changed(originals[number], way) for number in (3, 8)]
    seen = [look_at_photo(photo) for photo in [*originals, *copies, *photos(*range(50, 60))]]
    hashes = np.stack([appearance.perceptual_hash for appearance in seen])
    thumbnails = np.stack([appearance.thumbnail for appearance in seen])
    found = look_alikes(hashes, thumbnails, np.arange(len(seen)) >= 12)
    assert {other: ours for other, (ours, _) in found.items()} == {12: 3, 13: 8}
    assert all(correlation > 0.97 for _, correlation in found.values())


def test_the_correlation_of_thumbnails_by_hand():
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert thumbnail_correlation(ramp, ramp * 3 + 7) == pytest.approx(1)
    assert thumbnail_correlation(ramp, 255 - ramp) == pytest.approx(-1)
    assert thumbnail_correlation(ramp, np.full((4, 4), 9, np.uint8)) == 0
