"""
The inputs of the web log example: what they turn out to be, and what is wrong with them.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.weblog.errors import InputError
from examples.weblog.inputs import STDIN, expandNames, openInput, readBlocks

TEXT = b"".join(b"line %d\n" % number for number in range(50_000))


def readAll(path: Path) -> tuple[bytes, str]:
    """
    Read a file's blocks, and what went wrong then.
    """
    data = b""
    try:
        for block in readBlocks(str(path)):
            data += block.read()
    except InputError as error:
        return data, str(error)
    return data, ""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.gz"


def test_compressedFileIsItsText(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT))
    assert readAll(path) == (TEXT, "")
    assert not openInput(str(path)).isCut


_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("kind", _COMPRESSORS)
def test_everyKindOfCompressionIsTold(path: Path, kind: str) -> None:
    compressed = _COMPRESSORS[kind](TEXT)
    path.write_bytes(compressed + _COMPRESSORS[kind](b"end"))
    assert readAll(path) == (TEXT + b"end", "")
    assert not openInput(str(path)).isCut
    blocks = readBlocks(str(path), 1000)
    assert sum(block.advance for block in blocks) == path.stat().st_size
    path.write_bytes(compressed[:-10])
    data, error = readAll(path)
    assert (TEXT.startswith(data), error) == (
        True,
        f"is a truncated {kind} file: its end is missing",
    )
    damaged = bytearray(compressed)
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    assert "not properly compressed" in readAll(path)[1]
    path.write_bytes(_COMPRESSORS[kind](b"x" * 20_000_000))
    sizes = [len(block.data) for block in readBlocks(str(path))]
    assert (sum(sizes), max(sizes) < 10_000_000) == (20_000_000, True)


def test_missingModuleForZstandardIsNamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\0" * 20)
    assert not openInput(str(path)).isCut
    assert "pip install backports.zstd" in readAll(path)[1]


def test_severalStreamsInAFileAreOneText(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(b"end") + b"\0" * 99)
    assert readAll(path) == (TEXT + b"end", "")


def test_bytesOfAllBlocksAreThoseOfTheFile(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT))
    assert sum(block.advance for block in readBlocks(str(path), 1000)) == path.stat().st_size


@given(st.integers(2, 2000))
def test_truncatedFileGivesWhatIsThere(cut: int) -> None:
    text = os.urandom(1000).hex().encode()
    compressed = gzip.compress(text)
    descriptor = os.memfd_create("log")
    os.write(descriptor, compressed[: min(cut, len(compressed) - 1)])
    try:
        data, error = readAll(Path(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)
    assert "truncated" in error
    assert text.startswith(data)
    assert data == zlib.decompressobj(31).decompress(compressed[: min(cut, len(compressed) - 1)])


def test_fewBytesThatStandForManyAreReadInBlocks(path: Path) -> None:
    line = b"x" * 999 + b"\n"
    path.write_bytes(gzip.compress(line * 20_000))
    sizes = [len(block.data) for block in readBlocks(str(path))]
    assert (sum(sizes), max(sizes) < 10_000_000) == (20_000_000, True)


def test_damagedFileIsNamedSo(path: Path) -> None:
    compressed = bytearray(gzip.compress(TEXT))
    compressed[len(compressed) // 2] ^= 0xFF
    path.write_bytes(compressed)
    data, error = readAll(path)
    assert "not properly compressed" in error
    assert TEXT.startswith(data[:1000])


def test_whatFollowsACompressedFileIsNoText(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT) + b"more")
    assert "not properly compressed" in readAll(path)[1]


@pytest.mark.parametrize("isCompressed", [False, True])
def test_binaryFileIsRefused(path: Path, isCompressed: bool) -> None:
    binary = b"\x7fELF\0\0" * 100
    path.write_bytes(gzip.compress(binary) if isCompressed else binary)
    assert readAll(path) == (b"", "is a binary file, not a log")
    if not isCompressed:
        with pytest.raises(InputError, match="binary"):
            openInput(str(path))


def test_emptyFileIsALog(path: Path) -> None:
    path.write_bytes(b"")
    assert openInput(str(path)).size == 0
    assert readAll(path) == (b"", "")


def test_pipeIsRead(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"one\ntwo")
    os.close(writing)
    assert openInput(f"/dev/fd/{reading}").size is None
    assert readAll(Path(f"/dev/fd/{reading}")) == (b"one\ntwo", "")
    os.close(reading)


def test_folderAndMissingFileAreRefused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        openInput(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        openInput(str(tmp_path / "missing"))


def test_patternsAreExpandedInOrder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.log", "a.log", "c[1].log"):
        Path(name).touch()
    names = ["*.log", "none*.log", STDIN, "c[1].log", "missing"]
    expected = ["a.log", "b.log", "c[1].log", "none*.log", STDIN, "c[1].log", "missing"]
    assert expandNames(names) == expected


def test_nothingStaysOpen(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT))
    before = os.listdir("/proc/self/fd")
    blocks: Iterator[object] = readBlocks(str(path), 1000)
    next(blocks)
    del blocks
    assert os.listdir("/proc/self/fd") == before
