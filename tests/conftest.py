"""Shared fixtures: small data sets drawn on the fly."""

import gc
import os
import signal

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # tests mean the CPU

import cv2
import pytest
from filelock import FileLock

from tests.support.data import TINY, write_data
from tests.support.places import ROOT
from tests.support.skipped import pytest_sessionfinish  # noqa: F401  # a hook
from tests.support.stubs import Stubs, stubbing

LONGEST = [
    "model/test_architectures.py",
    "balancing/test_any_dataset.py",
    "train/test_fitting.py",
    "train/test_resuming.py",
    "runs/test_classification.py",
    "profiling/test_profile.py",
    "runs/test_leaving.py",
    "dataloader/test_batches.py",
    "model/test_networks.py",
    "commands/test_replay.py",
    "balancing/test_skipping.py",
]


@pytest.fixture
def stub(monkeypatch):
    """Function (place, function), as `monkeypatch.setattr`; by the test's end it must have been called."""
    stubs = Stubs(monkeypatch)
    yield stubs
    stubs.check()


@pytest.fixture
def ctrl_c():
    """SIGINT as at a terminal, here and in programs started here: what runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def data_root(tmp_path):
    """A data folder with train (subsets a: 6, b: 3, c: 1) and valid (2 each)."""
    root = write_data(tmp_path / "data", {"a": 6, "b": 3, "c": 1})
    return write_data(root, {"a": 2, "b": 2, "c": 2}, "valid", first_seed=1)


@pytest.fixture
def manifests(data_root, tmp_path):
    """(data root, folder of its manifests)."""
    from segbalance.commands import prepare

    csv_dir = tmp_path / "csv_file"
    assert prepare.main(["--data_root", data_root, "--csv_dir", csv_dir]) == 0
    return data_root, csv_dir


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Function (name, make) of the folder that `make(folder)` fills in the first worker that wants it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name, make):
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def tables(made_once):
    """Folder of the manifests of a small data set, which no test may change."""

    def make(folder):
        from segbalance.commands import prepare

        root = write_data(folder / "data", {"a": 6, "b": 3, "c": 1})
        write_data(root, {"a": 2, "b": 3}, "valid", first_seed=1)
        assert prepare.main(["--data_root", root, "--csv_dir", folder / "csv_file"]) == 0

    return made_once("tables", make) / "csv_file"


@pytest.fixture(scope="session")
def sample_tables(made_once):
    """Folder of the manifests of a small rendered sample set (subsets 0 to 4), which no test may change."""

    def make(folder):
        from segbalance.commands import prepare
        from segbalance.sample_data.rendering import make_sample_data

        make_sample_data(folder / "data", scale=0.03, image_size=96, progress=False, workers=1)
        options = ["--data_root", folder / "data", "--csv_dir", folder / "csv_file"]
        assert prepare.main(options) == 0

    return made_once("samples", make) / "csv_file"


@pytest.fixture
def labelled_root(tmp_path):
    """A data folder of three classes (cat 12, dog 5, owl 2; 2 of each in valid) in train/<class>/."""
    from tests.support.labelled_data import SIZES, VALID, write_labelled

    root = write_labelled(tmp_path / "data", SIZES)
    return write_labelled(root, VALID, "valid", first=100)


@pytest.fixture
def labelled_manifests(labelled_root, tmp_path):
    """(data root, folder of its manifests)."""
    from segbalance.commands import prepare

    csv_dir = tmp_path / "csv_file"
    options = ["--data_root", labelled_root, "--csv_dir", csv_dir, "--task", "classification"]
    assert prepare.main(options) == 0
    return labelled_root, csv_dir


@pytest.fixture(scope="session")
def finished(tables, made_once):
    """The folder of a finished run on `tables`, which no test may change."""

    def make(folder):
        from segbalance.commands import train

        options = ["--csv_dir", tables, "--work_dir", folder, "--log", "tensorboard"]
        assert train.main([*TINY, *options, "--transforms", '{"c": "strong"}', "--report", "true"]) == 0

    return made_once("finished", make)


@pytest.fixture(scope="session")
def class_tables(made_once):
    """Folder of the manifests of a rendered set of six classes, which no test may change.

    The data lies in `data` beside it. A corner of each mask is ignored.
    """

    def make(folder):
        from segbalance.commands import prepare
        from segbalance.sample_data.rendering import make_sample_data

        root = folder / "data"
        make_sample_data(root, scale=0.001, image_size=64, progress=False, workers=1, mask_format="ids")
        for path in root.glob("*/masks/*/*.png"):
            mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            mask[:12, :20] = 255
            cv2.imwrite(str(path), mask)
        options = ["--data_root", root, "--csv_dir", folder / "csv_file", "--classes", root / "classes.csv"]
        assert prepare.main([*options, "--ignore_index", "255"]) == 0

    return made_once("classes", make) / "csv_file"


@pytest.fixture(scope="session")
def two_layers():
    """Puts a network of two layers in place of segmentation-models', for `finished_classes` too."""
    from segbalance.legacy_keras import tf

    def build(backbone, image_size, *, outputs=1, **options):
        photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8)
        scaled = tf.keras.layers.Rescaling(1 / 255, dtype="float32")(photo)
        hidden = tf.keras.layers.Conv2D(16, 3, padding="same", activation="relu")(scaled)
        logits = tf.keras.layers.Conv2D(outputs, 1)(hidden)
        return tf.keras.Model(
            photo, tf.keras.layers.Activation("softmax" if outputs > 1 else "sigmoid")(logits)
        )

    return build


@pytest.fixture(scope="session")
def finished_classes(class_tables, two_layers, made_once):
    """The folder of a finished run on `class_tables`, with `two_layers`, which no test may change."""

    def make(folder):
        from segbalance.commands import train
        from segbalance.prediction import predictor as prediction

        options = ["--csv_dir", class_tables, "--work_dir", folder, "--report", "true"]
        # So that rare classes are found here and there.
        options += "--loss_weights pixel --loss bce --steps_per_epoch 15 --learning_rate 0.02".split()
        with stubbing() as stub:
            stub("segbalance.model.networks.build_network", two_layers)
            stub(prediction, "build_network", two_layers)
            assert train.main([*TINY, *options]) == 0

    return made_once("finished_classes", make)


@pytest.fixture
def one_convolution(stub):
    """A network of one layer, built and traced at once, for what does not depend on the architecture."""
    from segbalance.legacy_keras import tf

    def build(backbone, image_size, **options):
        photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8)
        scaled = tf.keras.layers.Rescaling(1 / 255, dtype="float32")(photo)
        return tf.keras.Model(
            photo, tf.keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(scaled)
        )

    stub("segbalance.model.networks.build_network", build)


@pytest.fixture(scope="session")
def small_exports(tmp_path_factory):
    """(network of three layers, {format-size: folder of its export}), which no test may change."""
    from segbalance.exporting.exported_model import DESCRIPTION, ExportDescription
    from segbalance.exporting.formats import WRITERS
    from segbalance.legacy_keras import tf
    from segbalance.model.networks import input_scaling

    tf.keras.utils.set_random_seed(0)
    layers, photo = tf.keras.layers, tf.keras.Input((32, 32, 3), dtype=tf.uint8)
    hidden = layers.Conv2D(8, 3, padding="same", activation="relu")(input_scaling("vgg16")(photo))
    logits = layers.Conv2D(1, 1, kernel_initializer=tf.keras.initializers.RandomNormal(0, 0.03))(hidden)
    network = tf.keras.Model(photo, layers.Activation("sigmoid")(logits))
    folders = {}
    for kind in ("savedmodel-dynamic", "savedmodel-fixed", "tflite-fixed", "onnx-dynamic", "onnx-fixed"):
        file_format, size = kind.split("-")
        folders[kind] = tmp_path_factory.mktemp(kind)
        description = ExportDescription(
            file_format, size, "probability", "none", 32, 40, 0.5, ("background", "foreground"), "vgg16"
        )
        WRITERS[file_format](network, description, folders[kind])
        (folders[kind] / DESCRIPTION).write_text(description.to_json())
    return network, folders


def pytest_collection_modifyitems(items):
    """The longest modules come first, so that no worker is left alone with one of them at the end."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_report_header():
    """Names the machine's size, which the timings of a run depend on."""
    return f"{os.cpu_count()} cores"


@pytest.fixture
def full_disk(stub):
    """Function after which every file that is written whole finds the disk full."""
    from segbalance.files import writing as whole_files

    def fill():
        def open_full(path, mode):
            path.touch()
            return open("/dev/full", mode)

        stub(whole_files, "open", open_full, raising=False)

    return fill


@pytest.fixture(scope="module", autouse=True)
def what_is_there_stays():
    """Or each `gc.collect()` of a test would look through all of TensorFlow, which was imported before."""
    gc.collect()
    gc.freeze()
