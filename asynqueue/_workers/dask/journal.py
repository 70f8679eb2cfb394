"""
A journal outlives the process of a batch of calls. It tells which call had begun last, and the
batch's messages so far.

It is a file that is mapped into memory, beside the Dask worker's own folder. To write there costs
no system call, and what is there outlasts the process, though not the machine. Afterwards, any Dask
worker that has the same folder can read it.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape, glob
from typing import Final

SIZE: Final = 1 << 18
"""How many bytes a journal has. Later messages of the batch are not kept."""

OLD_SECONDS: Final = 3600.0
"""A journal whose process has died is removed after so many seconds."""

_PREFIX: Final = "asynqueue-"
_SUFFIX: Final = ".journal"

# The numbers of the words at the beginning of the file. Each is written at once.
_BEGUN, _USED, _NAME = range(3)
_NAME_START: Final = 64
_START: Final = 512


@dataclass(frozen=True, slots=True)
class Left:
    """
    What a batch left behind.

    @ivar begun: the number of the call that had begun last.
    @ivar messages: the first messages of the batch, each pickled. They are all of them, unless they
        were many or large.
    """

    begun: int
    messages: Sequence[bytes]


class Journal:
    """
    The journal of the batches that run in one thread, one after the other. It stays locked for as
    long as this process lives.
    """

    def __init__(self, folder: str, session: str) -> None:
        """
        @param folder: the folder to keep it in.
        @param session: the name of the session whose batches it is for.
        @raise OSError: if there is no such file to be had.
        """
        if sys.platform == "win32":
            raise OSError("there are no locks that tell whether a process lives")
        import fcntl

        self._file, self._path = tempfile.mkstemp(_SUFFIX, _PREFIX + session, folder)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A disk that is full must be noticed here. Later, it would kill the process.
            os.write(self._file, bytes(SIZE))
            self._map = mmap.mmap(self._file, SIZE)
        except BaseException:
            os.close(self._file)
            os.unlink(self._path)
            raise
        self._words = memoryview(self._map)[:_NAME_START].cast("Q")
        self._end = SIZE

    def open(self, batch: str) -> None:
        """
        Begin with another batch, and forget the one before.
        """
        words, name = self._words, batch.encode()
        words[_NAME] = 0
        words[_BEGUN] = words[_USED] = 0
        self._map[_NAME_START : _NAME_START + len(name)] = name
        self._end = _START
        words[_NAME] = len(name)

    def begin(self, number: int) -> None:
        """
        Note that a call begins.
        """
        self._words[_BEGUN] = number

    def add(self, message: bytes) -> None:
        """
        Keep a message, if there is room for it and was for all before it.
        """
        record = len(message).to_bytes(4, "little") + message
        start, end = self._end, self._end + len(record)
        if end > SIZE:
            self._end = SIZE
            return
        self._map[start:end] = record
        self._end = end
        self._words[_USED] = end - _START

    def release(self) -> None:
        """
        Leave the journal as it is, for others to read.
        """
        self._words.release()
        self._map.close()
        os.close(self._file)

    def close(self) -> None:
        """
        Remove the journal.
        """
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        self.release()


def readJournal(folder: str, session: str, batch: str) -> Left | None:
    """
    Read what a batch left behind.

    @return: C{None} if it left nothing here, or if its process may be alive.
    """
    name = batch.encode()
    for path in glob(escape(os.path.join(folder, _PREFIX + session)) + "*" + _SUFFIX):
        with _opened(path) as file:
            if file is None:
                continue
            data = os.pread(file, SIZE, 0)
            words = memoryview(data)[:_NAME_START].cast("Q")
            if data[_NAME_START : _NAME_START + words[_NAME]] == name:
                end = _START + words[_USED]
                return Left(words[_BEGUN], list(_messages(memoryview(data)[_START:end])))
    return None


def _messages(data: memoryview) -> Iterator[bytes]:
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        yield bytes(data[4:end])
        data = data[end:]


@contextmanager
def _opened(path: str) -> Iterator[int | None]:
    """
    Open a journal of this user's whose process has died; C{None} if it is none.
    """
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        # Somebody else's, or it has just been removed.
        yield None
        return
    try:
        # What is read will be unpickled.
        isOurs = os.fstat(file).st_uid == os.geteuid()
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            isOurs = False
        yield file if isOurs and os.fstat(file).st_size == SIZE else None
    finally:
        os.close(file)


def sweep(folder: str) -> None:
    """
    Remove the journals of processes that died long ago.
    """
    for path in glob(os.path.join(escape(folder), f"{_PREFIX}*{_SUFFIX}")):
        with _opened(path) as file:
            if file is not None and time.time() - os.fstat(file).st_mtime > OLD_SECONDS:
                with suppress(OSError):
                    os.unlink(path)
