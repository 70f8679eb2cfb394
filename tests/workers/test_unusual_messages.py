"""
Messages of a runner besides results: progress, logs, and answers that cannot be used.
"""

from __future__ import annotations

import logging
from typing import Any

from twisted.internet.defer import succeed

from asynqueue._runner.messages import LOG, PROGRESS
from asynqueue.errors import CallNotPicklable, ResultNotRebuilt
from asynqueue.testing import far
from asynqueue.testing.memory import act
from tests.support.cases import WorkerCase


class RebuiltAsDeferred:
    """
    A result of no use to anybody.
    """

    def __reduce__(self) -> Any:
        return succeed, (1,)


class SaidTests(WorkerCase):
    def test_progressReachesTheTaskThatIsUnderway(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, act, "report")
        worker.actions["report"] = lambda: worker.channel.post((PROGRESS, 1, 3, 4))
        worker.stepAll()
        self.assertEqual((task.progress.done, task.progress.total), (3, 4))

    def test_progressOfWhatIsOverIsDropped(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.echo)
        worker.stepAll()
        for number in (1, 77):
            worker.channel.post((PROGRESS, number, 3, 4))
        worker.stepAll()
        self.assertIsNone(task.progress)
        self.assertEqual(self.give(worker, far.echo, 5).state, "UNDERWAY")
        worker.stepAll()
        self.assertEqual(len(worker.channels), 1)

    def test_aRecordThatIsNoneIsLoggedAndHurtsNobody(self) -> None:
        worker = self.makeWorker()
        for record in ({}, None, {"name": 3, "levelno": "high"}):
            worker.channel.post((LOG, None, record))
        worker.stepAll()
        self.assertEqual(len(self.flushLoggedErrors()), 3)
        self.assertEqual(len(worker.channels), 1)

    def test_aRecordOfATaskThatIsGoneHasNoTask(self) -> None:
        worker = self.makeWorker()
        records: list[Any] = []

        class Keeping(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                records.append(record)

        logger = logging.getLogger("tests.said")
        handler = Keeping()
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        worker.channel.post((LOG, 77, {"name": "tests.said", "levelno": 50, "msg": "100 %s"}))
        worker.stepAll()
        [record] = records
        self.assertIsNone(record.taskID)
        self.assertEqual(record.getMessage(), "100 %s")

    def test_aResultThatBecomesADeferredIsRefused(self) -> None:
        worker = self.makeWorker()
        worker.actions["make"] = RebuiltAsDeferred
        task = self.give(worker, act, "make")
        worker.stepAll()
        self.assertIsInstance(task.failure.value, ResultNotRebuilt)
        self.assertEqual(len(worker.channels), 1)

    def test_aVariableThatCannotBePickledIsNamed(self) -> None:
        worker = self.makeWorker()
        task = self.owner.make(far.echo)
        task.context = (("a.fine", 1), ("a.bad", lambda: None))
        task.start(worker, 0.0)
        worker._report(worker.runMany([task]))
        error = task.failure.value
        self.assertIsInstance(error, CallNotPicklable)
        self.assertIn("context variable a.bad, <function", str(error))
        self.assertNotIn("a.fine", str(error))


class StatsTests(WorkerCase):
    def test_aCallsOwnCallbackFindsItInTheStatsOnce(self) -> None:
        worker = self.makeWorker(callStats=True)
        tasks = self.giveMany(worker, *[(far.echo, number) for number in range(3)])
        found: list[int] = []
        for task in tasks:
            task.d.addCallback(lambda _: found.append(len(self.successResultOf(worker.stats()))))
        worker.channel.advance()
        worker.channel.advance()
        worker.channel.advance()
        worker.channel.deliver()
        self.assertEqual(found, [3, 3, 3])
        self.assertEqual(len(self.successResultOf(worker.stats())), 3)
