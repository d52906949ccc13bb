"""Files that go bad: training stops with the row's name, or goes on without them and says so."""

import gc
import itertools
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import pytest

from segbalance.balancing.draws import Draws
from segbalance.balancing.ledger import epoch_rows, read_ledger, read_skipped
from segbalance.balancing.skipping import BadFiles, BadPair, SkippedDraw
from segbalance.commands import replay as replay_sample
from segbalance.commands import train
from segbalance.data_processing.manifest import read_manifest
from segbalance.dataloader.batches import training_batches, training_dataset, validation_dataset
from segbalance.dataloader.pair_cache import PairReader, RamCache
from segbalance.dataloader.reading import BatchReader
from segbalance.dataloader.samples import Paths, Sample
from segbalance.errors import InputError
from segbalance.files.images import read_image
from segbalance.legacy_keras import tf
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.runtime.workers import WorkerCrew
from segbalance.train import callbacks
from segbalance.train import inputs as run_data
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config
from segbalance.train.folder import LAST
from segbalance.transforms.pipelines import train_transform, valid_transform
from tests.dataloader.test_batches import plan
from tests.support.data import TINY, draw_pair, write_image
from tests.support.stubs import stubbing

SIZE = 32


def bad_pair(number, subset="a"):
    line = number + 2
    return BadPair(subset, f"{number}.png", f"{number}_mask.png", f"train{subset}.csv", line, f"why {number}")


def test_the_first_bad_file_stops_with_the_name_of_its_row():
    with pytest.raises(InputError, match=r"^subset a, traina\.csv line 3: why 1\nPut the files back"):
        BadFiles().meet(bad_pair(1))
    with pytest.raises(InputError, match=r"^image x\.png: gone\n"):
        BadFiles().meet(BadPair("", "x.png", "y.png", "", 0, "gone"))


def test_each_image_is_warned_of_once_and_one_too_many_stops_with_them_all(capsys):
    bad_files = BadFiles("skip", most=12)
    for number in [*range(12), *range(12)]:
        bad_files.meet(bad_pair(number))
    printed = capsys.readouterr().out
    assert printed.count("warning: ") == 12 and printed.count("why 3;") == 1
    assert "\nwarning: subset a, traina.csv line 5: why 3; others of the subset take" in printed
    assert "(4 of at most 12 such images)" in printed
    for _ in range(2):
        with pytest.raises(InputError) as error:
            bad_files.meet(bad_pair(12))
        first, *lines, advice = str(error.value).splitlines()
        assert first == "images that cannot be read any more: 13, more than --max_bad_files 12"
        assert set(lines) == {f"  subset a, traina.csv line {n + 2}: why {n}" for n in range(13)}
        assert advice.endswith("or allow more --max_bad_files.")
    bad_files.meet(bad_pair(5))
    with pytest.raises(
        InputError, match="^images that cannot be read any more: 1, more than --max_bad_files 0"
    ):
        BadFiles("skip", most=0).meet(bad_pair(1))


def test_the_record_survives_as_plain_data():
    bad_files = BadFiles("skip")
    for step, draw in ((7, 11), (2, 3)):
        bad_files.meet(bad_pair(draw))
        bad_files.record(SkippedDraw(step, 1, draw, draw, draw + 2, *bad_pair(draw)))
    bad_files.meet(bad_pair(99))
    bad_files.record(bad_files.skip(11)._replace(replaced_by=20, reason="another"))
    other = BadFiles("skip", most=2)
    other.restore(json.loads(json.dumps(bad_files.state())))
    assert other.skips() == bad_files.skips() and [skip.step for skip in other.skips()] == [2, 7]
    assert (other.position(3, 3), other.position(11, 11), other.position(4, 4)) == (5, 20, 4)
    assert other.skip(11).reason == "why 11" and other.skip(4) is None
    other.meet(bad_pair(3))
    with pytest.raises(InputError, match="^images that cannot be read any more: 3, more"):
        other.meet(bad_pair(99))
    again = BadFiles()
    again.replay(bad_files.skips())
    assert again.skips() == bad_files.skips()
    assert [pair[1] for pair in again.state()["found"]] == ["3.png", "11.png"]


@pytest.fixture
def subsets(manifests):
    """Subsets a, b and c with the tutorial's transform, the rows' lines and sizes."""
    manifest = read_manifest(manifests[1])
    return run_data.loader_subsets(manifest, manifest.train, dict.fromkeys("abc", train_transform(SIZE)))


def write_pair(image, mask, pixels):
    write_image(image, pixels[0])
    write_image(mask, pixels[1])


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


FAULTS = {
    "deleted": (lambda image, mask: image.unlink(), r"images/a/2\.png: No such file or directory"),
    "mask deleted": (lambda image, mask: mask.unlink(), r"masks/a/2\.png: No such file or directory"),
    "truncated": (lambda image, mask: truncate(image), r"images/a/2\.png cannot be decoded"),
    "mask truncated": (lambda image, mask: truncate(mask), r"masks/a/2\.png cannot be decoded"),
    "emptied": (lambda image, mask: image.write_bytes(b""), r"images/a/2\.png cannot be decoded"),
    "replaced by a folder": (
        lambda image, mask: (image.unlink(), image.mkdir()),
        r"images/a/2\.png: Is a directory",
    ),
    "replaced by a larger pair": (
        lambda image, mask: write_pair(image, mask, draw_pair(9, 90, 80)),
        r"images/a/2\.png is 80x90, but 60x50 in its row; it was replaced since the manifests were made",
    ),
    "mask replaced": (
        lambda image, mask: write_image(mask, np.zeros((9, 9), np.uint8)),
        r"images/a/2\.png is 60x50, its mask 9x9; make the manifests again",
    ),
    "a header beyond all bounds": (
        lambda image, mask: image.write_bytes(b"P6 99999999 99999999 255 " + bytes(99)),
        r"images/a/2\.png",
    ),
}  # fmt: skip


def spoil(subsets, subset, *rows, fault="deleted"):
    """Does FAULTS[fault] to rows of a subset."""
    for row in rows:
        FAULTS[fault][0](Path(subsets[subset].images[row]), Path(subsets[subset].masks[row]))


def new_reader(subsets, bad_files=None, **options):
    draws = Draws([len(subset) for subset in subsets], 0)
    return BatchReader(subsets, SIZE, draws, bad_files=bad_files, **options)


def batch(first, count=12):
    """(draws, plain) of a batch over three subsets, every fifth place plain."""
    draws = np.arange(first, first + count)
    return draws, draws % 5 == 0


def expected_batch(reader, draws, plain, bad):
    """The batch by the rule: the next row of the subset that is not among `bad` {(subset, row)}, own seed."""
    found = []
    for draw, own_plain in zip(draws.tolist(), plain.tolist(), strict=True):
        subset, position = draw % 3, draw // 3
        later = next(q for q in itertools.count(position) if (subset, reader.draws.row(subset, q)) not in bad)
        row, pairs = reader.draws.row(subset, later), reader.subsets[subset]
        seed = reader.draws.sample_seed(subset, position)
        sample = Sample(subset, pairs.images[row], pairs.masks[row], seed, own_plain)
        found.append(reader.samples.read(sample))
    images, masks = zip(*found, strict=True)
    return np.stack(images), np.stack(masks)[..., None], (draws % 3).astype(np.int32)


def assert_same(arrays, others):
    for array, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("cache", [False, True], ids=["", "cached"])
def test_a_bad_file_stops_or_is_replaced_by_the_next_of_its_subset(subsets, manifests, fault, cache, capsys):
    pairs = PairReader(RamCache(10**6)) if cache else None
    filled = new_reader(subsets, pairs=pairs)
    for first in range(0, 60, 12):
        filled.read(*batch(first))
    spoil(subsets, 0, 2, fault=fault)
    row = rf"^subset a, {manifests[1]}/traina\.csv line 4: .*{FAULTS[fault][1]}[^\n]*\nPut the files back"
    stopping = new_reader(subsets, pairs=pairs)
    with pytest.raises(InputError, match=row) as error:
        for first in range(0, 60, 12):
            stopping.read(*batch(first))
    assert stopping.failure is error.value and "--on_bad_file skip" in str(error.value)

    skipping = new_reader(subsets, BadFiles("skip"), pairs=pairs)
    for step, first in enumerate(range(0, 120, 12)):
        assert_same(skipping.read(*batch(first), step), expected_batch(skipping, *batch(first), {(0, 2)}))
    skips = skipping.bad_files.skips()
    positions = [p for p in range(40) if skipping.draws.row(0, p) == 2]
    assert [skip.position for skip in skips] == positions and len(positions) > 4
    for skip in skips:
        assert (skip.step, skip.item) == divmod(skip.draw, 12) and skip.draw == 3 * skip.position
        later = range(skip.position, skip.position + 7)
        assert skip.replaced_by == next(p for p in later if skipping.draws.row(0, p) != 2)
        assert (skip.subset, skip.image, skip.line) == ("a", "train/images/a/2.png", 4)
    assert capsys.readouterr().out.count("warning: ") == 1


def ready(reader):
    """The reader, its processes started and at work from its next batch on."""
    deadline = time.monotonic() + 60
    while not reader.ready():
        assert time.monotonic() < deadline, "the processes never started"
        time.sleep(0.01)
    return reader


def test_batches_with_skips_depend_on_neither_threads_nor_processes(subsets):
    spoil(subsets, 0, 1, 4, fault="truncated")
    spoil(subsets, 1, 0, fault="mask replaced")
    bad, records = {(0, 1), (0, 4), (1, 0)}, []
    for options in ({"threads": 1}, {"threads": 4}, {"processes": 2}):
        reader = ready(new_reader(subsets, BadFiles("skip"), **options))
        for step, first in enumerate(range(0, 96, 12)):
            assert_same(reader.read(*batch(first), step), expected_batch(reader, *batch(first), bad))
        records.append(reader.bad_files.skips())
        assert any(skip.replaced_by > skip.position + 1 for skip in records[-1]), "two bad ones in a row"
    assert records[0] == records[1] == records[2] and len(records[0]) > 10


def test_an_error_that_is_not_of_the_files_is_never_skipped(subsets, stub):
    wide = [replace(subset, transform=A.Compose([A.NoOp()])) for subset in subsets]
    spoil(wide, 0, 1)
    reader = new_reader(wide, BadFiles("skip"))
    with pytest.raises(InputError, match="^transform 'of subset [abc]' does not deliver image_size 32"):
        reader.read(*batch(0))
    assert not reader.bad_files.skips()

    def fail(self, image_path, *_):
        raise ZeroDivisionError("a mistake in the code")

    reader = new_reader(subsets, BadFiles("skip"))
    stub(PairReader, "read", fail)
    with pytest.raises(ZeroDivisionError):
        reader.read(*batch(0))


def test_a_record_is_replayed_whatever_has_become_of_the_files(subsets, manifests, tmp_path, stub):
    fresh = [new_reader(subsets).read(*batch(first)) for first in range(0, 60, 12)]
    shutil.copytree(manifests[0], tmp_path / "whole")
    spoil(subsets, 0, 1, 2)
    first_run = new_reader(subsets, BadFiles("skip"))
    batches = [first_run.read(*batch(first), first // 12) for first in range(0, 60, 12)]
    assert any((one[0] != other[0]).any() for one, other in zip(fresh, batches, strict=True))

    shutil.copytree(tmp_path / "whole", manifests[0], dirs_exist_ok=True)
    read, paths = PairReader.read, []
    stub(PairReader, "read", lambda *pair: (paths.append(pair[1]), read(*pair))[1])
    for way in ("stop", "skip"):
        replayed = BadFiles(way)
        replayed.restore(json.loads(json.dumps(first_run.bad_files.state())))
        reader = new_reader(subsets, replayed)
        for first, arrays in zip(range(0, 60, 12), batches, strict=True):
            assert_same(reader.read(*batch(first), first // 12), arrays)
        assert replayed.skips() == first_run.bad_files.skips()
    assert len(paths) == 2 * 60 and not any(path.endswith(("a/1.png", "a/2.png")) for path in paths)


def test_what_took_the_place_may_go_bad_too(subsets):
    spoil(subsets, 0, 1)
    first_run = new_reader(subsets, BadFiles("skip"))
    for first in range(0, 60, 12):
        first_run.read(*batch(first), first // 12)
    skip = first_run.bad_files.skips()[0]
    other = first_run.draws.row(0, skip.replaced_by)
    spoil(subsets, 0, other)
    bad_files = BadFiles("skip")
    bad_files.replay(first_run.bad_files.skips())
    reader = new_reader(subsets, bad_files)
    for first in range(0, 60, 12):
        arrays = reader.read(*batch(first), first // 12)
        assert_same(arrays, expected_batch(reader, *batch(first), {(0, 1), (0, other)}))
    now = bad_files.skip(skip.draw)
    assert now.replaced_by > skip.replaced_by and now.image == skip.image == "train/images/a/1.png"
    stopping = BadFiles()
    stopping.replay(first_run.bad_files.skips())
    with pytest.raises(InputError, match=rf"subset a, .*traina\.csv line {other + 2}: "):
        for first in range(0, 60, 12):
            new_reader(subsets, stopping).read(*batch(first))


def test_a_subset_of_which_nothing_is_left_stops_the_training(subsets):
    spoil(subsets, 2, 0)
    message = r"^no image of subset c can be read any more:\n  subset c, .*trainc\.csv line 2: "
    with pytest.raises(InputError, match=message):
        new_reader(subsets, BadFiles("skip")).read(*batch(0))
    spoil(subsets, 0, *range(6))
    with pytest.raises(InputError, match="^no image of subset a can be read any more:") as error:
        new_reader(subsets, BadFiles("skip")).read(*batch(0))
    assert str(error.value).count("\n  subset a, ") == 6
    message = "^images that cannot be read any more: 4, more than --max_bad_files 3\n"
    with pytest.raises(InputError, match=message) as error:
        new_reader(subsets, BadFiles("skip", most=3)).read(*batch(0))
    assert str(error.value).count("\n  subset a, ") == 4


def test_pairs_without_a_manifest_may_have_any_size(subsets):
    bare = [replace(subset, sizes=None, csv_file="", lines=()) for subset in subsets]
    spoil(bare, 0, 2, fault="replaced by a larger pair")
    new_reader(bare).read(*batch(0, 60))
    spoil(bare, 0, 2)
    with pytest.raises(InputError, match=r"^subset a, image train/images/a/2\.png: .*: No such file"):
        new_reader(bare).read(*batch(0, 60))
    unknown = [replace(subset, sizes=np.zeros((len(subset), 2), np.int32)) for subset in subsets]
    spoil(unknown, 1, 0, fault="replaced by a larger pair")
    assert unknown[1].sizes.sum() == 0 and new_reader(unknown[1:2]).read(np.arange(3), np.zeros(3, bool))


def test_sizes_are_those_of_the_rows(manifests):
    table = read_manifest(manifests[1]).train["a"]
    np.testing.assert_array_equal(run_data.photo_sizes(table), [[60, 50]] * 6)
    table = table.astype({"width": float, "height": float})
    table.loc[1, "width"], table.loc[2, "height"] = np.nan, np.inf
    assert run_data.photo_sizes(table)[1:3].tolist() == [[0, 50], [60, 2**31 - 1]]
    assert run_data.photo_sizes(table).dtype == np.int32


def test_the_ledger_counts_what_was_delivered(manifests, subsets):
    """Every photo is painted in a colour of its own; two are deleted while the batches are handed out."""
    resize = A.Compose([A.Resize(SIZE, SIZE, interpolation=0)])
    subsets = [replace(subset, transform=resize) for subset in subsets]
    for subset in subsets:
        for number, path in enumerate(subset.images):
            assert cv2.imwrite(path, np.full((50, 60, 3), 20 * number, np.uint8))
    balance = plan([6, 3, 1])
    options = {"image_size": SIZE, "batch_size": 8, "steps_per_epoch": 10, "seed": 0}
    dataset, _, stream = training_dataset(subsets, balance, bad_files=BadFiles("skip"), **options)
    iterator = dataset.as_numpy_iterator()
    batches = list(itertools.islice(iterator, 5))
    spoil(subsets, 0, 0, 3)
    batches += itertools.islice(iterator, 35)
    del iterator
    gc.collect()
    skips, draws = stream.bad_files.skips(), list(itertools.islice(stream.steps(), 40))
    assert all(skip.draw == draws[skip.step][0][skip.item] for skip in skips if skip.step < 40)
    for epoch in range(4):
        rows, seen = epoch_rows(epoch, balance, stream), {}
        for images, _, numbers in batches[10 * epoch : 10 * epoch + 10]:
            for image, subset in zip(images, numbers, strict=True):
                seen.setdefault(int(subset), []).append(int(image[0, 0, 0]) // 20)
        for subset, row in enumerate(rows):
            times = np.bincount(seen[subset])
            assert (row["draws"], row["images"]) == (times.sum(), np.count_nonzero(times))
            assert row["max_repeats"] == times.max()
        drawn = np.concatenate([own for own, _ in draws[10 * epoch : 10 * epoch + 10]])
        positions = [int(draw) // 3 for draw in drawn if draw % 3 == 0]
        bad = sum(stream.draws.row(0, position) in (0, 3) for position in positions)
        assert [row["skipped"] for row in rows[1:]] == [0, 0]
        assert rows[0]["skipped"] <= bad
        if epoch:  # they were deleted within the first
            assert rows[0]["skipped"] == bad > 0 and rows[0]["images"] == 4


def run(csv_dir, work_dir, *more):
    return train.main([*TINY, "--csv_dir", csv_dir, "--work_dir", work_dir, *more])


def spoil_at_epoch(stub, epoch, change):
    """Calls `change` as the epoch, counted from 0, of a training begins."""
    begin = callbacks.StopAtNaN.on_epoch_begin

    def on_epoch_begin(self, number, logs=None):
        begin(self, number, logs)
        if number == epoch:
            change()

    stub(callbacks.StopAtNaN, "on_epoch_begin", on_epoch_begin)


@pytest.mark.slow
def test_training_stops_at_a_file_that_was_deleted_meanwhile(
    one_convolution, manifests, tmp_path, stub, capsys
):
    root, csv_dir = manifests
    spoil_at_epoch(stub, 1, lambda: (root / "train/images/c/0.png").unlink())
    assert run(csv_dir, tmp_path / "run", "--epochs", 9) == WRONG_INPUT
    error = capsys.readouterr().err
    place = f"subset c, {csv_dir}/trainc.csv line 2: {root}/train/images/c/0.png: No such file or directory"
    assert f"error: training stopped: {place}\n" in error
    assert "\nPut the files back as they were when" in error and "Traceback" not in error
    assert 1 <= len(pd.read_csv(tmp_path / "run/history.csv")) < 9 and (tmp_path / "run" / LAST).exists()
    assert not (tmp_path / "run/skipped.csv").exists()


def test_training_goes_on_without_a_file_that_was_deleted_meanwhile(
    one_convolution, manifests, tmp_path, stub, capsys
):
    root, csv_dir = manifests
    folder = tmp_path / "run"
    spoil_at_epoch(stub, 1, lambda: (root / "train/images/b/1.png").unlink())
    assert run(csv_dir, folder, "--epochs", 9, "--on_bad_file", "skip") == DONE
    printed = capsys.readouterr().out
    assert printed.count("warning: subset b") == 1
    assert f"{csv_dir}/trainb.csv line 3: {root}/train/images/b/1.png: No such" in printed
    skips, ledger = read_skipped(folder), read_ledger(folder)
    table = pd.read_csv(folder / "skipped.csv", dtype={"subset": str})
    assert list(table) == ["epoch", *SkippedDraw._fields] and len(table) == len(skips) > 2
    assert table["step"].is_monotonic_increasing and table["step"].between(3, 26).all()
    assert (table["epoch"] == table["step"] // 3 + 1).all()
    assert set(table["image"]) == {"train/images/b/1.png"} and set(table["line"]) == {3}
    counted = table.groupby("epoch").size().reindex(range(1, 10), fill_value=0)
    assert ledger.loc[ledger["subset"] == "b", "skipped"].tolist() == counted.tolist()
    assert ledger.loc[ledger["subset"] != "b", "skipped"].sum() == 0
    assert ledger.groupby("epoch")["draws"].sum().tolist() == [12] * 9

    skip = skips[-1]
    place = ["--work_dir", folder, "--step", skip.step, "--item", skip.item, "--json", folder / "replay.json"]
    assert replay_sample.main(place) == DONE
    printed, report = capsys.readouterr().out, json.loads((folder / "replay.json").read_text())
    assert f"instead of   {csv_dir}/trainb.csv line 3, which could not be read: {root}/train" in printed
    assert (report["position"], report["skipped"]["replaced_by"]) == (skip.position, skip.replaced_by)
    assert report["csv_line"] in (2, 4) and report["csv_row"].startswith("train/images/b/")


def weights(path):
    import h5py

    arrays = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return arrays


@pytest.mark.slow
def test_a_replaced_sample_drawn_again_is_what_training_saw(one_convolution, manifests, tmp_path):
    """Bit for bit, also after the file was put back; and threads and processes end with the same weights."""
    root, csv_dir = manifests
    image = root / "train/images/a/3.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:300])
    folder = tmp_path / "threads"
    assert run(csv_dir, folder, "--on_bad_file", "skip") == DONE
    with stubbing() as stub:
        started = WorkerCrew.ready

        def wait(crew):  # or this short run would be over before the processes have started
            while not started(crew):
                time.sleep(0.01)
            return True

        stub(WorkerCrew, "ready", wait)
        assert run(csv_dir, tmp_path / "processes", "--on_bad_file", "skip", "--num_workers", 2) == DONE
    for one, other in zip(weights(folder / LAST), weights(tmp_path / "processes" / LAST), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (folder / "skipped.csv").read_text() == (tmp_path / "processes/skipped.csv").read_text()
    assert (folder / "ledger.csv").read_text() == (tmp_path / "processes/ledger.csv").read_text()

    config, manifest = load_config(folder), read_manifest(csv_dir)
    reader, stream = run_data.training_parts(config, manifest, *run_data.checked_plan(config, manifest))
    reader.bad_files.replay(read_skipped(folder))
    image.write_bytes(whole)
    batches = list(itertools.islice(training_batches(reader, stream).as_numpy_iterator(), 6))
    gc.collect()
    for skip in read_skipped(folder):
        place = ["--work_dir", folder, "--step", skip.step, "--item", skip.item]
        assert replay_sample.main(place) == DONE
        picture = read_image(folder / f"replay/step{skip.step}_item{skip.item}_image.png")
        np.testing.assert_array_equal(picture, batches[skip.step][0][skip.item])


@pytest.mark.slow
def test_one_image_too_many_stops_the_training(one_convolution, manifests, tmp_path, capsys):
    root, csv_dir = manifests
    for name in ("a/0", "a/1", "a/2", "b/0"):
        (root / f"train/masks/{name}.png").write_bytes(b"rubbish")
    options = ["--on_bad_file", "skip", "--epochs", "9", "--max_bad_files"]
    assert run(csv_dir, tmp_path / "run", *options, "3") == WRONG_INPUT
    error = capsys.readouterr().err
    assert "training stopped: images that cannot be read any more: 4, more than --max_bad_files 3\n" in error
    for file, line in (("traina", 2), ("traina", 3), ("traina", 4), ("trainb", 2)):
        assert f"{csv_dir}/{file}.csv line {line}: {root}/train/masks/" in error
    assert {skip.subset for skip in read_skipped(tmp_path / "run")} <= {"a", "b"}
    assert len(read_skipped(tmp_path / "run")) >= 1, "what was skipped before the end is on record"
    assert run(csv_dir, tmp_path / "more", *options, "4") == DONE


def test_validation_is_never_done_without_a_file(one_convolution, manifests, tmp_path, stub, capsys):
    root, csv_dir = manifests
    spoil_at_epoch(stub, 1, lambda: (root / "valid/masks/b/1.png").unlink())
    assert run(csv_dir, tmp_path / "run", "--on_bad_file", "skip") == WRONG_INPUT
    error = capsys.readouterr().err
    assert f"stopped: subset b, {csv_dir}/valid.csv line 5: {root}/valid/masks/b/1.png: No such" in error
    assert "though never in place of those of valid.csv" in error
    assert len(pd.read_csv(tmp_path / "run/history.csv")) == 1


def test_lines_of_validation_rows_are_those_of_the_file(manifests):
    csv_dir = manifests[1]
    header, *rows = (csv_dir / "valid.csv").read_text().splitlines()
    (csv_dir / "valid.csv").write_text("\n".join([header, "", *reversed(rows), ""]))
    manifest = read_manifest(csv_dir)
    held_out = run_data.valid_tables(manifest)
    own = run_data.loader_subsets(manifest, held_out, dict.fromkeys(held_out, valid_transform(SIZE)))
    text = (csv_dir / "valid.csv").read_text().splitlines()
    for subset in own:
        assert isinstance(subset.images, Paths) and subset.csv_file == csv_dir / "valid.csv"
        for name, line in zip(subset.images.names, subset.lines, strict=True):
            assert text[line - 1].startswith(name + ",")
    spoil(own, 1, 0)
    dataset, reader = validation_dataset(own, image_size=SIZE, batch_size=2)
    with pytest.raises(tf.errors.OpError):
        list(dataset.as_numpy_iterator())
    gc.collect()
    assert f"valid.csv line {own[1].lines[0]}: " in str(reader.failure)


def test_a_file_that_is_missing_from_the_start_is_refused_all_the_same(manifests, tmp_path, capsys):
    root, csv_dir = manifests
    (root / "train/images/a/1.png").unlink()
    assert run(csv_dir, tmp_path / "run", "--on_bad_file", "skip") == WRONG_INPUT
    assert "traina.csv line 3: images is 'train/images/a/1.png', but" in capsys.readouterr().err
    assert len(read_manifest(csv_dir, missing_train=True).train["a"]) == 6
    (root / "valid/images/a/1.png").unlink()
    with pytest.raises(InputError, match=r"valid\.csv line 3: images is"):
        read_manifest(csv_dir, missing_train=True)


def test_the_defaults_are_to_stop_and_ten():
    assert (TrainConfig().loading.on_bad_file, TrainConfig().loading.max_bad_files) == ("stop", 10)
    with pytest.raises(InputError, match="max_bad_files must not be negative, got -1"):
        TrainConfig.of(max_bad_files=-1)


@pytest.mark.parametrize("content", ["", "epoch,step\n1,2\n", "\x00\xff", '"'])
def test_a_damaged_record_is_an_error(tmp_path, content):
    assert read_skipped(tmp_path) == []
    (tmp_path / "skipped.csv").write_bytes(content.encode("latin-1"))
    if not content:
        assert read_skipped(tmp_path) == []
        return
    with pytest.raises(InputError, match=r"skipped\.csv cannot be read as a record of skipped .*step, item"):
        read_skipped(tmp_path)
