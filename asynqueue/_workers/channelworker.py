"""
Workers whose calls run in a runner beyond a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from asynqueue._core.groups import Capacity
from asynqueue._core.states import READY, RETIRING, STARTING, describeState
from asynqueue._iteration.sources import ItemSource
from asynqueue._reactor import defaultReactor
from asynqueue._runner.codecs import PICKLED, Codec
from asynqueue._runner.packing import STANDARD, Packer
from asynqueue._workers.events import (
    Blocked,
    Raised,
    Ready,
    Returned,
    Stalled,
    WorkerEvent,
    Yielded,
    released,
)
from asynqueue._workers.from09 import OldTask, asGiven, asTask, nextItem
from asynqueue._workers.picklability import CHECKS, CallCheck
from asynqueue._workers.procinfo import RunnerFacts, Sight
from asynqueue._workers.protocol import CallWriter, DirectWriter
from asynqueue._workers.restart import Recycling
from asynqueue._workers.standalone import Standalone
from asynqueue._workers.supervisor import RunnerLink, Supervisor
from asynqueue.errors import StateError, WorkerError
from asynqueue.interfaces import IChannel, IPoolWorker

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask


@implementer(IPoolWorker)
class ChannelWorker:
    """
    A worker whose calls run in a runner beyond a channel.

    The runner runs one call at a time, in the order in which they were given. When it dies, the
    task whose call had begun fails with C{WorkerDied}, those whose calls had not begun are given
    back, and another runner is started.

    A backend derives from this class and says with L{makeChannel} how a runner is reached.

    @cvar cQualified: the series that all workers of the class are qualified for.
    @ivar codec: what becomes of values on their way.
    @ivar packer: packs the calls, for that codec's reader; C{None} if they travel as they are.
    @ivar iQualified: the series that this one is qualified for besides.
    @ivar capacity: what the scheduler may give it.
    """

    cQualified: ClassVar[list[Hashable]] = []
    codec: Codec = PICKLED
    packer: Packer | None = STANDARD

    runsInOrder = True

    def __init__(
        self,
        series: Iterable[Hashable] = (),
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        recycling: Recycling | None = None,
    ) -> None:
        """
        Start the first runner. If that fails, it is tried again, as it is for later ones.

        @param series: the series that this worker is qualified for, besides C{None} and its
            class's.
        @param callStats: whether to keep the times that L{stats} returns: two numbers a call, for
            ever.
        @param reactor: what gives the time and, where it can, watches the channel. Default: the
            global reactor.
        @param recycling: says when a sound runner is replaced. Default: never.
        """
        self.iQualified = list(series)
        self.capacity = Capacity(slots=1, aheadSeconds=0.05, aheadTasks=64)
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._standalone = Standalone(self, self._crash, self._reactor)
        self._listener: Callable[[list[WorkerEvent]], None] = self._standalone
        self._callTimes: list[tuple[float, float]] | None = [] if callStats else None
        self._runWaiters: dict[QueuedTask, Deferred[None]] = {}
        # A stream's items may be taken when its runner is gone.
        self._sources: WeakValueDictionary[int, ItemSource] = WeakValueDictionary()
        self._supervisor = Supervisor(self, self._makeLink, self._report, self._reactor, recycling)
        # The supervisor does all that there is to do.
        self.runMany = self._supervisor.runMany
        self._supervisor.begin()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._channel.pid}: {self._describeState()}>"

    def _describeState(self) -> str:
        protocol = self._supervisor.link.protocol
        return describeState(self.state, len(protocol.underway) + len(protocol.streams))

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new runner. The caller opens it.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how a runner is reached")

    def _makeLink(self) -> RunnerLink:
        writer = DirectWriter() if self.packer is None else CallWriter(self.packer)
        channel = self.makeChannel()
        return RunnerLink(channel, self.codec, writer, self._reactor, self._stalled, self._sources)

    @property
    def _channel(self) -> IChannel:
        return self._supervisor.link.channel

    # What it is asked -----------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """
        How the worker is: STARTING, READY, RETIRING, LOST, DRAINING or STOPPED.
        """
        return self._supervisor.state

    @property
    def makeCheck(self) -> Callable[[], CallCheck] | None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}.
        """
        return None if self.packer is None else CHECKS[self.packer]

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        self._standalone.resign = callableObject

    def setListener(self, listener: Callable[[list[WorkerEvent]], None]) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. If the runner is ready, the listener
        hears of it at once.
        """
        self._listener = listener
        if self._callTimes is None and not self._runWaiters:
            # Nothing is to be added to what the supervisor reports.
            self._supervisor.report = listener
        if self.state == READY:
            listener([Ready()])

    def run(self, task: object) -> Deferred[None]:
        """
        Run one task.

        @param task: a task of a queue. Or, as long as the worker belongs to no queue, an object
            with a C{callTuple} and a method C{callback}, as AsynQueue 0.9's tasks have. C{callback}
            is then called with C{(b"r", result)}, with C{(b"i", deferator)} if the call returned an
            iterator, or with C{(b"e", text)} if it failed.
        @return: a Deferred that fires when the worker no longer has the task: it returned, raised,
            yields a stream, or was given back.
        @raise StateError: if the worker is stopping or has stopped.
        @raise WorkerError: if a task of AsynQueue 0.9's shape is given to a queue's worker.
        """
        task = asTask(task, self, self._reactor.seconds)
        if isinstance(task, OldTask) and self._listener is not self._standalone:
            raise WorkerError(f"{self!r} belongs to a queue: put the call of {task} into that")
        done: Deferred[None] = Deferred()
        self._runWaiters[task] = done
        self._supervisor.report = self._report
        try:
            refused = self.runMany([task])
        except StateError:
            del self._runWaiters[task]
            raise
        self._report(refused)
        return done

    def cancel(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The runner is asked to give the task
        up, then gets SIGTERM, then SIGKILL.
        """
        link = self._supervisor.link
        number = link.protocol.numberOf(task)
        if number is None:
            return
        stream = link.protocol.streams.get(number)
        if stream is None:
            link.termination.begin(number)
        else:
            stream.stop()

    def terminate(self, task: QueuedTask) -> None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. The streams in the process end, too.
        """
        self._supervisor.terminate(task)

    def lookAt(self, task: QueuedTask) -> Deferred[Sight] | None:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}. A process answers between two steps of
        its Python code. If it is stuck in other code for 0.1 seconds, C{faulthandler} tells where.
        """
        return self._supervisor.link.lookAt(task)

    def facts(self) -> RunnerFacts:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}.
        """
        supervisor = self._supervisor
        channel, protocol = supervisor.link.channel, supervisor.link.protocol
        begun: Sequence[QueuedTask] | None = None
        lastBegun = channel.lastBegun
        if lastBegun is not None:
            begun = [task for number, task in protocol.underway.items() if number <= lastBegun]
        return RunnerFacts(
            self.state,
            channel.pid,
            channel.residentKilobytes(),
            supervisor.starts - 1,
            [*supervisor.losses],
            begun,
            supervisor.recycled,
            self.place(),
        )

    def place(self) -> Mapping[str, Any]:
        """
        @return: what can be told of the place where the runner is, as JSON can express it. Nothing
            if that is this machine.
        """
        return {}

    def stacks(self) -> Deferred[str]:
        """
        Ask what the runner is doing, without harm to it. A process answers between two steps of the
        Python code that it runs. If it is stuck in other code for half a second, C{faulthandler}
        tells where.

        @return: a Deferred that fires with the Python stacks of its threads, as text for people. It
            does not fail: if they cannot be told, the text says so.
        """
        return self._supervisor.stacks()

    def recycle(self) -> bool:
        """
        See L{IPoolWorker<asynqueue.interfaces.IPoolWorker>}.
        """
        if self.state != READY:
            return False
        self._supervisor.retire(WorkerError(f"{self!r} is replaced because somebody asked for it"))
        return True

    def stop(self) -> Deferred[None]:
        """
        Let the calls that were given end, and the streams that are being consumed. End the other
        streams with C{IterationStopped}, then the runner.

        @return: a Deferred that fires when the runner is gone, also after L{crash}.
        """
        if self.state in (STARTING, READY, RETIRING):
            self._report(self._supervisor.link.run(self._standalone.take()))
        return self._supervisor.stop()

    def crash(self) -> list[QueuedTask]:
        """
        Kill the runner. Streams fail with C{IterationStopped}.

        @return: the tasks that were given and not ended.
        """
        return asGiven(self._crash())

    def _crash(self) -> list[QueuedTask]:
        kept = self._standalone.take()
        left = [*self._supervisor.crash(), *kept]
        self._fireWaiters(left)
        return [task for task in left if not task.isDone]

    @property
    def tasks(self) -> list[QueuedTask]:
        """
        The tasks that the worker was given and that have not ended, in the order of giving. One
        whose items come is not among them, because its call has returned.
        """
        held = [*self._supervisor.link.protocol.underway.values(), *self._standalone.kept]
        return asGiven(task for task in held if not task.isDone)

    def do_next(self, ID: int | str) -> Deferred[Any]:
        """
        Take the next item of an iterator that a task has returned in the runner. The Deferator that
        the task gave does not see that item, so use one or the other. Keep the Deferator, because
        without it the iteration is stopped.

        @param ID: the task's C{id}. Or the empty text, for the times that the calls have taken in
            the runner, if the worker was made with C{callStats=True}.
        @return: a Deferred that fires with the item. It fails with C{StopIteration} when there is
            none any more, or no such iterator, and with C{NotReadyError} if the last item was asked
            for and has not come.
        """
        if ID == "":
            return succeed([ran for _, ran in self._callTimes or ()])
        return nextItem(None if isinstance(ID, str) else self._sources.get(ID))

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        Return the times of the calls so far.

        @return: a Deferred that has fired with two times in seconds for each call that came to its
            end: from when it was given to this worker until its result was here, and for how long
            it ran in the runner. Empty unless the worker was made with C{callStats=True}.
        """
        return succeed([] if self._callTimes is None else [*self._callTimes])

    # What the supervisor reports ------------------------------------------------------------------

    def _report(self, events: list[WorkerEvent]) -> None:
        if self._callTimes is not None:
            self._keepTimes(self._callTimes, events)
        self._listener(events)
        if self._runWaiters:
            self._fireWaiters(released(events))

    def _keepTimes(self, times: list[tuple[float, float]], events: list[WorkerEvent]) -> None:
        now = self._reactor.seconds()
        for event in events:
            if isinstance(event, (Returned, Raised, Yielded)) and event.seconds is not None:
                task = event.task
                if task.startTime is not None:
                    times.append(((task.stopTime or now) - task.startTime, event.seconds))

    def _fireWaiters(self, tasks: Iterable[QueuedTask]) -> None:
        for task in tasks:
            waiter = self._runWaiters.pop(task, None)
            if waiter is not None:
                waiter.callback(None)

    def _stalled(self, isBlocked: bool) -> bool:
        """
        Report that a task takes far longer than expected, or that a stream keeps the runner from
        all calls.

        @return: whether the calls behind it are to be recalled: only a queue has another worker.
        """
        self._report([Blocked() if isBlocked else Stalled()])
        return self._listener is not self._standalone
