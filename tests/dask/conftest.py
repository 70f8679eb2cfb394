"""
One Dask cluster for all tests of this folder: two processes with one thread each, which listen on
the loopback interface only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.dask import cluster
from tests.support import leaks


@pytest.fixture(scope="session", autouse=True)
def _cluster(_openedOnce: None) -> Iterator[None]:
    before = leaks.takeSnapshot()
    cluster.start()
    yield
    cluster.stop()
    # Dask keeps some threads and descriptors for the next client.
    deadline = time.monotonic() + leaks.GRACE
    while (left := leaks.takeSnapshot().since(before)).processes:
        assert time.monotonic() < deadline, left.describe()
        time.sleep(leaks.POLL_SECONDS)


@pytest.fixture(autouse=True)
def _leavesNothing(_cluster: None) -> Iterator[None]:
    """
    Let a test leave processes, threads and descriptors to the cluster, which replaces its processes
    when they die and opens connections when it needs them. What is left of the cluster is looked at
    when it has ended.
    """
    yield
