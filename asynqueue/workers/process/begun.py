"""
A number in memory that two processes share.

The child notes there which call it begins, at the cost of a memory write. When it dies, the parent
knows from it exactly which calls had begun and which had not.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from multiprocessing import reduction
from typing import Any, Final

_NUMBER: Final = struct.Struct("<Q")


class SharedNumber:
    """
    An integer, at first 0, that is shared with the child process to which this object is sent at
    its start.
    """

    def __init__(self) -> None:
        """
        @raise OSError: if there are no file descriptors or no memory left.
        """
        with (
            tempfile.TemporaryFile()
            if not hasattr(os, "memfd_create")
            else open(os.memfd_create("asynqueue"), "r+b", buffering=0) as file
        ):
            os.ftruncate(file.fileno(), mmap.PAGESIZE)
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)
            # The map keeps a descriptor of its own, but does not tell which.
            self._fd: int | None = os.dup(file.fileno())

    def __getstate__(self) -> Any:
        assert self._fd is not None
        return reduction.DupFd(self._fd)

    def __setstate__(self, duplicate: Any) -> None:
        fd = duplicate.detach()
        self._map = mmap.mmap(fd, mmap.PAGESIZE)
        self._fd = None
        os.close(fd)

    def sent(self) -> None:
        """
        The child has it: the descriptor is not needed any more.
        """
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        """
        Nobody asks for the number any more.
        """
        self.sent()
        self._map.close()

    def set(self, number: int) -> None:
        """
        Write the number.
        """
        _NUMBER.pack_into(self._map, 0, number)

    def get(self) -> int:
        """
        Read the number.
        """
        value: int = _NUMBER.unpack_from(self._map, 0)[0]
        return value
