"""
The view of a dispatch queue that others have, and the actions that they can take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from asynqueue._core.description import describeError, shortly
from asynqueue._core.states import ENDED, FAILED
from asynqueue._dispatch.job import DeadLetter, Job
from asynqueue._dispatch.pending import PendingJobs
from asynqueue._dispatch.persistence import Persistence
from asynqueue._observers import Event, ObserverList
from asynqueue._waiters import TaskDeferred
from asynqueue.admin._history import Inspection
from asynqueue.admin.administrable import Showing
from asynqueue.admin.api import (
    ABSENT,
    DEEPEST,
    LARGEST_PAGE,
    checkPage,
    kindOf,
    kindsOf,
    plain,
    plainPriority,
    plainProgress,
    plainTraceback,
)
from asynqueue.errors import AdminError
from asynqueue.interfaces import IAdministered, JSONObject

if TYPE_CHECKING:
    from asynqueue._dispatch.rdq import ResizableDispatchQueue


@implementer(IAdministered)
class DispatchInspection(Inspection):
    """
    The view of a L{ResizableDispatchQueue<asynqueue.ResizableDispatchQueue>} that others have, and
    the actions that they can take. This does not keep the queue, which is to notice that the
    program has dropped it.
    """

    def __init__(
        self,
        queue: ResizableDispatchQueue,
        function: str,
        pending: PendingJobs,
        calls: Mapping[Job, Deferred[Any] | IDelayedCall | None],
        persistence: Persistence | None,
        observers: ObserverList,
        reactor: IReactorTime,
        showing: Showing,
    ) -> None:
        """
        @param function: the name of the queue's function.
        @param pending: the queue's jobs that wait.
        @param calls: the jobs that are underway. Each with the Deferred that its function returned,
            if it has.
        @param persistence: the queue's, if it has a store.
        @param observers: the queue's.
        @param reactor: gives the queue's time.
        @param showing: what is to be shown.
        """
        super().__init__(queue, showing, observers, reactor)
        self._ref = ref(queue)
        self._function = function
        self._pending = pending
        self._calls = calls
        self._persistence = persistence
        self._reactor = reactor
        self.verbs: dict[str, Callable[..., object]] = {
            "snapshot": self.snapshot,
            "task": self._task,
            "stacks": self._stacks,
            "cancel": self._cancel,
            "terminate": self._terminate,
            "reprioritise": self._reprioritise,
            "pause": self._pause,
            "resume": self._resume,
            "width": self._setWidth,
            "rate": self._setRate,
        }
        if persistence is not None:
            self.verbs["deadLetters"] = self._deadLetters
            self.verbs["retry"] = partial(self._eachLetter, type(queue).retryDeadLetter)
            self.verbs["drop"] = partial(self._eachLetter, type(queue).dropDeadLetter)

    @property
    def _queue(self) -> ResizableDispatchQueue:
        queue = self._ref()
        if queue is None:
            raise AdminError(f"the program has dropped {self.name}")
        return queue

    # Looking --------------------------------------------------------------------------------------

    def _observe(self, event: Event) -> None:
        job, history = event.job, self.history
        if event.kind not in ENDED or job is None or history is None:
            return
        facts = self._facts(job, self._reactor.seconds())
        if event.reason is not None:
            facts["error"] = describeError(event.reason)
            if event.kind == FAILED:
                facts["traceback"] = plainTraceback(job.failure)
        elif "results" in self._show:
            facts["result"] = shortly(job.result)
        history.ended(event.kind, facts)

    def summary(self) -> JSONObject:
        """
        See L{IAdministered}.
        """
        queue = self._queue
        size, rate = queue.size(), queue.rate
        oldest = next(self._pending.walk(), None)
        return {
            "name": self.name,
            "kind": self.kind,
            "state": "STOPPED" if queue.stopped else "RUNNING",
            "paused": queue.paused,
            "pending": size.pending,
            "underway": size.underway,
            "width": queue.width,
            "rate": None
            if rate is None
            else dict(zip(("rate", "per", "burst"), rate, strict=True)),
            "function": self._function,
            "store": None if self._persistence is None else self._persistence.name,
            "waited": None if oldest is None else self._reactor.seconds() - oldest.queuedTime,
            "ended": self._summaryOfEnded(),
            "readOnly": self.isReadOnly,
            "verbs": [*self.verbs],
        }

    def snapshot(self, page: int = 0, size: int = 25) -> JSONObject:
        """
        @param page: which page of the jobs that wait, from 0.
        @param size: how many of them a page has.
        @return: everything that is seen of the queue.
        @raise ValueError: if the page is too far down.
        """
        now = self._reactor.seconds()
        before = checkPage(page, size)
        pending = islice(self._pending.walk(), before, before + size)
        underway = islice(sorted(self._queue.underway(), key=_idOf), LARGEST_PAGE)
        return {
            **self.summary(),
            "tasksUnderway": [self._facts(job, now) for job in underway],
            "tasksPending": [self._facts(job, now) for job in pending],
            "page": page,
            "size": size,
            "last": self._lastEnded(),
        }

    def _facts(self, job: Job, now: float) -> JSONObject:
        started = job.startTime
        facts = {
            "id": job.id,
            "function": self._function,
            "state": job.state,
            "series": plain(job.key),
            "priority": plainPriority(job.priority),
            "attempts": job.attempts,
            "waited": (now if started is None else started) - job.queuedTime,
            "ran": None if started is None else now - started,
            "dueIn": None if job.due is None else max(0.0, job.due - now),
            "durable": job.isKept,
        }
        if job.progress is not None:
            facts["progress"] = plainProgress(job.progress, now)
        if "arguments" in self._show:
            facts["call"] = f"{self._function}({shortly(job.jobarg)})"
        return facts

    def _task(self, task: int) -> JSONObject:
        """
        @return: what is known of one job that waits, is underway or has ended lately.
        """
        now = self._reactor.seconds()
        for job in chain(self._queue.underway(), islice(self._pending.walk(), DEEPEST)):
            if job.id == task:
                facts = self._facts(job, now)
                if job.failure is not None:
                    facts["error"] = describeError(job.failure.value)
                    facts["traceback"] = plainTraceback(job.failure)
                return facts
        ended = self._findEnded(task)
        if ended is None:
            raise AdminError(f"{self.name} knows no job {task} any more, or not yet")
        return ended

    def _deadLetters(self, page: int, size: int) -> Deferred[JSONObject]:
        before = checkPage(page, size)

        def found(letters: list[DeadLetter]) -> JSONObject:
            shown = [self._letter(letter) for letter in letters[before : before + size]]
            return {
                "count": len(letters),
                "kinds": kindsOf(letter.error for letter in letters),
                "letters": shown,
                "page": page,
                "size": size,
            }

        return self._queue.deadLetters().addCallback(found)

    def _letter(self, letter: DeadLetter) -> JSONObject:
        facts = {
            "id": letter.id,
            "function": plain(letter.function),
            "priority": plainPriority(letter.priority),
            "queued": plain(letter.queued),
            "attempts": letter.attempts,
            "unique": plain(letter.unique),
            "error": letter.error,
            "kind": kindOf(letter.error),
            "traceback": self._persistence and self._persistence.tracebacks.get(letter.id),
            "readable": letter.isReadable,
        }
        if "arguments" in self._show:
            facts["call"] = f"{letter.function}({shortly(letter.jobarg)})"
        return facts

    # Steering -------------------------------------------------------------------------------------

    def _pause(self) -> None:
        # Nobody waits for the jobs that are underway.
        self._queue.pause()

    def _resume(self) -> None:
        self._queue.resume()

    def _setWidth(self, width: int) -> dict[str, int]:
        self._queue.setWidth(width)
        return {"width": width}

    def _setRate(self, rate: int | None, per: float, burst: int | None) -> JSONObject:
        self._queue.setRate(rate, per, burst)
        return {"rate": rate, "per": per, "burst": burst}

    def _cancel(
        self,
        tasks: list[int] | None,
        series: object,
        function: str | None,
        all: bool,
        underway: bool,
    ) -> Deferred[dict[str, int]]:
        """
        Cancel some jobs, in several turns of the reactor.

        @raise AdminError: unless it is said which, in one way.
        """
        if (tasks is not None) + (series is not ABSENT) + all != 1 or function is not None:
            raise AdminError("say what to cancel by one of tasks, series and all")
        named = frozenset(tasks or ())

        def isMeant(job: Job) -> bool:
            if series is not ABSENT:
                return bool(plain(job.key) == series)
            return all or job.id in named

        jobs = sorted(self._queue.underway(), key=_idOf) if underway or named else []
        jobs += self._queue.pending()
        cancelled: list[int] = []
        steps = self._cancelEach((job for job in jobs if isMeant(job)), cancelled)
        return self._inTurns(steps).addCallback(lambda _: {"cancelled": len(cancelled)})

    def _cancelEach(self, jobs: Iterator[Job], cancelled: list[int]) -> Iterator[None]:
        for job in jobs:
            if job.cancel():
                cancelled.append(job.id)
            yield

    def _callOf(self, job: int) -> TaskDeferred[Any]:
        """
        @return: the Deferred of the task that a job has become in a task queue.
        @raise AdminError: if it has become none.
        """
        for each, call in self._calls.items():
            if each.id == job:
                if isinstance(call, TaskDeferred):
                    return call
                raise AdminError(
                    f"job {job} runs in the main loop, and not in a process or thread of a task "
                    "queue: it can only be cancelled"
                )
        raise AdminError(f"no job {job} is underway in {self.name}")

    def _terminate(self, task: int) -> Deferred[dict[str, int]]:
        """
        Kill the process in which a job runs as a task.
        """
        call = self._callOf(task)
        return call.owner.terminateCall(call).addCallback(lambda _: {"terminated": task})

    def _stacks(self, worker: int | None, task: int | None) -> Deferred[JSONObject]:
        """
        Ask what the worker is doing that has the task of a job.
        """
        if worker is not None or task is None:
            raise AdminError(f"{self.name} has no workers of its own: say which task is meant")
        call = self._callOf(task)
        return call.owner.stacksOfCall(call).addCallback(
            lambda text: {"worker": None, "text": text, "residentKilobytes": None}
        )

    def _reprioritise(self, task: int, priority: float) -> JSONObject:
        job = next((job for job in self._queue.pending() if job.id == task), None)
        if job is None:
            raise AdminError(f"no job {task} waits in {self.name}")
        job.reprioritize(priority)
        return {"task": task, "priority": plainPriority(priority)}

    def _eachLetter(
        self,
        act: Callable[[ResizableDispatchQueue, DeadLetter], Deferred[Any]],
        jobs: list[int] | None,
        kind: str | None,
        all: bool,
    ) -> Deferred[JSONObject]:
        """
        Do something to some dead letters.

        @raise AdminError: unless it is said which, in one way.
        """
        if (jobs is not None) + (kind is not None) + all != 1:
            raise AdminError("say which dead letters are meant by one of jobs, kind and all")
        named = frozenset(jobs or ())
        done: list[int] = []
        failed: dict[int, str] = {}

        def each(letters: list[DeadLetter]) -> Deferred[Any]:
            meant = [
                letter
                for letter in letters
                if all or letter.id in named or (kind is not None and kindOf(letter.error) == kind)
            ]
            for missing in named.difference(letter.id for letter in meant):
                failed[missing] = "it is not a dead letter"
            return self._inTurns(self._actOnEach(act, meant, done, failed))

        acted = self._queue.deadLetters().addCallback(each)
        return acted.addCallback(lambda _: {"done": done, "failed": _asTexts(failed)})

    def _actOnEach(
        self,
        act: Callable[[ResizableDispatchQueue, DeadLetter], Deferred[Any]],
        letters: list[DeadLetter],
        done: list[int],
        failed: dict[int, str],
    ) -> Iterator[Deferred[Any] | None]:
        waiting = []
        for letter in letters:
            try:
                ended = act(self._queue, letter)
            except Exception as error:
                failed[letter.id] = describeError(error)
            else:
                ended.addCallbacks(
                    lambda _, id: done.append(id),
                    lambda failure, id: failed.update({id: describeError(failure.value)}),
                    callbackArgs=(letter.id,),
                    errbackArgs=(letter.id,),
                )
                waiting.append(ended)
            yield None
        # All of them are written together.
        yield from waiting


def _asTexts(failed: dict[int, str]) -> dict[str, str]:
    return {str(id): why for id, why in failed.items()}


def _idOf(job: Job) -> int:
    return job.id
