from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import psutil
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.recorder import Recorder
from tests.support.processes import PATIENCE, startServers
from tests.workers.process.recording import crash, setAll

LARGEST = (1 << 64) - 1


class RecorderTests(SynchronousTestCase):
    def make(self) -> Recorder:
        recorder = Recorder()
        self.addCleanup(recorder.close)
        return recorder

    def test_itIsZeroAtFirst(self) -> None:
        self.assertEqual(self.make().lastBegun, 0)

    def test_itHoldsWhatIsSet(self) -> None:
        recorder = self.make()
        for value in (1, 1 << 40, LARGEST, 0):
            recorder.begin(value)
            self.assertEqual(recorder.lastBegun, value)

    def test_whereNothingHasCrashedNothingIsWritten(self) -> None:
        self.assertIsNone(self.make().stacks)

    def test_twoAreNotTheSame(self) -> None:
        one, other = self.make(), self.make()
        one.begin(5)
        self.assertEqual(other.lastBegun, 0)

    def test_sendingItIsRememberedOnce(self) -> None:
        recorder = self.make()
        recorder.sent()
        recorder.sent()
        recorder.begin(3)
        self.assertEqual(recorder.lastBegun, 3)

    def test_onceSentItKeepsNoMoreThanItsMap(self) -> None:
        before = psutil.Process().num_fds()
        recorder = Recorder()
        recorder.sent()
        self.assertLessEqual(psutil.Process().num_fds() - before, 1)
        del recorder
        self.assertEqual(psutil.Process().num_fds(), before)

    def test_closedItKeepsNothing(self) -> None:
        before = psutil.Process().num_fds()
        recorder = Recorder()
        recorder.close()
        self.assertEqual(psutil.Process().num_fds(), before)
        self.assertRaises(ValueError, lambda: recorder.lastBegun)

    def test_withoutMemfdAFileServes(self) -> None:
        made: list[str] = []
        folder = self.mktemp()
        os.mkdir(folder)

        def makeFile(*args: Any, **kw: Any) -> Any:
            made.append(folder)
            return realFile(*args, dir=folder, **kw)

        realFile = tempfile.TemporaryFile
        self.patch(tempfile, "TemporaryFile", makeFile)
        if hasattr(os, "memfd_create"):
            memfd_create = os.memfd_create
            self.addCleanup(setattr, os, "memfd_create", memfd_create)
            del os.memfd_create
        recorder = self.make()
        recorder.begin(LARGEST)
        self.assertEqual(recorder.lastBegun, LARGEST)
        self.assertEqual(made, [folder])
        self.assertEqual(list(Path(folder).iterdir()), [], "the file should have no name")


class SharedWithAChildTests(SynchronousTestCase):
    """
    The parent can read the child's notes, also after the child was killed.
    """

    def shareUnder(self, method: str) -> None:
        startServers()
        context: Any = multiprocessing.get_context(method)
        recorder = Recorder()
        self.addCleanup(recorder.close)
        gate, farGate = context.Pipe()
        child = context.Process(target=setAll, args=(recorder, [1, 2, 1 << 50], farGate))
        child.start()
        recorder.sent()
        try:
            gate.send(None)
            child.join(PATIENCE)
            self.assertEqual(child.exitcode, 0)
            self.assertEqual(recorder.lastBegun, (1 << 50) + 1)
        finally:
            child.kill()
            child.join()
            child.close()
            gate.close()
            farGate.close()

    def test_whatFaulthandlerWroteIsReadHere(self) -> None:
        startServers()
        context: Any = multiprocessing.get_context("forkserver")
        recorder = Recorder()
        self.addCleanup(recorder.close)
        child = context.Process(target=crash, args=(recorder,))
        child.start()
        recorder.sent()
        child.join(PATIENCE)
        self.assertEqual(child.exitcode, -signal.SIGABRT)
        child.close()
        assert recorder.stacks is not None
        self.assertTrue(recorder.stacks.startswith("Fatal Python error: Aborted"), recorder.stacks)
        self.assertIn("in crash", recorder.stacks)
        self.assertEqual(recorder.lastBegun, 7)

    def test_underForkserver(self) -> None:
        self.shareUnder("forkserver")

    def test_underSpawn(self) -> None:
        self.shareUnder("spawn")
