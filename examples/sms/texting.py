"""
The middle of it: messages go into a durable queue, and out through the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
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
from asynqueue.errors import JobNotDispatched, QueueFull
from asynqueue.interfaces import IJobStore
from asynqueue.rdq import JobCancelled, JobDeferred
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
    @ivar sent: how many messages the gateway has taken since this began.
    @ivar failed: how many attempts have failed since then.
    """

    log = Logger()

    def __init__(
        self,
        send: Callable[[Message], Coroutine[Deferred[Any], Any, str]],
        settings: Settings,
        reactor: IReactorTime,
        setLimit: Callable[[int], object] = lambda limit: None,
    ) -> None:
        """
        @param send: sends one message.
        @param setLimit: is told when the operator changes how many may be sent in a second.
        @raise StoreError: if the store cannot be opened.
        """
        self._width = settings.width
        self._send = send
        self._setLimit = setLimit
        self.sent = self.failed = 0
        self.reactor = reactor
        self.answers = DeferredPool()
        self.queue = ResizableDispatchQueue(
            self._sendOne,
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

    def setRate(self, limit: int) -> None:
        """
        Change how many requests the gateway allows in a second.
        """
        self.queue.setRate(limit)
        self._setLimit(limit)

    async def retry(self, letters: Iterable[DeadLetter]) -> list[Exception]:
        """
        Put dead letters in line again; that is done when it is saved.

        @return: an error for each that stays a dead letter.
        """

        def retryOne(letter: DeadLetter) -> Deferred[DurableJob]:
            job = self.queue.retryDeadLetter(letter)
            return job.addCallback(lambda job: self._follow(job.watch()))

        return await _forEach(retryOne, letters)

    async def drop(self, letters: Iterable[DeadLetter]) -> list[Exception]:
        """
        Forget dead letters; that is done when it is saved.

        @return: an error for each that stays a dead letter.
        """
        return await _forEach(self.queue.dropDeadLetter, letters)

    async def _sendOne(self, message: Message) -> str:
        try:
            answer = await self._send(message)
        except Exception:
            self.failed += 1
            raise
        self.sent += 1
        return answer

    def _follow(self, waiting: JobDeferred) -> DurableJob:
        waiting.addErrback(self._failed, waiting.job)
        return cast(DurableJob, waiting.job)

    def _failed(self, failure: Failure, job: Job) -> None:
        # A message that was not begun stays in the store until the server runs again.
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


async def _forEach(
    act: Callable[[DeadLetter], Deferred[Any]], letters: Iterable[DeadLetter]
) -> list[Exception]:
    # All at once, so that a few commits save them.
    outcomes = await DeferredList(
        [maybeDeferred(act, letter) for letter in letters], consumeErrors=True
    )
    return [failure.value for succeeded, failure in outcomes if not succeeded]
