"""
A storm over one contender.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any, ClassVar, Final

import psutil

from benchmarks.bounded import Teller
from benchmarks.pools import POOLS, AnyFuture, AsynQueuePool, Pool
from benchmarks.storms.killer import Killer
from benchmarks.storms.ledger import Ledger, step

PROCESSES = 4

SECONDS = 0.001
"""How long a task sleeps."""

PATIENCE = 10.0
"""Seconds after which, nothing having come back, what has not is hung."""

CALM = 3.0
"""How many seconds a pool has for getting back to what it was, before its leaks are counted."""

OUTCOME = "outcome"
"""The fact."""


class _IdempotentPool(AsynQueuePool):
    """
    Runs again what a process has died with.
    """

    options: ClassVar[dict[str, Any]] = {"idempotent": True}


IDEMPOTENT: Final = "asynqueue, idempotent"
CONTENDERS: Final[dict[str, type[Pool]]] = {**POOLS, IDEMPOTENT: _IdempotentPool}
"""All pools of the comparison, and one that tests alone go through a storm with."""


def run(contender: str, kills: int, tasks: int, seed: int, folder: str) -> float:
    """
    Go through a storm, and tell what became of everything.

    @param folder: an empty one to use.
    @return: nothing of interest.
    """
    storm = _Storm(kills, tasks, seed, folder)
    CONTENDERS[contender].use(PROCESSES, storm.script)
    return 0.0


class _Storm:
    def __init__(self, kills: int, tasks: int, seed: int, folder: str) -> None:
        self._kills = kills
        self._tasks = tasks
        self._seed = seed
        self._folder = Path(folder)
        self._pool: Any = None
        self._returned = 0
        self._lock = threading.Lock()

    def script(self, pool: Pool) -> None:
        self._pool = pool
        self._warmUp()
        ledger = Ledger(str(self._folder / "ledger"))
        before = _possessions()
        killer = Killer(self._folder, ledger, self._kills, self._tasks, self._seed)
        started = time.perf_counter()
        futures = [self._put(ledger.path, number) for number in range(self._tasks)]
        self._awaitAll()
        seconds = time.perf_counter() - started
        kills = killer.stop()
        outcome = tally(futures, ledger.runs())
        after = _calmPossessions(before)
        growth = {name: after[name] - number for name, number in before.items()}
        teller = Teller(str(self._folder))
        teller.tell(OUTCOME, {"kills": kills, "seconds": seconds, **outcome, "growth": growth})

    def _warmUp(self) -> None:
        warm = Ledger(str(self._folder / "warm"))
        futures = [self._pool.submit(step, warm.path, n, 0.05) for n in range(4 * PROCESSES)]
        if wait(futures, timeout=PATIENCE).not_done:
            raise RuntimeError("the pool does not even begin to work")

    def _put(self, path: str, number: int) -> AnyFuture:
        future: AnyFuture = self._pool.submit(step, path, number, SECONDS)
        future.add_done_callback(self._count)
        return future

    def _count(self, future: AnyFuture) -> None:
        with self._lock:
            self._returned += 1

    def _awaitAll(self) -> None:
        """
        Wait until all are back, or none has come for long.
        """
        seen, limit = -1, 0.0
        while self._returned < self._tasks:
            if self._returned != seen:
                seen, limit = self._returned, time.monotonic() + PATIENCE
            elif time.monotonic() > limit:
                return
            time.sleep(0.01)


def tally(futures: list[AnyFuture], runs: Counter[int]) -> dict[str, Any]:
    """
    Tell how the tasks ended. A task's number is its place in the list. One that the pool has
    cancelled has failed.
    """
    errors = {n: _errorOf(future) for n, future in enumerate(futures) if future.done()}
    failed = {n: error for n, error in errors.items() if error is not None}
    done = [n for n, future in enumerate(futures) if future.done() and n not in failed]
    wrong = [n for n in done if futures[n].result() != n or not runs[n]]
    return {
        "done": len(done) - len(wrong),
        "wrong": len(wrong),
        "failed": len(failed),
        "failedUnbegun": sum(not runs[n] for n in failed),
        "failedRuns": {str(times): n for times, n in Counter(runs[n] for n in failed).items()},
        "failedTogether": max(Counter(map(_processOf, failed.values())).values(), default=0),
        "twice": sum(times > 1 for times in runs.values()),
        "most": max(runs.values(), default=0),
        "hung": sum(not future.done() for future in futures),
        "errors": dict(Counter(type(error).__name__ for error in failed.values())),
    }


def _processOf(error: BaseException | None) -> int:
    """
    The ID of the process that has died with a task, if that is told, or else of none.
    """
    pid = getattr(error, "pid", None)
    return -id(error) if pid is None else int(pid)


def _errorOf(future: AnyFuture) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _possessions() -> dict[str, int]:
    """
    Count what this program could leak.
    """
    this = psutil.Process()
    return {
        "files": this.num_fds(),
        "processes": len(this.children(recursive=True)),
        "threads": this.num_threads(),
    }


def _calmPossessions(before: dict[str, int]) -> dict[str, int]:
    """
    The same as soon as it is what it was, or later.
    """
    limit = time.monotonic() + CALM
    while (now := _possessions()) != before and time.monotonic() < limit:
        time.sleep(0.05)
    return now
