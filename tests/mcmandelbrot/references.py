"""
References for the demo's results: the same things done again, as plainly as can be.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mcmandelbrot.view import Grid


def countPlainly(c: complex, iterations: int) -> tuple[int, float] | None:
    """
    Iterate a point until it is more than 256 from the origin.

    @return: after how many iterations that was, and the smoothed count; C{None} if it takes more
        than C{iterations}.
    """
    x, y = a, b = c.real, c.imag
    for age in range(1, iterations + 1):
        norm = x * x + y * y
        if norm > 65536.0:
            return age, max(0.0, age + 1 - math.log2(math.log(norm) / math.log(65536.0)))
        x, y = x * x - y * y + a, (x + x) * y + b
    return None


def pointsOf(grid: Grid, firstRow: int, rows: int, columns: int) -> list[list[complex]]:
    """
    Compute the points of some rows' pixels.
    """
    return [
        [
            complex(
                grid.left + (column + 0.5) * grid.columnStep, grid.top - (row + 0.5) * grid.rowStep
            )
            for column in range(columns)
        ]
        for row in range(firstRow, firstRow + rows)
    ]


def gridAt(c: complex, step: float = 1.0) -> Grid:
    """
    Make a grid whose first pixel is at a point.
    """
    return Grid(c.real - 0.5 * step, c.imag + 0.5 * step, step, step)


@dataclass(frozen=True)
class DecodedPNG:
    """
    A picture, as a reader of its file gets it.

    @ivar texts: what it says of itself, by keyword.
    @ivar rows: for each row, a byte each for red, green and blue of each pixel.
    """

    width: int
    height: int
    rows: list[bytes]
    texts: dict[str, str]


def decodePNG(data: bytes) -> DecodedPNG:
    """
    Decode a PNG file with 8-bit RGB and no filters, checking all that is redundant in it.
    """
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks = list(_chunks(data[8:]))
    texts = [body.decode("latin-1") for kind, body in chunks if kind == b"tEXt"]
    kinds = [kind for kind, _ in chunks if kind != b"IDAT"]
    assert kinds == [b"IHDR", *[b"tEXt"] * len(texts), b"IEND"]
    assert (chunks[0][0], chunks[-1]) == (b"IHDR", (b"IEND", b""))
    width, height, *rest = struct.unpack(">II5B", chunks[0][1])
    assert rest == [8, 2, 0, 0, 0]
    inflate = zlib.decompressobj()
    # This checks the Adler-32 checksum too.
    scanlines = inflate.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    assert inflate.eof
    assert not inflate.unused_data
    size = 1 + 3 * width
    assert len(scanlines) == size * height
    assert set(scanlines[::size]) == {0}
    rows = [scanlines[start + 1 : start + size] for start in range(0, len(scanlines), size)]
    return DecodedPNG(width, height, rows, dict(text.split("\0") for text in texts))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        (length,) = struct.unpack_from(">I", data)
        kind, body = data[4:8], data[8 : 8 + length]
        (checksum,) = struct.unpack_from(">I", data, 8 + length)
        assert checksum == zlib.crc32(kind + body)
        yield kind, body
        data = data[12 + length :]
