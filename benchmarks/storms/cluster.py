"""
A storm over a Dask cluster: Dask workers are killed, and the scheduler dies and is started again,
with asynqueue's C{DaskWorker} and with Dask's client alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.bounded import Teller, runTelling
from benchmarks.comparison import Asked, Comparison, Tell
from benchmarks.parts import runInReactor
from benchmarks.pools import AnyFuture, AsynQueuePool
from benchmarks.rounds import BenchmarkBroken
from benchmarks.storms.ledger import Ledger, step
from benchmarks.storms.trial import OUTCOME, tally
from benchmarks.table import layOut

WORKERS: Final = 4

SECONDS: Final = 0.01
"""How long a task sleeps."""

RECENT: Final = 40
"""One of the Dask workers in which so many runs began last is killed."""

PATIENCE: Final = 45.0
"""Seconds after which, nothing having come back, what has not is hung. Dask takes 30 to see that a
worker is gone if its connection was not closed."""

DEADLINE: Final = 400.0
"""How many seconds a contender has."""

USUAL, QUICK = (50, 3, 5_000), (4, 1, 400)
"""How many kills and restarts, over how many tasks."""

OURS: Final = "asynqueue"
ALONE: Final = "Dask alone"
UNRESTARTED: Final = "Dask alone, without restarts"
CONTENDERS: Final = (OURS, ALONE, UNRESTARTED)

HEADER: Final = (
    *("contender", "kills", "restarts", "done", "wrong"),
    *("failed", "lost", "run twice", "hung", "seconds"),
)
COLUMNS: Final = ("done", "wrong", "failed", "failedUnbegun", "twice", "hung")

LEGEND: Final = """\
  failed     has an error, also those that are lost
  lost       failed before its first line, in which it notes that it began
  hung       neither done nor failed, though nothing else came back for long"""


class Ground:
    """
    A scheduler and Dask workers. Each is a program of its own, which is started again when it was
    killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Nobody else gets the port while no scheduler runs. Who reuses addresses may listen there.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self._port = self._held.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._scheduler = self._startScheduler()
        self._workers = [self._startWorker() for _ in range(WORKERS)]

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        dask = os.path.join(os.path.dirname(sys.executable), "dask")
        command = [dask, *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _startScheduler(self) -> subprocess.Popen[bytes]:
        return self._start("scheduler", "--port", str(self._port))

    def _startWorker(self) -> subprocess.Popen[bytes]:
        where = str(self._folder)
        return self._start(
            *("worker", self.address, "--no-nanny", "--nthreads", "1", "--local-directory", where)
        )

    def killOne(self, candidates: list[int]) -> bool:
        """
        Kill one of the Dask workers that have these processes, if one lives, and start another.
        """
        for place, worker in enumerate(self._workers):
            if worker.pid in candidates and worker.poll() is None:
                worker.kill()
                worker.wait()
                self._workers[place] = self._startWorker()
                return True
        return False

    def restartScheduler(self) -> None:
        """
        Kill the scheduler, and start another one at its address. Dask workers do not survive that,
        so others are started.
        """
        self._scheduler.kill()
        self._scheduler.wait()
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            worker.wait()
        self._scheduler = self._startScheduler()
        self._workers = [self._startWorker() for _ in range(WORKERS)]


class Storm(threading.Thread):
    """
    Kills and restarts at chosen moments, which are numbers of runs that have begun.

    @ivar kills: how many Dask workers were killed.
    @ivar restarts: how often the scheduler was.
    """

    def __init__(
        self, ground: Ground, ledger: Ledger, kills: int, restarts: int, tasks: int, seed: int
    ) -> None:
        super().__init__(daemon=True)
        self.kills = self.restarts = 0
        self._ground = ground
        self._ledger = ledger
        self._random = Random(seed)
        self._moments = sorted(self._random.sample(range(1, tasks * 9 // 10), kills + restarts))
        self._restarting = set(self._random.sample(self._moments, restarts))
        self._over = threading.Event()

    def run(self) -> None:
        """
        Go through all moments.
        """
        for moment in self._moments:
            while self._ledger.length() < moment or not self._strike(moment):
                if self._over.wait(0.002):
                    return

    def _strike(self, moment: int) -> bool:
        if moment in self._restarting:
            self._ground.restartScheduler()
            self.restarts += 1
            return True
        candidates = self._ledger.latestProcesses(RECENT)
        self._random.shuffle(candidates)
        if self._ground.killOne(candidates):
            self.kills += 1
            return True
        return False

    def end(self) -> None:
        """
        Strike no more.
        """
        self._over.set()
        self.join()


class _QueuePool(AsynQueuePool):
    """
    Calls through a queue with a C{DaskWorker}.
    """

    def __init__(self, address: str) -> None:
        from twisted.internet import reactor

        from asynqueue import DaskWorker, TaskQueue

        self._reactor: Any = reactor
        self._queue: Any = TaskQueue(DaskWorker(address))


def run(contender: str, kills: int, restarts: int, tasks: int, seed: int, folder: str) -> float:
    """
    Go through a storm, and tell what became of everything.

    @param folder: an empty one to use.
    @return: nothing of interest.
    """
    ground = Ground(Path(folder))

    def script(submit: Callable[..., AnyFuture]) -> None:
        warm = Ledger(str(Path(folder, "warm")))
        submit(step, warm.path, 0, SECONDS).result(60.0)
        ledger = Ledger(str(Path(folder, "ledger")))
        storm = Storm(ground, ledger, kills, restarts, tasks, seed)
        storm.start()
        started = time.perf_counter()
        futures = [submit(step, ledger.path, number, SECONDS) for number in range(tasks)]
        _awaitAll(futures)
        seconds = time.perf_counter() - started
        storm.end()
        told = {"kills": storm.kills, "restarts": storm.restarts, "seconds": seconds}
        Teller(folder).tell(OUTCOME, {**told, **tally(futures, ledger.runs())})

    if contender == OURS:

        async def work() -> float:
            from twisted.internet.threads import deferToThread

            await deferToThread(script, _QueuePool(ground.address).submit)
            return 0.0

        return runInReactor(work)
    from distributed import Client

    client = Client(ground.address, set_as_default=False, timeout=60)
    script(client.get_executor(pure=False).submit)
    return 0.0


def _awaitAll(futures: list[AnyFuture]) -> None:
    """
    Wait until all are back, or none has come for long.
    """
    seen, limit = -1, 0.0
    while (returned := sum(future.done() for future in futures)) < len(futures):
        if returned != seen:
            seen, limit = returned, time.monotonic() + PATIENCE
        elif time.monotonic() > limit:
            return
        time.sleep(0.05)


def goThrough(contender: str, kills: int, restarts: int, tasks: int, seed: int) -> dict[str, Any]:
    """
    @param contender: one of L{CONTENDERS}.
    @return: what became of everything.
    @raise BenchmarkBroken: if that was not told in time.
    """
    arguments = {
        "contender": contender,
        "kills": kills,
        "restarts": 0 if contender == UNRESTARTED else restarts,
        "tasks": tasks,
        "seed": seed,
    }
    told = runTelling(__name__, "run", arguments, OUTCOME, DEADLINE)
    if OUTCOME not in told.facts:
        ended = f"ended with status {told.status}" if told.isEnded else f"took over {DEADLINE} s"
        raise BenchmarkBroken(f"{contender}, seed {seed}, {ended}\n{told.complaint}")
    outcome: dict[str, Any] = told.facts[OUTCOME]
    return outcome


def tableOf(outcomes: dict[str, dict[str, Any]]) -> str:
    """
    @param outcomes: by contender.
    """
    lines = []
    for name, outcome in outcomes.items():
        figures = [f"{outcome[column]:,}" for column in ("kills", "restarts", *COLUMNS)]
        lines.append((name, *figures, f"{outcome['seconds']:.0f}"))
    return layOut(lines, HEADER)


def runAll(asked: Asked, tell: Tell) -> tuple[dict[str, Any], str]:
    """
    See L{Comparison}.

    @raise BenchmarkBroken: if a contender tells nothing in time.
    """
    kills, restarts, tasks = QUICK if asked.isQuick else USUAL
    outcomes = {}
    for name in CONTENDERS:
        outcomes[name] = goThrough(name, kills, restarts, tasks, asked.seed)
        tell(f"dask storm: {name}: {outcomes[name]}")
    record = {"kills": kills, "restarts": restarts, "tasks": tasks, "seed": asked.seed}
    title = (
        f"{kills} SIGKILLs of Dask workers and {restarts} of the scheduler over {tasks:,} tasks "
        f"of {SECONDS * 1000:.0f} ms on {WORKERS} Dask workers, seed {asked.seed}"
    )
    return {**record, "outcomes": outcomes}, "\n".join([title, tableOf(outcomes), LEGEND])


COMPARISON = Comparison(
    "daskcluster",
    f"SIGKILLs of {USUAL[0]} Dask workers and {USUAL[1]} schedulers under {USUAL[2]:,} short "
    "tasks, with a DaskWorker and with Dask alone",
    runAll,
)
