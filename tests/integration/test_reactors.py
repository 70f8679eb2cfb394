"""
All kinds of calls under other reactors and with other start methods, in a program of its own each.
"""

from __future__ import annotations

import json

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import PATIENCE, startProgram


class ReactorTests(SynchronousTestCase):
    def assertRuns(self, reactor: str, kind: str, method: str) -> None:
        """
        The program does what it should, says nothing else, and ends.
        """
        program = startProgram("tests.integration.programs", reactor, method)
        self.addCleanup(program.kill)
        output, said = program.communicate(timeout=2 * PATIENCE)
        self.assertEqual((program.returncode, said), (0, b""))
        self.assertEqual(
            json.loads(output),
            {
                "values": [number * number for number in range(500)],
                "error": "ZeroDivisionError",
                "items": True,
                "big": True,
                "cancelled": "CancelledError",
                "died": "WorkerDied",
                "remembered": [["kept"], ["kept"]],
                "gone": True,
                "reactor": kind,
            },
        )

    def test_asyncio(self) -> None:
        self.assertRuns("asyncio", "AsyncioSelectorReactor", "forkserver")

    @pytest.mark.slow
    def test_asyncioWithSpawnedProcesses(self) -> None:
        self.assertRuns("asyncio", "AsyncioSelectorReactor", "spawn")

    @pytest.mark.slow
    def test_poll(self) -> None:
        self.assertRuns("poll", "PollReactor", "forkserver")

    def test_pollWithSpawnedProcesses(self) -> None:
        self.assertRuns("poll", "PollReactor", "spawn")

    def test_select(self) -> None:
        self.assertRuns("select", "SelectReactor", "forkserver")

    def test_forkedProcesses(self) -> None:
        # Nobody gets them who does not ask for them.
        self.assertRuns("poll", "PollReactor", "fork")
