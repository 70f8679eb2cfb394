"""
A program that makes all kinds of calls under a reactor and with a start method of one's choice.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from collections.abc import Generator
from typing import Any

import psutil
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import react

from asynqueue import Delay, ListConsumer, ProcessQueue
from asynqueue._workers.launch import startContext
from asynqueue.errors import WorkerDied
from asynqueue.testing import far
from tests.integration import tasks


def failed(d: Deferred[Any], kind: type[Exception]) -> Deferred[str]:
    """
    @return: a Deferred of the name of the exception with which another one is to fail.
    """
    return d.addCallbacks(repr, lambda failure: failure.trap(kind).__name__)


@inlineCallbacks
def makeCalls(method: str) -> Generator[Deferred[Any], Any, dict[str, Any]]:
    """
    @return: a Deferred of what came of each kind of call.
    """
    results: dict[str, Any] = {}
    queue = ProcessQueue(2, context=startContext(method))
    yield queue.update(tasks.remember, "kept")
    results["values"] = yield gatherResults([queue.call(far.square, n) for n in range(500)])
    results["error"] = yield failed(queue.call(far.reciprocal, 0), ZeroDivisionError)
    consumer = ListConsumer()
    yield queue.call(far.numbers, 20_000, consumer=consumer)
    items = yield consumer()
    results["items"] = items == list(range(20_000))
    data = os.urandom(1 << 10) * (8 << 10)
    back = yield queue.call(far.echo, data)
    results["big"] = back == data

    sleeping = queue.call(time.sleep, tasks.AWHILE)
    yield Delay()(0.05)
    sleeping.cancel()
    results["cancelled"] = yield failed(sleeping, CancelledError)

    results["died"] = yield failed(queue.call(tasks.killSelf), WorkerDied)
    pids = yield queue.update(os.getpid, ephemeral=True)
    os.kill(pids[0], signal.SIGKILL)
    notes = yield queue.update(tasks.remembered, ephemeral=True)
    results["remembered"] = [values for _, values in notes]
    yield queue.resize(1)
    yield queue.shutdown()
    results["gone"] = not any(map(psutil.pid_exists, pids))
    return results


def main(reactorName: str, method: str) -> None:
    """
    Install the reactor, make the calls, and tell what came of them.
    """
    importlib.import_module(f"twisted.internet.{reactorName}reactor").install()
    from twisted.internet import reactor

    @inlineCallbacks
    def run(_: Any) -> Generator[Deferred[Any], Any, None]:
        results = yield makeCalls(method)
        results["reactor"] = type(reactor).__name__
        print(json.dumps(results), flush=True)  # noqa: T201

    react(run)
