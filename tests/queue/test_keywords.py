"""
Keywords: those of the queues' constructors, and those of calls, also when they are misspelled.
"""

from __future__ import annotations

import inspect
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import NullQueue, ProcessQueue, ResizableDispatchQueue, TaskQueue, ThreadQueue
from asynqueue._queue.taskqueue import QueueKeywords
from asynqueue.testing import SynchronousQueue
from asynqueue.wire import RemoteQueue
from tests.support.cases import QueueCase

QUEUES: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (TaskQueue, ()),
    (ProcessQueue, (1,)),
    (ThreadQueue, (1,)),
    (NullQueue, ()),
    (RemoteQueue, ([], "")),
    (SynchronousQueue, ()),
    (ResizableDispatchQueue, (print,)),
)


class ConstructorTests(SynchronousTestCase):
    def test_signaturesShowAllKeywords(self) -> None:
        for kind, _ in QUEUES[:-1]:
            shown = inspect.signature(kind).parameters
            self.assertEqual(set(QueueKeywords.__annotations__) - set(shown), set(), kind)
            kinds = {parameter.kind for parameter in shown.values()}
            self.assertNotIn(inspect.Parameter.VAR_KEYWORD, kinds, kind)

    def test_shownDefaultsAreThoseThatHold(self) -> None:
        shown = inspect.signature(ProcessQueue).parameters
        self.assertEqual(shown["drainTimeout"].default, 5.0)
        self.assertIsNone(shown["N"].default)
        self.assertIn("reactor", shown)
        self.assertNotIn("reactor", inspect.signature(SynchronousQueue).parameters)

    def test_anUnknownKeywordNamesTheClassAndTheNearestOne(self) -> None:
        for kind, args in QUEUES:
            wrong: dict[str, Any] = {"drainTimout": 3}
            error = self.assertRaises(TypeError, kind, *args, **wrong)
            self.assertEqual(
                str(error),
                f"{kind.__name__} takes no keyword 'drainTimout'. Did you mean 'drainTimeout'?",
            )

    def test_aKeywordOfAQueueOfItsOwnIsNamed(self) -> None:
        wrong: dict[str, Any] = {"max_tasks": 3}
        error = self.assertRaises(TypeError, ProcessQueue, 1, **wrong)
        self.assertIn("Did you mean 'maxTasks'?", str(error))

    def test_ifNoneIsNearAllAreNamed(self) -> None:
        wrong: dict[str, Any] = {"qqq": 3}
        error = self.assertRaises(TypeError, TaskQueue, **wrong)
        self.assertIn("It takes contextvars, drainTimeout, ", str(error))
        self.assertNotIn("workers", str(error))

    def test_aDerivedClassIsNamedAndMayTakeMore(self) -> None:
        class Mine(TaskQueue):
            def __init__(self, *, colour: str, **more: Any) -> None:
                super().__init__(**more)
                self.colour = colour

        mine = Mine(colour="red", reactor=Clock())
        self.addCleanup(mine.shutdown)
        self.assertEqual(mine.colour, "red")
        error = self.assertRaises(TypeError, Mine, colour="red", timout=3)
        self.assertEqual(str(error), "Mine takes no keyword 'timout'. Did you mean 'timeout'?")


def wantsNoKeyword(value: object) -> object:
    return value


def complains(**kw: object) -> None:
    raise TypeError("this is not about names")


class CallTests(QueueCase):
    def notesOf(self, d: Deferred[Any]) -> list[str]:
        notes: list[str] = getattr(self.errorOf(d, TypeError), "__notes__", [])
        return notes

    def test_aMisspelledKeywordOfTheQueueIsNoted(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        [note] = self.notesOf(queue.call(len, [], nicenes=3))
        self.assertEqual(
            note, "'niceness' is a keyword of the queue, but 'nicenes' was given to len"
        )
        [note] = self.notesOf(queue.call(wantsNoKeyword, 1, do_next=True))
        self.assertIn("'doNext' is a keyword of the queue, but 'do_next' was given to", note)

    def test_anOptionThatCallDoesNotTakeIsNoted(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        [note] = self.notesOf(queue.call(wantsNoKeyword, 1, retries=3))
        self.assertIn("queue.options(retries=...).call(wantsNoKeyword, ...)", note)

    def test_otherErrorsHaveNoNote(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertEqual(self.notesOf(queue.call(complains, nicenes=3)), [])
        self.assertEqual(self.notesOf(queue.call(len, [], colour=3)), [])
        named: Any = queue.options()
        self.assertEqual(self.notesOf(named.call(len, [], timeout=3)), [])

    def test_anUnknownOptionIsRefusedWithTheNearestOne(self) -> None:
        queue = self.makeQueue()
        for take in (queue.options, lambda **kw: queue.map(len, [], **kw)):
            error = self.assertRaises(TypeError, take, nicenes=3)
            self.assertIn("'nicenes'. Did you mean 'niceness'?", str(error))
