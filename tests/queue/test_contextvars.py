"""
Context variables that travel with the calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from asynqueue import TaskQueue
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase

request: ContextVar[str] = ContextVar("request")
user: ContextVar[str] = ContextVar("user", default="nobody")
notOne = "a text"

REQUEST = f"{__name__}.request"
USER = f"{__name__}:user"


def look(_: Any = None) -> tuple[str, str]:
    """
    Called in a runner.
    """
    return request.get("none"), user.get()


class ContextTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(request.reset, request.set("a"))

    def declared(self, names: Iterable[str], *workers: Any) -> TaskQueue:
        """
        @return: a queue with which these variables travel.
        """
        queue = TaskQueue(*workers, contextvars=names, reactor=self.clock)
        self.queues.append(queue)
        return queue

    def test_theValueWhereTheCallIsPutIsTaken(self) -> None:
        worker = StepWorker()
        queue = self.declared([REQUEST], worker)
        tasks = []
        for value in "bc":
            request.set(value)
            tasks.append(queue.submit(look))
        request.set("d")
        self.assertEqual([task.context for task in tasks], [((REQUEST, v),) for v in "bc"])
        while worker.step():
            pass

    def test_theFarSideFindsIt(self) -> None:
        queue = self.declared([REQUEST, USER], self.makeWorker())
        self.addCleanup(user.reset, user.set("me"))
        d = queue.call(look)
        request.set("other")
        user.set("other")
        self.assertEqual(self.resultOf(d), ("a", "me"))

    def test_oneThatIsNotSetDoesNotTravel(self) -> None:
        queue = self.declared([REQUEST, USER])
        task = queue.submit(look)
        task.d.addErrback(lambda _: None)
        # A default value is no set one.
        self.assertEqual(task.context, ((REQUEST, "a"),))

    def test_withNoneDeclaredOrNoneSetThereIsNone(self) -> None:
        for names in ([], [USER]):
            task = self.declared(names).submit(look)
            task.d.addErrback(lambda _: None)
            self.assertIsNone(task.context)

    def test_updatesFindItToo(self) -> None:
        worker = self.makeWorker()
        queue = self.declared([REQUEST], worker)
        d = queue.update(look)
        request.set("b")
        self.assertEqual(self.resultOf(d), [("a", "nobody")])

    def test_aMappingKeepsThatOfItsBeginning(self) -> None:
        queue = self.declared([REQUEST], self.makeWorker())
        self.settle()
        results = queue.map(look, range(50), chunksize=1)
        request.set("b")
        found = set()
        for d in results:
            found.add(self.resultOf(d))
        self.assertEqual(found, {("a", "nobody")})

    def test_bothWaysOfNamingAreTheSame(self) -> None:
        for name in (REQUEST, f"{__name__}:request"):
            task = self.declared([name]).submit(look)
            task.d.addErrback(lambda _: None)
            self.assertEqual(task.context, ((name, "a"),))

    def test_aNameOfNoneIsRefused(self) -> None:
        for name in (f"{__name__}.notOne", f"{__name__}.nothing", "no.such.module.x", "", "x"):
            with self.assertRaises(ValueError) as caught:
                self.declared([name])
            self.assertIn(repr(name), str(caught.exception))

    def test_aTextInPlaceOfAListIsRefused(self) -> None:
        self.assertRaises(ValueError, self.declared, REQUEST)
