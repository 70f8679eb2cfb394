"""
The Dask cluster of the tests.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.core import Status

from asynqueue import DaskWorker
from asynqueue._workers.dask.far import processID

WORKERS = 2

PATIENCE = 25.0
"""How many seconds the cluster may take to become what it should be."""

REPLACED_WITHIN = 8.0
"""How many seconds a nanny may take to replace its process. If that dies in the middle of a start,
the nanny may wait for ever."""

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
    _killed.clear()


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
    Kill some Dask workers, which their nannies replace.
    """
    # A nanny gives up if its process dies after the scheduler knows it, and before the nanny does.
    _await(lambda: _started().issuperset(addresses), "the nannies know their processes")
    _killed.update(addresses)
    for pid in client().run(processID, workers=list(addresses)).values():
        os.kill(pid, signal.SIGKILL)


def _nannies() -> list[Any]:
    return list(_running[0].workers.values())


def _started() -> set[str]:
    """
    Return the addresses of the Dask workers whose nannies will replace them.
    """
    # Read in this order, because the nanny forgets its process when that dies.
    return {
        nanny.worker_address
        for nanny in _nannies()
        if (process := nanny.process) is not None and process.status == Status.running
    }


def _await(isSo: Callable[[], bool], what: str) -> None:
    assert _becomesSo(isSo, PATIENCE), f"this took more than {PATIENCE:g} seconds: {what}"


def _becomesSo(isSo: Callable[[], bool], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not isSo():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def killBusy() -> None:
    """
    Kill the Dask workers that have a task; one, if none has.
    """
    busy = [address for address, keys in client().processing().items() if keys]
    kill(*(busy or sorted(addresses())[:1]))


def restartBusy() -> None:
    """
    Restart the Dask workers that have a task.
    """
    _await(lambda: _started() == addresses(), "the nannies know their processes")
    busy = [address for address, keys in client().processing().items() if keys]
    _killed.update(busy)
    client().restart_workers(busy)


def untilComplete() -> None:
    """
    Wait until every Dask worker that was killed has been replaced. Call this before a test.
    """

    def isComplete() -> bool:
        gaveUp = (Status.closing, Status.closed, Status.failed)
        if any(nanny.status in gaveUp for nanny in _nannies()):
            # A test's call has killed its process before the nanny knew it.
            stop()
            start()
        found = addresses()
        return len(found) == WORKERS and _killed.isdisjoint(found) and found == _started()

    if not _becomesSo(isComplete, REPLACED_WITHIN):
        stop()
        start()
        _await(isComplete, "there are as many Dask workers as there should be")


def scale(count: int) -> None:
    """
    Have another number of Dask workers, soon.
    """
    _running[0].scale(count)
