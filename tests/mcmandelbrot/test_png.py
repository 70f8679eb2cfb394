"""
PNG files: valid whatever the stripes, and never finished with rows missing.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmandelbrot.png import PNGAssembler, combineAdler32, makeChunk, packRows
from tests.mcmandelbrot.references import decodePNG


@given(st.binary(max_size=9000), st.binary(max_size=9000))
def test_combinedChecksumIsThatOfTheWhole(first: bytes, second: bytes) -> None:
    combined = combineAdler32(zlib.adler32(first), zlib.adler32(second), len(second))
    assert combined == zlib.adler32(first + second)


@given(st.integers(0, 3_000_000), st.integers(0, 3_000_000), st.integers(0, 255))
def test_combinedChecksumIsThatOfTheWholeWhereSumsWrap(first: int, second: int, value: int) -> None:
    a, b = bytes([255]) * first, bytes([value]) * second
    assert combineAdler32(zlib.adler32(a), zlib.adler32(b), second) == zlib.adler32(a + b)


def test_chunkIsThatOfTheSpecification() -> None:
    assert makeChunk(b"IEND", b"") == bytes.fromhex("00000000 49454E44 AE426082")


@given(
    width=st.integers(1, 20),
    heights=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    data=st.data(),
)
def test_assembledFileHasThePixelsOfAllStripes(
    width: int, heights: list[int], data: st.DataObject
) -> None:
    stripes = [
        data.draw(st.binary(min_size=3 * width * h, max_size=3 * width * h)) for h in heights
    ]
    assembler = PNGAssembler(width, sum(heights))
    file = assembler.start()
    firstRow = 0
    for pixels, rows in zip(stripes, heights, strict=True):
        file += assembler.add(packRows(pixels, rows, firstRow))
        firstRow += rows
    picture = decodePNG(file + assembler.finish())
    assert (picture.width, picture.height) == (width, sum(heights))
    assert b"".join(picture.rows) == b"".join(stripes)


@given(
    width=st.sampled_from([1, 3000, 9000, 20_000]),
    cuts=st.lists(st.integers(1, 14), max_size=4),
    seed=st.integers(0, 3),
)
def test_bytesDoNotDependOnHowThePictureIsCut(width: int, cuts: list[int], seed: int) -> None:
    height = 15
    pixels = Random(seed).randbytes(300) * (3 * width * height // 300 + 1)

    def assemble(edges: list[int]) -> bytes:
        assembler = PNGAssembler(width, height)
        file = assembler.start()
        for start, stop in pairwise(edges):
            part = pixels[3 * width * start : 3 * width * stop]
            file += assembler.add(packRows(part, stop - start, start))
        return file + assembler.finish()

    cut = assemble(sorted({0, *cuts, height}))
    assert cut == assemble([0, height])
    assert b"".join(decodePNG(cut).rows) == pixels[: 3 * width * height]


def test_textsAreInTheFile() -> None:
    assembler = PNGAssembler(1, 1, {"Title": "caf\xe9", "N": ""})
    file = assembler.start() + assembler.add(packRows(bytes(3), 1)) + assembler.finish()
    assert decodePNG(file).texts == {"Title": "caf\xe9", "N": ""}


def test_rowsInAnotherOrderAreAnError() -> None:
    with pytest.raises(ValueError, match="0 is the next"):
        PNGAssembler(2, 3).add(packRows(bytes(6), 1, 1))


def test_missingRowsAreAnError() -> None:
    assembler = PNGAssembler(2, 3)
    assembler.start()
    assembler.add(packRows(bytes(12), 2))
    with pytest.raises(ValueError, match="1 rows are missing"):
        assembler.finish()


def test_rowsTooManyAreAnError() -> None:
    assembler = PNGAssembler(2, 1)
    with pytest.raises(ValueError, match="1 are left"):
        assembler.add(packRows(bytes(12), 2))


def test_rowsOfAnotherWidthAreAnError() -> None:
    with pytest.raises(ValueError, match="width"):
        PNGAssembler(3, 2).add(packRows(bytes(12), 2))
