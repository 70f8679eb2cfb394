"""
Telling a store what happens, without waiting for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._dispatch.stores import Change, StoredJob
from asynqueue._reactor import SerialExecutor
from asynqueue.errors import StoreError

LARGEST_GROUP: Final = 4096
"""How many changes are committed together, at the most."""

AGAIN_SECONDS: Final = 1.0
"""How long to wait before a store that failed is told again what it has to be told."""

Told = Callable[[StoreError | None], object]
"""Is called when a change is written, or with the error if it could not be."""


class GroupCommit:
    """
    Writes changes into a store, in the order in which they come. While one commit is underway, the
    changes that come are gathered, and go into the next one together.

    A change that says what has become of a job has to be written some time, so if the store fails
    it is owed: tried again with the changes that come, or after a while. One that something else
    depends on, a job's beginning for instance, can be tried once.
    """

    log = Logger()

    def __init__(self, store: Any, aside: SerialExecutor, reactor: IReactorTime) -> None:
        """
        @param store: an L{IJobStore<asynqueue.interfaces.IJobStore>}.
        @param aside: where it is called.
        """
        self._store = store
        self._aside = aside
        self._reactor = reactor
        # Each with whether it is owed if it fails, and whom to tell.
        self._changes: list[tuple[Change, bool, Told | None]] = []
        self._owed: list[Change] = []
        self._questions: deque[tuple[int, str, Deferred[list[StoredJob]]]] = deque()
        # How many changes were noted, and how many of these were written or have failed.
        self._noted = self._settled = 0
        self._isBusy = self._hasFailed = self._isClosed = False
        self._again: IDelayedCall | None = None
        self._closing: Deferred[None] | None = None

    def open(self) -> tuple[list[StoredJob], int]:
        """
        Open the store, and wait until it is open: there is nothing to be done before.

        @return: the store's jobs, and the highest number that a job in it ever had.
        @raise StoreError: if it cannot be opened.
        """

        def opened() -> tuple[list[StoredJob], int]:
            jobs = self._store.open()
            try:
                return jobs, self._store.highest()
            except BaseException:
                self._store.close()
                raise

        try:
            found: tuple[list[StoredJob], int] = self._aside.wait(opened)
        except BaseException:
            self._aside.close()
            raise
        return found

    def note(self, change: Change, told: Told | None = None) -> None:
        """
        Write a change, now or later.

        @param change: see L{asynqueue._dispatch.stores}.
        @param told: is called when it is safe, or could not be written for now.
        """
        self._add(change, True, told)

    def attempt(self, change: Change, told: Told) -> None:
        """
        Write a change now, or not at all.

        @param told: is called when it is safe, or has failed.
        """
        self._add(change, False, told)

    def _add(self, change: Change, isOwed: bool, told: Told | None) -> None:
        if self._isClosed:
            if told is not None:
                told(self._closedError())
            return
        self._noted += 1
        self._changes.append((change, isOwed, told))
        if not self._isBusy:
            self._write()

    def ask(self, state: str) -> Deferred[list[StoredJob]]:
        """
        @return: a Deferred that fires with the jobs that are in a state when all changes so far are
            written, or have failed. It fails with C{StoreError} if the store does.
        """
        if self._isClosed:
            return fail(self._closedError())
        asked: Deferred[list[StoredJob]] = Deferred()
        self._questions.append((self._noted, state, asked))
        if not self._isBusy:
            self._goOn()
        return asked

    def close(self) -> Deferred[None]:
        """
        Close the store, when all changes so far are written. What is owed is tried once more.

        @return: a Deferred that fires when it is closed. If the store fails to the last, it fires
            all the same, and what could not be written is logged.
        """
        closing = self._closing = Deferred()
        self._hasFailed = False
        self._cancelAgain()
        if not self._isBusy:
            self._goOn()
        return closing

    def hurry(self) -> None:
        """
        The reactor has had its last turn: do all that is to be done before this returns, and from
        now on everything at once.
        """
        self._aside.hurry()

    # Writing --------------------------------------------------------------------------------------

    def _goOn(self) -> None:
        """
        Do the next thing that is to be done.
        """
        if self._questions and self._questions[0][0] <= self._settled:
            _, state, asked = self._questions.popleft()
            self._isBusy = True
            self._aside.call(lambda result: self._answered(result, asked), self._store.jobs, state)
        elif self._changes or (self._owed and self._closing is not None and not self._hasFailed):
            self._write()
        elif self._closing is not None:
            self._close(self._closing)
        elif self._owed and self._again is None:
            self._again = self._reactor.callLater(AGAIN_SECONDS, self._writeAgain)

    def _writeAgain(self) -> None:
        self._again = None
        if not self._isBusy:
            self._write()

    def _cancelAgain(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _write(self) -> None:
        self._cancelAgain()
        group = self._changes[:LARGEST_GROUP]
        del self._changes[:LARGEST_GROUP]
        self._isBusy = True
        self._aside.call(
            lambda result: self._wrote(result, group),
            self._store.apply,
            [*self._owed, *(change for change, _, _ in group)],
        )

    def _wrote(self, result: Any, group: list[tuple[Change, bool, Told | None]]) -> None:
        self._isBusy = False
        self._settled += len(group)
        error = None
        if isinstance(result, Failure):
            error = self._errorOf(result)
            self._owed += [change for change, isOwed, _ in group if isOwed]
            self.log.failure("{store} could not be written", result, store=self._store.name)
        else:
            self._owed = []
        self._hasFailed = error is not None
        # The next commit is underway while those who waited for this one hear of it.
        self._goOn()
        for _, _, told in group:
            if told is not None:
                self._tell(told, error)

    def _tell(self, told: Told, error: StoreError | None) -> None:
        try:
            told(error)
        except Exception:
            # The others are to hear all the same.
            self.log.failure("a change of {store} could not be told", store=self._store.name)

    def _answered(self, result: Any, asked: Deferred[list[StoredJob]]) -> None:
        self._isBusy = False
        self._goOn()
        if isinstance(result, Failure):
            result = Failure(self._errorOf(result))
        if not asked.called:
            asked.callback(result)

    def _close(self, closing: Deferred[None]) -> None:
        if self._owed:
            self.log.error(
                "{store} was closed without these changes: {owed}",
                store=self._store.name,
                owed=self._owed,
            )
        self._isClosed = True
        self._closing = None

        def closed(result: Any) -> None:
            if isinstance(result, Failure):
                self.log.failure("{store} failed to close", result, store=self._store.name)
            self._aside.close()
            closing.callback(None)

        self._aside.call(closed, self._store.close)

    def _errorOf(self, failure: Failure) -> StoreError:
        error = failure.value
        if isinstance(error, StoreError):
            return error
        return StoreError(f"{self._store.name} failed: {error!r}")

    def _closedError(self) -> StoreError:
        return StoreError(f"{self._store.name} is closed: its queue was stopped")
