"""
Programs whose worker processes are not to outlive them, whichever way they were started.
"""

from __future__ import annotations

import os
import signal

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from asynqueue import Delay, ProcessQueue
from asynqueue._workers import restart as healing
from asynqueue.errors import WorkerStartError
from tests.faults.programs import makeQueues, occupy, tell
from tests.integration import tasks
from tests.support.processes import areGone


async def stay(*options: str) -> None:
    """
    Run until somebody ends it. The processes are busy, deaf and idle, each with children that a
    task has left. Tell the IDs of all that are not to outlive this program, then that of what may.
    """
    queues = makeQueues(3)
    pids: list[int] = []
    for queue in queues:
        pids += await queue.update(os.getpid, ephemeral=True)
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


async def goOn(queues: list[ProcessQueue]) -> None:
    """
    Tell what becomes of a call of each queue, when the processes that were there have ended, and of
    a shutdown.
    """
    before = [[worker.process.pid for worker in queue.workers()] for queue in queues]
    for queue, pids in zip(queues, before, strict=True):
        # Those that the fork server had yet to start belong to this program, and go on.
        await Delay().untilEvent(_haveEndedOrGoOn, queue, pids)
        try:
            tell(await queue.options(idempotent=True).call(abs, -1))
        except WorkerStartError as error:
            tell(str(error))
        await queue.shutdown()
        tell("shut down")


def _haveEndedOrGoOn(queue: ProcessQueue, pids: list[int]) -> bool:
    return areGone(pids) or all(worker.state == "READY" for worker in queue.workers())


def main(name: str, *options: str) -> None:
    """
    Run one of them.
    """
    if name == "stay":
        react(lambda reactor: Deferred.fromCoroutine(stay(*options)))
        return
    # It is to give up soon.
    healing.FIRST_DELAY = 0.001  # type: ignore[misc]
    healing.LONGEST_DELAY = 0.01  # type: ignore[misc]
    # As a daemon begins that is not careful.
    queues = makeQueues(2)
    # Have the processes started, which otherwise happens in the reactor's first turns.
    assert all(worker.process.pid for queue in queues for worker in queue.workers())
    if os.fork():
        os._exit(0)
    react(lambda reactor: Deferred.fromCoroutine(goOn(queues)))
