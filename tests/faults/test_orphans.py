"""
What becomes of worker processes, and of what tasks have started there, when the program is killed,
or ends under their feet. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import os
import signal

from tests.faults.programs import METHODS
from tests.faults.test_programs import ProgramCase
from tests.support.processes import isGone, startProgram


class OrphanTests(ProgramCase):
    async def kill(self, *options: str) -> int:
        """
        Have a program killed, and see that its processes are gone in time.

        @return: the ID of the one process that may be left.
        """
        program = startProgram("tests.faults.orphanprograms", "stay", *options)
        self.addCleanup(self.endProgram, program)
        pids, fork = self.readFrom(program)
        self.assertEqual(len(pids), len(METHODS) * (3 + 3 * 3))
        await self.assertKilledWith(program, pids)
        number: int = fork
        return number

    async def test_19_parentKilledWithGrandchildren(self) -> None:
        await self.kill()

    async def test_19_parentKilledThatHasForked(self) -> None:
        fork = await self.kill("fork")
        self.assertFalse(isGone(fork), "it has held all pipes open")
        os.kill(fork, signal.SIGKILL)

    async def test_19_parentThatLeftAForkToGoOn(self) -> None:
        program = startProgram("tests.faults.orphanprograms", "goOn")
        self.addCleanup(self.endProgram, program)
        for _ in METHODS:
            self.assertEqual(self.readFrom(program), 1)
            self.assertEqual(self.readFrom(program), "shut down")
