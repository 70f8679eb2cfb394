"""
Telling a store what happens, without waiting for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.dispatch.store import BEGIN, INSERT, Change, StoredJob
from asynqueue.errors import StoreError

LARGEST_GROUP: Final = 4096
"""How many changes are committed together, at the most."""

AGAIN_SECONDS: Final = 1.0
"""How long to wait before a store that failed is told again what it has to be told."""


_Call = tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any] | Future[Any]]


class Aside(Protocol):
    """
    Calls functions elsewhere than in the reactor's thread, one after the other.
    """

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call a function; the Deferred fires in the reactor's thread."""

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, and do not return before it has."""

    def close(self) -> None:
        """There will be no more calls."""


class AsideThread:
    """
    A thread that calls one function after the other. Handing a call over and back takes about 25
    microseconds, less than a pool's.

    It does not keep the interpreter from ending: what was told to be safe is safe by then.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        Thread(target=self._serve, name="asynqueue store", daemon=True).start()

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """
        Call a function in the thread.
        """
        called: Deferred[Any] = Deferred()
        self._calls.put((function, args, called))
        return called

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """
        Call a function in the thread, while this one waits.
        """
        future: Future[Any] = Future()
        self._calls.put((function, args, future))
        return future.result()

    def close(self) -> None:
        """
        End the thread, after its calls.
        """
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, args, called = call
            try:
                result = function(*args)
            except BaseException as error:
                if isinstance(called, Future):
                    called.set_exception(error)
                else:
                    self._reactor.callFromThread(called.errback, Failure())
            else:
                if isinstance(called, Future):
                    called.set_result(result)
                else:
                    self._reactor.callFromThread(called.callback, result)


class Ledger:
    """
    Writes changes into a store, in the order in which they come. While one commit is underway, the
    changes that come are gathered, and go into the next one together.

    A change that says what has become of a job has to be written some time, so if the store fails
    it is kept and tried again with the changes that come, or after a while. One that a job's
    beginning depends on fails at once, and so does a new job.
    """

    log = Logger()

    def __init__(self, store: Any, aside: Aside, reactor: IReactorTime) -> None:
        """
        @param store: an L{IJobStore<asynqueue.dispatch.store.IJobStore>}.
        @param aside: where it is called.
        """
        self._store = store
        self._aside = aside
        self._reactor = reactor
        self._changes: list[Change] = []
        self._waiters: list[Deferred[None]] = []
        self._owed: list[Change] = []
        self._questions: deque[tuple[int, str, Deferred[list[StoredJob]]]] = deque()
        # How many changes were noted, and how many of these were written or have failed.
        self._noted = self._settled = 0
        self._isWriting = self._hasFailed = False
        self._again: IDelayedCall | None = None
        self._closing: Deferred[None] | None = None

    def open(self) -> tuple[list[StoredJob], int]:
        """
        Open the store, and wait until it is open: there is nothing to be done before.

        @return: the store's jobs, and the highest number that a job in it ever had.
        @raise StoreError: if it cannot be opened.
        """

        def opened() -> tuple[list[StoredJob], int]:
            return self._store.open(), self._store.highest()

        try:
            found: tuple[list[StoredJob], int] = self._aside.wait(opened)
        except BaseException:
            self._aside.close()
            raise
        return found

    def note(self, *change: Any) -> Deferred[None]:
        """
        Write a change; see L{asynqueue.dispatch.store} for what they look like.

        @return: a Deferred that fires when it is safe, or fails with C{StoreError}.
        """
        written: Deferred[None] = Deferred()
        self._noted += 1
        self._changes.append(change)
        self._waiters.append(written)
        if not self._isWriting:
            self._write()
        return written

    def ask(self, state: str) -> Deferred[list[StoredJob]]:
        """
        @return: a Deferred that fires with the jobs that are in a state when all changes so far are
            written.
        """
        asked: Deferred[list[StoredJob]] = Deferred()
        self._questions.append((self._noted, state, asked))
        if not self._isWriting:
            self._goOn()
        return asked

    def close(self) -> Deferred[None]:
        """
        Close the store, when all changes so far are written.

        @return: a Deferred that fires when it is closed. If the store fails to the last, it fires
            all the same, and what could not be written is logged.
        """
        closing = self._closing = Deferred()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if not self._isWriting:
            self._goOn()
        return closing

    # Writing --------------------------------------------------------------------------------------

    def _goOn(self) -> None:
        """
        Do the next thing that is to be done.
        """
        if self._questions and self._questions[0][0] <= self._settled:
            _, state, asked = self._questions.popleft()
            self._isWriting = True
            self._aside.call(self._store.jobs, state).addBoth(self._answered, asked)
        elif self._changes or (self._owed and self._closing is not None and not self._hasFailed):
            self._write()
        elif self._closing is not None:
            self._close(self._closing)
        elif self._owed and self._again is None:
            self._again = self._reactor.callLater(AGAIN_SECONDS, self._writeAgain)

    def _writeAgain(self) -> None:
        self._again = None
        if not self._isWriting:
            self._write()

    def _write(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        changes, self._changes = (
            self._changes[:LARGEST_GROUP],
            self._changes[LARGEST_GROUP:],
        )
        waiters, self._waiters = (
            self._waiters[:LARGEST_GROUP],
            self._waiters[LARGEST_GROUP:],
        )
        self._isWriting = True
        writing = self._aside.call(self._store.apply, [*self._owed, *changes])
        writing.addBoth(self._wrote, changes, waiters)

    def _wrote(self, result: Any, changes: list[Change], waiters: list[Deferred[None]]) -> None:
        self._isWriting = False
        self._settled += len(changes)
        self._hasFailed = isinstance(result, Failure)
        if isinstance(result, Failure):
            self._owed += [change for change in changes if change[0] not in (INSERT, BEGIN)]
            self.log.failure("{store} could not be written", result, store=self._store.name)
        else:
            self._owed = []
        # The next commit is underway while those who waited for this one hear of it.
        self._goOn()
        for waiter in waiters:
            if isinstance(result, Failure):
                waiter.errback(Failure(_asStoreError(result)))
            else:
                waiter.callback(None)

    def _answered(self, result: Any, asked: Deferred[list[StoredJob]]) -> None:
        self._isWriting = False
        self._goOn()
        if not asked.called:
            asked.callback(result)

    def _close(self, closing: Deferred[None]) -> None:
        if self._owed:
            self.log.error(
                "{store} was closed without these changes: {owed}",
                store=self._store.name,
                owed=self._owed,
            )
        self._closing = None

        def closed(result: Any) -> None:
            if isinstance(result, Failure):
                self.log.failure("{store} failed to close", result, store=self._store.name)
            self._aside.close()
            closing.callback(None)

        self._aside.call(self._store.close).addBoth(closed)


def _asStoreError(failure: Failure) -> StoreError:
    error = failure.value
    return error if isinstance(error, StoreError) else StoreError(f"a store failed: {error!r}")
