"""
What holds for every test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from asynqueue import _reactor
from tests.support import leaks

# pytest has its own process show its stacks on a fatal signal; this asks worker processes for it.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")

# No clock decides a test: neither a deadline nor a measure of how fast examples are drawn.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Put the tests of Dask last. Dask changes how this process pickles exceptions, collects garbage
    and starts threads, and its cluster lives until the end.
    """
    items.sort(key=lambda item: "dask" in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def _openedOnce() -> None:
    """
    Have the reactor open what it keeps, and orphans be seen, before the first test is looked after.
    """
    leaks.adoptOrphans()
    _reactor.defaultReactor()


@pytest.fixture(scope="session", autouse=True)
def _clocksLookOften() -> Iterator[None]:
    """
    Have the thread of a steady clock end soon. Otherwise L{_leavesNothing} waits up to a second for
    it after every test that has set a timeout.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_reactor, "WATCH_SECONDS", 0.05)
        yield


@pytest.fixture(autouse=True)
def _leavesNothing(_openedOnce: None) -> Iterator[None]:
    """
    A test that leaves a process, a thread, a file descriptor or a delayed call behind has failed.
    """
    before = leaks.takeSnapshot()
    yield
    left = leaks.leftSince(before, leaks.GRACE)
    if left:
        lines = left.describe()
        left.clear()
        pytest.fail("\n    ".join(["The test left behind:", *lines]), pytrace=False)
