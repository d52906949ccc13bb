"""Classification from the loader to the scores: balanced batches of labels, training, resuming, scripts."""

import gc
import hashlib
import itertools
import json
import re
import shlex

import cv2
import numpy as np
import pandas as pd
import pytest

from segbalance.balancing.draws import Draws
from segbalance.balancing.ledger import read_ledger
from segbalance.balancing.plan import balance_plan, subset_weights
from segbalance.balancing.skipping import BadFiles
from segbalance.commands import contact_sheet, doctor, predict, prepare, train
from segbalance.commands import export as export_model
from segbalance.commands import preview as preview_balance
from segbalance.commands import profile as profile_loader
from segbalance.commands import replay as replay_sample
from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.manifest import read_manifest
from segbalance.dataloader.batches import training_dataset, validation_dataset
from segbalance.dataloader.loaders import load_data_path, sample_from_datasets, tf_dataset
from segbalance.dataloader.pair_cache import DiskCache, PairReader, RamCache
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import Subset
from segbalance.errors import InputError
from segbalance.exporting import export as exporting
from segbalance.exporting.export import CARD
from segbalance.exporting.exported_model import ExportDescription, ExportedModel
from segbalance.files import images as image_files
from segbalance.legacy_keras import tf
from segbalance.runtime.command_line import DONE, FAILED, WRONG_INPUT
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config
from segbalance.train.folder import BEST, LAST
from segbalance.train.inputs import checked_plan, loader_subsets, resolved, valid_tables
from segbalance.train.options import BalanceOptions
from segbalance.transforms.pipelines import build_transform, fast_train_transform, valid_transform
from segbalance.transforms.quiet_albumentations import A
from tests.support.data import write_image
from tests.support.labelled_data import CLASS_COLOURS, SIZES, VALID, draw_labelled
from tests.support.stubs import stubbing

SIZE = 32
TINY = (
    "--image_size 32 --batch_size 6 --epochs 2 --steps_per_epoch 3 --backbone vgg16 "
    "--encoder_weights none --report false"
).split()
COLUMNS = ["val_balanced_accuracy", "val_accuracy", "val_f1", "val_precision", "val_recall"]


@pytest.fixture(scope="session")
def labelled_tables(tmp_path_factory):
    """Folder of the manifests of three classes, which no test may change."""
    from tests.support.labelled_data import write_labelled

    folder = tmp_path_factory.mktemp("labelled")
    root = write_labelled(folder / "data", SIZES)
    write_labelled(root, VALID, "valid", first=100)
    options = ["--data_root", root, "--csv_dir", folder / "csv_file", "--task", "classification"]
    assert prepare.main(options) == DONE
    return folder / "csv_file"


@pytest.fixture(scope="session")
def classified(labelled_tables, tmp_path_factory):
    """The folder of a finished run on `labelled_tables`, which no test may change."""
    folder = tmp_path_factory.mktemp("runs") / "classified"
    assert run(labelled_tables, folder) == DONE
    return folder


@pytest.fixture
def one_layer(stub):
    """A network of one dense layer, for what does not depend on the encoder."""

    def build(backbone, image_size, outputs, **options):
        photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8)
        scaled = tf.keras.layers.Rescaling(1 / 255, dtype="float32")(photo)
        pooled = tf.keras.layers.GlobalAveragePooling2D(keepdims=True)(scaled)
        return tf.keras.Model(photo, tf.keras.layers.Dense(outputs, "softmax")(pooled))

    stub("segbalance.model.networks.build_network", build)


def run(csv_dir, work_dir, *more):
    return train.main([*TINY, "--csv_dir", csv_dir, "--work_dir", work_dir, *more])


def subsets_of(csv_dir, transform=None):
    manifest = read_manifest(csv_dir)
    transform = transform or build_transform("train", SIZE, with_mask=False)
    return loader_subsets(manifest, manifest.train, dict.fromkeys(manifest.train, transform))


def plan_of(sizes=None, balance="uniform", batch_size=12, **options):
    return balance_plan(sizes or SIZES, BalanceOptions(balance, **options), batch_size)


def training(subsets, plan=None, **options):
    """(dataset, reader, stream) of batches of 12 images."""
    defaults = {"image_size": SIZE, "batch_size": 12, "steps_per_epoch": 4, "seed": 0}
    return training_dataset(subsets, plan or plan_of(), **defaults | options)


def take(dataset, count):
    """The first `count` batches as NumPy arrays; the iterator is gone afterwards."""
    iterator = dataset.as_numpy_iterator()
    batches = list(itertools.islice(iterator, count))
    del iterator
    gc.collect()
    return batches


def fingerprint(batches):
    digest = hashlib.sha256()
    for array in itertools.chain(*batches):
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()


def colours_of(images):
    """The class whose colour each image (B, S, S, 3) has."""
    known = np.array(list(CLASS_COLOURS.values()))[: len(SIZES)]
    middle = images[:, 12:, 12:].mean((1, 2))
    return np.linalg.norm(middle[:, None] - known, axis=-1).argmin(-1)


# The loader


def test_a_batch_is_images_class_ids_and_subsets(labelled_tables):
    """Images are only resized here: the colour of each tells its class."""
    for images, labels, numbers in take(training(subsets_of(labelled_tables, valid_transform(SIZE)))[0], 6):
        assert (images.shape, images.dtype) == ((12, SIZE, SIZE, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((12, 1, 1, 1), np.uint8)
        assert (numbers.shape, numbers.dtype) == ((12,), np.int32)
        np.testing.assert_array_equal(labels[:, 0, 0, 0], numbers)
        np.testing.assert_array_equal(colours_of(images), numbers)


def test_no_mask_is_sought(labelled_tables, stub):
    stub.never("segbalance.dataloader.pair_cache.read_pair")
    stub.never("segbalance.data_processing.mask_encoding.MaskEncoding.read")
    assert take(training(subsets_of(labelled_tables))[0], 2)


def test_batches_depend_neither_on_threads_nor_on_the_cache(labelled_tables, tmp_path):
    own = subsets_of(labelled_tables)
    expected = fingerprint(take(training(own, threads=1)[0], 6))
    assert fingerprint(take(training(own, threads=4)[0], 6)) == expected
    for cache in (DiskCache(10**7, tmp_path / "cache"), RamCache(20_000)):
        assert fingerprint(take(training(own, pairs=PairReader(cache))[0], 6)) == expected
    assert fingerprint(take(training(own, seed=1)[0], 6)) != expected


@pytest.mark.slow
def test_worker_processes_make_the_same_batches(labelled_tables):
    own = subsets_of(labelled_tables)
    dataset, reader, _ = training(own, processes=2)
    reader.read(np.arange(3), np.zeros(3, bool))
    reader.wait_until_ready()  # from here on, they read
    assert fingerprint(take(dataset, 6)) == fingerprint(take(training(own)[0], 6))


def test_batches_start_at_any_step(labelled_tables):
    own = subsets_of(labelled_tables)
    whole, late = take(training(own)[0], 9), take(training(own, first_step=6)[0], 3)
    assert fingerprint(whole[6:]) == fingerprint(late)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_photo_is_cached_without_a_mask_and_whatever_its_label(kind, labelled_tables, tmp_path, stub):
    photo = draw_labelled("cat", 1)
    cache = RamCache(10**6) if kind == "ram" else DiskCache(10**7, tmp_path / "cache")
    write_image(tmp_path / "photo.png", photo)
    pairs = PairReader(cache)
    for names in (("cat", "dog"), ("dog", "cat")):
        image, label = pairs.read(tmp_path / "photo.png", "cat", LabelEncoding(names), (48, 40))
        np.testing.assert_array_equal(image, photo)
        assert label.tolist() == [[names.index("cat")]]
        stub.never("segbalance.dataloader.pair_cache.read_photo")  # from here on, the cache has it
    if kind == "ram":
        table = cache.limit // 4096 * 32
        assert cache.used - table == photo.nbytes, "three bytes a pixel"


def test_transforms_get_the_image_alone(labelled_tables):
    seen = []

    class Spy(A.Compose):
        def __call__(self, **data):
            seen.append(sorted(data))
            return super().__call__(**data)

    reader = BatchReader(subsets_of(labelled_tables, Spy([A.Resize(SIZE, SIZE)])), SIZE, Draws([12, 5, 2], 0))
    reader.read(np.arange(6), np.zeros(6, bool))
    assert seen == [["image"]] * 6


def test_the_fast_pipeline_makes_the_images_that_it_makes_with_masks(labelled_tables):
    transform = fast_train_transform(SIZE)
    labelled = BatchReader(subsets_of(labelled_tables, transform), SIZE, Draws([12, 5, 2], 0))
    masked = [
        Subset(own.name, own.images, own.images, transform) for own in subsets_of(labelled_tables)
    ]  # any image will do as a mask
    reader = BatchReader(masked, SIZE, Draws([12, 5, 2], 0))
    draws, plain = np.arange(24), np.zeros(24, bool)
    np.testing.assert_array_equal(labelled.read(draws, plain)[0], reader.read(draws, plain)[0])


def test_a_pipeline_is_tried_with_the_image_alone():
    assert build_transform("train", SIZE, with_mask=False)
    config = TrainConfig.of(transforms={"default": f"{__name__}:needs_mask"}, image_size=SIZE)
    build_transform(config.data.transforms["default"], SIZE)
    with pytest.raises(InputError, match="needs_mask' failed on a trial image"):
        build_transform(config.data.transforms["default"], SIZE, with_mask=False)


def needs_mask(image_size):
    """A pipeline that is of no use without masks."""
    return A.Compose([A.CropNonEmptyMaskIfExists(8, 8), A.Resize(image_size, image_size)])


def test_an_image_that_goes_bad_is_skipped_or_stops(labelled_manifests):
    root, csv_dir = labelled_manifests
    own = subsets_of(csv_dir)
    (root / "train/dog/1.png").write_bytes(b"rubbish")
    dataset, reader, _ = training(own)
    with pytest.raises(tf.errors.OpError):
        take(dataset, 10)
    assert "subset dog, " in str(reader.failure) and "traindog.csv line 3: " in str(reader.failure)
    dataset, reader, _ = training(own, bad_files=BadFiles("skip"))
    batches = take(dataset, 8)
    np.testing.assert_array_equal(np.concatenate([labels.ravel() for _, labels, _ in batches]),
                                  np.concatenate([numbers for _, _, numbers in batches]))  # fmt: skip
    skips = reader.bad_files.skips()
    assert skips and {(skip.subset, skip.image, skip.mask) for skip in skips} == {
        ("dog", "train/dog/1.png", "dog")
    }


def test_a_photo_that_was_replaced_is_named(labelled_manifests):
    root, csv_dir = labelled_manifests
    write_image(root / "train/owl/0.png", draw_labelled("owl", 0, 20, 20))
    dataset, reader, _ = training(subsets_of(csv_dir))
    with pytest.raises(tf.errors.OpError):
        take(dataset, 10)
    assert "is 20x20, but 48x40 in its row" in str(reader.failure)


def test_validation_gives_every_image_once_in_order(labelled_tables):
    manifest = read_manifest(labelled_tables)
    tables = valid_tables(manifest)
    subsets = loader_subsets(manifest, tables, dict.fromkeys(tables, valid_transform(SIZE)))
    batches = take(validation_dataset(subsets, image_size=SIZE, batch_size=4)[0], 10)
    assert [batch[1].shape for batch in batches] == [(4, 1, 1, 1), (2, 1, 1, 1)]
    labels = np.concatenate([batch[1].ravel() for batch in batches])
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(colours_of(np.concatenate([batch[0] for batch in batches])), labels)


def test_the_tutorials_recipe_with_labels(labelled_manifests):
    root, csv_dir = labelled_manifests
    loaders = []
    for name in SIZES:
        images, labels = load_data_path(root, csv_dir / f"train{name}.csv")
        assert len(images) == SIZES[name] and set(labels) == {name}
        encoding = LabelEncoding(tuple(SIZES))
        loaders.append(tf_dataset((images, labels), image_size=SIZE, encoding=encoding))
    batches = take(sample_from_datasets(loaders).batch(10), 30)
    labels = np.concatenate([labels.ravel() for _, labels in batches])
    np.testing.assert_array_equal(colours_of(np.concatenate([images for images, _ in batches])), labels)
    # Of 300 draws with share 1/3, the share's standard deviation is sqrt(1/3 * 2/3 / 300).
    assert np.abs(np.bincount(labels, minlength=3) / 300 - 1 / 3).max() < 4 * (2 / 9 / 300) ** 0.5


# What each way of balancing promises, counted in the labels that the batches hold


STRATEGIES = [
    {"balance": "uniform"},
    {"balance": "none"},
    {"balance": "power", "balance_alpha": 0.5},
    {"balance": "shares", "shares": {"owl": 0.5, "default": 1}},
    {"balance": "oversample"},
    {"balance": "exact"},
    {"balance": "loss"},
    {"balance": "pixel"},
]


def labels_of(subsets, options, steps, **more):
    """int (steps, 12): the class ids of so many batches of a run."""
    dataset = training(subsets, plan_of(**options), **more)[0]
    return np.stack([labels.ravel() for _, labels, _ in take(dataset, steps)])


@pytest.mark.parametrize("options", STRATEGIES, ids=lambda options: options["balance"])
def test_every_strategy_keeps_its_shares_of_the_classes(options, labelled_tables):
    """40 batches, first and second half apart: no class runs dry, though the owls have two images."""
    shares = plan_of(**options).shares
    labels = labels_of(subsets_of(labelled_tables, valid_transform(SIZE)), options, 40)
    for half in (labels[:20], labels[20:]):
        sigma = (shares * (1 - shares) / half.size) ** 0.5
        assert (np.abs(np.bincount(half.ravel(), minlength=3) / half.size - shares) <= 4 * sigma).all()


def test_shares_are_those_of_the_images_or_of_the_options():
    sizes = np.array(list(SIZES.values()))
    expected = {
        "uniform": np.ones(3),
        "none": sizes,
        "power": sizes**0.5,
        "shares": np.array([1, 1, 0.5]),
        "oversample": np.ones(3),
        "exact": np.ones(3),
        "loss": sizes,
        "pixel": sizes,
    }
    for options in STRATEGIES:
        weights = expected[options["balance"]]
        np.testing.assert_allclose(plan_of(**options).shares, weights / weights.sum())


def test_exact_has_the_same_number_of_each_class_in_every_batch(labelled_tables):
    labels = labels_of(subsets_of(labelled_tables), {"balance": "exact"}, 12)
    assert all(np.bincount(batch).tolist() == [4, 4, 4] for batch in labels)


def test_oversample_repeats_every_class_up_to_the_largest_in_every_pass(labelled_tables):
    """Of the three batches of a pass; an image comes as often as another of its class, or once more."""
    subsets = subsets_of(labelled_tables, valid_transform(SIZE))
    dataset = training(subsets, plan_of(balance="oversample"))[0]
    for first in range(2):
        batches = take(dataset, 3 * first + 3)[3 * first :]
        images, labels = (np.concatenate([batch[part] for batch in batches]) for part in (0, 1))
        assert np.bincount(labels.ravel()).tolist() == [12, 12, 12]
        for label, size in enumerate(SIZES.values()):
            own = images[labels.ravel() == label]
            _, times = np.unique([image.tobytes() for image in own], return_counts=True)
            assert len(times) == size and times.max() - times.min() <= 1


def test_with_copies_an_images_first_draw_in_an_epoch_is_only_resized(labelled_tables):
    white = A.Compose([A.Resize(SIZE, SIZE), A.Lambda(image=turn_white)])
    dataset, _, stream = training(subsets_of(labelled_tables, white), plan_of(augment="copies"))
    plain = np.stack([plain for _, plain in itertools.islice(stream.steps(), 8)])
    augmented = np.stack([(images == 255).all((1, 2, 3)) for images, _, _ in take(dataset, 8)])
    np.testing.assert_array_equal(augmented, ~plain)
    # Of the two owls, two draws an epoch are their first; of 16 expected ones the others are copies.
    assert 0.2 < plain.mean() < 0.5


def turn_white(image, **_):
    return np.full_like(image, 255)


def test_loss_weights_are_scikit_learns_class_weights():
    from sklearn.utils.class_weight import compute_class_weight

    own = plan_of(balance="loss")
    labels = np.repeat(np.arange(3), list(SIZES.values()))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    # Scaled to mean 1 over the images as drawn, which they have by definition.
    np.testing.assert_allclose(own.loss_weights, expected)
    np.testing.assert_allclose(expected @ own.shares, 1)
    np.testing.assert_allclose(subset_weights(own.sizes, own.shares), own.loss_weights)


# Training


def test_a_run_leaves_its_scores(classified):
    history = pd.read_csv(classified / "history.csv")
    own = [f"val_{score}_{name}" for name in SIZES for score in ("recall", "f1")]
    assert list(history) == ["epoch", "loss", "val_loss", *COLUMNS, *own, "learning_rate", "seconds"]
    assert np.isfinite(history.to_numpy()).all()
    assert history.filter(like="val_").drop(columns="val_loss").stack().between(0, 1).all()
    recalls = history[[f"val_recall_{name}" for name in SIZES]].mean(axis=1)
    np.testing.assert_allclose(history["val_balanced_accuracy"], recalls)
    metrics = json.loads((classified / "metrics.json").read_text())
    best = history.loc[history["val_balanced_accuracy"].idxmax()]
    assert metrics["epoch"] == best["epoch"]
    assert metrics["balanced_accuracy"] == pytest.approx(best["val_balanced_accuracy"])
    assert [(row["subset"], row["images"], row["valid"]) for row in metrics["subsets"]] == [
        (name, SIZES[name], VALID[name]) for name in SIZES
    ]
    config = load_config(classified)
    assert (config.data.task, config.filled_in.classes, config.optimisation.loss) == (
        "classification",
        list(SIZES),
        "bce",
    )
    assert read_ledger(classified)["subset"].tolist() == [*SIZES, *SIZES]


def test_the_scores_are_those_of_the_predictions(classified, labelled_tables, tmp_path, capsys):
    """Balanced accuracy by scikit-learn, from what scripts/predict.py says of the validation images."""
    from sklearn.metrics import balanced_accuracy_score, f1_score

    manifest = read_manifest(labelled_tables)
    words = ["--work_dir", classified, "--images", manifest.data_root / "valid", "--output", tmp_path / "out"]
    assert predict.main(words) == DONE
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    chances = [f"probability_{name}" for name in SIZES]
    assert list(table) == ["image", "label", "probability", *chances]
    np.testing.assert_allclose(table[chances].sum(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(table["probability"], table[chances].max(axis=1), rtol=1e-5)
    assert (table[chances].idxmax(axis=1) == "probability_" + table["label"]).all()
    true = [path.split("/")[-2] for path in table["image"]]
    metrics = json.loads((classified / "metrics.json").read_text())
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, table["label"]))
    f1 = f1_score(true, table["label"], average=None, labels=list(SIZES), zero_division=0)
    assert [row["f1"] for row in metrics["subsets"]] == pytest.approx(f1.tolist())
    printed = capsys.readouterr().out
    assert f"wrote {tmp_path / 'out'}: predictions.csv" in printed


def test_the_best_weights_give_the_networks_shape(classified):
    from segbalance.prediction.predictor import load_network

    network = load_network(classified)
    answer = network(np.zeros((2, 32, 32, 3), np.uint8)).numpy()
    assert answer.shape == (2, 1, 1, 3) and answer.dtype == np.float32


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(one_layer, labelled_tables, tmp_path, monkeypatch):
    from segbalance.train.checkpointer import Checkpointer

    assert run(labelled_tables, tmp_path / "whole") == DONE
    save = Checkpointer.save

    def stop_after(self):
        save(self)
        if self.step == 4:
            raise KeyboardInterrupt

    with stubbing() as stub:
        stub(Checkpointer, "save", stop_after)
        assert run(labelled_tables, tmp_path / "run", "--save_every", "2") == 130
    assert train.main(["--resume", tmp_path / "run"]) == DONE
    for name in (BEST, LAST):
        first, again = (weights(tmp_path / folder / name) for folder in ("whole", "run"))
        assert all((a == b).all() for a, b in zip(first, again, strict=True))


def weights(path):
    import h5py

    arrays = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return arrays


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_labels(one_layer, labelled_manifests, tmp_path, capsys):
    _, csv_dir = labelled_manifests
    assert run(csv_dir, tmp_path / "run") == DONE
    (csv_dir / "trainowl.csv").write_text("images\ntrain/owl/0.png\n")
    assert train.main(["--resume", tmp_path / "run", "--epochs", "3"]) == WRONG_INPUT
    assert "trainowl.csv: 2 rows in the run, 1 now" in capsys.readouterr().err


BALANCED = [
    "--balance uniform --augment copies",
    "--balance none",
    "--balance power --balance_alpha 0.3",
    """--balance shares --shares '{"cat": 0, "dog": 0.4, "default": 1}'""",
    "--balance oversample --oversample_only owl --oversample_limit 4",
    "--balance exact",
    "--balance loss",
    "--balance pixel",
    "--balance uniform --loss_weights subset --loss 0.5*dice+focal",
]


@pytest.mark.parametrize(
    "options",
    [pytest.param(options, marks=[pytest.mark.slow] * (place > 0)) for place, options in enumerate(BALANCED)],
)
def test_every_way_of_balancing_trains(options, one_layer, labelled_tables, tmp_path, capsys):
    assert run(labelled_tables, tmp_path / "run", *shlex.split(options)) == DONE
    ledger = read_ledger(tmp_path / "run")
    assert ledger.groupby("epoch")["draws"].sum().tolist() == [18, 18]
    history = pd.read_csv(tmp_path / "run/history.csv")
    assert np.isfinite(history.to_numpy()).all() and (history["loss"] > 0).all()
    if "exact" in options:
        assert (ledger["draws"] == 6).all()
    if '"cat": 0' in options:
        assert ledger.loc[ledger["subset"] == "cat", "draws"].tolist() == [0, 0]


@pytest.mark.slow
def test_the_colours_of_the_classes_are_learnt(one_layer, labelled_tables, tmp_path):
    words = "--epochs 4 --steps_per_epoch 20 --learning_rate 0.5 --transforms".split()
    assert run(labelled_tables, tmp_path / "run", *words, '{"default": "valid"}') == DONE
    assert json.loads((tmp_path / "run/metrics.json").read_text())["balanced_accuracy"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--task segmentation", "task segmentation, but the manifests in"),
        ("--architecture fpn", "architecture and decoder_filters work only for segmentation"),
        ("--decoder_filters 16 8 8 4 4", "architecture and decoder_filters work only for segmentation"),
        ("--balance exact --batch_size 2", "one image of each of the 3 subsets"),
    ],
)
def test_wrong_options_leave_nothing(words, message, labelled_tables, tmp_path, capsys):
    assert run(labelled_tables, tmp_path / "run", *words.split()) == WRONG_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_segmentation_manifests_are_not_for_classification(tables, tmp_path, capsys):
    assert run(tables, tmp_path / "run", "--task", "classification") == WRONG_INPUT
    message = capsys.readouterr().err
    assert "task classification, but the manifests in" in message and "are for segmentation" in message


# The scripts


def test_predict_names_what_it_cannot_read_and_refuses_what_is_for_masks(classified, tmp_path, capsys):
    write_image(tmp_path / "photos/a.png", draw_labelled("cat", 1))
    (tmp_path / "photos/b.png").write_bytes(b"rubbish")
    words = ["--work_dir", classified, "--images", tmp_path / "photos", "--output", tmp_path / "out"]
    assert predict.main([*words, "--tile", "--smooth"]) == WRONG_INPUT
    assert f"smooth, tile: for masks, but {classified} classifies whole photos" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert predict.main([*words, "--tta"]) == FAILED
    assert "photos that could not be read: 1 of 2" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == 1
    assert pd.read_csv(tmp_path / "out/failed.csv")["image"].tolist() == [str(tmp_path / "photos/b.png")]
    assert predict.main(words) == WRONG_INPUT
    assert "outputs that already exist: 2" in capsys.readouterr().err


def test_the_preview_shows_the_classes(labelled_tables, tmp_path, capsys):
    words = ["--csv_dir", labelled_tables, "--output", tmp_path / "balance.png", "--batch_size", 6]
    assert preview_balance.main([*words, "--json", tmp_path / "balance.json"]) == DONE
    rows = json.loads((tmp_path / "balance.json").read_text())["strategies"]
    assert [row["subset"] for row in rows[:3]] == list(SIZES)
    assert "subset owl has run dry" in capsys.readouterr().out


def test_a_sample_is_drawn_again(classified, labelled_tables, tmp_path, capsys):
    words = ["--work_dir", classified, "--step", 4, "--item", 2, "--output", tmp_path]
    assert replay_sample.main([*words, "--json", tmp_path / "sample.json"]) == DONE
    names = ["sample.json", "step4_item2_comparison.png", "step4_item2_image.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    image = cv2.imread(str(tmp_path / "step4_item2_image.png"), cv2.IMREAD_COLOR_RGB)
    config, manifest = load_config(classified), read_manifest(labelled_tables)
    plan, transforms = checked_plan(resolved(config, manifest, classified), manifest)
    subsets = loader_subsets(manifest, manifest.train, transforms)
    options = {"image_size": 32, "batch_size": 6, "steps_per_epoch": 3, "seed": 0}
    dataset = training_dataset(subsets, plan, **options, pairs=PairReader(None, config.loading.working_size))[
        0
    ]
    images, labels, _ = take(dataset, 5)[4]
    np.testing.assert_array_equal(image, images[2])
    report = json.loads((tmp_path / "sample.json").read_text())
    assert report["subset"] == list(SIZES)[int(labels[2, 0, 0, 0])]
    assert f",{report['subset']},{report['subset']},48,40" in report["csv_row"]
    assert "CSV row" in capsys.readouterr().out


@pytest.mark.slow
def test_the_loader_is_profiled_without_masks(labelled_tables, tmp_path, capsys):
    words = [*TINY, "--csv_dir", labelled_tables, "--no_model", "--seconds", "0.2"]
    assert profile_loader.main([*words, "--json", tmp_path / "profile.json"]) == DONE
    stages = {row["stage"] for row in json.loads((tmp_path / "profile.json").read_text())["stages"]}
    assert {"read", "decode image", "Resize"} <= stages and "decode mask" not in stages


def test_the_contact_sheet_refuses_with_the_way_out(classified, capsys):
    before = sorted(classified.rglob("*"))
    assert contact_sheet.main(["--work_dir", classified]) == WRONG_INPUT
    message = capsys.readouterr().err
    assert f"is for runs that predict masks, but --work_dir {classified} classifies whole images. " in message
    assert sorted(classified.rglob("*")) == before


def card_answer(folder, photo, monkeypatch, capsys):
    """What the Python of a card prints of `photo`, run beside the model as a reader would."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / CARD).read_text(), re.S)
    write_image(folder / "photo.png", photo)
    (folder / "photo.png").rename(folder / "photo.jpg")  # OpenCV looks at the content
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(compile(code, CARD, "exec"), {})
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("file_format", "options", "bar"),
    [
        ("savedmodel", [], 1e-4),
        pytest.param("savedmodel", ["--size", "fixed", "--output_type", "mask"], 0, marks=pytest.mark.slow),
        pytest.param("onnx", [], 1e-4, marks=pytest.mark.slow),
        pytest.param("onnx", ["--size", "fixed"], 1e-4, marks=pytest.mark.slow),
        pytest.param("tflite", ["--quantize", "float16"], 1e-2, marks=pytest.mark.slow),
        pytest.param("tflite", ["--quantize", "int8"], 0.1, marks=pytest.mark.slow),
    ],
)
def test_an_export_finds_the_classes_of_its_run(
    file_format, options, bar, classified, labelled_tables, tmp_path, monkeypatch, capsys
):
    export = tmp_path / "export"
    words = ["--work_dir", classified, "--format", file_format, "--output", export, *options]
    assert export_model.main(words) == DONE
    printed, check = capsys.readouterr().out, json.loads((export / "check.json").read_text())
    metrics = json.loads((classified / "metrics.json").read_text())
    assert check["images"] == 6 and [row["subset"] for row in check["subsets"]] == list(SIZES)
    assert check["balanced_accuracy_keras"] == pytest.approx(metrics["balanced_accuracy"])
    recalls = [row["recall"] for row in metrics["subsets"]]
    assert [row["balanced_accuracy_keras"] for row in check["subsets"]] == pytest.approx(recalls)
    assert (check["largest_difference"] or 0) <= bar and "labels that differ: 0.000%\n" in printed
    card = (export / CARD).read_text()
    assert card.startswith("# Classification model, vgg16 with a pooling head\n")
    assert "| subset | training images | validation images | recall | F1 |" in card
    assert "| owl | 2 | 2 |" in card and "balanced accuracy, network" in card and "no validation" not in card

    photos = sorted((read_manifest(labelled_tables).data_root / "valid").rglob("*.png"))
    sources = {"run": ["--work_dir", classified], "export": ["--model", export]}
    for name, source in sources.items():
        assert predict.main([*source, "--images", *photos, "--output", tmp_path / name]) == DONE
    run, own = (pd.read_csv(tmp_path / name / "predictions.csv") for name in sources)
    columns = ["image", "label"] if "mask" in options else list(run)
    assert own["label"].tolist() == run["label"].tolist() and list(own) == columns
    found = own["label"][own["image"] == str(photos[0])].item()
    assert (
        card_answer(export, image_files.decode_colour(photos[0].read_bytes()), monkeypatch, capsys) == found
    )


def test_an_export_that_finds_other_classes_is_refused(classified, tmp_path, stub, capsys):
    load = exporting.load_exported

    def one_further(folder):
        export = load(folder)
        return ExportedModel(export.description, lambda photos: np.roll(export(photos), 1, axis=-1))

    stub(exporting, "load_exported", one_further)
    words = ["--work_dir", classified, "--format", "savedmodel", "--output", tmp_path / "export"]
    assert export_model.main(words) == WRONG_INPUT
    message = capsys.readouterr().err
    assert "labels differing 1, expected at most 0.167" in message and "largest difference" in message
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    ("output_type", "task", "option", "message"),
    [
        ("probability", "classification", "--overlay", "overlay: for masks, but {} classifies whole photos"),
        (
            "mask",
            "segmentation",
            "--threshold=0.9",
            "threshold: for probabilities, but {} was exported with",
        ),
        (
            "mask",
            "segmentation",
            "--probabilities=8",
            "probabilities: for probabilities, but {} was exported",
        ),
    ],
)
def test_predict_refuses_what_an_export_has_no_use_for(output_type, task, option, message, tmp_path, capsys):
    names = ("cat", "dog")
    colours = ("#000000", "#ffffff") if task == "classification" else ()
    description = ExportDescription(
        "onnx", "fixed", output_type, "none", 32, 0, 0.5, names, "vgg16", colours, task
    )
    (tmp_path / "export.json").write_text(description.to_json())
    (tmp_path / "model.onnx").write_bytes(b"")
    words = ["--model", tmp_path, "--images", tmp_path, "--output", tmp_path / "out", option]
    assert predict.main(words) == WRONG_INPUT
    assert message.format(tmp_path) in capsys.readouterr().err


def test_the_doctor_refuses_with_the_way_out(labelled_manifests, capsys):
    root, csv_dir = labelled_manifests
    words = ["--data_root", root, "--only", "data"]
    assert doctor.main([*words, "--csv_dir", csv_dir]) == WRONG_INPUT
    assert "data_processing.py --task classification checks every image." in capsys.readouterr().err
    assert doctor.main(words) == WRONG_INPUT
    assert "data_processing.py --task classification." in capsys.readouterr().out
