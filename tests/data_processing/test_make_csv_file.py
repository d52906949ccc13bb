"""Folders -> manifests, through the command: what it writes, prints and refuses."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbalance.commands.prepare import main
from segbalance.data_processing.description import read_description
from segbalance.data_processing.make_csv_file import split_data_train
from segbalance.data_processing.manifest import AGAIN, COLUMNS, NUMBERS, read_manifest
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.pairs import EXPECTED_LAYOUT
from segbalance.data_processing.splitting import connected, held_out_rows
from segbalance.errors import InputError
from tests.support.data import draw_pair, write_data, write_image
from tests.support.places import ROOT


def contents(folder):
    """{relative path: bytes} of every file below `folder`."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


class Made:
    """What the command left: printed text, manifest.json as `description`, all rows with their `split`."""

    def __init__(self, csv_dir, printed):
        self.printed, self.description = printed, read_description(csv_dir)
        tables = {split: pd.read_csv(csv_dir / f"{split}.csv", dtype={"type": str}) for split in self.counts}
        self.rows = pd.concat([table.assign(split=split) for split, table in tables.items()])
        self.split = dict(zip(self.rows["images"], self.rows["split"], strict=True))

    @property
    def counts(self):
        return self.description["counts"]


@pytest.fixture
def command(tmp_path, capsys):
    """Runs the command; the data stays as it is, and what is refused writes nothing."""
    csv_dir = tmp_path / "csv_file"

    def run(root, *words):
        before, manifests_before = contents(root), contents(csv_dir)
        status = main(["--data_root", root, "--csv_dir", csv_dir, *words])
        assert contents(root) == before
        assert status == 0 or contents(csv_dir) == manifests_before
        return status, capsys.readouterr()

    run.csv_dir = csv_dir
    return run


@pytest.fixture
def make(command):
    """Runs the command, which succeeds; returns Made."""

    def run(root, *words):
        status, shown = command(root, *words)
        assert status == 0, shown.err
        return Made(command.csv_dir, shown.out)

    return run


@pytest.fixture
def refuse(command):
    """Runs the command, which refuses with status 2; returns its message, without «error: »."""

    def run(root, *words):
        status, shown = command(root, *words)
        assert status == 2 and shown.out == ""
        return shown.err.removeprefix("error: ").removesuffix("\n")

    return run


def write_flat(root, sizes):
    """The second layout: Images/<subset>/ and Masks/<subset>/."""
    write_data(root, sizes)
    (root / "train" / "images").rename(root / "Images")
    (root / "train" / "masks").rename(root / "Masks")
    (root / "train").rmdir()
    return root


def remask(root, change):
    """Writes every mask of `root` anew as `change(mask)`."""
    for path in sorted(root.rglob("*asks/**/*.png")):
        write_image(path, change(cv2.imread(str(path), 0)))
    return root


# What is written


def test_the_divided_layout(data_root, make, command):
    made = make(data_root)
    assert made.counts == {"train": {"a": 6, "b": 3, "c": 1}, "valid": {"a": 2, "b": 2, "c": 2}}
    assert sorted(os.listdir(command.csv_dir)) == [
        "manifest.json",
        "train.csv",
        "traina.csv",
        "trainb.csv",
        "trainc.csv",
        "valid.csv",
    ]
    assert list(made.rows) == [*COLUMNS, "split"]
    for row in made.rows.itertuples():
        assert row.images.startswith(f"{row.split}/images/{row.type}/")
        assert row.masks == row.images.replace("/images/", "/masks/")
        assert (row.width, row.height) == (60, 50)
    for name in "abc":
        subset = pd.read_csv(command.csv_dir / f"train{name}.csv")
        expected = made.rows[(made.rows["type"] == name) & (made.rows["split"] == "train")][COLUMNS]
        pd.testing.assert_frame_equal(subset, expected.reset_index(drop=True))


def test_a_test_folder_has_its_own_manifest(data_root, make, command):
    write_data(data_root, {"a": 2}, "test", first_seed=2)
    assert make(data_root).counts["test"] == {"a": 2}
    assert len(pd.read_csv(command.csv_dir / "test.csv")) == 2


def test_the_flat_layout_is_split_by_subset(tmp_path, make):
    root = write_flat(tmp_path / "data", {"big": 20, "two": 2, "one": 1})
    made = make(root)
    assert made.counts == {"train": {"big": 16, "one": 1, "two": 1}, "valid": {"big": 4, "two": 1}}
    assert set(made.split) == {
        f"Images/{p.relative_to(root / 'Images')}" for p in root.rglob("Images/*/*.png")
    }
    assert made.description["split"] == "0.2 of every subset held out for validation, seed 0"
    assert make(root, "--valid_fraction", "0.5").counts["valid"] == {"big": 10, "two": 1}


def test_data_with_a_train_folder_only_is_split(tmp_path, make):
    made = make(write_data(tmp_path / "data", {"a": 10}))
    assert made.counts == {"train": {"a": 8}, "valid": {"a": 2}}
    assert all(path.startswith("train/images/a/") for path in made.split)


def test_same_seed_same_split(tmp_path, make, command):
    root = write_flat(tmp_path / "data", {"a": 12, "b": 7})
    first, files = make(root).split, contents(command.csv_dir)
    assert make(root).split == first and contents(command.csv_dir) == files
    others = [make(root, "--seed", str(seed)).split for seed in (1, 2)]
    assert all(other.keys() == first.keys() for other in others)
    assert len({tuple(sorted(split.items())) for split in [first, *others]}) == 3


def test_subsets_are_first_folders_and_all(tmp_path, make):
    root = tmp_path / "data"
    for number, name in enumerate(("top.png", "2/x.png", "2/deep/er/x.png", "10/x.png", "10/y.png")):
        image, mask = draw_pair(number)
        write_image(root / "train/images" / name, image)
        write_image(root / "train/masks" / name, mask)
    made = make(write_data(root, {"2": 1}, "valid", first_seed=7))
    assert made.counts["train"] == {"2": 2, "10": 2, "all": 1}
    assert list(made.counts["train"]) == ["2", "10", "all"]
    assert made.rows.set_index("images")["type"]["train/images/2/deep/er/x.png"] == "2"


def test_image_and_mask_may_differ_in_type(tmp_path, make):
    root, types = tmp_path / "data", [".png", ".JPG", ".jpeg", ".bmp", ".tif", ".TIFF", ".webp"]
    for number, extension in enumerate(types):
        image, mask = draw_pair(number)
        write_image(root / "Images" / f"{number}{extension}", image)
        write_image(root / "Masks" / f"{number}{types[number - 1]}", mask)
    made = make(root)
    assert len(made.rows) == len(types) and made.description["unpaired"] == []
    truth = [(draw_pair(int(Path(path).stem))[1] > 0).mean() for path in made.rows["images"]]
    np.testing.assert_allclose(made.rows["coverage"], truth, rtol=0.1)


def test_system_files_are_passed_over_and_others_noted(data_root, make):
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/a/._0.png", "a/.hidden.png", "a/notes.txt", "b/0.xcf"):
        path = data_root / "train" / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    made = make(data_root)
    others = ["train/images/a/notes.txt", "train/images/b/0.xcf"]
    assert made.description["other_files"] == others
    assert f"passed over, no image type: 2\n  {others[0]}\n  {others[1]}\n" in made.printed
    assert sum(made.counts["train"].values()) == 10


def test_coverage_is_the_mean_of_what_training_reads(data_root, make):
    remask(data_root, lambda mask: cv2.blur(mask, (3, 3)))
    made = make(data_root)
    encoding = MaskEncoding.from_dict(made.description["mask_encoding"])
    for row in made.rows.itertuples():
        assert row.coverage == float(f"{encoding.read(data_root / row.masks).mean():.6g}")
    assert made.rows["coverage"].nunique() > 5


def test_manifest_json(data_root, make, command):
    made = make(data_root, "--seed", "3")
    description = made.description
    assert description["data_root"] == str(data_root)
    assert description["options"]["seed"] == 3 and description["options"]["subset_by"] == "folder"
    assert description["mask_encoding"] == {"kind": "threshold"}
    assert description["mask_encoding_found"] == "0/255"
    assert description["classes"] == {"0": "background", "1": "foreground"}
    assert description["split"] == "by the data's own folders"
    assert (description["unpaired"], description["duplicates"]) == ([], [])
    assert set(description["files"]) == {path.name for path in command.csv_dir.glob("*.csv")}
    before = description["fingerprint"]
    assert make(data_root).description["fingerprint"] == before
    mask = data_root / "train/masks/a/0.png"
    write_image(mask, cv2.flip(cv2.imread(str(mask), 0), 1))
    assert make(data_root).description["fingerprint"] != before


def test_the_printed_table(data_root, make):
    made = make(data_root)
    table, rest = made.printed.split("\n\n")
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["subset", "images", "share", "mean", "coverage", "sizes", "valid"]
    assert [line[:3] for line in lines[1:]] == [["a", "6", "60.0%"], ["b", "3", "30.0%"], ["c", "1", "10.0%"]]
    coverage = made.rows[made.rows["split"] == "train"].groupby("type")["coverage"].mean()
    assert [line[3] for line in lines[1:]] == [f"{coverage[name]:.2%}" for name in "abc"]
    assert [line[4:] for line in lines[1:]] == [["60x50", "2"]] * 3
    assert rest.startswith("split: by the data's own folders\nmasks: 0/255; 0 of them empty\nwrote ")
    assert rest.endswith("train.csv, valid.csv, traina.csv, trainb.csv, trainc.csv, manifest.json\n")


def test_the_table_as_json(data_root, make, tmp_path):
    write_data(data_root, {"d": 1}, "valid", first_seed=3, height=40, width=44)  # nothing to train on
    write_data(data_root, {"b": 1}, "train", first_seed=4, height=100, width=90)  # replaces a file
    path = tmp_path / "new" / "table.json"
    made = make(data_root, "--json", path)
    table = json.loads(path.read_text())
    assert [list(row) for row in table] == [
        ["subset", "images", "share", "mean_coverage", "sizes", "valid"]
    ] * 4
    assert [row["images"] for row in table] == [6, 3, 1, 0] and [row["valid"] for row in table] == [
        2,
        2,
        2,
        1,
    ]
    assert [row["share"] for row in table] == [0.6, 0.3, 0.1, 0]
    train = made.rows[made.rows["split"] == "train"]
    assert table[0]["mean_coverage"] == pytest.approx(
        train["coverage"][train["type"] == "a"].mean(), rel=1e-5
    )
    assert table[3]["mean_coverage"] is None
    assert [row["sizes"] for row in table] == ["60x50", "60x50 to 90x100", "60x50", "44x40"]
    assert made.printed.splitlines()[4].split() == ["d", "0", "0.0%", "-", "44x40", "1"]


# Subsets by other means


def test_subset_by_regular_expression(tmp_path, make):
    root = write_flat(tmp_path / "data", {"p1_x": 5, "p2_x": 5, "p1_y": 3})
    assert make(root, "--subset_by", "/(p[0-9])_").counts == {
        "train": {"p1": 6, "p2": 4},
        "valid": {"p1": 2, "p2": 1},
    }


@pytest.mark.parametrize("words, bins", [([], 4), (["--subset_bins", "2"], 2)])
def test_subset_by_coverage(words, bins, tmp_path, make):
    made = make(write_flat(tmp_path / "data", {"a": 40}), "--subset_by", "coverage", *words)
    quantiles = made.rows.groupby("type")["coverage"]
    assert list(quantiles.groups) == [f"coverage{number}" for number in range(bins)]
    assert all(abs(size - 40 / bins) <= 2 for size in quantiles.size())
    assert (quantiles.max().values[:-1] <= quantiles.min().values[1:]).all()


def test_subset_by_coverage_where_all_masks_are_alike(tmp_path, make):
    root = remask(write_flat(tmp_path / "data", {"a": 10}), lambda mask: np.eye(50, 60, dtype=np.uint8) * 255)
    assert make(root, "--subset_by", "coverage").counts["train"] == {"coverage0": 8}


ONE_GROUP = "with one group in parentheses, as in '/(p[0-9]+)_'"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--subset_by", "(x"], f"--subset_by '(x' is not a regular expression (missing ), unterminated "
         "subpattern at position 0); expected folder, coverage, class:<name> or a regular expression "
         f"{ONE_GROUP}"),
        (["--subset_by", "folders"], "--subset_by 'folders' has 0 groups; expected folder, coverage, "
         f"class:<name> or a regular expression {ONE_GROUP}"),
        (["--group_by", "(a)(b)"], "--group_by '(a)(b)' has 2 groups; expected a regular expression "
         f"{ONE_GROUP}"),
        (["--subset_by", "/([bc])/"], "--subset_by '/([bc])/' does not match 8 of 16 images:\n{a}\n"
         "Expected a match in every path, which is relative to the data root. Widen the expression."),
        (["--subset_by", "/a/|/([bc])/"], "--subset_by '/a/|/([bc])/' does not match 8 of 16 images:\n{a}\n"
         "Expected a match in every path, which is relative to the data root. Widen the expression."),
        (["--subset_by", "images/(a?/?)"],
         "--subset_by 'images/(a?/?)' gives the subset names\n  ''\n  'a/'\n"
         "Expected names that can stand in train<subset>.csv: not empty, no slash, up to 200 bytes. Change "
         "them."),
        (["--group_by", "/(.)/"], "--group_by says how to split the data, but a valid folder splits it "
         "already. Leave the option out, or move the images of valid/ into train/ to have all of them "
         "split."),
        (["--valid_fraction", "1"], "valid_fraction must lie between 0 and 1, got 1.0; try 0.2"),
        (["--valid_fraction", "-0.1"], "valid_fraction must lie between 0 and 1, got -0.1; try 0.2"),
        (["--subset_bins", "1"], "subset_bins must be at least 2, got 1"),
        (["--seed", "-1"], "seed must not be negative, got -1; try 0"),
    ],
)  # fmt: skip
def test_wrong_options(words, message, data_root, refuse):
    paths = [f"train/images/a/{n}.png" for n in range(6)] + [f"valid/images/a/{n}.png" for n in range(2)]
    assert refuse(data_root, *words) == message.replace("{a}", "\n".join(f"  {path}" for path in paths))


def test_options_of_the_wrong_type_and_none_at_all(data_root, refuse, capsys):
    assert refuse(data_root, "--duplicates", "maybe") == (
        "--duplicates: Expected one of 'error', 'warn'. Got value: maybe\n"
        "See `data_processing.py --help` for the options."
    )
    assert main([]) == 2
    assert "the following arguments are required: --data_root" in capsys.readouterr().err


# The split


def test_group_by_keeps_groups_on_one_side_across_subsets(tmp_path, make):
    root = tmp_path / "data"
    for number in range(40):  # eight patients, each in both subsets
        image, mask = draw_pair(number)
        name = f"{'ab'[number % 2]}/p{number // 2 % 8}_{number}.png"
        write_image(root / "Images" / name, image)
        write_image(root / "Masks" / name, mask)
    for seed in range(3):
        made = make(root, "--group_by", "/(p[0-9]+)_", "--seed", str(seed))
        sides = made.rows.groupby(made.rows["images"].str.extract("(p[0-9]+)_")[0])["split"]
        assert (sides.nunique() == 1).all() and set(sides.first()) == {"train", "valid"}
        assert made.description["split"].endswith("groups of '/(p[0-9]+)_' kept together")


def test_groups_that_leave_nothing_for_validation(tmp_path, refuse):
    root = write_flat(tmp_path / "data", {"a": 4, "b": 3})
    assert refuse(root, "--group_by", "(Images)") == (
        "no images are left for validation: 7 images in 2 subsets cannot be divided, as identical images and "
        "groups stay together. Add images, a valid folder, or choose another --group_by."
    )


def test_identical_images_stay_on_one_side_of_our_split(tmp_path, make):
    root = write_flat(tmp_path / "data", {"a": 12, "b": 6})
    for copy in ("a/10", "a/11", "b/5"):
        original = (root / "Images/a/0.png").read_bytes()
        (root / f"Images/{copy}.png").write_bytes(original)
    for seed in range(4):
        split = make(root, "--seed", str(seed)).split
        assert len({split[f"Images/{name}.png"] for name in ("a/0", "a/10", "a/11", "b/5")}) == 1


def test_identical_images_in_the_datas_own_split(data_root, refuse, make):
    copies = {"train/images/a/0.png": "valid/images/b/1.png", "train/images/b/2.png": "valid/images/b/0.png"}
    for original, copy in copies.items():
        (data_root / copy).write_bytes((data_root / original).read_bytes())
    message = refuse(data_root)
    first, *places, last = message.split("\n")
    assert first == "2 images are in more than one split, byte for byte:"
    assert sorted(places) == [f"  {original} = {copy}" for original, copy in copies.items()]
    assert last == "Scores on them would be too good. Remove the copies, or pass --duplicates warn to go on."
    made = make(data_root, "--duplicates", "warn")
    assert sorted(made.description["duplicates"]) == [list(pair) for pair in copies.items()]
    assert "identical images on both sides of the split: 2\n" in made.printed
    assert sum(made.counts["valid"].values()) == 6


def test_held_out_rows_over_random_groupings():
    """No group is divided, no subset loses its last image, shares come close where groups are small."""
    rng = np.random.default_rng(0)
    for trial in range(60):
        count = int(rng.integers(3, 200))
        subsets = pd.Series(rng.choice(list("abcd"), count, p=[0.6, 0.2, 0.15, 0.05]))
        groups = np.arange(count) if trial % 3 == 0 else rng.integers(0, rng.integers(2, count + 1), count)
        fraction = rng.uniform(0.05, 0.6)
        held_out = held_out_rows(subsets, groups, fraction, seed=trial)
        rows = pd.DataFrame({"subset": subsets, "group": groups, "out": held_out})
        assert (rows.groupby("group")["out"].nunique() == 1).all()
        assert not rows.groupby("subset")["out"].all().any()
        if trial % 3 == 0:  # single images: exactly the rounded share of each subset
            sizes = rows.groupby("subset")["out"].agg(["sum", "size"]).query("size > 1")
            assert (sizes["sum"] == np.clip((fraction * sizes["size"]).round(), 1, sizes["size"] - 1)).all()
        elif rows["group"].nunique() > 20:
            assert (
                abs(held_out.sum() - fraction * count) <= 4 + rows["group"].value_counts().max() + 0.1 * count
            )


def test_large_groups_still_leave_something_for_validation():
    """Half of a subset is further from a fifth than nothing is, but nothing would leave it without scores."""
    subsets = pd.Series(list("aaaaaabbbb"))
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    for seed in range(5):
        held_out = held_out_rows(subsets, groups, 0.2, seed)
        assert held_out[:6].sum() == 3 and held_out[6:].sum() == 2
    assert not held_out_rows(pd.Series(list("aab")), np.array([0, 0, 1]), 0.5, 0).any()


def test_connected_rows_share_a_value_of_any_key():
    one, other = pd.Series(list("xxyzzw")), pd.Series([1, 2, 2, 3, 4, 5])
    numbers = connected([one, other])
    assert [list(numbers).index(number) for number in numbers] == [0, 0, 0, 3, 3, 5]
    assert len(set(connected([other]))) == 5


# Mask encodings


def spotted(values):
    """What turns a clean mask into one of several `values`: foreground in bands of them."""
    bands = np.array(values)[np.arange(50) * len(values) // 50]
    return lambda mask: ((mask > 0) * bands[:, None]).astype(np.uint8)


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda mask: mask, "0/255"),
        (lambda mask: mask // 255, "0/1"),
        (lambda mask: mask // 255 * 77, "0/77"),
        (lambda mask: cv2.blur(mask, (3, 3)), "0/255, 16 of 16 grey-fringed"),
        (lambda mask: np.dstack([mask] * 3), "0/255"),
        (lambda mask: np.dstack([mask, mask * 0, mask // 2]), "black and #ff007f"),
    ],
)
def test_plain_encodings_are_found_and_kept(change, found, data_root, make):
    truth = {path: cv2.imread(str(path), 0) > 0 for path in data_root.rglob("masks/*/*.png")}
    made = make(remask(data_root, change))
    assert made.description["mask_encoding_found"] == found
    assert f"masks: {found}; 0 of them empty\n" in made.printed
    encoding = MaskEncoding.from_dict(made.description["mask_encoding"])
    for path, expected in truth.items():
        assert (encoding.read(path) == expected).mean() > 0.98


@pytest.mark.parametrize(
    "colours, found", [([0, 0, 0, 255, 255, 255], "0/255"), ([0, 0, 0, 128, 0, 0], "black and #800000")]
)
def test_palette_and_one_bit_masks(colours, found, data_root, make):
    for path in data_root.rglob("masks/*/*.png"):
        truth = cv2.imread(str(path), 0) > 0
        palette = Image.fromarray(truth.astype(np.uint8), "P")
        palette.putpalette(colours)
        (Image.fromarray(truth) if found == "0/255" and path.stem == "0" else palette).save(path)
    made = make(data_root)
    assert made.description["mask_encoding_found"] == found
    assert (made.rows["coverage"] > 0).all()


def test_jpeg_masks_may_mix_with_clean_ones_and_blank_ones_are_counted(data_root, make):
    for number, path in enumerate(sorted(data_root.rglob("masks/a/*.png"))):
        mask = cv2.imread(str(path), 0)
        if number < 3:
            cv2.imwrite(str(path.with_suffix(".jpg")), mask)
            path.unlink()
        elif number < 5:
            write_image(path, mask * 0)
    toe = np.zeros((50, 60), np.uint8)
    toe[-1, :9] = range(5, 50, 5)
    write_image(data_root / "train/masks/b/0.png", toe)
    made = make(data_root)
    assert made.description["mask_encoding_found"] == "0/255, 3 of 16 grey-fringed"
    assert made.description["masks_without_foreground"] == 3  # two blank ones and the toe
    assert "; 3 of them empty\n" in made.printed
    assert made.rows.set_index("masks")["coverage"]["train/masks/b/0.png"] == 0


def test_contradicting_encodings_name_examples(data_root, refuse):
    remask(data_root / "valid", lambda mask: mask // 255)
    assert refuse(data_root) == (
        "masks of one data set encode the foreground in different ways:\n"
        "  0/255  10 of the masks, for example train/masks/a/0.png\n"
        "  0/1  6 of the masks, for example valid/masks/a/0.png\n"
        "Expected one encoding; save all masks alike (0 background, 255 foreground), "
        "or give a table of the classes with --classes."
    )


def test_no_foreground_anywhere(data_root, refuse):
    assert refuse(remask(data_root, lambda mask: mask * 0)) == (
        "none of the 16 masks has any foreground, for example train/masks/a/0.png; "
        "expected some pixels that are not background. Are these the right masks?"
    )


def test_several_grey_values_need_classes(data_root, refuse, make, tmp_path):
    remask(data_root, spotted([60, 120, 180]))
    message = refuse(data_root)
    assert message.startswith(
        "the masks hold several grey values of unclear meaning "
        "(13 of them, for example train/masks/a/1.png):\n"
    )
    assert [line.split()[0] for line in message.splitlines()[1:5]] == ["0", "60", "120", "180"]
    assert "Say what each value means with --classes classes.csv, a table" in message
    classes = tmp_path / "classes.csv"
    classes.write_text("id,name,colour\n0,skin,0\n0,skin,60\n1,nail,120\n")
    message = refuse(data_root, "--classes", classes)
    assert f" masks hold values that --classes {classes} does not name:\n  train/masks/" in message
    assert ".png  180\n" in message and re.search(r"\nin all: 180 \(in \d+\)\n", message)
    assert message.endswith(
        "Add these values to the table, or correct the masks (lossy JPEG masks must be PNG)."
    )
    with classes.open("a") as file:
        file.write("1,nail,180\n")
    made = make(data_root, "--classes", classes)
    assert made.description["classes"] == {"0": "skin", "1": "nail"}
    assert made.description["mask_encoding"] == {
        "kind": "values",
        "ids": {"0": 0, "60": 0, "120": 1, "180": 1},
    }
    pixels = cv2.imread(str(data_root / "train/masks/a/0.png"), 0)
    coverage = made.rows.set_index("masks")["coverage"]["train/masks/a/0.png"]
    assert coverage == float(f"{(pixels > 60).mean():.6g}")
    assert read_manifest(tmp_path / "csv_file").encoding.kind == "values"


def test_several_colours_need_classes(data_root, refuse, make, tmp_path):
    remask(data_root, lambda mask: np.dstack([mask, 255 - mask, mask * 0]))
    message = refuse(data_root)
    assert message.startswith("the masks hold colours of unclear meaning (16 of them")
    assert "  #00ff00  9" in message and "  #ff0000  " in message
    classes = tmp_path / "classes.csv"
    classes.write_text("id,name,colour\n0,background,#00FF00\n1,nail,#ff0000\n")
    made = make(data_root, "--classes", classes)
    assert made.description["mask_encoding_found"] == "colours #00ff00 -> 0, #ff0000 -> 1"
    assert (made.rows["coverage"] > 0).all() and (made.rows["coverage"] < 0.3).all()
    classes.write_text("id,name,colour\n0,background,0\n1,nail,255\n")
    assert ".png  colours\n" in refuse(data_root, "--classes", classes)


def test_wrong_rows_of_the_classes_are_named(data_root, refuse, tmp_path):
    classes = tmp_path / "classes.csv"
    classes.write_text("id,name,colour\n0,background,0\n2x,nail,255\n1,nail,white\n")
    assert refuse(data_root, "--classes", classes) == (
        "rows of the classes that are wrong: 2\n"
        f"  {classes} line 3: id is '2x', expected a number from 0 to 253\n"
        f"  {classes} line 4: colour is 'white', expected #rrggbb, a grey value 0..255 or nothing\n"
        "Expected id,name,colour with an id for each class from 0 (background) on, as in `1,nail,#ff0000`; "
        "the id of --ignore_index may be there too."
    )
    assert refuse(data_root, "--classes", "none.csv").startswith("--classes none.csv: cannot be read (")


# Wrong data


def test_everything_wrong_is_reported_at_once(data_root, refuse):
    train = data_root / "train"
    (train / "masks/a/0.png").unlink()
    (train / "images/a/1.png").unlink()
    (train / "images/a/2.png").write_bytes(b"no image")
    (train / "masks/a/3.png").write_bytes((train / "masks/a/3.png").read_bytes()[:60])
    jpeg = cv2.imencode(".jpg", draw_pair(50)[0])[1].tobytes()
    (train / "images/a/4.png").rename(train / "images/a/4.jpg")
    (train / "images/a/4.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (train / "masks/a/5.png").write_bytes(b"")
    write_image(train / "masks/b/0.png", draw_pair(51, 50, 61)[1])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw_pair(52)[0]).save(train / "images/b/1.png", exif=exif)
    (train / "masks/b/2.png").write_bytes((train / "images/b/2.png").read_bytes())
    Image.fromarray(draw_pair(53)[1].astype(np.uint16) * 257).save(train / "masks/c/0.png")
    mask = draw_pair(54)[1]
    Image.fromarray(np.dstack([mask, mask, mask, mask])).save(data_root / "valid/masks/a/0.png")
    (train / "images/d").mkdir()
    message = refuse(data_root)
    kinds = dict(part.split("\n", 1) for part in message.split("\n\n"))
    expected = {
        "folders without any image: 1": ["train/images/d", "Delete them, or put images in."],
        "images without mask or masks without image: 2": [
            "train/images/a/0.png  expected train/masks/a/0.png (or .jpg, .jpeg, .bmp, .tif, .tiff, .webp)",
            "train/masks/a/1.png  expected an image train/images/a/1.*",
            "Out of 15 images. Add what is missing, or pass --unpaired skip to leave them out.",
        ],
        "files that cannot be decoded: 4": [
            "train/images/a/2.png  not an image",
            "train/masks/a/3.png  ",
            "train/images/a/4.jpg  image file is truncated",
            "train/masks/a/5.png  the file is empty",
            "Replace the damaged files, or move image and mask away.",
        ],
        "pairs of different size: 1": [
            "train/images/b/0.png 60x50, train/masks/b/0.png 61x50",
            "Expected equal sizes; save the masks in their image's size.",
        ],
        "pairs of which only one file has an EXIF rotation: 1": [
            "train/images/b/1.png  EXIF orientation 6, displayed 50x60; "
            "train/masks/b/1.png  EXIF orientation 1, 60x50",
            "Save the images upright, without the EXIF tag; turn the masks too where they were drawn",
        ],
        "masks that are a copy of their image: 1": [
            "train/masks/b/2.png = train/images/b/2.png",
            "Expected a mask of the image; put the right file there.",
        ],
        "masks of an unusable type: 1": [
            "train/masks/c/0.png  16-bit grey",
            "Expected 8-bit grey, palette or RGB; save the masks as 8-bit PNG.",
        ],
        "masks with transparent pixels: 1": [
            "valid/masks/a/0.png",
            "Transparency has no meaning here; flatten the masks to grey or RGB.",
        ],
    }
    assert kinds.keys() == expected.keys()
    for headline, lines in expected.items():
        shown = kinds[headline].splitlines()
        assert len(shown) == len(lines)
        for found, line in zip(shown, lines, strict=True):
            assert found.strip().startswith(line)


def test_the_first_ten_are_shown_in_full(tmp_path, refuse):
    root = write_flat(tmp_path / "data", {"a": 14})
    for path in root.rglob("Masks/a/*.png"):
        path.write_bytes(b"")
    message = refuse(root).splitlines()
    assert message[0] == "files that cannot be decoded: 14" and message[11] == "  ... and 4 more"
    assert all(line.endswith("  the file is empty") for line in message[1:11]) and len(message) == 13


def test_unpaired_files_may_be_left_out(data_root, make):
    left_out = ["train/images/b/0.png", "train/masks/a/0.png", "valid/images/c/1.png"]
    for path in ("train/masks/b/0.png", "train/images/a/0.png", "valid/masks/c/1.png"):
        (data_root / path).unlink()
    made = make(data_root, "--unpaired", "skip")
    assert made.description["unpaired"] == left_out
    assert "left out without partner: 3\n  train/images/b/0.png\n" in made.printed
    assert made.counts == {"train": {"a": 5, "b": 2, "c": 1}, "valid": {"a": 2, "b": 2, "c": 1}}


def test_a_mask_suffix_is_suggested_and_taken(tmp_path, refuse, make):
    root = write_flat(tmp_path / "data", {"a": 3})
    for path in root.rglob("Masks/a/*.png"):
        path.rename(path.with_stem(path.stem + "_mask"))
    message = refuse(root)
    assert message.startswith("images without mask or masks without image: 6\n")
    assert (
        "Out of 3 images. Add what is missing, pass --mask_suffix _mask, or pass --unpaired skip" in message
    )
    made = make(root, "--mask_suffix", "_mask")
    assert sorted(made.rows["masks"]) == [f"Masks/a/{number}_mask.png" for number in range(3)]


def test_a_wrong_mask_suffix_says_what_was_expected(data_root, refuse):
    message = refuse(data_root, "--mask_suffix", "_m")
    assert "  train/masks/a/0.png  expected a name that ends in _m (--mask_suffix)\n" in message
    assert "data without a single pair to train on: 1\n" in message


@pytest.mark.parametrize("words", [[], ["--unpaired", "skip"]])
def test_data_without_a_training_pair(words, tmp_path, refuse):
    root = write_data(tmp_path / "data", {"a": 1}, "valid")
    write_image(root / "train/images/a/0.png", draw_pair(0)[0])
    (root / "train/masks").mkdir()
    message = refuse(root, *words)
    assert message.endswith(f"data without a single pair to train on: 1\n  {root}\n{EXPECTED_LAYOUT}")


@pytest.mark.parametrize(
    "name, found", [("none", "there is no such folder"), ("", "no images found there. ")]
)
def test_a_data_root_without_data(name, found, tmp_path, refuse):
    root = tmp_path / "data"
    root.mkdir()
    assert refuse(root / name).startswith(f"--data_root {root / name}: {found}")


# The folder of the manifests


def test_manifests_of_another_data_root_are_kept(data_root, make, refuse, command, tmp_path):
    make(data_root)
    other = write_flat(tmp_path / "other", {"x": 5})
    assert refuse(other) == (
        f"--csv_dir {command.csv_dir} holds the manifests of {data_root}, not of {other}. "
        "Choose another --csv_dir, or pass --overwrite to replace them."
    )
    made = make(other, "--overwrite")
    assert made.counts == {"train": {"x": 4}, "valid": {"x": 1}}
    assert sorted(path.name for path in command.csv_dir.glob("*.csv")) == [
        "train.csv",
        "trainx.csv",
        "valid.csv",
    ]
    assert set(made.description["files"]) == {"train.csv", "trainx.csv", "valid.csv"}


def test_files_edited_by_hand_are_kept(data_root, make, refuse, command):
    make(data_root)
    make(data_root)  # unedited ones are replaced unasked
    edited = command.csv_dir / "traina.csv"
    edited.write_text("".join(edited.read_text().splitlines(keepends=True)[:3]))
    (command.csv_dir / "trainmine.csv").write_text("images\n")
    assert refuse(data_root) == (
        f"--csv_dir {command.csv_dir}: traina.csv, trainmine.csv changed since they were written (or come "
        "from elsewhere). Choose another --csv_dir, or pass --overwrite to replace them."
    )
    make(data_root, "--overwrite")
    assert len(pd.read_csv(edited)) == 6 and not (command.csv_dir / "trainmine.csv").exists()


def test_stale_subset_files_go(data_root, make, command):
    make(data_root)
    (command.csv_dir / "notes.csv").write_text("mine")
    for kind in ("images", "masks"):
        (data_root / "train" / kind / "c/0.png").unlink()
        (data_root / "train" / kind / "c").rmdir()
    make(data_root)
    names = sorted(path.name for path in command.csv_dir.glob("*.csv"))
    assert names == ["notes.csv", "train.csv", "traina.csv", "trainb.csv", "valid.csv"]


def test_places_that_cannot_be_written(data_root, refuse, command, tmp_path):
    taken = tmp_path / "taken"
    taken.touch()
    message = "{0}: {1} is not a folder that can be written to. Choose another"
    assert refuse(data_root, "--json", taken / "x.json").startswith(message.format(f"--json {taken}", taken))
    command.csv_dir.touch()
    assert refuse(data_root).startswith(message.format(f"--csv_dir {command.csv_dir}", command.csv_dir))


def test_a_full_disk_is_wrong_input_and_leaves_the_old_manifests(data_root, make, refuse, full_disk):
    make(data_root)
    full_disk()
    assert "csv cannot be written: No space left on device. Choose a folder" in refuse(
        data_root, "--seed", "1"
    )


def test_split_data_train_takes_a_persons_train_csv(data_root, make, command):
    make(data_root)
    path = command.csv_dir / "train.csv"
    table = pd.read_csv(path).iloc[:8].assign(quality="good")
    table.to_csv(path, index=False)
    subsets = split_data_train(command.csv_dir)
    assert {name: len(frame) for name, frame in subsets.items()} == {"a": 6, "b": 2}
    written = pd.read_csv(command.csv_dir / "trainb.csv")
    assert list(written) == [*COLUMNS, "quality"] and set(written["quality"]) == {"good"}
    np.testing.assert_allclose(written[NUMBERS], table[NUMBERS].iloc[6:])
    table.drop(columns="type").to_csv(path, index=False)
    with pytest.raises(InputError) as caught:
        split_data_train(command.csv_dir)
    assert str(caught.value) == f"{path}: rows without type; expected each row's subset there. {AGAIN}"


def test_workers_write_identical_manifests(data_root, make, command, monkeypatch, stub):
    make(data_root)
    alone = contents(command.csv_dir)
    monkeypatch.setattr("segbalance.data_processing.inspection.FEWEST_FOR_WORKERS", 1)
    stub("os.cpu_count", lambda: 2)
    make(data_root)
    assert contents(command.csv_dir) == alone != {}


def test_what_workers_find_is_reported_the_same(data_root, refuse, monkeypatch, stub):
    (data_root / "train/images/a/2.png").write_bytes(b"no image")
    (data_root / "train/masks/b/1.png").write_bytes(b"")
    message = refuse(data_root)
    assert message.startswith("files that cannot be decoded: 2\n  train/images/a/2.png  not an image\n")
    monkeypatch.setattr("segbalance.data_processing.inspection.FEWEST_FOR_WORKERS", 1)
    stub("os.cpu_count", lambda: 2)
    assert refuse(data_root) == message


def test_an_interrupt_among_workers_leaves_nothing(data_root, command, monkeypatch, stub):
    monkeypatch.setattr("segbalance.data_processing.inspection.FEWEST_FOR_WORKERS", 1)
    stub("os.cpu_count", lambda: 2)

    def interrupt(self, count=1):
        raise KeyboardInterrupt

    stub("segbalance.runtime.progress.ProgressLines.update", interrupt)
    others = set(multiprocessing.active_children())  # of tests before, until they are garbage
    status, shown = command(data_root)
    assert status == 130 and shown.err.endswith("\ninterrupted\n")
    assert not command.csv_dir.exists() and not set(multiprocessing.active_children()) - others


@pytest.mark.parametrize("script", ["data_processing.py", "scripts/make_csv_file.py"])
def test_the_command_runs_from_any_directory(script, tmp_path):
    root = write_flat(tmp_path / "data", {"a": 4})
    run = subprocess.run(
        [sys.executable, ROOT / script, "--data_root", "data"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[1].split()[:3] == ["a", "3", "100.0%"]
    assert read_manifest(tmp_path / "csv_file").data_root == root
