"""
A storm over a Dask cluster: Dask workers and schedulers are killed under many tasks.
"""

from __future__ import annotations

import sys

import pytest

from benchmarks.storms.cluster import CONTENDERS, OURS, USUAL, goThrough, tableOf

SEED = 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_noTaskRunsTwiceOrIsForgottenThoughWorkersAndSchedulersDie() -> None:
    kills, restarts, tasks = USUAL
    outcomes = {name: goThrough(name, kills, restarts, tasks, SEED) for name in CONTENDERS}
    sys.stdout.write(f"\n{tableOf(outcomes)}\n")
    ours = outcomes[OURS]
    assert (ours["kills"], ours["restarts"]) == (kills, restarts)
    assert (ours["wrong"], ours["twice"], ours["hung"]) == (0, 0, 0), ours
    assert ours["done"] + ours["failed"] == tasks
    assert set(ours["errors"]) == {"DaskWorkerDied"}
