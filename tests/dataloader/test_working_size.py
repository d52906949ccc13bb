"""Photos shrunk while decoding: the right sizes, and image and mask still on each other."""

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.dataloader.working_size import decode_photo, read_pair, reduction, shrink_mask, working_shape


def read_photo(path, working_size=0):
    return decode_photo(path.read_bytes(), path, working_size)


def test_working_shapes_by_hand():
    assert working_shape((4000, 3000), 768) == (768, 576)
    assert working_shape((3000, 4000), 768) == (576, 768)
    assert working_shape((300, 200), 768) == (300, 200)
    assert working_shape((4000, 3000), 0) == (4000, 3000)
    assert working_shape((5000, 2), 100) == (100, 1)


REDUCTIONS = [
    ((4000, 3000), 768, 4),  # 1000 x 750 is the smallest that is large enough
    ((4000, 3000), 500, 8),
    ((4000, 3000), 501, 4),
    ((4000, 3000), 2000, 2),
    ((4000, 3000), 2001, 1),
    ((4000, 3000), 0, 1),
    ((900, 600), 768, 1),
    # 1001 / 8 is rounded up to 126: 126 * 8 / 1001 - 1 = 0.7 %, 0.88 of 125 pixels. At half the size,
    # 501 * 2 / 1001 - 1 = 0.1 %, 0.12 pixels.
    ((1001, 1001), 125, 2),
]


@pytest.mark.parametrize(("size", "working_size", "factor"), REDUCTIONS)
def test_reductions_by_hand(size, working_size, factor):
    assert reduction(size, working_size) == factor


def disc(width, height, x, y, radius):
    """uint8 (H, W) with 255 inside of a circle whose centre is given as fractions of the sides."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return (((columns - x * width) ** 2 + (rows - y * height) ** 2 < radius**2) * 255).astype(np.uint8)


def centre(weights):
    """(x, y) of the centre of mass, as fractions of the sides."""
    weights = weights.astype(float)
    columns = (weights.sum(0) * (np.arange(weights.shape[1]) + 0.5)).sum() / weights.sum()
    rows = (weights.sum(1) * (np.arange(weights.shape[0]) + 0.5)).sum() / weights.sum()
    return np.array([columns / weights.shape[1], rows / weights.shape[0]])


def write_pair(folder, mask, extension, **options):
    image = np.repeat(mask[..., None], 3, 2)
    Image.fromarray(image).save(folder / f"photo.{extension}", **options)
    assert cv2.imwrite(str(folder / "mask.png"), mask)
    return folder / f"photo.{extension}", folder / "mask.png"


SIZES = [(1600, 1200), (1203, 905), (811, 1333), (1023, 1023), (1601, 401)]


@pytest.mark.parametrize("extension", ["jpg", "png"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", [(0.2, 0.2), (0.85, 0.8)])
def test_photo_and_mask_stay_on_each_other(tmp_path, extension, size, place):
    width, height = size
    truth = disc(width, height, *place, min(size) / 8)
    image_path, mask_path = write_pair(tmp_path, truth, extension)
    for working_size in (128, 200, 333):
        photo, mask = read_pair(image_path, mask_path, MaskEncoding(), working_size)
        assert photo.shape == (*mask.shape, 3) and max(mask.shape) == working_size
        shift = (centre(photo[..., 0]) - centre(mask)) * mask.shape[::-1]
        assert np.abs(shift).max() < 0.5, "pixels at working size"
        off = (centre(mask) - centre(truth)) * mask.shape[::-1]
        assert np.abs(off).max() < 0.5
        assert (np.abs(photo[..., 0] / 255.0 - mask) > 0.5).mean() < 0.02


def test_a_reduced_jpeg_looks_like_the_shrunk_one(tmp_path):
    rng = np.random.default_rng(0)
    photo = cv2.resize(
        rng.integers(0, 256, (24, 32, 3), np.uint8), (1600, 1200), interpolation=cv2.INTER_CUBIC
    )
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=95)
    small, size = read_photo(tmp_path / "photo.jpg", 200)
    expected = cv2.resize(photo, (200, 150), interpolation=cv2.INTER_AREA)
    assert size == (1600, 1200) and small.shape == (150, 200, 3)
    assert np.abs(small.astype(int) - expected).mean() < 3, "colours in the right order, upright"


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_is_obeyed_at_every_scale(tmp_path, orientation):
    photo = np.zeros((800, 1200, 3), np.uint8)
    photo[:400, :600] = (250, 40, 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / "photo.jpg", exif=exif)
    full, full_size = read_photo(tmp_path / "photo.jpg")
    small, size = read_photo(tmp_path / "photo.jpg", 100)
    assert size == full_size == full.shape[1::-1]
    expected = cv2.resize(full, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 3 and expected.std() > 30


def test_small_and_untouched_photos_are_as_before(tmp_path):
    truth = disc(90, 60, 0.5, 0.5, 20)
    image_path, mask_path = write_pair(tmp_path, truth, "png")
    for working_size in (0, 90, 500):
        photo, mask = read_pair(image_path, mask_path, MaskEncoding(), working_size)
        np.testing.assert_array_equal(photo[..., 0], truth)
        np.testing.assert_array_equal(mask, truth // 255)


def test_masks_keep_their_ids():
    mask = np.random.default_rng(0).choice(np.array([0, 3, 200], np.uint8), (100, 80))
    assert set(np.unique(shrink_mask(mask, (37, 23)))) == {0, 3, 200}


@pytest.mark.parametrize("working_size", [0, 50])
def test_sizes_that_differ_are_found_at_working_size_too(tmp_path, working_size):
    image_path, _ = write_pair(tmp_path, disc(800, 600, 0.5, 0.5, 99), "jpg")
    assert cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((300, 400), np.uint8))
    with pytest.raises(OSError, match="photo.jpg is 800x600, its mask 400x300; make the manifests again"):
        read_pair(image_path, tmp_path / "mask.png", MaskEncoding(), working_size)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 nothing", b"rubbish", b""])
@pytest.mark.parametrize("working_size", [0, 50])
def test_damaged_photos_are_named(tmp_path, content, working_size):
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(OSError, match="photo.jpg cannot be decoded"):
        read_photo(tmp_path / "photo.jpg", working_size)
