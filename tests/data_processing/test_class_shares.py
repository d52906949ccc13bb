"""Manifests of several classes: what stands in them, and subsets by class."""

import cv2
import numpy as np
import pytest

from segbalance.commands import prepare
from segbalance.data_processing.classes import IGNORED
from segbalance.data_processing.manifest import read_manifest
from segbalance.train.config import TrainConfig
from segbalance.train.inputs import resolved
from tests.support.data import write_image

TABLE = "id,name,colour\n0,background,#000000\n1,nail,#ff0000\n2,ring,#00ff00\n3,gem,#0000ff\n"
SIDE = 20
# Pixels of each class in the masks of the subset a, then b; the rest is background.
PIXELS = {"a/0": {1: 40}, "a/1": {1: 20, 2: 10}, "b/0": {1: 10, IGNORED: 200}, "b/1": {3: 30}, "b/2": {2: 4}}


def mask_of(pixels):
    """uint8 (20, 20) of class ids."""
    ids = np.repeat(list(pixels), list(pixels.values())).astype(np.uint8)
    return np.concatenate([ids, np.zeros(SIDE**2 - len(ids), np.uint8)]).reshape(SIDE, SIDE)


def write_palette(path, ids, colours):
    """Writes uint8 (H, W) as a PNG with a palette."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids, "P")
    picture.putpalette(colours[:256].ravel().tolist())
    picture.save(path)


@pytest.fixture
def make(tmp_path, capsys):
    """Writes the data with masks of some format and makes its manifests."""

    def make(mask_format="ids", *words, table=TABLE, status=0):
        from segbalance.data_processing.class_table import read_classes

        root = tmp_path / "data"
        (tmp_path / "classes.csv").write_text(table)
        for split in ("train", "valid"):
            for name, pixels in PIXELS.items():
                ids = mask_of(pixels)
                seed = [*split.encode(), *name.encode()]
                photo = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
                write_image(root / split / "images" / f"{name}.png", photo)
                path = root / split / "masks" / f"{name}.png"
                if mask_format == "palette":
                    write_palette(path, ids, np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8))
                elif mask_format == "colours":
                    classes = read_classes(tmp_path / "classes.csv", 255).classes
                    write_image(path, classes.colour_masks(ids))
                else:
                    write_image(path, ids)
        options = ["--data_root", root, "--csv_dir", tmp_path / "csv", "--classes", tmp_path / "classes.csv"]
        if not any(word == "--ignore_index" for word in words):
            words = [*words, "--ignore_index", 255]
        assert prepare.main([*options, *words]) == status
        return read_manifest(tmp_path / "csv") if not status else capsys.readouterr().err

    return make


@pytest.mark.parametrize("mask_format", ["ids", "palette", "colours"])
def test_masks_of_every_format_are_read_as_ids(mask_format, make):
    table = TABLE + ("255,void,#808080\n" if mask_format == "colours" else "")
    manifest = make(mask_format, table=table)
    assert (
        manifest.encoding.kind == {"ids": "values", "palette": "indices", "colours": "colours"}[mask_format]
    )
    for table in manifest.train.values():
        for path in table["masks"]:
            name = path.removeprefix("train/masks/").removesuffix(".png")
            np.testing.assert_array_equal(
                manifest.encoding.read(manifest.data_root / path), mask_of(PIXELS[name])
            )
    assert manifest.classes.names == ("background", "nail", "ring", "gem")
    assert manifest.classes.colours == ("#000000", "#ff0000", "#00ff00", "#0000ff")
    config = resolved(TrainConfig.of(encoder_weights="none"), manifest, manifest.data_root)
    assert (config.outputs, config.data.task) == (4, "segmentation")
    assert config.class_list == manifest.classes


def test_the_table_counts_pixels_and_images(make, capsys):
    make()
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    # 5 training images of 400 pixels, 200 of them ignored; 2 of them in subset a.
    assert lines["nail"] == ["3", "3", f"{70 / 1800:.2%}", f"{60 / 800:.2%}", f"{10 / 1000:.2%}"]
    assert lines["gem"] == ["1", "1", f"{30 / 1800:.2%}", "0.00%", f"{30 / 1000:.2%}"]
    # The mean coverage leaves the ignored pixels out too.
    assert lines["b"][2] == f"{(10 / 200 + 30 / 400 + 4 / 400) / 3:.2%}"


def test_masks_of_which_all_is_ignored_are_refused(make, monkeypatch):
    monkeypatch.setitem(globals(), "PIXELS", {name: {IGNORED: SIDE**2} for name in PIXELS})
    message = make(status=2)
    assert message.startswith(
        "error: every pixel of the 5 masks of train is ignored, so that nothing is left"
    )


def test_subsets_by_class(make):
    manifest = make("ids", "--subset_by", "class:ring")
    assert {name: len(table) for name, table in manifest.train.items()} == {"no_ring": 3, "ring": 2}
    assert sorted(manifest.train["ring"]["images"]) == ["train/images/a/1.png", "train/images/b/2.png"]


def test_a_class_that_is_not_in_the_table(make):
    message = make("ids", "--subset_by", "class:thumb", status=2)
    assert "there is no class 'thumb'; expected one of: background, nail, ring, gem" in message
    message = make("ids", "--subset_by", "class:background", status=2)
    assert "all 10 images are 'background'; expected some with the class and some without" in message


def test_values_that_are_no_class_are_named(make, tmp_path):
    message = make("ids", table=TABLE.replace("3,gem,#0000ff\n", ""), status=2)
    assert "2 masks hold values that --classes" in message and "train/masks/b/1.png" in message
    assert not (tmp_path / "csv").exists()


def test_a_palette_of_greys_is_read_by_its_values_where_they_fit(make, tmp_path):
    """As a binary mask saved with a palette is."""
    table = "id,name,colour\n0,background,0\n1,nail,255\n"
    root = tmp_path / "data"
    for split in ("train", "valid"):
        ids = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (9, 9), 5, 1, -1)
        write_image(
            root / split / "images" / "a" / "0.png",
            np.random.default_rng([*split.encode()]).integers(0, 256, (SIDE, SIDE, 3), np.uint8),
        )
        colours = np.zeros((256, 3), np.uint8)
        colours[1] = 255
        write_palette(root / split / "masks" / "a" / "0.png", ids, colours)
    (tmp_path / "classes.csv").write_text(table)
    options = ["--data_root", root, "--csv_dir", tmp_path / "csv", "--classes", tmp_path / "classes.csv"]
    assert prepare.main(options) == 0
    manifest = read_manifest(tmp_path / "csv")
    assert manifest.encoding.kind == "values" and manifest.classes is None
