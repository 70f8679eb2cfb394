"""
The near side of a Dask cluster: a client of Dask's, and what is sent and heard through it.

A client works in a thread of its own, or in that of an C{asyncio} reactor. Everything of
L{Cluster} that begins with an underscore runs there, in the client's event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pickle import loads
from typing import Any, Final

from distributed import Client, Event
from twisted.logger import Logger

from asynqueue._reactor import ReactorInbox, startThread
from asynqueue._runner.messages import Message
from asynqueue._workers.dask.far import (
    RAN,
    UNPREPARED,
    Parcel,
    Reply,
    Request,
    Session,
    UpdateOutcome,
    UpdatePlugin,
    exchange,
    exitNow,
    leftBy,
    outcomeOfUpdate,
    runBatch,
    tokenOf,
    wrap,
)
from asynqueue._workers.dask.journal import Left
from asynqueue.errors import WorkerError, textOf, typeName

EXCHANGE_SECONDS: Final = 5.0
"""For how long a question to a Dask worker waits for something to be said."""

COUNT_SECONDS: Final = 2.0
"""After how many seconds the threads of the cluster are counted again."""

JOURNAL_SECONDS: Final = 5.0
"""For how many seconds a Dask worker is waited for that can read what a batch left behind, such as
the one that a nanny starts in place of the dead one."""

AGAIN_SECONDS: Final = 0.5
"""When a question failed, it is asked again after so many seconds."""


Resources = Mapping[str, float] | None


@dataclass(slots=True, eq=False)
class Sent:
    """
    A batch that Dask has.

    @ivar arrived: is called in the reactor's thread with messages from the batch.
    @ivar ended: is called in the reactor's thread when nothing comes any more: with C{None} if the
        batch ran to its end, or else with an L{End}.
    @ivar address: the Dask worker that runs it, once that is known.
    @ivar received: how many messages have come.
    @ivar first: the number of the first of the messages that are not known to have arrived.
    @ivar isUnwanted: whether Dask was asked to forget it.
    @ivar wasHandedOver: whether Dask has got it.
    @ivar isWithdrawn: whether Dask must not get it any more.
    """

    name: str
    arrived: Callable[[list[Message]], object]
    ended: Callable[[End | None], object]
    future: Any = None
    address: str | None = None
    received: int = 0
    first: int = 0
    messages: list[Message] = field(default_factory=list)
    isUnwanted: bool = False
    wasHandedOver: bool = False
    isWithdrawn: bool = False

    def request(self) -> Request:
        """
        Make the request for what the batch has said.
        """
        return Request(self.name, self.received, self.first, tuple(self.messages))

    def take(self, reply: Reply) -> list[Message]:
        """
        Take in what a batch said.

        @return: what is new.
        """
        known = reply.received - self.first
        if known > 0:
            del self.messages[:known]
            self.first = reply.received
        new = reply.messages[self.received - reply.first :]
        self.received += len(new)
        return [loads(data) for data in new]


@dataclass(frozen=True, slots=True)
class End:
    """
    The end of a batch that did not run to its end.

    @ivar why: what happened, for people.
    @ivar begun: whether it had begun; C{None} if that is not known.
    @ivar lastBegun: the number of the call that had begun last; 0 if none had, and C{None} if that
        is not known.
    @ivar isOurs: whether this side has cancelled it.
    @ivar cause: the error that Dask gave.
    """

    why: str
    begun: bool | None
    lastBegun: int | None = None
    isOurs: bool = False
    cause: BaseException | None = None


class Cluster:
    """
    A Dask cluster, as one worker sees it. Every method returns at once. What comes of it is told by
    the callables that were given, in the reactor's thread.

    @ivar client: the client, once it is connected.
    """

    log = Logger()

    def __init__(
        self,
        makeClient: Callable[[], Client],
        isOurs: bool,
        startsCluster: bool,
        session: Session,
        inbox: ReactorInbox[Callable[[], object]],
    ) -> None:
        """
        @param makeClient: returns the client. It may wait for the connection.
        @param isOurs: whether the client is closed at the end.
        @param startsCluster: whether the client starts a cluster, which ends with it.
        """
        self.client: Any = None
        self._makeClient = makeClient
        self._isOurs = isOurs
        self._startsCluster = startsCluster
        self._session = session
        self._inbox = inbox
        self._sent: dict[str, Sent] = {}
        self._handingOver = threading.Lock()
        # The batches that are over, and whose tokens the scheduler still has.
        self._released: list[str] = []
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._countChanged: Callable[[dict[str, int], set[str]], object] = lambda *_: None
        self._watching: asyncio.Task[None] | None = None
        self._isConnecting = False
        # What to call at the end, once that was asked for.
        self._closed: Callable[[], object] | None = None

    # Beginning and end ----------------------------------------------------------------------------

    def connect(
        self,
        connected: Callable[[Exception | None], object],
        counted: Callable[[dict[str, int], set[str]], object],
    ) -> None:
        """
        Connect to the scheduler, and prepare the Dask workers.

        @param connected: is called with C{None}, or with the error.
        @param counted: is called with how many threads each Dask worker has, and with the names of
            the resources that there are, now and whenever a Dask worker comes or goes.
        """
        self._countChanged = counted
        self._isConnecting = True
        # It belongs to the loop of one client.
        self._registering = asyncio.Lock()

        def make() -> None:
            try:
                self.client = self._makeClient()
            except BaseException as error:
                self._inbox.put(partial(self._failed, connected, _asException(error)))
            else:
                self.do(self._prepare, connected)

        startThread(make, "asynqueue dask client")

    @property
    def status(self) -> str:
        """
        How the client is, in Dask's words: C{"running"}; C{"closed"}; or another one while it tries
        to reach the scheduler.
        """
        return "connecting" if self.client is None else str(self.client.status)

    def connectAgain(self, connected: Callable[[Exception | None], object]) -> bool:
        """
        Prepare the Dask workers of a scheduler that is there again, or connect with a new client if
        the old one is closed.

        @return: whether there will be a client.
        """
        self._sent = {}
        self._released = []
        self._listeners = {}
        if self.status != "closed":
            self.do(self._prepare, connected)
        elif self._isOurs:
            self._watching = None
            self.client = None
            self.connect(connected, self._countChanged)
        return self._isOurs or self.status != "closed"

    def _failed(self, connected: Callable[[Exception | None], object], error: Exception) -> None:
        self._isConnecting = False
        if self._closed is None:
            connected(error)
        else:
            self._closed()

    async def _prepare(self, connected: Callable[[Exception | None], object]) -> None:
        if self._closed is not None:
            await self._close(self._closed)
            return
        try:
            await self._register()
            self.client.subscribe_topic(self._session.name, self._told)
            await self._count()
            if self._watching is not None:
                self._watching.cancel()
            self._watching = asyncio.ensure_future(self._watch())
        except Exception as error:
            self._inbox.put(partial(connected, error))
        else:
            self._inbox.put(lambda: connected(None))

    async def _register(self) -> None:
        # The second one to ask must not go on before the first one's plugin is everywhere.
        async with self._registering:
            await self.client.register_plugin(self._session)

    def close(self, closed: Callable[[], object]) -> None:
        """
        Leave the cluster.
        """
        self._closed = closed
        if self.client is not None and self.client.status == "closed":
            self._inbox.put(closed)
        elif self.client is not None:
            self.do(self._close, closed)
        elif not (self._isConnecting and self._startsCluster):
            # Nobody waits for a client that cannot reach its scheduler. It tries for 30 seconds,
            # and is closed then.
            self._closed = _doNothing
            self._inbox.put(closed)

    async def _close(self, closed: Callable[[], object]) -> None:
        if self._watching is not None:
            self._watching.cancel()
        for task in list(self._listeners.values()):
            task.cancel()
        try:
            if self.client.status == "running":
                await self._forgetTokens(self._released)
                self.client.unsubscribe_topic(self._session.name)
                await self.client.unregister_worker_plugin(self._session.name)
        except Exception as error:
            self.log.debug("a Dask cluster was left without a word: {error}", error=error)
        if self._isOurs:
            # This ends the loop that this runs in.
            startThread(lambda: self._closeClient(closed), "asynqueue dask close")
        else:
            self._inbox.put(closed)

    def _closeClient(self, closed: Callable[[], object]) -> None:
        try:
            cluster = self.client.cluster
            self.client.close()
            if cluster is not None:
                cluster.close()
        finally:
            self._inbox.put(closed)

    def do(self, function: Callable[..., Coroutine[Any, Any, object]], *args: object) -> None:
        """
        Run a coroutine in the client's event loop.
        """

        def begin() -> None:
            task = asyncio.ensure_future(function(*args))
            self._tasks.add(task)
            task.add_done_callback(self._done)

        try:
            self.client.loop.add_callback(begin)
        except RuntimeError as error:
            # The loop is closed.
            self.log.debug("a Dask client is closed: {error}", error=error)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.error("{task} failed: {error!r}", task=task, error=task.exception())

    # What the cluster is --------------------------------------------------------------------------

    async def _watch(self) -> None:
        """
        Look from time to time, because a Dask worker that dies does not say so.
        """
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            try:
                await self._count()
            except Exception as error:
                self.log.debug("no scheduler answers: {error}", error=error)

    async def _count(self) -> None:
        # What the client has of this by itself tells of no workers.
        workers = (await self.client.scheduler.identity())["workers"]
        threads = {address: worker["nthreads"] for address, worker in workers.items()}
        resources = {
            name
            for worker in workers.values()
            for name, amount in worker["resources"].items()
            if amount
        }
        self._inbox.put(lambda: self._countChanged(threads, resources))

    # Batches --------------------------------------------------------------------------------------

    def submit(self, sent: Sent, calls: bytes, resources: Resources, priority: int) -> None:
        """
        Give Dask a batch.
        """
        self.do(self._run, sent, calls, resources, priority)

    async def _run(self, sent: Sent, calls: bytes, resources: Resources, priority: int) -> None:
        self._sent[sent.name] = sent
        released, self._released = self._released, []
        try:
            end = await self._outcome(sent, calls, resources, priority)
        except BaseException as error:
            end = await self._whyNot(sent, error)
        finally:
            self._sent.pop(sent.name, None)
        self._inbox.put(lambda: sent.ended(end))
        if sent.future is not None:
            sent.future.release()
            sent.future = None
        # That is sent in the next turn of the loop, before what is submitted from now on.
        await asyncio.sleep(0)
        self._released.append(sent.name)
        if end is None:
            # Dask has heard of this batch, and so of the releases before it.
            await self._forgetTokens(released)
        else:
            self._released += released

    async def _outcome(
        self, sent: Sent, calls: bytes, resources: Resources, priority: int
    ) -> End | None:
        parcel = wrap(self._session.name, sent.name, calls)
        for _ in range(2):
            with self._handingOver:
                # Without a connection, Dask's client would keep it for the next scheduler.
                if sent.isWithdrawn or self.status != "running":
                    return End("the connection to the scheduler is lost", False)
                sent.wasHandedOver = True
                sent.future = self.client.submit(
                    runBatch,
                    parcel,
                    key=sent.name,
                    pure=False,
                    resources=resources or None,
                    priority=priority,
                    retries=0,
                )
            outcome = loads((await sent.future).content)
            if outcome[0] == RAN:
                self._take(sent, outcome[1])
                return None
            if outcome[0] != UNPREPARED:
                left = outcome[1] or await self._leftBy(sent)
                return self._endedEarly(sent, "Dask has lost the worker that ran it", left)
            # A new scheduler does not know the plugin, and its workers do not have it.
            sent.future.release()
            await self._register()
        return End("the Dask workers do not keep the plugin that runs calls", False)

    async def _whyNot(self, sent: Sent, error: BaseException) -> End:
        why = f"{typeName(type(error))}: {textOf(error)}"
        if sent.isUnwanted:
            return End(why, None, isOurs=True, cause=error)
        begun: bool | None = None
        if not isinstance(error, (asyncio.CancelledError, CancelledError)):
            try:
                begun = await Event(tokenOf(sent.name), client=self.client).is_set()
            except Exception as lost:
                self.log.debug("a Dask scheduler is gone: {error}", error=lost)
        if begun:
            return self._endedEarly(sent, why, await self._leftBy(sent), error)
        return End(why, begun, cause=error)

    def _endedEarly(
        self, sent: Sent, why: str, left: Left | None, cause: BaseException | None = None
    ) -> End:
        if left is None:
            return End(why, True, cause=cause)
        self._take(sent, Reply(0, left.messages, 0))
        return End(why, True, left.begun, cause=cause)

    async def _leftBy(self, sent: Sent) -> Left | None:
        """
        Find what a batch left behind when its process died.
        """
        loop = asyncio.get_running_loop()
        limit = loop.time() + JOURNAL_SECONDS
        parcel = wrap(self._session.name, sent.name)
        while self.client.status == "running":
            asked = [
                asyncio.ensure_future(self._ask(address, leftBy, parcel))
                for address in await self._addresses()
            ]
            try:
                with suppress(TimeoutError):
                    for each in asyncio.as_completed(asked, timeout=max(0.1, limit - loop.time())):
                        left: Left | None = await each
                        if left is not None:
                            return left
            finally:
                for unanswered in asked:
                    unanswered.cancel()
            if loop.time() > limit:
                break
            await asyncio.sleep(AGAIN_SECONDS)
        return None

    async def _forgetTokens(self, names: Sequence[str]) -> None:
        """
        Have the scheduler forget the tokens of batches that Dask has released. Before that, it
        might run such a batch again if the worker died that has the result.
        """
        try:
            for name in names:
                await Event(tokenOf(name), client=self.client).clear()
        except Exception as error:
            self.log.debug("a Dask scheduler is gone: {error}", error=error)

    def _take(self, sent: Sent, reply: Reply) -> None:
        messages = sent.take(reply)
        if messages:
            self._inbox.put(lambda: sent.arrived(messages))

    def withdraw(self, sent: Sent) -> bool:
        """
        Give a batch up.

        @return: whether Dask has never got it. It will not get it any more, then.
        """
        with self._handingOver:
            sent.isWithdrawn = True
            return not sent.wasHandedOver

    def cancel(self, sent: Sent) -> None:
        """
        Have Dask forget a batch that has not begun.
        """
        self.do(self._cancel, sent)

    async def _cancel(self, sent: Sent) -> None:
        sent.isUnwanted = True
        if sent.future is not None:
            await self.client.cancel([sent.future], force=True)

    # Talking with batches -------------------------------------------------------------------------

    def _told(self, event: tuple[float, tuple[str, str]]) -> None:
        _, (name, address) = event
        if not name:
            self.do(self._count)
            return
        sent = self._sent.get(name)
        if sent is not None:
            sent.address = address
            if address not in self._listeners:
                task = self._listeners[address] = asyncio.ensure_future(self._listen(address))
                task.add_done_callback(lambda _: self._listeners.pop(address, None))

    async def _listen(self, address: str) -> None:
        """
        Ask a Dask worker for what its batches say, as long as it has some.
        """
        while there := [sent for sent in self._sent.values() if sent.address == address]:
            if not await self._exchange(there, EXCHANGE_SECONDS, address):
                await asyncio.sleep(AGAIN_SECONDS)

    async def _exchange(self, there: Sequence[Sent], seconds: float, address: str) -> bool:
        """
        Hand messages over in both directions.

        @return: whether the Dask worker answered, and has one of these batches.
        """
        parcel = wrap(self._session.name, [sent.request() for sent in there], seconds)
        replies: dict[str, Reply | None] | None = await self._ask(address, exchange, parcel)
        if replies is None:
            return False
        for sent in there:
            reply = replies.get(sent.name)
            if reply is not None:
                sent.address = address
                self._take(sent, reply)
            elif sent.name in replies and sent.address == address:
                # Its result is on its way, or it is lost.
                sent.address = None
        return not replies or any(reply is not None for reply in replies.values())

    async def _ask(self, address: str, function: Callable[..., object], parcel: Parcel) -> Any:
        """
        Call a function in a Dask worker.

        @return: the value that it wrapped, or C{None} if no answer comes.
        """
        try:
            answers = await self.client.run(function, parcel, workers=[address], on_error="ignore")
        except Exception as error:
            self.log.debug("{address} does not answer: {error}", address=address, error=error)
            return None
        answer = answers.get(address)
        return None if answer is None else loads(answer.content)[0]

    def send(
        self,
        sent: Sent,
        messages: Sequence[Message],
        missed: Callable[[], object] = lambda: None,
    ) -> None:
        """
        Say something to a batch.

        @param missed: is called if no Dask worker knows the batch.
        """
        self.do(self._send, sent, messages, missed)

    async def _send(
        self, sent: Sent, messages: Sequence[Message], missed: Callable[[], object]
    ) -> None:
        sent.messages += messages
        if sent.name not in self._sent:
            return
        # Each is asked apart: Dask waits long for one that is dead.
        addresses = await self._addresses() if sent.address is None else [sent.address]
        found = await asyncio.gather(
            *[self._exchange([sent], 0.0, address) for address in addresses]
        )
        if not any(found) and sent.name in self._sent:
            self._inbox.put(missed)

    async def _addresses(self) -> list[str]:
        try:
            return list(await self.client.nthreads())
        except Exception as error:
            self.log.debug("no scheduler answers: {error}", error=error)
            return []

    # The Dask workers -----------------------------------------------------------------------------

    def restartWorker(self, sent: Sent) -> None:
        """
        Restart the Dask worker that runs a batch.
        """
        self.do(self._restartWorker, sent)

    async def _restartWorker(self, sent: Sent) -> None:
        if sent.address is not None and sent.name in self._sent:
            # Dask's own restart_workers() waits for the very call that does not end.
            await self.client.run(exitNow, workers=[sent.address], wait=False, on_error="ignore")

    def update(
        self,
        plugin: UpdatePlugin,
        done: Callable[[list[UpdateOutcome], Exception | None], object],
    ) -> None:
        """
        Run an update on all Dask workers, and on every later one.

        @param done: is called with the outcomes, and with an error of Dask's or C{None}.
        """
        self.do(self._update, plugin, done)

    async def _update(
        self,
        plugin: UpdatePlugin,
        done: Callable[[list[UpdateOutcome], Exception | None], object],
    ) -> None:
        try:
            await self.client.register_plugin(plugin)
            answers = await self.client.run(outcomeOfUpdate, plugin.name)
        except Exception as error:
            self._inbox.put(partial(done, [], error))
        else:
            outcomes = [loads(answer.content)[0] for answer in answers.values()]
            self._inbox.put(lambda: done(outcomes, None))


def _doNothing() -> None:
    pass


def _asException(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    return WorkerError(f"{typeName(type(error))}: {textOf(error)}")
