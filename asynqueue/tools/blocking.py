"""
Iterators for threads that may block, over items that arrive in the reactor's thread.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._lifecycle import StopCall
from asynqueue._reactor import callFromAnyThread, defaultReactor
from asynqueue._waiters import OneShotObserverList
from asynqueue.errors import IterationStopped, NotReadyError


class WouldWait(Exception):
    """
    There is nothing now, and the caller must not wait.
    """


class BoundedBuffer:
    """
    A buffer between threads. All methods may be called in any thread.

    @ivar window: how many items count as full; infinity if none do. What is put beyond that is
        kept all the same.
    """

    def __init__(self, window: float, roomMade: Callable[[], None]) -> None:
        """
        @param roomMade: called in the taking thread when the buffer was full and half of it has
            been taken.
        """
        self.window = window
        self._roomMade = roomMade
        self._items: deque[Any] = deque()
        # Reentrant, as the garbage collector may end an iteration at any time.
        self._changed = threading.Condition(threading.RLock())
        self._failure: Failure | None = None
        self._isEnded = False
        self._wasFull = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def isEnded(self) -> bool:
        """
        Whether nothing more can be put.
        """
        return self._isEnded

    def put(self, item: Any) -> bool:
        """
        @return: whether there is room for another.
        """
        with self._changed:
            if not self._isEnded:
                self._items.append(item)
                self._changed.notify_all()
            return self.hasRoom()

    def hasRoom(self) -> bool:
        """
        Look whether there is room. If not, it will be told when there is.
        """
        with self._changed:
            if len(self._items) >= self.window:
                self._wasFull = True
            return not self._wasFull

    def waitForRoom(self) -> bool:
        """
        @return: whether there is room; not if the end came first.
        """
        with self._changed:
            while not self._isEnded and len(self._items) >= self.window:
                self._changed.wait()
            return not self._isEnded

    def end(self, failure: Failure | None = None) -> None:
        """
        Nothing more will come. What is in the buffer can still be taken, and a failure after it. No
        effect if it has ended.
        """
        with self._changed:
            if not self._isEnded:
                self._isEnded = True
                self._failure = failure
                self._changed.notify_all()

    def drop(self) -> None:
        """
        Nothing more is wanted: end, and forget what is in the buffer.
        """
        with self._changed:
            self._isEnded = True
            self._failure = None
            self._items.clear()
            self._changed.notify_all()

    def take(self, mayWait: bool) -> Any:
        """
        Take an item, and wait for it if there is none.

        @param mayWait: whether the caller can wait.
        @raise WouldWait: if there is none and the caller cannot wait.
        @raise StopIteration: at the end. If that is a failure, it is raised instead, once.
        """
        with self._changed:
            while not self._items and not self._isEnded:
                if not mayWait:
                    raise WouldWait
                self._changed.wait()
            if not self._items:
                failure, self._failure = self._failure, None
                if failure is not None:
                    failure.raiseException()
                raise StopIteration
            item = self._items.popleft()
            isRoomMade = self._wasFull and len(self._items) <= self.window // 2
            if isRoomMade:
                self._wasFull = False
            self._changed.notify_all()
        if isRoomMade:
            self._roomMade()
        return item


class BlockingIterator:
    """
    An iterator for a thread other than the reactor's, which waits for each item.

    It never waits after the reactor has begun to stop: it then raises
    L{IterationStopped<asynqueue.errors.IterationStopped>}, after the items that are there.
    """

    def __init__(self, window: float, reactor: IReactorTime | None) -> None:
        """
        @param window: how many items make the buffer full.
        @param reactor: the reactor. Default: the global one.
        """
        if window < 1:
            raise ValueError(f"window is {window!r}, but a buffer must have room for an item")
        # The buffer does not refer to me, as a cycle would put off __del__.
        me = weakref.ref(self)

        def roomMade() -> None:
            this = me()
            if this is not None:
                callFromAnyThread(this._reactor, this._roomMade)

        self._reactor = defaultReactor() if reactor is None else reactor
        self._handover = BoundedBuffer(window, roomMade)
        self._done: OneShotObserverList[None] = OneShotObserverList()
        self._stopCall: StopCall | None = None
        callFromHere(self._reactor, self._watchReactor)

    def __del__(self) -> None:
        # Not there if the constructor has failed.
        done = self.__dict__.get("_done")
        if done is not None and not done.hasFired:
            self._handover.drop()
            callFromAnyThread(self._reactor, self._abandoned)

    def __repr__(self) -> str:
        state = "ended" if self._handover.isEnded else "open"
        return f"<{type(self).__name__}: {state}, {len(self._handover)} items waiting>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """
        Wait for the next item.

        @raise StopIteration: at the end.
        @raise NotReadyError: if there is no item now and this is the reactor's thread, which must
            not wait: no item would ever come.
        """
        try:
            return self._handover.take(not self._isInReactorThread())
        except WouldWait:
            raise NotReadyError(
                f"{self!r} was iterated over in the reactor's thread, where waiting would keep "
                "items from ever coming: iterate over it in another thread"
            ) from None
        except BaseException:
            # Waiting may also have been interrupted, which ends nothing.
            if self._handover.isEnded:
                callFromAnyThread(self._reactor, self._finish)
            raise

    def deferUntilDone(self) -> Deferred[None]:
        """
        Wait, in the reactor's thread, until iterating is done.

        @return: a Deferred that fires with C{None} when the iterating side has come to the end, or
            to the failure, or has called L{stop}. Cancelling it ends only this wait.
        """
        return self._done.whenFired()

    def fail(self, failure: Failure) -> None:
        """
        End the iteration with a failure, which is raised in the iterating thread after the items
        that are there. No effect if it has ended.
        """
        self._handover.end(failure)
        callFromHere(self._reactor, self._stopFeeding)

    def stop(self) -> None:
        """
        End the iteration, in any thread.

        The iterating side says by it that it wants no more: what was not taken is dropped. In the
        reactor's thread it says that no more will come: what is there can still be taken.
        """
        if self._isInReactorThread():
            self._handover.end()
            self._stopFeeding()
        else:
            self.drop()

    def drop(self) -> None:
        """
        End the iteration, in any thread, and drop what was not taken.
        """
        self._handover.drop()
        callFromHere(self._reactor, self._abandoned)

    def shutdown(self) -> Deferred[None]:
        """
        End the iteration, in the reactor's thread, and drop what was not taken.

        @return: a Deferred that fires with C{None} when that is done.
        """
        self.drop()
        return self.deferUntilDone()

    # For subclasses -------------------------------------------------------------------------------

    def _isInReactorThread(self) -> bool:
        """
        Tell whether this is a thread that must not wait here.
        """
        return bool(threadable.isInIOThread())

    def _roomMade(self) -> None:
        """
        In the reactor's thread: a buffer that was full has room again.
        """

    def _stopFeeding(self) -> None:
        """
        In the reactor's thread: no more items are of use.
        """

    # The end --------------------------------------------------------------------------------------

    def _abandoned(self) -> None:
        self._stopFeeding()
        self._finish()

    def _finish(self) -> None:
        if self._stopCall is not None:
            self._stopCall.forget()
        self._done.fire(None)

    def _watchReactor(self) -> None:
        """
        End with the reactor. Its thread pool waits for its threads at the end, so this comes first.
        """
        if self._done.hasFired:
            return
        me = weakref.ref(self)

        def stopping() -> None:
            this = me()
            if this is not None:
                this.fail(Failure(IterationStopped(f"the reactor stops before {this!r} has ended")))

        self._stopCall = StopCall(self._reactor, "before", stopping)


def isReactorThread() -> bool:
    """
    Tell whether this is the reactor's thread. Before any reactor has run, that is the main thread,
    but for odd programs.
    """
    if threadable.ioThread:
        return bool(threadable.isInIOThread())
    return threading.current_thread() is threading.main_thread()


def callFromHere(reactor: IReactorTime, function: Callable[[], object]) -> None:
    """
    Call a function in the reactor's thread: now, if this is it.
    """
    if isReactorThread():
        function()
    else:
        callFromAnyThread(reactor, function)


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
