"""What two pairs are compared by."""

import cv2
import numpy as np

from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.pairs import find_folders, find_pairs
from segbalance.doctor.appearance import look_at_pairs, look_at_photo, read_in_parallel
from tests.support.data import write_data, write_image


def test_pairs_are_seen_in_order_with_and_without_an_encoding(tmp_path):
    root = write_data(tmp_path, {"a": 3})
    mask = np.zeros((50, 60), np.uint8)
    mask[0], mask[10, 10] = 255, 255
    write_image(root / "train/masks/a/0.png", mask)
    (root / "train/images/a/2.png").write_bytes(b"no image")
    pairs = find_pairs(root, find_folders(root)).pairs
    first, second, third = look_at_pairs(
        root, {pairs[0]: MaskEncoding(), pairs[1]: None, pairs[2]: MaskEncoding()}
    ).values()
    assert first.foreground == 61 / 3000
    assert first.border == 62 / 220, "the corners count on both their sides"
    assert second.mask is None and np.isnan(second.foreground)
    assert isinstance(third, OSError) and "train/images/a/2.png cannot be decoded" in str(third)


def test_hashes_are_of_pixels_and_their_shape():
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    seen = look_at_photo(photo)
    assert look_at_photo(photo.copy()).photo == seen.photo
    assert look_at_photo(photo.reshape(60, 40, 3)).photo != seen.photo
    assert seen.perceptual_hash.shape == (8,) and seen.thumbnail.shape == (32, 32)
    assert seen.contrast == np.float32(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).std())
    assert look_at_photo(np.full((40, 60, 3), 77, np.uint8)).contrast == 0


def test_processes_give_what_threads_give(tmp_path, monkeypatch, stub):
    root = write_data(tmp_path, {"a": 4})
    encodings = dict.fromkeys(find_pairs(root, find_folders(root)).pairs, MaskEncoding())
    alone = look_at_pairs(root, encodings)
    monkeypatch.setattr("segbalance.data_processing.inspection.FEWEST_FOR_WORKERS", 1)
    stub("os.cpu_count", lambda: 2)
    together = look_at_pairs(root, encodings)
    assert [seen.photo for seen in together.values()] == [seen.photo for seen in alone.values()]
    assert list(together) == list(alone)


def test_more_items_than_are_handed_over_at_once(monkeypatch):
    monkeypatch.setattr("segbalance.doctor.appearance.AT_ONCE", 3)
    assert list(read_in_parallel(str, list(range(10)), "numbers")) == [str(n) for n in range(10)]
