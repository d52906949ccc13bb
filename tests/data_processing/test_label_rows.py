"""A classification's manifests read back: what rows leave out is filled in, and every wrong one is named."""

import json

import pandas as pd
import pytest

from segbalance.data_processing.classes import Classes
from segbalance.data_processing.label_rows import LABEL_COLUMNS
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.manifest import AGAIN, read_manifest
from segbalance.errors import InputError
from segbalance.files.data_root import STAY_INSIDE
from tests.support.data import write_image
from tests.support.labelled_data import SIZES, VALID, draw_labelled

WRONG = "rows that are wrong"
ADVICE = "Correct the rows, or make the manifests again with data_processing.py."
KNOWN = "one of the classes cat, dog, owl"


def change(path, lines):
    """Replaces lines of a CSV file, {number from 1: text}; a new number adds the line."""
    rows = path.read_text().splitlines()
    for number, text in lines.items():
        rows[number - 1 : number] = [text]
    path.write_text("\n".join([*rows, ""]))


def message_of(csv_dir, **options):
    with pytest.raises(InputError) as caught:
        read_manifest(csv_dir, **options)
    return str(caught.value)


def redescribe(csv_dir, **entries):
    """Changes manifest.json; None takes an entry out."""
    path = csv_dir / "manifest.json"
    description = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: value for name, value in description.items() if value is not None}))


def test_what_is_read(labelled_manifests):
    root, csv_dir = labelled_manifests
    manifest = read_manifest(csv_dir)
    assert manifest.task == "classification" and manifest.data_root == root
    assert manifest.classes == Classes(("cat", "dog", "owl"), manifest.classes.colours)
    assert manifest.encoding == LabelEncoding(("cat", "dog", "owl"))
    assert {name: len(table) for name, table in manifest.train.items()} == SIZES
    assert manifest.valid["label"].value_counts().to_dict() == VALID
    for table in (*manifest.train.values(), manifest.valid):
        assert list(table) == LABEL_COLUMNS and (table["type"] == table["label"]).all()
    assert manifest.notes == ()
    assert manifest.line("dog", 1) == (csv_dir / "traindog.csv", 3, "train/dog/1.png,dog,dog,48,40")


def test_labels_are_part_of_the_fingerprints(labelled_manifests):
    _, csv_dir = labelled_manifests
    before = read_manifest(csv_dir)
    redescribe(csv_dir, classes={"0": "dog", "1": "cat", "2": "owl"})
    after = read_manifest(csv_dir)
    assert after.encoding.read("cat").tolist() == [[1]]
    assert after.training_fingerprint() != before.training_fingerprint()
    assert after.valid_fingerprint() != before.valid_fingerprint()


def test_label_type_and_sizes_are_filled_in(labelled_manifests):
    root, csv_dir = labelled_manifests
    write_image(root / "train/owl/new.png", draw_labelled("owl", 9, 30, 50))
    (csv_dir / "trainowl.csv").write_text("images\ntrain/owl/0.png\ntrain/owl/new.png\n")
    change(csv_dir / "valid.csv", {2: "valid/cat/100.png,cat,,,", 3: "valid/cat/101.png,,cat,,"})
    manifest = read_manifest(csv_dir)
    owls = manifest.train["owl"]
    assert owls["label"].tolist() == owls["type"].tolist() == ["owl", "owl"]
    assert owls[["width", "height"]].values.tolist() == [[48, 40], [50, 30]]
    assert manifest.valid.iloc[:2].values.tolist() == [
        [f"valid/cat/{number}.png", "cat", "cat", 48, 40] for number in (100, 101)
    ]


def test_a_persons_rows_may_repeat_and_have_columns_of_their_own(labelled_manifests):
    _, csv_dir = labelled_manifests
    (csv_dir / "trainowl.csv").write_text("images,label,mine\n" + 3 * "train/owl/0.png,owl,x\n")
    manifest = read_manifest(csv_dir)
    assert manifest.train["owl"]["mine"].tolist() == ["x"] * 3
    assert manifest.notes == ("subset owl: 2 of 3 rows repeat an image (oversampling by hand)",)


def test_without_the_files_of_the_classes_train_csv_is_read(labelled_manifests):
    _, csv_dir = labelled_manifests
    for name in SIZES:
        (csv_dir / f"train{name}.csv").unlink()
    manifest = read_manifest(csv_dir)
    assert {name: len(table) for name, table in manifest.train.items()} == SIZES
    change(csv_dir / "train.csv", {2: "train/cat/0.png,bat,bat,48,40"})
    assert f"train.csv line 2: label is 'bat', expected {KNOWN}" in message_of(csv_dir)


def test_every_wrong_row_is_named_by_file_and_line(labelled_manifests, tmp_path):
    root, csv_dir = labelled_manifests
    write_image(tmp_path / "outer/0.png", draw_labelled("cat", 0))
    cat, dog, valid = (csv_dir / f"{name}.csv" for name in ("traincat", "traindog", "valid"))
    change(
        cat,
        {
            2: ",cat,cat,48,40",
            3: "train/cat/77.png,cat,cat,48,40",
            4: "train\\cat\\2.png,cat,cat,48,40",
            5: "train/cat/3.png,dog,dog,48,40",
            6: "train/cat/4.png,cat,dog,48,40",
            7: "train/cat/5.png,Cat,Cat,48,40",
            8: "../outer/0.png,cat,cat,48,40",
            9: "valid/cat/100.png,cat,cat,48,40",
        },
    )
    change(dog, {2: "train/dog/0.png,d\x1bg,d\x1bg,48,40"})
    change(valid, {3: "valid/cat/101.png,yak,yak,48,40", 4: "valid/dog/100.png,,,48,40"})
    message = message_of(csv_dir)
    expected = [
        f"{cat} line 2: images is empty",
        f"{cat} line 3: images is 'train/cat/77.png', but {root}/train/cat/77.png is not a file",
        f"{cat} line 4: images is 'train\\\\cat\\\\2.png', but {root}/train\\cat\\2.png is not a file; paths "
        "are relative to the data root, with /",
        f"{cat} line 5: label is 'dog', expected 'cat' as in the file's name",
        f"{cat} line 6: label is 'cat', but type is 'dog'; expected the class in both",
        f"{cat} line 7: label is 'Cat', expected {KNOWN}",
        f"{dog} line 2: label is 'd\\\\x1bg', expected {KNOWN}",
        f"{valid} line 3: label is 'yak', expected {KNOWN}",
        f"{valid} line 4: valid/dog/100.png has no label; expected {KNOWN}",
    ]
    listed = "\n".join(f"  {line}" for line in expected)
    assert f"{WRONG}: {len(expected)}\n{listed}\n{ADVICE}" in message
    place = f"{cat} line 8: images is '../outer/0.png', which is {tmp_path}/outer/0.png"
    assert f"paths that lead out of the data root: 1\n  {place}\n{STAY_INSIDE}" in message
    assert f"rows that are in both train and valid.csv: 1\n  {cat} line 9: valid/cat/100.png\n" in message
    assert message.count("\n\n") == 2


def test_rows_out_of_the_data_root_may_be_allowed(labelled_manifests, tmp_path):
    _, csv_dir = labelled_manifests
    write_image(tmp_path / "outer/0.png", draw_labelled("owl", 0))
    change(csv_dir / "trainowl.csv", {2: "../outer/0.png,owl,owl,48,40"})
    assert read_manifest(csv_dir, allow_outside=True).train["owl"]["images"][0] == "../outer/0.png"


def test_a_class_that_is_not_trained_has_no_place_in_validation(labelled_manifests):
    _, csv_dir = labelled_manifests
    (csv_dir / "trainowl.csv").unlink()
    valid = csv_dir / "valid.csv"
    assert message_of(csv_dir) == (
        f"rows of a class without an image to train on: 2\n  {valid} line 6: owl\n  {valid} line 7: owl\n"
        "Take them out, or put the train<class>.csv of their class back."
    )
    table = pd.read_csv(valid)
    table[table["label"] != "owl"].to_csv(valid, index=False)
    manifest = read_manifest(csv_dir)
    assert list(manifest.train) == ["cat", "dog"] and len(manifest.classes) == 3


def test_a_file_of_an_unknown_class(labelled_manifests):
    _, csv_dir = labelled_manifests
    (csv_dir / "trainowl.csv").rename(csv_dir / "trainbird.csv")
    message = message_of(csv_dir)
    assert "trainbird.csv line 2: label is 'owl', expected 'bird' as in the file's name" in message
    (csv_dir / "trainbird.csv").write_text("images\ntrain/owl/0.png\n")
    assert f"trainbird.csv line 2: label is 'bird', expected {KNOWN}" in message_of(csv_dir)


def test_files_that_have_gone(labelled_manifests):
    root, csv_dir = labelled_manifests
    (root / "train/dog/0.png").unlink()
    assert "traindog.csv line 2: images is 'train/dog/0.png', but" in message_of(csv_dir)
    assert len(read_manifest(csv_dir, missing_train=True).train["dog"]) == SIZES["dog"]
    (root / "valid/dog/100.png").unlink()
    assert "valid.csv line 4" in message_of(csv_dir, missing_train=True)


def test_a_table_that_is_held_out(labelled_manifests, tmp_path):
    _, csv_dir = labelled_manifests
    (tmp_path / "some.csv").write_text("images,label\nvalid/dog/100.png,dog\n")
    manifest = read_manifest(csv_dir, held_out=tmp_path / "some.csv")
    assert manifest.train == {} and manifest.valid["label"].tolist() == ["dog"]
    (tmp_path / "some.csv").write_text("images\nvalid/dog/100.png\n")
    message = message_of(csv_dir, held_out=tmp_path / "some.csv")
    assert f"some.csv line 2: valid/dog/100.png has no label; expected {KNOWN}" in message


def test_an_image_that_cannot_be_read_while_its_size_is_sought(labelled_manifests):
    root, csv_dir = labelled_manifests
    (root / "train/dog/0.png").write_bytes(b"rubbish")
    change(csv_dir / "traindog.csv", {2: "train/dog/0.png,dog,dog,,"})
    assert message_of(csv_dir) == (
        "files that cannot be decoded: 1\n  train/dog/0.png  not an image\n"
        "Replace the damaged files, or move them away."
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"task": "detection"}, "task is 'detection', expected segmentation or classification"),
        ({"class_colours": None}, "manifest.json has no classes with their class_colours. "),
        ({"classes": {"0": "cat", "2": "dog"}}, "do not name the same ids from 0 on. "),
    ],
)
def test_a_damaged_description(entries, message, labelled_manifests):
    _, csv_dir = labelled_manifests
    redescribe(csv_dir, **entries)
    found = message_of(csv_dir)
    assert message in found and found.endswith(AGAIN)


def test_labels_become_masks_of_one_pixel():
    encoding = LabelEncoding(("cat", "dog"))
    assert encoding.read("dog").tolist() == [[1]] and encoding.read("dog").dtype == "uint8"
    with pytest.raises(OSError, match="label 'owl' is not one of the classes cat, dog"):
        encoding.read("owl")
    assert encoding.to_dict() == {"kind": "labels", "ids": {"cat": 0, "dog": 1}}
