"""
Writing changes into a store, many in one commit, without waiting for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.states import Table, nextState
from asynqueue._dispatch.stores import Change, StoredJob
from asynqueue._reactor import SerialExecutor
from asynqueue._waiters import OneShotObserverList
from asynqueue.errors import StoreError
from asynqueue.interfaces import IJobStore

LARGEST_GROUP: Final = 4096
"""How many changes are committed together, at the most."""

AGAIN_SECONDS: Final = 1.0
"""How long to wait before changes are written again to a store that failed."""

Told = Callable[[StoreError | None], object]
"""Is called when a change is written, or with the error if it could not be."""

OPEN: Final = "OPEN"
CLOSING: Final = "CLOSING"
LAST_TRY: Final = "LAST_TRY"
CLOSED: Final = "CLOSED"

COMMITS: Final[Table] = {
    OPEN: {"close": CLOSING},
    # All changes are still to be written. Those that are owed are tried once more.
    CLOSING: {"write": LAST_TRY, "closed": CLOSED},
    # What is owed after this write, and those that follow it, is lost.
    LAST_TRY: {"write": LAST_TRY, "closed": CLOSED},
    # Every further change is refused.
    CLOSED: {},
}


class GroupCommit:
    """
    Writes changes into a store, in the order in which they come. While one commit is underway, the
    changes that come are gathered, and go into the next one together.

    A change that says what has become of a job has to be written some time. If the store fails,
    such a change is owed: it is tried again with the changes that come, or after a while. A change
    that something else depends on, as on a job's beginning, can be tried once.
    """

    log = Logger()

    def __init__(self, store: IJobStore, executor: SerialExecutor, reactor: IReactorTime) -> None:
        """
        @param executor: calls the store's methods.
        """
        self._store = store
        self._executor = executor
        self._reactor = reactor
        self._state = OPEN
        # Each change with whether it is owed if it fails, and whom to tell.
        self._changes: list[tuple[Change, bool, Told | None]] = []
        self._owed: list[Change] = []
        # Each question with the number of changes that it is to wait for.
        self._questions: deque[tuple[int, str, Deferred[list[StoredJob]]]] = deque()
        # How many changes have come, and how many of these were written or have failed.
        self._noted = self._settled = 0
        # Whether the executor has a call.
        self._isBusy = False
        self._again: IDelayedCall | None = None
        self._closed: OneShotObserverList[None] = OneShotObserverList()

    def open(self) -> tuple[list[StoredJob], int]:
        """
        Open the store, and wait until it is open, because nothing can be done before.

        @return: the store's jobs, and the highest number that a job in it ever had.
        @raise StoreError: if the store cannot be opened.
        """

        def openStore() -> tuple[list[StoredJob], int]:
            jobs = self._store.open()
            try:
                return jobs, self._store.highest()
            except BaseException:
                self._store.close()
                raise

        try:
            return self._executor.wait(openStore)
        except BaseException:
            self._executor.close()
            raise

    def note(self, change: Change, told: Told | None = None, isOwed: bool = True) -> None:
        """
        Write a change.

        @param change: see L{asynqueue._dispatch.stores}.
        @param told: is called when the change is on disk, or could not be written for now.
        @param isOwed: whether the change is tried again if the store fails. Otherwise it is written
            now or not at all.
        """
        if self._state is CLOSED:
            if told is not None:
                told(self._closedError())
            return
        self._noted += 1
        self._changes.append((change, isOwed, told))
        if not self._isBusy:
            self._write()

    def ask(self, state: str) -> Deferred[list[StoredJob]]:
        """
        @return: a Deferred that fires with the jobs that are in a state, when all changes so far
            are written or have failed. It fails with C{StoreError} if the store does.
        """
        if self._state is CLOSED:
            return fail(self._closedError())
        asked: Deferred[list[StoredJob]] = Deferred()
        self._questions.append((self._noted, state, asked))
        if not self._isBusy:
            self._next()
        return asked

    def close(self) -> Deferred[None]:
        """
        Close the store when all changes so far are written. The changes that are owed are tried
        once more.

        @return: a Deferred that fires when the store is closed. If the store fails to the last, the
            Deferred fires all the same, and the changes that were lost are logged.
        """
        if self._state is OPEN:
            self._state = nextState(COMMITS, self._state, "close", self)
            if not self._isBusy:
                self._next()
        return self._closed.whenFired()

    def hurry(self) -> None:
        """
        The reactor has had its last turn. Write all changes before this returns, and from now on
        each one at once.
        """
        self._executor.hurry()

    # Writing --------------------------------------------------------------------------------------

    def _next(self) -> None:
        """
        Have the executor do the next thing, if there is one.
        """
        if self._questions and self._questions[0][0] <= self._settled:
            _, state, asked = self._questions.popleft()
            self._isBusy = True
            self._executor.call(partial(self._answered, asked), self._store.jobs, state)
        elif self._changes or (self._owed and self._state is CLOSING):
            self._write()
        elif self._state is not OPEN:
            self._closeStore()
        elif self._owed and self._again is None:
            self._again = self._reactor.callLater(AGAIN_SECONDS, self._writeAgain)

    def _writeAgain(self) -> None:
        self._again = None
        if not self._isBusy:
            self._write()

    def _write(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._state is not OPEN:
            self._state = nextState(COMMITS, self._state, "write", self)
        group = self._changes[:LARGEST_GROUP]
        del self._changes[:LARGEST_GROUP]
        changes = [each[0] for each in group]
        if self._owed:
            changes = self._owed + changes
        self._isBusy = True
        self._executor.call(partial(self._wrote, group), self._store.apply, changes)

    def _wrote(self, group: list[tuple[Change, bool, Told | None]], result: object) -> None:
        self._isBusy = False
        self._settled += len(group)
        error = None
        if isinstance(result, Failure):
            error = self._errorOf(result)
            self._owed += [change for change, isOwed, _ in group if isOwed]
            self.log.failure("{store} could not be written", result, store=self._store.name)
        elif self._owed:
            self._owed = []
        if self._changes or self._questions or self._owed or self._state is not OPEN:
            # The next commit is underway while those who waited for this one hear of it.
            self._next()
        for _, _, told in group:
            if told is not None:
                try:
                    told(error)
                except BaseException:
                    # The others are to hear all the same.
                    self.log.failure(
                        "a change of {store} could not be told", store=self._store.name
                    )

    def _answered(
        self, asked: Deferred[list[StoredJob]], result: list[StoredJob] | Failure
    ) -> None:
        self._isBusy = False
        self._next()
        if isinstance(result, Failure):
            result = Failure(self._errorOf(result))
        if not asked.called:
            asked.callback(result)

    def _closeStore(self) -> None:
        if self._owed:
            self.log.error(
                "{store} was closed without these changes: {owed}",
                store=self._store.name,
                owed=self._owed,
            )
        self._state = nextState(COMMITS, self._state, "closed", self)
        self._isBusy = True

        def closed(result: object) -> None:
            if isinstance(result, Failure):
                self.log.failure("{store} failed to close", result, store=self._store.name)
            self._executor.close()
            self._closed.fire(None)

        self._executor.call(closed, self._store.close)

    def _errorOf(self, failure: Failure) -> StoreError:
        error = failure.value
        if isinstance(error, StoreError):
            return error
        return StoreError(f"{self._store.name} failed: {error!r}")

    def _closedError(self) -> StoreError:
        return StoreError(f"{self._store.name} is closed: its queue was stopped")
