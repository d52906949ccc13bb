"""The table of pairs in memory: within its limit, nothing lost or mixed up, whoever writes."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from segbalance.dataloader import ram_cache
from segbalance.dataloader.ram_cache import BYTES_A_PLACE, FULLEST, RamCache
from segbalance.runtime.workers import WorkerCrew

BYTES_OF_A_ROW = 32  # of the table


def pair(number, height=9, width=13):
    """A pair that only this number has."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 256, (height, width), np.uint8)


def holds(cache, key, expected):
    found = cache.get(key)
    return found is not None and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(found, expected, strict=True)
    )


def test_the_limit_covers_pixels_and_table():
    cache = RamCache(300_000)
    table = 300_000 // BYTES_A_PLACE * BYTES_OF_A_ROW
    assert cache.used == table, "the table counts before there is a pair"
    rng, sizes = np.random.default_rng(0), {}
    for number in range(300):
        height, width = rng.integers(1, 90, 2).tolist()
        before = cache.used
        cache.put(number, *pair(number, height, width))
        assert cache.used <= 300_000
        if cache.used > before:
            sizes[number] = (height, width)
    assert len(cache) == len(sizes) > 10
    assert cache.used == table + sum(4 * height * width for height, width in sizes.values())
    assert 300_000 - cache.used < 4 * 30 * 30, "a pair that fits is kept after one that does not"
    for number in range(300):
        if number in sizes:
            assert holds(cache, number, pair(number, *sizes[number]))
        else:
            assert cache.get(number) is None


@pytest.mark.parametrize(("spare", "kept"), [(0, 1), (-1, 0)])
def test_the_limit_is_exact_to_the_byte(spare, kept):
    # 47152 = 11 places of 32 bytes + a pair of 4 * 90 * 130, and 47152 // 4096 is 11.
    cache = RamCache(47152 + spare)
    cache.put("key", *pair(0, 90, 130))
    assert len(cache) == kept and cache.used == 11 * BYTES_OF_A_ROW + kept * 46800


def test_a_full_table_keeps_what_it_has_and_takes_no_more():
    places = 40
    cache, most = RamCache(places * BYTES_A_PLACE), int(FULLEST * places)
    for number in range(100):
        cache.put(number, *pair(number, 1, 1))
    assert len(cache) == most
    assert all(holds(cache, number, pair(number, 1, 1)) for number in range(most))
    assert all(cache.get(number) is None for number in range(most, 100))
    assert cache.used == places * BYTES_OF_A_ROW + 4 * most


@pytest.mark.parametrize("first", [1, 23, 24, 2**64 - 1])
def test_keys_that_fall_on_one_place_are_told_apart(first, stub):
    """24 places: they start in the midst, at the last, past it, and at the largest word."""
    stub(ram_cache, "_digest", lambda key: [first, key])
    cache = RamCache(24 * BYTES_A_PLACE)
    for number in range(12):
        assert cache.get(number) is None
        cache.put(number, *pair(number))
        cache.put(number, *pair(99))
    assert len(cache) == 12
    assert all(holds(cache, number, pair(number)) for number in range(12))
    assert cache.get(12) is None


@pytest.mark.parametrize("limit", [0, 1, BYTES_A_PLACE - 1, 0.9])
def test_a_limit_without_room_keeps_nothing(limit):
    cache = RamCache(limit)
    cache.put("key", *pair(0, 1, 1))
    assert cache.get("key") is None
    assert (len(cache), cache.used) == (0, 0)


def test_a_pair_that_is_too_large_takes_no_room():
    cache = RamCache(10 * BYTES_A_PLACE)
    before = cache.used
    cache.put("large", *pair(0, 200, 200))
    assert (cache.get("large"), len(cache), cache.used) == (None, 0, before)
    cache.put("small", *pair(1))
    assert holds(cache, "small", pair(1))


def test_what_is_returned_is_the_callers_own():
    cache, (photo, mask) = RamCache(100_000), pair(0)
    cache.put("key", photo, mask)
    photo[:], mask[:] = 0, 0
    assert holds(cache, "key", pair(0)), "what was put in may be changed"
    first = cache.get("key")
    for array in first:
        array[:] = 7
    assert holds(cache, "key", pair(0)), "and what came out"
    assert all((array == 7).all() for array in first)


class Watched(np.ndarray):
    """A photo that calls `watch` as it is copied."""

    def ravel(self, *order):
        self.watch()
        return super().ravel(*order)


def test_a_pair_that_is_being_stored_is_a_miss():
    cache, seen = RamCache(100_000), []
    photo, mask = pair(0)
    watched = photo.view(Watched)

    def watch():
        seen.append((len(cache), cache.get("key")))
        cache.put("key", *pair(1))  # as another process would
        cache.put("other", *pair(2))

    watched.watch = watch
    cache.put("key", watched, mask)
    assert seen == [(1, None)], "its place is taken, and nobody sees half a pair"
    assert holds(cache, "key", (photo, mask)) and holds(cache, "other", pair(2))
    assert len(cache) == 2


def test_a_pair_that_was_never_finished_stays_a_miss():
    cache = RamCache(100_000)
    photo, mask = pair(0)
    broken = photo.view(Watched)
    broken.watch = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cache.put("key", broken, mask)
    assert cache.get("key") is None
    cache.put("key", photo, mask)
    cache.put("other", *pair(2))
    assert cache.get("key") is None and holds(cache, "other", pair(2))


def die_storing(cache, key):
    """Runs in a process that is killed as it copies a photo's pixels."""
    photo, mask = pair(key)
    watched = photo.view(Watched)
    watched.watch = lambda: os.kill(os.getpid(), signal.SIGKILL)
    cache.put(key, watched, mask)
    return cache.get(key) is None


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_a_process_that_is_killed_while_it_stores_leaves_a_miss_and_no_lock():
    cache = RamCache(100_000)
    crew = WorkerCrew(1, die_storing, cache)
    while not crew.ready():
        time.sleep(0.01)
    assert crew.call(1), "the process that took its place reads the pair from its files"
    cache.put(2, *pair(2))
    assert cache.get(1) is None and holds(cache, 2, pair(2)) and len(cache) == 2


def store(cache, numbers):
    """Runs in two processes at once; returns what it found wrong."""
    wrong = []
    for number in numbers:
        found = cache.get(number)
        if found is not None and not holds(cache, number, pair(number)):
            wrong.append(number)
        cache.put(number, *pair(number))
    return wrong


def test_two_processes_that_write_at_once_keep_each_pair_once_and_whole():
    cache, count = RamCache(10_000_000), 1500
    table = cache.used
    crew, found = WorkerCrew(2, store, cache), {}
    while not crew.ready():
        time.sleep(0.01)

    def run(name, work, *arguments):
        found[name] = work(*arguments)

    threads = [
        threading.Thread(target=run, args=("first", crew.call, range(count))),
        threading.Thread(target=run, args=("second", crew.call, range(count))),
        threading.Thread(target=run, args=("own", store, cache, range(count - 1, -1, -1))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {"first": [], "second": [], "own": []}
    assert len(cache) == count
    assert cache.used - table == count * 4 * 9 * 13
    assert all(holds(cache, number, pair(number)) for number in range(count))
