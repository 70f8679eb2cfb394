"""
Blocks of a log: whole lines, about 4 MB of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from examples.weblog.errors import InputError, ReadingStopped

BLOCK_SIZE: Final = 4 << 20
"""How many bytes of text a block is to have."""

LONGEST_LINE: Final = 1 << 20
"""How many bytes of a line are kept beyond its block. No line of a log is as long as that."""

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class FileBlock:
    """
    The lines of a file that begin within a range of it. A worker process reads them.

    @ivar path: the file.
    @ivar start: where the first line may begin, in bytes.
    @ivar stop: the place from which on no line belongs to this block.
    @ivar identity: the file's device and inode when it was looked at.
    """

    path: str
    start: int
    stop: int
    identity: tuple[int, int]

    @property
    def advance(self) -> int:
        """
        How many bytes of the input are done with this block.
        """
        return self.stop - self.start

    def read(self) -> bytes:
        """
        Read the lines. A line that begins before L{start} belongs to the previous block.

        @raise OSError: if the file cannot be read.
        @raise InputError: if another file has taken its place.
        """
        with open(self.path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self.identity:
                raise InputError("was replaced by another file while it was read")
            if status.st_size < self.stop:
                raise InputError("became shorter while it was read")
            return self._readLines(file)

    def _readLines(self, file: BinaryIO) -> bytes:
        start = max(0, self.start - 1)
        file.seek(start)
        data = readFully(file, self.stop - start)
        if self.start:
            # The byte before the block tells whether a line begins with the block.
            data = data.partition(b"\n")[2]
        if not data or data.endswith(b"\n"):
            return data
        return data + _readRestOfLine(file)


@dataclass(frozen=True, slots=True)
class DataBlock:
    """
    Lines that were read already, such as those of a compressed file.

    @ivar data: the lines.
    @ivar advance: how many bytes of the input are done with this block, before decompression.
    """

    data: bytes
    advance: int

    def __sizeof__(self) -> int:
        # By this, the stream that blocks come through knows how many it may read ahead. It does not
        # look for what is inside of an item.
        return object.__sizeof__(self) + sys.getsizeof(self.data)

    def read(self) -> bytes:
        """
        @return: the lines.
        """
        return self.data


Block = FileBlock | DataBlock


def cutFile(path: str, status: os.stat_result, size: int = BLOCK_SIZE) -> Iterator[FileBlock]:
    """
    Cut a file into blocks, without reading it.

    @param status: the file's status. Lines that are written later are not read.
    @param size: the number of bytes of a block.
    """
    identity = status.st_dev, status.st_ino
    for start in range(0, status.st_size, size):
        yield FileBlock(path, start, min(start + size, status.st_size), identity)


def cutPieces(pieces: Iterator[tuple[bytes, int]], size: int = BLOCK_SIZE) -> Iterator[DataBlock]:
    """
    Cut text that arrives in pieces into blocks. If the pieces fail, the text before is in a block.
    If that is because nothing more is to be read, only whole lines are, and the blocks end.

    @param pieces: pairs of some text and the number of bytes of the input that it stands for. An
        empty text of no bytes means that the lines so far are not to wait for others.
    @param size: the least number of bytes of a block.
    """
    held: list[bytes] = []
    length = advance = 0
    failure: Exception | None = None
    while True:
        try:
            piece, taken = next(pieces)
        except StopIteration:
            break
        except ReadingStopped:
            # The end of the last line may not have been read.
            lines, end, _ = b"".join(held).rpartition(b"\n")
            held, length = [lines + end], len(lines + end)
            break
        except Exception as error:
            failure = error
            break
        length += len(piece)
        advance += taken
        held.append(piece)
        # An empty piece that stands for nothing means that nothing more is there for now.
        isIdle = not piece and not taken
        if (
            (length >= size and b"\n" in piece)
            or length >= size + LONGEST_LINE
            or (isIdle and any(b"\n" in each for each in held))
        ):
            block, rest = _cutAtLineEnd(b"".join(held))
            yield DataBlock(block, advance)
            held, length, advance = [rest], len(rest), 0
    if length or advance:
        yield DataBlock(b"".join(held), advance)
    if failure is not None:
        raise failure


def readFully(file: BinaryIO, size: int) -> bytes:
    """
    @return: so many bytes of a file, or fewer at its end.
    """
    data = bytearray()
    while len(data) < size and (piece := file.read(size - len(data))):
        if len(piece) == size:
            return piece
        data += piece
    return bytes(data)


def _cutAtLineEnd(data: bytes) -> tuple[bytes, bytes]:
    """
    Cut after the last end of a line; after everything if there is none.
    """
    end = data.rfind(b"\n") + 1 or len(data)
    return data[:end], data[end:]


def _readRestOfLine(file: BinaryIO) -> bytes:
    rest = bytearray()
    while len(rest) < LONGEST_LINE and (piece := file.read(_PIECE)):
        head, end, _ = piece.partition(b"\n")
        rest += head + end
        if end:
            break
    return bytes(rest)
