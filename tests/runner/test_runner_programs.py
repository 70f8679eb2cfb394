from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner import streams
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.packing import sizeOf
from tests.runner.programs import KINDS, Action, Call, Run, programs
from tests.runner.stage import Handle

CREDIT_ITEMS = 3
CREDIT_BYTES = 150


class Checker:
    """
    Goes through what a runner said, in order, and checks each of its promises.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.finals: Counter[int] = Counter()
        # The streams that are open: items and bytes that were allowed, and those that came.
        self.streams: dict[int, tuple[int, int]] = {}
        self.items: dict[int, list[str]] = {}
        self.cancelled: dict[int, int] = {}
        self.owing: int | None = None
        self.lastBegun = -1
        self.isQuitting = self.isTerminated = False

    def check(self) -> None:
        for what in self.run.stage.events:
            getattr(self, f"see{what[0].capitalize()}")(*what[1:])
        # What ends with its runner is not answered.
        died = {*self.streams, self.owing} - {None} if self.isTerminated else set()
        assert self.owing is None or self.owing in died
        assert self.streams.keys() <= died
        assert not self.finals.keys() & died
        assert self.finals == dict.fromkeys({*range(len(self.run.calls))} - died, 1)
        assert self.run.begun == self.run.closed

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
        call = self.run.calls[id]
        assert KINDS[call.kind] == "RETURNED"
        assert value == call.end()
        self.answered(id)
        self.finals[id] += 1

    def seeRaised(self, id: int, error: BaseException) -> None:
        if type(error) is not KINDS[self.run.calls[id].kind]:
            assert id in self.run.unwanted, "only what is unwanted is interrupted"
            assert type(error) is TaskInterrupted
            assert not self.isTerminated
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
        lengths = self.run.calls[id].items
        assert [len(item) for item in came] == lengths[: len(came)]

    def seeEnded(self, id: int) -> None:
        call = self.run.calls[id]
        assert not self.isTerminated or len(self.items[id]) == len(call.items)
        del self.streams[id]
        self.finals[id] += 1
        if id not in self.run.unwanted and not self.isQuitting:
            assert call.kind == "yields"
            assert len(self.items[id]) == len(call.items)

    def seeIdle(self) -> None:
        assert not self.cancelled.keys() & self.streams.keys(), "cancelled streams are closed"

    def seeQuit(self) -> None:
        self.isQuitting = True

    def seeTerminate(self) -> None:
        self.isTerminated = True


class ProgramTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(programs)
    # A stream that is cancelled, and then hears nothing, because the runner is terminated.
    @example(
        [
            ("call", Call("yields", [0, 0, 0, 0], [])),
            ("call", Call("returns", [], [("cancel", 0), ("terminate",)])),
        ]
    )
    def test_whateverComesEveryCallIsAnsweredOnceAndNoPromiseIsBroken(
        self, program: list[Action]
    ) -> None:
        run = Run()
        with mock.patch.multiple(
            streams, CREDIT_ITEMS=CREDIT_ITEMS, CREDIT_BYTES=CREDIT_BYTES, BATCH_ITEMS=4
        ):
            run.run(program)
        Handle.functions.clear()
        Checker(run).check()
