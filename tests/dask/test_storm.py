"""
A storm over a Dask cluster: Dask workers and schedulers are killed under many tasks.
"""

from __future__ import annotations

import sys

import pytest

from benchmarks.storms.cluster import DEADLINE, OURS, USUAL, goThrough, tableOf

SEED = 1


@pytest.mark.slow
@pytest.mark.timeout(DEADLINE + 60)
def test_noTaskRunsTwiceOrIsForgottenThoughWorkersAndSchedulersDie() -> None:
    kills, restarts, tasks = USUAL
    ours = goThrough(OURS, kills, restarts, tasks, SEED)
    sys.stdout.write(f"\n{tableOf({OURS: ours})}\n")
    assert (ours["kills"], ours["restarts"]) == (kills, restarts)
    assert (ours["wrong"], ours["twice"], ours["hung"]) == (0, 0, 0), ours
    assert ours["done"] + ours["failed"] == tasks
    assert set(ours["errors"]) == {"DaskWorkerDied"}
