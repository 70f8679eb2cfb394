"""
The Dask cluster of the tests.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from distributed import Client, LocalCluster

from asynqueue import DaskWorker
from asynqueue._workers.dask.far import processID

WORKERS = 2

_running: list[Any] = []
_killed: set[str] = set()


def start() -> None:
    """
    Start the cluster.
    """
    cluster = LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
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
    Wait until every Dask worker that was killed has been replaced.
    """
    begun = time.monotonic()
    isRenewed = False
    while len(found := addresses()) != WORKERS or not _killed.isdisjoint(found):
        waited = time.monotonic() - begun
        assert waited < 20.0, f"the cluster has only {found}"
        if waited > 4.0 and not isRenewed:
            # A nanny whose processes die soon after each other may start no other one.
            isRenewed = True
            scale(0)
            scale(WORKERS)
        time.sleep(0.02)


def scale(count: int) -> None:
    """
    Have another number of Dask workers, soon.
    """
    _running[0].scale(count)
