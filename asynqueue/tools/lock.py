"""
A lock to wait for with Deferreds. It can be stopped, and calls functions when it stops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from enum import Enum, auto
from functools import partial
from types import TracebackType
from typing import Any, Final

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    inlineCallbacks,
    maybeDeferred,
    succeed,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._waiters import Waiters


class _State(Enum):
    FREE = auto()
    HELD = auto()
    DRAINING = auto()
    """Held. The lock will stop once everyone who waits now has had a turn."""
    DRAINED = auto()
    """Like C{DRAINING}, but between two turns or after the last one."""
    CLOSING = auto()
    """The stoppers run. Everyone who asks gets the lock at once."""
    STOPPED = auto()


_MOVES: Final[Mapping[str, Mapping[_State, _State]]] = {
    "take": {
        _State.FREE: _State.HELD,
        _State.DRAINED: _State.DRAINING,
    },
    "release": {
        _State.HELD: _State.FREE,
        _State.DRAINING: _State.DRAINED,
        # A lock that was taken when it locked nobody out need not be given back.
        _State.CLOSING: _State.CLOSING,
        _State.STOPPED: _State.STOPPED,
    },
    "stop": {
        _State.FREE: _State.DRAINED,
        _State.HELD: _State.DRAINING,
        _State.DRAINING: _State.DRAINING,
        _State.DRAINED: _State.DRAINED,
        _State.CLOSING: _State.CLOSING,
        _State.STOPPED: _State.STOPPED,
    },
    "close": {_State.DRAINED: _State.CLOSING},
    "finish": {_State.CLOSING: _State.STOPPED},
}


class DeferredLock:
    """
    A lock that one holds at a time. The others wait for their turns with Deferreds. It can be
    stopped::

               take               stop
        FREE --------> HELD ----------------> DRAINING
          |  <--------                        |      ^
          |   release                 release |      | take
          |                                   v      |
          +----------------stop-------------> DRAINED --close--> CLOSING --finish--> STOPPED

    Once the stoppers run (C{CLOSING}) and ever after (C{STOPPED}), each L{acquire} fires at once
    and L{release} has no effect. So a stopper may ask for the lock, too.

    The lock does not know who holds it. If your L{acquire} has fired, you must call L{release}
    once. L{context} and L{run} do both.
    """

    _log = Logger()

    def __init__(self, allowZombies: bool = False) -> None:
        """
        @param allowZombies: has no effect, as in AsynQueue 0.9.
        """
        self._state = _State.FREE
        self._vips: Waiters[DeferredLock] = Waiters()
        self._regulars: Waiters[DeferredLock] = Waiters()
        self._latecomers: Waiters[DeferredLock] = Waiters()
        self._isPassing = False
        self._stoppers: deque[Callable[[], object]] = deque()
        self._stops: Waiters[None] = Waiters()

    def __repr__(self) -> str:
        waiting = len(self._vips) + len(self._regulars) + len(self._latecomers)
        return f"<DeferredLock at {id(self):#x}, {self._state.name}, {waiting} waiting>"

    def acquire(self, vip: bool = False) -> Deferred[DeferredLock]:
        """
        Ask for the lock.

        Turns are given in the order of asking, but to all VIPs before anyone else. If you ask after
        L{stop} while others still have their turns, your Deferred fires when those are over,
        together with all others of that kind, just before the stoppers run.

        @param vip: whether to wait among the VIPs.
        @return: a Deferred that fires with the lock when the caller holds it, at once if it is free
            and nobody waits. Cancelling it ends the wait.
        """
        if self._state in (_State.CLOSING, _State.STOPPED):
            return succeed(self)
        if self._state is _State.FREE and not self._vips and not self._regulars:
            self._move("take")
            return succeed(self)
        if self._state in (_State.DRAINING, _State.DRAINED):
            return self._latecomers.add()
        return (self._vips if vip else self._regulars).add()

    def release(self) -> None:
        """
        Give the lock back, which gives the next one its turn.

        @raise RuntimeError: if nobody holds the lock.
        """
        self._move("release")
        self._passOn()

    def acquireAndRelease(self, vip: bool = False) -> Deferred[None]:
        """
        Wait for a turn and give it up at once.

        @param vip: whether to wait among the VIPs.
        @return: a Deferred that fires with C{None} when that is done. Cancelling it ends the wait.
        """
        return self.acquire(vip).addCallback(DeferredLock.release)

    @property
    def locked(self) -> bool:
        """
        Whether the lock is held now.
        """
        return self._state in (_State.HELD, _State.DRAINING)

    def run(self, f: Callable[..., object], /, *args: object, **kw: object) -> Deferred[Any]:
        """
        Wait for a turn, call a function, and give the turn up when the function is through.

        @param f: the function. If it returns a Deferred or a coroutine, that is waited for.
        @param args: positional arguments for it.
        @param kw: keyword arguments for it.
        @return: a Deferred that fires with what the function returned, or fails with what it
            raised. Cancelling it while it waits for its turn ends the wait, and the function is not
            called. Cancelling it later cancels the function's Deferred.
        """

        def call(_: object) -> Deferred[Any]:
            return maybeDeferred(f, *args, **kw).addBoth(self._giveBack)

        return self.acquire().addCallback(call)

    def _giveBack(self, result: Any) -> Any:
        self.release()
        return result

    def context(self, vip: bool = False) -> _Turn:
        """
        Make a context manager that holds the lock for the length of its block, and gives it back on
        every way out.

        In a function with C{inlineCallbacks}::

            with lock.context() as d:
                yield d
                ...

        In a coroutine::

            async with lock.context():
                ...

        If the block is left before its turn has come, its wait ends. Do not call L{release} within
        the block.

        @param vip: whether to wait among the VIPs.
        @return: the context manager. It asks for the lock when its block is entered. C{with} gives
            what L{acquire} gives, C{async with} gives the lock.
        """
        return _Turn(self, vip)

    def addStopper(self, f: Callable[..., object], *args: object, **kw: object) -> None:
        """
        Add a call to be made when the lock is stopped.

        @param f: the callable. If it returns a Deferred or a coroutine, that is waited for.
        @param args: positional arguments for it.
        @param kw: keyword arguments for it.
        @raise RuntimeError: if the lock has stopped, because the call would never be made.
        """
        if self._state is _State.STOPPED:
            raise RuntimeError(f"{self!r} has stopped and will never call the stopper {f!r}")
        self._stoppers.append(partial(f, *args, **kw))

    def stop(self) -> Deferred[None]:
        """
        Wait until the lock is free and everyone who waits now has had a turn. Then call the
        stoppers one after the other, in the order of adding.

        All stoppers are called, even if one fails. Calling this again begins nothing new.

        @return: a Deferred that fires with C{None} when the lock has stopped, or, if it is from the
            first call of this method, with the first Failure of a stopper. Later Failures are
            logged. Cancelling it ends only this wait.
        """
        if self._state is _State.STOPPED:
            return succeed(None)
        self._move("stop")
        d = self._stops.add()
        self._passOn()
        return d

    def _move(self, event: str) -> None:
        try:
            self._state = _MOVES[event][self._state]
        except KeyError:
            raise RuntimeError(f"cannot {event} {self!r}: it is {self._state.name}") from None

    def _passOn(self) -> None:
        """
        Give turns for as long as the lock is free and someone waits.

        A turn may be over before the Deferred's C{callback} has returned. Then this loop gives the
        next one, rather than a recursion, because any number may wait.
        """
        if self._isPassing:
            return
        self._isPassing = True
        try:
            while self._state in _MOVES["take"] and (line := self._vips or self._regulars):
                d = line.take()
                self._move("take")
                d.callback(self)
        finally:
            self._isPassing = False
        if self._state is _State.DRAINED:
            self._close()

    def _close(self) -> None:
        self._move("close")
        self._latecomers.fire(self)
        self._runStoppers()

    @inlineCallbacks
    def _runStoppers(self) -> Generator[Deferred[object], object, None]:
        failures: list[Failure] = []
        while self._stoppers:
            yield maybeDeferred(self._stoppers.popleft()).addErrback(failures.append)
        self._move("finish")
        if failures and self._stops:
            self._stops.take().errback(failures.pop(0))
        for failure in failures:
            self._log.failure("a stopper of {lock} failed", failure, lock=self)
        self._stops.fire(None)


class _Turn:
    """
    Holds a lock for the length of a block.
    """

    def __init__(self, lock: DeferredLock, vip: bool) -> None:
        self._lock = lock
        self._vip = vip
        self._isHolding = False
        self._d: Deferred[DeferredLock] | None = None

    def __enter__(self) -> Deferred[DeferredLock]:
        if self._d is not None:
            raise RuntimeError(f"this context of {self._lock!r} was entered before: make another")
        self._d = self._lock.acquire(self._vip).addCallback(self._begin)
        return self._d

    def __exit__(
        self,
        exceptionType: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish()

    async def __aenter__(self) -> DeferredLock:
        try:
            return await self.__enter__()
        except BaseException:
            self._finish()
            raise

    async def __aexit__(
        self,
        exceptionType: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish()

    def _begin(self, lock: DeferredLock) -> DeferredLock:
        self._isHolding = True
        return lock

    def _finish(self) -> None:
        d, self._d = self._d, None
        if self._isHolding:
            self._isHolding = False
            self._lock.release()
        elif d is not None:
            d.addErrback(Failure.trap, CancelledError)
            d.cancel()
