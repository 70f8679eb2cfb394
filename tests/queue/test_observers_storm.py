"""
In any order of events, and with any action of an observer, the events of each task and of each
worker come in a promised order.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from asynqueue import Event
from asynqueue._observers import (
    GIVEN_BACK,
    HIRED,
    LEFT,
    PROGRESSED,
    QUEUED,
    REPLACED,
    STARTED,
)
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, LOST
from asynqueue.testing.memory import MemoryWorker
from tests.queue.test_storm import QueueMachine

LETTERS = {
    QUEUED: "q",
    STARTED: "s",
    GIVEN_BACK: "g",
    PROGRESSED: "p",
    FINISHED: "F",
    FAILED: "X",
    CANCELLED: "C",
    HIRED: "h",
    LOST: "l",
    REPLACED: "r",
    LEFT: "e",
}

OF_A_TASK = re.compile(r"q(sp*g)*(sp*[FXC]|[XC])")
OF_A_WORKER = re.compile(r"(h(lr)*l?)?e")


class ObservedMachine(QueueMachine):
    """
    The storm, with two observers: one notes all, the other meddles.
    """

    @initialize(count=st.integers(1, 3))
    def start(self, count: int) -> None:
        self.events: list[Event] = []
        self.meddling: list[str] = []
        self.meddled = False
        super().start(0)
        self.queue.addObserver(self.meddle)
        self.queue.addObserver(self.note)
        for _ in range(count):
            self.attach()

    def note(self, event: Event) -> None:
        self.events.append(event)
        if event.task is not None and event.task.isDone and event.kind in (FINISHED, FAILED):
            # The Deferred fires after this.
            assert not event.task.d.called or self.meddled

    @rule(what=st.sampled_from(["cancel", "call", "detach", "update", "raise"]))
    def meddleLater(self, what: str) -> None:
        self.meddling.append(what)

    def meddle(self, event: Event) -> None:
        if not self.meddling or not self.queue.isRunning():
            return
        what = self.meddling.pop()
        self.meddled = True
        if what == "cancel" and event.task is not None:
            event.task.cancel()
        elif what == "call":
            self.call("run", 0, None, {}, None)
        elif what == "detach" and event.worker is not None and len(self.queue) > 1:
            self.queue.detachWorker(event.worker, crash=event.kind == STARTED)
        elif what == "update":
            self.update(False, True)

    def teardown(self) -> None:
        super().teardown()
        if not hasattr(self, "queue"):
            return
        histories: dict[Any, str] = {}
        for event in self.events:
            subject = event.worker if event.task is None else event.task
            histories[subject] = histories.get(subject, "") + LETTERS[event.kind]
        for subject, history in histories.items():
            pattern = OF_A_WORKER if isinstance(subject, MemoryWorker) else OF_A_TASK
            assert pattern.fullmatch(history), (subject, history)
        assert histories.keys() >= {record.task for record in self.records}
        assert histories.keys() >= set(self.workers)
        times = [event.time for event in self.events]
        assert times == sorted(times)


ObservedStormTests = ObservedMachine.TestCase
ObservedStormTests.settings = settings(max_examples=40, stateful_step_count=50)
