"""Decoded pairs kept in memory or on disk, never more than a given number of bytes.

A pair is kept under what it was made of: path, size and time of both files, working size and mask encoding. A
file that changes is another key. What is full stays as it is, for under random draws no pair is better than
another.
"""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from segbalance.data_processing.labels import LabelEncoding
from segbalance.data_processing.mask_encoding import MaskEncoding
from segbalance.dataloader.ram_cache import Kept, RamCache, key_digest
from segbalance.dataloader.working_size import Size, read_pair, read_photo, working_shape
from segbalance.errors import InputError
from segbalance.files.pixel_limit import MAX_PIXELS
from segbalance.runtime.verbs import named

KINDS = ("off", "ram", "disk")
GB = 10**9
SMALLEST_MAP = 2**20  # bytes; LMDB needs some for itself
FILES = ("data.mdb", "lock.mdb")  # what LMDB makes in its folder
HEADER = np.dtype([("height", "<u4"), ("width", "<u4"), ("checksum", "<u4")])


def cache_folder() -> Path:
    """Where pairs are kept on disk: this user's place for caches, outside of any data folder."""
    return Path(platformdirs.user_cache_dir("balanced-segmentation", appauthor=False), "pairs")


_open_files: dict[Path, Any] = {}  # {folder: LMDB environment}, for a process must not have one open twice


class DiskCache:
    """Decoded pairs in a file that several runs may share at once.

    LMDB keeps its file within its map's size whatever happens, and its readers never see half a pair.

    Args:
        limit: bytes of the file.
        folder: of the file.

    Raises:
        InputError: the folder cannot be written, or the file is no such cache.
    """

    def __init__(self, limit: float, folder: str | Path) -> None:
        import lmdb

        self.limit, self.folder = limit, folder
        self._full_error = lmdb.MapFullError
        self._full = False
        folder = Path(folder).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder not in _open_files:
                # Not synced at each pair: after a crash of the whole machine the checksums tell.
                _open_files[folder] = lmdb.open(str(folder), sync=False, readahead=False, max_readers=1024)
            self._file = _open_files[folder]
            self._file.set_mapsize(max(int(limit), SMALLEST_MAP))
        except (OSError, lmdb.Error) as error:
            raise InputError(
                f"the cache in {folder} cannot be used: {error}. Remove it with {named('clear-cache')}, or "
                "choose another --cache."
            ) from None

    def __reduce__(self) -> tuple[type, tuple[float, str | Path]]:
        return DiskCache, (self.limit, self.folder)

    def get(self, key: object) -> Kept | None:
        """(uint8 (H, W, 3) photo, uint8 (H, W) class ids or None) to keep and change, or None."""
        with self._file.begin(buffers=True) as reading:
            stored = reading.get(key_digest(key))
            return None if stored is None else _unpacked(stored)

    def put(self, key: object, photo: np.ndarray, mask: np.ndarray | None) -> None:
        """Keeps a pair, or a photo whose mask is None, if there is room."""
        if self._full:
            return
        try:
            with self._file.begin(write=True) as writing:
                writing.put(key_digest(key), _packed(photo, mask), overwrite=True)
        except self._full_error:
            self._full = True


def _packed(photo: np.ndarray, mask: np.ndarray | None) -> bytes:
    pixels = photo.tobytes() + (b"" if mask is None else mask.tobytes())
    header = np.array((*photo.shape[:2], zlib.crc32(pixels)), HEADER)
    return header.tobytes() + pixels


def _unpacked(stored: Any) -> Kept | None:
    """The pair in a value of the file, copied; None if the bytes are damaged."""
    height, width, checksum = np.frombuffer(stored, HEADER, 1)[0]
    pixels = np.frombuffer(stored, np.uint8, offset=HEADER.itemsize)
    count = int(height) * int(width)
    if len(pixels) not in (3 * count, 4 * count) or zlib.crc32(pixels.data) != checksum:
        return None
    pixels = pixels.copy()
    mask = pixels[3 * count :].reshape(height, width) if len(pixels) > 3 * count else None
    return pixels[: 3 * count].reshape(height, width, 3), mask


def remove_cache(folder: str | Path) -> int:
    """Deletes the cache on disk in `folder`; returns the bytes that it took, 0 where there is none."""
    folder = Path(folder).resolve()
    if folder in _open_files:
        _open_files.pop(folder).close()
    files = [folder / name for name in FILES if (folder / name).exists()]
    freed = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return freed


class NoCache:
    """Keeps nothing."""

    def get(self, key: object) -> Kept | None:
        """None."""

    def put(self, key: object, photo: np.ndarray, mask: np.ndarray | None) -> None:
        """Nothing."""


Cache = RamCache | DiskCache | NoCache


def open_cache(kind: str, gigabytes: float, folder: str | Path | None = None) -> Cache:
    """The cache of a run.

    Args:
        kind: one of KINDS.
        gigabytes: most that it may take, 10**9 bytes each.
        folder: of a cache on disk; `cache_folder()` by default.
    """
    if kind == "ram":
        return RamCache(gigabytes * GB)
    if kind == "disk":
        return DiskCache(gigabytes * GB, folder or cache_folder())
    return NoCache()


class PairReader:
    """Reads pairs at working size, through a cache.

    Args:
        cache: what `open_cache` returns.
        working_size: pixels of the long side after decoding, 0 for the files' own.
        max_pixels: of a file, by its header.
    """

    def __init__(
        self, cache: Cache | None = None, working_size: int = 0, *, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.cache = NoCache() if cache is None else cache
        self.working_size = working_size
        self.max_pixels = max_pixels

    def read(
        self,
        image_path: str | Path,
        mask_path: str,
        encoding: MaskEncoding | LabelEncoding,
        size: Size | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `read_pair` does.

        Args:
            mask_path: of a LabelEncoding, the label; the mask is then that of its class, uint8 (1, 1).
        """
        if not encoding.in_files:
            return self._read_photo(image_path, size), encoding.read(mask_path)
        assert isinstance(encoding, MaskEncoding), "labels have been read"
        if isinstance(self.cache, NoCache):
            return self._decode_pair(image_path, mask_path, encoding, size)
        key = (_version(image_path), _version(mask_path), self.working_size, encoding)
        pair = self.cache.get(key)
        if pair is None or not self._has_size(pair[0], size):
            pair = self._decode_pair(image_path, mask_path, encoding, size)
            self.cache.put(key, *pair)
        photo, mask = pair
        assert mask is not None, "the key of a photo alone is another"
        return photo, mask

    def _read_photo(self, image_path: str | Path, size: Size | None) -> np.ndarray:
        """The photo of an image without mask, which is kept whatever its label: uint8 (H, W, 3)."""
        if isinstance(self.cache, NoCache):
            return self._decode_photo(image_path, size)
        key = (_version(image_path), self.working_size)
        kept = self.cache.get(key)
        if kept is None or not self._has_size(kept[0], size):
            kept = self._decode_photo(image_path, size), None
            self.cache.put(key, *kept)
        return kept[0]

    def _decode_pair(
        self, image_path: str | Path, mask_path: str | Path, encoding: MaskEncoding, size: Size | None
    ) -> tuple[np.ndarray, np.ndarray]:
        side, most = self.working_size, self.max_pixels
        return read_pair(image_path, mask_path, encoding, side, max_pixels=most, expected_size=size)

    def _decode_photo(self, image_path: str | Path, size: Size | None) -> np.ndarray:
        side, most = self.working_size, self.max_pixels
        return read_photo(image_path, side, max_pixels=most, expected_size=size)[0]

    def _has_size(self, photo: np.ndarray, size: Size | None) -> bool:
        """False for what a run with other manifests may have kept."""
        return not size or not all(size) or photo.shape[1::-1] == working_shape(size, self.working_size)


def _version(path: str | Path) -> tuple[str, int, int]:
    """What tells one content of a file from another without reading it."""
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns
