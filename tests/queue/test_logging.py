"""
The messages that a queue logs with warn, verbose and spew.
"""

from __future__ import annotations

import logging
from typing import Any

from asynqueue import LoggingObserver, TaskQueue
from asynqueue.testing import far
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.support.cases import QueueCase


class Unspeakable:
    """
    Cannot be described.
    """

    def __repr__(self) -> str:
        raise ValueError("no description")


class Keeping(logging.Handler):
    """
    Keeps all records.
    """

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        """
        Keep one.
        """
        self._records.append(record)


class LoggingTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.records: list[logging.LogRecord] = []
        self.logger = logging.getLogger("asynqueue")
        handler = Keeping(self.records)
        self.logger.addHandler(handler)
        self.addCleanup(self.logger.removeHandler, handler)
        self.patch(self.logger, "propagate", False)
        self.addCleanup(self.logger.setLevel, self.logger.level)
        self.logger.setLevel(logging.INFO)

    def logged(self, *workers: Any, **keywords: Any) -> TaskQueue:
        """
        @return: a queue with these options.
        """
        queue = TaskQueue(*workers, reactor=self.clock, **keywords)
        self.queues.append(queue)
        return queue

    def lines(self, level: int | None = None) -> list[str]:
        """
        @return: what was logged, at a level if one is given.
        """
        return [
            record.getMessage()
            for record in self.records
            if level is None or record.levelno == level
        ]

    def test_byDefaultNothingIs(self) -> None:
        for keywords in ({}, {"verbose": True}, {"returnFailure": False}):
            queue = self.logged(InlineWorker(), **keywords)
            queue.call(far.refuse).addErrback(lambda _: None)
            queue.workers()[0].resign()
            self.resultOf(queue.shutdown())
        self.assertEqual(self.lines(), [])

    def test_warnLogsWhatFailsWithItsTraceback(self) -> None:
        queue = self.logged(InlineWorker(), warn=True)
        self.errorOf(queue.call(far.refuse, "secret"), ValueError)
        self.resultOf(queue.call(far.echo, 1))
        [line] = self.lines(logging.ERROR)
        self.assertEqual(line, "task 1, refuse failed: ValueError: secret")
        [record] = [record for record in self.records if record.levelno == logging.ERROR]
        self.assertIn("raise ValueError(text)", logging.Formatter().format(record))
        self.assertNotIn("echo", "".join(self.lines()))

    def test_verboseShowsTheArguments(self) -> None:
        queue = self.logged(InlineWorker(), warn=True, verbose=True)
        self.errorOf(queue.call(far.reciprocal, number="x" * 1000), TypeError)
        [line] = self.lines(logging.ERROR)
        self.assertIn("reciprocal(number='xxx", line)
        self.assertLess(len(line), 300)

    def test_spewLogsEveryTaskWithItsResult(self) -> None:
        queue = self.logged(StepWorker(), spew=True)
        task = queue.submit(far.add, 1, second=2)
        queue.workers()[0].step()
        dropped = queue.submit(far.echo, "dropped")
        dropped.d.addErrback(lambda _: None)
        dropped.cancel()
        queue.workers()[0].step()
        self.assertEqual(task.result, 3)
        lines = self.lines(logging.INFO)
        self.assertIn("task 1, add(1, second=2) -> 3", lines)
        self.assertIn("task 2, echo('dropped') was cancelled", lines)

    def test_workersThatAreLostReplacedAndGone(self) -> None:
        worker = self.makeWorker()
        queue = self.logged(worker, warn=True)
        self.settle()
        worker.die()
        self.clock.pump([0.1] * 20)
        self.resultOf(queue.detachWorker(worker))
        [lost] = self.lines(logging.WARNING)
        self.assertIn("lost its runner: Worker process", lost)
        for line, end in zip(
            self.lines(logging.INFO), ("is ready", "has a new runner", "left"), strict=True
        ):
            self.assertTrue(line.endswith(end), line)

    def test_aWorkerThatCanWorkNoMoreIsWarnedOf(self) -> None:
        worker = StepWorker()
        self.logged(worker, warn=True)
        worker.resign()
        [line] = self.lines(logging.WARNING)
        self.assertIn("resigned", line)

    def test_whatCannotBeDescribedIsNamed(self) -> None:
        queue = self.logged(InlineWorker(), spew=True)
        self.resultOf(queue.call(far.echo, Unspeakable()))
        self.assertEqual(self.lines()[-1].count("<Unspeakable"), 2)

    def test_noHandlerIsInstalledAndNoLevelSet(self) -> None:
        before = list(self.logger.handlers), self.logger.level, list(logging.root.handlers)
        self.logged(warn=True, spew=True, verbose=True)
        after = list(self.logger.handlers), self.logger.level, list(logging.root.handlers)
        self.assertEqual(before, after)

    def test_itMayWriteElsewhere(self) -> None:
        other = logging.Logger("elsewhere")
        records: list[logging.LogRecord] = []
        other.addHandler(Keeping(records))
        queue = self.logged(InlineWorker(), observers=[LoggingObserver(logger=other)])
        self.errorOf(queue.call(far.refuse), ValueError)
        self.assertEqual(records[-1].levelno, logging.ERROR)
        self.assertEqual(self.lines(), [])
