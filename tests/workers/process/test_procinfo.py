from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._workers.procinfo import SAMPLE_SECONDS, MemoryWatch, hasEnded, residentKilobytes


class MemorySightTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counters = Path(self.mktemp())
        self.patch(MemoryWatch, "counters", self.counters)
        self.resident: int | None = 100
        self.count(3)
        self.watch = MemoryWatch(self.clock.seconds)

    def count(self, kills: int) -> None:
        self.counters.write_text(f"nr_free_pages 1\noom_kill {kills}\nzone_reclaim_failed 0\n")

    def look(self) -> None:
        self.watch.look(lambda: self.resident)

    def test_nothingWasSeenAtFirst(self) -> None:
        self.assertIsNone(self.watch.residentKilobytes)
        self.assertFalse(self.watch.ranOut())

    def test_theLastSightIsKept(self) -> None:
        self.look()
        self.clock.advance(SAMPLE_SECONDS)
        self.resident = 200
        self.look()
        self.assertEqual(self.watch.residentKilobytes, 200)

    def test_itLooksNoMoreOftenThanItMay(self) -> None:
        self.look()
        self.clock.advance(SAMPLE_SECONDS / 2)
        self.resident = 200
        self.look()
        self.assertEqual(self.watch.residentKilobytes, 100)

    def test_aProcessThatIsGoneIsRememberedAsItWas(self) -> None:
        self.look()
        self.clock.advance(SAMPLE_SECONDS)
        self.resident = None
        self.count(4)
        self.look()
        self.assertEqual(self.watch.residentKilobytes, 100)
        self.assertTrue(self.watch.ranOut(), "it was last seen before")

    def test_killsSinceTheLastSightCount(self) -> None:
        self.count(4)
        self.assertTrue(self.watch.ranOut())

    def test_killsBeforeTheLastSightDoNot(self) -> None:
        self.count(4)
        self.look()
        self.assertFalse(self.watch.ranOut())

    def test_whereNobodyCountsNothingIsKnown(self) -> None:
        self.counters.unlink()
        self.assertFalse(self.watch.ranOut())
        self.count(9)
        self.assertTrue(self.watch.ranOut())
        self.assertFalse(self.withoutCounters().ranOut())

    def withoutCounters(self) -> MemoryWatch:
        self.counters.write_text("nothing of the kind\n")
        watch = MemoryWatch(self.clock.seconds)
        self.count(9)
        return watch


class ResidentTests(SynchronousTestCase):
    def test_aProcessHasSome(self) -> None:
        resident = residentKilobytes(os.getpid())
        assert resident is not None
        self.assertGreater(resident, 1000)

    def test_oneThatIsGoneHasNone(self) -> None:
        process = subprocess.Popen([sys.executable, "-S", "-c", ""])
        process.wait()
        self.assertIsNone(residentKilobytes(process.pid))


class EndTests(SynchronousTestCase):
    def test_aProcessHasEndedEvenIfNobodyHasAskedHow(self) -> None:
        process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        self.assertFalse(hasEnded(process.pid))
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertTrue(hasEnded(process.pid))
        process.wait()
        self.assertTrue(hasEnded(process.pid))
