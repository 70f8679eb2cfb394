"""
The contract of the calls that are sent to runners, checked over a list of facts.

The facts come from a model, in which everything is searched, or from a storm over real processes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from asynqueue._runner.codecs import PICKLED, Codec
from asynqueue._runner.messages import CREDIT_ITEMS, GRANT, Message
from asynqueue._workers.events import (
    GivenBack,
    Items,
    Raised,
    Returned,
    StreamEnded,
    StreamLost,
    WorkerEvent,
    Yielded,
)
from asynqueue._workers.protocol import RunnerProtocol, Writer

SENT: Final = "SENT"
"""The call was written for a runner."""

REFUSED: Final = "REFUSED"
"""The call could not be written."""

BEGAN: Final = "BEGAN"
"""The runner began the call."""

RETURNED: Final = "RETURNED"
RAISED: Final = "RAISED"
YIELDED: Final = "YIELDED"
GIVEN_BACK: Final = "GIVEN_BACK"
ITEMS: Final = "ITEMS"
GRANTED: Final = "GRANTED"
STREAM_ENDED: Final = "STREAM_ENDED"

UNHEARD: Final = "UNHEARD"
"""Something that the runner said was lost when it died: that it gives back this task, or, without a
task, anything else."""

BLAMED: Final = "BLAMED"
"""The runner died, and the call is said to have begun."""

SPARED: Final = "SPARED"
"""The runner died, and the call is said not to have begun."""

CRASHED: Final = "CRASHED"
"""The program had the runner killed, and the call is broken off."""

OVER: Final = "OVER"
"""The runner is gone, and everything was said of its calls."""

IDLE: Final = "IDLE"
"""The near half says that it waits for nothing from the runner."""

FIRED: Final = "FIRED"
"""The task's Deferred has fired."""


class Fact(NamedTuple):
    """
    One thing that happened.

    @ivar runner: to which runner, or C{None}.
    @ivar task: the ID of the task, or C{None}.
    @ivar items: how many items.
    """

    kind: str
    runner: Hashable
    task: Any = None
    items: int = 0


Note = Callable[[Fact], object]


class Contract:
    """
    What must be true of the facts so far. L{take} raises C{AssertionError} if it is not.

    @ivar began: how often each task was begun.
    @ivar open: for each runner, the tasks that it was sent and has not answered, and whether it has
        begun them.
    @ivar fates: what became of each task that is not to be run again.
    @ivar credit: for each stream that is open, how many items may still come.
    @ivar fired: the tasks whose Deferreds have fired.
    @ivar forgetful: the runners whose words were lost, and the tasks that they were about.
    """

    def __init__(
        self,
        runs: Callable[[Any], int] = lambda task: 1,
        seesEveryBeginning: bool = True,
        credit: int = CREDIT_ITEMS,
    ) -> None:
        """
        @param runs: says how often a task may be begun.
        @param seesEveryBeginning: whether BEGAN comes for each call that has begun. Otherwise it
            may be missing for the last call of a runner that died.
        @param credit: how many items a stream may send at first.
        """
        self.began: Counter[Any] = Counter()
        self.open: defaultdict[Hashable, dict[Any, bool]] = defaultdict(dict)
        self.fates: dict[Any, str] = {}
        self.credit: dict[tuple[Hashable, Any], int] = {}
        self.fired: set[Any] = set()
        self.forgetful: defaultdict[Hashable, set[Any]] = defaultdict(set)
        self._blamed: Counter[Hashable] = Counter()
        self._runs = runs
        self._seesEveryBeginning = seesEveryBeginning
        self._initial = credit

    def take(self, facts: Iterable[Fact]) -> None:
        """
        Check some more facts.
        """
        for fact in facts:
            _HANDLERS[fact.kind](self, fact)

    def end(self) -> None:
        """
        Check that nothing is left that should have ended.
        """
        left = {runner: tasks for runner, tasks in self.open.items() if tasks}
        assert not left, f"calls that nothing became of: {left}"
        assert not self.credit, f"streams that did not end: {list(self.credit)}"

    def _sent(self, fact: Fact) -> None:
        assert fact.task not in self.fates, f"{fact}: the task is over, {self.fates[fact.task]}"
        holders = [runner for runner, tasks in self.open.items() if fact.task in tasks]
        assert not holders, f"{fact}: {holders} have the task"
        self.open[fact.runner][fact.task] = False

    def _refused(self, fact: Fact) -> None:
        self._ends(fact)

    def _hasBegun(self, fact: Fact) -> None:
        assert fact.task in self.open[fact.runner], f"{fact}: it was not sent there"
        assert not self.open[fact.runner][fact.task], f"{fact}: it was begun before"
        self.open[fact.runner][fact.task] = True
        self.began[fact.task] += 1
        most = self._runs(fact.task)
        assert self.began[fact.task] <= most, f"{fact}: it may be begun {most} times"

    def _answered(self, fact: Fact) -> None:
        assert self._closed(fact), f"{fact}: it was not begun"
        self._ends(fact)

    def _yielded(self, fact: Fact) -> None:
        self._answered(fact)
        self.credit[fact.runner, fact.task] = self._initial

    def _unbegun(self, fact: Fact) -> None:
        assert not self._closed(fact), f"{fact}: it was begun"

    def _hasBlame(self, fact: Fact) -> None:
        hasBegun = self._closed(fact)
        # If a later one has begun, nothing tells that the runner had given this one back.
        isUnknown = fact.task in self.forgetful.get(fact.runner, ())
        isKnown = self._seesEveryBeginning and not isUnknown
        assert hasBegun or not isKnown, f"{fact}: it was not begun"
        if not hasBegun:
            self.began[fact.task] += 1
        if fact.runner not in self.forgetful:
            assert not self._blamed[fact.runner], f"{fact}: another one is blamed already"
        self._blamed[fact.runner] += 1
        if self.began[fact.task] >= self._runs(fact.task):
            self._ends(fact)

    def _crashed(self, fact: Fact) -> None:
        # Whoever crashes a worker may want its tasks to be run again.
        if self._closed(fact):
            self.began[fact.task] -= 1

    def _over(self, fact: Fact) -> None:
        assert not self.open.pop(fact.runner, None), f"{fact}: calls are left"
        self.forgetful.pop(fact.runner, None)
        del self._blamed[fact.runner]

    def _idle(self, fact: Fact) -> None:
        assert not self.open[fact.runner], f"{fact}: it has {self.open[fact.runner]}"
        streams = [task for runner, task in self.credit if runner == fact.runner]
        assert not streams, f"{fact}: these streams are open: {streams}"

    def _items(self, fact: Fact) -> None:
        stream = fact.runner, fact.task
        assert stream in self.credit, f"{fact}: the stream is not open"
        self.credit[stream] -= fact.items
        assert self.credit[stream] >= 0, f"{fact}: these are more than were allowed"

    def _granted(self, fact: Fact) -> None:
        stream = fact.runner, fact.task
        if stream in self.credit:
            self.credit[stream] += fact.items
            assert self.credit[stream] <= self._initial, f"{fact}: more than was used"

    def _streamEnded(self, fact: Fact) -> None:
        assert (fact.runner, fact.task) in self.credit, f"{fact}: the stream is not open"
        del self.credit[fact.runner, fact.task]

    def _unheard(self, fact: Fact) -> None:
        self.forgetful[fact.runner].add(fact.task)

    def _fired(self, fact: Fact) -> None:
        assert fact.task not in self.fired, f"{fact}: it has fired before"
        self.fired.add(fact.task)

    def _closed(self, fact: Fact) -> bool:
        """
        Close a call.

        @return: whether it had begun.
        """
        assert fact.task in self.open[fact.runner], f"{fact}: the runner does not have it"
        return self.open[fact.runner].pop(fact.task)

    def _ends(self, fact: Fact) -> None:
        assert fact.task not in self.fates, f"{fact}: the task is over, {self.fates[fact.task]}"
        self.fates[fact.task] = fact.kind


_HANDLERS: Final[dict[str, Callable[[Contract, Fact], None]]] = {
    SENT: Contract._sent,
    REFUSED: Contract._refused,
    BEGAN: Contract._hasBegun,
    RETURNED: Contract._answered,
    RAISED: Contract._answered,
    YIELDED: Contract._yielded,
    GIVEN_BACK: Contract._unbegun,
    SPARED: Contract._unbegun,
    BLAMED: Contract._hasBlame,
    CRASHED: Contract._crashed,
    OVER: Contract._over,
    IDLE: Contract._idle,
    ITEMS: Contract._items,
    GRANTED: Contract._granted,
    STREAM_ENDED: Contract._streamEnded,
    UNHEARD: Contract._unheard,
    FIRED: Contract._fired,
}
"""What takes each kind of fact."""


def checkHistory(facts: Iterable[Fact], contract: Contract) -> Contract:
    """
    Check all facts of something that is over.

    @raise AssertionError: if the contract was broken.
    """
    contract.take(facts)
    contract.end()
    return contract


class RecordingProtocol(RunnerProtocol):
    """
    A near half that notes facts. Streams tell the runner through it.
    """

    def __init__(
        self,
        note: Note,
        link: Any,
        codec: Codec = PICKLED,
        writer: Writer | None = None,
        sources: Any = None,
    ) -> None:
        """
        @param note: takes each fact.
        """
        super().__init__(self, codec, writer, sources)
        self._note = note
        self._realLink = link

    def _tell(self, kind: str, task: Any = None, count: int = 0) -> None:
        self._note(Fact(kind, self._realLink.channel.pid, task, count))

    def call(self, tasks: Sequence[Any]) -> tuple[list[Message], list[WorkerEvent]]:
        messages, refused = super().call(tasks)
        unwritten = [event.task for event in refused if isinstance(event, Raised)]
        for task in tasks:
            self._tell(REFUSED if task in unwritten else SENT, task.id)
        return messages, refused

    def uncall(self, messages: Sequence[Message]) -> list[Any]:
        tasks = super().uncall(messages)
        for task in tasks:
            self._tell(GIVEN_BACK, task.id)
        return tasks

    def receive(self, messages: Sequence[Message]) -> list[WorkerEvent]:
        events = super().receive(messages)
        for event in events:
            if isinstance(event, Returned):
                self._tell(RETURNED, event.task.id)
            elif isinstance(event, Raised):
                self._tell(RAISED, event.task.id)
            elif isinstance(event, Yielded):
                self._tell(YIELDED, event.task.id)
            elif isinstance(event, GivenBack):
                for task in event.tasks:
                    self._tell(GIVEN_BACK, task.id)
            elif isinstance(event, Items):
                self._tell(ITEMS, event.stream.taskID, len(event.batch))
            elif isinstance(event, StreamEnded):
                self._tellEndOf(event)
        if self.isIdle:
            self._tell(IDLE)
        return events

    def split(self, begun: int | None) -> tuple[list[Any], list[Any]]:
        hadBegun, hadNot = super().split(begun)
        # The near half is not told what had begun only if the program has the runner killed.
        isCrash = begun is None
        for task in hadBegun:
            self._tell(CRASHED if isCrash else BLAMED, task.id)
        for task in hadNot:
            self._tell(CRASHED if isCrash else SPARED, task.id)
        return hadBegun, hadNot

    def endStreams(self, reason: Exception) -> list[WorkerEvent]:
        events = super().endStreams(reason)
        for event in events:
            assert isinstance(event, StreamLost)
            self._tellEndOf(event)
        self._tell(OVER)
        return events

    def _tellEndOf(self, event: StreamEnded | StreamLost) -> None:
        stream: Any = event.stream
        self._tell(STREAM_ENDED, stream.taskID)

    # What its streams need ------------------------------------------------------------------------

    def send(self, messages: list[Message]) -> None:
        """
        Send messages.
        """
        for message in messages:
            if message[0] == GRANT:
                stream = self.streams.get(message[1])
                if stream is not None:
                    self._tell(GRANTED, stream.taskID, message[2])
        self._realLink.send(messages)

    def stopStream(self, number: int) -> None:
        """
        See to it that a stream ends in the runner.
        """
        self._realLink.stopStream(number)

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have a function called in the reactor's thread.
        """
        self._realLink.soon(function)
