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


def pids() -> list[int]:
    """
    Return the processes of the Dask workers.
    """
    return list(client().run(processID).values())


def killAll() -> None:
    """
    Kill every Dask worker.
    """
    for pid in pids():
        os.kill(pid, signal.SIGKILL)


def untilComplete() -> None:
    """
    Wait until no Dask worker is missing.
    """
    deadline = time.monotonic() + 30.0
    client().wait_for_workers(WORKERS, timeout=30)
    while len(client().nthreads()) != WORKERS and time.monotonic() < deadline:
        time.sleep(0.05)
