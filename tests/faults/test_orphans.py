"""
What becomes of worker processes, and of what tasks have started there, when the program is killed,
or ends under their feet. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import os
import signal

from tests.faults.test_programs import METHODS, ProgramCase
from tests.support.processes import isGone, startProgram


class OrphanTests(ProgramCase):
    async def kill(self, *arguments: str) -> int:
        """
        Have a program killed, and see that its processes are gone in time.

        @return: the ID of the one process that may be left.
        """
        program = startProgram("tests.faults.orphanprograms", "stay", *arguments)
        self.addCleanup(self.endProgram, program)
        pids, fork = self.readFrom(program)
        self.assertEqual(len(pids), 3 + 3 * 3)
        await self.assertKilledWith(program, pids)
        number: int = fork
        return number

    async def test_19_parentKilledWithGrandchildren(self) -> None:
        for method in METHODS:
            await self.kill(method)

    async def test_19_parentKilledThatHasForked(self) -> None:
        for method in METHODS:
            fork = await self.kill(method, "fork")
            self.assertFalse(isGone(fork), "it has held all pipes open")
            os.kill(fork, signal.SIGKILL)

    async def test_19_parentThatLeftAForkToGoOn(self) -> None:
        for method in METHODS:
            program = startProgram("tests.faults.orphanprograms", "goOn", method)
            self.addCleanup(self.endProgram, program)
            self.assertEqual(self.readFrom(program), 1)
            self.assertEqual(self.readFrom(program), "shut down")
