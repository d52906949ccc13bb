"""Decoded pairs in memory that threads and worker processes share."""

import hashlib
from typing import Any

import numpy as np

from segbalance.runtime.workers import SharedMemory

BYTES_A_PLACE = 4096  # of the limit; pairs a third larger than that never run out of places
FULLEST = 0.75  # of the places; beyond it, finding one takes long
END, COUNT = range(2)  # words of the header: where the free room begins, how many places are taken
HEADER = 64  # bytes
OFFSET, SHAPE = 2, 3  # words of a place, after the two of its key
WORDS = 4
ALONE = 2**63  # added to the shape of a photo that has no mask

Kept = tuple[np.ndarray, np.ndarray | None]  # a photo and its mask, or a photo alone


class RamCache:
    """Decoded pairs, never more than a given number of bytes.

    A hash table with linear probing (Knuth, The Art of Computer Programming 3, 6.4) tells where a pair lies.
    A place is claimed under a lock, filled, and then published, so that reading needs no lock.

    Args:
        limit: bytes, those of the table included.
    """

    def __init__(self, limit: float) -> None:
        self.limit = int(limit)
        self._memory = SharedMemory(self.limit + HEADER)
        self._open()
        self._header[END] = HEADER + self._places.nbytes

    def _open(self) -> None:
        self._bytes = np.frombuffer(self._memory.part(0, self.limit + HEADER), np.uint8)
        places = self.limit // BYTES_A_PLACE
        self._header = self._bytes[:HEADER].view(np.int64)
        self._places = (
            self._bytes[HEADER : HEADER + 8 * WORDS * places].view(np.uint64).reshape(places, WORDS)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "_memory": self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def used(self) -> int:
        """Bytes that are taken, those of the table included."""
        return int(self._header[END]) - HEADER

    def __len__(self) -> int:
        return int(self._header[COUNT])

    def get(self, key: object) -> Kept | None:
        """(uint8 (H, W, 3) photo, uint8 (H, W) class ids or None) to keep and change, or None."""
        place = self._find(_digest(key))
        offset, shape = (0, 0) if place is None else place[OFFSET:].tolist()
        if not offset:
            return None
        height, width = divmod(shape % ALONE, 2**32)
        edge = 3 * height * width
        pixels = self._bytes[offset : offset + edge + (height * width if shape < ALONE else 0)].copy()
        mask = pixels[edge:].reshape(height, width) if shape < ALONE else None
        return pixels[:edge].reshape(height, width, 3), mask

    def put(self, key: object, photo: np.ndarray, mask: np.ndarray | None) -> None:
        """Keeps a pair, or a photo whose mask is None, if there is room and nobody else keeps it already."""
        place, size = self._find(_digest(key)), photo.nbytes + (0 if mask is None else mask.nbytes)
        if place is None or place[0]:
            return
        with self._memory.locked():
            start = int(self._header[END])
            full = start + size > len(self._bytes) or self._header[COUNT] >= FULLEST * len(self._places)
            place = None if full else self._find(_digest(key))
            if place is None or place[0]:
                return
            place[:OFFSET] = _digest(key)
            self._header[END] += size
            self._header[COUNT] += 1
        self._bytes[start : start + photo.nbytes] = photo.ravel()
        if mask is not None:
            self._bytes[start + photo.nbytes : start + size] = mask.ravel()
        with self._memory.locked():
            place[SHAPE] = photo.shape[0] * 2**32 + photo.shape[1] + (ALONE if mask is None else 0)
            place[OFFSET] = start

    def _find(self, digest: list[int]) -> np.ndarray | None:
        """The place of a key, or the empty one where it belongs; None if there is neither."""
        for step in range(len(self._places)):
            place = self._places[(digest[0] + step) % len(self._places)]
            held = place[:OFFSET].tolist()
            if held == digest or not held[0]:
                return place
        return None


def key_digest(key: object) -> bytes:
    """32 bytes that stand for a key of plain values."""
    return hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).digest()


def _digest(key: object) -> list[int]:
    """Two words that stand for a key, the first of them not 0."""
    first, second = np.frombuffer(key_digest(key)[:16], np.uint64).tolist()
    return [max(first, 1), second]
