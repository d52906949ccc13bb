"""Grey PNG files written a few rows at a time, so that no picture need be in memory as a whole."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, UP = 0, 2  # colour type; filter that stores each row as its difference to the one above
FASTEST = 1  # level of compression; masks are mostly runs, which all levels find


class PngWriter:
    """Writes grey pixels as a PNG (Portable Network Graphics Specification, third edition, W3C 2025).

    Args:
        file: binary file open for writing.
        width, height: pixels.
        bits: 8 or 16 a pixel.
    """

    def __init__(self, file, width, height, bits=8):
        self._file = file
        self._left = height
        self._above = np.zeros((1, width * bits // 8), np.uint8)
        self._big_endian = np.dtype(f">u{bits // 8}")
        self._deflate = zlib.compressobj(
            FASTEST, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE
        )
        file.write(SIGNATURE)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, GREY, 0, 0, 0))

    def write(self, rows):
        """Appends uint8 or uint16 (R, W) rows."""
        stored = np.ascontiguousarray(rows, self._big_endian).view(np.uint8)
        lines = np.empty((len(stored), 1 + stored.shape[1]), np.uint8)
        lines[:, 0] = UP
        np.subtract(stored[:1], self._above, out=lines[:1, 1:])  # modulo 256, as the filter wants it
        np.subtract(stored[1:], stored[:-1], out=lines[1:, 1:])
        self._above = stored[-1:].copy()
        self._left -= len(stored)
        self._data(self._deflate.compress(lines))

    def close(self):
        """Ends the file. Raises ValueError where rows are missing or too many."""
        if self._left:
            raise ValueError(f"{self._left} rows of the PNG are missing")
        self._data(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _data(self, content):
        if content:
            self._chunk(b"IDAT", content)

    def _chunk(self, kind, content):
        checksum = zlib.crc32(content, zlib.crc32(kind))
        self._file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum))
