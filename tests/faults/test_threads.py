"""
Faults of threads. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import startProgram

EXIT_WITHIN = 20.0
"""How many seconds a program may take in all: far fewer than its threads hang for, and far more
than it needs."""


class HungThreadTests(SynchronousTestCase):
    def run1(self, name: str) -> list[str]:
        """
        Run one of the programs to its end.

        @return: the lines that it wrote.
        """
        program = startProgram("tests.faults.threadprograms", name)
        try:
            out, err = program.communicate(timeout=EXIT_WITHIN)
        except subprocess.TimeoutExpired:
            program.kill()
            program.communicate()
            self.fail(f"{name}: a thread that hangs keeps the program from ending")
        self.assertEqual((program.returncode, err.decode()), (0, ""))
        return out.decode().splitlines()

    def test_36_aThreadThatHangsAtShutdownIsReportedAndLeftBehind(self) -> None:
        lines = self.run1("shutdown")
        self.assertTrue(any("is left behind: it is still running call" in line for line in lines))
        self.assertTrue(any("was crashed with" in line for line in lines), lines)
        self.assertIn("shut down", lines)

    def test_36_soIsAnIterationThatHangs(self) -> None:
        self.assertEqual(self.run1("iteration")[-1], "shut down")

    def test_36_aReactorThatStopsWaitsForNoThread(self) -> None:
        lines = self.run1("stop")
        self.assertEqual(lines[0], "stops")
        self.assertEqual(lines[1:], ["WorkerError"] * 3)

    def test_36_anIdleThreadKeepsNoProgramFromEnding(self) -> None:
        self.assertEqual(self.run1("never"), ["stops"])
