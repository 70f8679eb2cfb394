"""
Writing to a pipe whose reader may be slow, without keeping the reactor from its other work.
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

# To a pipe that is ready, so much can be written at once without having to wait: POSIX promises at
# least 512 bytes, and Linux 4096.
_PORTION = getattr(select, "PIPE_BUF", 512)


def writeWhenReady(descriptor: int, data: bytes, reactor: Any = None) -> Deferred[None]:
    """
    Write bytes, as fast as they are read.

    @param descriptor: an open file descriptor, blocking or not.
    @param reactor: what watches it. Default: the global reactor. If it does not watch file
        descriptors, the bytes are written at once, however long that takes.
    @return: a Deferred that fires with C{None} when all is written, or fails with the C{OSError}
        that writing raised. To cancel it is to write no more.
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
    Write bytes, and block until that is done.

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
    I write bytes in portions, each when the reactor says that there is room.
    """

    def __init__(self, descriptor: int, data: bytes, reactor: Any) -> None:
        self._descriptor = descriptor
        self._left = memoryview(data)
        self._reactor = reactor
        self.done: Deferred[None] = Deferred(lambda _: reactor.removeWriter(self))
        reactor.addWriter(self)

    def fileno(self) -> int:
        """
        Tell the reactor what to watch.
        """
        return self._descriptor

    def logPrefix(self) -> str:
        """
        Tell the log who I am.
        """
        return "mcm"

    def doWrite(self) -> None:
        """
        Write what there is room for.
        """
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
        The reader is gone, or the reactor has stopped.
        """
        if not self.done.called:
            self._end(Failure(BrokenPipeError("nobody reads the pipe any more")))

    def _end(self, result: Failure | None) -> None:
        self._reactor.removeWriter(self)
        self.done.callback(result)
