"""Manifests: written whole, read with a person's edits, wrong rows named."""

import json
import os
import shutil

import pandas as pd
import pytest

from segbalance.commands.prepare import main as make_manifests
from segbalance.data_processing.description import read_description
from segbalance.data_processing.manifest import (
    AGAIN,
    COLUMNS,
    natural_order,
    read_manifest,
    read_table,
    subset_files,
)
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.data_processing.rows import unusable_files
from segbalance.errors import InputError
from segbalance.files.data_root import DataRoot
from segbalance.files.writing import write_json
from tests.support.data import draw_pair, write_data, write_image


def edit(path, change):
    """Rewrites a CSV file as a person would, through a DataFrame of text."""
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def refusal(*arguments):
    with pytest.raises(InputError) as caught:
        read_manifest(*arguments)
    return str(caught.value)


def tutorial_csvs(csv_dir, tables):
    """CSV files as the tutorial wrote them: `images` below the images folder, and nothing else."""
    shutil.rmtree(csv_dir, ignore_errors=True)
    csv_dir.mkdir()
    for name, images in tables.items():
        pd.DataFrame({"images": images}).to_csv(csv_dir / name, index=False)
    return csv_dir


def test_subset_files_come_in_natural_order(tmp_path):
    for name in ("train.csv", "train10.csv", "train2.csv", "trainb.csv", "valid.csv", "train2.txt"):
        (tmp_path / name).touch()
    assert list(subset_files(tmp_path)) == ["2", "10", "b"]
    assert sorted(["b", "10", "a", "2"], key=natural_order) == ["2", "10", "a", "b"]


# Reading what was written


def test_manifests_are_read_back(manifests):
    root, csv_dir = manifests
    manifest = read_manifest(csv_dir)
    assert {name: len(frame) for name, frame in manifest.train.items()} == {"a": 6, "b": 3, "c": 1}
    assert (manifest.data_root, len(manifest.valid), manifest.notes) == (root, 6, ())
    assert manifest.encoding == MaskEncoding()
    assert manifest.fingerprint == read_description(csv_dir)["fingerprint"] != ""
    first = manifest.train["a"].iloc[0]
    assert list(first.index) == COLUMNS
    assert list(first[:5]) == ["train/images/a/0.png", "train/masks/a/0.png", "a", 60, 50]
    mask = draw_pair([0, sum(b"a"), 0])[1]
    assert first["coverage"] == float(f"{(mask > 0).mean():.6g}")


def test_train_csv_serves_where_there_are_no_subset_files(manifests):
    _, csv_dir = manifests
    expected = read_manifest(csv_dir).train
    for path in subset_files(csv_dir).values():
        path.unlink()
    read = read_manifest(csv_dir).train
    assert list(read) == list(expected)
    for name in read:
        pd.testing.assert_frame_equal(read[name], expected[name])


def test_a_persons_edits_are_honoured(manifests):
    root, csv_dir = manifests
    (csv_dir / "trainc.csv").unlink()
    edit(csv_dir / "traina.csv", lambda frame: frame.iloc[[0, 1, 1, 1, 4]].assign(quality="good, mostly"))
    edit(csv_dir / "valid.csv", lambda frame: frame.iloc[::-1])
    image, mask = draw_pair(99)
    write_image(root / "extra" / "x.png", image)
    write_image(root / "extra" / "x_mask.png", mask)
    (csv_dir / "trainextra.csv").write_text("masks,images\nextra/x_mask.png,extra/x.png\n")
    manifest = read_manifest(csv_dir)
    assert {name: len(frame) for name, frame in manifest.train.items()} == {"a": 5, "b": 3, "extra": 1}
    assert list(manifest.train["a"]["quality"]) == ["good, mostly"] * 5
    assert list(manifest.valid["images"])[0] == "valid/images/c/1.png"
    added = manifest.train["extra"].iloc[0]
    assert (added["type"], added["width"], added["height"]) == ("extra", 60, 50)
    assert added["coverage"] == pytest.approx((mask > 0).mean(), abs=1e-12)
    assert manifest.notes == ("subset a: 2 of 5 rows repeat an image (oversampling by hand)",)


@pytest.mark.parametrize("dropped", [*COLUMNS[1:], COLUMNS[1:]])
def test_missing_columns_are_filled_in(dropped, manifests):
    _, csv_dir = manifests
    expected = read_manifest(csv_dir)
    for path in csv_dir.glob("*.csv"):
        edit(path, lambda frame: frame.drop(columns=dropped))
    read = read_manifest(csv_dir)
    for found, frame in [
        *zip(read.train.values(), expected.train.values(), strict=True),
        (read.valid, expected.valid),
    ]:
        pd.testing.assert_frame_equal(found[COLUMNS], frame, check_dtype=False, rtol=1e-5)


def test_single_empty_cells_are_filled_in(manifests):
    _, csv_dir = manifests
    expected = read_manifest(csv_dir).train["a"]

    def empty_some(frame):
        frame.loc[1, ["masks", "coverage"]] = ""
        frame.loc[3, ["type", "width"]] = ""
        return frame

    edit(csv_dir / "traina.csv", empty_some)
    pd.testing.assert_frame_equal(read_manifest(csv_dir).train["a"], expected, check_dtype=False, rtol=1e-5)


def test_split_data_without_valid_folder_is_filled_in_too(tmp_path):
    """The rows of valid.csv then lie in train/images."""
    root, csv_dir = write_data(tmp_path / "data", {"a": 5}), tmp_path / "csv"
    assert make_manifests(["--data_root", root, "--csv_dir", csv_dir]) == 0
    expected = read_manifest(csv_dir).valid
    edit(csv_dir / "valid.csv", lambda frame: frame[["images"]])
    pd.testing.assert_frame_equal(read_manifest(csv_dir).valid, expected, check_dtype=False, rtol=1e-5)


def test_mask_suffix_is_remembered_for_missing_masks(manifests):
    root, csv_dir = manifests
    for path in root.glob("*/masks/*/*.png"):
        path.rename(path.with_stem(path.stem + "_m"))
    assert make_manifests(["--data_root", root, "--csv_dir", csv_dir, "--mask_suffix", "_m"]) == 0
    edit(csv_dir / "trainb.csv", lambda frame: frame[["images"]])
    assert read_manifest(csv_dir).train["b"]["masks"][0] == "train/masks/b/0_m.png"


def test_a_type_is_not_guessed_where_subsets_are_no_folders(manifests):
    root, csv_dir = manifests
    words = ["--data_root", root, "--csv_dir", csv_dir, "--subset_by", "/([0-9])[.]png"]
    assert make_manifests(words) == 0
    edit(csv_dir / "valid.csv", lambda frame: frame[["images"]])
    message = refusal(csv_dir)
    assert message.startswith("rows that are wrong: 6\n")
    assert f"{csv_dir}/valid.csv line 2: type is empty; expected the subset's name\n" in message


def test_new_masks_must_fit_the_known_encoding(manifests):
    root, csv_dir = manifests
    image, mask = draw_pair(5)
    colours = (mask[..., None] > 0) * draw_pair(6)[0]
    write_image(root / "train/masks/a/0.png", colours)
    edit(csv_dir / "traina.csv", lambda frame: frame[["images"]])
    assert refusal(csv_dir) == (
        "masks that do not fit the encoding in manifest.json: 1\n  train/masks/a/0.png\n"
        f"Expected grey, class 1 at or above 128. {AGAIN}"
    )


def test_damaged_files_of_new_rows_are_reported(manifests):
    root, csv_dir = manifests
    (root / "train/masks/a/0.png").write_bytes(b"")
    edit(csv_dir / "traina.csv", lambda frame: frame[["images"]])
    assert refusal(csv_dir).startswith(
        "files that cannot be decoded: 1\n  train/masks/a/0.png  the file is empty\nReplace the damaged files"
    )


def test_an_unread_edit_of_train_csv_is_noted(manifests):
    _, csv_dir = manifests
    edit(csv_dir / "train.csv", lambda frame: frame.iloc[:5])
    assert read_manifest(csv_dir).notes == (
        "train.csv was changed, but training reads the train<subset>.csv files beside it",
    )


# CSV files as the tutorial's code wrote them


def test_the_tutorials_csv_files(manifests):
    root, csv_dir = manifests
    expected = read_manifest(csv_dir)
    for path in root.glob("*/masks/*/*.png"):  # another encoding than the default, to be found again
        write_image(
            path,
            (
                draw_pair([int("valid" in str(path)), sum(path.parent.name.encode()), int(path.stem)])[1] > 0
            ).astype("uint8"),
        )
    tables = {
        "train.csv": [f"/a/{n}.png" for n in range(6)] + [f"/b/{n}.png" for n in range(3)],
        "traina.csv": [f"/a/{n}.png" for n in range(6)],
        "trainb.csv": [f"/b/{n}.png" for n in range(3)],
        "valid.csv": ["/a/0.png", "/a/1.png", "/b/1.png"],
    }
    tutorial_csvs(csv_dir, tables)
    assert refusal(csv_dir) == (
        f"{csv_dir} has no manifest.json, so the data folder is unknown. Pass it with --data_root."
    )
    manifest = read_manifest(csv_dir, root)
    assert manifest.encoding == MaskEncoding("values", ((0, 0), (1, 1)))
    for name in ("a", "b"):
        pd.testing.assert_frame_equal(
            manifest.train[name], expected.train[name], check_dtype=False, rtol=1e-5
        )
    assert list(manifest.valid["images"]) == [
        "valid/images/a/0.png",
        "valid/images/a/1.png",
        "valid/images/b/1.png",
    ]
    assert list(manifest.valid["type"]) == ["a", "a", "b"]
    assert manifest.fingerprint == ""


@pytest.mark.parametrize("images, masks", [("Images", "Masks"), ("train/images", "train/masks")])
def test_the_tutorials_csv_files_of_an_undivided_folder(images, masks, tmp_path):
    for number in range(3):
        image, mask = draw_pair(number)
        write_image(tmp_path / "data" / images / "0" / f"{number}.png", image)
        write_image(tmp_path / "data" / masks / "0" / f"{number}.png", mask)
    csv_dir = tutorial_csvs(
        tmp_path / "csv", {"train.csv": ["/0/0.png", "/0/2.png"], "valid.csv": ["/0/1.png"]}
    )
    manifest = read_manifest(csv_dir, tmp_path / "data")
    assert list(manifest.train["0"]["masks"]) == [f"{masks}/0/0.png", f"{masks}/0/2.png"]
    assert list(manifest.valid["masks"]) == [f"{masks}/0/1.png"]


def test_a_short_image_path_may_stand_beside_a_full_mask_path(manifests):
    _, csv_dir = manifests
    edit(csv_dir / "trainc.csv", lambda frame: frame.assign(images="/c/0.png"))
    assert list(read_manifest(csv_dir).train["c"]["images"]) == ["train/images/c/0.png"]


# What is wrong


def test_missing_files_say_how_to_make_them(manifests, tmp_path):
    _, csv_dir = manifests
    advice = "does not exist. Make the manifests first: python data_processing.py --data_root <folder>"
    assert refusal(tmp_path / "none") == f"{tmp_path}/none/train.csv {advice}"
    (csv_dir / "valid.csv").unlink()
    assert refusal(csv_dir) == f"{csv_dir}/valid.csv {advice}"


def test_wrong_rows_are_named_all_at_once(manifests):
    root, csv_dir = manifests

    def spoil(frame):
        frame.loc[1, "images"] = "train/images/a/none.png"
        frame.loc[2, "masks"] = "train/masks/a/none.png"
        frame.loc[3, "type"] = "b"
        frame.loc[4, "images"] = ""
        return frame

    edit(csv_dir / "traina.csv", spoil)
    edit(
        csv_dir / "trainb.csv",
        lambda frame: frame.assign(images=["/b/7.png", *frame["images"][1:]], masks=""),
    )
    assert refusal(csv_dir) == (
        "rows that are wrong: 5\n"
        f"  {csv_dir}/traina.csv line 3: images is 'train/images/a/none.png', "
        f"but {root}/train/images/a/none.png is not a file\n"
        f"  {csv_dir}/traina.csv line 4: masks is 'train/masks/a/none.png', "
        f"but {root}/train/masks/a/none.png is not a file\n"
        f"  {csv_dir}/traina.csv line 5: type is 'b', expected 'a' as in the file's name\n"
        f"  {csv_dir}/traina.csv line 6: images is empty\n"
        f"  {csv_dir}/trainb.csv line 2: images is '/b/7.png', but /b/7.png is not a file\n"
        "Correct the rows, or make the manifests again with data_processing.py."
    )


def test_images_without_mask_are_named(manifests, tmp_path):
    root, csv_dir = manifests
    message = "line 2: lone.png has no mask, and none was found in the folders"
    write_image(root / "lone.png", draw_pair(0)[0])
    (csv_dir / "traina.csv").write_text("images\nlone.png\n")
    assert f"  {csv_dir}/traina.csv {message}\n" in refusal(csv_dir)
    write_image(tmp_path / "bare" / "lone.png", draw_pair(0)[0])  # a folder in neither layout
    tutorial_csvs(csv_dir, {"train.csv": ["lone.png"], "valid.csv": ["lone.png"]})
    assert f"  {csv_dir}/train.csv {message}\n" in refusal(csv_dir, tmp_path / "bare")


def test_line_numbers_count_empty_lines_and_quoted_newlines(manifests):
    _, csv_dir = manifests
    path = csv_dir / "trainc.csv"
    header, row = path.read_text().splitlines()
    lines = [header + ",note", row + ',"two\nlines"', "", ",,,,,,", row + ",", row.replace("masks", "mosks")]
    path.write_text("\n".join(lines) + "\n")
    message = refusal(csv_dir)
    assert (
        message.startswith("rows that are wrong: 1\n") and f"{path} line 7: masks is 'train/mosks/" in message
    )


def test_rows_in_train_and_valid_are_named(manifests):
    _, csv_dir = manifests
    valid = (csv_dir / "valid.csv").read_text().splitlines()
    with (csv_dir / "traina.csv").open("a") as file:
        file.write(valid[1] + "\n")
    assert refusal(csv_dir) == (
        f"rows that are in both train and valid.csv: 1\n  {csv_dir}/traina.csv line 8: valid/images/a/0.png\n"
        "Take them out of one of the two."
    )


def test_cells_that_are_no_number_and_long_rows_are_named_in_every_file(manifests):
    _, csv_dir = manifests
    edit(csv_dir / "traina.csv", lambda frame: frame.assign(coverage=["half", *frame["coverage"][1:]]))
    edit(csv_dir / "trainb.csv", lambda frame: frame.assign(width=["60", "", "60px"]))
    with (csv_dir / "valid.csv").open("a") as file:
        file.write("a,b,c.png,b,a,1,1,0.5\n")
    assert refusal(csv_dir) == (
        "cells that are not a number: 2\n"
        f"  {csv_dir}/traina.csv line 2: coverage is 'half'\n  {csv_dir}/trainb.csv line 4: width is '60px'\n"
        "Correct them, or leave them empty.\n\n"
        f"rows longer than the header: 1\n  {csv_dir}/valid.csv line 8: 8 cells, expected 6\n"
        "Put names with a comma in quotes."
    )


@pytest.mark.parametrize("name", ["traina.csv", "valid.csv"])
def test_a_manifest_without_rows_is_refused(name, manifests):
    _, csv_dir = manifests
    edit(csv_dir / name, lambda frame: frame[:0])
    assert refusal(csv_dir) == (
        f"manifests without rows: 1\n  {csv_dir}/{name}\n"
        "Expected at least one image in each; delete a train<subset>.csv to drop its subset."
    )


COLUMNS_EXPECTED = (
    "expected images among the columns images, masks, type, width, height, coverage, none twice, and "
    "commas between them"
)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", f"{COLUMNS_EXPECTED}; found an empty file. Save it as a CSV"),
        (
            b"images;masks\na;b\n",
            f"{COLUMNS_EXPECTED}; found 'images;masks'.",
        ),
        (
            b"masks,type\na,b\n",
            f"{COLUMNS_EXPECTED}; found 'masks', 'type'.",
        ),
        (
            b"images,images\na,b\n",
            f"{COLUMNS_EXPECTED}; found 'images', 'im",
        ),
        ("images\n".encode("utf-16"), "cannot be read as a CSV table: 'utf-8' codec"),
        (b'images\n"a.png\n', "cannot be read as a CSV table: unexpected end of data. Expected UTF-8 text."),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(content, message, tmp_path):
    path = tmp_path / "traina.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert str(caught.value).removeprefix(str(path)).lstrip(": ").startswith(message)


def test_a_byte_order_mark_and_windows_lines_are_read(manifests):
    _, csv_dir = manifests
    path = csv_dir / "traina.csv"
    expected = read_table(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(read_table(path), expected)
    assert len(read_manifest(csv_dir).train["a"]) == 6


def test_names_that_look_like_numbers_or_missing_values_stay_text(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('images,type,width\nNA,007,\n"a,b",nan,5\n')
    table = read_table(path)
    assert table["images"].tolist() == ["NA", "a,b"] and table["type"].tolist() == ["007", "nan"]
    assert table["width"].isna().tolist() == [True, False] and table["masks"].tolist() == ["", ""]


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", r"manifest\.json cannot be read: Expecting property name"),
        ("[]", r"manifest\.json: expected a manifest of version 1\."),
        ('{"version": 99}', r"manifest\.json: expected a manifest of version 1\."),
    ],
)
def test_a_damaged_manifest_json_is_refused_with_the_way_out(content, message, manifests, capsys):
    root, csv_dir = manifests
    (csv_dir / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(csv_dir)
    assert str(caught.value).endswith(AGAIN)
    words = ["--data_root", root, "--csv_dir", csv_dir]
    assert make_manifests(words) == 2 and AGAIN in capsys.readouterr().err
    assert make_manifests([*words, "--overwrite"]) == 0  # the advice helps
    assert len(read_manifest(csv_dir).train) == 3


def test_a_damaged_encoding_in_manifest_json_is_refused(manifests):
    _, csv_dir = manifests
    description = json.loads((csv_dir / "manifest.json").read_text())
    write_json(csv_dir / "manifest.json", description | {"mask_encoding": {"kind": "magic"}})
    assert refusal(csv_dir).startswith("manifest.json: mask_encoding {'kind': 'magic'} is not understood")


def test_a_moved_data_root(manifests, tmp_path):
    root, csv_dir = manifests
    root.rename(tmp_path / "moved")
    assert refusal(csv_dir) == (
        f"{csv_dir}/manifest.json: data_root {root}: there is no such folder. "
        "Pass the folder of the data with --data_root."
    )
    assert refusal(csv_dir, "nowhere").startswith("--data_root nowhere: there is no such folder. Pass")
    manifest = read_manifest(csv_dir, tmp_path / "moved")
    assert manifest.data_root == tmp_path / "moved"
    assert manifest.notes == (f"the manifests were made for {root}; reading from {tmp_path}/moved",)


ROWS = {
    "one row": "a.png,a,5\n",
    "no line's end": "a.png,a,5\nb.png,,",
    "empty lines": "\na.png,a,5\n\n\nb.png,b,6\n,,\n \n",
    "short rows": "a.png\nb.png,b\n\nc.png,c,7\n",
    "names of missing values": "NA,nan,\nNone,null,1e3\n",
    "a long row": "a.png,a,5\nb.png,b,5,extra\n",
    "the first row long": "a.png,a,5,extra\nb.png,b,5\n",
    "every row long": "a.png,a,5,extra\nb.png,b,5,extra\n",
    "long by empty cells": "a.png,a,5,,\nb.png,b,5,,\n",
    "no number": "a.png,a,five\n",
    "spaces": " a b.png , a ,5\n",
    "a number with spaces": "a.png,a, 5 \n",
    "decimals": "a.png,a,0.12345678901234567\nb.png,b,1e-7\nc.png,c,5.\n",
    "large numbers": "a.png,a,99999999999999999999\nb.png,b,5\n",
    "infinite": "a.png,a,inf\nb.png,b,-inf\n",
    "truth": "a.png,a,True\nb.png,b,False\n",
    "rows of commas": "a.png,a,5\n,,\nb.png,b,6\n",
    "no row": "",
}


@pytest.mark.parametrize("first", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_fast_way_to_read_a_table_gives_what_the_csv_module_gives(rows, first, tmp_path, stub):
    path = tmp_path / "train.csv"
    path.write_bytes(first + f"images,type,width\n{rows}".encode())

    def outcome():
        try:
            return read_table(path).to_csv(), read_table(path).dtypes.tolist()
        except InputError as error:
            return str(error)

    fast = outcome()
    stub("segbalance.data_processing.manifest._plain_rows", lambda content, header: None)
    assert fast == outcome()


def test_a_plain_table_is_read_the_fast_way(manifests, stub):
    expected = read_table(manifests[1] / "train.csv")
    header_only = iter([COLUMNS])
    stub("segbalance.data_processing.manifest.csv.reader", lambda *_, **__: header_only)
    pd.testing.assert_frame_equal(read_table(manifests[1] / "train.csv"), expected)
    assert len(expected) == 10


def test_missing_files_are_those_that_are_no_files(tmp_path, stub):
    for name in ("top.png", "a/0.png", "a/b/0.png", "a/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a/linked.png").symlink_to(tmp_path / "top.png")
    (tmp_path / "a/broken.png").symlink_to(tmp_path / "none.png")
    there = ["top.png", "a/0.png", "a/b/0.png", "a/c.png", "link/0.png", "link/b/0.png", "a/linked.png"]
    there += ["./top.png", "a//0.png", "a/../top.png", str(tmp_path / "top.png")]
    gone = ["", "a", "a/", "link", "/top.png", "a/none.png", "none/0.png", "top.png/0.png", "a/broken.png"]
    assert all(os.path.isfile(os.path.join(tmp_path, path)) for path in there)
    root = DataRoot(tmp_path)
    assert unusable_files(root, 2 * (there + gone)) == (set(gone), {})
    stub("segbalance.data_processing.rows._plain_files", lambda root, folder: set())
    assert unusable_files(root, there + gone) == (set(gone), {}), "a listing may lack a spelling"


def test_a_folder_is_listed_once(tmp_path, stub):
    paths = [f"{folder}/{n}.png" for folder in ("a", "a/15", "c") for n in range(50)]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    listed, scandir = [], os.scandir
    stub(
        "segbalance.data_processing.rows.os.scandir",
        lambda folder: (listed.append(folder), scandir(folder))[1],
    )
    stub.never("segbalance.data_processing.rows.os.path.isfile")
    stub.never("segbalance.files.data_root.os.readlink")
    files = unusable_files(DataRoot(tmp_path), paths[::2] + paths[1::2])
    assert files == (set(), {}) and len(listed) == 3
