"""
The iterators that an executor has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue.universe.herestream import HereStream
from asynqueue.workers.channel.delivery import deliver
from asynqueue.workers.executor.mailbox import Mailbox
from asynqueue.workers.executor.stream import ExecutorStream

Done = Callable[[Any, BaseException | None], None]


class Streams:
    """
    Brings the items of iterators that calls have returned to whoever made the calls.
    """

    def __init__(
        self,
        executor: Any,
        mailbox: Mailbox,
        reactor: IReactorTime,
        streamEnded: Callable[[], None],
    ) -> None:
        """
        @param streamEnded: is called whenever nothing of an iterator is left in the executor.
        """
        self._executor = executor
        self._mailbox = mailbox
        self._reactor = reactor
        self._streamEnded = streamEnded
        self._open: dict[ExecutorStream, None] = {}
        # Those that feed a consumer; whoever does that holds them.
        self._fed: WeakValueDictionary[Any, ExecutorStream] = WeakValueDictionary()
        self._reason: Failure | None = None

    def __len__(self) -> int:
        return len(self._open)

    def deliver(self, task: Any, far: HereStream) -> None:
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

    def discard(self, far: HereStream) -> None:
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

    def _add(self, task: Any, far: HereStream) -> ExecutorStream:
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
        future.add_done_callback(partial(self._mailbox.post, _tell, done))

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have something called in the reactor's thread. This may be called in any.
        """
        self._mailbox.post(function)

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
