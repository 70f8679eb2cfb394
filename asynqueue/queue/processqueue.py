"""
A queue with worker processes of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from asynqueue.queue.ownworkers import OwnWorkersQueue
from asynqueue.workers.process.worker import ProcessWorker


class ProcessQueue(OwnWorkersQueue):
    """
    A L{TaskQueue} with some L{ProcessWorker}s::

        async with ProcessQueue(ProcessQueue.cores()) as queue:
            print(await queue.call(function, argument))

    Its C{timeout} says after how many seconds processes that do not stop are killed.
    """

    workerClass: ClassVar[Any] = ProcessWorker

    @classmethod
    def cores(cls) -> int:
        """
        @return: how many processor cores this program may use.
        """
        number: int = cls.workerClass.cores()
        return number
