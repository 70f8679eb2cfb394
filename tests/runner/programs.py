"""
Programs: any messages for a runner, in any order, from outside and from within what it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue.errors import CallNotRebuilt, ResultNotPicklable
from tests.runner.stage import Stage, Unpicklable

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

    def end(self) -> Any:
        """
        Do what its kind says in the end.
        """
        kind = self.kind.lower()
        if kind.endswith("raises"):
            raise Broken
        if kind.endswith("exits"):
            raise SystemExit
        if kind.endswith("unpicklable"):
            return Unpicklable()
        return self.items if kind == "returnsobject" else len(self.items)


KINDS: dict[str, str | type[BaseException]] = {
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
"""Each kind of call, and the answer that it is to get."""

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
calls = st.builds(
    Call,
    st.sampled_from([*KINDS, "yields", "yields", "returns"]),
    st.lists(st.integers(0, 60), max_size=8),
    st.lists(inner, max_size=4),
)
programs = st.lists(
    st.one_of(
        st.tuples(st.just("call"), calls),
        st.tuples(st.just("call"), calls),
        st.tuples(st.just("step"), st.integers(1, 3)),
        small,
    ),
    max_size=25,
)


@dataclass
class Run:
    """
    A runner that is taken through a program.

    @ivar unwanted: the calls that may be interrupted.
    @ivar toInterrupt: those that were cancelled while their code was running, and go on.
    @ivar begun: how many generators began.
    @ivar closed: how many of them came to their end.
    """

    stage: Stage = field(default_factory=Stage)
    calls: list[Call] = field(default_factory=list)
    unwanted: set[int] = field(default_factory=set)
    toInterrupt: set[int | None] = field(default_factory=set)
    begun: int = 0
    closed: int = 0

    def run(self, program: list[Action]) -> None:
        runner = self.stage.runner
        for action in program:
            self.do(action)
            if runner.ended:
                break
        else:
            self.stage.events = self.stage.run()
            if not runner.ended:
                self.stage.events.append(("idle",))
        self.doQuit(None)
        runner.close()

    def do(self, action: Action, within: int | None = None) -> None:
        """
        @param within: the call whose code does it, if any.
        """
        name, *arguments = action
        getattr(self, f"do{name[0].upper()}{name[1:]}")(within, *arguments)

    def doCall(self, within: int | None, call: Call) -> None:
        id = len(self.calls)
        self.calls.append(call)
        self.stage.call(id, 77 if call.kind == "unknown" else self._function(id, call))

    def doStep(self, within: int | None, times: int) -> None:
        for _ in range(times):
            self.stage.runner.step()

    def doCancel(self, within: int | None, id: int) -> None:
        if id < len(self.calls):
            self.unwanted.add(id)
        if id == within:
            self.toInterrupt.add(id)
        self.stage.events.append(("cancel", id))
        self.stage.cancel(id)

    def doCancelItself(self, within: int) -> None:
        self.doCancel(within, within)

    def doInterrupt(self, within: int | None) -> None:
        isUnwanted = within in self.toInterrupt
        self.toInterrupt.discard(within)
        try:
            self.stage.runner.interrupt()
        except TaskInterrupted:
            assert isUnwanted
            raise
        assert not isUnwanted

    def doGrant(self, within: int | None, id: int, items: int, size: int) -> None:
        self.stage.events.append(("grant", id, items, size))
        self.stage.grant(id, items, size)

    def doRecall(self, within: int | None) -> None:
        self.stage.recall()

    def doTick(self, within: int | None, seconds: float) -> None:
        self.stage.now += seconds

    def doQuit(self, within: int | None) -> None:
        self.stage.events.append(("quit",))
        self.stage.quit()

    def doTerminate(self, within: int | None) -> None:
        self.stage.events.append(("terminate",))
        self.stage.runner.terminate()

    def _function(self, id: int, call: Call) -> Callable[[], Any]:
        def work() -> Any:
            for action in call.during:
                self.do(action, id)
            return call.end()

        def generate() -> Iterator[Any]:
            self.begun += 1
            try:
                for number, length in enumerate(call.items):
                    for action in call.during[number : number + 1]:
                        self.do(action, id)
                    yield "x" * length
                if call.kind != "yields":
                    yield call.end()
            finally:
                self.closed += 1

        return generate if call.kind.startswith("yields") else work
