"""Arrays of a batch in shared memory: aligned, apart, and used again once nobody holds them."""

import gc

import numpy as np
import pytest

from segbalance.dataloader.reading_processes import ALIGNMENT, BatchMemory, batch_arrays, batch_bytes

SIZE = 32


@pytest.mark.parametrize("start", [0, 1, 17, 63])
@pytest.mark.parametrize(("count", "size"), [(1, 1), (3, 5), (4, 32), (7, 9)])
def test_arrays_of_a_batch_are_aligned_and_apart_from_any_address_on(start, count, size):
    memory = np.zeros(batch_bytes(count, size) + ALIGNMENT + start, np.uint8)[start:]
    images, masks = batch_arrays(memory, count, size)
    assert images.shape == (count, size, size, 3) and masks.shape == (count, size, size, 1)
    assert images.ctypes.data % ALIGNMENT == masks.ctypes.data % ALIGNMENT == 0
    images[:], masks[:] = 1, 2
    assert (images == 1).all() and (masks == 2).all()
    assert np.bincount(memory, minlength=3)[1:].tolist() == [images.size, masks.size]


def test_arrays_of_a_batch_need_no_more_than_their_bytes():
    aligned = np.zeros(4096, np.uint8)  # mapped or not, some place in it is aligned
    aligned = aligned[-aligned.ctypes.data % ALIGNMENT :]
    for count, size in ((1, 1), (3, 5), (2, 16)):
        _, masks = batch_arrays(aligned[: batch_bytes(count, size)], count, size)
        assert masks.shape == (count, size, size, 1)
        assert batch_bytes(count, size) < 4 * count * size**2 + ALIGNMENT


def test_memory_that_somebody_holds_is_not_handed_out():
    memory = BatchMemory()
    held = [memory.take(5000) for _ in range(4)]
    for number, (_, array) in enumerate(held):
        array[:] = number
    assert len({offset for offset, _ in held}) == 4
    assert all((array == number).all() and len(array) == 5000 for number, (_, array) in enumerate(held))


def test_memory_that_nobody_holds_is_used_again():
    memory = BatchMemory()
    (first, array), (second, other) = memory.take(5000), memory.take(5000)
    del array
    assert memory.take(5000)[0] == first
    del other
    assert {memory.take(5000)[0] for _ in range(10)} <= {first, second}, "a loop takes no more each time"


def test_a_view_keeps_its_memory_taken():
    memory = BatchMemory()
    offset, array = memory.take(batch_bytes(2, SIZE))
    images, masks = batch_arrays(array, 2, SIZE)
    del array, images
    view = masks[1:, 3]
    del masks
    gc.collect()
    other, _kept = memory.take(batch_bytes(2, SIZE))
    assert other != offset
    del view
    assert memory.take(batch_bytes(2, SIZE))[0] == offset


def test_memory_of_different_sizes_is_kept_apart():
    memory = BatchMemory()
    offset, array = memory.take(5000)
    del array
    larger, large = memory.take(9000)
    assert (larger != offset) and len(large) == 9000
    smaller, small = memory.take(100)
    assert smaller not in (offset, larger) and len(small) == 100
    assert memory.take(5000)[0] == offset
