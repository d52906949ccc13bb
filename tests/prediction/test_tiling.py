"""Tiles cover the picture, fade into each other, and leave no seam."""

import cv2
import numpy as np
import pytest

from segbalance.prediction.tiling import padded, shrunk_rows, stitched_bands, tile_starts, tile_weights


def test_starts_by_hand():
    assert tile_starts(100, 100, 25).tolist() == [0]
    assert tile_starts(60, 100, 25).tolist() == [0]
    # 300 more pixels in steps of 75 at most.
    assert tile_starts(400, 100, 25).tolist() == [0, 75, 150, 225, 300]
    assert tile_starts(101, 100, 25).tolist() == [0, 1]
    assert tile_starts(200, 100, 0).tolist() == [0, 100]


LENGTHS = [1, 31, 32, 33, 47, 48, 63, 64, 65, 100, 1000]
OVERLAPS = [0, 1, 8, 16]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_tiles_cover_everything_and_overlap_enough(length, overlap):
    starts = tile_starts(length, 32, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, length - 32)
    assert (np.diff(starts) <= 32 - overlap).all() and (np.diff(starts) > 0).all()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_weights_add_up_to_one(length, overlap):
    starts = tile_starts(length, 32, overlap)
    total = np.zeros(max(length, 32))
    for start, weights in zip(starts, tile_weights(starts, 32), strict=True):
        assert (weights >= 0).all()
        total[start : start + 32] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_tiles_fade_along_a_hann_window():
    first, second = tile_weights(np.array([0, 16]), 32)
    assert (first[:16] == 1).all() and (second[16:] == 1).all()
    # 4 of the 16 shared pixels at either end belong to one tile, 8 are sin^2 in between.
    rise = np.sin(np.pi / 2 * (np.arange(8) + 0.5) / 8) ** 2
    np.testing.assert_allclose(second[:16], [*[0] * 4, *rise, *[1] * 4], atol=1e-6)
    np.testing.assert_allclose(first[16:], second[:16][::-1], atol=1e-6)


def picture(height=150, width=217, seed=0):
    noise = np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def convolutions(photos):
    """Three convolutions of 3x3 with zero padding: each pixel sees 3 pixels around it."""
    from segbalance.legacy_keras import tf

    kernels = np.random.default_rng(1).standard_normal((3, 3, 3, 4)).astype(np.float32) * 0.3
    x = tf.constant(photos, tf.float32) / 255
    for kernel in (kernels, kernels.repeat(2, 2)[:, :, :4], kernels.repeat(2, 2)[:, :, :4, :1]):
        x = tf.tanh(tf.nn.conv2d(x, kernel, 1, "SAME"))
    return tf.sigmoid(4 * x).numpy()


def tiled(photo, predict, tile=64, overlap=16, batch_size=3):
    height, width = photo.shape[:2]
    rows = []

    def read(top, bottom):
        rows.append((top, bottom))
        return photo[top:bottom]

    parts = list(stitched_bands(read, (width, height), tile, overlap, predict, batch_size))
    assert max(bottom - top for top, bottom in rows) <= tile, "never the whole picture"
    assert max(len(part) for part in parts) <= tile
    return np.concatenate(parts)


@pytest.mark.parametrize("size", [(150, 217), (64, 64), (65, 300), (300, 65)])
def test_tiles_equal_the_whole(size):
    """3 pixels of padding at a tile's edge, where a quarter of 16 is left to the neighbour: exact."""
    photo = picture(*size)
    whole = convolutions(photo[None])[0, ..., 0]
    found = tiled(photo, convolutions)
    assert found.shape == whole.shape and whole.std() > 0.05
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_tiles_of_several_classes_equal_the_whole():
    def predict(photos):
        one = convolutions(photos)
        return np.concatenate([one, 1 - one, one * (1 - one)], axis=-1)

    photo = picture(150, 217)
    found = tiled(photo, predict)
    assert found.shape == (150, 217, 3)
    np.testing.assert_allclose(found, predict(photo[None])[0], atol=1e-5)


def step_ratio(found, starts, tile):
    """The mean step across columns where a tile begins or ends, over the mean step elsewhere."""
    steps = np.abs(np.diff(found, axis=1)).mean(axis=0)
    borders = np.unique([*(starts[1:] - 1), *(starts[:-1] + tile - 1)])
    return steps[borders].mean() / np.delete(steps, borders).mean()


def position_dependent(photos):
    """A network at its worst: what it answers depends on where in the tile a pixel lies."""
    slope = np.linspace(0, 1, photos.shape[2], dtype=np.float32)[None, None, :, None]
    return (photos[..., :1] / 255 * 0.2 + 0.8 * slope).astype(np.float32)


def test_no_step_where_tiles_meet():
    photo, starts = picture(64, 400), tile_starts(400, 64, 16)
    found = tiled(photo, position_dependent)
    assert step_ratio(found, starts, 64) < 1.5
    hard = np.concatenate([position_dependent(photo[None, :, x : x + 64])[0] for x in range(0, 400, 64)], 1)
    assert step_ratio(hard[..., 0], np.arange(0, 400, 64), 64) > 5, "the measure sees a hard border"


@pytest.mark.parametrize("size", [(20, 30), (1, 1), (20, 100), (100, 20)])
def test_small_pictures_are_mirrored_at_the_edge(size):
    photo = picture(*size)
    found = tiled(photo, lambda photos: photos[..., :1].astype(np.float32) / 255)
    np.testing.assert_allclose(found, photo[..., 0] / 255, atol=1e-6)
    assert padded(photo, 64).shape == (max(64, size[0]), max(64, size[1]), 3)


@pytest.mark.parametrize("size", [(90, 60), (91, 61), (2, 2)])
def test_shrinking_averages_squares(size):
    photo = picture(*size)
    read, small = shrunk_rows(lambda top, bottom: photo[top:bottom], size[::-1], 3)
    assert small == (-(-size[1] // 3), -(-size[0] // 3))
    parts = [read(top, min(top + 7, small[1])) for top in range(0, small[1], 7)]
    found = np.concatenate(parts).astype(float)
    full = size[0] // 3, size[1] // 3
    blocks = photo[: full[0] * 3, : full[1] * 3].reshape(full[0], 3, full[1], 3, 3).mean((1, 3))
    np.testing.assert_allclose(found[: full[0], : full[1]], blocks, atol=0.51)
    assert found.shape == (small[1], small[0], 3)


def test_shrinking_by_one_changes_nothing():
    assert shrunk_rows(len, (5, 6), 1) == (len, (5, 6))
