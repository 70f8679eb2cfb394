"""
The resizable dispatch queue.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextvars import copy_context
from functools import partial
from itertools import count
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.checks import checkCount, checkSeconds
from asynqueue._core.description import describeFunction
from asynqueue._core.keywords import spellsOut
from asynqueue._core.retry import Retry
from asynqueue._core.states import (
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    STOPPED,
    STOPPING,
    UNDERWAY,
    Table,
    nextState,
)
from asynqueue._core.task import Progress, Size
from asynqueue._dispatch.encoding import ExactJSON, JobCodec, checkText, describeForStore
from asynqueue._dispatch.groupcommit import AGAIN_SECONDS
from asynqueue._dispatch.job import DeadLetter, DurableJob, Job, JobCancelled, JobDeferred
from asynqueue._dispatch.pending import PendingJobs
from asynqueue._dispatch.persistence import ATTEMPTS, Persistence
from asynqueue._dispatch.sqlitestore import SQLiteJobStore
from asynqueue._dispatch.stores import BEGIN, END, INSERT, MOVE, WAIT
from asynqueue._lifecycle import DRAIN_SECONDS, Ending
from asynqueue._observers import (
    DEAD_LETTERED,
    GIVEN_BACK,
    PROGRESSED,
    QUEUED,
    RETRYING,
    STARTED,
    Observer,
    ObserverList,
)
from asynqueue._reactor import (
    ReactorSteps,
    SerialExecutor,
    SteadyClock,
    asDeferred,
    callFromAnyThread,
    defaultReactor,
    serialExecutor,
)
from asynqueue._runner.context import applyContext
from asynqueue._runner.packing import PLAIN
from asynqueue._runner.progress import reporting
from asynqueue._waiters import TaskDeferred, Waiters
from asynqueue.admin import openIfWanted
from asynqueue.admin.administrable import Administrable, Showing
from asynqueue.errors import (
    ImplementationError,
    IterationStopped,
    JobExists,
    JobNotStorable,
    QueueFull,
    QueueStopped,
    StateError,
    StoreError,
    WorkerError,
    typeName,
)
from asynqueue.interfaces import IAdministered, IJobStore

if TYPE_CHECKING:
    from asynqueue.admin.server import Administration

PAUSED: Final = "PAUSED"

DISPATCH: Final[Table] = {
    RUNNING: {"pause": PAUSED, "resume": RUNNING, "stop": STOPPING},
    # The queue takes jobs and begins none.
    PAUSED: {"pause": PAUSED, "resume": RUNNING, "stop": STOPPING},
    # The queue takes no jobs and begins none. Those underway may end.
    STOPPING: {"stop": STOPPING, "stopped": STOPPED},
    STOPPED: {"stop": STOPPED},
}

TURN_SECONDS: Final = 0.01
"""How long the queue begins jobs before the reactor gets its turn."""

NEXT_TURN: Final = -math.inf
"""As a time to look for jobs: the reactor's next turn, whatever the time is."""

NEVER: Final = math.inf
"""As a time to look for jobs."""

ENDS: Final = (QueueStopped, WorkerError, IterationStopped, CancelledError)
"""The errors of a function when the program ends, and with it a queue that the function uses. Any
of these can have another reason, too; then the job is only tried once more than it need be."""


class Caller(Protocol):
    """
    Calls functions and returns Deferreds: a C{TaskQueue}, or what its C{options(…)} returns. If it
    also has C{room} and C{whenReady} as these have, it may raise C{QueueFull}.
    """

    def call(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[Any]:
        """Call a function."""


class ResizableDispatchQueue(Administrable):
    """
    Calls one function with many arguments, a limited number of them at once::

        queue = ResizableDispatchQueue(sendMessage, width=5, rate=10, per=1.0)
        d = queue.put(phoneNumber, priority=3)
        d.addCallback(lambda job: print(job.result))

    Each argument makes a L{Job}. Jobs wait in the order of their priorities, lower first, and equal
    ones in the order of putting. The queue's width says how many may be underway at once, and can
    be changed at any time, down to none. You can look at the jobs that wait and those that are
    underway, move them and cancel them.

    The function is called in the main loop, and never from within a method of this queue. It may
    return a Deferred or a coroutine. If the queue has a task queue, that queue's workers call the
    function instead.

    Call the methods in the reactor's thread.

    @ivar drainTimeout: for how many seconds jobs that are underway may go on after a signal that
        asks the program to end. C{None}: signals are left to others, who stop the queue.
    """

    log = Logger()

    # A subclass can give another time.
    _wallClock = staticmethod(time.time)

    @spellsOut()
    def __init__(
        self,
        func: Callable[[Any], Any],
        width: int = 0,
        size: int | None = None,
        backlog: int | None = None,
        *,
        queue: Caller | None = None,
        rate: int | None = None,
        per: float = 1.0,
        burst: int | None = None,
        rateKey: Callable[[Any], Hashable] | None = None,
        retry: Retry | None = None,
        # Type checkers know what provides an interface only with a plugin, and so take any store.
        store: str | os.PathLike[str] | IJobStore | Any = None,
        codec: JobCodec | None = None,
        storedAs: str | None = None,
        drainTimeout: float | None = DRAIN_SECONDS,
        observers: Iterable[Observer] = (),
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param func: takes a job's argument.
        @param width: how many jobs may be underway at once. With 0, jobs only wait.
        @param size: how many jobs may be pending at once; C{None} for no limit.
        @param backlog: is accepted for txRDQ's callers and has no effect.
        @param queue: calls the function: a C{TaskQueue}, or what its C{options} returns. Default:
            the main loop. This queue does not shut it down. While it is full, no job begins.
        @param rate: how many jobs may begin in any C{per} seconds, wherever these begin; C{None}
            for no limit.
        @param per: see C{rate}.
        @param burst: how many of these may begin at once. The others follow at the average pace. By
            default all of them may.
        @param rateKey: takes a job's argument and returns a hashable key. The rate then holds for
            each key by itself, and the jobs of a key that has used it up hold up no others.
        @param retry: which failures are tried again. By default none is.
        @param store: where jobs are kept that are to survive this program: the path of a file, or
            an L{IJobStore<asynqueue.interfaces.IJobStore>}. The jobs in it wait in this queue when
            this has returned. By default jobs live as long as the queue.
        @param codec: encodes the jobs' arguments for the store, as text or bytes, and decodes them:
            an object with C{dumps} and C{loads}, such as the module C{pickle}. Default: JSON, for
            values that come back from it as they were.
        @param storedAs: by what name the store knows the function. Default: its module and
            qualified name. Jobs for other names become dead letters. A function without a name of
            its own (a lambda, a C{partial}, an object that can be called) needs this.
        @param drainTimeout: for how many seconds jobs that are underway may go on after a SIGINT or
            SIGTERM at which the reactor stops. Jobs that wait are left, as C{stop} leaves them. So
            are, in a store, those that do not end because of the signal. 0 to wait for none. With
            C{None} the queue leaves signals to others, who stop it. Default: 5. With a task queue
            as C{queue}, that one has a time of its own.
        @param observers: observers to add at once. See L{addObserver}. They hear of the jobs that
            come from the store, too, in the reactor's next turn.
        @param reactor: schedules calls. Default: the global reactor.
        @raise StoreError: if the store cannot be opened; C{StoreLocked} if another queue has it,
            C{StoreCorrupt} if its content makes no sense.
        @raise ValueError: if the width is not an integer or negative, the size is not a positive
            integer, C{rate}, C{per} and C{burst} are not a rate, C{drainTimeout} is negative, or
            the function needs C{storedAs}.
        @raise TypeError: if there is an unknown keyword, or an observer is not callable.
        """
        self._limit = checkCount("size", size, optional=True)
        self._width = _checkWidth(width)
        self._func = func
        reactor = defaultReactor() if reactor is None else reactor
        # Without a caller the main loop calls the function.
        self._caller = queue
        # The caller, if its room may be limited.
        self._bounded: Any = queue if hasattr(queue, "room") else None
        # While a job could begin, and the caller has no room for its call.
        self._roomAwaited: Deferred[None] | None = None
        # How many jobs are underway of which it is still to be written that they begin.
        self._uncalled = 0
        self._retry = retry
        self._clock = SteadyClock(reactor)
        self._observers = ObserverList(self._clock.seconds)
        for observer in observers:
            self._observers.add(observer)
        self._state: str = RUNNING
        self._pending = PendingJobs(rateKey)
        self._pending.setRate(None if rate is None else (rate, per, burst))
        # The jobs that were begun and whose calls have not ended. Each with what its function
        # returned; or with the call of the reactor that will begin it when its rate allows that; or
        # with None while it is being written that the job begins.
        self._underway: dict[Job, Deferred[Any] | IDelayedCall | None] = {}
        # The jobs whose ends are being written.
        self._settling: set[Job] = set()
        # What takes many steps, and is done in several turns of the reactor.
        self._steps = ReactorSteps(self._clock, self._changed)
        self._left: list[Job] = []
        # When the queue looks for jobs to begin, and the reactor's call for that.
        self._lookTime = NEVER
        self._look: IDelayedCall | None = None
        self._ready: Waiters[None] = Waiters()
        self._drained: Waiters[None] = Waiters()
        self._byKey: dict[str, DurableJob] = {}
        self._persistence: Persistence | None = None
        self._administrations: list[Administration] = []
        first = 1
        self.drainTimeout = drainTimeout
        self._ending = Ending(
            reactor,
            self,
            self._countUnderway,
            self._drain,
            self._cut,
            self._endNow,
            self._giveUp,
        )
        if store is not None:
            name = _nameOf(func) if storedAs is None else storedAs
            first = self._openStore(store, ExactJSON() if codec is None else codec, name)
        self._ids = count(first)
        # A forked process has no part in it. This also says that the queue was constructed.
        self._pid = os.getpid()
        # The reactor's, as far as it is known.
        self._thread = get_ident()
        self._changed()
        openIfWanted(self)

    def _openStore(
        self, store: str | os.PathLike[str] | IJobStore, codec: JobCodec, name: str
    ) -> int:
        """
        @return: the number of the next job.
        """
        if isinstance(store, str | os.PathLike):
            store = SQLiteJobStore(store)
        elif not IJobStore.providedBy(store):
            raise ImplementationError(f"{store!r} is neither a path nor a provider of IJobStore")
        persistence = self._persistence = Persistence(
            store,
            self._makeExecutor(),
            name,
            codec,
            ATTEMPTS if self._retry is None else self._retry.attempts,
            self._clock,
            self._wallClock,
        )
        jobs, highest = persistence.open(self)
        try:
            for job in jobs:
                self._record(QUEUED, job)
                self._rejoin(job)
                if job.isDone:
                    job.tellEnd()
        except BaseException:
            # Ctrl-C, for example. The jobs stay in the store, and another queue can open it.
            persistence.commits.close()
            raise
        if self._observers.observers and jobs:
            # The program does not have the queue yet.
            self._clock.callLater(0, self._observers.flush)
        return highest + 1

    def _makeExecutor(self) -> SerialExecutor:
        return serialExecutor(self._clock.reactor, "asynqueue store", StoreError)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self._state}, width {self._width}, "
            f"{len(self._underway)} underway, {len(self._pending)} pending>"
        )

    def __del__(self) -> None:
        # There is none if the constructor has raised.
        persistence: Persistence | None = self.__dict__.get("_persistence")
        pid = self.__dict__.get("_pid")
        if pid != os.getpid() or self.stopped or not (persistence or self._pending):
            return
        reactor = self._clock.reactor
        if not IReactorFromThreads.providedBy(reactor):
            # With a clock nothing lives on.
            return
        left = "are kept in its store" if persistence else "are lost"
        try:
            warnings.warn(
                f"{self!r} was dropped without stop(). The jobs that wait {left}",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        finally:
            if persistence is not None:
                close = partial(reactor.callLater, 0, persistence.commits.close)
                callFromAnyThread(reactor, close)

    # Jobs -----------------------------------------------------------------------------------------

    def put(
        self,
        jobarg: Any,
        priority: float | None = None,
        *,
        delay: float | None = None,
        at: float | None = None,
        unique: str | None = None,
        mayStand: bool = True,
    ) -> JobDeferred:
        """
        Add a job.

        @param jobarg: the argument for the function. Of a L{Job}, such as one that was saved with
            C{pickle}, the argument is put, and its priority and key unless others are given.
        @param priority: lower is more important. Default: 0.
        @param delay: how many seconds the job is to wait at least.
        @param at: the time before which the job is not to begin, in seconds of the queue's clock,
            which reads like C{time.time()} when the queue is made.
        @param unique: a key, a string, of which there is to be one job at a time, waiting or
            underway. The queue needs a store for this.
        @param mayStand: whether, if there is one already, a Deferred of that one is returned.
            Otherwise C{JobExists} is raised.
        @return: a Deferred, whose C{job} is the job. It fires with the job when that is FINISHED;
            the function's result is C{job.result}. It fails with what the function raised in the
            last attempt, with L{JobCancelled<asynqueue.rdq.JobCancelled>}, or with
            C{JobNotDispatched} if the queue was stopped before the job's turn came. The exception's
            C{job} is the job. Cancelling the Deferred cancels the job. If nobody handles the
            failure, it is logged, unless the job was cancelled, a store keeps it or the queue was
            stopped.
        @raise JobExists: if there is a job of this key, and there may not be.
        @raise JobNotStorable: if there is a store, and the codec cannot encode the argument.
        @raise QueueStopped: after C{stop}.
        @raise QueueFull: if as many jobs as may be are pending.
        @raise ValueError: if the priority is not a number, C{delay} or C{at} is not a finite one or
            the delay is negative, or both C{delay} and C{at} are given. Raises what C{rateKey}
            raises, and C{TypeError} if its key is not hashable. In each of these cases there is no
            job.
        """
        if isinstance(jobarg, Job):
            priority = jobarg.priority if priority is None else priority
            if unique is None and self._persistence is not None:
                unique = getattr(jobarg, "unique", None)
            jobarg = jobarg.jobarg
        if self._state != RUNNING or unique is not None or self._limit is not None:
            standing = self._checkPlace(unique, mayStand)
            if standing is not None:
                return standing.watch()
        priority = 0 if priority is None else self._checkPriority(priority)
        now = self._clock.seconds()
        due = None if delay is None and at is None else dueTime(now, delay, at)
        observers = self._observers
        job: Job
        if self._persistence is None:
            job = Job(next(self._ids), self, jobarg, priority, now)
            job.due = due
            self._pending.put(job, now)
            if observers.observers:
                observers.record(QUEUED, job=job)
        else:
            encoded = self._persistence.encode(jobarg)
            job = DurableJob(next(self._ids), self, jobarg, priority, now, unique)
            job.due = due
            self._pending.put(job, now)
            if unique is not None:
                self._byKey[unique] = job
            if observers.observers:
                observers.record(QUEUED, job=job)
            stored = self._persistence.stored(job, encoded)
            self._persistence.commits.note((INSERT, stored), partial(self._saved, job), False)
        d = job.watch()
        if self._lookTime > NEXT_TURN:
            self._lookSoon()
        if observers.observers:
            observers.flush()
        return d

    def _checkPlace(self, unique: str | None, mayStand: bool) -> DurableJob | None:
        """
        Check whether there is a place for another job.

        @return: the job that has its key already, if there is one and there may be.
        """
        self._checkOpen("a place for a job")
        if unique is not None:
            standing = self._standing(unique, mayStand)
            if standing is not None:
                return standing
        if self._limit is not None and len(self._pending) >= self._limit:
            raise QueueFull(f"{self!r} may have no more than {self._limit} jobs pending")
        return None

    def _standing(self, unique: str, mayStand: bool) -> DurableJob | None:
        """
        @param mayStand: whether it is no error if there is one.
        @return: the job that has this key, if it waits or is underway.
        """
        if self._persistence is None:
            raise ValueError(f"{self!r} has no store, and so no unique keys")
        if not isinstance(unique, str):
            raise ValueError(f"a unique key must be a string, not {unique!r}")
        checkText(unique)
        job = self._byKey.get(unique)
        if job is None or job.isDone:
            return None
        if not mayStand:
            raise JobExists(f"{job} has the key {unique!r} already", job)
        return job

    def pending(self) -> list[Job]:
        """
        Return the jobs that wait, by priority and then in the order of putting. They can be
        pickled, and put into a queue again after that.
        """
        return list(self._pending)

    def underway(self) -> set[Job]:
        """
        Return the jobs whose calls have begun and have not ended. A cancelled job is among them
        until its call has taken notice.
        """
        return set(self._underway)

    def size(self) -> Size:
        """
        Return how many jobs are underway, and how many are pending.
        """
        return Size(len(self._underway), len(self._pending))

    def seconds(self) -> float:
        """
        Return the time by the queue's clock, in seconds. Jobs and events tell times by it.
        """
        return self._clock.seconds()

    def clearQueue(self, cancelPending: bool = True) -> list[Job]:
        """
        Take out all jobs that wait. If they are very many, they are cancelled in several turns of
        the reactor. Gathering them takes one turn, of about a microsecond for each.

        @param cancelPending: whether the jobs are cancelled. Otherwise they are left as they are,
            and belong to nobody: their Deferreds fire only if somebody cancels them.
        @return: the jobs, by priority.
        """
        jobs = list(self._pending)
        self._byKey = {key: job for key, job in self._byKey.items() if job not in self._pending}
        self._pending.clear()
        self._cancelLook()
        self._steps.add(self._dropEach(jobs, cancelPending))
        self._changed()
        return jobs

    def _dropEach(self, jobs: list[Job], isCancelled: bool) -> Iterator[object]:
        for job in jobs:
            # On hearing of one, somebody may have cancelled another.
            if not job.isDone:
                if isCancelled:
                    job.cancelled(self._clock.seconds())
                    self._end(job)
                elif self._persistence is not None:
                    self._persistence.commits.note((END, job.id))
            yield job

    def cancelJob(self, job: Job) -> None:
        """
        Cancel a job.

        @param job: one of this queue's jobs that has not ended.
        """
        self._cancelJob(job, isLeft=False)

    def reprioritize(self, job: Job, priority: float) -> None:
        """
        Move a job among those that wait.

        @param job: a job that waits in this queue.
        @param priority: lower is more important.
        @raise StateError: unless the job is PENDING.
        @raise ValueError: if the priority is not a number, or the job does not wait in this queue.
        """
        if job.state != PENDING:
            raise StateError(job, job.state, "reprioritize")
        self._checkPriority(priority)
        self._pending.reprioritise(job, priority)
        if self._persistence is not None:
            self._persistence.commits.note((MOVE, job.id, priority))

    def _checkPriority(self, priority: float) -> float:
        """
        @return: the priority.
        @raise ValueError: if the priority is not a number, or too large an integer for the store.
        """
        if not isinstance(priority, int | float) or math.isnan(priority):
            raise ValueError(f"a priority must be a number, not {priority!r}")
        isTooLong = isinstance(priority, int) and not -(2**63) <= priority < 2**63
        if isTooLong and self._persistence is not None:
            raise ValueError(f"a store keeps priorities of up to 64 bits, not {priority!r}")
        return priority

    # Width ----------------------------------------------------------------------------------------

    def getWidth(self) -> int:
        """
        Return how many jobs may be underway at once, when the queue is not paused. More may be
        underway for a while after this was made less.
        """
        return self._width

    def setWidth(self, width: int) -> None:
        """
        Change how many jobs may be underway at once. The jobs that are underway are left alone.
        While the queue is paused, this takes effect with L{resume}.

        @raise ValueError: if the width is not an integer, or negative.
        """
        self._width = _checkWidth(width)
        # Others may use the room that the caller has.
        self._cancelLook()
        self._lookSoon()

    width = property(getWidth, setWidth)
    """How many jobs may be underway at once. Setting it is the same as L{setWidth}."""

    def start(self, width: int) -> None:
        """
        Begin jobs: the same as setting L{width}.

        @raise ValueError: if the width is not an integer, or negative.
        """
        self.setWidth(width)

    def pause(self) -> Deferred[None]:
        """
        Begin no more jobs until L{resume}.

        @return: a Deferred that fires when no job is underway any more, at once if none is. If the
            queue is resumed before, the Deferred goes on waiting for such a moment. Cancelling it
            only ends the wait.
        @raise QueueStopped: after C{stop}.
        """
        self._checkOpen("a pause")
        self._state = nextState(DISPATCH, self._state, "pause", self)
        self._cancelLook()
        return self._whenDrained()

    def resume(self, width: int | None = None) -> None:
        """
        Go on after L{pause}.

        @param width: the new width. By default it is as it was.
        @raise QueueStopped: after C{stop}.
        @raise ValueError: if the width is not an integer, or negative.
        """
        self._checkOpen("resuming")
        if width is not None:
            self._width = _checkWidth(width)
        self._state = nextState(DISPATCH, self._state, "resume", self)
        self._lookSoon()

    @property
    def paused(self) -> bool:
        """
        Whether the queue is paused.
        """
        return self._state == PAUSED

    @property
    def stopped(self) -> bool:
        """
        Whether the queue was stopped.
        """
        return self._state in (STOPPING, STOPPED)

    def whenReady(self) -> Deferred[None]:
        """
        Return a Deferred that fires when there is room for another job, at once if there is. Of
        several that wait, as many fire as there is room for, in the order of asking. The room is
        not kept: somebody who puts later than in a callback may find it taken. Cancelling the
        Deferred ends the wait.

        @raise QueueStopped: after C{stop}. The Deferreds that wait then fail with it.
        """
        self._checkOpen("room for a job")
        if self._room() > len(self._ready):
            return succeed(None)
        return self._ready.add()

    # Rate -----------------------------------------------------------------------------------------

    @property
    def rate(self) -> tuple[int, float, int | None] | None:
        """
        How many jobs may begin, in how many seconds, and how many of these at once; C{None} if
        there is no limit.
        """
        return self._pending.rate

    def setRate(self, rate: int | None, per: float = 1.0, burst: int | None = None) -> None:
        """
        Change how many jobs may begin in a length of time. The latest starts still count, as far as
        they are known: as many as the rate was until now.

        @param rate: how many jobs may begin in any C{per} seconds. C{None} for no limit.
        @param per: the length of time, in seconds.
        @param burst: how many of them may begin at once. C{None} for all of them.
        @raise ValueError: if these numbers are not a rate.
        """
        self._pending.setRate(None if rate is None else (rate, per, burst))
        self._lookSoon()

    # Dead letters ---------------------------------------------------------------------------------

    def deadLetters(self) -> Deferred[list[DeadLetter]]:
        """
        Return a Deferred that fires with the dead letters of the store, in the order of putting:
        the jobs that failed for good, that were begun as often as may be without an end, that are
        for another function, or whose stored form cannot be read.

        @raise StoreError: if the queue has no store.
        """
        return self._storeOfDeadLetters().deadLetters()

    def retryDeadLetter(self, letter: DeadLetter) -> Deferred[DurableJob]:
        """
        Put a dead letter into this queue again, for its function, as if it had not been tried yet.

        @param letter: one of L{deadLetters}.
        @return: a Deferred that fires with the job when that is on disk, or fails with
            C{StoreError}.
        @raise JobExists: if another job with its key waits or is underway.
        @raise JobNotStorable: if the argument could not be decoded.
        @raise QueueStopped: after C{stop}.
        @raise StoreError: if the queue has no store, or the letter is not in it any more.
        """
        self._checkOpen("a place for a job")
        persistence = self._storeOfDeadLetters()
        if not letter.isReadable:
            raise JobNotStorable(f"{letter} cannot be decoded")
        if letter.unique is not None:
            self._standing(letter.unique, False)
        now = self._clock.seconds()
        job = DurableJob(letter.id, self, letter.jobarg, letter.priority, now, letter.unique)
        requeued: Deferred[DurableJob] = Deferred()

        def told(error: StoreError | None) -> None:
            job.tellSaved(error)
            if error is not None:
                self._failUnsaved(job, error)
            elif not job.isDone:
                if self.stopped:
                    self._left.append(job)
                    job.tellNotDispatched()
                else:
                    try:
                        self._rejoin(job)
                    except BaseException as raised:
                        self._buryKeyless(job, raised)
                    if job.isDone:
                        self._observers.flush()
                        job.tellEnd()
            if not requeued.called:
                requeued.callback(job if error is None else Failure(error))
            self._changed()

        persistence.checkDead(letter.id)
        self._record(QUEUED, job)
        persistence.takeDeadLetter(letter.id, told, requeue=True)
        if job.unique is not None and not job.isDone:
            self._byKey[job.unique] = job
        self._observers.flush()
        return requeued

    def dropDeadLetter(self, letter: DeadLetter) -> Deferred[None]:
        """
        Forget a dead letter.

        @param letter: one of L{deadLetters}.
        @return: a Deferred that fires when that is on disk, or fails with C{StoreError}.
        @raise StoreError: if the queue has no store, or the letter is not in it any more.
        """
        dropped: Deferred[None] = Deferred()

        def told(error: StoreError | None) -> None:
            if not dropped.called:
                dropped.callback(None if error is None else Failure(error))

        self._storeOfDeadLetters().takeDeadLetter(letter.id, told, requeue=False)
        return dropped

    def _storeOfDeadLetters(self) -> Persistence:
        if self._persistence is None:
            raise StoreError(f"{self!r} has no store, and so no dead letters")
        return self._persistence

    # Observers ------------------------------------------------------------------------------------

    def addObserver(self, observer: Observer) -> None:
        """
        Call an observer with an L{Event<asynqueue.Event>} for everything that happens from now on
        to jobs. See L{IObserver<asynqueue.interfaces.IObserver>}. Adding an observer again has no
        effect.

        @param observer: a callable.
        @raise TypeError: if it is not callable.
        """
        self._observers.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """
        Stop calling an observer.

        @param observer: what L{addObserver} was called with.
        @raise ValueError: if it is not an observer of this queue.
        """
        self._observers.remove(observer)

    def _record(self, kind: str, job: Job, reason: BaseException | None = None) -> None:
        """
        Have the observers hear of this with the next flush, if there are any.
        """
        if self._observers.observers:
            self._observers.record(kind, reason=reason, job=job)

    def _reported(self, job: Job, attempt: int, done: float, total: float | None) -> bool:
        """
        A job's function reports how far it has come.

        @param attempt: which of its attempts that is.
        @return: whether the observers are to be told.
        """
        if job.state != UNDERWAY or job.attempts != attempt:
            # This comes too late.
            return False
        job.progress = Progress(done, total, self._clock.seconds())
        if not self._observers.observers:
            return False
        self._observers.record(PROGRESSED, job=job)
        return True

    # Seen from outside ----------------------------------------------------------------------------

    def _checkAdministrable(self) -> None:
        self._checkOpen("admin")

    def _inspect(self, showing: Showing) -> tuple[IAdministered, IReactorTime]:
        from asynqueue._dispatch.inspection import DispatchInspection

        view = DispatchInspection(
            self,
            describeFunction(self._func),
            self._pending,
            self._underway,
            self._persistence,
            self._observers,
            self._clock,
            showing,
        )
        return view, self._clock.reactor

    # Stopping -------------------------------------------------------------------------------------

    def stop(self, cancelUnderway: bool = False) -> Deferred[list[Job]]:
        """
        Take no more jobs, begin none, and wait for those underway. The jobs that wait stay PENDING,
        and their Deferreds fail with C{JobNotDispatched}. If they are very many, that takes several
        turns of the reactor.

        @param cancelUnderway: whether the jobs that are underway are cancelled rather than waited
            for.
        @return: a Deferred that fires when no job is underway any more, with the jobs that did not
            end: those that were cancelled by this, then those that waited, by priority. The
            Deferred of a second call fires with the same.
        """
        self._state = nextState(DISPATCH, self._state, "stop", self)
        self._cancelLook()
        self._ready.fire(Failure(self._stoppedError("room for a job")))
        cancelled = [job for job in self._underway if cancelUnderway and not job.isDone]
        self._left = cancelled + self._left
        self._steps.add(self._leaveEach(self._pending.clear()))
        for job in cancelled:
            # On hearing of one, somebody may have cancelled another.
            if not job.isDone:
                self._cancelJob(job, isLeft=True)
        return self._whenDrained().addCallback(self._closeStore).addCallback(self._allOver)

    def drain(self) -> Deferred[None]:
        """
        Stop as at a SIGTERM: as L{stop}, but jobs that are underway are cancelled after
        C{drainTimeout} seconds. If that is C{None}, there is no limit.

        @return: a Deferred that fires with C{None} when no job is underway any more and the store
            is closed.
        """
        return self._ending.begin("it was asked to drain")

    def _leaveEach(self, jobs: Iterable[Job]) -> Iterator[object]:
        for job in jobs:
            self._left.append(job)
            # On hearing of one, somebody may have cancelled another.
            if not job.isDone:
                job.tellNotDispatched()
            yield job

    def _closeStore(self, _: object = None) -> Deferred[None]:
        return succeed(None) if self._persistence is None else self._persistence.commits.close()

    def _allOver(self, _: None) -> list[Job]:
        self._ending.forget()
        while self._administrations:
            self._administrations.pop().close()
        return [job for job in self._left if _isLeftBehind(job)]

    def _checkOpen(self, what: str) -> None:
        """
        @param what: what is asked for.
        @raise QueueStopped: after L{stop}.
        """
        if self.stopped:
            raise self._stoppedError(what)

    def _stoppedError(self, what: str) -> QueueStopped:
        return QueueStopped(f"{self!r} was stopped: {what} was refused")

    # With the program -----------------------------------------------------------------------------

    def _isCutShort(self, failure: Failure) -> bool:
        """
        @return: whether a job failed because the program ends.
        """
        if not self._ending.hasBegun or failure.check(*ENDS) is None:
            return False
        # Without a store there is no other run for the job, but a refused job was not run.
        return self._persistence is not None or failure.check(QueueStopped) is not None

    def _countUnderway(self) -> int:
        return len(self._underway)

    def _drain(self, why: str) -> Deferred[list[Job]]:
        stopped = self.stop()
        for job, call in [*self._underway.items()]:
            # The function has not been called: it is being written that the job begins, or its rate
            # does not allow that yet.
            if job.state == UNDERWAY and not isinstance(call, Deferred):
                job.waitAgain()
                self._noteLeft(job)
                self._putBack(job, GIVEN_BACK)
                if call is not None:
                    call.reset(0)
        return stopped

    def _cut(self, why: str) -> Deferred[None]:
        self.stop(cancelUnderway=True)
        self._steps.finish()
        # A function that takes no notice of being cancelled is not waited for.
        return self._closeStore()

    def _endNow(self, why: str) -> None:
        self._cut(why)
        if self._persistence is not None:
            self._persistence.commits.hurry()

    def _giveUp(self) -> None:
        waiting: list[Deferred[Any]] = [*self._ready.deferreds]
        for job in (*self._pending, *self._underway):
            waiting += job.watchers
        self._endNow("the interpreter ends")
        for d in waiting:
            # There is nobody left to handle the failure.
            d.addErrback(lambda _: None)

    # Beginning jobs -------------------------------------------------------------------------------

    def _lookSoon(self) -> None:
        """
        Look for jobs in the reactor's next turn, if one could begin then.
        """
        if self._mayBegin and self._pending:
            self._lookAt(NEXT_TURN)

    @property
    def _mayBegin(self) -> bool:
        """
        Whether a job may begin if one waits whose time has come.
        """
        isOpen = self._state == RUNNING and len(self._underway) < self._width
        return isOpen and self._roomAwaited is None

    def _lookAt(self, time: float) -> None:
        """
        Look for jobs at this time, or before.
        """
        if self._lookTime <= time:
            return
        self._cancelLook()
        self._lookTime = time
        delay = max(0.0, time - self._clock.seconds())
        self._look = self._clock.callLater(delay, self._dispatch)

    def _cancelLook(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
            self._lookTime = NEVER
        if self._roomAwaited is not None:
            awaited, self._roomAwaited = self._roomAwaited, None
            awaited.cancel()

    def _dispatch(self, hasRoom: bool = False) -> None:
        """
        Begin jobs for a while, among them those that come in the meantime.

        @param hasRoom: whether the caller is known to have room for a call.
        """
        self._look = None
        # Nobody has to ask for another look while this one lasts.
        self._lookTime = NEXT_TURN
        try:
            mayFollow = self._beginMany(hasRoom)
        finally:
            self._lookTime = NEVER
        self._tell()
        if self._mayBegin:
            time = NEXT_TURN if mayFollow else self._pending.nextTime()
            if time is not None:
                self._lookAt(time)

    def _findRoom(self) -> bool:
        """
        @return: whether the caller has room for another call. If not, jobs begin when it has.
        """
        if self._bounded.room > self._uncalled:
            return True
        if not self._uncalled:
            try:
                room: Deferred[None] = self._bounded.whenReady()
            except QueueStopped:
                # The call of the next job tells that.
                return True
            self._roomAwaited = room
            room.addBoth(self._roomCame, room)
        return False

    def _roomCame(self, result: Failure | None, room: Deferred[None]) -> None:
        if self._roomAwaited is room:
            self._roomAwaited = None
            self._cancelLook()
            self._dispatch(hasRoom=result is None)

    def _beginMany(self, hasRoom: bool) -> bool:
        """
        @param hasRoom: whether the caller is known to have room for a call.
        @return: whether there may be more jobs that could begin now.
        """
        seconds, underway, take = self._clock.seconds, self._underway, self._pending.take
        observers = self._observers
        self._thread = get_ident()
        now = seconds()
        until = now + TURN_SECONDS
        while self._state == RUNNING and len(underway) < self._width:
            if now >= until:
                return True
            if self._bounded is not None and not hasRoom and self._pending.hasNext(now):
                hasRoom = self._findRoom()
                if not hasRoom:
                    return False
            job = take(now)
            if job is None:
                return False
            hasRoom = False
            job.begin(now)
            underway[job] = None
            if observers.observers:
                observers.record(STARTED, job=job)
            if self._persistence is None:
                self._run(job)
            else:
                # An attempt counts before it begins, because it may take the program with it.
                begun = partial(self._begun, job)
                if self._bounded is not None:
                    self._uncalled += 1
                self._persistence.commits.note((BEGIN, job.id), begun, False)
                if observers.observers:
                    observers.flush()
            now = seconds()
        return False

    def _begun(self, job: Job, error: StoreError | None) -> None:
        """
        It is on disk that a job begins, or could not be written.
        """
        if error is not None and job.state == UNDERWAY:
            job.waitAgain()
            job.attempts -= 1
            job.due = self._clock.seconds() + AGAIN_SECONDS
            self._putBack(job, GIVEN_BACK)
        self._start(job)

    def _start(self, job: Job) -> None:
        """
        Call a job's function when its rate allows that. The rate has counted the job when it was
        taken, but writing has taken time since.
        """
        if job.state == UNDERWAY:
            now = self._clock.seconds()
            time = self._pending.startTime(job, now)
            if time > now:
                self._underway[job] = self._clock.callLater(time - now, self._start, job)
                return
        self._run(job)

    def _run(self, job: Job) -> None:
        if self._observers.observers:
            self._observers.flush()
        if self._uncalled:
            self._uncalled -= 1
            self._lookSoon()
        if job.state != UNDERWAY:
            # The job was cancelled, or waits again, before its function was called.
            del self._underway[job]
            self._changed()
            return
        self._call(job)

    def _call(self, job: Job) -> None:
        try:
            if self._caller is None:
                result = copy_context().run(self._callHere, job)
            elif job.context is None:
                result = self._caller.call(self._func, job.jobarg)
            else:
                result = copy_context().run(self._callThere, self._caller, job)
        except QueueFull:
            self._runWhenReady(job, Failure())
            return
        except BaseException:
            # The function itself has raised, as with maybeDeferred; or a task queue refuses.
            self._ended(Failure(), job)
            return
        if not isinstance(result, Deferred):
            # A Deferred would take most of the time here.
            self._ended(result, job)
            return
        self._underway[job] = result
        if isinstance(result, TaskDeferred):
            # What the job waits for is a task, whose progress is the job's.
            result.whenProgressed = partial(self._taskProgressed, job, job.attempts)
        result.addBoth(self._ended, job)
        if job.isDone:
            # The function has cancelled its own job.
            self._cancelCall(job, result)

    def _runWhenReady(self, job: Job, refusal: Failure) -> None:
        """
        Call a job's function when the caller has room again. There was room when the job was taken,
        but writing has taken time since.
        """
        room = None
        if self._bounded is not None:
            try:
                room = self._bounded.whenReady()
            except QueueStopped:
                refusal = Failure()
        if room is None or room.called:
            # The function itself has raised it, or the caller contradicts itself.
            self._ended(refusal, job)
            return
        self._underway[job] = room
        room.addCallbacks(lambda _: self._call(job), self._ended, errbackArgs=(job,))

    def _callHere(self, job: Job) -> Any:
        """
        Call the function in the main loop, in the job's own context.
        """
        reporting.set(partial(self._jobReports, job, job.attempts))
        if job.context is not None:
            applyContext(job.context)
        result = self._func(job.jobarg)
        return result if type(result) in PLAIN else asDeferred(self._clock.reactor, result)

    def _callThere(self, caller: Caller, job: Job) -> Deferred[Any]:
        """
        Have a task queue call the function. Its own tracers find the job's span.
        """
        applyContext(job.context or ())
        return caller.call(self._func, job.jobarg)

    def _jobReports(self, job: Job, attempt: int, done: float, total: float | None) -> None:
        if get_ident() == self._thread:
            self._jobProgressed(job, attempt, done, total)
        else:
            # The function has passed its context to a thread.
            progressed = partial(self._jobProgressed, job, attempt, done, total)
            callFromAnyThread(self._clock.reactor, progressed)

    def _jobProgressed(self, job: Job, attempt: int, done: float, total: float | None) -> None:
        if self._reported(job, attempt, done, total):
            self._observers.flush()

    def _taskProgressed(self, job: Job, attempt: int, progress: Progress) -> None:
        if self._reported(job, attempt, progress.done, progress.total):
            # The task queue may be in the middle of something.
            self._clock.callLater(0, self._observers.flush)

    # Ending jobs ----------------------------------------------------------------------------------

    def _ended(self, result: object, job: Job) -> None:
        """
        A job's call has ended.
        """
        if job not in self._underway:
            # It could not be cancelled, and was not waited for.
            return
        del self._underway[job]
        if job.state == UNDERWAY:
            now = self._clock.seconds()
            if not isinstance(result, Failure):
                job.finish(result, now)
                self._end(job)
            elif self._isCutShort(result):
                self._waitForAnother(job, result)
            elif not self._tryAgain(job, result, now):
                job.fail(result, now)
                self._end(job)
        self._changed()

    def _tryAgain(self, job: Job, failure: Failure, now: float) -> bool:
        """
        @return: whether the failure is dealt with.
        """
        error = failure.value
        assert error is not None
        if self._retry is None or isinstance(error, CancelledError):
            return False
        if self.stopped and self._persistence is None:
            return False
        reason, delay = self._retry.decide(error, job.attempts)
        if job.isDone:
            # The policy has cancelled the job.
            return True
        if reason is not error:
            job.fail(Failure(reason), now)
            self._end(job)
            return True
        if delay is None:
            return False
        job.due = now + delay
        self._waitForAnother(job, failure)
        return True

    def _waitForAnother(self, job: Job, failure: Failure) -> None:
        """
        A job has failed, and is to be tried again.
        """
        job.retry(failure)
        if self._persistence is not None:
            due = self._persistence.wallTime(job.due)
            change = (WAIT, job.id, due, describeForStore(failure.value))
            self._persistence.commits.note(change)
        self._putBack(job, RETRYING, failure.value)

    def _putBack(self, job: Job, kind: str, reason: BaseException | None = None) -> None:
        """
        A job that was underway waits again, or is left behind if the queue was stopped.

        @param kind: what the observers hear.
        """
        isLeft = self.stopped
        if isLeft:
            self._left.append(job)
        else:
            self._pending.put(job, self._clock.seconds(), isNew=False)
        self._record(kind, job, reason)
        self._observers.flush()
        # An observer may have cancelled it.
        if isLeft and not job.isDone:
            job.tellNotDispatched()

    def _rejoin(self, job: DurableJob) -> None:
        """
        Have a job wait that comes from the store. It becomes a dead letter if it has no key for its
        rate.
        """
        try:
            self._pending.put(job, self._clock.seconds())
        except Exception as error:
            self._buryKeyless(job, error)
        else:
            if job.unique is not None:
                self._byKey[job.unique] = job

    def _buryKeyless(self, job: DurableJob, error: BaseException) -> None:
        assert self._persistence is not None
        job.fail(Failure(error), self._clock.seconds())
        why = f"its key for the rate cannot be told: {describeForStore(error)}"
        self._persistence.bury(job.id, job.jobarg, error, why)
        if self._observers.observers:
            self._recordEnd(job)

    def _saved(self, job: DurableJob, error: StoreError | None) -> None:
        """
        A new job is on disk, or could not be written.
        """
        if error is not None:
            self._failUnsaved(job, error)
            self._changed()
        job.tellSaved(error)

    def _failUnsaved(self, job: DurableJob, error: StoreError) -> None:
        if not job.isDone:
            self._pending.remove(job)
            why = StoreError(f"{job} was not saved: {error}")
            why.__cause__ = error
            job.fail(Failure(why), self._clock.seconds())
            self._freeKey(job)
            self._record(FAILED, job, why)
            self._observers.flush()
            job.tellEnd()

    def _cancelJob(self, job: Job, isLeft: bool) -> None:
        """
        @param isLeft: whether a store keeps the job for another run.
        """
        self._pending.remove(job)
        if not self._pending:
            self._cancelLook()
        call = self._underway.get(job)
        if isLeft:
            self._noteLeft(job)
        job.cancelled(self._clock.seconds())
        if isLeft:
            self._record(CANCELLED, job, job.failure.value)
            self._observers.flush()
            job.tellEnd()
        else:
            self._end(job)
        if isinstance(call, Deferred):
            self._cancelCall(job, call)
        elif call is not None:
            # The job need not wait for its rate.
            call.reset(0)
        self._changed()

    def _cancelCall(self, job: Job, call: Deferred[Any]) -> None:
        """
        Cancel what the function of a cancelled job waits for. The job's slot is free when that has
        fired. If the canceller raises, nothing says that it ever will.
        """
        try:
            call.cancel()
        except BaseException:
            self.log.failure(
                "cancelling what the function of {job} waits for failed. It is not waited for any "
                "more",
                job=job,
            )
            if self._underway.get(job) is call:
                del self._underway[job]
                self._changed()

    def _noteLeft(self, job: Job) -> None:
        if self._persistence is not None:
            due = self._persistence.wallTime(job.due)
            why = "it was underway when its queue was stopped"
            self._persistence.commits.note((WAIT, job.id, due, why))

    def _end(self, job: Job) -> None:
        """
        Tell a job's end: now, or when it is on disk. A job that was told to be over is not done
        again then.
        """
        observers = self._observers
        if observers.observers:
            self._recordEnd(job)
        persistence = self._persistence
        if persistence is None:
            if observers.observers:
                observers.flush()
            job.tellEnd()
            return
        assert isinstance(job, DurableJob)
        self._freeKey(job)
        self._settling.add(job)
        told = partial(self._settled, job)
        if job.state == FAILED:
            persistence.bury(job.id, job.jobarg, job.failure.value, told=told)
        else:
            persistence.commits.note((END, job.id), told)
        if observers.observers:
            # An observer may put a job with the same key, which the store must hear of after this.
            observers.flush()

    def _recordEnd(self, job: Job) -> None:
        reason = None if job.failure is None else job.failure.value
        self._observers.record(job.state, reason=reason, job=job)
        if job.state == FAILED and self._persistence is not None:
            self._observers.record(DEAD_LETTERED, reason=reason, job=job)

    def _settled(self, job: Job, error: StoreError | None) -> None:
        """
        A job's end is on disk; or the store fails, and its writer has logged that and tries again.
        """
        self._settling.discard(job)
        # A closed store tells at once.
        self._observers.flush()
        job.tellEnd()
        self._changed()

    def _freeKey(self, job: DurableJob) -> None:
        if job.unique is not None and self._byKey.get(job.unique) is job:
            del self._byKey[job.unique]

    # Those who wait -------------------------------------------------------------------------------

    def _whenDrained(self) -> Deferred[None]:
        drained = self._drained.add()
        self._tellDrained()
        return drained

    def _tellDrained(self) -> None:
        if self._underway or self._settling or self._steps:
            return
        if self._state == STOPPING:
            self._state = nextState(DISPATCH, self._state, "stopped", self)
        while self._drained and not self._underway and not self._settling:
            self._drained.take().callback(None)

    def _room(self) -> float:
        if self.stopped:
            return 0
        return math.inf if self._limit is None else self._limit - len(self._pending)

    def _changed(self) -> None:
        """
        There may be somebody to tell, and a job may be ready to begin.
        """
        if self._ready or self._drained or self._state == STOPPING:
            self._tell()
        if self._lookTime > NEXT_TURN:
            self._lookSoon()

    def _tell(self) -> None:
        """
        There may be room, and nothing may be left underway.
        """
        room = self._room()
        while self._ready and room > 0:
            self._ready.take().callback(None)
            room = min(room - 1, self._room())
        self._tellDrained()


def _isLeftBehind(job: Job) -> bool:
    # The job may have ended while others were being cancelled; or this is asked in the middle of
    # that, by a callback.
    if job.state == PENDING:
        return True
    return job.failure is not None and job.failure.check(JobCancelled) is not None


def _checkWidth(width: int) -> int:
    return checkCount("the width", width, least=0)


def dueTime(now: float, delay: float | None, at: float | None = None) -> float:
    """
    @param now: the time.
    @param delay: how many seconds to wait from now on; or else C{at} is the time to wait for.
    @raise ValueError: if that is not a finite time, or both are given.
    """
    if delay is not None:
        if at is not None:
            raise ValueError("delay and at exclude each other")
        at = now + checkSeconds("delay", delay)
    if at is None or not math.isfinite(at):
        raise ValueError(f"a job can begin at a finite number of seconds, not at {at!r}")
    return at


def _nameOf(function: object) -> str:
    """
    @return: by what name a store knows a function.
    @raise ValueError: if the function has no name of its own.
    """
    # A method of a built-in type has no module of its own.
    home = getattr(function, "__objclass__", None)
    module = getattr(function, "__module__", None) or getattr(home, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<lambda>" in name:
        kind = "lambda" if isinstance(name, str) else typeName(type(function))
        raise ValueError(
            f"{function!r} is a {kind} and has no name by which a store could know it in the next "
            "run: give it one with storedAs=..."
        )
    if module == "__main__":
        warnings.warn(
            f"the store knows jobs for {name} as for __main__.{name}. A program that imports the "
            "function's module calls it by another name, and would find dead letters: give it a "
            "name of its own with storedAs=...",
            RuntimeWarning,
            stacklevel=3,
        )
    return f"{module}.{name}"
