"""
Reading a PNG file such as a browser makes.
"""

from __future__ import annotations

import struct
import zlib

Colour = tuple[int, int, int]

_CHANNELS = {2: 3, 6: 4}


def decodeRGB(data: bytes) -> tuple[int, int, list[Colour]]:
    """
    Decode a picture with 8 bits for each of red, green, blue and perhaps alpha.

    @return: its width, its height and its pixels, without alpha.
    """
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    position, packed, header = 8, b"", b""
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        header = body if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        position += length + 12
    width, height, depth, colourType, _, _, interlace = struct.unpack(">IIBBBBB", header)
    assert (depth, interlace) == (8, 0)
    channels = _CHANNELS[colourType]
    rows = _unfilter(zlib.decompress(packed), width * channels, height, channels)
    pixels = [
        (row[x], row[x + 1], row[x + 2]) for row in rows for x in range(0, len(row), channels)
    ]
    return width, height, pixels


def _unfilter(data: bytes, size: int, height: int, channels: int) -> list[bytearray]:
    rows: list[bytearray] = []
    above = bytearray(size)
    for number in range(height):
        start = number * (size + 1)
        row = bytearray(data[start + 1 : start + 1 + size])
        _unfilterRow(data[start], row, above, channels)
        rows.append(row)
        above = row
    return rows


def _unfilterRow(kind: int, row: bytearray, above: bytearray, channels: int) -> None:
    for x in range(len(row) if kind else 0):
        left = row[x - channels] if x >= channels else 0
        corner = above[x - channels] if x >= channels else 0
        guess = (0, left, above[x], (left + above[x]) // 2, 0)[kind]
        if kind == 4:
            guess = _paeth(left, above[x], corner)
        row[x] = (row[x] + guess) & 255


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    return min((left, up, corner), key=lambda value: abs(estimate - value))
