"""Grey PNG files, or with a palette, written a few rows at a time: no picture is in memory as a whole."""

import struct
import zlib
from typing import BinaryIO

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3  # colour types
UP = 2  # filter that stores each row as its difference to the one above
FASTEST = 1  # level of compression; masks are mostly runs, which all levels find


class PngWriter:
    """Writes a PNG (Portable Network Graphics Specification, third edition, W3C 2025).

    Its pixels are grey, or places in a palette.

    Args:
        file: open for writing.
        width, height: pixels.
        bits: 8 or 16 a pixel.
        palette: uint8 (256 at most, 3) RGB of pixels of 8 bits; None for grey.
    """

    def __init__(
        self, file: BinaryIO, width: int, height: int, bits: int = 8, palette: np.ndarray | None = None
    ) -> None:
        self._file = file
        self._left = height
        self._above = np.zeros((1, width * bits // 8), np.uint8)
        self._big_endian = np.dtype(f">u{bits // 8}")
        self._deflate = zlib.compressobj(
            FASTEST, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE
        )
        kind = GREY if palette is None else PALETTE
        file.write(SIGNATURE)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
        if palette is not None:
            self._chunk(b"PLTE", palette.tobytes())

    def write(self, rows: np.ndarray) -> None:
        """Appends uint8 or uint16 (R, W) rows."""
        stored = np.ascontiguousarray(rows, self._big_endian).view(np.uint8)
        lines = np.empty((len(stored), 1 + stored.shape[1]), np.uint8)
        lines[:, 0] = UP
        np.subtract(stored[:1], self._above, out=lines[:1, 1:])  # modulo 256, as the filter wants it
        np.subtract(stored[1:], stored[:-1], out=lines[1:, 1:])
        self._above = stored[-1:].copy()
        self._left -= len(stored)
        self._data(self._deflate.compress(lines.data))

    def close(self) -> None:
        """Ends the file. Raises ValueError where rows are missing or too many."""
        if self._left:
            raise ValueError(f"{self._left} rows of the PNG are missing")
        self._data(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _data(self, content: bytes) -> None:
        if content:
            self._chunk(b"IDAT", content)

    def _chunk(self, kind: bytes, content: bytes) -> None:
        checksum = zlib.crc32(content, zlib.crc32(kind))
        self._file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum))
