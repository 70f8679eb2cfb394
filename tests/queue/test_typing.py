"""
The types of calls. It is mypy that tests them: at run time C{assert_type} does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, ClassVar, assert_type

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from asynqueue import Deferator, Event, QueuedTask, TaskQueue
from asynqueue.interfaces import IWorker


def measure(text: str) -> int:
    return len(text)


def measureLater(text: str) -> Deferred[int]:
    return succeed(len(text))


async def measureInACoroutine(text: str) -> int:
    return len(text)


def letters(text: str) -> Iterator[str]:
    yield from text


def isLong(text: str, bound: int) -> bool:
    return len(text) > bound


@pytest.fixture
def queue() -> Iterator[TaskQueue]:
    queue = TaskQueue(reactor=Clock())
    yield queue
    for task in queue.tasks():
        task.d.addErrback(lambda _: None)
    queue.shutdown()


def test_callsHaveTheTypesOfTheirFunctions(queue: TaskQueue) -> None:
    assert_type(queue.call(measure, "text", niceness=3), Deferred[int])
    assert_type(queue.submit(measure, "text"), QueuedTask[int])
    assert_type(queue.submit(measure, "text").whenDone(), Deferred[int])
    options = queue.options(niceness=3)
    assert_type(options.call(measure, text="text"), Deferred[int])
    assert_type(options.submit(measure, text="text"), QueuedTask[int])


def test_whatIsWaitedForOrStreamedMayBeAnything(queue: TaskQueue) -> None:
    assert_type(queue.call(measureLater, "text"), Deferred[Any])
    assert_type(queue.call(letters, "text"), Deferred[Any])
    assert_type(queue.submit(letters, "text"), QueuedTask[Any])
    assert_type(queue.options().call(measureLater, "text"), Deferred[Any])
    assert_type(queue.options().submit(letters, "text"), QueuedTask[Any])


def test_mappedResultsHaveTheTypeOfTheFunction(queue: TaskQueue) -> None:
    assert_type(queue.map(measure, ["text"]), Deferator[int])
    assert_type(queue.map(isLong, ["text"], [3]), Deferator[bool])
    assert_type(queue.options().map(measure, ["text"]), Deferator[int])
    going = queue.map(measure, ["text"], ordered=False, returnExceptions=True)
    assert_type(going, Deferator[int | BaseException])


async def _onlyForTypes(queue: TaskQueue) -> None:
    assert_type(await queue.call(measure, "text"), int)
    assert_type(await queue.call(measureInACoroutine, "text"), Any)
    assert_type(await queue.submit(measure, "text"), int)
    async for length in queue.map(measure, ["text"]):
        assert_type(length, int)
    queue.options().call(measure, 3)  # type: ignore[call-overload]


@implementer(IWorker)
class OwnWorker:
    """
    The six members, and one of its own.
    """

    cQualified: ClassVar[list[Hashable]] = []

    def __init__(self) -> None:
        self.iQualified: list[Hashable] = []
        self.name = "Anna"

    def setResignator(self, callableObject: Callable[[], object]) -> None: ...

    def run(self, task: QueuedTask) -> Deferred[None]:
        task.callback(task.id)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def crash(self) -> list[QueuedTask]:
        return []


def test_aWorkerOfYourOwnIsTakenAndKeepsItsMembers(queue: TaskQueue) -> None:
    worker: OwnWorker = OwnWorker()
    queue.attachWorker(worker)
    task = queue.submit(measure, "text")
    assert_type(task.worker, IWorker | None)
    assert task.worker is worker
    assert_type(queue.workers(), list[Any])
    assert queue.workers()[0].name == "Anna"
    # An event may have no worker.
    queue.detachWorker(Event("QUEUED", 0.0, task).worker)
    queue.detachWorker(task.worker)
    assert queue.workers() == []
