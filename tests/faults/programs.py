"""
Small programs that are killed, interrupted or left alone while they have worker processes. Run as
C{python -m tests.faults.programs NAME START_METHOD}.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import react
from twisted.python.failure import Failure

from asynqueue import Delay, ProcessQueue
from asynqueue.testing import far
from asynqueue.workers.process.launch import startContext
from tests.integration import tasks


def tell(what: Any) -> None:
    """
    Say something to whoever started this program.
    """
    print(json.dumps(what), flush=True)  # noqa: T201


def outcomeOf(d: Deferred[Any]) -> list[str]:
    """
    @return: a list that gets, as texts, what the Deferred fires with.
    """
    outcomes: list[str] = []

    def note(result: object) -> None:
        name = type(result.value).__name__ if isinstance(result, Failure) else repr(result)
        outcomes.append(name)

    d.addBoth(note)
    return outcomes


@inlineCallbacks
def startWorkers(
    method: str,
) -> Generator[Deferred[Any], Any, tuple[ProcessQueue, list[list[str]]]]:
    """
    Start a process that sleeps, one that never looks at a signal, and one that is idle; tell their
    IDs; and put a call that waits.

    @return: a Deferred of the queue, and of a list for the outcomes of each call.
    """
    queue = ProcessQueue(3, context=startContext(method))
    pids = yield queue.update(os.getpid, ephemeral=True)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for function in (tasks.sleepAwhile, tasks.hangInC):
            path = Path(folder, function.__name__)
            outcomes.append(outcomeOf(queue.call(tasks.touchAnd, str(path), function)))
            yield Delay().untilEvent(path.exists)
    outcomes.append(outcomeOf(queue.call(far.echo, 1, series="nobody's")))
    tell(pids)
    return queue, outcomes


def stay(method: str) -> None:
    """
    Run until somebody ends it.
    """

    @inlineCallbacks
    def main(_: Any) -> Generator[Deferred[Any], Any, None]:
        yield startWorkers(method)
        yield Deferred()

    react(main)


def stopReactor(method: str) -> None:
    """
    Stop the reactor with everything underway, and tell what became of the calls.
    """
    from twisted.internet import reactor

    everything: list[list[str]] = []

    def stop(result: tuple[ProcessQueue, list[list[str]]]) -> None:
        everything.extend(result[1])
        reactor.stop()

    startWorkers(method).addCallback(stop)
    reactor.run()
    tell(everything)


def end(method: str) -> None:
    """
    End with calls pending, and without the reactor ever having run.
    """
    queue = ProcessQueue(2, context=startContext(method))
    for _ in range(10):
        queue.call(tasks.sleepAwhile)
    tell([worker.process.pid for worker in queue.workers()])


PROGRAMS: dict[str, Callable[[str], None]] = {
    "stay": stay,
    "stopReactor": stopReactor,
    "end": end,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](sys.argv[2])
