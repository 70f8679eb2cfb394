"""
The near end of an iterator that an executor advances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.errors import WorkerError
from asynqueue.iteration.source import ItemSource
from asynqueue.universe.herestream import Batch, HereStream


class Host(Protocol):
    """
    What a stream needs of its worker.
    """

    def do(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """
        Have a job done in the executor.

        @param done: is called in the reactor's thread with what the job returned; or with the
            reason why it could not be done, even from within this call.
        """

    def soon(self, function: Callable[[], None]) -> None:
        """Have something called in the reactor's thread."""

    def streamEnded(self, stream: ExecutorStream) -> None:
        """Nothing of the stream is left in the executor."""


class ExecutorStream(ItemSource):
    """
    Has the executor produce a batch of items whenever a taker finds none, and close the iterator if
    no more are wanted.

    @ivar task: the task that yielded it, until that is done.
    """

    log = Logger()

    def __init__(self, task: Any, far: HereStream, host: Host) -> None:
        super().__init__()
        self.task = task
        self._far = far
        self._host = host
        self._isAdvancing = False
        self._isFarOver = False

    def begin(self) -> None:
        """
        Take the batch that came with the iterator.
        """
        self._arrived(self._far.takeFirst())

    def _arrived(self, batch: Batch) -> None:
        self._isFarOver = batch.isOver
        self.add(batch.items)
        if batch.isOver:
            if batch.error is None:
                self.end()
            else:
                self.fail(failureOf(batch.error))
            self._host.streamEnded(self)
        elif self.isOver:
            # It was stopped in the meantime.
            self._close()

    def shut(self, reason: Failure) -> None:
        """
        The worker stops: the takers are told so after the items that are here, and the iterator is
        closed.
        """
        if not self.isOver:
            self.fail(reason)
            self.stopped()

    # Hooks ----------------------------------------------------------------------------------------

    def want(self) -> None:
        if not self._isAdvancing and not self.isOver:
            self._isAdvancing = True
            self._host.do(self._far.advance, self._advanced)

    def stopped(self) -> None:
        if not self._isAdvancing and not self._isFarOver:
            self._close()

    def abandoned(self, stop: Callable[[], None]) -> None:
        self._host.soon(stop)

    # What the executor did ------------------------------------------------------------------------

    def _advanced(self, batch: Any, error: BaseException | None) -> None:
        self._isAdvancing = False
        if error is None:
            self._arrived(batch)
            return
        # The executor is not there any more, and with it goes whatever it could have closed.
        self._isFarOver = True
        why = WorkerError(f"the executor of the iteration cannot go on: {error}")
        why.__cause__ = error
        self.fail(Failure(why))
        self._host.streamEnded(self)

    def _close(self) -> None:
        self._isFarOver = True
        self._host.do(self._far.close, self._closed)

    def _closed(self, raised: Any, error: BaseException | None) -> None:
        if raised is not None:
            self.log.failure("an iterator raised when it was closed", failureOf(raised))
        self._host.streamEnded(self)


def failureOf(error: BaseException) -> Failure:
    """
    @return: a Failure with the exception's own traceback.
    """
    return Failure(error, type(error), error.__traceback__)
