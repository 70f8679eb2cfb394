"""
Writing to a pipe whose reader may be slow, while the reactor does its other work.
"""

from __future__ import annotations

import os
import select
import stat
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFDSet, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

# A pipe that is ready takes so many bytes without blocking. POSIX promises at least 512 bytes, and
# Linux 4096.
_PORTION = getattr(select, "PIPE_BUF", 512)


def writeWhenReady(descriptor: int, data: bytes, reactor: Any = None) -> Deferred[None]:
    """
    Write bytes as fast as the reader takes them.

    @param descriptor: an open file descriptor, blocking or not.
    @param reactor: the reactor that watches the descriptor. Default: the global reactor. If it does
        not watch file descriptors, this blocks until all bytes are written.
    @return: a Deferred that fires with C{None} when all bytes are written. It fails with the
        C{OSError} that writing raised. Cancelling it stops the writing.
    """
    if reactor is None:
        from twisted.internet import reactor
    if os.name == "posix" and IReactorFDSet.providedBy(reactor):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return _Writer(descriptor, data, reactor).done
    writeAtOnce(descriptor, data)
    return succeed(None)


def writeAtOnce(descriptor: int, data: bytes) -> None:
    """
    Write bytes, and block until all are written.

    @param descriptor: an open file descriptor, blocking or not.
    @raise OSError: if they cannot be written.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


@implementer(IWriteDescriptor)
class _Writer:
    """
    Writes bytes in portions, each when the reactor says that there is room.
    """

    def __init__(self, descriptor: int, data: bytes, reactor: Any) -> None:
        self._descriptor = descriptor
        self._left = memoryview(data)
        self._reactor = reactor
        self.done: Deferred[None] = Deferred(lambda _: reactor.removeWriter(self))
        reactor.addWriter(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "mcm"

    def doWrite(self) -> None:
        try:
            written = os.write(self._descriptor, self._left[:_PORTION])
        except BlockingIOError:
            return
        except OSError:
            self._end(Failure())
            return
        self._left = self._left[written:]
        if not self._left:
            self._end(None)

    def connectionLost(self, reason: Failure) -> None:
        """
        Fail, because the reader has closed the pipe or the reactor has stopped.
        """
        if not self.done.called:
            self._end(Failure(BrokenPipeError("the pipe has no reader")))

    def _end(self, result: Failure | None) -> None:
        self._reactor.removeWriter(self)
        self.done.callback(result)
