"""
A worker in a thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Iterable
from typing import ClassVar

from twisted.internet.interfaces import IReactorTime

from asynqueue.interfaces import IChannel
from asynqueue.universe.codecs import DIRECT, Codec
from asynqueue.workers.channel.calls import DirectWriter, Writer
from asynqueue.workers.channel.worker import ChannelWorker
from asynqueue.workers.threads.channel import ThreadChannel


class ThreadWorker(ChannelWorker):
    """
    Runs tasks in a thread of its own, one at a time.

    Nothing is pickled or copied: what a call is given, and what it returns, is the very object. An
    iterator is advanced in the thread, and its items come in batches.

    A call that is cancelled or out of time is not ended, for nothing can end a thread: its result
    is dropped, and the thread counts as busy until it returns. A thread that is still busy when its
    worker is crashed, or when the program ends, is left behind.

    @ivar thread: see L{ThreadChannel}.
    """

    cQualified: ClassVar[list[Hashable]] = ["thread", "local"]
    codec: ClassVar[Codec] = DIRECT
    makeWriter: ClassVar[Callable[[], Writer]] = DirectWriter

    def __init__(
        self,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        debug: bool | None = None,
    ) -> None:
        """
        Start the thread.

        @param series: the series that this worker is qualified for, besides C{None}, C{'thread'}
            and C{'local'}.
        @param raw: whether an iterator that a task returns is brought back as it is, rather than
            streamed, where the call does not say.
        @param callStats: whether to keep the times that C{stats} returns.
        @param reactor: what gives the time and is called from the thread. Default: the global
            reactor.
        @param debug: whether a task that is about to do what only the reactor's thread may do is
            stopped there with C{ReactorTouched}, which is logged as well. That makes what the
            thread runs several times slower. Default: whether Python runs in its development mode
            (C{python -X dev}).
        """
        self._raw = raw
        self._debug = sys.flags.dev_mode if debug is None else debug
        super().__init__(series, callStats, reactor)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self.thread and self.thread.name!r}: {self.state}>"

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new thread.
        """
        return ThreadChannel(self._reactor, self._raw, debug=self._debug)

    @property
    def thread(self) -> threading.Thread:
        """
        The thread of this moment.
        """
        assert isinstance(self._channel, ThreadChannel)
        thread: threading.Thread = self._channel.thread
        return thread
