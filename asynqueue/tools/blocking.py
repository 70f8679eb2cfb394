"""
Iterators that threads may block on, over items that arrive in the reactor's thread.
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
    There is no item now, and the caller must not wait.
    """


class BoundedBuffer:
    """
    A buffer between threads. All methods may be called in any thread.

    @ivar window: how many items make it full; infinity for no limit. More items are kept all the
        same.
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
        Tell whether there is room. If not, C{roomMade} will be called when there is.
        """
        with self._changed:
            if len(self._items) >= self.window:
                self._wasFull = True
            return not self._wasFull

    def waitForRoom(self) -> bool:
        """
        @return: C{True} when there is room, C{False} if the end came first.
        """
        with self._changed:
            while not self._isEnded and len(self._items) >= self.window:
                self._changed.wait()
            return not self._isEnded

    def end(self, failure: Failure | None = None) -> None:
        """
        Nothing more will come. The items in the buffer can still be taken, and the failure comes
        after them. This has no effect after the end.
        """
        with self._changed:
            if not self._isEnded:
                self._isEnded = True
                self._failure = failure
                self._changed.notify_all()

    def drop(self) -> None:
        """
        Nothing more is wanted: end, and drop the items in the buffer.
        """
        with self._changed:
            self._isEnded = True
            self._failure = None
            self._items.clear()
            self._changed.notify_all()

    def take(self, mayWait: bool) -> Any:
        """
        Take an item, and wait for one if there is none.

        @param mayWait: whether the caller may wait.
        @raise WouldWait: if there is none and the caller must not wait.
        @raise StopIteration: at the end. If the end is a failure, that is raised instead, once.
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

    After the reactor has begun to stop, it never waits. It then raises
    L{IterationStopped<asynqueue.errors.IterationStopped>}, after the items that are there.
    """

    def __init__(self, window: float, reactor: IReactorTime | None) -> None:
        """
        @param window: how many items make the buffer full.
        @param reactor: the reactor. Default: the global one.
        """
        if window < 1:
            raise ValueError(f"window must be 1 or more items, not {window!r}")
        # The buffer does not refer to the iterator, because a cycle would put off __del__.
        me = weakref.ref(self)

        def roomMade() -> None:
            this = me()
            if this is not None:
                callFromAnyThread(this._reactor, this._roomMade)

        self._reactor = defaultReactor() if reactor is None else reactor
        self._buffer = BoundedBuffer(window, roomMade)
        self._done: OneShotObserverList[None] = OneShotObserverList()
        self._stopCall: StopCall | None = None
        callFromHere(self._reactor, self._watchReactor)

    def __del__(self) -> None:
        # Not there if the constructor has failed.
        done = self.__dict__.get("_done")
        if done is not None and not done.hasFired:
            self._buffer.drop()
            callFromAnyThread(self._reactor, self._abandoned)

    def __repr__(self) -> str:
        state = "ended" if self._buffer.isEnded else "open"
        return f"<{type(self).__name__}: {state}, {len(self._buffer)} items waiting>"

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
            return self._buffer.take(not self._isInReactorThread())
        except WouldWait:
            raise NotReadyError(
                f"{self!r} has no item now, and the reactor's thread must not wait for one: "
                "iterate over it in another thread"
            ) from None
        except BaseException:
            # An interrupted wait does not end the iteration.
            if self._buffer.isEnded:
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
        that are there. This has no effect after the end.
        """
        self._buffer.end(failure)
        callFromHere(self._reactor, self._stopFeeding)

    def stop(self) -> None:
        """
        End the iteration, in any thread.

        The iterating thread calls this because it wants no more: items that it has not taken are
        dropped. In the reactor's thread the call means that no more will come: items that are there
        can still be taken.
        """
        if self._isInReactorThread():
            self._buffer.end()
            self._stopFeeding()
        else:
            self.drop()

    def drop(self) -> None:
        """
        End the iteration, in any thread, and drop the items that were not taken.
        """
        self._buffer.drop()
        callFromHere(self._reactor, self._abandoned)

    def shutdown(self) -> Deferred[None]:
        """
        End the iteration, in the reactor's thread, and drop the items that were not taken.

        @return: a Deferred that fires with C{None} when that is done.
        """
        self.drop()
        return self.deferUntilDone()

    # For subclasses -------------------------------------------------------------------------------

    def _isInReactorThread(self) -> bool:
        """
        Tell whether this thread must not wait here.
        """
        return bool(threadable.isInIOThread())

    def _roomMade(self) -> None:
        """
        Called in the reactor's thread when a buffer that was full has room again.
        """

    def _stopFeeding(self) -> None:
        """
        Called in the reactor's thread when no more items are wanted.
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
        End when the reactor begins to stop, before its thread pool waits for its threads.
        """
        if self._done.hasFired:
            return
        me = weakref.ref(self)

        def stopping() -> None:
            this = me()
            if this is not None:
                why = f"the reactor stopped before {this!r} had ended"
                this.fail(Failure(IterationStopped(why)))

        self._stopCall = StopCall(self._reactor, "before", stopping)


def isReactorThread() -> bool:
    """
    Tell whether this is the reactor's thread. Before any reactor has run, the main thread is taken
    for it.
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
    A B{consumer} for a producer in the reactor's thread, and an itB{erator} for blocking code in
    another thread::

        consumerator = Consumerator(producer)
        d = deferToThread(writer.writeRows, consumerator)

    A push producer is paused when C{window} items wait to be taken, and resumed when half of them
    have been taken. A pull producer is asked for as many items as there is room for.

    C{for item in consumerator} ends when the producer unregisters. Blocking code that leaves the
    loop early must call C{stop}. Otherwise the producer is stopped when the Consumerator is
    garbage-collected, at a time that nobody knows. It is not collected while a thread waits for an
    item. So if you give up a producer, have it unregister, or call C{stop} or C{fail}. The
    iteration also ends when the reactor stops.

    AsynQueue 0.9 had a thread for each Consumerator, and C{write} returned a Deferred. Here neither
    is needed.

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
        Construct it in the reactor's thread.

        @param producer: a push producer to register at once.
        @param maxThreads: has no effect. Programs for AsynQueue 0.9 may give it.
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
        Take a producer. If the iteration has ended already, the producer is stopped.

        @param producer: an C{IPushProducer} or C{IPullProducer}.
        @param streaming: whether it is a push producer.
        @raise RuntimeError: if another producer is registered.
        """
        if self.producer is not None:
            raise RuntimeError(f"{self!r} has a producer already: {self.producer!r}")
        if self._buffer.isEnded:
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
        self._buffer.end()

    def write(self, data: Any) -> None:
        """
        Hand an item of any type to the iterating thread. Call this in the reactor's thread. After
        the end of the iteration the item is dropped.
        """
        hasRoom = self._buffer.put(data)
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
        Ask a pull producer for as many items as there is room for. But let the reactor have its
        turn if the taking thread is as fast as the producer.
        """
        if self._isPulling:
            return
        self._isPulling = True
        try:
            for _ in range(int(self._buffer.window)):
                if self.producer is None or self._isAsked or not self._buffer.hasRoom():
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
    A B{file} to write to in one thread, be it the reactor's, and an itB{erator} over what was
    written, in another thread::

        with filerator:
            table.writeTo(filerator)

    The items are the pieces that were written, bytes, text or anything else, one for each C{write}.
    The iteration ends after them when the Filerator is closed. If an exception leaves the C{with},
    the iteration ends with that exception, so that nobody takes half a file for a whole one.

    Blocking code that leaves the iteration early must call C{stop}. Writing then raises
    C{BrokenPipeError}. The iteration also ends when the reactor stops.

    A task may return a Filerator that another thread goes on writing to. Its items are streamed
    back like those of any iterator.
    """

    def __init__(
        self,
        maxThreads: int | None = None,
        *,
        window: int | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param maxThreads: has no effect. Programs for AsynQueue 0.9 may give it.
        @param window: how many pieces may wait to be taken. Further writing waits until there is
            room. The reactor's thread never waits here; the buffer grows instead. By default,
            nobody waits.
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
        Return C{True}.
        """
        return True

    def readable(self) -> bool:
        """
        Return C{False}, because you iterate instead.
        """
        return False

    def seekable(self) -> bool:
        """
        Return C{False}.
        """
        return False

    def write(self, data: Any) -> int:
        """
        Write a piece.

        @return: its length, or 1 if it has none.
        @raise ValueError: if the file is closed, also while this waits.
        @raise BrokenPipeError: if nobody iterates any more.
        """
        self._checkOpen()
        if not self._isInReactorThread():
            self._buffer.waitForRoom()
            self._checkOpen()
        if self._buffer.isEnded:
            raise BrokenPipeError(f"{self!r} has no reader any more, because its iteration ended")
        self._buffer.put(data)
        return len(data) if hasattr(data, "__len__") else 1

    def writelines(self, lines: Iterable[Any]) -> None:
        """
        Write each of some pieces; nothing is put between them.
        """
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """
        Do nothing, because the pieces can be taken at once.

        @raise ValueError: if the file is closed.
        """
        self._checkOpen()

    def close(self) -> None:
        """
        End the iteration after the pieces that were written. Closing again has no effect.
        """
        self._isClosed = True
        self._buffer.end()

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
