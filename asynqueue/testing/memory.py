"""
Runners in this process, which a test steps by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from signal import SIGTERM
from typing import Any, ClassVar, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.framing import LARGEST, FrameDecoder, decode, encode
from asynqueue._runner.messages import HELLO, Message
from asynqueue._workers.channelworker import ChannelWorker
from asynqueue._workers.restart import Recycling
from asynqueue.errors import WorkerDied, WorkerStartError
from asynqueue.interfaces import IChannel

NEW: Final = "NEW"
OPEN: Final = "OPEN"
DEAD: Final = "DEAD"
OVER: Final = "OVER"

_stepping: ContextVar[MemoryChannel] = ContextVar("the channel whose runner is being stepped")

_pids = count(1_000_001)
"""The process IDs of runners here. Real processes hardly ever have such large ones."""


class Killed(BaseException):
    """
    Raised in the code that a runner was running when it was killed, to end that code.
    """


def act(name: str, *args: Any) -> Any:
    """
    Call the function that the test has put into a channel's C{actions} under this name. Then obey
    the nudges and signals that came meanwhile, as a child process would. Tests put calls of this
    into the runner of a L{MemoryChannel}.
    """
    channel = _stepping.get()
    try:
        return channel.actions[name](*args)
    finally:
        channel.heed()


def actStubbornly(name: str, *args: Any) -> Any:
    """
    Like L{act}, but only a kill ends the call.
    """
    channel = _stepping.get()
    try:
        return channel.actions[name](*args)
    finally:
        channel.heed(onlyDeath=True)


class Wire:
    """
    One direction of a channel. It encodes messages to the bytes of a frame, and decodes them again.
    """

    def __init__(self) -> None:
        self._decoder = FrameDecoder()

    def carry(self, messages: list[Message], largest: int = LARGEST) -> list[Message]:
        """
        @raise PayloadTooLarge: if the messages have more bytes than C{largest}.
        """
        carried: list[Message] = []
        for piece in encode(messages, largest):
            left = memoryview(piece)
            while left:
                with self._decoder.space() as space:
                    size = min(len(space), len(left))
                    space[:size] = left[:size]
                left = left[size:]
                for segments in self._decoder.filled(size):
                    carried += decode(segments)
        return carried


@implementer(IChannel)
class MemoryChannel:
    """
    A channel to a real C{CallRunner} in this process. It does nothing until L{step} is called, by
    the test or by the test's clock::

        NEW --open--> OPEN --die, or the runner ends--> DEAD --step--> OVER

    Tests set the attributes of the first group. Set the ones that concern L{open} before it.

    @ivar actions: the functions that L{act} calls, by name.
    @ivar refuses: whether L{open} raises. Default: C{False}.
    @ivar isStillborn: whether the runner dies before it says hello. Default: C{False}.
    @ivar isMute: whether the runner says hello only when L{hello} is called. Default: C{False}.
    @ivar tellsBegun: whether the channel can tell the last call that was begun. Default: C{True}.
    @ivar hearsNudges: whether L{nudge} reaches a busy runner. Default: C{True}.
    @ivar largest: how many bytes L{send} takes at once.
    @ivar resident: the resident memory to report, in kilobytes, or C{None} for unknown.
    @ivar written: the stacks that the runner has written down, or C{None}.

    @ivar state: one of the words in the picture.
    @ivar sent: all messages that were sent.
    @ivar signals: the calls of L{nudge}, L{dump}, L{terminate} and L{kill}: C{'nudge'},
        C{'dump'}, C{'terminate'} or C{'kill'}, each with the time in seconds.
    """

    isMortal = True

    def __init__(
        self, reactor: IReactorTime, raw: bool = False, stepSeconds: float | None = None
    ) -> None:
        """
        @param reactor: the clock, for the runner as well. Calls take no time there unless an action
            advances the clock.
        @param raw: whether iterators come back as they are, where a call does not say. Default:
            C{False}.
        @param stepSeconds: how many seconds after each step the reactor does another one, as long
            as there is work. Default: the reactor does no steps; the test calls L{step}.
        """
        self.actions: dict[str, Callable[..., Any]] = {}
        self.refuses = False
        self.isStillborn = False
        self.isMute = False
        self.tellsBegun = True
        self.hearsNudges = True
        self.largest = LARGEST
        self.resident: int | None = None
        self.written: str | None = None

        self.state: str = NEW
        self.pid: int | None = None
        self.sent: list[Message] = []
        self.signals: list[tuple[str, float]] = []
        self.runner = CallRunner(self.post, self._begin, raw, reactor.seconds)
        self._reactor = reactor
        self._stepSeconds = stepSeconds
        self._nextStep: IDelayedCall | None = None
        self._begun = 0
        self._toFar, self._toNear = Wire(), Wire()
        self._outgoing: list[Message] = []
        self._incoming: list[Message] = []
        self._hasSpoken = False
        self._orders: set[str] = set()
        self._ending: tuple[int | None, int | None] = (None, None)

    # IChannel -------------------------------------------------------------------------------------

    @property
    def lastBegun(self) -> int | None:
        """
        See L{IChannel}.
        """
        return self._begun if self.tellsBegun else None

    def open(self, receiver: Any) -> None:
        """
        See L{IChannel}.
        """
        if self.state != NEW:
            raise AssertionError(f"a channel can be opened once only, but this one is {self.state}")
        if self.refuses:
            self.state = OVER
            raise WorkerStartError("this runner refused to start, as the test asked")
        self._receiver = receiver
        self.state = OPEN
        self.pid = next(_pids)
        if self.isStillborn:
            self.die(exitCode=1)
        elif not self.isMute:
            self.hello()
        self._pump()

    def send(self, messages: list[Message]) -> None:
        """
        See L{IChannel}.
        """
        carried = self._toFar.carry(messages, self.largest)
        if self.state == OPEN:
            self.sent += messages
            self._outgoing += carried
            self._pump()

    def nudge(self) -> None:
        """
        See L{IChannel}.
        """
        self._note("nudge")
        if self.state == OPEN and self.hearsNudges and self.runner.running is not None:
            self._takeIn()
            self._orders.add("nudge")

    def terminate(self) -> None:
        """
        See L{IChannel}.
        """
        self._note("terminate")
        if self.state != OPEN:
            return
        if self.runner.running is None:
            self.runner.terminate()
        else:
            self._orders.add("terminate")
        self._pump()

    def kill(self) -> None:
        """
        See L{IChannel}.
        """
        self._note("kill")
        self.die(signal=9)

    def residentKilobytes(self) -> int | None:
        """
        See L{IChannel}.
        """
        return self.resident

    def dump(self) -> None:
        """
        See L{IChannel}.
        """
        self._note("dump")

    def stacks(self) -> str | None:
        """
        See L{IChannel}.
        """
        return self.written

    def _note(self, what: str) -> None:
        self.signals.append((what, self._reactor.seconds()))

    # The far side ---------------------------------------------------------------------------------

    def hello(self) -> None:
        """
        Have the runner say hello.
        """
        self.runner.hello()

    def post(self, message: Message) -> None:
        """
        Send a message to the near side, as the runner does.
        """
        if self.state == OPEN:
            self._incoming += self._toNear.carry([message])
            self._pump()

    def die(
        self, exitCode: int | None = None, signal: int | None = None, losing: bool = False
    ) -> None:
        """
        Let the runner die at once. The near side gets to know with the next step.

        @param exitCode: its exit code, or C{None} if a signal killed it.
        @param signal: the number of the signal that killed it, or C{None}.
        @param losing: whether messages that were not delivered yet are lost. Default: C{False}.
        """
        if self.state != OPEN:
            return
        self.state = DEAD
        self._ending = exitCode, signal
        self._outgoing.clear()
        if losing:
            self._incoming.clear()
        self._pump()

    def heed(self, onlyDeath: bool = False) -> None:
        """
        Obey the nudges and signals that came while a call was running. The call itself does this.

        @param onlyDeath: whether to obey nothing but a kill.
        @raise BaseException: if the call has to end.
        """
        if self.state != OPEN:
            raise Killed
        orders, self._orders = self._orders, set()
        if onlyDeath:
            if "terminate" in orders:
                with suppress(TaskInterrupted):
                    self.runner.terminate()
            return
        if "terminate" in orders:
            self.runner.terminate()
        if "nudge" in orders:
            self.runner.interrupt()

    def _begin(self, number: int) -> None:
        self._begun = number

    def _takeIn(self) -> None:
        arrived, self._outgoing = self._outgoing, []
        self.runner.receive(arrived)

    # Steps ----------------------------------------------------------------------------------------

    @property
    def hasWork(self) -> bool:
        """
        Whether there is work for L{step}.
        """
        if self.state != OPEN:
            return self.state == DEAD
        runner = self.runner
        return bool(self._incoming or self._outgoing) or runner.hasWork or runner.ended

    def step(self) -> bool:
        """
        Let the runner receive the messages that were sent, run at most one call, and produce one
        batch of each stream. Then deliver its messages.

        @return: whether there was any work.
        """
        hadWork = self.hasWork
        self.advance()
        self.deliver()
        return hadWork

    def stepAll(self, limit: int = 100_000) -> None:
        """
        Step until there is no work left.

        @raise AssertionError: if there still is after so many steps.
        """
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError(f"the runner is still busy after {limit} steps")

    def advance(self) -> None:
        """
        The far half of a step.
        """
        if self.state != OPEN:
            return
        runner = self.runner
        token = _stepping.set(self)
        try:
            if not runner.ended:
                self._takeIn()
                runner.step()
            if runner.ended:
                runner.close()
                if runner.isTerminated:
                    self.die(signal=SIGTERM)
                else:
                    self.die(exitCode=0)
        finally:
            _stepping.reset(token)
            self._orders.clear()

    def deliver(self) -> None:
        """
        The near half of a step.
        """
        messages, self._incoming = self._incoming, []
        if messages:
            self._hasSpoken = self._hasSpoken or messages[0][0] == HELLO
            self._receiver.received(messages)
        if self.state == DEAD:
            self.state = OVER
            died = WorkerDied(self.pid, *self._ending, self.resident)
            self._receiver.lost(died if self._hasSpoken else WorkerStartError(died.death()))

    def _pump(self) -> None:
        if self._stepSeconds is not None and self._nextStep is None:
            self._nextStep = self._reactor.callLater(self._stepSeconds, self._stepped)

    def _stepped(self) -> None:
        # Not before the step, because the messages of the step would each schedule another one.
        try:
            self.step()
        finally:
            self._nextStep = None
            if self.hasWork:
                self._pump()


class MemoryWorker(ChannelWorker):
    """
    A worker whose runners are L{MemoryChannel}s.

    @cvar channelClass: the class of its channels.
    @ivar channels: all channels that it has made, the present one last.
    @ivar actions: the functions that L{act} calls in all of them, by name.
    """

    cQualified: ClassVar[list[Hashable]] = ["memory"]
    channelClass: ClassVar[type[MemoryChannel]] = MemoryChannel

    def __init__(
        self,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        prepare: Callable[[MemoryChannel], object] | None = None,
        stepSeconds: float | None = None,
        recycling: Recycling | None = None,
    ) -> None:
        """
        @param series: the series that the worker is qualified for, besides C{None} and
            C{'memory'}.
        @param raw: whether iterators come back as they are, where a call does not say. Default:
            C{False}.
        @param callStats: whether to keep the times that C{stats} returns. Default: C{False}.
        @param reactor: the clock. Default: the global reactor.
        @param prepare: is called with each channel before that is opened, to set its attributes.
        @param stepSeconds: see L{MemoryChannel.__init__}.
        @param recycling: says when a healthy runner is replaced. Default: never.
        """
        self.channels: list[MemoryChannel] = []
        self.actions: dict[str, Callable[..., Any]] = {}
        self._raw = raw
        self._prepare = prepare
        self._stepSeconds = stepSeconds
        super().__init__(series, callStats, reactor, recycling)

    def makeChannel(self) -> IChannel:
        """
        Make the channel to one new runner.
        """
        channel = self.channelClass(self._reactor, self._raw, self._stepSeconds)
        channel.actions = self.actions
        if self._prepare is not None:
            self._prepare(channel)
        self.channels.append(channel)
        return channel

    @property
    def channel(self) -> MemoryChannel:
        """
        The present channel.
        """
        return self.channels[-1]

    def step(self) -> bool:
        """
        Step the present channel.
        """
        return self.channel.step()

    def stepAll(self) -> None:
        """
        Step the present channel until there is no work left.
        """
        self.channel.stepAll()

    def die(self, signal: int = 9, losing: bool = False) -> None:
        """
        Kill the present runner from outside.
        """
        self.channel.die(signal=signal, losing=losing)
