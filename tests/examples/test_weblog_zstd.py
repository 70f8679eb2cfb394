"""
Inputs that Zstandard has compressed, as its programs write them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from examples.weblog.blocks import DataBlock
from examples.weblog.errors import InputError
from examples.weblog.inputs import openInput, readBlocks

zstd: Any = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

TEXT = b"".join(b"%06d\n" % number for number in range(20_000))

CHECKED = {zstd.CompressionParameter.checksum_flag: 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def readAll(path: Path) -> tuple[bytes, str]:
    """
    @return: the text, and what went wrong.
    """
    blocks: list[DataBlock] = []
    try:
        blocks.extend(readBlocks(str(path), 10_000))
    except InputError as error:
        return b"".join(block.data for block in blocks), str(error)
    return b"".join(block.data for block in blocks), ""


def test_framesAreOneText(path: Path) -> None:
    path.write_bytes(zstd.compress(TEXT) + zstd.compress(b"") + zstd.compress(b"end"))
    assert readAll(path) == (TEXT + b"end", "")
    assert not openInput(str(path)).isCut
    assert sum(block.advance for block in readBlocks(str(path), 1000)) == path.stat().st_size


def test_truncatedOrDamagedFileIsNamedSo(path: Path) -> None:
    compressed = bytearray(zstd.compress(TEXT, options=CHECKED))
    path.write_bytes(compressed[:-10])
    data, error = readAll(path)
    assert error == "is a truncated .zst file: its end is missing"
    assert TEXT.startswith(data)
    compressed[len(compressed) // 2] ^= 0xFF
    path.write_bytes(compressed)
    assert "not properly compressed" in readAll(path)[1]


def test_fewBytesThatStandForManyAreReadInBlocks(path: Path) -> None:
    path.write_bytes(zstd.compress(b"x" * 50_000_000))
    sizes = [len(block.data) for block in readBlocks(str(path))]
    assert (sum(sizes), max(sizes) < 10_000_000) == (50_000_000, True)


def test_partsOfAZstandardFileThatAreToBeSkippedAreNoText(path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
    path.write_bytes(skipped + zstd.compress(TEXT) + skipped + zstd.compress(b"end") + skipped)
    assert readAll(path) == (TEXT + b"end", "")
    assert not openInput(str(path)).isCut


def test_zstandardFileThatNeedsTooMuchMemoryIsNamedSo(path: Path) -> None:
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    path.write_bytes(stream.compress(TEXT) + stream.flush())
    assert "requires too much memory" in readAll(path)[1]
