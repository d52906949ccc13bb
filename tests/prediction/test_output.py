"""Masks, probabilities and overlays of a photo: right, and whole or not there at all."""

import cv2
import numpy as np
import pytest
from PIL import Image

from segbalance.data_processing.classes import Classes
from segbalance.errors import InputError
from segbalance.prediction.output import (
    COLOUR,
    MASKS,
    OVERLAYS,
    PROBABILITIES,
    OutputChoice,
    disc_side,
    outcome_columns,
    write_outputs,
)
from tests.support.data import write_image

THREE = Classes(("ground", "leaf", "berry"), ("#000000", "#00ff00", "#ff0000"))


def probability():
    """float32 (80, 120): a bright and a faint disc, and a speck."""
    found = np.full((80, 120), 0.05, np.float32)
    cv2.circle(found, (30, 40), 20, 0.9, -1)
    cv2.circle(found, (90, 40), 15, 0.4, -1)
    found[5:7, 60:62] = 0.8
    return found


def write(folder, content=b"", bands=None, size=(120, 80), **choice):
    choice = OutputChoice(**choice)
    places = choice.places(folder, "deep/a")
    return write_outputs(bands or np.split(probability(), [33]), size, places, choice, content), places


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_the_mask_is_what_lies_above_the_threshold(tmp_path):
    outcome, places = write(tmp_path)
    mask = read(places[MASKS])
    assert places == {MASKS: tmp_path / "masks/deep/a.png"}
    np.testing.assert_array_equal(mask, (probability() > 0.5) * 255)
    assert outcome == (120, 80, (mask > 0).mean(), 2)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [places[MASKS]]


def test_threshold_ids_and_smallest_object(tmp_path):
    outcome, places = write(tmp_path, threshold=0.3, foreground=1, min_object=5)
    mask = read(places[MASKS])
    np.testing.assert_array_equal(mask, probability() > 0.3)
    assert outcome.objects == 2, "the speck of 4 pixels is not counted"
    assert mask[5, 60] == 1, "but stays in the mask"
    assert write(tmp_path, threshold=0.3, min_object=4)[0].objects == 3


def test_a_pixel_at_the_threshold_is_background(tmp_path):
    bands = [np.array([[0.3, np.nextafter(np.float32(0.3), np.float32(1))]], np.float32)]
    _, places = write(tmp_path, bands=bands, size=(2, 1), threshold=0.3)
    assert read(places[MASKS]).tolist() == [[0, 255]]


def test_smoothing_takes_the_speck_away(tmp_path):
    outcome, places = write(tmp_path, smooth=0.06)
    mask = read(places[MASKS])
    assert outcome.objects == 1 and mask[5, 60] == 0 and mask[40, 30] == 255
    assert (mask[20:60] != (probability()[20:60] > 0.5) * 255).sum() < 20


def test_the_disc_grows_with_the_photo():
    assert disc_side((4000, 3000), 0.01) == 31
    assert disc_side((300, 300), 0.01) == 3
    assert disc_side((50, 10), 0.01) == 3


@pytest.mark.parametrize("bits", [8, 16])
def test_probabilities_are_rounded_to_their_bits(bits, tmp_path):
    _, places = write(tmp_path, probabilities=bits)
    stored = read(places[PROBABILITIES])
    assert stored.dtype == f"u{bits // 8}" and places[PROBABILITIES] == tmp_path / "probabilities/deep/a.png"
    np.testing.assert_allclose(stored / (2**bits - 1), probability(), atol=0.51 / (2**bits - 1))


def test_probabilities_of_0_and_1_have_room(tmp_path):
    bands = [np.array([[0.0, 1.0]], np.float32)]
    _, places = write(tmp_path, bands=bands, size=(2, 1), probabilities=16)
    assert read(places[PROBABILITIES]).tolist() == [[0, 65535]]


def test_the_overlay_shows_the_mask_on_the_photo(tmp_path):
    photo = np.full((80, 120, 3), (60, 120, 180), np.uint8)
    write_image(tmp_path / "photo.png", photo)
    _, places = write(tmp_path, (tmp_path / "photo.png").read_bytes(), overlay=True)
    drawn = cv2.imread(str(places[OVERLAYS]), cv2.IMREAD_COLOR_RGB).astype(int)
    assert drawn.shape == photo.shape
    outside = drawn[70:, 60:]
    assert np.abs(outside - photo[70:, 60:]).max() < 12, "untouched where there is no mask"
    inside = drawn[35:45, 25:35].mean((0, 1))
    np.testing.assert_allclose(inside, 0.65 * photo[0, 0] + 0.35 * np.array(COLOUR), atol=6)
    edge = drawn[40, 9:13]  # the disc's left end, at 10
    assert np.abs(edge - COLOUR).sum(1).min() < 0.9 * np.abs(drawn[40, 30] - COLOUR).sum(), "an outline"


def test_overlays_of_large_photos_are_small_and_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr("segbalance.prediction.output.OVERLAY_SIZE", 60)
    write_image(tmp_path / "photo.png", np.full((80, 120, 3), 90, np.uint8))
    _, places = write(tmp_path, (tmp_path / "photo.png").read_bytes(), overlay=True)
    drawn = cv2.imread(str(places[OVERLAYS]), cv2.IMREAD_COLOR_RGB).astype(int)
    assert drawn.shape == (40, 60, 3)
    rows, columns = np.nonzero(np.abs(drawn - 90).sum(2) > 60)
    assert abs(rows.mean() - 20) < 1.5 and abs(columns.mean() - 15) < 1.5


def test_nothing_is_left_of_a_photo_that_fails_halfway(tmp_path):
    def bands():
        yield probability()[:33]
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write(tmp_path, bands=bands(), probabilities=8)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_earlier_mask_stays_until_the_new_one_is_whole(tmp_path):
    def bands():
        yield probability()[:33]
        assert read(places[MASKS])[40, 30] == 255
        raise RuntimeError("halfway")

    _, places = write(tmp_path)
    with pytest.raises(RuntimeError):
        write(tmp_path, bands=bands())
    assert read(places[MASKS])[40, 30] == 255


def test_a_place_that_cannot_be_written_to_is_wrong_input(tmp_path):
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(InputError, match="masks.deep.a.png cannot be written: .*room left"):
        write(tmp_path)


def class_probability():
    """float32 (80, 120, 3): ground, a leaf at the left, two berries of which one lies on the leaf."""
    found = np.zeros((80, 120, 3), np.float32)
    found[..., 0] = 0.5
    found[:, :40, 1] = 0.6
    berries = np.zeros((80, 120), np.float32)
    cv2.circle(berries, (20, 40), 8, 0.9, -1)
    cv2.circle(berries, (90, 40), 12, 0.7, -1)
    found[..., 2] = berries
    return found


def test_several_classes_give_ids_and_counts_of_each(tmp_path):
    probability = class_probability()
    outcome, places = write(tmp_path, bands=np.split(probability, [7, 44]), classes=THREE, probabilities=8)
    ids = probability.argmax(axis=-1)
    np.testing.assert_array_equal(read(places[MASKS]), ids)
    np.testing.assert_allclose(read(places[PROBABILITIES]), probability.max(axis=-1) * 255, atol=0.51)
    row = dict(zip(outcome_columns(THREE), outcome, strict=True))
    assert list(row)[4:] == ["coverage_leaf", "objects_leaf", "coverage_berry", "objects_berry"]
    assert (row["width"], row["height"], row["objects"]) == (120, 80, 3)
    assert row["coverage"] == pytest.approx((ids > 0).mean())
    assert row["coverage_leaf"] == (ids == 1).mean() and row["objects_leaf"] == 1
    assert row["coverage_berry"] == (ids == 2).mean() and row["objects_berry"] == 2
    assert outcome_columns(None) == ["width", "height", "coverage", "objects"]


def test_colours_are_a_palette_of_the_ids(tmp_path):
    _, places = write(tmp_path, bands=[class_probability()], classes=THREE, colours=True)
    picture = Image.open(places[MASKS])
    ids = class_probability().argmax(axis=-1)
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), ids)
    np.testing.assert_array_equal(np.array(picture.convert("RGB")), THREE.colour_masks(ids))


def test_an_overlay_of_several_classes_has_their_colours(tmp_path):
    photo = np.full((80, 120, 3), 120, np.uint8)
    write_image(tmp_path / "a.png", photo)
    content = (tmp_path / "a.png").read_bytes()
    _, places = write(tmp_path / "out", content, bands=[class_probability()], classes=THREE, overlay=True)
    drawn = cv2.imread(str(places[OVERLAYS]), cv2.IMREAD_COLOR_RGB).astype(int)
    tinted = {number: 0.65 * 120 + 0.35 * THREE.rgb[number] for number in (1, 2)}
    assert np.abs(drawn[70, 20] - tinted[1]).max() < 25 and np.abs(drawn[40, 90] - tinted[2]).max() < 25
    assert np.abs(drawn[10, 100] - 120).max() < 10, "the background stays as it is"
    assert drawn[40, 101, 0] > drawn[40, 90, 0] + 10, "the outline is stronger"
