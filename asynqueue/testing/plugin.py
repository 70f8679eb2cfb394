"""
The plugin for pytest: a queue for each test that wants one, and a look at what the test leaves.

C{docs/testing.rst} shows how to use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

_MARK: Final = "asynqueue_queue"

_KINDS: Final = ("synchronous", "process", "thread")

_STOP_SECONDS: Final = 5.0
"""How long a queue may take to shut down after a test."""


def pytest_configure(config: pytest.Config) -> None:
    """
    Describe the marker.
    """
    config.addinivalue_line(
        "markers",
        f"{_MARK}(kind, *args, **keywords): make the fixture's queue so: 'synchronous', 'process' "
        "or 'thread', with the arguments of SynchronousQueue, ProcessQueue or ThreadQueue",
    )


@pytest.fixture
def asynqueue_wait() -> Callable[..., Any]:
    """
    A function that runs the reactor until a Deferred fires or a coroutine ends, and returns the
    result or raises the failure: C{asynqueue_wait(queue.call(function), timeout=10)}. It raises
    C{AssertionError} after the timeout, in seconds.
    """
    return _wait


@pytest.fixture
def asynqueue_queue(request: pytest.FixtureRequest) -> Iterator[Any]:
    """
    A queue. By default it is a L{SynchronousQueue<asynqueue.testing.SynchronousQueue>}. The marker
    C{asynqueue_queue} or an indirect parameter says which other one it is to be.

    The queue is shut down after the test. The test fails if it leaves calls of this queue, or any
    other queue of the reactor that was not shut down.
    """
    from asynqueue._lifecycle import endingsOf
    from asynqueue._reactor import defaultReactor

    marker = request.node.get_closest_marker(_MARK)
    args, keywords = (marker.args, marker.kwargs) if marker is not None else ((), {})
    if hasattr(request, "param"):
        args = (request.param, *args[1:])
    reactor = defaultReactor()
    before = endingsOf(reactor)
    queue = _make(*args, **keywords)
    own = queue._ending
    yield queue
    left = []
    tasks = queue.tasks()
    if tasks:
        left.append(f"{queue!r}, with {', '.join(map(repr, tasks))}")
    others = [each for each in endingsOf(reactor) if each not in before and each is not own]
    left += [f"{each.owner!r}, which was not shut down" for each in others]
    for task in tasks:
        task.d.addErrback(lambda _: None)
    queue.cancelAll(underway=True)
    queue.timeout = _STOP_SECONDS
    _wait(queue.shutdown(), 2 * _STOP_SECONDS)
    for each in others:
        each.drain("its test is over")
        _wait(each.cut("its test is over"), 2 * _STOP_SECONDS)
    if left:
        pytest.fail("\n    ".join(["The test left behind:", *left]), pytrace=False)


def _make(kind: str = "synchronous", *args: Any, **keywords: Any) -> Any:
    if kind == "synchronous":
        from asynqueue.testing import SynchronousQueue

        return SynchronousQueue(*args, **keywords)
    from asynqueue import ProcessQueue, ThreadQueue

    if kind == "process":
        return ProcessQueue(*(args or (1,)), **keywords)
    if kind == "thread":
        return ThreadQueue(*args, **keywords)
    raise pytest.UsageError(f"the fixture {_MARK} makes {', '.join(_KINDS)}, but not {kind!r}")


def _wait(awaitable: Any, timeout: float = 30.0) -> Any:
    from inspect import iscoroutine

    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    reactor: Any = installed
    d: Deferred[Any] = Deferred.fromCoroutine(awaitable) if iscoroutine(awaitable) else awaitable
    outcome: list[Any] = []
    d.addBoth(outcome.append)
    if not outcome:
        if reactor.running:
            raise RuntimeError("the reactor is running already: await the Deferred instead")
        late = reactor.callLater(timeout, reactor.crash)
        d.addBoth(lambda _: reactor.crash())
        # As trial does for each of its tests. The reactor can be run again after this.
        reactor.run(installSignalHandlers=False)
        if late.active():
            late.cancel()
    if not outcome:
        raise AssertionError(f"{d!r} has not fired within {timeout} seconds")
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]
