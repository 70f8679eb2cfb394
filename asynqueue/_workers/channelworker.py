"""
A worker whose calls run in a runner beyond a channel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.groups import Capacity
from asynqueue._core.states import DRAINING, LOST, READY, STARTING
from asynqueue._iteration.delivery import deliver
from asynqueue._runner.codecs import PICKLED, Codec
from asynqueue._workers.picklability import CallCheck
from asynqueue._workers.protocol import (
    CallWriter,
    Ended,
    NearStream,
    RunnerProtocol,
    Writer,
)
from asynqueue._workers.standalone import Standalone
from asynqueue._workers.supervisor import Recycling, Supervisor
from asynqueue.errors import IterationStopped, StateError
from asynqueue.interfaces import IChannel, IRunnerWorker

_LEVELS = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)


def logHere(worker: Any, taskID: int | None, record: dict[str, Any]) -> None:
    """
    Log a runner's record here, with the logger of the same name, if that takes its level.

    A record of C{logging} gets two attributes more, C{worker}, a text, and C{taskID}, a number or
    C{None}. An event of Twisted's logger has them as keys, and its text as C{text}.

    @param worker: whose runner it is.
    @param taskID: the ID of the task that was running.
    @param record: made by L{asynqueue._runner.logs}.
    """
    if record.get("isTwisted"):
        _logTwisted(worker, taskID, record)
        return
    logger = logging.getLogger(record["name"])
    if logger.isEnabledFor(record["levelno"]):
        logger.handle(logging.makeLogRecord({**record, "worker": repr(worker), "taskID": taskID}))


def _logTwisted(worker: Any, taskID: int | None, record: dict[str, Any]) -> None:
    level = next((ours for number, ours in _LEVELS if record["levelno"] >= number), LogLevel.debug)
    text = record["msg"]
    if "exc_text" in record:
        text = f"{text}\n{record['exc_text']}"
    logger = Logger(namespace=record["name"])
    logger.emit(level, "{text}", text=text, worker=repr(worker), taskID=taskID)


@implementer(IRunnerWorker)
class ChannelWorker(Supervisor):
    """
    A worker whose calls run in a runner beyond a channel.

    The runner runs one call at a time, in the order in which they were given. When it dies, the
    task whose call had begun fails with C{WorkerDied}, those whose calls had not are given back,
    and another runner is started.

    A backend derives from this class and says with C{makeChannel} how a runner is reached.

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
        Start the first runner. If that fails, it is tried again, as it is for later ones.

        @param series: the series that this worker is qualified for, besides C{None} and its
            class's.
        @param callStats: whether to keep the times that L{stats} returns: two numbers a call, for
            ever.
        @param reactor: what gives the time and, where it can, watches the channel. Default: the
            global reactor.
        @param recycling: says when a runner is replaced that has nothing wrong with it. Default:
            never.
        """
        self.iQualified = list(series)
        self.capacity = Capacity(slots=1, aheadSeconds=0.05, aheadTasks=64)
        self._callTimes: list[tuple[float, float]] | None = [] if callStats else None
        self._runWaiters: dict[Any, Deferred[None]] = {}
        super().__init__(reactor, recycling)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._channel.pid}: {self.state}>"

    def makeProtocol(self, channel: IChannel) -> RunnerProtocol:
        """
        See L{Supervisor}.
        """
        writer = type(self).makeWriter()
        return RunnerProtocol(channel, self, self._reactor, self.codec, writer)

    # What it is asked -----------------------------------------------------------------------------

    @property
    def makeCheck(self) -> Callable[[], CallCheck] | None:
        """
        See L{IRunnerWorker<asynqueue.interfaces.IRunnerWorker>}.
        """
        return CallCheck if self.codec is PICKLED else None

    def setResignator(self, callableObject: Callable[[], Any]) -> None:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        self._resign = callableObject

    def setListener(self, listener: Any) -> None:
        """
        See L{IRunnerWorker<asynqueue.interfaces.IRunnerWorker>}. If the runner is ready, the
        listener hears of it at once.
        """
        self._listener = listener
        if self.state == READY:
            listener.ready(self)

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
        Run some tasks, in this order. Those that come while there is no runner wait for the next
        one.

        @raise StateError: if the worker is stopping or has stopped.
        """
        self._checkTakes()
        if self.state == LOST:
            self._giveBack(tasks)
        else:
            self._protocol.run(tasks)

    def _checkTakes(self) -> None:
        if self.state not in (STARTING, READY, LOST):
            raise StateError(self, self.state, "run")

    def _giveBack(self, tasks: list[Any]) -> None:
        self.released([(task, None) for task in tasks])
        self.givenBack([task for task in tasks if not task.isDone])

    def cancel(self, task: Any) -> None:
        """
        See L{IRunnerWorker<asynqueue.interfaces.IRunnerWorker>}: the runner is asked to give
        the task up, then gets SIGTERM, then SIGKILL.
        """
        for number, underway in self._protocol.underway.items():
            if underway is task:
                self._termination.climb(number)
                return
        for stream in self._protocol.streams.values():
            if stream.task is task:
                stream.stop()
                return

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        @return: a Deferred that fires with the times, in seconds, of each call that came to its
            end: from when it was given to this worker until its result was here, and for how long
            it ran in the runner. Empty unless the worker was made with C{callStats=True}.
        """
        if self._callTimes is None:
            return succeed([])
        # The callback that asks may be that of a call whose end is being told.
        return succeed([*self._callTimes, *self._timesOf(self._protocol.untold)])

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
        The runner no longer has these tasks.
        """
        if self._callTimes is not None:
            self._callTimes += self._timesOf(ended)
        ran = sum(seconds is not None for _, seconds in ended)
        if ran:
            self._backoff.works()
            self.retireIfDue(ran)
        self._listener.released(self, ended)
        if self._runWaiters:
            self.ranOut([task for task, _ in ended])

    def ranOut(self, tasks: list[Any]) -> None:
        """
        See L{Supervisor}.
        """
        for task in tasks:
            waiter = self._runWaiters.pop(task, None)
            if waiter is not None:
                waiter.callback(None)

    def givenBack(self, tasks: list[Any]) -> None:
        """
        The runner did not begin these tasks.
        """
        self._listener.givenBack(self, tasks)

    def stalled(self) -> bool:
        """
        A task takes far longer than was expected of it.
        """
        self._listener.stalled(self)
        return not isinstance(self._listener, Standalone)

    def unwanted(self, number: int) -> None:
        """
        A stream is to be ended.
        """
        self._termination.climb(number)

    def logged(self, taskID: int | None, record: Any) -> None:
        """
        Something was logged in the runner.
        """
        try:
            logHere(self, taskID, record)
        except Exception:
            # A handler or a filter of the program's has failed, or the record is none.
            self.log.failure("{worker} could not log what its runner logged", worker=self)

    def yielded(self, task: Any, stream: NearStream) -> None:
        """
        A task returned an iterator.
        """
        if self.state == DRAINING:
            reason = IterationStopped(f"{self} is stopping: {task} cannot begin an iteration")
            stream.fail(Failure(reason))
            self._termination.climb(stream.number)
        deliver(task, stream, self._reactor)
