"""
The Dask cluster of the tests.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from distributed import Client, Nanny, Scheduler, SpecCluster

from asynqueue import DaskWorker
from asynqueue._workers.dask.far import processID

WORKERS = 2

_running: list[Any] = []
_killed: set[str] = set()


def start() -> None:
    """
    Start the cluster.
    """
    # Without names: a process that takes a dead one's place so soon that the scheduler still knows
    # the dead one would be refused for its name, and the nanny would give up.
    options = {"nthreads": 1, "host": "127.0.0.1", "name": None, "dashboard": False}
    worker = {"cls": Nanny, "options": options}
    cluster = SpecCluster(
        scheduler={
            "cls": Scheduler,
            "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
        },
        worker=worker,
        workers=dict.fromkeys(range(WORKERS), worker),
    )
    _running[:] = [cluster, Client(cluster, set_as_default=False)]


def stop() -> None:
    """
    Stop it.
    """
    cluster, client = _running
    client.close()
    cluster.close()
    _running.clear()


def client() -> Any:
    """
    Return its client.
    """
    return _running[1]


def worker(**options: Any) -> DaskWorker:
    """
    Return a new worker that uses the cluster.
    """
    return DaskWorker(client(), **options)


def addresses() -> set[str]:
    """
    Return the addresses of the Dask workers.
    """
    return set(client().nthreads())


def pids() -> list[int]:
    """
    Return the processes of the Dask workers.
    """
    return list(client().run(processID).values())


def kill(*addresses: str) -> None:
    """
    Kill some Dask workers.
    """
    _killed.update(addresses)
    for pid in client().run(processID, workers=list(addresses)).values():
        os.kill(pid, signal.SIGKILL)


def killBusy() -> None:
    """
    Kill the Dask workers that have a task; one, if none has.
    """
    busy = [address for address, keys in client().processing().items() if keys]
    kill(*(busy or sorted(addresses())[:1]))


def untilComplete() -> None:
    """
    Wait until every Dask worker that was killed has been replaced. Call this before a test.
    """
    begun = time.monotonic()
    while len(found := addresses()) != WORKERS or not _killed.isdisjoint(found):
        if time.monotonic() - begun > 5.0:
            # Under load a nanny may start no other process, or the scheduler may not see a death.
            stop()
            start()
            return
        time.sleep(0.02)


def scale(count: int) -> None:
    """
    Have another number of Dask workers, soon.
    """
    _running[0].scale(count)
