"""
The inputs: what they are, and the blocks that are in them.
"""

from __future__ import annotations

import bz2
import glob
import lzma
import os
import re
import select
import stat
import time
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from threading import Event
from typing import Any, Final

from examples.weblog.blocks import BLOCK_SIZE, Block, DataBlock, cutFile, cutPieces
from examples.weblog.errors import InputError, ReadingStopped
from examples.weblog.formats import BOM, FIELDS, SAMPLE, detectFormat

STDIN: Final = "-"
"""The name of the standard input."""

_MAGIC: Final[dict[str, tuple[bytes, ...]]] = {
    ".gz": (b"\x1f\x8b",),
    ".bz2": (b"BZh",),
    ".xz": (b"\xfd7zXZ\0",),
    # Programs that compress in parallel begin with a frame that is to be skipped.
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes([n]) + b"\x2a\x4d\x18" for n in range(0x50, 0x60))),
}
"""How compressed inputs begin."""

_LONGEST_MAGIC = max(len(magic) for kind in _MAGIC.values() for magic in kind)

# The first is in the standard library from Python 3.14 on.
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE = 1 << 18

_HEADER = re.compile(rb"^" + FIELDS + rb".*", re.MULTILINE)

# How long a line that has come through a pipe may wait for others, in seconds.
_LONGEST_WAIT = 0.2

# Servers escape such bytes, so that the beginning of a log has none.
_LOOKED_AT = 4096


@dataclass(frozen=True)
class Input:
    """
    A file, or something else to read from.

    @ivar name: its name for the user.
    @ivar path: its path; C{None} for the standard input.
    @ivar status: its status, as the system reports it.
    @ivar format: its format, as far as its beginning tells. C{None}: its blocks tell.
    @ivar isCut: whether worker processes read it, each the blocks that it gets. This process reads
        compressed inputs, those that can be read only once, and those whose lines are explained by
        lines above.
    """

    name: str
    path: str | None
    status: os.stat_result
    isCut: bool
    format: str | None = None

    @property
    def size(self) -> int | None:
        """
        How many bytes it has; C{None} if nobody knows.
        """
        return self.status.st_size if stat.S_ISREG(self.status.st_mode) else None


def expandNames(names: Sequence[str]) -> list[str]:
    """
    Replace the patterns among some names by the files that match. A pattern that matches nothing
    stays, so that the error names it.
    """
    expanded: list[str] = []
    for name in names:
        isPattern = glob.has_magic(name) and not os.path.exists(name)
        expanded += (sorted(glob.glob(name)) if isPattern else ()) or [name]
    return expanded


def openInput(name: str) -> Input:
    """
    Look at an input.

    @raise OSError: if it cannot be read.
    @raise InputError: if it is no log.
    """
    if name == STDIN:
        return Input("standard input", None, os.fstat(0), isCut=False)
    status = os.stat(name)
    if not stat.S_ISREG(status.st_mode):
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(None, "Is a directory")
        return Input(name, name, status, isCut=False)
    with open(name, "rb") as file:
        head = file.read(SAMPLE)
    isCompressed = compressionOf(head) is not None
    if not isCompressed:
        checkIsText(head)
    if isCompressed:
        return Input(name, name, status, isCut=False)
    isExplained = head.removeprefix(BOM).startswith(b"#")
    return Input(name, name, status, isCut=not isExplained, format=detectFormat(head))


def compressionOf(head: bytes) -> str | None:
    """
    @param head: the beginning of an input.
    @return: how it is compressed, as the end of such files' names; C{None} if it is not.
    """
    return next((kind for kind, magics in _MAGIC.items() if head.startswith(magics)), None)


def checkIsText(head: bytes) -> None:
    """
    @param head: the beginning of a log, maybe.
    @raise InputError: if it is none.
    """
    if b"\0" in head[:_LOOKED_AT]:
        raise InputError("is a binary file, not a log")


async def blocksOf(
    source: Input, threads: Any, size: int = BLOCK_SIZE, isEnough: Event | None = None
) -> AsyncGenerator[Block, None]:
    """
    Cut an input into blocks, as fast as they are taken.

    @param threads: a queue with a thread, which reads inputs that no worker process can read.
    @param size: the number of bytes of a block.
    @param isEnough: when this is set, nothing more is read. The lines that were read are in blocks.
    @raise OSError: if the input cannot be read to its end.
    @raise InputError: if the input is damaged. The text before the damage is in a block.
    """
    if source.isCut and source.path is not None:
        for block in cutFile(source.path, source.status, size):
            if isEnough is not None and isEnough.is_set():
                return
            yield block
        return
    async with await threads.call(readBlocks, source.path, size, isEnough) as blocks:
        async for block in blocks:
            yield block


def readBlocks(
    path: str | None, size: int = BLOCK_SIZE, isEnough: Event | None = None
) -> Iterator[DataBlock]:
    """
    Read an input and cut it into blocks. It blocks, so it needs a thread.

    @param path: of the file; C{None} for the standard input.
    @param isEnough: when this is set, what is read ends, soon and behind a whole line.
    @raise OSError: if it cannot be read to its end.
    @raise InputError: if it is broken.
    """
    descriptor = os.dup(0) if path is None else os.open(path, os.O_RDONLY)
    try:
        yield from repeatHeader(cutPieces(readPieces(descriptor, isEnough or Event()), size))
    finally:
        os.close(descriptor)


def repeatHeader(blocks: Iterator[DataBlock]) -> Iterator[DataBlock]:
    """
    Repeat the line that says which fields the following lines have, at the beginning of each block
    below. Logs of W3C's extended format have such lines.
    """
    header: bytes | None = None
    for number, block in enumerate(blocks):
        if number == 0 and block.data.removeprefix(BOM).startswith(b"#"):
            header = b""
        if header is None:
            yield block
            continue
        yield DataBlock(header + block.data, block.advance)
        for match in _HEADER.finditer(block.data):
            header = match.group() + b"\n"


def readPieces(descriptor: int, isEnough: Event) -> Iterator[tuple[bytes, int]]:
    """
    Read, and decompress what is compressed.

    @param isEnough: when this is set, nothing more is read.
    @return: the text, and how many bytes were read for it, piece by piece. An empty piece that no
        bytes were read for says that nothing more is there for now.
    @raise OSError: if that fails.
    @raise InputError: if it is no text, or if what is compressed is broken.
    @raise ReadingStopped: when C{isEnough} is set.
    """
    read = _readOn(descriptor, isEnough)
    first = b""
    for piece in read:
        first += piece
        if len(first) >= _LONGEST_MAGIC:
            break
    pieces = chain((first,) if first else (), read)
    kind = compressionOf(first)
    text = _decompress(pieces, kind) if kind else ((p, len(p)) for p in pieces)
    isFirst = True
    for piece, taken in text:
        if isFirst and piece:
            checkIsText(piece)
            isFirst = False
        yield piece, taken


def _readOn(descriptor: int, isEnough: Event) -> Iterator[bytes]:
    """
    @return: the pieces, of which one is empty now and then while a pipe has nothing to read.
    """
    isWaiting = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    due = time.monotonic() + _LONGEST_WAIT
    while True:
        while isWaiting and not _isReadable(descriptor, due - time.monotonic()):
            if isEnough.is_set():
                raise ReadingStopped
            yield b""
            due = time.monotonic() + _LONGEST_WAIT
        if isEnough.is_set():
            raise ReadingStopped
        piece = os.read(descriptor, _PIECE)
        if not piece:
            return
        yield piece


def _isReadable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _decompress(pieces: Iterator[bytes], kind: str) -> Iterator[tuple[bytes, int]]:
    """
    Decompress one stream after the other. Zeros may follow each.

    @param kind: one of L{_MAGIC}.
    """
    stream: Any = _makeStream(kind)
    for piece in pieces:
        data, taken = piece, len(piece)
        while data or not (stream is None or stream.needs_input):
            if stream is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                stream = _makeStream(kind)
            try:
                # This is bounded, because a few compressed bytes may stand for a great many.
                text = stream.decompress(data, BLOCK_SIZE)
            except Exception as error:
                # Each module has an exception of its own for damaged data.
                raise InputError(f"is not properly compressed: {error}") from error
            yield text, taken
            taken = 0
            data = stream.unused_data if stream.eof else b""
            stream = None if stream.eof else stream
        if taken or not piece:
            yield b"", taken
    if stream is not None:
        raise InputError(f"is a truncated {kind} file: its end is missing")


def _makeStream(kind: str) -> Any:
    """
    @return: an object with the attributes of a C{BZ2Decompressor}.
    @raise InputError: if no module is installed that decompresses this.
    """
    if kind == ".gz":
        return _GzipStream()
    if kind == ".bz2":
        return bz2.BZ2Decompressor()
    if kind == ".xz":
        return lzma.LZMADecompressor()
    for name in _ZSTD_MODULES:
        with suppress(ImportError):
            return import_module(name).ZstdDecompressor()
    raise InputError("is a .zst file, which needs a module: pip install backports.zstd")


class _GzipStream:
    """
    Gives zlib's decompression the attributes of the other modules'.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WINDOW)
        self.needs_input = True

    def decompress(self, data: bytes, limit: int) -> bytes:
        text = self._stream.decompress(self._stream.unconsumed_tail + data, limit)
        # Text may be left that did not fit, though all that it was made of was taken.
        self.needs_input = not self._stream.unconsumed_tail and len(text) < limit
        return text

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data
