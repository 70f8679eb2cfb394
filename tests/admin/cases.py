"""
Queues that can be seen from outside, on a reactor in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from twisted.internet.testing import MemoryReactorClock

from asynqueue import QueuedTask, ResizableDispatchQueue, TaskQueue
from asynqueue.admin import Administration
from asynqueue.testing.memory import MemoryWorker, act
from tests.support.cases import QueueCase

WHO = "a test"


def makeDispatchQueue(case: QueueCase, function: Callable[..., Any], **options: Any) -> Any:
    """
    @return: a dispatch queue that stops when the test ends.
    """
    queue = ResizableDispatchQueue(function, reactor=case.clock, **options)
    case.addCleanup(stopDispatchQueue, case, queue)
    return queue


def stopDispatchQueue(case: QueueCase, queue: Any) -> None:
    """
    Stop a dispatch queue, with what is underway.
    """
    stopped = queue.stop(cancelUnderway=True)
    for _ in range(5):
        case.clock.advance(0)
    case.successResultOf(stopped)


class AdminCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock: Any = MemoryReactorClock()

    def ask(self, admin: Administration, do: str, **parameters: Any) -> dict[str, Any]:
        """
        @return: the reply to a request.
        """
        replies: list[dict[str, Any]] = []
        admin.api.answer({"do": do, **parameters}, WHO).addCallback(replies.append)
        for _ in range(100):
            if replies:
                break
            self.clock.advance(0)
        [reply] = replies
        return reply

    def get(self, admin: Administration, do: str, **parameters: Any) -> Any:
        """
        @return: the answer to a request that is not refused.
        """
        reply = self.ask(admin, do, **parameters)
        self.assertTrue(reply["ok"], reply)
        return reply["result"]

    def refusal(self, admin: Administration, do: Any, **parameters: Any) -> str:
        """
        @return: the sentence with which a request is refused.
        """
        reply = self.ask(admin, do, **parameters)
        self.assertFalse(reply["ok"], reply)
        text: str = reply["error"]
        self.assertNotIn("\n", text)
        return text


def fail() -> None:
    raise ValueError("no")


def storm(
    case: QueueCase, queue: TaskQueue, worker: MemoryWorker, kinds: Counter[str]
) -> Iterator[None]:
    """
    Have all kinds of things happen to the tasks of a queue, until all of them have ended.

    @param kinds: counts the events of each kind that the tasks have.
    @return: an iterator that does one of these things at each step.
    """
    random = Random(7)
    worker.actions["die"] = lambda: worker.channel.die(signal=9)
    queue.addObserver(lambda event: kinds.update([event.kind] if event.task else []))
    options = queue.options(idempotent=True, retryOn=ValueError)
    tasks: list[QueuedTask] = []

    def submit() -> None:
        function: Any
        function, *args = random.choice([(len, "abc"), (fail,), (act, "die"), (iter, [1, 2])])
        tasks.append(options.submit(function, *args))
        tasks[-1].d.addErrback(lambda _: None)

    acts: list[Callable[[], Any]] = [
        *(submit, submit, submit, worker.step, worker.step, queue.pause, queue.resume),
        *(lambda: case.clock.advance(random.random()), lambda: random.choice(tasks).cancel()),
    ]
    submit()
    for _ in range(400):
        random.choice(acts)()
        yield
    queue.resume()
    queue.cancelAll(underway=True)
    for _ in range(20):
        worker.stepAll()
        case.clock.advance(1)
    yield
