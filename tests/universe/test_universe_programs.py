from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import CallNotRebuilt, ResultNotPicklable
from asynqueue.universe import streams
from asynqueue.universe.packing import sizeOf
from asynqueue.universe.universe import TaskInterrupted
from tests.universe.stage import Handle, Stage, Unpicklable

CREDIT_ITEMS = 3
CREDIT_BYTES = 150

Action = tuple[Any, ...]


class Broken(Exception):
    pass


@dataclass
class Call:
    """
    A call to make.

    @ivar kind: how it ends, or how its stream does.
    @ivar items: the lengths of its items, if it yields any.
    @ivar during: what happens while it, or the generator that it yields, is running.
    """

    kind: str
    items: list[int]
    during: list[Action]


whos = st.integers(0, 7)
small = st.one_of(
    st.tuples(st.just("cancel"), whos),
    st.tuples(st.just("grant"), whos, st.integers(0, 4), st.integers(0, 100)),
    st.tuples(st.just("recall")),
    st.tuples(st.just("tick"), st.sampled_from([0.001, 0.01])),
)
inner = st.one_of(
    small,
    st.tuples(st.sampled_from(["interrupt", "interrupt", "cancelItself"])),
    st.tuples(st.sampled_from(["interrupt", "cancelItself"])),
    st.sampled_from([("tick", 0.001), ("tick", 0.004), ("quit",), ("terminate",)]),
)
kinds = {
    "returns": "RETURNED",
    "returnsObject": "RETURNED",
    "raises": Broken,
    "exits": SystemExit,
    "unpicklable": ResultNotPicklable,
    "unknown": CallNotRebuilt,
    "yields": "ENDED",
    "yieldsThenRaises": Broken,
    "yieldsThenUnpicklable": ResultNotPicklable,
    "yieldsThenExits": SystemExit,
}
calls = st.builds(
    Call,
    st.sampled_from([*kinds, "yields", "yields", "returns"]),
    st.lists(st.integers(0, 60), max_size=8),
    st.lists(inner, max_size=4),
)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("call"), calls),
        st.tuples(st.just("call"), calls),
        st.tuples(st.just("step"), st.integers(1, 3)),
        small,
    ),
    max_size=25,
)


@dataclass
class Program:
    """
    Messages for a universe, and what a universe does with them.

    @ivar unwanted: the calls that may be interrupted.
    @ivar toInterrupt: those that were cancelled while their code was running, and go on.
    @ivar begun: how many generators began.
    @ivar closed: how many of them came to their end.
    """

    stage: Stage = field(default_factory=Stage)
    calls: list[Call] = field(default_factory=list)
    unwanted: set[int] = field(default_factory=set)
    toInterrupt: set[int] = field(default_factory=set)
    begun: int = 0
    closed: int = 0

    def run(self, program: list[Action]) -> None:
        universe = self.stage.universe
        for action in program:
            self.do(action)
            if universe.ended:
                break
        for _ in range(200):
            if universe.ended or not universe.hasWork:
                break
            universe.step()
        else:
            raise AssertionError("it works for ever")
        self.do(("quit",))
        universe.close()

    def do(self, action: Action, id: int | None = None) -> None:
        name, *arguments = action
        universe, stage = self.stage.universe, self.stage
        if name == "call":
            self.makeCall(arguments[0])
        elif name == "step":
            for _ in range(arguments[0]):
                universe.step()
        elif name == "cancel":
            if arguments[0] < len(self.calls):
                self.unwanted.add(arguments[0])
            if arguments[0] == id:
                self.toInterrupt.add(id)
            stage.events.append(action)
            stage.cancel(arguments[0])
        elif name == "cancelItself":
            assert id is not None
            self.do(("cancel", id), id)
        elif name == "grant":
            stage.events.append(action)
            stage.grant(*arguments)
        elif name == "recall":
            stage.recall()
        elif name == "tick":
            stage.now += arguments[0]
        elif name == "interrupt":
            self.interrupt(id)
        elif name == "quit":
            stage.events.append(action)
            stage.quit()
        elif name == "terminate":
            self.unwanted.update(range(len(self.calls)))
            universe.terminate()

    def interrupt(self, id: int | None) -> None:
        isUnwanted = id in self.toInterrupt
        self.toInterrupt.discard(-1 if id is None else id)
        try:
            self.stage.universe.interrupt()
        except TaskInterrupted:
            assert isUnwanted
            raise
        assert not isUnwanted

    def makeCall(self, call: Call) -> None:
        id = len(self.calls)
        self.calls.append(call)
        self.stage.call(id, 77 if call.kind == "unknown" else self.function(id, call))

    def function(self, id: int, call: Call) -> Callable[[], Any]:
        def work() -> Any:
            for action in call.during:
                self.do(action, id)
            return self.end(call)

        def generate() -> Iterator[str]:
            self.begun += 1
            try:
                for number, length in enumerate(call.items):
                    for action in call.during[number : number + 1]:
                        self.do(action, id)
                    yield "x" * length
                if call.kind != "yields":
                    yield self.end(call)
            finally:
                self.closed += 1

        return generate if call.kind.startswith("yields") else work

    def end(self, call: Call) -> Any:
        if call.kind.lower().endswith("raises"):
            raise Broken
        if call.kind.lower().endswith("exits"):
            raise SystemExit
        if call.kind.lower().endswith("unpicklable"):
            return Unpicklable()
        return call.items if call.kind == "returnsObject" else len(call.items)


class Checker:
    """
    Goes through what a universe said, in order, and checks each of its promises.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.events = program.stage.events
        self.finals: Counter[int] = Counter()
        # The streams that are open: items and bytes that were allowed, and those that came.
        self.streams: dict[int, tuple[int, int]] = {}
        self.items: dict[int, list[str]] = {}
        self.cancelled: dict[int, int] = {}
        self.owing: int | None = None
        self.lastBegun = -1
        self.isQuitting = False

    def check(self) -> None:
        for what in self.events:
            getattr(self, f"see{what[0].capitalize()}")(*what[1:])
        assert self.owing is None
        assert not self.streams
        assert self.finals == dict.fromkeys(range(len(self.program.calls)), 1)
        assert self.program.begun == self.program.closed

    def seeBegin(self, id: int) -> None:
        assert self.owing is None, "the call before has been answered"
        assert id > self.lastBegun, "calls begin in the order in which they came"
        assert not self.finals[id]
        self.owing = self.lastBegun = id

    def seeUnbegun(self, ids: list[int]) -> None:
        for id in ids:
            assert id > self.lastBegun
            self.finals[id] += 1

    def seeReturned(self, id: int, value: Any) -> None:
        call = self.program.calls[id]
        assert kinds[call.kind] == "RETURNED"
        assert value == self.program.end(call)
        self.answered(id)
        self.finals[id] += 1

    def seeRaised(self, id: int, error: BaseException) -> None:
        if type(error) is not kinds[self.program.calls[id].kind]:
            assert id in self.program.unwanted, "only what is unwanted is interrupted"
            assert type(error) is TaskInterrupted
        if id in self.streams:
            del self.streams[id]
        else:
            self.answered(id)
        self.finals[id] += 1

    def answered(self, id: int) -> None:
        assert self.owing == id
        self.owing = None

    def seeStreaming(self, id: int) -> None:
        self.answered(id)
        self.streams[id] = CREDIT_ITEMS, CREDIT_BYTES
        self.items[id] = []

    def seeGrant(self, id: int, items: int, size: int) -> None:
        if id in self.streams:
            allowed = self.streams[id]
            self.streams[id] = allowed[0] + items, allowed[1] + size

    def seeCancel(self, id: int) -> None:
        if id in self.streams:
            self.cancelled.setdefault(id, 0)

    def seeItems(self, id: int, batch: list[str]) -> None:
        if id in self.cancelled:
            self.cancelled[id] += 1
            assert self.cancelled[id] == 1, "no batch is begun once it was cancelled"
        came = self.items[id]
        came += batch
        assert batch
        items, size = self.streams[id]
        assert len(came) <= items
        assert sum(map(sizeOf, came[:-1])) < size
        lengths = self.program.calls[id].items
        assert [len(item) for item in came] == lengths[: len(came)]

    def seeEnded(self, id: int) -> None:
        call = self.program.calls[id]
        del self.streams[id]
        self.finals[id] += 1
        if id not in self.program.unwanted and not self.isQuitting:
            assert call.kind == "yields"
            assert len(self.items[id]) == len(call.items)

    def seeQuit(self) -> None:
        self.isQuitting = True


class ProgramTests(SynchronousTestCase):
    @settings(max_examples=500)
    @given(actions)
    def test_whateverComesEveryCallIsAnsweredOnceAndNoPromiseIsBroken(
        self, actions: list[Action]
    ) -> None:
        program = Program()
        with mock.patch.multiple(
            streams, CREDIT_ITEMS=CREDIT_ITEMS, CREDIT_BYTES=CREDIT_BYTES, BATCH_ITEMS=4
        ):
            program.run(actions)
        Handle.functions.clear()
        Checker(program).check()
