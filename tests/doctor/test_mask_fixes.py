"""Corrected copies: right pixels, honest counts, untouched originals, data that make_csv_file accepts."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from segbalance.commands import fix_masks, prepare
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.doctor.mask_fixes import INVERSE, encode, turned
from segbalance.files.images import read_grey, read_image
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from tests.support.data import draw_pair, write_data, write_image


def state(folder):
    """{path: (bytes, time of change)} of all files."""
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def fix(tmp_path, capsys):
    """Runs the command on data that it must leave alone; returns (output, JSON, text) or the message."""

    def run(root, *words, status=DONE):
        before, report = state(root), tmp_path / "fixes.json"
        output = tmp_path / "fixed"
        found = fix_masks.main(["--data_root", root, "--output", output, "--json", report, *words])
        shown = capsys.readouterr()
        assert state(root) == before and found == status, shown.err
        if status != DONE:
            assert not output.exists() and not report.exists()
            return shown.err
        assert not list(tmp_path.glob(".fixed-*")), "nothing half made is left"
        return output, json.loads(report.read_text()), shown.out

    return run


def accepted(root, csv_dir, *words):
    """The rows that make_csv_file writes for `root`."""
    assert prepare.main(["--data_root", root, "--csv_dir", csv_dir, *words]) == DONE
    return pd.concat([pd.read_csv(csv_dir / name) for name in ("train.csv", "valid.csv")])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_what_pillow_does_and_can_be_taken_back(orientation):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(turned(pixels, orientation), expected)
    np.testing.assert_array_equal(turned(expected, INVERSE.get(orientation, orientation)), pixels)


@pytest.mark.parametrize(
    "encoding",
    [
        MaskEncoding(),
        MaskEncoding("values", ((0, 0), (7, 1), (9, 1))),
        MaskEncoding("colours", (("#102030", 0), ("#ff0080", 1))),
    ],
)
def test_encoding_is_the_inverse_of_decoding(encoding):
    ids = np.uint8(draw_pair(0)[1] > 0)
    np.testing.assert_array_equal(encoding.decode(encode(ids, encoding)), ids)


def test_grey_fringes_become_clean_and_are_counted(data_root, fix, tmp_path):
    fringed = data_root / "train/masks/a/0.png"
    soft = cv2.GaussianBlur(cv2.imread(str(fringed), 0), (5, 5), 0)
    write_image(fringed, soft)
    lossy = data_root / "train/masks/b/1.jpg"
    cv2.imwrite(str(lossy), cv2.imread(str(lossy.with_suffix(".png")), 0), [cv2.IMWRITE_JPEG_QUALITY, 40])
    lossy.with_suffix(".png").unlink()
    output, report, text = fix(data_root)
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    assert written == ["train/masks/a/0.png", "train/masks/b/1.png"]
    rows = {row["file"]: row for row in report["files"]}
    for path, source in zip(written, (fringed, lossy), strict=True):
        before, after = read_grey(source), read_grey(output / path)
        np.testing.assert_array_equal(after, np.where(before >= 128, 255, 0))
        assert rows[path]["changed"] == (before != after).sum() > 0 and rows[path]["rule"] == "threshold"
        assert rows[path]["pixels"] == 3000
    assert [row["replaces"] for row in report["files"]] == ["train/masks/a/0.png", "train/masks/b/1.jpg"]
    total = sum(row["changed"] for row in report["files"])
    assert report["totals"] == [{"rule": "threshold", "files": 2, "pixels": 6000, "changed": total}]
    assert report["left"] == [] and str(total) in text and "1 of them replace files of another name" in text


def test_the_whole_way_from_refused_to_accepted(data_root, fix, tmp_path):
    """Wrong value, palette, colours, fringes, and EXIF on one side: refused before, accepted after."""
    masks, truth = data_root / "train/masks", {}
    for path in sorted(data_root.rglob("masks/*/*.png")):
        truth[path.relative_to(data_root).as_posix()] = float((cv2.imread(str(path), 0) > 0).mean())
    mask = {name: cv2.imread(str(masks / f"a/{name}.png"), 0) for name in range(6)}
    write_image(masks / "a/0.png", mask[0] // 255)
    palette = Image.fromarray(np.uint8(mask[1] > 0), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(masks / "a/1.png")
    write_image(masks / "a/2.png", np.dstack([mask[2] * 0, mask[2], mask[2] // 2]))
    write_image(masks / "a/3.png", cv2.blur(mask[3], (3, 3)))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = data_root / "train/images/a/4.png"
    Image.fromarray(np.rot90(read_image(photo))).save(photo, exif=exif)  # displayed as it was
    write_image(masks / "a/4.png", np.ascontiguousarray(np.rot90(mask[4])))  # drawn on what is stored
    assert prepare.main(["--data_root", data_root, "--csv_dir", tmp_path / "csv"]) == WRONG_INPUT
    output, report, text = fix(data_root, "--complete")
    rules = {row["file"].rpartition("/")[2]: row["rule"] for row in report["files"]}
    expected = {
        "0.png": "values",
        "1.png": "palette",
        "2.png": "palette",
        "3.png": "threshold",
        "4.png": "exif",
    }
    assert rules == expected
    assert f"next: python data_processing.py --data_root {output}\n" in text
    rows = accepted(output, tmp_path / "csv").set_index("masks")["coverage"]
    assert rows.drop("train/masks/a/3.png").to_dict() == pytest.approx(
        {path: share for path, share in truth.items() if path != "train/masks/a/3.png"}, rel=1e-4
    )
    np.testing.assert_array_equal(read_grey(output / "train/masks/a/4.png"), mask[4])
    np.testing.assert_array_equal(read_image(output / "train/images/a/4.png")[..., 0] > 127, mask[4] > 0)


def test_the_rest_may_be_of_one_colour(data_root, fix, tmp_path):
    for path in sorted(data_root.rglob("masks/*/*.png")):
        if path.parent.name != "c":
            mask = cv2.imread(str(path), 0)
            write_image(path, np.dstack([mask // 2, mask * 0, mask * 0]))
    output, report, _ = fix(data_root, "--complete")
    assert {row["file"].split("/")[2] for row in report["files"]} == {"c"}
    assert {row["rule"] for row in report["files"]} == {"values"}
    assert set(map(tuple, read_image(output / "train/masks/c/0.png").reshape(-1, 3))) == {
        (0, 0, 0),
        (127, 0, 0),
    }
    assert len(accepted(output, tmp_path / "csv")) == 16


def tagged(path, pixels, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, **options)


@pytest.mark.parametrize(
    "photo_tag, mask_tag, drawn_on, side, needs_choice, photo_copied",
    [
        (6, 1, "stored", (50, 60), False, False),
        (8, 1, "stored", (50, 60), False, False),
        (3, 1, "stored", (50, 60), True, True),
        (3, 1, "displayed", (50, 60), True, True),
        (6, 1, "stored", (50, 50), True, True),
        (6, 1, "displayed", (50, 50), True, True),
        (1, 6, "displayed", (50, 60), False, False),
        (1, 3, "stored", (50, 60), True, False),
        (1, 3, "displayed", (50, 60), True, False),
        (1, 8, "stored", (50, 60), False, False),
    ],
)
def test_exif_rotation_on_one_side(
    photo_tag, mask_tag, drawn_on, side, needs_choice, photo_copied, fix, tmp_path
):
    """The truth: what the displayed photo shows, red where the mask belongs."""
    root = write_data(tmp_path / "data", {"a": 3})
    shown, mask = draw_pair(40, *side)
    stored = turned(shown, INVERSE.get(photo_tag, photo_tag))
    tagged(root / "train/images/a/9.png", stored, photo_tag)
    # Stored: the mask's pixels lie on the photo's stored pixels. Displayed: both lie as they are displayed.
    back = photo_tag if drawn_on == "stored" else mask_tag
    tagged(root / "train/masks/a/9.png", turned(mask, INVERSE.get(back, back)), mask_tag)
    assert prepare.main(["--data_root", root, "--csv_dir", tmp_path / "csv"]) == WRONG_INPUT
    if needs_choice:
        before = state(root)
        words = ["--data_root", root, "--output", tmp_path / "none", "--json", tmp_path / "none.json"]
        assert fix_masks.main(words) == DONE
        (left,) = json.loads((tmp_path / "none.json").read_text())["left"]
        assert left["file"] == "train/masks/a/9.png" and left["reason"].endswith(
            "look at it and pass --drawn_on"
        )
        assert not (tmp_path / "none").exists() and state(root) == before
    choice = ["--drawn_on", drawn_on] if needs_choice else []
    output, report, _ = fix(root, "--complete", *choice)
    assert [row["file"] for row in report["files"]] == ["train/masks/a/9.png"] + (
        ["train/images/a/9.png"] if photo_copied else []
    )
    np.testing.assert_array_equal(read_grey(output / "train/masks/a/9.png"), mask)
    np.testing.assert_array_equal(read_image(output / "train/images/a/9.png"), shown)
    assert Image.open(output / "train/masks/a/9.png").getexif().get(0x0112, 1) == 1
    assert len(accepted(output, tmp_path / "csv2")) == 4


def test_a_jpeg_photo_that_must_turn_stays_a_jpeg(fix, tmp_path):
    root = write_data(tmp_path / "data", {"a": 3})
    shown, mask = draw_pair(41)
    smooth = cv2.GaussianBlur(shown, (0, 0), 2)
    tagged(root / "train/images/a/9.jpg", turned(smooth, 3), 3, quality=98)
    write_image(root / "train/masks/a/9.png", mask)
    output, _, _ = fix(root, "--drawn_on", "displayed")
    photo = output / "train/images/a/9.jpg"
    assert Image.open(photo).format == "JPEG" and Image.open(photo).getexif().get(0x0112, 1) == 1
    difference = cv2.absdiff(read_image(photo), read_image(root / "train/images/a/9.jpg"))
    assert difference.mean() < 2


def test_masks_that_take_a_person_are_left_with_the_reason(data_root, fix):
    masks = data_root / "train/masks/a"
    levels = cv2.imread(str(masks / "0.png"), 0) // 2
    levels[:20, :20] = 200
    write_image(masks / "0.png", levels)
    colours = np.zeros((50, 60, 3), np.uint8)
    colours[:9], colours[20:30] = (255, 0, 0), (0, 255, 0)
    write_image(masks / "1.png", colours)
    write_image(masks / "2.png", np.uint8(levels > 0))
    output, report, text = fix(data_root)
    assert [row["file"] for row in report["files"]] == ["train/masks/a/2.png"]
    assert report["left"] == [
        {"file": "train/masks/a/0.png", "reason": "several grey values; a table of the --classes is needed"},
        {"file": "train/masks/a/1.png", "reason": "several colours; a table of the --classes is needed"},
    ]
    assert "left to you: 2\n  train/masks/a/0.png  several grey values" in text


def test_a_table_of_the_classes_says_what_values_mean(data_root, fix, tmp_path):
    for path in data_root.rglob("masks/*/*.png"):
        mask = cv2.imread(str(path), 0)
        write_image(path, np.where(np.arange(60) < 30, mask // 255 * 100, mask // 255 * 200).astype(np.uint8))
    classes = tmp_path / "classes.csv"
    classes.write_text("id,name,colour\n0,background,0\n1,nail,100\n1,nail,200\n")
    output, report, _ = fix(data_root, "--classes", str(classes))
    found = {value for path in output.rglob("*.png") for value in np.unique(read_grey(path)).tolist()}
    assert found == {0, 100} and {row["rule"] for row in report["files"]} == {"values"}


def test_clean_data_needs_nothing(data_root, fix):
    output, report, text = fix(data_root)
    assert not output.exists() and report == {"files": [], "totals": [], "left": []}
    assert text == "no mask needs a correction that can be made here; nothing was written\n"


def test_faults_of_another_kind_are_not_touched(data_root, fix):
    masks = data_root / "train/masks/a"
    Image.fromarray(draw_pair(3)[1].astype(np.uint16) * 257).save(masks / "0.png")
    (masks / "1.png").write_bytes((data_root / "train/images/a/1.png").read_bytes())
    (masks / "2.png").write_bytes(b"no image")
    write_image(masks / "3.png", draw_pair(3, 40, 40)[1])
    output, report, _ = fix(data_root)
    assert not output.exists() and report["files"] == report["left"] == []


def test_wrong_places_for_the_output(data_root, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    for output, message in (
        (full, "is not empty; choose another folder"),
        (data_root / "train/masks/new", "lies in the data itself; choose a folder outside of it"),
        (data_root, "lies in the data itself"),
        (full / "mine.txt", "is a file, expected a folder"),
    ):
        assert fix_masks.main(["--data_root", data_root, "--output", output]) == WRONG_INPUT
        assert message in capsys.readouterr().err
    assert fix_masks.main(["--data_root", tmp_path / "none", "--output", tmp_path / "new"]) == WRONG_INPUT
    assert "there is no such folder" in capsys.readouterr().err


def test_a_write_that_fails_leaves_nothing(data_root, fix, stub, tmp_path):
    write_image(data_root / "train/masks/a/0.png", draw_pair(1)[1] // 255)

    def full(path, content):
        raise OSError(28, "No space left on device")

    stub("segbalance.doctor.mask_fixes._write", full)
    message = fix(data_root, status=WRONG_INPUT)
    assert f"--output {tmp_path / 'fixed'} cannot be written: No space left on device" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_links_that_lead_out_are_not_copied(tmp_path, capsys):
    root = write_data(tmp_path / "data", {"a": 2})
    image, mask = draw_pair(5)
    write_image(tmp_path / "secret.png", image)
    write_image(root / "train/masks/a/s.png", mask)
    (root / "train/images/a/s.png").symlink_to(tmp_path / "secret.png")
    assert fix_masks.main(["--data_root", root, "--output", tmp_path / "new", "--complete"]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "paths that lead out of the data root: 1\n  train/images/a/s.png -> " in message
    assert not (tmp_path / "new").exists()
