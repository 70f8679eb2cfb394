"""
The Filerator: a file to write to on one side, a blocking iterator on the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue.iteration.blocking import BlockingIterator


class Filerator(BlockingIterator):
    """
    I am a B{file} to write to in one thread, the reactor's or any, and an itB{erator} over what was
    written in another::

        with filerator:
            table.writeTo(filerator)

    The items are the pieces that were written, bytes, text or anything else, one for each C{write}.
    The iteration ends after them when I am closed. Leaving the C{with} by an exception ends it with
    that exception instead, so that half a file is not taken for a whole one.

    Blocking code that leaves the iteration early calls C{stop}; writing then raises
    C{BrokenPipeError}. The reactor's end ends me too.

    I may be the result of a task that leaves another thread writing to me: my items are then
    streamed back as those of any iterator.
    """

    def __init__(
        self,
        maxThreads: int | None = None,
        *,
        window: int | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param maxThreads: without effect. AsynQueue 0.9's callers may give it; I need no thread.
        @param window: how many pieces may wait to be taken. Further writing waits until there is
            room; except in the reactor's thread, which never waits here, so that the buffer grows.
            By default, nobody waits.
        @param reactor: the reactor. Default: the global one.
        @raise ValueError: if C{window} is not positive.
        """
        super().__init__(math.inf if window is None else window, reactor)
        self._isClosed = False

    @property
    def closed(self) -> bool:
        """
        Whether L{close} was called.
        """
        return self._isClosed

    def writable(self) -> bool:
        """
        @return: C{True}.
        """
        return True

    def readable(self) -> bool:
        """
        @return: C{False}: one iterates over me instead.
        """
        return False

    def seekable(self) -> bool:
        """
        @return: C{False}.
        """
        return False

    def write(self, data: Any) -> int:
        """
        Write a piece.

        @return: its length, or 1 if it has none.
        @raise ValueError: if I am closed, or am closed while this waits.
        @raise BrokenPipeError: if nobody iterates over me any more.
        """
        self._checkOpen()
        if not self._isInReactorThread():
            self._handover.waitForRoom()
            self._checkOpen()
        if self._handover.isEnded:
            raise BrokenPipeError(f"{self!r} has no reader any more: its iteration was ended")
        self._handover.put(data)
        return len(data) if hasattr(data, "__len__") else 1

    def writelines(self, lines: Iterable[Any]) -> None:
        """
        Write each of some pieces; nothing is put between them.
        """
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """
        Do nothing: what was written can be taken at once.

        @raise ValueError: if I am closed.
        """
        self._checkOpen()

    def close(self) -> None:
        """
        End the iteration after what was written. Closing again has no effect.
        """
        self._isClosed = True
        self._handover.end()

    def __enter__(self) -> Self:
        self._checkOpen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.fail(Failure(error, kind, traceback))
        self.close()

    def _checkOpen(self) -> None:
        if self._isClosed:
            raise ValueError(f"{self!r} is closed: nothing more can be written to it")
