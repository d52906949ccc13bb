"""The rendered data, and scripts/make_sample_data.py."""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from scripts.make_sample_data import main
from segbalance.sample_data import rendering as sample_data
from segbalance.sample_data.rendering import (
    CLASSES,
    LOOKS,
    MASK_FORMATS,
    SUBSET_SIZES,
    make_sample_data,
    render_classes,
    render_pair,
)
from tests.support.places import ROOT

TINY = {"scale": 0.001, "image_size": 96, "progress": False}  # 2 training and 4 validation pairs per subset
SCRIPT = ROOT / "scripts" / "make_sample_data.py"


def digests(folder):
    """{relative path: digest} of every file below the folder."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "tiny"
    return folder, make_sample_data(folder, workers=1, **TINY)


@pytest.fixture(scope="module")
def photos():
    """{subset: [(image, mask)]}, eight of each at half the size."""
    return {subset: [render_pair(0, "train", subset, i, 150) for i in range(8)] for subset in LOOKS}


def test_subset_sizes_are_those_of_the_tutorial():
    assert SUBSET_SIZES == {"0": 749, "1": 144, "2": 126, "3": 52, "4": 34}
    assert LOOKS.keys() == SUBSET_SIZES.keys()


@pytest.mark.parametrize(
    ("scale", "training", "validation"),
    [(1, [749, 144, 126, 52, 34], 40), (0.1, [75, 14, 13, 5, 3], 4), (0.001, [2] * 5, 4)],
)
def test_pairs_to_render_scales_every_subset(scale, training, validation):
    pairs = sample_data.pairs_to_render(scale)
    counts = [sum(p[:2] == ("train", subset) for p in pairs) for subset in "01234"]
    assert counts == training
    assert [sum(p[:2] == ("valid", subset) for p in pairs) for subset in "01234"] == [validation] * 5
    assert len(set(pairs)) == len(pairs)


def test_layout_and_counts(tiny):
    folder, _ = tiny
    expected = {
        f"{split}/{kind}/{subset}/hand_{index:04d}.png"
        for split, count in (("train", 2), ("valid", 4))
        for kind, subset, index in itertools.product(("images", "masks"), "01234", range(count))
    }
    assert digests(folder).keys() == expected
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"], "the temporary folder was left behind"


def test_summary_is_what_the_files_hold(tiny):
    folder, summary = tiny
    for subset, (train, valid, coverage) in summary.items():
        masks = [
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in folder.glob(f"*/masks/{subset}/*.png")
        ]
        assert (train, valid) == (2, 4)
        # Equal sizes: the mean over the photos is the mean over all pixels.
        assert coverage == pytest.approx(np.mean(np.stack(masks) == 255), abs=1e-12)


def test_files_are_eight_bit_rgb_and_one_channel(tiny):
    folder, _ = tiny
    for path in folder.rglob("*.png"):
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert pixels.dtype == np.uint8
        assert pixels.shape == ((96, 96) if "masks" in path.parts else (96, 96, 3))


def test_the_image_file_holds_the_rendered_colours(tiny):
    folder, _ = tiny
    image, mask = render_pair(0, "valid", "2", 3, 96)
    stored = cv2.imread(str(folder / "valid/images/2/hand_0003.png"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(stored, image)
    stored = cv2.imread(str(folder / "valid/masks/2/hand_0003.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, mask)
    red, _, blue = image.reshape(-1, 3).mean(0)
    assert red > blue + 20, "lamp light on wood and skin is reddish, not bluish"


def test_same_seed_same_bytes_with_other_workers_and_scale(tiny, tmp_path):
    folder, _ = tiny
    make_sample_data(tmp_path / "again", workers=2, **(TINY | {"scale": 0.005}))
    first, again = digests(folder), digests(tmp_path / "again")
    assert len(again) > len(first)
    assert first.items() <= again.items()


def test_every_photo_is_another(tiny, tmp_path):
    folder, _ = tiny
    make_sample_data(tmp_path / "other", seed=1, workers=1, **TINY)
    images = [
        digests(f / split / "images") for f in (folder, tmp_path / "other") for split in ("train", "valid")
    ]
    everything = [digest for part in images for digest in part.values()]
    assert len(everything) == 2 * 5 * (2 + 4)
    assert len(set(everything)) == len(everything), (
        "two photos of other seed, split, subset or index are equal"
    )


def test_masks_are_black_and_white_and_never_empty(photos):
    for subset, pairs in photos.items():
        for image, mask in pairs:
            assert image.dtype == mask.dtype == np.uint8
            assert image.shape == (150, 150, 3)
            assert mask.shape == (150, 150)
            assert set(np.unique(mask)) == {0, 255}, subset
            assert 0.005 < (mask == 255).mean() < 0.35, subset


def test_coverage_tells_the_looks_apart(photos):
    coverage = [np.mean([mask == 255 for _, mask in pairs]) for pairs in photos.values()]
    assert coverage == sorted(coverage)
    assert coverage[-1] > 3 * coverage[0]


def outline_contrast(image, mask, shift=(0, 0)):
    """Mean grey-level slope of the image along the mask's outline, the outline moved by `shift` pixels."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    slope = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
    outline = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    return slope[np.roll(outline, shift, (0, 1))].mean()


@pytest.mark.parametrize("subset", LOOKS)
def test_the_nails_of_the_image_end_where_the_mask_ends(photos, subset):
    def mean_contrast(shift):
        return np.mean([outline_contrast(image, mask, shift) for image, mask in photos[subset]])

    aligned = mean_contrast((0, 0))
    for shift in [(4, 0), (-4, 0), (0, 4), (0, -4)]:
        assert aligned > 1.15 * mean_contrast(shift), shift


@pytest.mark.parametrize("subset", LOOKS)
def test_nails_differ_from_the_skin_around_them(photos, subset):
    differences = []
    for image, mask in photos[subset]:
        around = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - cv2.dilate(mask, np.ones((3, 3), np.uint8))
        means = [cv2.mean(image, where)[:3] for where in (mask, around)]
        differences.append(np.abs(np.subtract(*means)).max())
    assert np.mean(differences) > 15
    assert min(differences) > 3


def test_another_image_size_shows_the_same_scene():
    (small, small_mask), (large, large_mask) = (render_pair(3, "valid", "4", 0, size) for size in (96, 192))
    shrunk = cv2.resize(large_mask, (96, 96), interpolation=cv2.INTER_AREA) > 127
    both = shrunk & (small_mask > 0)
    assert both.sum() > 0.9 * (shrunk | (small_mask > 0)).sum()
    difference = cv2.resize(large, (96, 96), interpolation=cv2.INTER_AREA).astype(int) - small
    assert abs(difference.mean()) < 8


def test_classes_are_imbalanced_in_pixels_and_in_images():
    masks = np.stack([render_classes(0, "train", s, index, 64)[1] for s in LOOKS for index in range(12)])
    shares = [(masks == number).mean() for number in range(len(CLASSES))]
    images = [(masks == number).any(axis=(1, 2)).mean() for number in range(len(CLASSES))]
    assert set(np.unique(masks)) == set(range(6))
    assert shares[0] > shares[1] > 5 * max(shares[2:4])  # background, skin, nail and polish
    assert max(shares[4:]) < 0.005  # ring and coin
    assert images[:2] == [1, 1]
    assert all(0.2 < share < 0.8 for share in images[2:5]) and 0.05 < images[5] < 0.3


def test_nails_of_both_kinds_are_the_mask_of_two_classes():
    for index in range(4):
        image, ids = render_classes(0, "train", "3", index, 96)
        same, mask = render_pair(0, "train", "3", index, 96)
        np.testing.assert_array_equal(image, same)
        np.testing.assert_array_equal(mask == 255, (ids == 2) | (ids == 3))


def test_rings_and_coins_have_the_colour_of_metal():
    differences = []
    for index in range(20):
        image, ids = render_classes(0, "train", "03"[index % 2], index, 128)
        for number in (4, 5):
            own = image[ids == number].astype(float)
            if len(own) > 20:
                differences.append(np.abs(own.mean(0) - image[ids == 1].mean(0)).max())
    assert len(differences) > 5 and np.mean(differences) > 15


@pytest.mark.parametrize("mask_format", MASK_FORMATS)
def test_every_mask_format_holds_the_same_classes(tmp_path, mask_format):
    options = ["--output", tmp_path / "data", "--scale", 0.001, "--image_size", 64, "--classes", 6]
    assert main([*options, "--mask_format", mask_format]) == 0
    table = (tmp_path / "data" / "classes.csv").read_text().splitlines()
    assert table[0] == "id,name,colour"
    assert table[5] == "4,ring,#ffd21f" and len(table) == 7
    picture = Image.open(tmp_path / "data/train/masks/3/hand_0001.png")
    assert picture.mode == {"ids": "L", "colours": "RGB", "palette": "P"}[mask_format]
    stored, (_, ids) = np.array(picture), render_classes(0, "train", "3", 1, 64)
    if mask_format == "colours":
        colours = [tuple(bytes.fromhex(row.rpartition("#")[2])) for row in table[1:]]
        stored = np.array([[colours.index(tuple(pixel.tolist())) for pixel in row] for row in stored])
    if mask_format == "palette":
        assert picture.getpalette()[12:15] == list(bytes.fromhex("ffd21f"))
    np.testing.assert_array_equal(stored, ids)
    photos = digests(tmp_path / "data" / "train" / "images")
    make_sample_data(tmp_path / "two", workers=1, **(TINY | {"image_size": 64}))
    assert photos == digests(tmp_path / "two" / "train" / "images")


def test_ids_are_the_usual_mask_format(tmp_path, capsys):
    options = ["--output", tmp_path / "data", "--scale", 0.001, "--image_size", 64, "--classes", 6]
    assert main(options) == 0
    assert Image.open(tmp_path / "data/valid/masks/0/hand_0000.png").mode == "L"
    expected = f"classes background, skin, nail, polish, ring, coin: {tmp_path / 'data' / 'classes.csv'}"
    assert capsys.readouterr().out.splitlines()[-1] == expected


def test_command_prints_a_line_for_each_subset(tmp_path, capsys):
    output = tmp_path / "new" / "data"
    assert main(["--output", output, "--scale", 0.001, "--image_size", 64, "--seed", 5]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["subset", "look", "train", "valid", "coverage"]
    for line, (subset, look) in zip(lines[1:], LOOKS.items(), strict=True):
        assert line.startswith(subset)
        assert look.description in line
        assert line.split()[-3:-1] == ["2", "4"]
    assert len(digests(output)) == 60


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    make_sample_data(tmp_path / "empty", **TINY)
    assert len(digests(tmp_path / "empty")) == 60


def test_a_filled_folder_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    assert main(["--output", tmp_path / "data"]) == 2
    expected = f"error: {tmp_path / 'data'} is not empty; choose another folder, or delete it first\n"
    assert capsys.readouterr().err == expected
    assert digests(tmp_path).keys() == {"data/mine.txt"}
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"


def test_a_file_in_the_way_is_refused(tmp_path, capsys):
    (tmp_path / "data").write_text("keep")
    assert main(["--output", tmp_path / "data"]) == 2
    assert "data is a file, expected a folder; choose another name" in capsys.readouterr().err
    assert main(["--output", tmp_path / "data" / "below"]) == 2
    assert f"cannot write to {tmp_path / 'data'}: " in capsys.readouterr().err
    assert (tmp_path / "data").read_text() == "keep"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "-1"], "scale must be greater than 0, got -1; 0.1 gives a tenth of the set"),
        (["--scale", "0"], "scale must be greater than 0, got 0; 0.1 gives a tenth of the set"),
        (["--seed", "-1"], "seed must be 0 or greater, got -1"),
        (["--image_size", "63"], "image_size must be at least 64, got 63; try 300"),
        (["--mask_format", "ids"], "mask_format ids is for masks of six classes; add --classes 6"),
    ],
)
def test_wrong_options_end_with_status_2(tmp_path, capsys, words, message):
    assert main(["--output", tmp_path / "data", *words]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (OSError("disk full"), 1)])
def test_a_broken_run_leaves_nothing(tmp_path, stub, error, status):
    calls = itertools.count()

    def render_until_the_tenth(*arguments):
        if next(calls) == 10:
            raise error
        return render_pair(*arguments)

    stub(sample_data, "render_pair", render_until_the_tenth)
    assert main(["--output", tmp_path / "data", "--scale", 0.001, "--image_size", 64]) == status
    assert next(calls) == 11, "the run did not break where it should"
    assert list(tmp_path.iterdir()) == []


def test_the_script_runs_from_any_directory(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--image_size" in done.stdout
