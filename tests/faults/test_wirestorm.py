"""
Storms over the wire: many cuts and kills of a server under load. Each prints its seed and what
became of everything.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.trial.unittest import TestCase

from asynqueue import TaskQueue
from asynqueue.errors import ConnectionLost
from asynqueue.testing import FaultProxy, far
from asynqueue.tools import deferToDelay
from asynqueue.wire import RemoteWorker, writeKey
from tests.faults import wiretasks
from tests.support.remote import RemoteMixin, serveCommand

PROCESSES = 2
ITEMS = 400
"""How many items each stream has."""


class KillableServer:
    """
    A server in a process of its own, which is killed and started again.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        writeKey(folder / "key")
        self._command = serveCommand(
            str(folder / "key"),
            f"tcp:{self.port}:interface=127.0.0.1",
            *("--processes", str(PROCESSES), "--state", str(folder / "state")),
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Storm:
    """
    Tasks and streams, and what became of them. Each task and each item appends its number to a file
    when it begins.
    """

    def __init__(self, queue: TaskQueue, path: str, tasks: int, streams: int) -> None:
        self.ended: Counter[str] = Counter()
        self.failed: set[int] = set()
        self.wrong: list[Any] = []
        self._queue = queue
        self._path = path
        self._tasks = tasks
        self._streams = streams
        self._waiting: list[Any] = []
        self._put = 0
        Path(path).touch()

    def putUntil(self, end: int) -> None:
        """
        Put the tasks up to a number, and the streams that lie among them.
        """
        share = self._tasks // self._streams
        for number in range(self._put, end):
            call = self._queue.call(wiretasks.note, self._path, number)
            call.addCallbacks(self._returned, self._failed, (number,), {}, (number,))
            self._waiting.append(call)
            if number % share == share // 2 and number // share < self._streams:
                first = self._tasks + number // share * ITEMS
                self._waiting.append(defer.ensureDeferred(self._take(first)))
        self._put = end

    def over(self) -> Any:
        """
        @return: a Deferred that fires when all that was put is over.
        """
        return defer.gatherResults(self._waiting)

    @property
    def count(self) -> int:
        return self.ended["done"] + self.ended["failed"]

    def _returned(self, result: Any, number: int) -> None:
        self.ended["done"] += 1
        if result != number:
            self.wrong.append((number, result))

    def _failed(self, failure: Any, number: int) -> None:
        self.ended["failed"] += 1
        self.failed.add(number)
        if not failure.check(ConnectionLost):
            self.wrong.append((number, failure.value))

    async def _take(self, first: int) -> None:
        taken: list[int] = []
        try:
            async for item in await self._queue.call(wiretasks.noted, self._path, ITEMS, first):
                taken.append(item)
        except ConnectionLost:
            self.ended["streams failed"] += 1
        else:
            self.ended["streams done"] += 1
            if len(taken) != ITEMS:
                self.wrong.append((first, len(taken)))
        if taken != list(range(first, first + len(taken))):
            self.wrong.append((first, taken))

    def outcome(self) -> dict[str, int]:
        """
        Count what became of everything.
        """
        begun = Counter(int(line) for line in Path(self._path).read_text().split())
        succeeded = set(range(self._tasks)) - self.failed
        streams = self.ended["streams done"] + self.ended["streams failed"]
        return {
            "done": self.ended["done"],
            "failed": self.ended["failed"],
            "failed unbegun": sum(not begun[number] for number in self.failed),
            "lost": sum(not begun[number] for number in succeeded),
            "twice": sum(times > 1 for times in begun.values()),
            "hung": self._tasks - self.count + self._streams - streams,
            "wrong": len(self.wrong),
            "streams done": self.ended["streams done"],
            "streams failed": self.ended["streams failed"],
        }


class LargeValueStorms(RemoteMixin, TestCase):
    timeout = 60.0

    async def test_largeValuesArriveWholeThroughCutsAndDeaths(self) -> None:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")  # noqa: T201
        chance = random.Random(seed)
        service = await self.serve(processes=2, keepBytes=1 << 20)
        proxy = await self.proxy()
        queue = TaskQueue(self.remote(), timeout=1.0)
        self.addCleanup(queue.shutdown)
        again = queue.options(idempotent=True, retries=50)
        await queue.call(abs, 1)
        wrong: list[int] = []

        async def call(number: int) -> None:
            size = chance.choice([10, 70_000, 200_000, 1_000_000])
            right: Any = wiretasks.noise(number, size)
            result: Any
            if number % 3 == 0:
                result = await again.call(wiretasks.noise, number, size)
            elif number % 3 == 1:
                result = await again.call(far.echo, right)
            else:
                right = wiretasks.text(size)
                result = await again.call(wiretasks.text, size)
            if result != right:
                wrong.append(number)

        calls = defer.gatherResults([defer.ensureDeferred(call(n)) for n in range(60)])
        cuts = 0
        while not calls.called:
            if proxy.cutAfter is None and cuts < 60:
                cuts += 1
                proxy.cutAfter = proxy.passed + chance.randrange(1, 400_000)
            pids = [session.pid for session in service.sessions if session.pid is not None]
            if pids and chance.random() < 0.02:
                os.kill(chance.choice(pids), signal.SIGKILL)
            await deferToDelay(0.003)
        await calls
        self.assertEqual(wrong, [])
        self.assertGreater(cuts, 10)


class WireStorms(TestCase):
    timeout = 590.0

    async def storm(self, cuts: int, kills: int, tasks: int, streams: int) -> dict[str, int]:
        """
        Cut the connections and kill the server at random moments, until all tasks and streams are
        over.
        """
        from twisted.internet import reactor

        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        folder = Path(os.path.abspath(self.mktemp()))
        folder.mkdir()
        server = KillableServer(folder)
        self.addCleanup(server.kill)
        proxy = FaultProxy(reactor, "127.0.0.1", server.port)
        port = await proxy.start()
        self.addCleanup(proxy.stop)
        queue = TaskQueue(RemoteWorker(f"tcp:127.0.0.1:{port}", folder / "key"), timeout=1.0)
        self.addCleanup(queue.shutdown)
        await queue.call(abs, 1)
        started = time.monotonic()
        storm = Storm(queue, str(folder / "begun"), tasks, streams)
        faults = ["cut"] * cuts + ["kill"] * kills
        chance.shuffle(faults)
        for number, fault in enumerate(faults, 1):
            # There is work left after each fault.
            ends = [tasks * part // (len(faults) + 1) for part in (number - 1, number)]
            storm.putUntil(ends[1])
            moment = chance.randrange(*ends)
            while storm.count < moment or proxy.cutAfter is not None:
                await deferToDelay(0.001)
            if fault == "cut":
                proxy.cutAfter = proxy.passed + chance.randrange(1, 10 * (ends[1] - ends[0]))
            else:
                server.kill()
                server.start()
        storm.putUntil(tasks)
        await storm.over()
        outcome = storm.outcome()
        seconds = time.monotonic() - started
        told = {"tasks": tasks, "streams": streams, "cuts": cuts, "kills": kills, **outcome}
        print(f"\nseed {seed}, {seconds:.1f} s")  # noqa: T201
        for name, count in told.items():
            print(f"    {name:15}{count:8}")  # noqa: T201
        self.assertIsNone(proxy.cutAfter)
        self.assertEqual(storm.wrong, [])
        self.assertEqual((outcome["lost"], outcome["twice"], outcome["hung"]), (0, 0, 0))
        return outcome

    async def checkCuts(self, cuts: int, tasks: int, streams: int) -> None:
        outcome = await self.storm(cuts, 0, tasks, streams)
        self.assertEqual((outcome["done"], outcome["streams done"]), (tasks, streams))

    async def checkKills(self, cuts: int, kills: int, tasks: int, streams: int) -> None:
        outcome = await self.storm(cuts, kills, tasks, streams)
        # A process says that a task begins before the task comes to its first line.
        self.assertLessEqual(outcome["failed unbegun"], kills * PROCESSES)

    async def test_aFewCuts(self) -> None:
        await self.checkCuts(10, 500, 3)

    async def test_aFewKills(self) -> None:
        await self.checkKills(5, 2, 500, 3)

    @pytest.mark.slow
    async def test_stormOfCuts(self) -> None:
        await self.checkCuts(200, 20_000, 50)

    @pytest.mark.slow
    async def test_stormOfKills(self) -> None:
        await self.checkKills(200, 20, 20_000, 50)
