"""
One worker, many channels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.errors import IterationStopped, StateError
from asynqueue.interfaces import IChannel, IUniverseWorker
from asynqueue.tasks.scheduler import Capacity
from asynqueue.tasks.states import DRAINING, LOST, READY, STARTING
from asynqueue.universe.codecs import PICKLED, Codec
from asynqueue.workers.channel.calls import CallWriter, Writer
from asynqueue.workers.channel.check import CallCheck
from asynqueue.workers.channel.conversation import Conversation, Ended
from asynqueue.workers.channel.delivery import deliver
from asynqueue.workers.channel.life import UniverseLife
from asynqueue.workers.channel.logs import logHere
from asynqueue.workers.channel.recycling import Recycling
from asynqueue.workers.channel.selfemployed import SelfEmployed
from asynqueue.workers.channel.stream import NearStream


@implementer(IUniverseWorker)
class ChannelWorker(UniverseLife):
    """
    A worker whose calls run in a universe beyond a channel.

    The universe runs one call at a time, in the order in which they were given. When it dies, the
    task whose call had begun fails with C{WorkerDied}, those whose calls had not are given back,
    and another universe is started.

    A backend derives from this class and says with C{makeChannel} how a universe is reached.

    @cvar cQualified: the series that all workers of the class are qualified for.
    @cvar codec: what becomes of values on their way.
    @cvar makeWriter: makes what writes the calls of one conversation, for that codec's reader.
    @ivar iQualified: the series that this one is qualified for besides.
    @ivar capacity: what the scheduler may give it.
    """

    cQualified: ClassVar[list[Hashable]] = []
    codec: ClassVar[Codec] = PICKLED
    makeWriter: ClassVar[Callable[[], Writer]] = CallWriter

    def __init__(
        self,
        series: Iterable[Hashable] = (),
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        recycling: Recycling | None = None,
    ) -> None:
        """
        Start the first universe. If that fails, it is tried again, as it is for later ones.

        @param series: the series that this worker is qualified for, besides C{None} and its
            class's.
        @param callStats: whether to keep the times that L{stats} returns: two numbers a call, for
            ever.
        @param reactor: what gives the time and, where it can, watches the channel. Default: the
            global reactor.
        @param recycling: says when a universe is replaced that has nothing wrong with it. Default:
            never.
        """
        self.iQualified = list(series)
        self.capacity = Capacity(slots=1, aheadSeconds=0.05, aheadTasks=64)
        self._callTimes: list[tuple[float, float]] | None = [] if callStats else None
        self._runWaiters: dict[Any, Deferred[None]] = {}
        super().__init__(reactor, recycling)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._channel.pid}: {self.state}>"

    def makeConversation(self, channel: IChannel) -> Conversation:
        """
        See L{UniverseLife}.
        """
        writer = type(self).makeWriter()
        return Conversation(channel, self, self._reactor, self.codec, writer)

    # What it is asked -----------------------------------------------------------------------------

    @property
    def makeCheck(self) -> Callable[[], CallCheck] | None:
        """
        See L{IUniverseWorker<asynqueue.interfaces.IUniverseWorker>}.
        """
        return CallCheck if self.codec is PICKLED else None

    def setResignator(self, callableObject: Callable[[], Any]) -> None:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        self._resign = callableObject

    def employ(self, employer: Any) -> None:
        """
        See L{IUniverseWorker<asynqueue.interfaces.IUniverseWorker>}. If the universe is ready, the
        employer hears of it at once.
        """
        self._employer = employer
        if self.state == READY:
            employer.ready(self)

    def run(self, task: Any) -> Deferred[None]:
        """
        Run one task.

        @return: a Deferred that fires when the worker no longer has the task: it returned, raised,
            yields a stream, or was given back.
        @raise StateError: if the worker is stopping or has stopped.
        """
        self._checkTakes()
        done: Deferred[None] = Deferred()
        self._runWaiters[task] = done
        self.runMany([task])
        return done

    def runMany(self, tasks: list[Any]) -> None:
        """
        Run some tasks, in this order. Those that come while there is no universe wait for the next
        one.

        @raise StateError: if the worker is stopping or has stopped.
        """
        self._checkTakes()
        if self.state == LOST:
            self._giveBack(tasks)
        else:
            self._conversation.run(tasks)

    def _checkTakes(self) -> None:
        if self.state not in (STARTING, READY, LOST):
            raise StateError(self, self.state, "run")

    def _giveBack(self, tasks: list[Any]) -> None:
        self.released([(task, None) for task in tasks])
        self.givenBack([task for task in tasks if not task.isDone])

    def cancel(self, task: Any) -> None:
        """
        See L{IUniverseWorker<asynqueue.interfaces.IUniverseWorker>}: the universe is asked to give
        the task up, then gets SIGTERM, then SIGKILL.
        """
        for number, underway in self._conversation.underway.items():
            if underway is task:
                self._ladder.climb(number)
                return
        for stream in self._conversation.streams.values():
            if stream.task is task:
                stream.stop()
                return

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        @return: a Deferred that fires with the times, in seconds, of each call that came to its
            end: from when it was given to this worker until its result was here, and for how long
            it ran in the universe. Empty unless the worker was made with C{callStats=True}.
        """
        if self._callTimes is None:
            return succeed([])
        # The callback that asks may be that of a call whose end is being told.
        return succeed([*self._callTimes, *self._timesOf(self._conversation.untold)])

    def _timesOf(self, ended: list[Ended]) -> list[tuple[float, float]]:
        # A task that yields a stream to a consumer is not done yet.
        now = self._reactor.seconds()
        return [
            ((task.stopTime or now) - task.startTime, seconds)
            for task, seconds in ended
            if seconds is not None and task.startTime is not None
        ]

    # What the conversation tells ------------------------------------------------------------------

    def released(self, ended: list[Ended]) -> None:
        """
        The universe no longer has these tasks.
        """
        if self._callTimes is not None:
            self._callTimes += self._timesOf(ended)
        ran = sum(seconds is not None for _, seconds in ended)
        if ran:
            self._healing.works()
            self.retireIfDue(ran)
        self._employer.released(self, ended)
        if self._runWaiters:
            self.ranOut([task for task, _ in ended])

    def ranOut(self, tasks: list[Any]) -> None:
        """
        See L{UniverseLife}.
        """
        for task in tasks:
            waiter = self._runWaiters.pop(task, None)
            if waiter is not None:
                waiter.callback(None)

    def givenBack(self, tasks: list[Any]) -> None:
        """
        The universe did not begin these tasks.
        """
        self._employer.givenBack(self, tasks)

    def stalled(self) -> bool:
        """
        A task takes far longer than was expected of it.
        """
        self._employer.stalled(self)
        return not isinstance(self._employer, SelfEmployed)

    def unwanted(self, number: int) -> None:
        """
        A stream is to be ended.
        """
        self._ladder.climb(number)

    def logged(self, taskID: int | None, record: Any) -> None:
        """
        Something was logged in the universe.
        """
        try:
            logHere(self, taskID, record)
        except Exception:
            # A handler or a filter of the program's has failed, or the record is none.
            self.log.failure("{worker} could not log what its universe logged", worker=self)

    def yielded(self, task: Any, stream: NearStream) -> None:
        """
        A task returned an iterator.
        """
        if self.state == DRAINING:
            reason = IterationStopped(f"{self} is stopping: {task} cannot begin an iteration")
            stream.fail(Failure(reason))
            self._ladder.climb(stream.number)
        deliver(task, stream, self._reactor)
