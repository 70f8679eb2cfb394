"""
The channel to a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from asynqueue.deferreds.clock import callFromAnyThread
from asynqueue.errors import WorkerDied, WorkerStartError
from asynqueue.interfaces import IChannel
from asynqueue.universe.codecs import DIRECT
from asynqueue.universe.messages import CANCEL, RECALL, UNBEGUN, Message
from asynqueue.universe.universe import Universe
from asynqueue.workers.threads.inbox import Inbox
from asynqueue.workers.threads.watch import OffLimits, ReactorWatch


def startThread(target: Callable[[], object]) -> threading.Thread:
    """
    Start a thread that keeps no interpreter from ending.

    @raise RuntimeError: if the system has no more threads.
    """
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.name = f"asynqueue worker {thread.native_id}"
    return thread


@implementer(IChannel)
class ThreadChannel:
    """
    A thread and the messages to and from it, which nobody pickles.

    No thread can be ended from outside. One that is told to end while it runs a call is left
    behind: nothing that it says is heard any more, and it ends after that call.

    @ivar thread: the thread, once L{open} was called.
    """

    isMortal = False
    pid = None

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        raw: bool = False,
        start: Callable[[Callable[[], object]], Any] = startThread,
        debug: bool = False,
    ) -> None:
        """
        @param reactor: what has its thread called from this one.
        @param raw: whether iterators come back as they are, where a call does not say.
        @param start: starts the thread, given what it is to do.
        @param debug: whether tasks are kept from touching the reactor.
        """
        self.thread: Any = None
        self._reactor = reactor
        self._start = start
        self._watch: ReactorWatch | None = None
        post = self._post
        if debug:
            # What is posted to a clock without threads is told within the thread.
            offLimits = OffLimits(reactor, exempt=[self._post])
            self._watch = ReactorWatch(offLimits, lambda: self._universe.running)
            post = self._postWatched
        self._universe = Universe(post, self._begin, raw, codec=DIRECT)
        self._inbox = Inbox()
        # Two threads use these, one at a time.
        self._outboxLock = threading.Lock()
        self._outbox: list[Message] = []
        self._isLeft = False
        self._isOver = False
        self._lastBegun = 0

    # IChannel -------------------------------------------------------------------------------------

    @property
    def lastBegun(self) -> int:
        """
        The number of the last call that began.
        """
        return self._lastBegun

    def open(self, receiver: Any) -> None:
        """
        Start the thread.
        """
        self._receiver = receiver
        try:
            self.thread = self._start(self._serve)
        except RuntimeError as error:
            self._isOver = True
            raise WorkerStartError(f"a worker's thread could not be started: {error}") from error

    def send(self, messages: list[Message]) -> None:
        """
        Send messages. Calls that were not begun are taken back from here, even while the thread is
        busy.
        """
        for message in messages:
            if message[0] == RECALL:
                self._takeBack(None)
            elif message[0] == CANCEL:
                self._takeBack(message[1])
        self._inbox.put(messages)

    def nudge(self) -> None:
        """
        A thread looks at its messages between two calls.
        """

    def terminate(self) -> None:
        """
        Have the thread end after the call that it is running.
        """
        self._universe.ended = True
        self._inbox.close()

    def kill(self) -> None:
        """
        Leave the thread, at once.
        """
        if self._isOver or self._isLeft:
            return
        self._isLeft = True
        number = self._universe.running
        if number is not None:
            self.log.warn(
                "{thread} is left behind: it is still running call {number}",
                thread=self.thread,
                number=number,
            )
        self.terminate()
        self._reactor.callLater(0, self._over)

    def residentKilobytes(self) -> int | None:
        """
        A thread has no memory of its own.
        """
        return None

    def _takeBack(self, number: int | None) -> None:
        numbers = [call[1] for call in self._inbox.takeCalls(number)]
        if numbers:
            self._post((UNBEGUN, numbers))

    # In the thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        universe, inbox, watch = self._universe, self._inbox, self._watch
        try:
            universe.hello()
            while not universe.ended:
                universe.receive(inbox.take(shouldWait=not universe.hasWork))
                if watch is not None:
                    watch.watch()
                if not self._isLeft:
                    universe.step()
            universe.receive(inbox.takeCalls())
            universe.close()
        finally:
            if watch is not None:
                watch.end()
            callFromAnyThread(self._reactor, self._over)

    def _begin(self, number: int) -> None:
        self._lastBegun = number

    def _post(self, message: Message) -> None:
        with self._outboxLock:
            self._outbox.append(message)
            isFirst = len(self._outbox) == 1
        if isFirst:
            callFromAnyThread(self._reactor, self._deliver)

    def _postWatched(self, message: Message) -> None:
        assert self._watch is not None
        self._post(self._watch.answer(message))

    # In the reactor's thread ----------------------------------------------------------------------

    def _deliver(self) -> None:
        with self._outboxLock:
            messages, self._outbox = self._outbox, []
        if messages and not self._isLeft:
            self._receiver.received(messages)

    def _over(self) -> None:
        """
        The thread has ended, or was left.
        """
        if self._isOver:
            return
        self._deliver()
        self._isOver = True
        self._receiver.lost(WorkerDied())
