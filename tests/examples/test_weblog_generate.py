"""
The log that is made up: the same each time, and with something of everything in it.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.testing import SynchronousQueue
from examples.weblog.generate import PART_LINES, writeParts
from examples.weblog.madeup import makePart
from examples.weblog.parse import minuteOf, parseLines
from tests.examples.test_weblog_report import reportOf


class WritePartsTests(SynchronousTestCase):
    def test_partsAreWrittenInOrder(self) -> None:
        file, lines = io.BytesIO(), PART_LINES + 10
        queue: Any = SynchronousQueue()
        self.addCleanup(queue.shutdown)
        writing = Deferred.fromCoroutine(writeParts(queue, file, lines, 1))
        self.assertIsNone(self.successResultOf(writing))
        parts = [makePart(1, 0, PART_LINES, lines), makePart(1, PART_LINES, lines, lines)]
        self.assertEqual(file.getvalue(), b"".join(parts))


def test_seedDecides() -> None:
    assert makePart(1, 0, 500, 1000) == makePart(1, 0, 500, 1000)
    assert makePart(1, 0, 500, 1000) != makePart(2, 0, 500, 1000)


def test_partHasSomethingOfEverything() -> None:
    report = reportOf(makePart(1, 90_000, 110_000, 1_000_000))
    assert report.requests + report.malformed == 20_000
    assert report.malformed > 0
    assert all(count for name, count in report.classes.items() if name != "1xx")
    rules = {rule for offender in report.offenders for rule in offender.rules}
    assert {"flood", "not HTTP", "bad method", "injection", "path traversal"} < rules


def test_datesAreInOrder() -> None:
    rows = parseLines(makePart(1, 90_000, 110_000, 1_000_000)).rows
    minutes = [minuteOf(row[1], row[3]) or 0 for row in rows]
    assert max(a - b for a, b in pairwise(minutes)) <= 1
