"""
What holds for every test.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

import pytest
from hypothesis import HealthCheck, settings

from asynqueue import _reactor
from tests.support import leaks
from tests.support.processes import REACTOR, preloaded

DASK = Path(__file__).parent / "dask"

# pytest has its own process show its stacks on a fatal signal; this asks worker processes for it.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")

# The programs that tests start import the same modules hundreds of times. They are to be compiled
# once, as where make runs the tests, which does not pass this variable on.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No clock decides a test: neither a deadline nor a measure of how fast examples are drawn.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """
    Leave the tests of Dask out, unless they are asked for by their folder. Dask changes how a
    process pickles exceptions, collects garbage and starts threads, from its import on, so they run
    in processes of their own: the Makefile asks for them apart from the others.
    """
    if collection_path == DASK and not any("dask" in argument for argument in config.args):
        return True
    return None


@pytest.fixture(scope="session", autouse=True)
def _openedOnce() -> None:
    """
    Have the reactor open what it keeps, and orphans be seen, before the first test is looked after.
    """
    leaks.adoptOrphans()
    leaks.keepReaper()
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


@pytest.fixture(scope="module", autouse=True)
def _onlyNewsAreCollected() -> None:
    """
    Keep garbage collections from looking at what was there before the tests of a module: all
    modules, tests and reports. That takes much longer than to look at what one test makes.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _leavesNothing(_openedOnce: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """
    A test that leaves a process, a thread, a file descriptor or a delayed call behind has failed.
    """
    before = leaks.takeSnapshot()
    yield
    left = leaks.leftSince(before, leaks.GRACE)
    if isinstance(request.instance, TestCase):
        # It was made before L{_onlyNewsAreCollected}, so it is never collected.
        vars(request.instance).clear()
    if left:
        lines = left.describe()
        left.clear()
        pytest.fail("\n    ".join(["The test left behind:", *lines]), pytrace=False)


@pytest.fixture(scope="class")
def preloadedReactor() -> Iterator[None]:
    """
    Have what a worker process with a reactor loads be loaded once for the tests of a class, whose
    queues have C{preload=REACTOR}.
    """
    with preloaded(REACTOR):
        yield
