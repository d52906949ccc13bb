"""The photos of classes, and scripts/make_sample_data.py --task classification."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from scripts.make_sample_data import main
from segbalance.sample_data.hand_drawing import Canvas
from segbalance.sample_data.sample_classes import (
    CLASS_SIZES,
    draw_washer,
    make_class_data,
    photos_to_render,
    render_photo,
)

TINY = {"scale": 0.001, "image_size": 96, "progress": False}  # 2 training and 2 validation photos a class


def digests(folder):
    """{relative path: digest} of every file below the folder."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_set_is_imbalanced_and_scales():
    assert list(CLASS_SIZES.values()) == [120, 40, 12, 6]
    for scale, train, valid in ((1, [120, 40, 12, 6], 25), (0.2, [24, 8, 2, 2], 5)):
        photos = photos_to_render(scale)
        assert [sum(photo[:2] == ("train", label) for photo in photos) for label in CLASS_SIZES] == train
        assert sum(photo[0] == "valid" for photo in photos) == 4 * valid


def test_the_command_writes_a_folder_for_each_class(tmp_path, capsys):
    words = ["--task", "classification", "--scale", 0.02, "--image_size", 96]
    assert main(["--output", tmp_path / "data", *words]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["bead", "2", "2"]
    expected = {
        f"{split}/{label}/{label}_{number:04d}.png"
        for split in ("train", "valid")
        for label in CLASS_SIZES
        for number in range(2)
    }
    assert digests(tmp_path / "data").keys() == expected
    stored = cv2.imread(str(tmp_path / "data/valid/coin/coin_0001.png"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(stored, render_photo(0, "valid", "coin", 1, 96))


def test_same_seed_same_bytes_with_other_workers_and_every_photo_another(tmp_path):
    counts = make_class_data(tmp_path / "one", workers=1, **TINY)
    make_class_data(tmp_path / "two", workers=2, **TINY)
    make_class_data(tmp_path / "other", seed=1, workers=1, **TINY)
    assert counts == {label: {"train": 2, "valid": 2} for label in CLASS_SIZES}
    first, other = digests(tmp_path / "one"), digests(tmp_path / "other")
    assert first == digests(tmp_path / "two")
    assert len({*first.values(), *other.values()}) == len(first) + len(other) == 32


def test_the_classes_cannot_be_told_by_their_mean_colour():
    """Nearest mean colour of 12 photos of each class, on 12 others: far from right."""
    photos = {
        label: np.stack([render_photo(0, "valid", label, n, 64).mean((0, 1)) for n in range(24)])
        for label in CLASS_SIZES
    }
    means = np.stack([colours[:12].mean(0) for colours in photos.values()])
    found = [
        np.linalg.norm(colours[12:, None] - means, axis=-1).argmin(-1) == number
        for number, colours in enumerate(photos.values())
    ]
    assert np.mean(found) < 0.6


def test_a_washer_shows_the_backdrop_through_its_hole():
    canvas = Canvas(150)
    canvas.image[:] = 0.5
    draw_washer(canvas, np.array([150.0, 150.0]), 80, (1.0, 0.0), np.random.default_rng(0))
    np.testing.assert_allclose(canvas.image[:, 75, 75], 0.5, atol=0.25)
    assert np.abs(canvas.image - 0.5).max() > 0.2 and (canvas.image[:, 0, 0] == 0.5).all()


def test_a_filled_folder_is_refused(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["--output", tmp_path, "--task", "classification"]) == 2
    message = "is not empty; choose another folder, or delete it first"
    assert message in capsys.readouterr().err
    assert digests(tmp_path).keys() == {"mine.txt"}


def test_another_task_is_unknown(tmp_path, capsys):
    assert main(["--output", tmp_path / "data", "--task", "detection"]) == 2
    assert "--task" in capsys.readouterr().err and not (tmp_path / "data").exists()
