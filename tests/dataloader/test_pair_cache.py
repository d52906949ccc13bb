"""Caches: the same pixels, never more than the limit, nothing stale, two runs at once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segbalance.commands import clear_cache
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.dataloader import pair_cache
from segbalance.dataloader.pair_cache import (
    DiskCache,
    NoCache,
    PairReader,
    RamCache,
    open_cache,
    remove_cache,
)
from segbalance.errors import InputError
from segbalance.runtime.command_line import DONE
from tests.support.data import draw_pair, write_image
from tests.support.places import ROOT

PAIR = 50 * 60 * 4  # bytes of the pixels of one pair


@pytest.fixture
def paths(tmp_path):
    """Ten (image, mask) paths."""
    found = []
    for number in range(10):
        image, mask = draw_pair(number)
        write_image(tmp_path / f"images/{number}.png", image)
        write_image(tmp_path / f"masks/{number}.png", mask)
        found.append((str(tmp_path / f"images/{number}.png"), str(tmp_path / f"masks/{number}.png")))
    return found


@pytest.fixture(params=["ram", "disk"])
def cache(request, tmp_path):
    yield open_cache(request.param, 0.01, tmp_path / "cache")
    remove_cache(tmp_path / "cache")


def counted(stub):
    """The pairs that are read from their files from now on."""
    read, files = pair_cache.read_pair, []

    def watched(image_path, *more, **options):
        files.append(image_path)
        return read(image_path, *more, **options)

    stub(pair_cache, "read_pair", watched)
    return files


def read_all(reader, paths):
    return [reader.read(*pair, MaskEncoding()) for pair in paths]


def assert_equal(pairs, others):
    for pair, other in zip(pairs, others, strict=True):
        for array, same in zip(pair, other, strict=True):
            np.testing.assert_array_equal(array, same)
            assert array.dtype == same.dtype == np.uint8


def test_the_second_reading_is_the_first_without_the_files(cache, paths, stub):
    plain, files = read_all(PairReader(), paths), counted(stub)
    reader = PairReader(cache)
    assert_equal(read_all(reader, paths), plain)
    assert_equal(read_all(reader, paths), plain)
    assert len(files) == 10


def test_what_is_done_to_a_pair_does_not_reach_the_cache(cache, paths):
    plain, reader = read_all(PairReader(), paths), PairReader(cache)
    for _ in range(3):
        for photo, mask in read_all(reader, paths):
            photo[:], mask[:] = 7, 9
    assert_equal(read_all(reader, paths), plain)


@pytest.mark.parametrize("change", ["image", "mask", "time", "working_size", "encoding"])
def test_nothing_stale_is_handed_out(cache, paths, stub, change):
    PairReader(cache).read(*paths[0], MaskEncoding())
    files, working_size, encoding = counted(stub), 0, MaskEncoding()
    if change == "image":
        write_image(Path(paths[0][0]), draw_pair(99)[0])
    elif change == "mask":
        write_image(Path(paths[0][1]), draw_pair(99)[1])
    elif change == "time":
        os.utime(paths[0][0], (1, 1))
    elif change == "working_size":
        working_size = 30
    else:
        encoding = MaskEncoding("values", ((0, 0), (255, 1)))
    reader = PairReader(cache, working_size)
    pair = reader.read(*paths[0], encoding)
    assert len(files) == 1
    assert_equal([pair], [PairReader(working_size=working_size).read(*paths[0], encoding)])


def test_files_of_the_same_size_and_time_are_told_apart(cache, paths):
    for image_path, mask_path in paths:
        with open(image_path, "ab") as image, open(mask_path, "ab") as mask:  # decoders ignore what follows
            image.write(bytes(60000 - os.path.getsize(image_path)))
            mask.write(bytes(60000 - os.path.getsize(mask_path)))
        os.utime(image_path, (1, 1))
        os.utime(mask_path, (1, 1))
    plain, reader = read_all(PairReader(), paths), PairReader(cache)
    read_all(reader, paths)
    assert_equal(read_all(reader, paths), plain)


def test_two_readers_of_one_process_share_the_file(paths, tmp_path, stub):
    first, second = (PairReader(DiskCache(10**7, tmp_path / "cache")) for _ in range(2))
    plain = read_all(first, paths)
    stub.never(pair_cache, "read_pair")
    assert_equal(read_all(second, paths), plain)
    assert_equal(read_all(first, paths), plain)
    remove_cache(tmp_path / "cache")


def test_memory_stays_within_the_limit(paths, stub):
    cache, files = RamCache(4 * PAIR + 1000), counted(stub)
    for _ in range(3):
        read_all(PairReader(cache), paths)
    assert len(cache) == 4 and 4 * PAIR < cache.used <= cache.limit
    assert len(files) == 10 + 6 + 6, "four pairs are kept, and stay"


def test_the_file_stays_within_the_limit(tmp_path, stub):
    limit = 3_000_000
    cache = DiskCache(limit, tmp_path / "cache")
    photo, mask = np.zeros((200, 300, 3), np.uint8), np.zeros((200, 300), np.uint8)
    for number in range(40):
        cache.put(number, photo + np.uint8(number), mask)
    kept = [number for number in range(40) if cache.get(number) is not None]
    used = sum(file.stat().st_size for file in (tmp_path / "cache").iterdir())
    assert 5 <= len(kept) < 13 and used <= limit
    assert all((cache.get(number)[0] == number).all() for number in kept)
    remove_cache(tmp_path / "cache")


def test_damaged_bytes_are_not_handed_out(tmp_path):
    cache = DiskCache(2_000_000, tmp_path / "cache")
    photo, mask = draw_pair(0)
    cache.put("key", photo, mask)
    stored = bytearray(pair_cache._packed(photo, mask))
    assert_equal([pair_cache._unpacked(bytes(stored))], [(photo, mask)])
    stored[500] ^= 1
    assert pair_cache._unpacked(bytes(stored)) is None
    assert pair_cache._unpacked(bytes(stored[:-1])) is None
    remove_cache(tmp_path / "cache")


PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.dataloader.pair_cache import DiskCache, PairReader
reader = PairReader(DiskCache(10_000_000, {folder!r}))
for _ in range(30):
    for image, mask in {paths!r}:
        photo, ids = reader.read(image, mask, MaskEncoding())
        assert ((photo[..., 0] > 127) == (ids == 1)).all()
"""


def test_two_runs_at_once(paths, tmp_path, stub):
    folder = str(tmp_path / "cache")
    program = PROGRAM.format(root=str(ROOT), folder=folder, paths=paths)
    runs = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in runs] == [0, 0]
    stub.never(pair_cache, "read_pair")  # a later run finds what they kept
    read_all(PairReader(DiskCache(10_000_000, folder)), paths)
    remove_cache(folder)


def test_a_file_that_is_no_cache_is_an_error(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"rubbish" * 10000)
    with pytest.raises(InputError, match="cannot be used: .* Remove it with scripts/clear_cache.py"):
        DiskCache(10**6, tmp_path)


def test_kinds(tmp_path):
    assert isinstance(open_cache("off", 1), NoCache)
    assert open_cache("ram", 0.5).limit == 500_000_000


def test_one_command_removes_it(paths, tmp_path, capsys):
    folder = tmp_path / "cache"
    read_all(PairReader(DiskCache(10**7, folder)), paths)
    (folder / "mine.txt").write_text("not of the cache")
    assert clear_cache.main(["--folder", folder]) == DONE
    assert "MB freed" in capsys.readouterr().out
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]
    assert clear_cache.main(["--folder", folder]) == DONE
    assert "there is no cache" in capsys.readouterr().out
