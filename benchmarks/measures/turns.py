"""
How long the reactor's longest turn takes when very many things begin or end at once.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import thread_time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from asynqueue import ProcessQueue, ResizableDispatchQueue, TaskQueue, ThreadQueue
from asynqueue.errors import WorkerDied
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import runInReactor
from benchmarks.tasks import echo


class LongestTurn:
    """
    Measures the processor time of the reactor's thread, turn by turn.

    The time of the garbage collector does not count. It depends on how many objects the program
    has, and may fall into any turn.

    @ivar seconds: the time of the longest turn since L{begin}.
    """

    def __init__(self) -> None:
        from twisted.internet import reactor

        installed: Any = reactor
        self.reactor = installed
        self._thread = threading.get_ident()
        self._collecting = 0.0
        self._collected = 0.0
        self._turn = self.reactor.runUntilCurrent
        self.reactor.runUntilCurrent = self._turns
        gc.callbacks.append(self._collects)
        self.begin()

    def begin(self) -> None:
        """
        Begin to measure, in the middle of a turn.
        """
        self.seconds = 0.0
        self._began = self._time()

    def _time(self) -> float:
        return thread_time() - self._collected

    def _turns(self) -> None:
        now = self._time()
        self.seconds = max(self.seconds, now - self._began)
        self._began = now
        self._turn()

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._thread:
            return
        if phase == "start":
            self._collecting = thread_time()
        else:
            self._collected += thread_time() - self._collecting

    async def end(self) -> float:
        """
        Wait until this turn is over.

        @return: the milliseconds of the longest turn.
        """
        await deferLater(self.reactor, 0)
        await deferLater(self.reactor, 0)
        return self.seconds * 1000


Work = Callable[[int, LongestTurn], Coroutine[Deferred[Any], Any, float]]


def _run(work: Work, number: int) -> float:
    return runInReactor(lambda: work(number, LongestTurn()))


def threads(number: int) -> float:
    """
    @param number: of threads. They are started, run as many calls, and are shut down.
    @return: the milliseconds of the longest turn.
    """
    return _run(_threads, number)


async def _threads(number: int, longest: LongestTurn) -> float:
    # What is loaded once does not count.
    async with ThreadQueue(1) as queue:
        await queue.call(echo, 0)
    longest.begin()
    queue = ThreadQueue(number)
    await gatherResults([queue.call(echo, each) for each in range(number)])
    await queue.shutdown()
    return await longest.end()


def cancelled(number: int) -> float:
    """
    @param number: of calls that wait and are cancelled at once.
    @return: the milliseconds of the longest turn.
    """
    return _run(_cancelled, number)


async def _cancelled(number: int, longest: LongestTurn) -> float:
    queue = TaskQueue()
    fired = _Fired()
    for each in range(number):
        queue.call(echo, each).addErrback(fired.add)
    await deferLater(longest.reactor, 0)
    longest.begin()
    queue.cancelAll()
    await queue.shutdown()
    milliseconds = await longest.end()
    fired.check(number)
    return milliseconds


def cleared(number: int) -> float:
    """
    @param number: of jobs that wait and are cleared at once.
    @return: the milliseconds of the longest turn.
    """
    return _run(_cleared, number)


async def _cleared(number: int, longest: LongestTurn) -> float:
    queue, fired = await _filled(number, longest)
    queue.clearQueue()
    await queue.pause()
    milliseconds = await longest.end()
    fired.check(number)
    await queue.stop()
    return milliseconds


def stopped(number: int) -> float:
    """
    @param number: of jobs that wait in a dispatch queue that is stopped.
    @return: the milliseconds of the longest turn.
    """
    return _run(_stopped, number)


async def _stopped(number: int, longest: LongestTurn) -> float:
    queue, fired = await _filled(number, longest)
    await queue.stop()
    milliseconds = await longest.end()
    fired.check(number)
    return milliseconds


async def _filled(number: int, longest: LongestTurn) -> tuple[ResizableDispatchQueue, _Fired]:
    queue = ResizableDispatchQueue(echo)
    fired = _Fired()
    for each in range(number):
        queue.put(each).addErrback(fired.add)
    await deferLater(longest.reactor, 0)
    longest.begin()
    return queue, fired


def processes(number: int, areKilled: bool) -> float:
    """
    @param number: of processes.
    @param areKilled: whether to measure from when all of them are killed at once until others have
        taken their places. Otherwise, from when they are asked for until all are ready.
    @return: the milliseconds of the longest turn.
    """
    return runInReactor(lambda: _processes(number, areKilled, LongestTurn()))


async def _processes(number: int, areKilled: bool, longest: LongestTurn) -> float:
    async with ProcessQueue(1) as first:
        # The fork server starts with it.
        await first.call(echo, 0)
        longest.begin()
        async with ProcessQueue(number) as queue:
            pids = await queue.update(os.getpid, ephemeral=True)
            if areKilled:
                longest.begin()
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                await _replaced(queue, set(pids), longest)
            return await longest.end()


async def _replaced(queue: ProcessQueue, before: set[int], longest: LongestTurn) -> None:
    """
    Wait until other processes have taken the places of all that were there before.
    """
    pids = before
    while before & pids:
        await deferLater(longest.reactor, 0.01)
        with suppress(WorkerDied):
            # It is found out only by and by which processes have died.
            pids = set(await queue.update(os.getpid, ephemeral=True))


class _Fired:
    """
    Counts the Deferreds that have fired.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, failure: object) -> None:
        """
        Count one.
        """
        self.count += 1

    def check(self, number: int) -> None:
        """
        @raise ValueError: if not so many have fired.
        """
        if self.count != number:
            raise ValueError(f"of {number} Deferreds {self.count} have fired")


def _row(
    label: str, function: Callable[..., float], number: int, quick: int, **options: Any
) -> Row:
    return Row(
        f"the longest turn: {label}",
        "ms",
        Contender(
            f"ours, {label}",
            function,
            arguments={"number": number, **options},
            quick={"number": quick},
        ),
        target=Target(50, isLeast=False, isRatio=False),
    )


MEASURE = Measure(
    "turns",
    (
        _row("1,000 threads start, run a call each and stop", threads, 1_000, 50),
        _row("100,000 calls are cancelled", cancelled, 100_000, 5_000),
        _row("200,000 jobs are cleared", cleared, 200_000, 5_000),
        _row("a queue with 500,000 jobs is stopped", stopped, 500_000, 5_000),
        _row("40 processes start", processes, 40, 2, areKilled=False),
        _row("40 processes are killed", processes, 40, 2, areKilled=True),
    ),
)
