"""
Reading a PNG file such as a browser makes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

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
    if kind == 2:
        row[:] = bytes([(value + up) & 255 for value, up in zip(row, above, strict=True)])
    elif kind:
        # Left of the first pixel, all is 0.
        before, corners = bytearray(channels) + row, bytes(channels) + above
        for x, (value, up) in enumerate(zip(row, above, strict=True)):
            left = before[x]
            guess = _GUESSES[kind](left, up, corners[x])
            row[x] = before[x + channels] = (value + guess) & 255


def _paeth(left: int, up: int, corner: int) -> int:
    toLeft, toUp, toCorner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if toLeft <= toUp and toLeft <= toCorner:
        return left
    return up if toUp <= toCorner else corner


_GUESSES: dict[int, Callable[[int, int, int], int]] = {
    1: lambda left, up, corner: left,
    3: lambda left, up, corner: (left + up) // 2,
    4: _paeth,
}
