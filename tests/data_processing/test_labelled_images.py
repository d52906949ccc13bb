"""Folders of classes, and tables of labels -> manifests, through the command: what it writes and refuses."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from segbalance.commands.prepare import main
from segbalance.data_processing.classes import MOST_CLASSES
from segbalance.data_processing.description import read_description
from segbalance.data_processing.labelled_images import CLASS_LAYOUT
from segbalance.data_processing.manifest import read_manifest
from segbalance.files.data_root import STAY_INSIDE
from tests.support.data import draw_pair, write_data, write_image
from tests.support.labelled_data import SIZES, VALID, draw_labelled, write_labelled


@pytest.fixture
def make(tmp_path, capsys):
    """Makes the manifests of a classification; returns {split: DataFrame}, manifest.json and the printed."""

    def run(root, *words):
        options = ["--data_root", root, "--csv_dir", tmp_path / "csv_file", "--task", "classification"]
        status = main([*options, *words])
        shown = capsys.readouterr()
        assert status == 0, shown.err
        description = read_description(tmp_path / "csv_file")
        tables = {
            split: pd.read_csv(tmp_path / "csv_file" / f"{split}.csv", dtype={"label": str, "type": str})
            for split in description["counts"]
        }
        return tables, description, shown.out

    return run


@pytest.fixture
def refuse(tmp_path, capsys):
    """Runs the command, which refuses with status 2 and writes nothing; returns its message."""

    def run(root, *words, task="classification"):
        before = sorted(tmp_path.rglob("*"))
        options = ["--data_root", root, "--csv_dir", tmp_path / "csv_file", "--task", task]
        assert main([*options, *words]) == 2
        assert sorted(tmp_path.rglob("*")) == before
        return capsys.readouterr().err.removeprefix("error: ").removesuffix("\n")

    return run


def write_table(folder, rows, header="images,label"):
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


# What is written


def test_divided_folders(labelled_root, make, tmp_path):
    write_labelled(labelled_root, {"cat": 1}, "test", first=200)
    (labelled_root / "train/notes.txt").write_text("x")
    (labelled_root / "train/dog/list.txt").write_text("x")
    write_image(labelled_root / "train/dog/deep/er/7.png", draw_labelled("dog", 7))
    tables, description, printed = make(labelled_root)
    assert description["task"] == "classification" and description["ignore_index"] is None
    assert description["classes"] == {"0": "cat", "1": "dog", "2": "owl"}
    assert list(description["class_colours"]) == ["0", "1", "2"]
    assert description["counts"] == {"train": SIZES | {"dog": 6}, "valid": VALID, "test": {"cat": 1}}
    assert description["other_files"] == ["train/notes.txt", "train/dog/list.txt"]
    names = sorted(os.listdir(tmp_path / "csv_file"))
    trains = [f"train{name}.csv" for name in SIZES]
    assert names == ["manifest.json", "test.csv", "train.csv", *trains, "valid.csv"]
    for split, table in tables.items():
        assert list(table) == ["images", "label", "type", "width", "height"]
        assert (table["label"] == table["type"]).all()
        assert (table[["width", "height"]] == [48, 40]).all(axis=None)
        for row in table.itertuples():
            assert row.images.startswith(f"{split}/{row.label}/") and (labelled_root / row.images).is_file()
    dogs = pd.read_csv(tmp_path / "csv_file/traindog.csv")
    expected = tables["train"][tables["train"]["label"] == "dog"].reset_index(drop=True)
    pd.testing.assert_frame_equal(dogs, expected)
    assert "coverage" not in printed and "classes: cat, dog, owl; the subsets are the classes" in printed
    assert "   cat      12" in printed and "split: by the data's own folders" in printed


def test_classes_directly_in_the_data_root_are_split_class_by_class(tmp_path, make):
    root = write_labelled(tmp_path / "data", {"cat": 20, "dog": 10, "owl": 1}, split="")
    tables, description, _ = make(root, "--json", tmp_path / "table.json")
    assert description["counts"] == {
        "train": {"cat": 16, "dog": 8, "owl": 1},
        "valid": {"cat": 4, "dog": 2},
    }
    assert description["split"] == "0.2 of every subset held out for validation, seed 0"
    assert not set(tables["train"]["images"]) & set(tables["valid"]["images"])
    again, _, _ = make(root)
    pd.testing.assert_frame_equal(again["valid"], tables["valid"])
    rows = json.loads((tmp_path / "table.json").read_text())
    assert rows[0] == {"subset": "cat", "images": 16, "share": 16 / 25, "sizes": "48x40", "valid": 4}


def test_classes_are_numbered_in_natural_order(tmp_path, make):
    names = ["10", "2", "b", "a"]
    for number in range(12):
        write_image(tmp_path / "data" / names[number % 4] / f"{number}.png", draw_labelled("cat", number))
    _, description, _ = make(tmp_path / "data")
    assert description["classes"] == {"0": "2", "1": "10", "2": "a", "3": "b"}
    assert list(read_manifest(tmp_path / "csv_file").train) == ["2", "10", "a", "b"]


def test_identical_images_stay_on_one_side_and_groups_too(tmp_path, make):
    root = write_labelled(tmp_path / "data", {"cat": 10, "dog": 10}, split="")
    for number in range(5):
        shutil.copy(root / f"cat/{number}.png", root / f"cat/copy{number}.png")
    tables, _, _ = make(root)
    held_out = {path.rpartition("/")[2].removeprefix("copy") for path in cats(tables["valid"])}
    assert held_out.isdisjoint(path.rpartition("/")[2].removeprefix("copy") for path in cats(tables["train"]))
    tables, _, _ = make(root, "--group_by", "([0-4]|[5-9])[.]png")
    ends = [{path[-5] for path in tables[split]["images"]} for split in ("train", "valid")]
    assert ends[0].isdisjoint(ends[1]) and ends[1]


def cats(table):
    return table.loc[table["label"] == "cat", "images"].tolist()


def test_a_table_of_labels(tmp_path, make):
    root = write_labelled(tmp_path / "data", {"cat": 8, "dog": 6}, split="photos")
    rows = [
        f"./photos/{label}/{n}.png,the {label}"
        for label, size in (("cat", 8), ("dog", 6))
        for n in range(size)
    ]
    table = write_table(root, rows)
    tables, description, _ = make(root, "--labels", table)
    assert description["classes"] == {"0": "the cat", "1": "the dog"}
    assert description["counts"]["train"] == {"the cat": 6, "the dog": 5} and len(tables["valid"]) == 3
    assert all(path.startswith("photos/") for path in tables["train"]["images"])
    assert description["unpaired"] == [] and description["other_files"] == []


def test_a_table_may_say_the_split(tmp_path, make):
    root = write_labelled(tmp_path / "data", {"cat": 4, "dog": 4}, split="")
    sides = ["train", "val", "Train", "test"]
    rows = [f"{label}/{n}.png,{label},{sides[n]}" for label in ("cat", "dog") for n in range(4)]
    tables, description, _ = make(root, "--labels", write_table(tmp_path, rows, "images,label,split"))
    assert description["counts"] == {
        "train": {"cat": 2, "dog": 2}, "valid": {"cat": 1, "dog": 1}, "test": {"cat": 1, "dog": 1}
    }  # fmt: skip
    assert sorted(tables["valid"]["images"]) == ["cat/1.png", "dog/1.png"]


def test_images_without_label_are_refused_or_left_out(tmp_path, make, refuse):
    root = write_labelled(tmp_path / "data", {"cat": 4, "dog": 4, "owl": 1}, split="")
    rows = [f"{label}/{n}.png,{label}" for label in ("cat", "dog") for n in range(4)]
    table = write_table(tmp_path, rows)
    assert refuse(root, "--labels", table) == (
        "images without label: 1\n  owl/0.png\n"
        "Out of 9 images. Add rows for them, or pass --unpaired skip to leave them out."
    )
    _, description, printed = make(root, "--labels", table, "--unpaired", "skip")
    assert description["unpaired"] == ["owl/0.png"] and "left out without partner: 1\n  owl/0.png" in printed


def test_links_within_the_data_root_are_followed(tmp_path, make):
    root = write_labelled(tmp_path / "data", {"cat": 4}, split="")
    write_labelled(root, {"dog": 4}, split=".elsewhere")
    (root / "dog").symlink_to(root / ".elsewhere/dog")
    tables, _, _ = make(root)
    assert tables["train"]["label"].value_counts().to_dict() == {"cat": 3, "dog": 3}


def test_the_fingerprint_depends_on_labels_and_bytes(labelled_root, make):
    first = make(labelled_root)[1]["fingerprint"]
    assert make(labelled_root)[1]["fingerprint"] == first
    os.rename(labelled_root / "train/cat/3.png", labelled_root / "train/owl/3.png")
    moved = make(labelled_root)[1]["fingerprint"]
    write_image(labelled_root / "train/cat/4.png", draw_labelled("cat", 99))
    assert len({first, moved, make(labelled_root)[1]["fingerprint"]}) == 3


# What is refused: the layout


def test_a_missing_folder(tmp_path, refuse):
    assert refuse(tmp_path / "no") == f"--data_root {tmp_path / 'no'}: there is no such folder"


def test_no_classes(tmp_path, refuse):
    (tmp_path / "data").mkdir()
    expected = f"no images to train on were found there. {CLASS_LAYOUT} Found: no folders."
    assert refuse(tmp_path / "data") == f"--data_root {tmp_path / 'data'}: {expected}"
    write_labelled(tmp_path / "data", VALID, "valid")
    assert refuse(tmp_path / "data").endswith(f"{CLASS_LAYOUT} Found: valid/.")


def test_both_layouts(labelled_root, refuse):
    write_labelled(labelled_root, {"yak": 1}, split="")
    assert refuse(labelled_root) == (
        f"--data_root {labelled_root} holds train/, valid/, as divided data does, and beside them yak/, "
        f"which may be classes. {CLASS_LAYOUT} Move the ones or the others away."
    )


@pytest.mark.parametrize("layout", ["divided", "flat"])
def test_masks(layout, data_root, refuse):
    if layout == "flat":
        shutil.rmtree(data_root / "valid")
        os.rename(data_root / "train/images", data_root / "Images")
        os.rename(data_root / "train/masks", data_root / "Masks")
        (data_root / "train").rmdir()
    message = refuse(data_root)
    names = "Images/, Masks/" if layout == "flat" else "images/, masks/"
    assert f"holds {names}: images with masks, not classes. Leave --task classification out." in message


@pytest.mark.parametrize("split", ["train", ""])
def test_class_folders_without_the_task_are_told_of_it(split, tmp_path, refuse):
    root = write_labelled(tmp_path / "data", {"cat": 1, "dog": 1}, split)
    hint = (
        " If the folders are classes of images (cat, dog), make manifests of a classification: "
        "data_processing.py --task classification."
    )
    assert refuse(root, task="segmentation").endswith(f". Found: {'train' if split else 'cat, dog'}.{hint}")
    shutil.rmtree(root / split / "dog")
    assert "classification" not in refuse(root, task="segmentation")


# What is refused: options


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--subset_by coverage", "subset_by"),
        ("--mask_suffix _mask", "mask_suffix"),
        ("--classes c.csv --ignore_index 255 --subset_bins 3", "subset_bins, classes, ignore_index"),
    ],
)
def test_options_about_masks(words, names, labelled_root, refuse):
    assert refuse(labelled_root, *words.split()) == (
        f"{names} means nothing with task classification, where there are no masks and the subset is the "
        "class. Leave it out."
    )


def test_labels_without_the_task(data_root, refuse):
    message = refuse(data_root, "--labels", "x.csv", task="segmentation")
    assert message == "labels is for task classification; add --task classification"


# What is refused: the files, all at once


def test_all_findings_at_once(labelled_root, refuse, tmp_path):
    (labelled_root / "train/cat/0.png").write_bytes(b"rubbish")
    (labelled_root / "train/cat/1.png").write_bytes(b"")
    write_image(labelled_root / "train/stray.png", draw_labelled("cat", 0))
    (labelled_root / "train/empty").mkdir()
    write_labelled(labelled_root, {"yak": 1}, "valid")
    write_labelled(tmp_path / "outer", {"dog": 1}, split="")
    (labelled_root / "train/dog/link.png").symlink_to(tmp_path / "outer/dog/0.png")
    write_labelled(labelled_root / "train", {"owl": 1}, "Cat", first=60)
    message = refuse(labelled_root)
    for part in (
        "files that cannot be decoded: 2\n"
        "  train/cat/0.png  not an image\n  train/cat/1.png  the file is empty\n"
        "Replace the damaged files, or move them away.",
        "images beside the folders of the classes: 1\n  train/stray.png\n"
        "Put them into the folder of their class, or move them away.",
        "folders of a class without any image: 1\n  train/empty\nPut images in, or move the folder away.",
        "classes without an image to train on: 1\n  yak  only in valid\nAdd some, or leave the class out.",
        f"paths that lead out of the data root: 1\n  train/dog/link.png is {tmp_path}/outer/dog/0.png\n"
        f"{STAY_INSIDE}",
        "classes whose names differ only in case or blanks: 1\n  'Cat' = 'cat'\n",
    ):
        assert part in message
    assert message.count("\n\n") == 5, "these findings and no other"


def test_a_link_outside_may_be_allowed(labelled_root, make, refuse, tmp_path):
    write_labelled(tmp_path / "outer", {"dog": 3}, split="", first=50)
    (labelled_root / "train/yak").symlink_to(tmp_path / "outer/dog")
    assert f"  train/yak is {tmp_path}/outer/dog\n{STAY_INSIDE}" in refuse(labelled_root)
    assert make(labelled_root, "--allow_outside")[1]["counts"]["train"]["yak"] == 3


def test_too_many_pixels(labelled_root, refuse):
    write_image(labelled_root / "train/owl/big.png", draw_labelled("owl", 9, 60, 60))
    message = refuse(labelled_root, "--max_pixels", "3000")
    assert message.startswith("images with too many pixels: 1\n  train/owl/big.png  60x60\nexpected at most")


def test_fewer_than_two_classes(tmp_path, refuse):
    root = write_labelled(tmp_path / "data", {"cat": 3})
    message = f"data with fewer than two classes: 1\n  {root}: 'cat' to train on\n{CLASS_LAYOUT}"
    assert refuse(root) == message


def test_too_many_classes(tmp_path, refuse):
    root, image = tmp_path / "data", draw_labelled("cat", 0)
    names = [f"n{number}" for number in range(MOST_CLASSES + 1)]
    for number, name in enumerate(names):
        image[0, 0] = number
        write_image(root / name / "0.png", image)
    message = refuse(root)
    assert f"data with too many classes: 1\n  255 classes, expected at most {MOST_CLASSES}\n" in message


def test_identical_images_in_two_classes_or_splits(labelled_root, make, refuse):
    shutil.copy(labelled_root / "train/cat/0.png", labelled_root / "train/dog/same.png")
    assert refuse(labelled_root) == (
        "images that stand in several classes, byte for byte: 1\n  train/cat/0.png = train/dog/same.png\n"
        "Decide on one class and remove the copies; --duplicates warn goes on all the same."
    )
    _, description, printed = make(labelled_root, "--duplicates", "warn")
    assert description["contradictions"] == [["train/cat/0.png", "train/dog/same.png"]]
    assert "identical images in several classes: 1" in printed
    (labelled_root / "train/dog/same.png").unlink()
    shutil.copy(labelled_root / "train/cat/0.png", labelled_root / "valid/cat/same.png")
    message = refuse(labelled_root)
    assert "1 images are in more than one split, byte for byte:\n" in message
    assert "  train/cat/0.png = valid/cat/same.png\n" in message


def test_names_that_cannot_stand_in_a_file_name(tmp_path, refuse):
    root = write_labelled(tmp_path / "data", {"cat": 3}, split="")
    write_labelled(root / "x", {"dog": 3}, split="")
    (root / "x/dog").rename(root / "d\x1bog")
    (root / "x").rmdir()
    message = refuse(root)
    assert "classes whose names cannot stand in train<class>.csv: 1\n  'd\\x1bog'\nRename them: " in message
    table = write_table(tmp_path, [f"cat/{n}.png,{label}" for n, label in enumerate(("a/b", "ok", "ok"))])
    message = refuse(root, "--labels", table, "--unpaired", "skip")
    assert "classes whose names cannot stand in train<class>.csv: 1\n  'a/b'\n" in message


# What is refused: the table


def test_a_table_without_labels(tmp_path, refuse, labelled_root):
    table = write_table(tmp_path, ["cat/0.png,cat"], "images,class")
    assert refuse(labelled_root, "--labels", table) == (
        f"{table}: expected images and label among the columns images, label, split, none twice, and "
        "commas between them; found 'images', 'class'. Save it as a CSV file with these column names."
    )
    message = refuse(labelled_root, "--labels", tmp_path / "none.csv")
    assert message.startswith(f"{tmp_path}/none.csv cannot be read as a CSV table: ")
    assert message.endswith("Expected UTF-8 text. Correct the rows of the table.")


def test_wrong_rows_are_named_by_their_line(tmp_path, refuse):
    root = write_labelled(tmp_path / "data", {"cat": 6, "dog": 6}, split="")
    write_labelled(tmp_path / "outer", {"dog": 1}, split="")
    good = [f"{label}/{n}.png,{label},train" for label in ("cat", "dog") for n in range(3)]
    rows = [
        ",cat,train",
        "cat/9.png,cat,train",
        "cat\\4.png,cat,train",
        f"{root}/cat/4.png,cat,train",
        "cat/4.png,,train",
        "cat/5.png,cat,training",
        "cat/0.png,dog,train",
        "../outer/dog/0.png,dog,train",
        "labels.csv,dog,train",
        "dog/3.png,dog,",
    ]
    table = write_table(root, good + rows, "images,label,split")
    message = refuse(root, "--labels", table, "--unpaired", "skip")
    for part in (
        "rows of the labels that are wrong: 8\n",
        f"{table} line 8: images is empty",
        f"{table} line 9: images is 'cat/9.png', but {root}/cat/9.png is not a file",
        f"{table} line 10: images is 'cat\\\\4.png', but {root}/cat\\4.png is not a file; paths are relative "
        "to the data root, with /",
        f"{table} line 11: images is '{root}/cat/4.png'; expected a path relative to the data root",
        f"{table} line 12: cat/4.png has no label",
        f"{table} line 13: split is 'training'; expected train, valid or test",
        f"{table} line 14: cat/0.png is already in line 2",
        f"paths that lead out of the data root: 1\n  {table} line 15: images is '../outer/dog/0.png', which "
        f"is {tmp_path}/outer/dog/0.png\n{STAY_INSIDE}",
        f"{table} line 16: labels.csv has an unsupported type (.png, ",
        f"tables that say the split of some rows only: 1\n  {table} line 17\nFill it in for all rows, or ",
    ):
        assert part in message
    assert message.count("\n\n") == 2


def test_segmentation_is_as_before(tmp_path, capsys):
    """The options of the new task change nothing about the old: same columns, same keys but the options."""
    root = write_data(tmp_path / "data", {"a": 6, "b": 3})
    write_image(root / "train/images/a/x.png", draw_pair(99)[0])
    assert main(["--data_root", root, "--csv_dir", tmp_path / "csv_file", "--unpaired", "skip"]) == 0
    description = read_description(tmp_path / "csv_file")
    assert list(description) == [
        "version", "data_root", "options", "mask_encoding", "mask_encoding_found", "classes", "split",
        "counts", "masks_without_foreground", "unpaired", "other_files", "duplicates", "fingerprint", "files",
    ]  # fmt: skip
    manifest = read_manifest(tmp_path / "csv_file")
    assert (manifest.task, manifest.classes) == ("segmentation", None)
    assert np.isfinite(manifest.valid["coverage"]).all() and "label" not in manifest.valid
