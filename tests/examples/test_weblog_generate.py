"""
The log that is made up: the same each time, and with something of everything in it.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
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
        written: list[bytes] = []
        lines = PART_LINES + 10
        queue: Any = SynchronousQueue()
        self.addCleanup(queue.shutdown)
        writing = Deferred.fromCoroutine(writeParts(queue, written.append, lines, 1))
        self.assertIsNone(self.successResultOf(writing))
        parts = [makePart(1, 0, PART_LINES, lines), makePart(1, PART_LINES, lines, lines)]
        self.assertEqual(written, parts)


def test_generatorNeverReplacesWhatIsNotARegularFile(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "examples.weblog.generate", str(pipe), "--lines", "10"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert pipe.read_bytes() == makePart(1, 0, 10, 10)
        process.communicate(timeout=50)
    assert process.returncode == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)


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
