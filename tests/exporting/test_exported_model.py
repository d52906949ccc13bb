"""An export answers like its network, and what is damaged, foreign or hostile is refused before it runs."""

import json
import shutil

import numpy as np
import pytest

from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION
from segbalance.errors import InputError
from segbalance.exporting import exported_model
from segbalance.exporting.exported_model import (
    DESCRIPTION,
    MODEL_NAMES,
    ExportDescription,
    load_exported,
    read_description,
)

GOOD = {
    "version": 1,
    "format": "onnx",
    "size": "fixed",
    "output_type": "mask",
    "quantize": "none",
    "image_size": 64,
    "working_size": 128,
    "threshold": 0.5,
    "classes": ["background", "foreground"],
    "backbone": "resnet18",
}
KINDS = ["savedmodel-dynamic", "savedmodel-fixed", "tflite-fixed", "onnx-dynamic", "onnx-fixed"]


def photos(count, height=32, width=32, seed=0):
    """uint8 (count, height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture
def copy_of(small_exports, tmp_path):
    """Makes a copy of an export that a test may change: function of its kind."""

    def copy(kind):
        return shutil.copytree(small_exports[1][kind], tmp_path / kind)

    return copy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_an_export_answers_like_its_network(small_exports, kind, count):
    network, folders = small_exports
    exported = load_exported(folders[kind])
    expected = network(photos(count)).numpy()
    found = exported(photos(count))
    assert found.shape == (count, 32, 32, 1) and found.dtype == np.float32
    assert np.ptp(expected) > 0.1, "the network tells nothing apart"
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert exported.input_size == (32 if kind.endswith("fixed") else None)
    assert exported.working_size == 40


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("dynamic")])
def test_a_dynamic_export_answers_at_the_photos_size(small_exports, kind):
    exported = load_exported(small_exports[1][kind])
    for height, width in [(37, 61), (20, 23), (200, 90)]:
        assert exported(photos(2, height, width)).shape == (2, height, width, 1)


def test_a_model_is_found_by_its_file_too(small_exports):
    for kind, folder in small_exports[1].items():
        model = folder / MODEL_NAMES[kind.split("-")[0]]
        np.testing.assert_array_equal(load_exported(model)(photos(1)), load_exported(folder)(photos(1)))


def test_an_onnx_file_may_stand_alone(copy_of, tmp_path):
    folder = copy_of("onnx-dynamic")
    expected = load_exported(folder)
    alone = shutil.copy(folder / "model.onnx", tmp_path / "nails.onnx")
    exported = load_exported(alone)
    assert exported.description == expected.description
    np.testing.assert_array_equal(exported(photos(1)), expected(photos(1)))


@pytest.mark.parametrize(
    "wrong",
    [
        photos(1).astype(np.float32),
        photos(1)[0],
        photos(1)[..., :1],
        photos(1, 32, 64),
        photos(1, 64, 32),
        photos(1, 64, 64),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_photos_of_another_kind_are_refused(small_exports, wrong):
    exported = load_exported(small_exports[1]["tflite-fixed"])
    with pytest.raises(ValueError, match=r"expected photos of type uint8 and shape \('B', 32, 32, 3\), got "):
        exported(wrong)


def test_a_description_comes_back_as_it_was():
    description = ExportDescription.from_json(json.dumps(GOOD), "here")
    assert ExportDescription.from_json(description.to_json(), "here") == description
    assert json.loads(description.to_json()) == GOOD


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", "keras", "format must be one of savedmodel, tflite, onnx, got 'keras'"),
        ("format", ["onnx"], r"format must be one of .*, got \['onnx'\]"),
        ("size", None, "size must be one of dynamic, fixed, got None"),
        ("output_type", "../mask", "output_type must be one of probability, mask"),
        ("quantize", "int4", "quantize must be one of none, float16, int8"),
        ("backbone", "__import__('os')", "backbone must be one of vgg16"),
        ("image_size", 33, "image_size must be a multiple of 16 from 32 to 32768, got 33"),
        ("image_size", 2**40, "image_size must be a multiple of 16"),
        ("image_size", 16, "image_size must be a multiple of 16 from 32"),
        ("image_size", True, "image_size must be .* got True"),
        ("image_size", 64.0, "image_size must be .* got 64.0"),
        ("working_size", -1, "working_size must be a multiple of 1 from 0 to 32768, got -1"),
        ("working_size", "128", "working_size must be .* got '128'"),
        ("threshold", float("nan"), r"threshold must be a number in \[0, 1\], got nan"),
        ("threshold", 1.5, "threshold must be a number"),
        ("threshold", "0.5", "threshold must be a number"),
        ("classes", "ab", "classes must be the names of two classes, got 'ab'"),
        ("classes", ["a", 1], "classes must be the names"),
        ("classes", ["a"], "classes must be the names"),
        ("version", 2, "here: expected version 1, got 2"),
    ],
)
def test_a_hostile_description_is_refused(name, value, message):
    with pytest.raises(InputError, match=message):
        ExportDescription.from_json(json.dumps(GOOD | {name: value}), "here")


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(InputError) as caught:
        ExportDescription.from_json(json.dumps(GOOD | {"size": 1, "image_size": 0, "threshold": []}), "here")
    message = str(caught.value)
    assert message.startswith("here is damaged: ")
    assert all(name in message for name in ("size must", "image_size must", "threshold must"))


def test_a_description_of_several_classes_comes_back_as_it_was():
    stored = GOOD | {"classes": ["a", "b", "c"], "class_colours": ["#000000", "#ff0000", "#00ff00"]}
    description = ExportDescription.from_json(json.dumps(stored), "here")
    assert json.loads(description.to_json()) == stored
    assert description.class_list.names == ("a", "b", "c") and description.kind is CLASSES
    labels = ExportDescription.from_json(json.dumps(stored | {"task": "classification"}), "here")
    assert labels.kind is CLASSIFICATION and json.loads(labels.to_json())["task"] == "classification"
    assert ExportDescription.from_json(json.dumps(GOOD), "here").class_list is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "cooking"}, "task must be one of segmentation, classification, got 'cooking'"),
        ({"task": []}, r"task must be one of .*, got \[\]"),
        ({"class_colours": ["#000000"]}, "classes: 1 colours for 2 classes"),
        ({"class_colours": ["#000000", "red; x"]}, "classes: colours 'red; x', expected #rrggbb"),
        ({"class_colours": [1, 2]}, r"classes and class_colours must be lists of text, got .* and \(1, 2\)"),
        ({"class_colours": "#00000"}, "classes and class_colours must be lists of text"),
        ({"class_colours": ["#000000", "#ff0000"], "classes": ["a", "a"]}, "classes that share a name: a, a"),
        ({"class_colours": ["#000000", "#ff0000"], "classes": ["a", "\x1b[2J"]}, "control characters: a, "),
        ({"classes": ["a", "b", "c"]}, "classes must be the names of two classes"),
    ],
)
def test_hostile_classes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ExportDescription.from_json(json.dumps(GOOD | changes), "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "here is no JSON"),
        ("{", "here is no JSON"),
        ("[" * 100_000, "here is no JSON"),
        ("[1]", "expected the entries version, format, .*; got list"),
        (json.dumps(GOOD | {"model": "/etc/passwd"}), "expected the entries .*; got version, .*, model"),
        (json.dumps({"version": 1}), "expected the entries .*; got version"),
    ],
    ids=["empty", "cut", "deep", "list", "more", "less"],
)
def test_what_is_no_description_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        ExportDescription.from_json(text, "here")


def test_a_long_or_binary_description_is_refused(tmp_path):
    (tmp_path / DESCRIPTION).write_text(json.dumps(GOOD) + " " * 2**16)
    with pytest.raises(
        InputError, match=r"export.json is longer than 65536 characters; expected a few lines"
    ):
        read_description(tmp_path)
    (tmp_path / DESCRIPTION).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"export.json cannot be read: "):
        read_description(tmp_path)


def test_a_description_of_another_model_is_refused(copy_of):
    for kind in KINDS:
        folder = copy_of(kind)
        text = (folder / DESCRIPTION).read_text()
        other = {"dynamic": ("dynamic", "fixed"), "fixed": ('"image_size": 32', '"image_size": 64')}
        (folder / DESCRIPTION).write_text(text.replace(*other[kind.split("-")[1]]))
        with pytest.raises(InputError, match="takes uint8 .* The two belong to different exports"):
            load_exported(folder)


def test_a_damaged_model_is_refused(copy_of):
    for kind in ("savedmodel-fixed", "tflite-fixed", "onnx-fixed"):
        folder = copy_of(kind)
        model = folder / MODEL_NAMES[kind.split("-")[0]]
        content = model / "saved_model.pb" if model.is_dir() else model
        content.write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match=f"{model.name} is damaged or no {kind.split('-')[0]} model"):
            load_exported(folder)


def test_what_is_not_there_is_named(copy_of, tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist; expected the folder of an exported model"):
        load_exported(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no export.json in or beside it; expected what scripts/export"):
        load_exported(tmp_path)
    folder = copy_of("tflite-fixed")
    (folder / "model.tflite").unlink()
    with pytest.raises(InputError, match="model.tflite does not exist, though .*export.json describes it"):
        load_exported(folder)


def test_an_onnx_file_of_others_is_refused(copy_of, tmp_path):
    import onnx

    model = onnx.load(copy_of("onnx-fixed") / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    with pytest.raises(InputError, match="the metadata in .*theirs.onnx is no JSON"):
        load_exported(tmp_path / "theirs.onnx")


def test_a_missing_package_is_named(small_exports, stub):
    stub(exported_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package onnxruntime, .* pip install -e ...export"):
        load_exported(small_exports[1]["onnx-fixed"])
