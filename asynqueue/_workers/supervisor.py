"""
The life of a worker's runners: started, replaced when they are lost or due, and ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.states import DRAINING, LOST, READY, STARTING, STOPPED, WORKER, nextState
from asynqueue._lifecycle import StopCall
from asynqueue._reactor import defaultReactor
from asynqueue._runner.messages import QUIT, Message
from asynqueue._workers.protocol import Ended, RunnerProtocol
from asynqueue._workers.restart import RestartBackoff
from asynqueue._workers.standalone import Standalone
from asynqueue._workers.termination import Termination
from asynqueue.errors import (
    IterationStopped,
    PoisonTask,
    WorkerDied,
    WorkerError,
    WorkerRecycled,
    WorkerStartError,
)
from asynqueue.interfaces import IChannel

LOOK_SECONDS: Final = 1.0
"""How often, at the most, a runner's memory is looked at for this. It costs about 20
microseconds."""


class Recycling:
    """
    Says between two tasks whether the runner is to be replaced, and why.
    """

    def __init__(self, maxTasks: int | None = None, maxKilobytes: int | None = None) -> None:
        """
        @param maxTasks: after how many tasks; C{None} for no limit.
        @param maxKilobytes: with how much resident memory; C{None} for no limit.
        @raise ValueError: if one is not a positive integer.
        """
        for name, limit in (("maxTasks", maxTasks), ("maxKilobytes", maxKilobytes)):
            if limit is not None and (type(limit) is not int or limit < 1):
                raise ValueError(f"{name} must be a positive integer or None, not {limit!r}")
        self._maxTasks = maxTasks
        self._maxKilobytes = maxKilobytes
        self._tasks = 0
        self._looked = float("-inf")

    def begin(self) -> None:
        """
        There is a new runner.
        """
        self._tasks = 0
        self._looked = float("-inf")

    def ran(
        self, tasks: int, channel: IChannel, seconds: Callable[[], float]
    ) -> WorkerRecycled | None:
        """
        The runner has run some tasks more.

        @return: why it is to be replaced, if it is.
        """
        self._tasks += tasks
        if self._maxTasks is not None and self._tasks >= self._maxTasks:
            return WorkerRecycled(f"it has run {self._tasks} tasks, and may run {self._maxTasks}")
        if self._maxKilobytes is None or seconds() - self._looked < LOOK_SECONDS:
            return None
        self._looked = seconds()
        resident = channel.residentKilobytes()
        if resident is None or resident <= self._maxKilobytes:
            return None
        return WorkerRecycled(
            f"it has {resident} kB of memory resident, and may have {self._maxKilobytes} kB"
        )


class Supervisor:
    """
    Starts a runner, replaces it when it is lost or due, and ends the last one::

                   +-------- restart --------+
                   v                         |
        ---> STARTING --hello--> READY --lose--> LOST
                 |                 |              |
                 +---drain---+     | drain        | drain
                             v     v              |
                            DRAINING              |
                                |                 |
                                +--stopped--> STOPPED

    From every state but STOPPED, C{crash} leads to STOPPED; from STARTING and DRAINING, C{lose}
    leads to LOST.

    @ivar state: one of the words in the picture.
    """

    log = Logger()

    _channel: IChannel
    _protocol: RunnerProtocol
    _termination: Termination

    def __init__(self, reactor: IReactorTime | None, recycling: Recycling | None) -> None:
        """
        Start the first runner. If that fails, it is tried again, as it is for later ones.

        @param reactor: what gives the time. Default: the global reactor.
        @param recycling: says when a runner is replaced that has nothing wrong with it. Default:
            never.
        """
        self.state: str = STARTING
        self._reactor: Any = defaultReactor() if reactor is None else reactor
        self._listener: Any = Standalone()
        self._resign: Callable[[], Any] | None = None
        self._backoff = RestartBackoff()
        self._recycling = Recycling() if recycling is None else recycling
        self._isRetiring = self._hasQuit = False
        self._isGone = False
        self._reason: Exception = WorkerDied()
        self._restart: IDelayedCall | None = None
        self._stopWaiters: list[Deferred[None]] = []
        self._stopCall = StopCall(self._reactor, "during", self._reactorStops)
        self._start()

    # What a worker adds to it ---------------------------------------------------------------------

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new runner, to be opened by the caller.
        """
        raise NotImplementedError

    def makeProtocol(self, channel: IChannel) -> RunnerProtocol:
        """
        Make what is to be said over a new channel.
        """
        raise NotImplementedError

    def released(self, ended: list[Ended]) -> None:
        """
        The runner no longer has these tasks.
        """
        raise NotImplementedError

    def givenBack(self, tasks: list[Any]) -> None:
        """
        The runner did not begin these tasks.
        """
        raise NotImplementedError

    def ranOut(self, tasks: list[Any]) -> None:
        """
        These tasks are no longer this worker's.
        """
        raise NotImplementedError

    # Beginnings -----------------------------------------------------------------------------------

    def _move(self, event: str) -> None:
        self.state = nextState(WORKER, self.state, event, self)

    def _openChannel(self) -> None:
        self._isRetiring = self._hasQuit = False
        self._recycling.begin()
        self._channel = self.makeChannel()
        self._protocol = self.makeProtocol(self._channel)
        self._termination = Termination(self._protocol, self._channel, self._reactor)
        self._channel.open(self)

    def _start(self) -> None:
        try:
            self._openChannel()
        except WorkerStartError as error:
            # Not from within: whoever made this worker is to have it first.
            self._restart = self._reactor.callLater(0, self._couldNotStart, error)

    def _couldNotStart(self, error: WorkerStartError) -> None:
        self._restart = None
        self.lost(error)

    def _reopen(self) -> None:
        self._restart = None
        self._move("restart")
        self._start()

    def greeted(self) -> None:
        """
        The runner is ready.
        """
        if self.state == STARTING:
            self._move("hello")
            self._listener.ready(self)

    def received(self, messages: list[Message]) -> None:
        """
        The channel has messages from the runner.
        """
        if self.state in (LOST, STOPPED):
            return
        self._listener.begin()
        try:
            self._protocol.received(messages)
        except Exception:
            self.log.failure(
                "{worker} cannot make sense of its runner and gives it up", worker=self
            )
            self._channel.kill()
        finally:
            self._listener.end()
        self._quitIfIdle()

    # Losses ---------------------------------------------------------------------------------------

    def lost(self, reason: Exception) -> None:
        """
        The channel has closed: the runner ended, or died, or never came to be.
        """
        self._reason = reason
        if self.state == STOPPED:
            self._stopped()
            return
        conversation = self._protocol
        conversation.over()
        self._termination.over()
        if self.state == DRAINING and conversation.isIdle:
            self._move("stopped")
            self._stopped()
            return
        wasDraining = self.state == DRAINING
        self._move("lose")
        self._listener.begin()
        try:
            # First, so that nothing is given to this worker on account of what comes back.
            self._listener.lost(self, reason)
            self._settle(conversation, reason)
        finally:
            self._listener.end()
        if self.state != LOST:
            # On hearing of it, somebody has stopped or crashed this worker.
            self._failKept()
        elif wasDraining:
            self._move("drain")
            self._stopped()
        else:
            self._heal(reason)

    def _settle(self, conversation: RunnerProtocol, reason: Exception) -> None:
        """
        Tell everybody who had something underway in a runner that is gone.
        """
        begun, unbegun = conversation.split(reason)
        self.released([(task, None) for task in (*begun, *unbegun)])
        again = []
        for task in begun:
            if task.isDone or task.attempts >= task.options.runs:
                task.errback(Failure(_asDeathOf(task, reason)))
            else:
                # Giving it back takes this attempt away, but it was one.
                task.attempts += 1
                again.append(task)
        self.givenBack([task for task in (*again, *unbegun) if not task.isDone])
        for stream in list(conversation.streams.values()):
            stream.fail(Failure(reason))
        conversation.streams.clear()

    def _heal(self, reason: Exception) -> None:
        if self._isRetiring:
            self._restart = self._reactor.callLater(0, self._reopen)
            return
        delay = self._backoff.delayAfterLoss(reason)
        if delay is not None:
            if self._backoff.shortages == 1:
                self.log.warn("{worker} waits: {reason}", worker=self, reason=reason)
            self._restart = self._reactor.callLater(delay, self._reopen)
            return
        self.log.error("{worker} gives up: {reason}", worker=self, reason=reason)
        if self._resign is None:
            for task in self.crash():
                task.errback(Failure(reason))
        else:
            self._resign()

    def _failKept(self) -> None:
        if isinstance(self._listener, Standalone):
            self._listener.fail(self._reason)

    def retireIfDue(self, ran: int) -> None:
        """
        See whether the runner is to be replaced, when it has ended what it has.
        """
        if self.state != READY or self._isRetiring:
            return
        why = self._recycling.ran(ran, self._channel, self._reactor.seconds)
        # Who knows how long streams last; and the worker would get no tasks until they are over.
        if why is not None and not self._protocol.streams:
            self._isRetiring = True
            self._listener.lost(self, why)

    # Stopping -------------------------------------------------------------------------------------

    def stop(self) -> Deferred[None]:
        """
        Finish the calls that were given, end the streams with C{IterationStopped}, and end the
        runner.

        @return: a Deferred that fires when the runner is gone; so does that of a second call, or
            of one after L{crash}.
        """
        if self._isGone:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopWaiters.append(stopped)
        if self.state == LOST:
            self._move("drain")
            self._stopped()
        elif self.state in (STARTING, READY):
            self._move("drain")
            if isinstance(self._listener, Standalone):
                self._protocol.run(self._listener.take())
            self._endStreams(IterationStopped(f"{self} stopped in mid-iteration"))
            self._quitIfIdle()
        return stopped

    def crash(self) -> list[Any]:
        """
        Kill the runner. Streams fail with C{IterationStopped}.

        @return: the tasks that were given and not ended.
        """
        if self.state == STOPPED:
            return []
        conversation = self._protocol
        left = list(conversation.underway.values())
        if isinstance(self._listener, Standalone):
            left += self._listener.take()
        conversation.underway.clear()
        conversation.over()
        self._termination.over()
        wasGone = self.state == LOST
        self._move("crash")
        self._channel.kill()
        for stream in list(conversation.streams.values()):
            stream.fail(Failure(IterationStopped(f"{self} was crashed in mid-iteration")))
        self.ranOut(left)
        if wasGone:
            self._stopped()
        return [task for task in left if not task.isDone]

    def _endStreams(self, reason: Exception) -> None:
        for number, stream in list(self._protocol.streams.items()):
            stream.fail(Failure(reason))
            self._termination.climb(number)

    def _quitIfIdle(self) -> None:
        isLeaving = self.state == DRAINING or self._isRetiring
        if isLeaving and not self._hasQuit and self._protocol.isIdle:
            self._hasQuit = True
            self._protocol.send([(QUIT,)])
            self._termination.expectEnd()

    def _reactorStops(self) -> None:
        reason = WorkerError(f"{self} is crashed, for the reactor stops")
        if self._resign is not None:
            self._listener.lost(self, reason)
            self._resign()
        for task in self.crash():
            task.errback(Failure(reason))

    def _stopped(self) -> None:
        self._isGone = True
        self._stopCall.forget()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self._failKept()
        waiters, self._stopWaiters = self._stopWaiters, []
        for waiter in waiters:
            waiter.callback(None)


def _asDeathOf(task: Any, reason: Exception) -> Exception:
    """
    What a task fails with whose runner died with it.
    """
    if task.options.runs == 1:
        return reason
    poison = PoisonTask(f"{task} was begun {task.attempts} times, and each time its worker died")
    poison.__cause__ = reason
    return poison
