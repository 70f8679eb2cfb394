"""
Telling all workers of the addresses that misbehave.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.errors import QueueStopped, WorkerDetached, WorkerDied
from examples.weblog.known import Finding, learn


class Broadcast:
    """
    I tell the workers of a queue what was found, with its C{update}, so that processes that start
    later know it too. While they have not all heard of the last, what is found is gathered, and
    goes out at once after that.
    """

    _log = Logger()

    def __init__(self, queue: Any) -> None:
        """
        @param queue: whose workers.
        """
        self._queue = queue
        self._waiting: list[Finding] = []
        self._update: Deferred[Any] | None = None
        self._finished: Deferred[None] | None = None

    def add(self, findings: list[Finding]) -> None:
        """
        Something new was found.
        """
        self._waiting += findings
        if self._update is None:
            self._send()

    def finish(self) -> Deferred[None]:
        """
        Nothing more will be found, so nothing more need be told.

        @return: a Deferred that fires when nothing is underway.
        """
        self._waiting.clear()
        done: Deferred[None] = Deferred()
        if self._update is None:
            done.callback(None)
        else:
            self._finished = done
        return done

    def _send(self) -> None:
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self._update = self._queue.update(learn, batch)
        self._update.addErrback(self._failed).addCallback(self._sent)

    def _failed(self, failure: Failure) -> None:
        # A process that takes a dead one's place is told by the queue, and one that ends need not
        # know.
        if failure.check(WorkerDied, WorkerDetached, QueueStopped) is None:
            self._log.failure("workers could not be told of addresses", failure)

    def _sent(self, _: Any) -> None:
        self._update = None
        if self._finished is not None:
            self._finished.callback(None)
        else:
            self._send()
