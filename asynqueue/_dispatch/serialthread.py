"""
Calling functions that may block, one after the other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from asynqueue.errors import StoreError

Done = Callable[[Any], object]
"""Is called with what a function returned, or with a Failure."""


class SerialExecutor(Protocol):
    """
    Calls functions, one after the other.
    """

    def call(self, done: Done, function: Callable[..., Any], *args: Any) -> None:
        """Call a function; C{done} is called in the reactor's thread."""

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, and do not return before it has."""

    def hurry(self) -> None:
        """
        The reactor has had its last turn: wait for the calls that are underway, and from now on for
        every one, and have it told here.
        """

    def close(self) -> None:
        """There will be no more calls."""


class ImmediateExecutor:
    """
    Calls functions at once, in the caller's thread: for a clock in the place of a reactor.
    """

    def call(self, done: Done, function: Callable[..., Any], *args: Any) -> None:
        """
        Call a function.
        """
        try:
            result = function(*args)
        except Exception:
            result = Failure()
        done(result)

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """
        Call a function.
        """
        return function(*args)

    def hurry(self) -> None:
        """
        There is nothing to wait for.
        """

    def close(self) -> None:
        """
        There is nothing to close.
        """


class SerialThread:
    """
    A thread that calls functions. Handing a call over and back takes some 25 to 60 microseconds,
    less than a pool's.

    It does not keep the interpreter from ending: what was told to be safe is safe by then.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._calls: SimpleQueue[tuple[Done | Future[Any], Callable[..., Any], Any] | None]
        self._calls = SimpleQueue()
        # What is to be told in the reactor's thread.
        self._results: deque[tuple[Done, Any]] = deque()
        self._isHurried = self._isClosed = False
        self._pid = os.getpid()
        Thread(target=self._serve, name="asynqueue store", daemon=True).start()

    def call(self, done: Done, function: Callable[..., Any], *args: Any) -> None:
        """
        Call a function in the thread.
        """
        if self._pid != os.getpid():
            done(Failure(self._foreign()))
            return
        self._calls.put((done, function, args))
        if self._isHurried and not self._isClosed:
            self._catchUp()

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """
        Call a function in the thread, while this one waits.
        """
        if self._pid != os.getpid():
            raise self._foreign()
        future: Future[Any] = Future()
        self._calls.put((future, function, args))
        return future.result()

    def hurry(self) -> None:
        """
        See L{SerialExecutor}.
        """
        self._isHurried = True
        if not self._isClosed and self._pid == os.getpid():
            self._catchUp()

    def _catchUp(self) -> None:
        self.wait(lambda: None)
        while self._results:
            self._tell()

    def _tell(self) -> None:
        # Not if somebody was in a hurry.
        if self._results:
            done, result = self._results.popleft()
            done(result)

    def close(self) -> None:
        """
        End the thread, after its calls.
        """
        self._isClosed = True
        self._calls.put(None)

    def _foreign(self) -> StoreError:
        return StoreError(
            f"a queue whose store was opened by process {self._pid} cannot be used by "
            f"{os.getpid()}, which was forked from it. Make a queue with a store of its own there"
        )

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            done, function, args = call
            try:
                result = function(*args)
            except BaseException as error:
                if isinstance(done, Future):
                    done.set_exception(error)
                    continue
                result = Failure()
            if isinstance(done, Future):
                done.set_result(result)
            else:
                self._results.append((done, result))
                self._reactor.callFromThread(self._tell)


def asideFor(reactor: object) -> SerialExecutor:
    """
    @return: a thread, if the reactor has to do with threads; a clock has not.
    """
    return SerialThread(reactor) if IReactorFromThreads.providedBy(reactor) else ImmediateExecutor()
