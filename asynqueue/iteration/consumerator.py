"""
The Consumerator: a consumer on one side, a blocking iterator on the other.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from zope.interface import implementer

from asynqueue.iteration.blocking import BlockingIterator, isReactorThread


@implementer(IConsumer)
class Consumerator(BlockingIterator):
    """
    I am a B{consumer} for a producer in the reactor's thread, and an itB{erator} for blocking code
    in another::

        consumerator = Consumerator(producer)
        d = deferToThread(writer.writeRows, consumerator)

    A push producer is paused when C{window} items wait to be taken, and resumed when half of them
    have been. A pull producer is asked for as many as there is room for.

    C{for item in consumerator} ends when the producer unregisters. Blocking code that leaves it
    early calls C{stop}. If it does not, I stop the producer when I am garbage-collected; but nobody
    knows when that is. While a thread waits in my iterator I cannot be, so a producer that is given
    up has to unregister, or C{stop} or C{fail} be called. The reactor's end ends me too, if I was
    constructed before.

    AsynQueue 0.9 had a thread of its own for each, and C{write} returned a Deferred; here there is
    no need of either.

    @ivar producer: the producer that is registered, or C{None}.
    @ivar streaming: whether that is a push producer.
    """

    def __init__(
        self,
        producer: Any = None,
        maxThreads: int | None = None,
        *,
        window: int = 16,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        Construct me in the reactor's thread.

        @param producer: a push producer to register at once.
        @param maxThreads: without effect. AsynQueue 0.9's callers may give it; I need no thread.
        @param window: how many items may wait to be taken before the producer is paused.
        @param reactor: the reactor. Default: the global one.
        @raise ValueError: if C{window} is not positive.
        """
        super().__init__(window, reactor)
        self.producer: Any = None
        self.streaming = False
        self._isPulling = False
        self._isAsked = False
        self._isPaused = False
        self._nextTurn: IDelayedCall | None = None
        if producer is not None:
            self.registerProducer(producer, True)

    # IConsumer ------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Take a producer. If I have ended already, it is stopped.

        @param producer: an C{IPushProducer} or C{IPullProducer}.
        @param streaming: whether it is a push producer.
        @raise RuntimeError: if I have a producer.
        """
        if self.producer is not None:
            raise RuntimeError(f"{self!r} has a producer already: {self.producer!r}")
        if self._handover.isEnded:
            producer.stopProducing()
            return
        self.producer = producer
        self.streaming = streaming
        self._isPaused = self._isAsked = False
        if not streaming:
            self._pull()

    def unregisterProducer(self) -> None:
        """
        The producer has written its last item: the iteration ends after it.
        """
        self._forgetProducer()
        self._handover.end()

    def write(self, data: Any) -> None:
        """
        Hand an item to the iterating side, of any type. In the reactor's thread. It is dropped if
        the iteration has ended.
        """
        hasRoom = self._handover.put(data)
        self._isAsked = False
        if self.producer is None:
            return
        if not self.streaming:
            self._pull()
        elif not hasRoom and not self._isPaused:
            self._isPaused = True
            self.producer.pauseProducing()

    # Hooks ----------------------------------------------------------------------------------------

    def _isInReactorThread(self) -> bool:
        return isReactorThread()

    def _roomMade(self) -> None:
        if self.producer is None:
            return
        if not self.streaming:
            self._pull()
        elif self._isPaused:
            self._isPaused = False
            self.producer.resumeProducing()

    def _stopFeeding(self) -> None:
        producer = self.producer
        if producer is not None:
            self._forgetProducer()
            producer.stopProducing()

    def _forgetProducer(self) -> None:
        self.producer = None
        if self._nextTurn is not None:
            self._nextTurn.cancel()
            self._nextTurn = None

    def _pull(self) -> None:
        """
        Ask a pull producer for as many items as there is room for; but let the reactor have its
        turn, should the taking thread be as fast as the producer.
        """
        if self._isPulling:
            return
        self._isPulling = True
        try:
            for _ in range(int(self._handover.window)):
                if self.producer is None or self._isAsked or not self._handover.hasRoom():
                    return
                self._isAsked = True
                self.producer.resumeProducing()
        finally:
            self._isPulling = False
        if self.producer is not None and not self._isAsked and self._nextTurn is None:
            self._nextTurn = self._reactor.callLater(0, self._takeTurn)

    def _takeTurn(self) -> None:
        self._nextTurn = None
        if self.producer is not None:
            self._pull()
