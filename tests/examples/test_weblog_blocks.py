"""
Blocks: whole lines, each in one of them, wherever the cuts fall.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.weblog.blocks import LONGEST_LINE, DataBlock, FileBlock, cutFile, cutPieces
from examples.weblog.errors import InputError

texts = st.lists(st.sampled_from([b"\n", b"a", b"bc\n", b"defgh"]), max_size=30).map(b"".join)


def blocksOf(path: str, size: int) -> list[FileBlock]:
    return list(cutFile(path, os.stat(path), size))


@given(texts, st.integers(1, 12))
def test_blocksOfAFileAreTheFile(text: bytes, size: int) -> None:
    with NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        blocks = blocksOf(file.name, size)
        read = [block.read() for block in blocks]
    assert b"".join(read) == text
    assert sum(block.advance for block in blocks) == len(text)
    assert all(data.endswith(b"\n") for data in read if data and not text.endswith(data))


@given(st.lists(texts, max_size=8), st.integers(1, 12))
def test_blocksOfPiecesAreThePieces(pieces: list[bytes], size: int) -> None:
    blocks = list(cutPieces(((piece, 2 * len(piece)) for piece in pieces), size))
    assert b"".join(block.read() for block in blocks) == b"".join(pieces)
    assert all(block.data.endswith(b"\n") for block in blocks[:-1])
    assert sum(block.advance for block in blocks) == 2 * sum(map(len, pieces))


def test_whatCameBeforeAFailureIsInABlock() -> None:
    def pieces() -> Iterator[tuple[bytes, int]]:
        yield b"a\nb", 3
        raise InputError("broken")

    blocks = cutPieces(pieces(), 100)
    assert next(blocks).data == b"a\nb"
    with pytest.raises(InputError, match="broken"):
        next(blocks)


def test_endlessLineIsNotKept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 * LONGEST_LINE) + b"\nlast\n")
    read = [block.read() for block in blocksOf(str(path), LONGEST_LINE)]
    assert max(map(len, read)) <= 2 * LONGEST_LINE + (1 << 16)
    assert read[-1] == b"last\n"
    assert read[1:-1] == [b""] * (len(read) - 2)


def test_endlessLineInPiecesIsCut() -> None:
    pieces = ((b"x" * (1 << 18), 1 << 18) for _ in range(40))
    assert max(len(block.data) for block in cutPieces(pieces, 10)) < 2 * LONGEST_LINE


def test_fileThatBecameShorterIsRefused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 10)
    *_, last = blocksOf(str(path), 20)
    os.truncate(path, 30)
    with pytest.raises(InputError, match="shorter"):
        last.read()


def test_fileThatWasReplacedIsRefused(tmp_path: Path) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    path.write_bytes(b"line\n")
    other.write_bytes(b"another line\n")
    (block,) = blocksOf(str(path), 20)
    os.replace(other, path)
    with pytest.raises(InputError, match="replaced"):
        block.read()


def test_linesWrittenLaterAreNotRead(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\nsec")
    (block,) = blocksOf(str(path), 20)
    with path.open("ab") as file:
        file.write(b"ond\nthird\n")
    assert block.read() == b"first\nsecond\n"


def test_blockTellsTheMemoryThatItTakes() -> None:
    # Streams from threads read ahead as long as that is little.
    assert sys.getsizeof(DataBlock(b"x" * 1_000_000, 0)) > 1_000_000
