"""
One near half of the protocol and one runner, joined by two lines of messages, for a search.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from operator import length_hint
from typing import Any, Final

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.messages import CALL, QUIT, RECALL, UNBEGUN, Message
from asynqueue._workers.events import (
    Items,
    Raised,
    Returned,
    StreamEnded,
    StreamLost,
    WorkerEvent,
    Yielded,
)
from asynqueue._workers.protocol import NearStream
from asynqueue.errors import ResultNotPicklable, WorkerDied
from asynqueue.tasks import Task, TaskOptions
from tests.model.contract import BEGAN, UNHEARD, Contract, Fact, RecordingProtocol

CREDIT: Final = 1
"""How many items a stream may send at first, for a search of L{ProtocolWorld}."""

_world: ContextVar[ProtocolWorld] = ContextVar("the world whose runner is being stepped")


def value(number: int) -> int:
    """Return a value."""
    _world.get().during(number)
    return number


def broken(number: int) -> int:
    """Raise."""
    _world.get().during(number)
    raise LookupError(number)


def unpicklable(number: int) -> Any:
    """Return what cannot be brought back."""
    _world.get().during(number)
    return lambda: number


def items(number: int) -> Iterator[int]:
    """Return two items."""
    _world.get().during(number)
    return iter((number, number))


KINDS: Final[dict[str, Callable[..., Any]]] = {
    "value": value,
    "broken": broken,
    "unpicklable": unpicklable,
    "items": items,
    "unwritable": value,
}

Action = tuple[Any, ...]


@dataclass(frozen=True)
class Setup:
    """
    What may happen.

    @ivar kinds: of the tasks, names in L{KINDS}.
    @ivar verbs: the actions, besides that calls are sent, messages delivered and runners stepped.
    @ivar sends: how often one task may be sent.
    @ivar makeProtocol: makes the near half.
    @ivar makeRunner: makes the far half.
    """

    kinds: tuple[str, ...]
    verbs: frozenset[str]
    sends: int = 1
    makeProtocol: Callable[..., RecordingProtocol] = RecordingProtocol
    makeRunner: Callable[..., CallRunner] = CallRunner


class ProtocolWorld:
    """
    The two halves. This is the channel, and the link of the near half, as well.
    """

    pid = 1

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.channel = self
        self.facts: list[Fact] = []
        self.contract = Contract(credit=CREDIT)
        self.near = setup.makeProtocol(self.facts.append, self)
        self.far = setup.makeRunner(self.post, self.begin, clock=lambda: 0.0)
        self.toFar: deque[Message] = deque()
        self.toNear: deque[Message] = deque()
        self.lastBegun = 0
        self.isDead = self.isHeard = self.hasQuit = self.hasRecalled = False
        self.meanwhile = ""
        self.faults: list[str] = []
        self.tasks = [
            Task(number, KINDS[kind], (_argument(number, kind),), options=TaskOptions())
            for number, kind in enumerate(setup.kinds, 1)
        ]
        self.sends = dict.fromkeys(range(1, len(self.tasks) + 1), 0)
        self.cancelled: set[int] = set()
        self.refused: set[int] = set()
        self.taken: dict[int, list[int]] = {}
        self.streams: dict[int, NearStream] = {}

    # The channel and the link ---------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """
        The runner notes that a call begins.
        """
        if not self.isDead:
            self.lastBegun = number
            self.facts.append(Fact(BEGAN, self.pid, self.near.underway[number].id))
            if self.meanwhile == "dieAtBeginning":
                self.isDead = True

    def post(self, message: Message) -> None:
        """
        The runner says something.
        """
        if self.meanwhile == "dieAtAnswer":
            self.isDead = True
        if not self.isDead:
            self.toNear.append(message)

    def during(self, id: int) -> None:
        """
        A task's function runs.
        """
        noted = self.near.underway.get(self.lastBegun)
        # What is raised here would be taken for the task's own.
        if noted is None or noted.id != id:
            self.faults.append(f"task {id} runs, and the runner has not noted that it begins")
        if self.meanwhile == "dieInside":
            self.isDead = True
        elif self.meanwhile == "nudge":
            self.far.receive(self._arrived())
            self.far.interrupt()

    def send(self, messages: Sequence[Message]) -> None:
        """
        The near half says something.
        """
        if not self.isDead:
            self.toFar.extend(messages)

    def stopStream(self, number: int) -> None:
        """
        The near half wants no more of a stream.
        """
        self.send(self.near.cancel(number))

    def soon(self, function: Callable[[], None]) -> None:
        """
        No stream is left behind here.
        """
        raise AssertionError("a stream was abandoned")

    def _arrived(self) -> list[Message]:
        arrived, self.toFar = list(self.toFar), deque()
        return arrived

    # What may happen ------------------------------------------------------------------------------

    def actions(self) -> Iterator[Action]:
        verbs = self.setup.verbs
        if not self.isHeard and not self.hasQuit:
            yield from self._sendings()
            if "recall" in verbs and not self.hasRecalled:
                yield ("recall",)
            if "quit" in verbs:
                yield ("quit",)
        if "cancel" in verbs and not self.isHeard:
            for task in self.tasks:
                if task.id not in self.cancelled and self.near.numberOf(task) is not None:
                    yield ("cancel", task.id)
        if self.toNear:
            yield ("deliverNear",)
        elif self.isDead and not self.isHeard:
            yield ("hearDeath",)
        for id, stream in self.streams.items():
            if stream.items:
                yield ("take", id)
            if "stop" in verbs and not stream.isOver:
                yield ("stop", id)
        if not self.isDead:
            yield from self._farActions()

    def _sendings(self) -> Iterator[Action]:
        for task in self.tasks:
            id = task.id
            isFree = id not in self.contract.fates and self.near.numberOf(task) is None
            # In the order of their numbers, as far as they are sent for the first time.
            isNext = id == 1 or bool(self.sends[id - 1])
            if isFree and isNext and self.sends[id] < self.setup.sends:
                yield ("call", id)
                if "tooLarge" in self.setup.verbs and id not in self.refused:
                    yield ("tooLarge", id)

    def _farActions(self) -> Iterator[Action]:
        verbs = self.setup.verbs
        mayDie = "die" in verbs
        if self.toFar:
            yield ("deliverFar",)
            if mayDie and self.toFar[0][0] != CALL:
                yield ("deliverFar", "dieAtAnswer")
        if self.far.hasWork:
            yield ("step",)
            if "nudge" in verbs and self.toFar:
                yield ("step", "nudge")
            if mayDie:
                yield ("step", "dieAtBeginning")
                yield ("step", "dieInside")
                yield ("step", "dieAtAnswer")
        if self.far.ended:
            yield ("close",)
        if mayDie:
            yield ("die", False)
            if self.toNear:
                yield ("die", True)

    def do(self, action: Action) -> None:
        getattr(self, action[0])(*action[1:])
        self.contract.take(self.facts)
        self.facts.clear()

    def call(self, id: int) -> None:
        """
        A task is sent.
        """
        self.sends[id] += 1
        messages, refused = self.near.call([self.tasks[id - 1]])
        assert bool(refused) == (self.setup.kinds[id - 1] == "unwritable")
        self.send(messages)

    def tooLarge(self, id: int) -> None:
        """
        A task is written, and the channel does not take the message.
        """
        self.refused.add(id)
        messages, _ = self.near.call([self.tasks[id - 1]])
        assert self.near.uncall(messages) == [self.tasks[id - 1]][: len(messages)]

    def cancel(self, id: int) -> None:
        """
        A call or its stream is not wanted.
        """
        self.cancelled.add(id)
        number = self.near.numberOf(self.tasks[id - 1])
        assert number is not None
        self.send(self.near.cancel(number))

    def recall(self) -> None:
        """
        What was sent ahead is wanted back.
        """
        self.hasRecalled = True
        self.send([(RECALL,)])

    def quit(self) -> None:
        """
        The runner is told to end.
        """
        self.hasQuit = True
        self.send([(QUIT,)])

    def take(self, id: int) -> None:
        """
        The consumer takes an item.
        """
        taken = self.taken.setdefault(id, [])
        taken.append(self.streams[id].take())
        assert taken in ([id], [id, id]), "the items come in order, none twice"

    def stop(self, id: int) -> None:
        """
        The consumer wants no more.
        """
        self.streams[id].stop()

    def deliverFar(self, meanwhile: str = "") -> None:
        """
        One message comes to the runner, which may die as it answers.
        """
        message = self.toFar.popleft()
        self._within(meanwhile, lambda: self.far.receive([message]))

    def deliverNear(self) -> None:
        """
        One message comes to the near half.
        """
        message = self.toNear.popleft()
        self._hear(self.near.receive([message]))
        assert self.near.error is None, self.near.error

    def _hear(self, events: list[WorkerEvent]) -> None:
        for event in events:
            if isinstance(event, Items):
                event.stream.arrived(event.batch, event.size)
            elif isinstance(event, StreamEnded):
                if event.failure is None:
                    event.stream.end()
                else:
                    event.stream.fail(event.failure)
            elif isinstance(event, StreamLost):
                event.stream.lose(event.failure)
            elif isinstance(event, Yielded):
                assert isinstance(event.stream, NearStream)
                self.streams[event.task.id] = event.stream
                self._isRight(event.task, "items")
            elif isinstance(event, Returned):
                self._isRight(event.task, "value")
                assert event.value == event.task.id
            elif isinstance(event, Raised) and not event.failure.check(TaskInterrupted):
                kind = "broken" if event.failure.check(LookupError) else "unpicklable"
                assert kind == "broken" or event.failure.check(ResultNotPicklable), event
                self._isRight(event.task, kind)
            elif isinstance(event, Raised):
                assert event.task.id in self.cancelled, "nobody has asked for that"

    def _isRight(self, task: Task, kind: str) -> None:
        expected = self.setup.kinds[task.id - 1]
        assert kind == expected, f"{task} is to be {expected}, and is {kind}"

    def step(self, meanwhile: str = "") -> None:
        """
        The runner does one step, within which something may happen.
        """
        self._within(meanwhile, self.far.step)

    def _within(self, meanwhile: str, work: Callable[[], None]) -> None:
        token = _world.set(self)
        self.meanwhile = meanwhile
        work()
        self.meanwhile = ""
        _world.reset(token)
        if self.isDead:
            self.toFar.clear()

    def close(self) -> None:
        """
        The runner ends because it was told to.
        """
        self.far.close()
        self.die(False)

    def die(self, isLosing: bool) -> None:
        """
        The runner dies, and what it had said may be lost with it.
        """
        self.isDead = True
        self.toFar.clear()
        if isLosing:
            for message in self.toNear:
                lost = message[1] if message[0] == UNBEGUN else [None]
                for number in lost:
                    task = number and self.near.underway[number].id
                    self.facts.append(Fact(UNHEARD, self.pid, task))
            self.toNear.clear()

    def hearDeath(self) -> None:
        """
        The near half hears that the runner is gone.
        """
        self.isHeard = True
        self.near.split(self.lastBegun)
        self._hear(self.near.endStreams(WorkerDied()))

    # What must be true ----------------------------------------------------------------------------

    def check(self) -> None:
        assert not self.faults, self.faults
        underway = {task.id for task in self.near.underway.values()}
        assert underway == set(self.contract.open[self.pid]), "the near half knows what is underway"
        for far in self.far._streams.open.values():
            assert far._items >= 0, "credit is never below zero"
        if self.isHeard:
            assert self.near.isIdle, "nothing is left of a runner that is gone"
            self.contract.end()
            assert all(stream.isOver for stream in self.streams.values())
        if self.isDead or self.toFar or self.toNear or self.far.hasWork or self.far.ended:
            return
        assert not self.near.underway, f"nothing goes on, and calls are underway: {underway}"
        open = {number for number, stream in self.near.streams.items() if stream.items}
        assert open == set(self.near.streams), "nothing goes on, and a stream has no items"
        assert open == set(self.far._streams.open), "the streams are open at both ends"

    def key(self) -> Hashable:
        far, near = self.far, self.near
        writer: Any = near._writer
        reader: Any = far._reader
        farStreams = [
            (number, stream._items, stream.closing, length_hint(stream._iterator))
            for number, stream in far._streams.open.items()
        ]
        streams = [
            (id, stream.number, stream.state.value, len(stream.items))
            for id, stream in self.streams.items()
        ]
        return (
            tuple((number, task.id) for number, task in near.underway.items()),
            tuple(near.streams),
            tuple(streams),
            tuple(map(short, self.toFar)),
            tuple(map(short, self.toNear)),
            tuple(map(short, far._calls)),
            tuple(farStreams),
            tuple(sorted(far._unwanted)),
            far._state,
            (self.isDead, self.isHeard, self.hasQuit, self.hasRecalled, self.lastBegun),
            tuple(sorted(self.contract.fates.items())),
            tuple(sorted(self.contract.began.items())),
            tuple(self.contract.credit.items()),
            tuple(self.sends.values()),
            tuple(sorted(self.cancelled)),
            tuple(sorted(self.refused)),
            bool(self.contract.forgetful),
            tuple((id, len(taken)) for id, taken in self.taken.items()),
            (tuple(writer._numbers.values()), tuple(reader._definitions)),
        )

    def onward(self) -> Action | None:
        """
        @return: an action by which what goes on comes nearer to its end, or C{None} if everything
            has ended.
        """
        quiet = {"deliverNear", "deliverFar", "step", "close", "hearDeath", "take"}
        for action in self.actions():
            if action[0] in quiet and len(action) == 1 + (action[0] == "take"):
                return action
        assert not self.toFar and not self.toNear
        assert self.near.isIdle and (self.isHeard or not self.isDead)
        self.contract.end()
        for id, times in self.sends.items():
            # A task that was given back may be sent again.
            assert self.contract.fates.get(id) or not self.contract.began[id] or not times
        return None


def _argument(number: int, kind: str) -> Any:
    return (lambda: number) if kind == "unwritable" else number


def short(message: Message) -> Hashable:
    """
    What a message's reader does depends on no more than this.
    """
    kind, number, *rest = *message, None
    what = rest[0] if rest else None
    if isinstance(what, tuple):
        what = what[0] if what and isinstance(what[0], int) else "packed"
    elif isinstance(what, (list, dict)):
        what = len(what)
    return kind, tuple(number) if isinstance(number, list) else number, what
