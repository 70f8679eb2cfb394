"""
Storms: many faults, one after the other, under load. Each prints its seed and what came of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from asynqueue import Event, ProcessQueue, ThreadQueue
from asynqueue._core.options import RUNS
from asynqueue._iteration import patience
from asynqueue._observers import QUEUED
from asynqueue._reactor import defaultReactor
from asynqueue._workers import supervisor
from asynqueue._workers.launch import startContext
from asynqueue.errors import PoisonTask, WorkerDied
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, TaskOptions
from asynqueue.testing import far
from benchmarks.pools import OURS
from benchmarks.storms.comparison import goThrough
from benchmarks.storms.killer import Killer
from benchmarks.storms.ledger import Ledger, step
from benchmarks.storms.trial import IDEMPOTENT
from tests.model.contract import (
    BEGAN,
    BLAMED,
    FIRED,
    OVER,
    RETURNED,
    Contract,
    Fact,
    RecordingProtocol,
    checkHistory,
)
from tests.support.processes import ProcessTestCase, countFds, strangers

# Processes are killed under many tasks
# -------------------------------------------------------------------------------------------------


def throughKills(contender: str, kills: int, tasks: int) -> dict[str, Any]:
    """
    Go through the storm that the benchmarks have, in a program of its own, and check what holds for
    whatever tasks.

    @return: what became of everything.
    """
    seed = random.randrange(10**6)
    outcome = goThrough(contender, kills, tasks, seed)
    print(f"seed {seed}, {kills} kills over {tasks} tasks, {contender}: {outcome}")  # noqa: T201
    assert outcome["kills"] == kills
    assert (outcome["hung"], outcome["wrong"]) == (0, 0)
    assert outcome["done"] + outcome["failed"] == tasks
    assert all(number <= 0 for number in outcome["growth"].values())
    return outcome


def checkKills(kills: int, tasks: int) -> None:
    outcome = throughKills(OURS, kills, tasks)
    assert outcome["failed"] <= kills
    # So none is lost of those that were sent ahead. The one that is lost may not have come to its
    # first line: a process says that a task begins before it rebuilds what the task is to run.
    assert outcome["failedTogether"] <= 1
    assert set(outcome["errors"]) <= {"WorkerDied"}
    assert (outcome["twice"], outcome["most"]) == (0, 1)


def checkKillsOfIdempotentTasks(kills: int, tasks: int) -> None:
    outcome = throughKills(IDEMPOTENT, kills, tasks)
    assert outcome["most"] <= RUNS
    # By chance one may be killed as often as it may be run.
    assert set(outcome["errors"]) <= {"PoisonTask"}
    assert outcome["failedUnbegun"] <= outcome["failed"]
    assert outcome["failed"] <= kills // RUNS
    assert outcome["twice"] <= kills


def test_aFewKills() -> None:
    checkKills(10, 1_000)


def test_aFewKillsOfIdempotentTasks() -> None:
    checkKillsOfIdempotentTasks(10, 1_000)


@pytest.mark.slow
def test_stormOfKills() -> None:
    checkKills(1_000, 100_000)


@pytest.mark.slow
def test_stormOfKillsOfIdempotentTasks() -> None:
    checkKillsOfIdempotentTasks(1_000, 100_000)


# What happens to every call is recorded
# -------------------------------------------------------------------------------------------------


class RecordedStormTests(ProcessTestCase):
    """
    A storm's facts keep the contract in which the model's states are searched: what was sent to
    each process and came back from it, as the near side saw it, and what the tasks themselves noted
    of their beginning.
    """

    timeout = 590.0

    def setUp(self) -> Deferred[None]:  # type: ignore[override] # Trial waits for it
        self.recorded: list[tuple[float, Fact]] = []
        self.patch(supervisor, "RunnerProtocol", partial(RecordingProtocol, self.note))
        self.tasks: dict[int, Any] = {}
        self.ends: dict[int, Event] = {}
        return super().setUp()

    def note(self, fact: Fact) -> None:
        self.recorded.append((time.monotonic(), fact))

    def hear(self, event: Event) -> None:
        """
        Observe the queue.
        """
        task = event.task
        if task is None:
            return
        if event.kind == QUEUED:
            self.tasks[task.args[1]] = task
            task.d.addBoth(lambda _: self.note(Fact(FIRED, None, task.id)))
        elif event.kind in (FINISHED, FAILED, CANCELLED):
            assert task.id not in self.ends, f"{task} ends twice"
            self.ends[task.id] = event

    async def goThrough(self, kills: int, tasks: int, **options: Any) -> None:
        seed = random.randrange(10**6)
        folder = self.makeFolder()
        ledger = Ledger(str(folder / "ledger"))
        queue = self.makeQueue(4, observers=[self.hear])
        killer = Killer(folder, ledger, kills, tasks, seed)
        began = time.monotonic()
        call = queue.options(**options).call
        calls = [call(step, ledger.path, number, 0.001) for number in range(tasks)]
        await DeferredList(calls, consumeErrors=True)
        seconds = time.monotonic() - began
        assert killer.stop() == kills
        await queue.shutdown()
        entries = ledger.entries()
        facts = self.history(entries)
        runs = TaskOptions(**options).runs
        contract = checkHistory(facts, Contract(lambda id: runs, seesEveryBeginning=False))
        kinds = Counter(fact.kind for fact in facts)
        print(  # noqa: T201
            f"seed {seed}, {kills} kills over {tasks} tasks in {seconds:.0f} s, {options}: "
            f"{len(entries)} runs, {dict(kinds)}"
        )
        assert kinds[BEGAN] == len(entries)
        # Now and then a process is killed again that is about to end.
        assert kills // 2 <= kinds[OVER] <= kills
        assert kinds[BLAMED] <= kinds[OVER]
        assert contract.fired == {task.id for task in self.tasks.values()}
        assert len(contract.fired) == len(self.ends) == tasks
        self.checkEnds(contract.fates)

    def history(self, entries: list[tuple[int, int, float]]) -> list[Fact]:
        """
        All facts, in their order.
        """
        seen = [(when, Fact(BEGAN, pid, self.tasks[number].id)) for number, pid, when in entries]
        return [fact for _, fact in sorted([*self.recorded, *seen], key=lambda one: one[0])]

    def checkEnds(self, fates: dict[int, str]) -> None:
        """
        What observers were told is what the near half of the protocol heard.
        """
        for id, event in self.ends.items():
            died = isinstance(event.reason, WorkerDied | PoisonTask)
            assert (event.kind, died) == {
                RETURNED: (FINISHED, False),
                BLAMED: (FAILED, True),
            }[fates[id]], (event, fates[id])

    async def test_aFewKillsAreRecorded(self) -> None:
        await self.goThrough(10, 1_000)

    async def test_aFewKillsOfIdempotentTasksAreRecorded(self) -> None:
        await self.goThrough(10, 1_000, idempotent=True)

    @pytest.mark.slow
    async def test_aStormOfKillsIsRecorded(self) -> None:
        await self.goThrough(1_000, 100_000)

    @pytest.mark.slow
    async def test_aStormOfKillsOfIdempotentTasksIsRecorded(self) -> None:
        await self.goThrough(1_000, 100_000, idempotent=True)


# Queues start and stop
# -------------------------------------------------------------------------------------------------

WITHIN = 5.0
"""How many seconds a queue may take to start and stop, what it does meanwhile included."""

Deed = Callable[[Any], Coroutine[Deferred[Any], Any, None]]


async def stopAtOnce(queue: Any) -> None:
    await queue.shutdown()


async def stopAfterWork(queue: Any) -> None:
    results = await gatherResults([queue.call(far.echo, number) for number in range(20)])
    assert results == list(range(20))
    await queue.shutdown()


async def stopWithWorkUnderway(queue: Any) -> None:
    first, *others = [queue.call(time.sleep, 0.001) for _ in range(20)]
    await first
    await queue.shutdown()
    assert [d.called for d in others] == [True] * 19


async def stopWithAStreamUnderway(queue: Any) -> None:
    deferator = await queue.call(far.numbers, 10**6)
    async for number in deferator:
        if number == 10:
            break
    await queue.shutdown()


def _kill(worker: Any) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.process.pid, signal.SIGKILL)


async def killAtOnce(queue: Any) -> None:
    _kill(queue.workers()[0])
    await queue.shutdown()


async def killAmidWork(queue: Any) -> None:
    outcomes: list[Any] = []
    calls = [queue.call(time.sleep, 0.001).addBoth(outcomes.append) for _ in range(20)]
    await calls[0]
    _kill(queue.workers()[1])
    await queue.shutdown()
    failed = [outcome.type.__name__ for outcome in outcomes if outcome is not None]
    assert len(outcomes) == 20
    assert failed in ([], ["WorkerDied"])


async def stopOverAHangingTask(queue: Any) -> None:
    await queue.call(far.echo, 1)
    hanging = queue.call(time.sleep, 60)
    queue.timeout = 0.1
    outcomes: list[Any] = []
    hanging.addBoth(outcomes.append)
    await queue.shutdown()
    assert outcomes[0].type.__name__ == "WorkerDetached"


GENTLE: list[Deed] = [stopAtOnce, stopAfterWork, stopWithWorkUnderway, stopWithAStreamUnderway]
ALL: list[Deed] = [*GENTLE, killAtOnce, killAmidWork, stopOverAHangingTask]


def possessions() -> dict[str, int]:
    """
    What can leak.
    """
    return {
        "files": countFds(),
        "processes": len(strangers()),
        "threads": threading.active_count(),
    }


class StartStopTests(ProcessTestCase):
    timeout = 590.0

    def setUp(self) -> Deferred[None]:  # type: ignore[override] # Trial waits for it
        # A stream that is left in the middle is not to hold every stop up.
        self.patch(patience, "IDLE_SECONDS", 0.1)
        return super().setUp()

    async def goThrough(
        self, make: Callable[[], Any], deeds: list[Deed], rounds: int, cycles: int
    ) -> None:
        """
        Start and stop a queue so many times in each round, and see that no round leaves anything
        behind.
        """
        seed = random.randrange(10**6)
        chance = random.Random(seed)
        kinds: Counter[str] = Counter()
        longest = 0.0
        threads = threading.active_count()
        # What is made once and kept, is made now.
        await make().shutdown()
        await self.until(lambda: threading.active_count() <= threads)
        before = possessions()
        for _ in range(rounds):
            for _ in range(cycles):
                deed = chance.choice(deeds)
                began = time.monotonic()
                done = Deferred.fromCoroutine(deed(make()))
                await done.addTimeout(WITHIN, defaultReactor())
                longest = max(longest, time.monotonic() - began)
                kinds[deed.__name__] += 1
            # A thread or a process that has told all that it had to may be about to end.
            await self.until(lambda: all(possessions()[name] <= before[name] for name in before))
        print(f"seed {seed}, {rounds} x {cycles}: longest {longest:.2f} s, {dict(kinds)}")  # noqa: T201

    async def goThroughProcesses(self, method: str, rounds: int, cycles: int) -> None:
        context = startContext(method)
        await self.goThrough(lambda: ProcessQueue(2, context=context), ALL, rounds, cycles)

    async def test_aFewStartsAndStopsOfProcesses(self) -> None:
        await self.goThroughProcesses("forkserver", 2, 10)

    async def test_aFewStartsAndStopsOfSpawnedProcesses(self) -> None:
        await self.goThroughProcesses("spawn", 2, 4)

    async def test_aFewStartsAndStopsOfThreads(self) -> None:
        await self.goThrough(lambda: ThreadQueue(2), GENTLE, 2, 20)

    @pytest.mark.slow
    async def test_stormOfStartsAndStopsOfProcesses(self) -> None:
        await self.goThroughProcesses("forkserver", 10, 50)

    @pytest.mark.slow
    async def test_stormOfStartsAndStopsOfSpawnedProcesses(self) -> None:
        await self.goThroughProcesses("spawn", 10, 50)

    @pytest.mark.slow
    async def test_stormOfStartsAndStopsOfThreads(self) -> None:
        await self.goThrough(lambda: ThreadQueue(2), GENTLE, 10, 50)
