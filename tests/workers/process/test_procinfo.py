from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._workers.procinfo import (
    SAMPLE_SECONDS,
    MemoryWatch,
    cores,
    hasEnded,
    residentKilobytes,
)


class CoresTests(SynchronousTestCase):
    """
    The number of cores that a program may use, in systems that are made up.
    """

    def setUp(self) -> None:
        self.proc = Path(self.mktemp()).absolute()
        self.groups = self.proc / "groups"
        self.groups.mkdir(parents=True)
        self.patch(os, "sched_getaffinity", lambda pid: set(range(8)))

    def describe(self, path: str, root: str = "/", version: int = 2) -> None:
        """
        @param path: the control group of the process.
        @param root: which part of all groups is mounted.
        """
        controllers, kind, features = ("", "cgroup2", "rw")
        if version == 1:
            controllers, kind, features = ("cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
        (self.proc / "cgroup").write_text(f"3:memory:/elsewhere\n2:{controllers}:{path}\n")
        (self.proc / "mountinfo").write_text(
            f"30 1 0:1 / /nowhere rw shared:1 - tmpfs tmpfs rw\n"
            f"31 30 0:2 {root} {self.groups} rw,nosuid shared:2 - {kind} {kind} {features}\n"
        )

    def allow(self, path: str, quota: str) -> None:
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{quota}\n")

    def allowInVersion1(self, path: str, quota: int) -> None:
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text("50000\n")

    def test_withoutAQuotaTheAffinityDecides(self) -> None:
        self.assertEqual(cores(self.proc), 8)
        self.describe("/mine")
        self.assertEqual(cores(self.proc), 8)
        self.allow("mine", "max 100000")
        self.assertEqual(cores(self.proc), 8)
        self.allow("mine", "1600000 100000")
        self.assertEqual(cores(self.proc), 8)

    def test_theQuotaOfTheGroupCounts(self) -> None:
        self.describe("/mine")
        self.allow("mine", "300000 100000")
        self.assertEqual(cores(self.proc), 3)

    def test_aPartOfACoreCountsAsOne(self) -> None:
        self.describe("/mine")
        self.allow("mine", "150000 100000")
        self.assertEqual(cores(self.proc), 2)
        self.allow("mine", "1000 100000")
        self.assertEqual(cores(self.proc), 1)

    def test_theQuotasOfTheGroupsAroundItCount(self) -> None:
        self.describe("/outer/inner")
        self.allow("outer/inner", "max 100000")
        self.allow("outer", "400000 100000")
        self.assertEqual(cores(self.proc), 4)
        self.allow("outer/inner", "200000 100000")
        self.assertEqual(cores(self.proc), 2)

    def test_inAContainerItsGroupIsMountedAsTheOutermost(self) -> None:
        self.allow(".", "200000 100000")
        for path, root in [
            ("/", "/"),
            ("/docker/one", "/docker/one"),
            ("/docker/one", "/docker/two"),
            ("/../elsewhere", "/"),
        ]:
            self.describe(path, root)
            self.assertEqual(cores(self.proc), 2, path)

    def test_version1CountsAsWell(self) -> None:
        self.describe("/mine", version=1)
        self.allowInVersion1("mine", -1)
        self.assertEqual(cores(self.proc), 8)
        self.allowInVersion1("mine", 250000)
        self.assertEqual(cores(self.proc), 5)

    def test_filesThatMakeNoSenseCountForNothing(self) -> None:
        self.describe("/mine")
        for quota in ("", "many 100000", "100000 0", "1 2 3"):
            self.allow("mine", quota)
            self.assertEqual(cores(self.proc), 8, quota)


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
        # A process that its parent has not waited for has given its memory back, too.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertIsNone(residentKilobytes(process.pid))
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
