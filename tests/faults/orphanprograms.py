"""
Programs whose worker processes are not to outlive them. Run as
C{python -m tests.faults.orphanprograms NAME START_METHOD [fork]}.
"""

from __future__ import annotations

import os
import signal
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from asynqueue import Delay, ProcessQueue
from asynqueue._workers import restart as healing
from asynqueue._workers.launch import startContext
from asynqueue.errors import WorkerStartError
from tests.faults.programs import occupy, tell
from tests.integration import tasks
from tests.support.processes import areGone


async def stay(method: str, *options: str) -> None:
    """
    Run until somebody ends it. The processes are busy, deaf and idle, each with children that a
    task has left. Tell the IDs of all that are not to outlive this program, then that of what may.
    """
    queue = ProcessQueue(3, context=startContext(method))
    pids = await queue.update(os.getpid, ephemeral=True)
    for left in await queue.update(tasks.leaveChildren, ephemeral=True):
        pids += left
    await occupy(queue)
    fork = 0
    if "fork" in options:
        fork = os.fork()
        if not fork:
            # It has all open that this program has.
            signal.pause()
    tell([pids, fork])
    await Deferred()


async def goOn(queue: ProcessQueue) -> None:
    """
    Tell what becomes of a call, when the processes that were there have ended, and of a shutdown.
    """
    before = [worker.process.pid for worker in queue.workers()]
    # Those that the fork server had yet to start belong to this program, and go on.
    await Delay().untilEvent(
        lambda: areGone(before) or all(worker.state == "READY" for worker in queue.workers())
    )
    try:
        tell(await queue.options(idempotent=True).call(abs, -1))
    except WorkerStartError as error:
        tell(str(error))
    await queue.shutdown()
    tell("shut down")


def run(name: str, method: str, *options: str) -> None:
    """
    Run one of them.
    """
    if name == "stay":
        react(lambda reactor: Deferred.fromCoroutine(stay(method, *options)))
        return
    # It is to give up soon.
    healing.FIRST_DELAY = 0.001  # type: ignore[misc]
    healing.LONGEST_DELAY = 0.01  # type: ignore[misc]
    # As a daemon begins that is not careful.
    queue = ProcessQueue(2, context=startContext(method))
    # Have the processes started, which otherwise happens in the reactor's first turns.
    pids = [worker.process.pid for worker in queue.workers()]
    assert all(pids)
    if os.fork():
        os._exit(0)
    react(lambda reactor: Deferred.fromCoroutine(goOn(queue)))


if __name__ == "__main__":
    run(*sys.argv[1:])
