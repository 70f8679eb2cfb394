"""
The middle of it: messages go into a durable queue, and out through the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue import (
    DeadLetter,
    DeferredPool,
    DurableJob,
    Job,
    ResizableDispatchQueue,
    Retry,
    backoff,
)
from asynqueue._dispatch.job import JobCancelled, JobDeferred
from asynqueue.errors import JobNotDispatched, QueueFull
from asynqueue.interfaces import IJobStore
from examples.sms.client import MessageRefused
from examples.sms.messages import Message

MOST_PENDING = 100_000
"""How many messages may wait. A form that would make it more is turned away."""


@dataclass(frozen=True)
class Settings:
    """
    How messages are sent.

    @ivar store: the path of the file that keeps them, or another store.
    @ivar width: how many requests to the gateway may be underway at once.
    @ivar limit: how many requests the gateway allows in a second.
    @ivar attempts: after how many attempts a message becomes a dead letter.
    """

    store: str | IJobStore
    width: int = 5
    limit: int = 10
    attempts: int = 8


class Texting(Service):
    """
    @ivar queue: the messages that wait and those that are on their way.
    @ivar reactor: what gives the time.
    @ivar answers: the answers to forms that have not been given yet.
    """

    log = Logger()

    def __init__(
        self,
        send: Callable[[Message], Coroutine[Deferred[Any], Any, str]],
        settings: Settings,
        reactor: IReactorTime,
    ) -> None:
        """
        @raise StoreError: if the store cannot be opened.
        """
        self._width = settings.width
        self.reactor = reactor
        self.answers = DeferredPool()
        self.queue = ResizableDispatchQueue(
            send,
            size=MOST_PENDING,
            rate=settings.limit,
            retry=Retry(
                settings.attempts,
                backoff(0.5, longest=60.0),
                isWorthwhile=lambda error: not isinstance(error, MessageRefused),
            ),
            store=settings.store,
            storedAs="send a text",
            reactor=reactor,
        )
        for job in self.queue.pending():
            self._follow(job.watch())

    def startService(self) -> None:
        """
        Begin to send, in a second. A server that was killed may have sent something in its last
        second, which nobody knows.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._start = self.reactor.callLater(1.0, self.queue.setWidth, self._width)

    async def accept(self, messages: Iterable[Message]) -> list[Message]:
        """
        Take on messages.

        @return: those that could not be saved. All others are sent, whatever happens from now on.
        @raise QueueFull: if there is no room for them all. Then none was taken on.
        """
        messages = list(messages)
        if self.queue.size().pending + len(messages) > MOST_PENDING:
            raise QueueFull(f"No more than {MOST_PENDING:,} messages may wait. Try again later.")
        jobs = [self._follow(self.queue.put(each, unique=each["id"])) for each in messages]
        saved = await DeferredList([job.saved for job in jobs], consumeErrors=True)
        return [job.jobarg for job, (isSaved, _) in zip(jobs, saved, strict=True) if not isSaved]

    async def retry(self, letter: DeadLetter) -> None:
        """
        Put a dead letter in line again; that is done when it is saved.
        """
        job = await self.queue.retryDeadLetter(letter)
        self._follow(job.watch())

    def _follow(self, waiting: JobDeferred) -> DurableJob:
        waiting.addErrback(self._failed, waiting.job)
        return cast(DurableJob, waiting.job)

    def _failed(self, failure: Failure, job: Job) -> None:
        # What was not begun is in the store still, and goes out when the server runs again.
        if not failure.check(JobNotDispatched, JobCancelled):
            self.log.warn("{job}: {error}", job=job, error=failure.getErrorMessage())

    def stopService(self) -> Deferred[None]:
        """
        Send no more messages, and wait for those that are underway.

        @return: a Deferred that fires when they have arrived and all forms are answered.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._start.active():
            self._start.cancel()
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        left = await self.queue.stop()
        await self.answers.notifyWhenEmpty()
        self.log.info("{count} messages are left for the next time", count=len(left))
