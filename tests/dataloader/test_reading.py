"""Batches in shared memory: read by threads or processes, the same bytes, the same errors."""

import functools
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from dataclasses import replace

import albumentations as A
import cv2
import numpy as np
import pytest

from segbalance.balancing.draws import Draws
from segbalance.dataloader.pair_cache import DiskCache, PairReader, RamCache, remove_cache
from segbalance.dataloader.reading import BATCHES_AHEAD, BatchReader
from segbalance.dataloader.reading_processes import ALIGNMENT
from segbalance.errors import InputError
from segbalance.transforms.pipelines import train_transform, valid_transform
from tests.support.data import write_data
from tests.support.stubs import stubbing

SIZE = 32
PAIR = 50 * 60 * 4  # bytes of the pixels of one pair
GOOD = 3  # subsets without a fault, which come first
BAD = {
    "went_bad": "images/went_bad/0.png cannot be decoded",
    "other_mask": "is 60x50, its mask 9x9; make the manifests again",
    "wide": "transform 'of subset wide' does not deliver image_size 32: got image (50, 60, 3)",
}  # fmt: skip


@pytest.fixture(scope="module")
def subsets(tmp_path_factory):
    """Subsets a, b and c of ten pairs in all, and one subset for each fault in BAD."""
    from segbalance.dataloader.batches import Subset

    root = write_data(tmp_path_factory.mktemp("reading"), {"a": 6, "b": 3, "c": 1} | dict.fromkeys(BAD, 1))

    def subset(name):
        images = sorted(str(path) for path in (root / "train/images" / name).iterdir())
        masks = [path.replace("images", "masks") for path in images]
        transform = A.Compose([A.NoOp()]) if name == "wide" else train_transform(SIZE)
        return Subset(name, images, masks, transform)

    found = [subset(name) for name in ("a", "b", "c", *BAD)]
    with open(found[3].images[0], "wb") as file:
        file.write(b"rubbish")
    cv2.imwrite(found[4].masks[0], np.zeros((9, 9), np.uint8))
    return found


def new_reader(subsets, cache=None, **options):
    pairs = PairReader(cache) if cache is not None else None
    return BatchReader(subsets, SIZE, Draws([len(subset) for subset in subsets], 0), pairs=pairs, **options)


@pytest.fixture(scope="module")
def threads(subsets):
    return new_reader(subsets)


@pytest.fixture(scope="module")
def processes(subsets):
    """A BatchReader whose two processes have started and read from its next batch on."""
    reader = started(new_reader(subsets, processes=2))
    reader.read(*batch(subsets))
    return reader


def started(reader):
    deadline = time.monotonic() + 60
    while not reader._processes.ready():
        assert time.monotonic() < deadline, "the processes never started"
        time.sleep(0.01)
    return reader


def batch(subsets, first=0, count=24):
    """(draws, plain) of `count` places that go round the good subsets, every fifth of them plain."""
    numbers = np.arange(first, first + count)
    return numbers // GOOD * len(subsets) + numbers % GOOD, numbers % 5 == 0


def assert_same(arrays, others):
    for array, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(array, other)
        assert (array.shape, array.dtype) == (other.shape, other.dtype)


def reads_here(stub):
    """What this process, and no other, reads from now on."""
    read, paths = PairReader.read, []

    def watched(reader, image_path, *more):
        paths.append(image_path)
        return read(reader, image_path, *more)

    stub(PairReader, "read", watched)
    return paths


@pytest.mark.parametrize("count", [1, 2, 7, 24])
def test_processes_read_what_threads_read(subsets, threads, processes, count):
    for first in (0, 24, 48):
        expected = threads.read(*batch(subsets, first, count))
        with stubbing() as stub:
            stub.never(PairReader, "read")  # the processes read, not this one
            arrays = processes.read(*batch(subsets, first, count))
        assert_same(arrays, expected)
        assert arrays[0].shape == (count, SIZE, SIZE, 3) and arrays[1].shape == (count, SIZE, SIZE, 1)
        assert arrays[0].ctypes.data % ALIGNMENT == arrays[1].ctypes.data % ALIGNMENT == 0
    if count == 24:
        assert len({image.tobytes() for image in arrays[0]}) > 10


def test_batches_that_are_held_stay_as_they_are(subsets, threads, processes):
    firsts = range(0, 24 * 8, 24)
    held = [processes.read(*batch(subsets, first)) for first in firsts]
    for first, arrays in zip(firsts, held, strict=True):
        assert_same(arrays, threads.read(*batch(subsets, first)))


def test_batches_that_are_let_go_take_no_new_memory(subsets, processes):
    for first in range(40):
        processes.read(*batch(subsets, first, 10))
    grown = processes._processes._memory.shared._size
    for first in range(40):
        processes.read(*batch(subsets, first, 10))
    assert processes._processes._memory.shared._size == grown


def test_the_dataset_is_the_same_from_processes(subsets, processes, threads):
    from segbalance.dataloader.batches import read_batches
    from segbalance.legacy_keras import tf

    batches = [batch(subsets, first, 8) for first in range(0, 96, 8)]
    draws = tf.data.Dataset.from_tensor_slices(tuple(np.stack(part) for part in zip(*batches, strict=True)))
    for reader in (threads, processes):
        delivered = list(read_batches(draws, reader, 3).as_numpy_iterator())
        assert len(delivered) == 12
        for arrays, own in zip(delivered, batches, strict=True):
            assert_same(arrays, threads.read(*own))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_processes_share_a_cache(kind, subsets, threads, tmp_path, stub):
    cache = RamCache(1_000_000) if kind == "ram" else DiskCache(2_000_000, tmp_path / "cache")

    def kept():
        return len(cache) if kind == "ram" else cache._file.stat()["entries"]

    empty = cache.used if kind == "ram" else 0
    reader = started(new_reader(subsets, cache, processes=2))
    for first in (0, 24, 0):
        assert_same(reader.read(*batch(subsets, first)), threads.read(*batch(subsets, first)))
        assert kept() == 10, "24 places hold each of the ten pairs, and nothing is stored twice"
    if kind == "ram":
        assert cache.used - empty == 10 * PAIR
    stub.never("segbalance.dataloader.pair_cache.read_pair")
    stored = PairReader(cache).read(subsets[0].images[4], subsets[0].masks[4], subsets[0].encoding)
    assert stored[0].shape == (50, 60, 3), "what a process stored is found here"
    remove_cache(tmp_path / "cache")


def test_threads_read_the_first_batch_and_until_the_processes_are_ready(subsets, stub):
    resize = valid_transform(SIZE)  # little to send, so that nothing waits for the process
    own = [replace(subset, transform=resize) for subset in subsets[:GOOD]]
    reader, read_here = new_reader(own, processes=1), reads_here(stub)
    before = started(reader).read(*batch(own))
    assert len(read_here) == 24, "the first batch is read at once"
    assert_same(reader.read(*batch(own)), before)
    assert len(read_here) == 24
    stub(reader._processes, "ready", lambda: False)
    assert_same(reader.read(*batch(own)), before)
    assert len(read_here) == 48


def test_more_readers_ask_for_more_batches_ahead(subsets, processes):
    readers = {count: new_reader(subsets, threads=count) for count in (1, 4, 16, 17)}
    assert [readers[count].batches_ahead(8) for count in (1, 4, 16, 17)] == [BATCHES_AHEAD, 2, 4, 5]
    assert [readers[16].batches_ahead(size) for size in (1, 3, 64)] == [32, 11, BATCHES_AHEAD]
    assert processes.batches_ahead(1) == 4, "two processes, whatever the number of threads"
    for count, reader in readers.items():
        for batch_size in (1, 5, 40):
            assert reader.batches_ahead(batch_size) * batch_size >= 2 * count


def failing(subsets, fault):
    """A batch of six whose fourth place has the fault."""
    draws, plain = batch(subsets, count=6)
    draws[3] = GOOD + list(BAD).index(fault)
    return draws, np.zeros_like(plain)


@pytest.mark.parametrize("fault", BAD)
def test_an_error_in_a_process_is_that_of_a_thread(subsets, threads, processes, fault):
    caught = []
    for reader in (threads, processes):
        with pytest.raises(InputError) as error:
            reader.read(*failing(subsets, fault))
        assert BAD[fault] in str(error.value)
        assert reader.failure is error.value
        caught.append(error.value)
    assert type(caught[0]) is type(caught[1]) and str(caught[0]) == str(caught[1])
    assert_same(processes.read(*batch(subsets)), threads.read(*batch(subsets)))


LOST = r"^a worker process ended before its time.* Try fewer --num_workers, or 0 for threads\.$"


@pytest.mark.parametrize(
    ("moment", "cache"),
    [
        ("while they start", "ram"),
        ("while they wait", "ram"),
        ("while they read", "ram"),
        ("while they read", "disk"),
    ],
)
def test_processes_that_are_killed_change_no_batch(subsets, threads, moment, cache, tmp_path, capfd):
    kept = RamCache(1_000_000) if cache == "ram" else DiskCache(2_000_000, tmp_path / "cache")
    others = set(multiprocessing.active_children())
    reader = new_reader(subsets, kept, processes=2)
    assert not reader.ready(), "they start with the question"
    processes = set(multiprocessing.active_children()) - others
    assert len(processes) == 2
    if moment != "while they start":
        started(reader)
    kills = [
        threading.Timer(0.05 if moment == "while they read" else 0, kill) for kill in map(killer, processes)
    ]
    for kill in kills:
        kill.start()
        if moment != "while they read":
            kill.join()
    first = 0
    while first < 240 or any(map(threading.Thread.is_alive, kills)):
        assert_same(reader.read(*batch(subsets, first)), threads.read(*batch(subsets, first)))
        first += 24
    started(reader)  # and once more, with both of the new ones
    assert_same(reader.read(*batch(subsets, first)), threads.read(*batch(subsets, first)))
    assert capfd.readouterr().out.count("was killed, perhaps because memory ran out; a new one") == 2
    remove_cache(tmp_path / "cache")


def killer(process):
    """A function that returns when the process has ended; nobody but its crew asks how."""
    return lambda: (process.kill(), multiprocessing.connection.wait([process.sentinel]))


def test_processes_that_cannot_live_are_an_error_with_the_way_out(subsets, stub):
    stub("segbalance.dataloader.reading_processes.own_file_again", lambda: functools.partial(os._exit, 1))
    reader = new_reader(subsets, processes=2)
    for _ in range(2):
        with pytest.raises(InputError, match=LOST) as error:
            for first in range(0, 24 * 1000, 24):  # minutes
                reader.read(*batch(subsets, first))
                reader.wait_until_ready()
        if reader.failure:
            assert str(reader.failure) == str(error.value)
