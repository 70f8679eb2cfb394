"""
Jobs that survive a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue.dispatch.job import Job, JobKeeper, fail
from asynqueue.errors import StoreError


class DurableJob(Job):
    """
    A job that a store keeps.

    @ivar unique: the key of which there is to be one job only, or C{None}.
    @ivar encoded: its argument, as it is stored; C{None} once it was given to the store.
    @ivar whenOver: is called with the job when it is done, before anybody is told.
    """

    __slots__ = ("_outcome", "_savers", "encoded", "unique", "whenOver")

    isKept = True

    def __init__(
        self,
        id: int,
        keeper: JobKeeper,
        jobarg: Any,
        priority: float,
        now: float,
        encoded: str | bytes | None = None,
        unique: str | None = None,
    ) -> None:
        super().__init__(id, keeper, jobarg, priority, now)
        self.encoded = encoded
        self.unique = unique
        self.whenOver: Callable[[DurableJob], object] | None = None
        self._outcome: StoreError | bool = False
        self._savers: list[Deferred[DurableJob]] | None = None

    @property
    def saved(self) -> Deferred[DurableJob]:
        """
        A new Deferred that fires with the job when it is safe, at once if it is. It fails with
        C{StoreError} if it could not be made safe; then the job fails, too.
        """
        saved: Deferred[DurableJob] = Deferred()
        if self._outcome is not False:
            self._tellSaved(saved)
        elif self._savers is None:
            self._savers = [saved]
        else:
            self._savers.append(saved)
        return saved

    def setSaved(self, error: StoreError | None = None) -> None:
        """
        It is safe, or could not be made safe.
        """
        self._outcome = True if error is None else error
        savers, self._savers = self._savers, None
        for saved in savers or ():
            self._tellSaved(saved)

    def _tellSaved(self, saved: Deferred[DurableJob]) -> None:
        if saved.called:
            # Somebody has cancelled it.
            return
        if isinstance(self._outcome, StoreError):
            fail(saved, Failure(self._outcome), True)
        else:
            saved.callback(self)

    def _end(self) -> None:
        if self.whenOver is not None:
            self.whenOver(self)
        super()._end()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    A job that came to a bad end, and is kept until somebody looks after it.

    @ivar id: its number.
    @ivar function: the name of the function that it was for.
    @ivar jobarg: its argument; if that cannot be decoded, as it is stored.
    @ivar priority: lower is more important.
    @ivar queued: when it was put, in seconds since the epoch.
    @ivar attempts: how many times it was begun.
    @ivar unique: the key of which there is to be one job only, or C{None}.
    @ivar error: what happened, as a text.
    @ivar isReadable: whether its argument can be decoded.
    """

    id: int
    function: str
    jobarg: Any
    priority: float
    queued: float
    attempts: int
    unique: str | None
    error: str
    isReadable: bool = True
