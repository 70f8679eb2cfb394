from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import psutil
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.workers.process.begun import SharedNumber
from tests.support.processes import PATIENCE, startServers

LARGEST = (1 << 64) - 1


def setAll(number: SharedNumber, values: list[int], gate: Any) -> None:
    """
    Write some values in another process, and one more when that is allowed.
    """
    for value in values:
        number.set(value)
    gate.recv()
    number.set(values[-1] + 1)


class SharedNumberTests(SynchronousTestCase):
    def test_itIsZeroAtFirst(self) -> None:
        self.assertEqual(SharedNumber().get(), 0)

    def test_itHoldsWhatIsSet(self) -> None:
        number = SharedNumber()
        for value in (1, 1 << 40, LARGEST, 0):
            number.set(value)
            self.assertEqual(number.get(), value)

    def test_twoAreNotTheSame(self) -> None:
        one, other = SharedNumber(), SharedNumber()
        one.set(5)
        self.assertEqual(other.get(), 0)

    def test_sendingItIsRememberedOnce(self) -> None:
        number = SharedNumber()
        number.sent()
        number.sent()
        number.set(3)
        self.assertEqual(number.get(), 3)

    def test_onceSentItKeepsNoMoreThanItsMap(self) -> None:
        before = psutil.Process().num_fds()
        number = SharedNumber()
        number.sent()
        self.assertLessEqual(psutil.Process().num_fds() - before, 1)
        del number
        self.assertEqual(psutil.Process().num_fds(), before)

    def test_closedItKeepsNothing(self) -> None:
        before = psutil.Process().num_fds()
        number = SharedNumber()
        number.close()
        self.assertEqual(psutil.Process().num_fds(), before)
        self.assertRaises(ValueError, number.get)

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
        number = SharedNumber()
        number.set(LARGEST)
        self.assertEqual(number.get(), LARGEST)
        self.assertEqual(made, [folder])
        self.assertEqual(list(Path(folder).iterdir()), [], "the file should have no name")


class SharedWithAChildTests(SynchronousTestCase):
    """
    What a child writes is read here, and stays when the child is killed.
    """

    def shareUnder(self, method: str) -> None:
        startServers()
        context: Any = multiprocessing.get_context(method)
        number = SharedNumber()
        gate, farGate = context.Pipe()
        child = context.Process(target=setAll, args=(number, [1, 2, 1 << 50], farGate))
        child.start()
        number.sent()
        try:
            gate.send(None)
            child.join(PATIENCE)
            self.assertEqual(child.exitcode, 0)
            self.assertEqual(number.get(), (1 << 50) + 1)
        finally:
            child.kill()
            child.join()
            child.close()
            gate.close()
            farGate.close()

    def test_underForkserver(self) -> None:
        self.shareUnder("forkserver")

    def test_underSpawn(self) -> None:
        self.shareUnder("spawn")
