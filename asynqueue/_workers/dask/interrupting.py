"""
Interrupt a call in the thread that runs it, and nothing else of that thread.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from asynqueue._runner.codecs import Body, PickleReader
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.makecall import Outcome, Waiter
from asynqueue._runner.messages import Message
from asynqueue._runner.streams import isIterator

_T = TypeVar("_T")


def raiseIn(thread: int) -> None:
    """
    Have L{TaskInterrupted} raised in a thread, as soon as it executes Python code.

    @param thread: the thread's identifier.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(TaskInterrupted)
    )


def _nothing() -> None:
    pass


class Guard:
    """
    Knows whether a thread is in the code of a call. Only there it lets itself be interrupted, and
    once only: a second request must not break off what the code does to clean up.

    An interruption that was asked for while the code ran arrives before L{run} has returned.

    @ivar look: is called in the thread of a stream that was interrupted, before the stream learns
        of that.
    """

    def __init__(self) -> None:
        self.look: Callable[[], object] = _nothing
        self._lock = threading.Lock()
        self._number: int | None = None
        self._thread = 0
        self._isStruck = False
        # Cancels the coroutine that is being waited for in place of an exception.
        self._interrupt: Callable[[], bool] | None = None

    def run(
        self, number: int | None, function: Callable[..., _T], *args: object, **kw: object
    ) -> _T:
        """
        Call a function that may be interrupted.

        @param number: the number of the call that it belongs to.
        @raise TaskInterrupted: if it is interrupted.
        """
        try:
            self._enter(number, None)
            return function(*args, **kw)
        finally:
            self._leave()

    def wait(
        self,
        number: int | None,
        interrupt: Callable[[], bool],
        wait: Callable[..., _T],
        *args: object,
    ) -> _T:
        """
        Call a function that is ended by C{interrupt}, rather than by an exception.
        """
        self._enter(number, interrupt)
        try:
            return wait(*args)
        finally:
            self._leave()

    def _enter(self, number: int | None, interrupt: Callable[[], bool] | None) -> None:
        with self._lock:
            self._number, self._interrupt = number, interrupt
            self._thread, self._isStruck = threading.get_ident(), False

    def _leave(self) -> None:
        try:
            with self._lock:
                self._number = self._interrupt = None
            if self._isStruck:
                # What is on its way arrives at the latest when a function is called.
                _nothing()
        except TaskInterrupted:
            with self._lock:
                self._number = self._interrupt = None
            raise

    def strike(self, number: int) -> bool:
        """
        Interrupt a call, if its code is running at this moment. This is called in another thread.

        @return: whether it was.
        """
        with self._lock:
            if self._number != number or self._isStruck:
                return False
            if self._interrupt is not None:
                self._isStruck = self._interrupt()
            else:
                self._isStruck = True
                raiseIn(self._thread)
            return self._isStruck


class GuardedReader:
    """
    Rebuilds calls whose code runs under a guard.
    """

    def __init__(self, guard: Guard, raw: bool) -> None:
        self._guard = guard
        self._raw = raw
        self._reader = PickleReader()
        self.keep = self._reader.keep

    def read(self, call: Message) -> Body:
        """
        Rebuild a call.
        """
        function, args, kwargs, pairs = self._reader.read(call)
        raw = self._raw if call[4] is None else call[4]
        return self._call, (call[1], raw, function, args, kwargs), {}, pairs

    def _call(self, number: int, raw: bool, function: Any, args: Any, kwargs: Any) -> Any:
        value = self._guard.run(number, function, *args, **kwargs)
        return value if raw or not isIterator(value) else GuardedItems(value, number, self._guard)


class GuardedItems:
    """
    An iterator whose code runs under a guard.
    """

    def __init__(self, iterator: Iterator[Any], number: int, guard: Guard) -> None:
        self._iterator = iterator
        self._number = number
        self._guard = guard

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._guard.run(self._number, next, self._iterator)
        except TaskInterrupted:
            self._guard.look()
            raise

    def close(self) -> None:
        """
        End the iterator; a generator's C{finally} runs.
        """
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class GuardedWaiter:
    """
    Waits for coroutines as another waiter does, under a guard.

    @ivar number: the number of the call that is running.
    """

    def __init__(self, waiter: Waiter, guard: Guard, running: Callable[[], int | None]) -> None:
        self._waiter = waiter
        self._guard = guard
        self._running = running
        self.accepts = waiter.accepts
        self.iterate = waiter.iterate
        self.interrupt = waiter.interrupt
        self.close = waiter.close

    def wait(self, value: object, later: Callable[[Outcome], object]) -> Outcome:
        """
        Wait for a coroutine.
        """
        waiter = self._waiter
        return self._guard.wait(self._running(), waiter.interrupt, waiter.wait, value, later)
