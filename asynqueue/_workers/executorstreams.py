"""
The near side of streams from executors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._iteration.delivery import Deliveries
from asynqueue._iteration.sources import ItemSource
from asynqueue._reactor import ReactorInbox
from asynqueue._runner.pullstream import Batch, PullStream
from asynqueue.errors import WorkerError

_T = TypeVar("_T")

if TYPE_CHECKING:
    from concurrent.futures import Future

    from asynqueue._queue.queuedtask import QueuedTask


class ExecutorStream(ItemSource):
    """
    Has the executor produce a batch of items whenever a taker finds none, and close the iterator
    when no more items are wanted.
    """

    log = Logger()

    def __init__(self, far: PullStream, executor: Streams) -> None:
        super().__init__()
        self._far = far
        self._executor = executor
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
            self._executor.streamEnded(self)
        elif self.isOver:
            # It was stopped meanwhile.
            self._close()

    # Hooks ----------------------------------------------------------------------------------------

    def want(self) -> None:
        if not self._isAdvancing and not self.isOver:
            self._isAdvancing = True
            self._executor.do(self._far.advance, self._advanced)

    def stopped(self) -> None:
        if not self._isAdvancing and not self._isFarOver:
            self._close()

    def abandoned(self, stop: Callable[[], None]) -> None:
        self._executor.soon(stop)

    # When the executor has done a job -------------------------------------------------------------

    def _advanced(self, batch: Batch | None, error: BaseException | None) -> None:
        self._isAdvancing = False
        if batch is not None:
            self._arrived(batch)
            return
        # The executor takes no more jobs, and could not close the iterator either.
        self._isFarOver = True
        why = WorkerError(f"the executor of this iteration takes no more jobs: {error}")
        why.__cause__ = error
        self.fail(Failure(why))
        self._executor.streamEnded(self)

    def _close(self) -> None:
        self._isFarOver = True
        self._executor.do(self._far.close, self._closed)

    def _closed(self, raised: BaseException | None, error: BaseException | None) -> None:
        if raised is not None:
            self.log.failure("an iterator raised when it was closed", failureOf(raised))
        self._executor.streamEnded(self)


def failureOf(error: BaseException) -> Failure:
    """
    @return: a Failure with the exception's own traceback.
    """
    return Failure(error, type(error), error.__traceback__)


class Streams:
    """
    The streams of items from iterators that calls in an executor have returned.
    """

    def __init__(
        self,
        executor: Any,
        inbox: ReactorInbox[Callable[[], object]],
        reactor: IReactorTime,
        streamEnded: Callable[[], None],
    ) -> None:
        """
        @param streamEnded: is called whenever nothing of an iterator is left in the executor.
        """
        self._executor = executor
        self._inbox = inbox
        self._tellEnded = streamEnded
        self._open: dict[ExecutorStream, None] = {}
        self._deliveries = Deliveries(reactor)
        self.cancel = self._deliveries.cancel
        self.drain = self._deliveries.drain
        self.isDrained = self._deliveries.isDrained
        self.end = self._deliveries.end

    def __len__(self) -> int:
        return len(self._open)

    def deliver(self, task: QueuedTask, far: PullStream) -> None:
        """
        See L{Deliveries.deliver}.
        """
        self._deliveries.deliver(task, self._add(far))

    def discard(self, far: PullStream) -> None:
        """
        Close an iterator that nobody wants.
        """
        self._add(far).stop()

    def _add(self, far: PullStream) -> ExecutorStream:
        stream = ExecutorStream(far, self)
        self._open[stream] = None
        stream.begin()
        return stream

    def do(
        self, job: Callable[[], _T], done: Callable[[_T | None, BaseException | None], None]
    ) -> None:
        """
        Have a job done in the executor.

        @param done: is called in the reactor's thread with what the job returned. If the job could
            not be done, it is called with the reason, even from within this call.
        """

        def tell(future: Future[_T]) -> None:
            try:
                result = future.result()
            except BaseException as error:
                done(None, error)
            else:
                done(result, None)

        try:
            future = self._executor.submit(job)
        except Exception as error:
            done(None, error)
        else:
            future.add_done_callback(lambda future: self._inbox.put(lambda: tell(future)))

    def soon(self, function: Callable[[], object]) -> None:
        """
        Have a function called in the reactor's thread. This may be called in any thread.
        """
        self._inbox.put(function)

    def streamEnded(self, stream: ExecutorStream) -> None:
        """
        Nothing of a stream is left in the executor.
        """
        self._open.pop(stream, None)
        self._tellEnded()
