"""
The near side of streams from executors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._iteration.sources import ItemSource
from asynqueue._reactor import ReactorInbox
from asynqueue._runner.pullstream import Batch, PullStream
from asynqueue._workers.protocol import deliver
from asynqueue.errors import WorkerError


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

    def __init__(self, task: Any, far: PullStream, host: Host) -> None:
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


Done = Callable[[Any, BaseException | None], None]


class Streams:
    """
    Brings the items of iterators that calls have returned to whoever made the calls.
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
        self._reactor = reactor
        self._streamEnded = streamEnded
        self._open: dict[ExecutorStream, None] = {}
        # Those that feed a consumer; whoever does that holds them.
        self._fed: WeakValueDictionary[Any, ExecutorStream] = WeakValueDictionary()
        self._reason: Failure | None = None

    def __len__(self) -> int:
        return len(self._open)

    def deliver(self, task: Any, far: PullStream) -> None:
        """
        Feed the items to the task's consumer, and end the task when that is over; or end the task
        with a L{Deferator<asynqueue.iteration.Deferator>}.
        """
        stream = self._add(task, far)
        if task.isDone:
            stream.stop()
            return
        if self._reason is not None:
            stream.shut(self._reason)
        if task.options.consumer is not None:
            self._fed[task] = stream
        source: Any = stream
        deliver(task, source, self._reactor)

    def discard(self, far: PullStream) -> None:
        """
        Close an iterator that nobody wants.
        """
        self._add(None, far).stop()

    def cancel(self, task: Any) -> None:
        """
        A task is not wanted any more: stop its iteration, if that feeds a consumer.
        """
        stream = self._fed.get(task)
        if stream is not None:
            stream.stop()

    def end(self, reason: Failure) -> None:
        """
        End all iterations, and those that come from now on, with a failure; it comes after the
        items that are here already.
        """
        self._reason = reason
        for stream in list(self._open):
            stream.shut(reason)

    def _add(self, task: Any, far: PullStream) -> ExecutorStream:
        stream = ExecutorStream(task, far, self)
        self._open[stream] = None
        stream.begin()
        return stream

    # For the streams ------------------------------------------------------------------------------

    def do(self, job: Callable[[], Any], done: Done) -> None:
        """
        Have a job done in the executor.

        @param done: is called in the reactor's thread with what the job returned; or with the
            reason why it could not be done, even from within this call.
        """
        try:
            future = self._executor.submit(job)
        except Exception as error:
            done(None, error)
            return
        future.add_done_callback(lambda future: self._inbox.put(partial(_tell, done, future)))

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have something called in the reactor's thread. This may be called in any.
        """
        self._inbox.put(function)

    def streamEnded(self, stream: ExecutorStream) -> None:
        """
        Nothing of a stream is left in the executor.
        """
        self._open.pop(stream, None)
        self._streamEnded()


def _tell(done: Done, future: Any) -> None:
    try:
        result = future.result()
    except BaseException as error:
        done(None, error)
    else:
        done(result, None)
