"""
Faults of the whole program. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import gatherResults

from asynqueue import ResizableDispatchQueue
from asynqueue._dispatch.stores import WAITING
from asynqueue.rdq import SQLiteJobStore
from tests.faults.endingprograms import JOBS
from tests.faults.programs import METHODS
from tests.support.processes import (
    PATIENCE,
    ProcessTestCase,
    areGone,
    isGone,
    startProgram,
    strangers,
)

GONE_WITHIN = 2.0
"""How many seconds worker processes may live on after their parent was killed."""

LONG = 600.0
"""More seconds to drain in than any test waits."""


class ProgramCase(ProcessTestCase):
    """
    Tests of programs that run in sessions of their own.
    """

    def startProgram(self, *arguments: str) -> tuple[subprocess.Popen[bytes], list[int]]:
        """
        Run one of the programs, as far as having worker processes.

        @return: it, and their IDs.
        """
        program = startProgram(*arguments)
        self.addCleanup(self.endProgram, program)
        pids: list[int] = self.readFrom(program)
        return program, pids

    def startEnding(
        self, name: str, method: str, seconds: float
    ) -> tuple[subprocess.Popen[bytes], list[int], Path]:
        """
        Run one of those that are asked to end.

        @param seconds: for how long it is to drain.
        @return: it, the IDs of its processes, and its folder.
        """
        folder = self.makeFolder()
        program, pids = self.startProgram(
            "tests.faults.endingprograms", name, method, str(folder), str(seconds)
        )
        return program, pids, folder

    def readFrom(self, program: subprocess.Popen[bytes]) -> Any:
        """
        @return: the next thing that it tells.
        """
        assert program.stdout is not None
        [ready, _, _] = select.select([program.stdout], [], [], PATIENCE)
        assert ready, "it says nothing"
        line = program.stdout.readline()
        assert line, program.communicate()
        return json.loads(line)

    async def assertKilledWith(self, program: subprocess.Popen[bytes], pids: list[int]) -> None:
        """
        All of these processes are there, and when the program is killed they are gone in time.
        """
        self.assertEqual([pid for pid in pids if isGone(pid)], [])
        program.kill()
        self.assertTrue(
            await self.happens(GONE_WITHIN, areGone, pids),
            f"{program.args!r}: {[pid for pid in pids if not isGone(pid)]} of {pids} live on",
        )

    async def endProgram(self, program: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        # Those that multiprocessing keeps for itself end a little later.
        await self.until(lambda: not strangers())

    async def assertEnds(
        self, program: subprocess.Popen[bytes], pids: list[int], code: int, *told: Any
    ) -> None:
        """
        It ends, having told nothing else, with nothing on its standard error, and no process left.
        """
        output, said = program.communicate(timeout=PATIENCE)
        self.assertEqual(said, b"", "nobody has a traceback")
        self.assertEqual([json.loads(line) for line in output.splitlines()], list(told))
        self.assertEqual(program.returncode, code)
        await self.until(areGone, pids)


class ProgramTests(ProgramCase):
    async def test_19_parentKilledWhileWorkersAreBusyAndIdle(self) -> None:
        program, pids = self.startProgram("tests.faults.programs", "stay")
        self.assertEqual(len(pids), 3 * len(METHODS))
        await self.assertKilledWith(program, pids)

    async def test_22_interpreterEndsWithTasksPending(self) -> None:
        program, pids = self.startProgram("tests.faults.programs", "end")
        told = [["CancelledError", "CANCELLED"]] * len(METHODS)
        await self.assertEnds(program, pids, 7, *told)

    async def test_22_interpreterEndsAfterTheReactorHasCrashed(self) -> None:
        program, pids = self.startProgram("tests.faults.programs", "crashReactor")
        told = [["CancelledError", "CANCELLED"]] * 3 * len(METHODS)
        await self.assertEnds(program, pids, 0, *told)

    async def test_23_reactorStopsWithoutAShutdown(self) -> None:
        program, pids = self.startProgram("tests.faults.programs", "stopReactor")
        # Every Deferred has fired.
        await self.assertEnds(program, pids, 0, [["WorkerError"]] * 3 * len(METHODS))


class SignalTests(ProgramCase):
    """
    A program is asked to end, by a signal.
    """

    async def checkDrain(self, name: str, method: str, number: int, toAll: bool) -> None:
        """
        What is underway ends, in its own time; what waits is refused.

        @param toAll: whether the whole process group gets the signal, as from a terminal.
        """
        program, pids, folder = self.startEnding(name, method, LONG)
        if toAll:
            os.killpg(program.pid, number)
        else:
            program.send_signal(number)
        self.assertEqual(self.readFrom(program), "drains")
        self.assertEqual([pid for pid in pids if isGone(pid)], [])
        (folder / "go").touch()
        outcomes = [["'0'"], ["'1'"], ["'2'"], ["QueueStopped"], ["last"]]
        await self.assertEnds(program, pids, 0, outcomes)

    async def test_20_theFirstInterruptLetsWhatIsUnderwayEnd(self) -> None:
        await self.checkDrain("patient", "forkserver", signal.SIGINT, toAll=True)

    async def test_21_sigtermLetsWhatIsUnderwayEnd(self) -> None:
        await self.checkDrain("patient", "spawn", signal.SIGTERM, toAll=False)

    async def test_20_theSecondEndsItAtOnce(self) -> None:
        for method, second in zip(METHODS, (signal.SIGINT, signal.SIGTERM), strict=True):
            program, pids, _ = self.startEnding("hanging", method, LONG)
            os.killpg(program.pid, signal.SIGINT)
            self.assertEqual(self.readFrom(program), "drains")
            os.kill(program.pid, second)
            outcomes = [["WorkerError"], ["WorkerError"], ["QueueStopped"]]
            await self.assertEnds(program, pids, 0, outcomes)

    async def test_21_whatHangsIsEndedAtTheDeadline(self) -> None:
        program, pids, _ = self.startEnding("hanging", "forkserver", 0.2)
        program.send_signal(signal.SIGTERM)
        outcomes = [["WorkerError"], ["WorkerError"], ["QueueStopped"]]
        await self.assertEnds(program, pids, 0, "drains", outcomes)


class DurableTests(ProgramCase):
    """
    A program with durable jobs comes to its end, two of them running, others begun, others waiting.
    """

    async def assertSaved(self, folder: Path, ended: int) -> None:
        """
        Each job has ended once, or is in the store and ends once in the next run.

        @param ended: how many have ended.
        """
        self.assertEqual(sorted(os.listdir(folder)), self.files, "the store was closed")
        lines = (folder / "diary").read_text().split("\n")
        done = [int(line.split()[1]) for line in lines if line.startswith("ended")]
        self.assertEqual(len(done), ended)
        store = SQLiteJobStore(folder / "jobs.db")
        self.assertEqual({job.state for job in store.open()}, {WAITING})
        store.close()

        def work(job: list[Any]) -> None:
            done.append(job[1])

        queue = ResizableDispatchQueue(work, JOBS, store=folder / "jobs.db", storedAs="work")
        await gatherResults([job.watch() for job in queue.pending()])
        self.assertEqual(sorted(done), list(range(JOBS)))
        self.assertEqual(await queue.deadLetters(), [])
        await queue.stop()

    async def checkDurable(self, name: str, method: str) -> None:
        """
        What is underway ends.
        """
        self.files = ["diary", "go", "jobs.db"]
        program, pids, folder = self.startEnding(name, method, LONG)
        program.send_signal(signal.SIGTERM)
        # One queue has tasks, the other jobs.
        self.assertEqual([self.readFrom(program), self.readFrom(program)], ["drains", "drains"])
        (folder / "go").touch()
        output, said = program.communicate(timeout=PATIENCE)
        self.assertEqual((program.returncode, said), (0, b""))
        outcomes = json.loads(output)
        self.assertEqual(outcomes[2:], [["JobNotDispatched"]] * (JOBS - 2))
        self.assertIn("FINISHED", outcomes[0][0])
        self.assertIn("FINISHED", outcomes[1][0])
        await self.until(areGone, pids)
        await self.assertSaved(folder, 2)

    async def checkCut(
        self, name: str, method: str, seconds: float, signals: int, toAll: bool = False
    ) -> None:
        """
        Nothing that is underway ends.

        @param signals: how many SIGTERMs it gets.
        @param toAll: whether its worker processes get one too, after it.
        """
        self.files = ["diary", "jobs.db"]
        program, pids, folder = self.startEnding(name, method, seconds)
        for number in range(signals):
            program.send_signal(signal.SIGTERM)
            for pid in pids if toAll else ():
                os.kill(pid, signal.SIGTERM)
            if not number:
                told = [self.readFrom(program), self.readFrom(program)]
                self.assertEqual(told, ["drains", "drains"])
        output, said = program.communicate(timeout=PATIENCE)
        self.assertEqual((program.returncode, said), (0, b""))
        if output:
            for outcome in json.loads(output):
                self.assertIn(outcome, (["JobNotDispatched"], ["JobCancelled"]))
        await self.until(areGone, pids)
        await self.assertSaved(folder, 0)

    async def test_21_durableJobsThatEndInTime(self) -> None:
        await self.checkDurable("durable", "forkserver")

    async def test_21_durableJobsOfAFunctionThatEndInTime(self) -> None:
        await self.checkDurable("durableThroughFunction", "spawn")

    async def test_21_durableJobsThatDoNotEndInTime(self) -> None:
        await self.checkCut("durable", "spawn", 0.2, 1)

    async def test_21_durableJobsOfAFunctionThatDoNotEndInTime(self) -> None:
        await self.checkCut("durableThroughFunction", "forkserver", 0.2, 1)

    async def test_20_durableJobsAtTheSecondSignal(self) -> None:
        await self.checkCut("durable", "forkserver", LONG, 2)

    @pytest.mark.slow
    async def test_20_durableJobsOfAFunctionAtTheSecondSignal(self) -> None:
        await self.checkCut("durableThroughFunction", "spawn", LONG, 2)

    async def test_21_durableJobsWhenTheWorkersGetTheSignalToo(self) -> None:
        await self.checkCut("durableThroughFunction", "spawn", LONG, 1, toAll=True)

    @pytest.mark.slow
    async def test_21_durableJobsWhenForkedWorkersGetTheSignalToo(self) -> None:
        await self.checkCut("durable", "forkserver", LONG, 1, toAll=True)

    async def test_23_durableJobsWhenTheReactorIsStopped(self) -> None:
        await self.checkCut("durableStopped", "forkserver", 0, 0)

    @pytest.mark.slow
    async def test_23_durableJobsOfAQueueThatWasFirstWhenTheReactorIsStopped(self) -> None:
        await self.checkCut("durableStopped", "spawn", 1, 0)

    async def test_22_durableJobsWhenTheReactorHasCrashed(self) -> None:
        await self.checkCut("durableCrashed", "spawn", 1, 0)

    @pytest.mark.slow
    async def test_22_durableJobsOfAQueueThatWasLastWhenTheReactorHasCrashed(self) -> None:
        await self.checkCut("durableCrashed", "forkserver", 0, 0)
