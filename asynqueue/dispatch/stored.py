"""
A dispatcher with a store, if it is given one.
"""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue.dispatch.aside import Aside, asideFor
from asynqueue.dispatch.books import Books
from asynqueue.dispatch.dispatcher import Dispatcher
from asynqueue.dispatch.durable import DeadLetter, DurableJob
from asynqueue.dispatch.keeping import Kept
from asynqueue.dispatch.ledger import Ledger
from asynqueue.dispatch.sqlite import SQLiteJobStore
from asynqueue.dispatch.texts import ExactJSON, JobCodec
from asynqueue.errors import ImplementationError, QueueStopped, StoreError
from asynqueue.interfaces import IJobStore
from asynqueue.universe.exceptions import typeName

ATTEMPTS = 3
"""How many times a job is begun that takes the program with it, if no policy of retries says so."""


class StoredDispatcher(Dispatcher):
    """
    Opens the store, and looks after the dead letters in it.
    """

    _kept: Kept | None = None

    def _keepIn(self, store: Any, codec: JobCodec | None, name: str | None) -> int:
        """
        Keep jobs in a store from now on, and put those that are in it in line.

        @return: the number of the next job.
        @raise StoreError: if it cannot be opened.
        """
        if isinstance(store, str | os.PathLike):
            store = SQLiteJobStore(store)
        elif not IJobStore.providedBy(store):
            raise ImplementationError(f"{store!r} is neither a path nor a provider of IJobStore")
        books = Books(
            Ledger(store, self._makeAside(), self._reactor),
            _nameOf(self._func) if name is None else name,
            ExactJSON() if codec is None else codec,
            ATTEMPTS if self._retry is None else self._retry.attempts,
            self._reactor,
            self._wallClock,
        )
        kept = Kept(self, books, self._line, self._reactor)
        highest = kept.open()
        self._keeping = self._kept = kept
        return highest + 1

    def _makeAside(self) -> Aside:
        return asideFor(self._reactor)

    def _wallClock(self) -> float:
        return time.time()

    def deadLetters(self) -> Deferred[list[DeadLetter]]:
        """
        @return: a Deferred that fires with the jobs in my store that came to a bad end: those that
            failed for good, that were begun as often as may be without coming to an end, whose
            function is gone or whose argument cannot be decoded. In the order of putting.
        @raise StoreError: if I have no store.
        """
        return self._storeOf("dead letters").deadLetters()

    def retryDeadLetter(self, letter: DeadLetter) -> Deferred[DurableJob]:
        """
        Put a dead letter in line again, for my function, as if it had not been tried yet.

        @param letter: one of L{deadLetters}.
        @return: a Deferred that fires with the job when that is safe, or fails with C{StoreError}.
        @raise JobExists: if another job with its key stands.
        @raise JobNotStorable: if its argument could not be decoded.
        @raise QueueStopped: after C{stop}.
        @raise StoreError: if I have no store, or the letter is not in it any more.
        """
        if self.stopped:
            raise QueueStopped(f"{self!r} was stopped, and takes no more jobs")
        return self._storeOf("dead letters").revive(letter)

    def dropDeadLetter(self, letter: DeadLetter) -> Deferred[None]:
        """
        Forget a dead letter.

        @param letter: one of L{deadLetters}.
        @return: a Deferred that fires when that is safe, or fails with C{StoreError}.
        @raise StoreError: if I have no store, or the letter is not in it any more.
        """
        return self._storeOf("dead letters").forget(letter)

    def _storeOf(self, what: str) -> Kept:
        if self._kept is None:
            raise StoreError(f"{self!r} has no store, and so no {what}")
        return self._kept


def _nameOf(function: Any) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    return f"{module}.{name}" if module and name else typeName(type(function))
