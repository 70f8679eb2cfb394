"""
The inputs: what they are, and the blocks that are in them.
"""

from __future__ import annotations

import glob
import os
import stat
import zlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from examples.weblog.blocks import BLOCK_SIZE, Block, DataBlock, cutFile, cutPieces
from examples.weblog.errors import InputError

STDIN: Final = "-"
"""The name of the standard input."""

_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE = 1 << 18

# Servers escape such bytes, so that the beginning of a log has none.
_LOOKED_AT = 4096


@dataclass(frozen=True)
class Input:
    """
    A file, or something else to read from.

    @ivar name: its name for the user.
    @ivar path: its path; C{None} for the standard input.
    @ivar status: its status, as the system reports it.
    @ivar isCut: whether worker processes read it, each the blocks that it gets. This process reads
        compressed inputs and those that can be read only once.
    """

    name: str
    path: str | None
    status: os.stat_result
    isCut: bool

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
        head = file.read(_LOOKED_AT)
    isCompressed = head.startswith(_GZIP)
    if not isCompressed:
        checkIsText(head)
    return Input(name, name, status, isCut=not isCompressed)


def checkIsText(head: bytes) -> None:
    """
    @param head: the beginning of a log, maybe.
    @raise InputError: if it is none.
    """
    if b"\0" in head[:_LOOKED_AT]:
        raise InputError("is a binary file, not a log")


async def blocksOf(
    source: Input, threads: Any, size: int = BLOCK_SIZE
) -> AsyncGenerator[Block, None]:
    """
    Cut an input into blocks, as fast as they are taken.

    @param threads: a queue with a thread, which reads inputs that no worker process can read.
    @param size: the number of bytes of a block.
    @raise OSError: if the input cannot be read to its end.
    @raise InputError: if the input is damaged. The text before the damage is in a block.
    """
    if source.isCut and source.path is not None:
        for block in cutFile(source.path, source.status, size):
            yield block
        return
    async with await threads.call(readBlocks, source.path, size) as blocks:
        async for block in blocks:
            yield block


def readBlocks(path: str | None, size: int = BLOCK_SIZE) -> Iterator[DataBlock]:
    """
    Read an input and cut it into blocks. It blocks, so it needs a thread.

    @param path: of the file; C{None} for the standard input.
    @raise OSError: if it cannot be read to its end.
    @raise InputError: if it is broken.
    """
    descriptor = os.dup(0) if path is None else os.open(path, os.O_RDONLY)
    try:
        yield from cutPieces(readPieces(descriptor), size)
    finally:
        os.close(descriptor)


def readPieces(descriptor: int) -> Iterator[tuple[bytes, int]]:
    """
    Read, and decompress what is compressed.

    @return: the text, and how many bytes were read for it, piece by piece.
    @raise OSError: if that fails.
    @raise InputError: if it is no text, or if what is compressed is broken.
    """
    first = os.read(descriptor, _PIECE)
    while len(first) < len(_GZIP) and (piece := os.read(descriptor, _PIECE)):
        first += piece
    pieces = _readOn(first, descriptor)
    text = _decompress(pieces) if first.startswith(_GZIP) else ((p, len(p)) for p in pieces)
    isFirst = True
    for piece, taken in text:
        if isFirst and piece:
            checkIsText(piece)
            isFirst = False
        yield piece, taken


def _readOn(first: bytes, descriptor: int) -> Iterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = os.read(descriptor, _PIECE)


def _decompress(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    """
    Decompress one gzip stream after the other. Zeros may follow the last.
    """
    stream = zlib.decompressobj(_GZIP_WINDOW)
    isBegun = True
    for piece in pieces:
        data, taken = piece, len(piece)
        while data:
            if not isBegun:
                data = data.lstrip(b"\0")
                if not data:
                    break
                stream, isBegun = zlib.decompressobj(_GZIP_WINDOW), True
            try:
                # This is bounded, because a few compressed bytes may stand for a great many.
                text = stream.decompress(data, BLOCK_SIZE)
            except zlib.error as error:
                raise InputError(f"is not properly compressed: {error}") from error
            yield text, taken
            taken = 0
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
            isBegun = not stream.eof
        # Text may be left that did not fit, though all that it was made of was taken.
        while isBegun and (text := stream.decompress(b"", BLOCK_SIZE)):
            yield text, 0
            isBegun = not stream.eof
        if taken:
            yield b"", taken
    if isBegun:
        raise InputError("is a truncated .gz file: its end is missing")
