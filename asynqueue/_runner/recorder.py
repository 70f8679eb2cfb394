"""
A flight recorder: memory that a child process shares with its parent, and that outlasts the child.

The child notes there which call it begins, at the cost of a memory write. When it dies, the parent
knows from it exactly which calls had begun and which had not. If it crashes, C{faulthandler} writes
there what the child was doing.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
import sys
import tempfile
from multiprocessing import reduction
from typing import IO, Any, Final

DUMP: Final = getattr(signal, "SIGWINCH", None) if hasattr(faulthandler, "register") else None
"""The signal that has C{faulthandler} write the stacks of all threads, wherever they are. Its
default is to be ignored, and a child has no terminal that would send it."""

_NUMBER: Final = struct.Struct("<Q")

_ERASURES: Final = _NUMBER.size
"""Where it stands how often the text was erased, in bytes."""

_STACKS_START: Final = mmap.PAGESIZE
"""Where the text begins, in bytes."""

_SIZE: Final = _STACKS_START + (1 << 16)
"""How much can be read here, in bytes. C{faulthandler} shows 100 calls of each thread at the most,
in a line each."""


def _mapped(fd: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, trackfd=False)
    return mmap.mmap(fd, size)


def readLastBegun(fd: int) -> int:
    """
    Read the number of the call that began last from the file of a L{Recorder}.

    @raise OSError: if it has none.
    """
    data = os.pread(fd, _NUMBER.size, 0)
    if len(data) < _NUMBER.size:
        raise OSError("the file ends too early")
    number: int = _NUMBER.unpack(data)[0]
    return number


class Recorder:
    """
    A flight recorder that is shared with the child process to which this object is sent at its
    start.
    """

    def __init__(self, path: str | None = None) -> None:
        """
        @param path: the path of a new file to keep it in, which stays locked for as long as this
            process or the child lives, and outlasts both. Default: memory, or a file without a
            name.
        @raise OSError: if there are no file descriptors or no memory left, or the file cannot be
            made.
        """
        with self._open(path) as file:
            os.ftruncate(file.fileno(), _SIZE)
            self._map = _mapped(file.fileno(), _SIZE)
            # Before Python 3.13 the map keeps a descriptor of its own, but does not tell which.
            self._fd: int | None = os.dup(file.fileno())
        # How often the text had been erased, and how long it was, before the last dump.
        self._mark = 0, 0

    @staticmethod
    def _open(path: str | None) -> IO[bytes]:
        if path is not None:
            import fcntl

            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            file = os.fdopen(fd, "r+b", buffering=0)
            try:
                # Locks of this kind belong to what is open. The map, and the child's descriptor,
                # keep that open.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise
            return file
        if hasattr(os, "memfd_create"):
            return open(os.memfd_create("asynqueue"), "r+b", buffering=0)
        return tempfile.TemporaryFile()

    def __getstate__(self) -> Any:
        assert self._fd is not None
        return reduction.DupFd(self._fd)

    def __setstate__(self, duplicate: Any) -> None:
        self._fd = duplicate.detach()
        assert self._fd is not None
        # A program that a task starts, or that replaces this process, is not to write here.
        os.set_inheritable(self._fd, False)
        self._map = _mapped(self._fd, mmap.PAGESIZE)

    # In the child ---------------------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """
        Note that a call begins.

        @param number: the call's.
        """
        _NUMBER.pack_into(self._map, 0, number)

    def catchCrash(self) -> None:
        """
        From now on, have C{faulthandler} write the stacks of a crash of this process here.
        """
        assert self._fd is not None
        os.lseek(self._fd, _STACKS_START, os.SEEK_SET)
        faulthandler.enable(self._fd)
        if DUMP is not None:
            faulthandler.register(DUMP, self._fd, all_threads=True)

    def erase(self) -> None:
        """
        Make room for the text of a crash, if stacks were written on request.
        """
        assert self._fd is not None
        if os.lseek(self._fd, 0, os.SEEK_CUR) == _STACKS_START:
            return
        os.pwrite(self._fd, bytes(_SIZE - _STACKS_START), _STACKS_START)
        os.lseek(self._fd, _STACKS_START, os.SEEK_SET)
        _NUMBER.pack_into(self._map, _ERASURES, self._erasures + 1)

    @property
    def _erasures(self) -> int:
        value: int = _NUMBER.unpack_from(self._map, _ERASURES)[0]
        return value

    def explain(self, text: str) -> None:
        """
        Leave a text that tells why this process ends.
        """
        assert self._fd is not None
        os.pwrite(self._fd, text.encode(errors="replace")[: _SIZE - _STACKS_START], _STACKS_START)

    def leave(self) -> None:
        """
        Note nothing there any more, because this process is a forked copy of the worker.
        """
        faulthandler.disable()
        if DUMP is not None:
            faulthandler.unregister(DUMP)
        self.close()
        self._map = mmap.mmap(-1, mmap.PAGESIZE)

    # In the parent --------------------------------------------------------------------------------

    def sent(self) -> None:
        """
        Close the descriptor, because the child has its own now.
        """
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def lastBegun(self) -> int:
        """
        The number of the call that began last; 0 if none did.
        """
        value: int = _NUMBER.unpack_from(self._map, 0)[0]
        return value

    @property
    def stacks(self) -> str | None:
        """
        The text that a crash, or L{explain}, has left, if there was one.
        """
        return self.dumped

    def mayDump(self) -> bool:
        """
        Before the child gets the signal L{DUMP}: note where its text will begin.

        @return: C{False} if there is no room for another one.
        """
        end = len(self._map[_STACKS_START:].rstrip(b"\0"))
        if end > (_SIZE - _STACKS_START) // 2:
            return False
        self._mark = self._erasures, end
        return True

    @property
    def dumped(self) -> str | None:
        """
        The text that was written since L{mayDump}, or the last time that the text was erased.
        """
        erasures, start = self._mark
        if erasures != self._erasures:
            start = 0
        written = self._map[_STACKS_START + start :].rstrip(b"\0")
        return written.decode(errors="replace") or None

    def close(self) -> None:
        """
        Release the memory. Nothing can be asked afterwards.
        """
        self.sent()
        self._map.close()
