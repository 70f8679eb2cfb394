"""
The runners of a worker: each is started, replaced when it is lost or due, and ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.description import describeError
from asynqueue._core.states import (
    DRAINING,
    LOST,
    READY,
    RETIRING,
    STARTING,
    STOPPED,
    WORKER,
    nextState,
)
from asynqueue._iteration.patience import StreamPatience
from asynqueue._iteration.sources import ItemSource
from asynqueue._lifecycle import StopCall
from asynqueue._reactor import callFromAnyThread
from asynqueue._runner.codecs import Codec
from asynqueue._runner.messages import QUIT, RECALL, STACK, Message
from asynqueue._waiters import OneShotObserverList
from asynqueue._workers.events import (
    Ended,
    GaveUp,
    GivenBack,
    Logged,
    Lost,
    Progressed,
    Raised,
    Ready,
    StacksTold,
    StreamLost,
    Unblocked,
    WorkerEvent,
    Yielded,
    diedWith,
)
from asynqueue._workers.procinfo import Sight
from asynqueue._workers.protocol import RunnerProtocol, Writer
from asynqueue._workers.restart import Recycling, RestartBackoff
from asynqueue._workers.termination import Termination
from asynqueue.errors import (
    IterationStopped,
    PayloadTooLarge,
    StateError,
    WorkerDied,
    WorkerError,
    WorkerStartError,
)
from asynqueue.interfaces import IChannel, IPoolWorker

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask

STALL_SECONDS: Final = 0.05
"""When tasks that were sent ahead have waited for so long, in seconds, behind one task, they are
recalled."""

LONGEST_STALL_SECONDS: Final = 5.0
"""For how long, at most, a call waits behind a stream before it is recalled, in seconds."""

TELL_SECONDS: Final = 0.5
"""A runner that has not told what it is doing after so many seconds is stuck."""

LOOK_SECONDS: Final = 0.1
"""For how long, in seconds, it is waited for an answer before a task is given up. After that it is
stuck."""

DUMP_SECONDS: Final = 0.05
"""How long C{faulthandler} has, in seconds, to write the stacks of a runner that is stuck."""

LOSSES: Final = 5
"""How many losses of runners are remembered."""

_FROM_WITHIN: Final = (GivenBack, Logged, Progressed)
"""What may come from a runner while a stream holds it up."""

Report = Callable[[list[WorkerEvent]], None]


class Answer(NamedTuple):
    """
    What a runner is doing.

    @ivar task: the task whose code was running, or C{None} if there was none or it is not known.
    @ivar text: the stacks of the runner's threads, or C{None} if they cannot be told.
    @ivar isOwn: whether the runner has answered itself. Otherwise it was stuck.
    """

    task: QueuedTask | None
    text: str | None
    isOwn: bool


class RunnerLink:
    """
    All that belongs to one runner on this side: the channel to it, the protocol, and what ends or
    recalls the calls in it.
    """

    def __init__(
        self,
        channel: IChannel,
        codec: Codec,
        writer: Writer,
        reactor: IReactorTime,
        stalled: Callable[[bool], bool],
        sources: WeakValueDictionary[int, ItemSource] | None = None,
    ) -> None:
        """
        @param stalled: is called when a task takes far longer than was expected of it, or, with
            C{True}, when a stream keeps the runner from all calls. It says whether to recall the
            calls that have not begun.
        @param sources: the streams of which somebody still has items to take, by their tasks' IDs,
            those of former runners too. Default: there are none yet.
        """
        self.channel = channel
        self.protocol = RunnerProtocol(self, codec, writer, sources)
        self.termination = Termination(self.protocol, channel, reactor)
        self.hasQuit = False
        self._reactor = reactor
        self._stalled = stalled
        self._watch: IDelayedCall | None = None
        # For how long a call waits behind a stream before it is recalled.
        self._patience = STALL_SECONDS
        self.isBlocked = False
        # Who asked what the runner is doing, and what comes if it does not answer, by number.
        self._numbers = count(1)
        self._questions: dict[int, tuple[Deferred[Answer], IDelayedCall]] = {}
        # Set for good with the first question, because an answer may be late.
        self.isAsked = False

    def run(self, tasks: Sequence[QueuedTask]) -> list[WorkerEvent]:
        """
        Send the calls of some tasks.

        @return: an event for each task whose call cannot be sent.
        """
        protocol = self.protocol
        messages, refused = protocol.call(tasks)
        if messages:
            try:
                self.channel.send(messages)
            except PayloadTooLarge as error:
                refused += self._sendApart(messages, error)
        if self._watch is None and (len(protocol.underway) > 1 or protocol.streams):
            self._watchHead(next(iter(protocol.underway), 0))
        return refused

    def _sendApart(self, messages: list[Message], error: PayloadTooLarge) -> list[WorkerEvent]:
        """
        Send calls one by one, because they are too large together.
        """
        tasks = self.protocol.uncall(messages)
        if len(tasks) == 1:
            return [Raised(tasks[0], None, Failure(error.with_traceback(None)))]
        return [event for task in tasks for event in self.run([task])]

    def over(self) -> None:
        """
        Stop all timers, because the runner is gone.
        """
        self.termination.over()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for number in [*self._questions]:
            # Whoever asked is not to be told in the middle of this.
            _, timer = self._questions[number]
            timer.reset(0)

    def quitIfIdle(self) -> None:
        """
        Tell the runner to end, if it has nothing left to do.
        """
        if not self.hasQuit and self.protocol.isIdle:
            self.hasQuit = True
            self.channel.send([(QUIT,)])
            self.termination.expectEnd()

    # Sent ahead, and recalled ---------------------------------------------------------------------

    def _watchHead(self, head: int) -> None:
        seconds = self._patience if self.protocol.streams else STALL_SECONDS
        self._watch = self._reactor.callLater(seconds, self._look, head)

    def _look(self, head: int) -> None:
        """
        See whether the call that was the first one then has given way to another.
        """
        self._watch = None
        protocol, begun = self.protocol, self.channel.lastBegun
        now = next(iter(protocol.underway), None)
        if now is None:
            return
        isBlocked = protocol.isBlocked(begun)
        if begun is not None and begun >= now:
            self._patience = STALL_SECONDS
        if now != head or protocol.isWaiting(now, begun):
            self._watchHead(now)
        elif (isBlocked or len(protocol.underway) > 1) and self._stalled(isBlocked):
            if isBlocked:
                # A stream that is only slow lets a call in between two items. The next call waits
                # for longer, so that it is not recalled for ever.
                self.isBlocked = True
                self._patience = min(2 * self._patience, LONGEST_STALL_SECONDS)
            self.channel.send([(RECALL,)])
            self.channel.nudge()

    # What the runner is doing ---------------------------------------------------------------------

    def askStacks(self) -> Deferred[str]:
        """
        Ask what the runner is doing.

        @return: a Deferred that fires with a text for people.
        """

        def described(answer: Answer) -> str:
            if answer.isOwn:
                return ("" if answer.task is None else f"{answer.task!r}\n") + (answer.text or "")
            why = f"The runner did not answer within {TELL_SECONDS:g} seconds"
            return f"{why}.\n" if answer.text is None else f"{why}. It was here:\n{answer.text}"

        return self._ask(TELL_SECONDS).addCallback(described)

    def lookAt(self, task: QueuedTask) -> Deferred[Sight] | None:
        """
        Look at the run of a task.

        @return: a Deferred that fires with what was seen, or C{None} if it has not begun.
        """
        protocol, begun = self.protocol, self.channel.lastBegun
        number = protocol.numberOf(task)
        if number is None or begun is None or not protocol.mayRun(number, begun) or begun < number:
            return None

        def seen(answer: Answer) -> Sight:
            # It may have ended, and another one may have begun meanwhile.
            isIts = answer.task is task or not answer.isOwn
            return Sight(answer.text if isIts else None, self.channel.residentKilobytes())

        return self._ask(LOOK_SECONDS, task).addCallback(seen)

    def _ask(self, seconds: float, task: QueuedTask | None = None) -> Deferred[Answer]:
        """
        @param seconds: after how many seconds without an answer the runner is taken to be stuck.
        @param task: the task that is running, where it is known.
        """
        known = self.channel.stacks()
        if known is not None and not self.channel.isMortal:
            return succeed(Answer(task, known, True))
        self.isAsked = True
        number = next(self._numbers)
        told: Deferred[Answer] = Deferred(lambda _: None)
        timer = self._reactor.callLater(seconds, self._dump, number)
        self._questions[number] = told, timer
        self.channel.send([(STACK, number)])
        self.channel.nudge()
        return told

    def _dump(self, number: int) -> None:
        told, _ = self._questions[number]
        self.channel.dump()
        timer = self._reactor.callLater(DUMP_SECONDS, self._dumped, number)
        self._questions[number] = told, timer

    def _dumped(self, number: int) -> None:
        self._tell(number, Answer(None, self.channel.stacks(), False))

    def answered(self, answer: StacksTold) -> None:
        """
        The runner has told what it is doing.
        """
        self._tell(answer.question, Answer(answer.task, answer.text, True))

    def _tell(self, number: int, answer: Answer) -> None:
        told, timer = self._questions.pop(number, (None, None))
        if timer is not None and timer.active():
            timer.cancel()
        if told is not None and not told.called:
            told.callback(answer)

    # What streams need ----------------------------------------------------------------------------

    def send(self, messages: list[Message]) -> None:
        """
        Send messages that are known to be small.
        """
        self.channel.send(messages)

    def stopStream(self, number: int) -> None:
        """
        See to it that a stream ends in the runner.
        """
        self.termination.begin(number)

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have a function called in the reactor's thread, from whichever thread.
        """
        callFromAnyThread(self._reactor, function)


class Supervisor:
    """
    Starts a runner, replaces it when it is lost or due, and ends the last one::

                   +---------------- restart ----------------+
                   v                                         |
        ---> STARTING --hello--> READY --retire--> RETIRING  |
                 |                 |                  |      |
                 |                 +-------lose-------+--> LOST
                 +-----drain-------+-------drain------+      | drain
                                   v                         |
                                DRAINING --stopped--> STOPPED

    From every state but STOPPED, C{crash} leads to STOPPED. From STARTING and DRAINING, C{lose}
    leads to LOST.

    @ivar state: one of the words in the picture.
    @ivar report: takes the events that come from a runner or concern it.
    @ivar link: what belongs to the present runner, or to the last one.
    @ivar starts: how many runners were started.
    @ivar recycled: how many of them were replaced although they were sound.
    @ivar losses: when the last few runners were lost or ended, in seconds of the reactor's clock,
        and why.
    """

    log = Logger()

    def __init__(
        self,
        worker: IPoolWorker,
        makeLink: Callable[[], RunnerLink],
        report: Report,
        reactor: IReactorTime,
        recycling: Recycling | None,
    ) -> None:
        """
        @param worker: the worker, to be named in errors.
        @param makeLink: makes the link to one new runner, whose channel is not open yet.
        @param report: takes the events that come from a runner or concern it.
        @param recycling: says when a sound runner is to be replaced. Default: never.
        """
        self.state: str = STARTING
        self._worker = worker
        self._makeLink = makeLink
        self.report = report
        self._reactor = reactor
        self._recycling = recycling if recycling is not None and recycling.isLimited else None
        self._backoff = RestartBackoff()
        self._restart: IDelayedCall | None = None
        self._reason: Exception = WorkerDied()
        # Why the present runner, or the last one that did, has retired.
        self._retired: Exception = WorkerDied()
        self.starts = 0
        self.recycled = 0
        self.losses: deque[tuple[float, str]] = deque(maxlen=LOSSES)
        self._ended: OneShotObserverList[None] = OneShotObserverList()
        # Once it is to stop, says which streams are waited for.
        self._patience: StreamPatience | None = None

    def begin(self) -> None:
        """
        Start the first runner. If that fails, it is tried again, as it is for later ones.
        """
        self._stopCall = StopCall(self._reactor, "during", self._reactorStops)
        self._start()

    def _move(self, event: str) -> None:
        self.state = nextState(WORKER, self.state, event, self._worker)

    def _start(self) -> None:
        self._restart = None
        self._completed = 0
        self.starts += 1
        self.link = self._makeLink()
        try:
            self.link.channel.open(self)
        except WorkerStartError as error:
            # Later, because whoever made this worker is to have it first.
            self._restart = self._reactor.callLater(0, self.lost, error)

    def _restartNow(self) -> None:
        self._move("restart")
        self._start()

    def runMany(self, tasks: Sequence[QueuedTask]) -> list[WorkerEvent]:
        """
        Send the calls of some tasks. Tasks that come while there is no runner wait for the next
        one.

        @return: events of what came of them at once.
        @raise StateError: if the worker is stopping or has stopped.
        """
        state = self.state
        if state in (READY, STARTING, RETIRING):
            return self.link.run(tasks)
        if state == LOST:
            return [GivenBack(list(tasks))]
        raise StateError(self._worker, state, "run")

    # What the channel tells -----------------------------------------------------------------------

    def received(self, messages: list[Message]) -> None:
        """
        Report what messages from the runner mean.
        """
        if self.state in (LOST, STOPPED):
            return
        link, protocol = self.link, self.link.protocol
        events = protocol.receive(messages)
        if self.state != READY:
            events = self._notReady(events)
        if protocol.completed != self._completed:
            self._completed = protocol.completed
            if self._backoff.losses:
                self._backoff.works()
            if self._recycling is not None:
                self._retireIfDue(events)
        if self.link.isBlocked and any(not isinstance(event, _FROM_WITHIN) for event in events):
            self.link.isBlocked = False
            events.append(Unblocked())
        if link.isAsked:
            self._reportAround(link, events)
        else:
            self.report(events)
        if protocol.error is not None:
            self.log.failure(
                "{worker} kills its runner because its messages make no sense",
                Failure(protocol.error),
                worker=self._worker,
            )
            self.link.channel.kill()
        if self.state in (DRAINING, RETIRING):
            self._quitIfDue()

    def _reportAround(self, link: RunnerLink, events: list[WorkerEvent]) -> None:
        """
        Report events among which there may be answers. Whoever asked hears of what came before an
        answer first, and of what came after it last.
        """
        others: list[WorkerEvent] = []
        for event in events:
            if not isinstance(event, StacksTold):
                others.append(event)
                continue
            if others:
                self.report(others)
                others = []
            link.answered(event)
        if others:
            self.report(others)

    def _notReady(self, events: list[WorkerEvent]) -> list[WorkerEvent]:
        """
        Take a runner's first words in.
        """
        kept: list[WorkerEvent] = []
        for event in events:
            if isinstance(event, Ready):
                if self.state != STARTING:
                    continue
                self._move("hello")
            kept.append(event)
        return kept

    def _retireIfDue(self, events: list[WorkerEvent]) -> None:
        # A stream may last for ever, and the worker would get no tasks until it is over.
        if self.state != READY or self.link.protocol.streams or self._recycling is None:
            return
        why = self._recycling.due(self._completed, self.link.channel, self._reactor.seconds)
        if why is not None and not any(isinstance(event, Yielded) for event in events):
            self._move("retire")
            self._retired = why
            events.append(Lost(why))

    def stacks(self) -> Deferred[str]:
        """
        Ask what the present runner is doing.

        @return: a Deferred that fires with that as text.
        """
        if self.state in (LOST, STOPPED, STARTING):
            return succeed(f"{self._worker!r} has no runner that could do anything.\n")
        return self.link.askStacks()

    def terminate(self, task: QueuedTask) -> None:
        """
        Kill the runner, because of the task that it runs.

        @raise WorkerError: if it cannot be killed, or runs something else.
        """
        channel, protocol = self.link.channel, self.link.protocol
        if not channel.isMortal:
            raise WorkerError(
                f"{task} runs in a thread, which nothing can end: it can only be cancelled"
            )
        number = protocol.numberOf(task)
        if number is None:
            raise WorkerError(f"{task} has ended in its process before it could be terminated")
        if not protocol.mayRun(number, channel.lastBegun):
            raise WorkerError(
                f"{task} is not what {self._worker!r} is running: it can only be cancelled"
            )
        channel.kill()

    def retire(self, reason: Exception) -> None:
        """
        Give the runner no more tasks, because it has to end soon, and replace it when it has ended
        those that it has.
        """
        if self.state != READY:
            return
        self._move("retire")
        self._retired = reason
        self.report([Lost(reason)])
        self._quitIfDue()

    def lost(self, reason: Exception) -> None:
        """
        The runner ended, or died, or never came to be: report what becomes of its tasks, and start
        another one.
        """
        self._restart = None
        self._reason = reason
        if self.state == STOPPED:
            self._gone()
            return
        link = self.link
        link.over()
        before = self.state
        # A sound runner ends by itself when it has ended its tasks.
        isSound = before == RETIRING and link.hasQuit
        why = self._retired if isSound else reason
        self.losses.append((self._reactor.seconds(), describeError(why)))
        if before == DRAINING and link.protocol.isIdle:
            self._move("stopped")
            self._gone()
            return
        self._move("lose")
        self.report(self._fateOf(link, reason))
        # Whoever heard of it may have stopped or crashed this worker.
        if self.state != LOST:
            return
        if before == DRAINING:
            self._move("drain")
            self._gone()
        elif before == RETIRING:
            self.recycled += isSound
            self._restart = self._reactor.callLater(0, self._restartNow)
        else:
            self._restartLater(reason)

    def _fateOf(self, link: RunnerLink, reason: Exception) -> list[WorkerEvent]:
        """
        What becomes of a lost runner's tasks and streams.
        """
        lastBegun = link.channel.lastBegun
        if lastBegun is None and isinstance(reason, WorkerStartError):
            lastBegun = 0
        numbers = {task: number for number, task in link.protocol.underway.items()}
        begun, unbegun = link.protocol.split(lastBegun)
        # The loss comes first, so that nothing is given to this worker on account of the rest.
        events: list[WorkerEvent] = [Lost(reason)]
        again = []
        for task in begun:
            if task.isDone or task.attempts >= task.options.runs:
                died = reason.ofCall(numbers[task]) if isinstance(reason, WorkerDied) else reason
                events.append(diedWith(task, died))
            else:
                again.append(task)
        if again:
            events.append(GivenBack(again, hadBegun=True))
        if unbegun:
            events.append(GivenBack(unbegun))
        return events + link.protocol.endStreams(reason)

    def _restartLater(self, reason: Exception) -> None:
        delay = self._backoff.delayAfterLoss(reason)
        if delay is None:
            self.log.error("{worker} gives up: {reason}", worker=self._worker, reason=reason)
            self.report([GaveUp(reason)])
            return
        if self._backoff.outages == 1:
            self.log.warn(
                "{worker} waits and tries again, because {reason}",
                worker=self._worker,
                reason=reason,
            )
        self._restart = self._reactor.callLater(delay, self._restartNow)

    def whenEnded(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when there will be no runner any more.
        """
        return self._ended.whenFired()

    # Stopping -------------------------------------------------------------------------------------

    def stop(self) -> Deferred[None]:
        """
        Let the calls that were given end, and the streams that are being consumed. End the other
        streams with C{IterationStopped}, then the runner.

        @return: a Deferred that fires when the runner is gone, also after L{crash}.
        """
        if self.state == LOST:
            self._move("drain")
            self._gone()
        elif self.state in (STARTING, READY, RETIRING):
            self._move("drain")
            self._patience = StreamPatience(self._reactor, self._giveUpStream, self._quitIfDue)
            self._quitIfDue()
        return self._ended.whenFired()

    def _giveUpStream(self, stream: ItemSource) -> None:
        reason = IterationStopped(f"{self._worker} stopped in mid-iteration")
        self.report([StreamLost(stream, Failure(reason))])
        stream.stopped()

    def _quitIfDue(self) -> None:
        """
        Tell the runner to end, if that is due and nothing is left that it is to do.
        """
        if self.state not in (DRAINING, RETIRING):
            return
        protocol = self.link.protocol
        if self._patience is not None and not protocol.underway:
            self._patience.look(protocol.streams.values())
        self.link.quitIfIdle()

    def crash(self) -> list[QueuedTask]:
        """
        Kill the runner. Streams fail with C{IterationStopped}.

        @return: the tasks that were given and not answered, cancelled ones among them.
        """
        if self.state == STOPPED:
            return []
        wasLost = self.state == LOST
        self._move("crash")
        link = self.link
        begun, unbegun = link.protocol.split(None)
        link.over()
        link.channel.kill()
        reason = IterationStopped(f"{self._worker} was crashed in mid-iteration")
        self.report(link.protocol.endStreams(reason))
        if wasLost:
            self._gone()
        return [*begun, *unbegun]

    def _reactorStops(self) -> None:
        reason = WorkerError(f"{self._worker} was stopped because the reactor is stopping")
        self.report([Lost(reason), GaveUp(reason)])

    def _gone(self) -> None:
        self.report([Ended(self._reason)])
        self._stopCall.forget()
        if self._patience is not None:
            self._patience.end()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self._ended.fire(None)
