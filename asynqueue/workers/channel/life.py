"""
The life of a worker's universes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.deferreds.clock import defaultReactor
from asynqueue.errors import (
    IterationStopped,
    PoisonTask,
    WorkerDied,
    WorkerError,
    WorkerStartError,
)
from asynqueue.interfaces import IChannel
from asynqueue.tasks.states import DRAINING, LOST, READY, STARTING, STOPPED, WORKER, nextState
from asynqueue.universe.messages import QUIT, Message
from asynqueue.workers.channel.conversation import Conversation, Ended
from asynqueue.workers.channel.healing import Healing
from asynqueue.workers.channel.ladder import Ladder
from asynqueue.workers.channel.recycling import Recycling
from asynqueue.workers.channel.selfemployed import SelfEmployed


class UniverseLife:
    """
    Starts a universe, replaces it when it is lost or due, and ends the last one::

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
    _conversation: Conversation
    _ladder: Ladder

    def __init__(self, reactor: IReactorTime | None, recycling: Recycling | None) -> None:
        """
        Start the first universe. If that fails, it is tried again, as it is for later ones.

        @param reactor: what gives the time. Default: the global reactor.
        @param recycling: says when a universe is replaced that has nothing wrong with it. Default:
            never.
        """
        self.state: str = STARTING
        self._reactor: Any = defaultReactor() if reactor is None else reactor
        self._employer: Any = SelfEmployed()
        self._resign: Callable[[], Any] | None = None
        self._healing = Healing()
        self._recycling = Recycling() if recycling is None else recycling
        self._isRetiring = self._hasQuit = False
        self._isGone = False
        self._reason: Exception = WorkerDied()
        self._restart: IDelayedCall | None = None
        self._stopWaiters: list[Deferred[None]] = []
        self._trigger: Any = None
        if hasattr(self._reactor, "addSystemEventTrigger"):
            self._trigger = self._reactor.addSystemEventTrigger(
                "during", "shutdown", self._reactorStops
            )
        self._start()

    # What a worker adds to it ---------------------------------------------------------------------

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new universe, to be opened by the caller.
        """
        raise NotImplementedError

    def makeConversation(self, channel: IChannel) -> Conversation:
        """
        Make what is to be said over a new channel.
        """
        raise NotImplementedError

    def released(self, ended: list[Ended]) -> None:
        """
        The universe no longer has these tasks.
        """
        raise NotImplementedError

    def givenBack(self, tasks: list[Any]) -> None:
        """
        The universe did not begin these tasks.
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
        self._conversation = self.makeConversation(self._channel)
        self._ladder = Ladder(self._conversation, self._channel, self._reactor)
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
        The universe is ready.
        """
        if self.state == STARTING:
            self._move("hello")
            self._employer.ready(self)

    def received(self, messages: list[Message]) -> None:
        """
        The channel has messages from the universe.
        """
        if self.state in (LOST, STOPPED):
            return
        self._employer.begin()
        try:
            self._conversation.received(messages)
        except Exception:
            self.log.failure(
                "{worker} cannot make sense of its universe and gives it up", worker=self
            )
            self._channel.kill()
        finally:
            self._employer.end()
        self._quitIfIdle()

    # Losses ---------------------------------------------------------------------------------------

    def lost(self, reason: Exception) -> None:
        """
        The channel has closed: the universe ended, or died, or never came to be.
        """
        self._reason = reason
        if self.state == STOPPED:
            self._stopped()
            return
        conversation = self._conversation
        conversation.over()
        self._ladder.over()
        if self.state == DRAINING and conversation.isIdle:
            self._move("stopped")
            self._stopped()
            return
        wasDraining = self.state == DRAINING
        self._move("lose")
        self._employer.begin()
        try:
            # First, so that nothing is given to this worker on account of what comes back.
            self._employer.lost(self, reason)
            self._settle(conversation, reason)
        finally:
            self._employer.end()
        if self.state != LOST:
            # On hearing of it, somebody has stopped or crashed this worker.
            self._failKept()
        elif wasDraining:
            self._move("drain")
            self._stopped()
        else:
            self._heal(reason)

    def _settle(self, conversation: Conversation, reason: Exception) -> None:
        """
        Tell everybody who had something underway in a universe that is gone.
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
        delay = self._healing.delayAfterLoss(reason)
        if delay is not None:
            if self._healing.shortages == 1:
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
        if isinstance(self._employer, SelfEmployed):
            self._employer.fail(self._reason)

    def retireIfDue(self, ran: int) -> None:
        """
        See whether the universe is to be replaced, when it has ended what it has.
        """
        if self.state != READY or self._isRetiring:
            return
        why = self._recycling.ran(ran, self._channel, self._reactor.seconds)
        # Who knows how long streams last; and the worker would get no tasks until they are over.
        if why is not None and not self._conversation.streams:
            self._isRetiring = True
            self._employer.lost(self, why)

    # Stopping -------------------------------------------------------------------------------------

    def stop(self) -> Deferred[None]:
        """
        Finish the calls that were given, end the streams with C{IterationStopped}, and end the
        universe.

        @return: a Deferred that fires when the universe is gone; so does that of a second call, or
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
            if isinstance(self._employer, SelfEmployed):
                self._conversation.run(self._employer.take())
            self._endStreams(IterationStopped(f"{self} stopped in mid-iteration"))
            self._quitIfIdle()
        return stopped

    def crash(self) -> list[Any]:
        """
        Kill the universe. Streams fail with C{IterationStopped}.

        @return: the tasks that were given and not ended.
        """
        if self.state == STOPPED:
            return []
        conversation = self._conversation
        left = list(conversation.underway.values())
        if isinstance(self._employer, SelfEmployed):
            left += self._employer.take()
        conversation.underway.clear()
        conversation.over()
        self._ladder.over()
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
        for number, stream in list(self._conversation.streams.items()):
            stream.fail(Failure(reason))
            self._ladder.climb(number)

    def _quitIfIdle(self) -> None:
        isLeaving = self.state == DRAINING or self._isRetiring
        if isLeaving and not self._hasQuit and self._conversation.isIdle:
            self._hasQuit = True
            self._conversation.send([(QUIT,)])
            self._ladder.expectEnd()

    def _reactorStops(self) -> None:
        self._trigger = None
        reason = WorkerError(f"{self} is crashed, for the reactor stops")
        if self._resign is not None:
            self._employer.lost(self, reason)
            self._resign()
        for task in self.crash():
            task.errback(Failure(reason))

    def _stopped(self) -> None:
        self._isGone = True
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self._failKept()
        waiters, self._stopWaiters = self._stopWaiters, []
        for waiter in waiters:
            waiter.callback(None)


def _asDeathOf(task: Any, reason: Exception) -> Exception:
    """
    What a task fails with whose universe died with it.
    """
    if task.options.runs == 1:
        return reason
    poison = PoisonTask(f"{task} was begun {task.attempts} times, and each time its worker died")
    poison.__cause__ = reason
    return poison
