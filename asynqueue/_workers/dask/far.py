"""
The far side: what runs in the workers of a Dask cluster.

A batch of calls is one task of Dask's. It has a runner of its own, as a worker process has, which
ends with the batch. What the runner says returns with the batch's result. If the batch takes
longer, it tells the near side where it runs, and the near side asks for what there is.

Every Dask worker has a L{Session} for each near side, which is a plugin.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pickle import dumps, loads
from typing import TYPE_CHECKING, Final

from distributed import Event, WorkerPlugin, get_worker, secede

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.codecs import PICKLED, Body
from asynqueue._runner.coroutines import CoroutineRunner
from asynqueue._runner.exceptions import describe
from asynqueue._runner.logs import LogForwarding, Record
from asynqueue._runner.makecall import RAISED, makeCall
from asynqueue._runner.messages import (
    CANCEL,
    LOG,
    QUIT,
    RECALL,
    STREAMING,
    UNBEGUN,
    VERSION,
    Message,
)
from asynqueue._runner.messages import RAISED as FAILED
from asynqueue._runner.packing import Packed
from asynqueue._version import __version__
from asynqueue._workers.dask.interrupting import Guard, GuardedReader, GuardedWaiter
from asynqueue._workers.dask.journal import Journal, Left, readJournal, sweep
from asynqueue.errors import ProtocolError

if TYPE_CHECKING:
    from distributed import Worker

NOTE_SECONDS: Final = 0.05
"""After how many seconds a batch tells where it runs."""

RECALL_SECONDS: Final = 0.25
"""After how many seconds a batch gives back the calls that it has not begun. Another worker can
have them."""

_log = logging.getLogger(__name__)


LEFT_SECONDS: Final = 60.0
"""When the near side has not asked for so many seconds, it is gone."""

RAN: Final = "ran"
REFUSED: Final = "refused"
UNPREPARED: Final = "unprepared"


class Parcel:
    """
    Bytes that Dask takes along without looking into them.
    """

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[object, ...]:
        return Parcel, (self.content,)

    def __sizeof__(self) -> int:
        return len(self.content) + 64


def wrap(*values: object) -> Parcel:
    """
    Make a parcel of some values.
    """
    return Parcel(dumps(values, 5))


@dataclass(frozen=True, slots=True)
class Request:
    """
    What the near side asks of one batch.

    @ivar batch: the batch's name.
    @ivar received: how many of its messages have arrived.
    @ivar first: the number of the first message for it.
    @ivar messages: the messages for it which are not known to have arrived.
    """

    batch: str
    received: int
    first: int
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Reply:
    """
    The messages of a batch.

    @ivar first: the number of the first message.
    @ivar messages: the messages, each pickled.
    @ivar received: how many messages have arrived at the batch.
    """

    first: int
    messages: Sequence[bytes]
    received: int


class FarBatch:
    """
    The runner of one batch. Its code runs in a thread of the Dask worker's. The methods that
    L{Session} calls run in the thread of the worker's event loop.
    """

    def __init__(
        self, calls: Sequence[Message], raw: bool, session: Session, journal: Journal | None
    ) -> None:
        self.session = session
        self._journal = journal
        self._calls = deque(calls)
        self._raw = raw
        self._changed = threading.Condition()
        # Under that lock: what the runner said and the near side has not, and what is for the
        # runner.
        self._outbox: deque[bytes] = deque()
        self._first = 0
        self._inbox: list[Message] = []
        self._received = 0
        # The calls that were given back here. One of them may define a function.
        self._givenBack: list[Message] = []
        self._hasSeceded = False
        self._isOver = False
        # When the near side asked last.
        self._asked = time.monotonic()
        guard = self._guard = Guard()
        guard.look = self._lookIn
        self._reader = GuardedReader(guard, raw)
        codec = PICKLED._replace(makeReader=lambda: self._reader)
        waiter = GuardedWaiter(CoroutineRunner(), guard, lambda: self.runner.running)
        begin = _begin if journal is None else journal.begin
        self.runner = CallRunner(self.post, begin, raw, codec=codec, waiter=waiter)

    # In the thread of the batch -------------------------------------------------------------------

    def run(self) -> Reply:
        """
        Run the calls, and the streams that they yield.

        @return: what the near side has not got yet.
        """
        runner, calls = self.runner, self._calls
        while not runner.ended:
            if self._inbox or self._givenBack:
                self._lookIn()
            try:
                runner.receive((calls.popleft(),))
            except IndexError:
                if not runner.hasWork:
                    if not runner.hasStreams:
                        break
                    self._waitForMessages()
                    continue
            runner.step()
        runner.close()
        with self._changed:
            return Reply(self._first, list(self._outbox), self._received)

    def _waitForMessages(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._inbox), LEFT_SECONDS / 2)
            if time.monotonic() - self._asked > LEFT_SECONDS:
                # Nobody is there any more who could want the streams.
                self._inbox.append((QUIT,))

    def _lookIn(self) -> None:
        with self._changed:
            messages, self._inbox = self._inbox, []
            givenBack, self._givenBack = self._givenBack, []
        for call in givenBack:
            self._reader.keep(call)
        self.runner.receive(messages)

    def post(self, message: Message) -> None:
        """
        Say something to the near side.
        """
        # Pickled at once, because an item may be the memory of an array that changes next.
        data = dumps(message, 5)
        with self._changed:
            if self._isOver and message[0] == FAILED:
                # The end of the Dask worker has interrupted it. That is no failure of the call's.
                return
            self._outbox.append(data)
            if self._journal is not None:
                self._journal.add(data)
        if message[0] == STREAMING and not self._hasSeceded:
            self._hasSeceded = True
            # A stream may pause for ever. Another thread takes this one's place.
            secede()
            self.session.noteSoon(self)
        self.session.posted()

    # In the thread of the event loop --------------------------------------------------------------

    @property
    def hasSaidMore(self) -> bool:
        """
        Whether there is something that the near side has not got.
        """
        return bool(self._outbox)

    def answer(self, request: Request) -> Reply | None:
        """
        Take in what the near side says.

        @return: what it has not got yet, or C{None} if there is nothing new.
        """
        self._asked = time.monotonic()
        with self._changed:
            while self._outbox and self._first < request.received:
                self._outbox.popleft()
                self._first += 1
            new = request.messages[max(0, self._received - request.first) :]
            self._received += len(new)
            reply = Reply(self._first, list(self._outbox), self._received)
        for message in new:
            self._heard(message)
        return reply if reply.messages or new else None

    def _heard(self, message: Message) -> None:
        if message[0] == RECALL:
            self.recall()
            return
        if message[0] == CANCEL and self._takeBack(message[1]):
            return
        with self._changed:
            self._inbox.append(message)
            self._changed.notify()
        if message[0] == CANCEL:
            self.session.interruptSoon(self, message[1])

    def recall(self) -> None:
        """
        Give back every call that has not begun.
        """
        calls: list[Message] = []
        with suppress(IndexError):
            while True:
                calls.append(self._calls.popleft())
        self._giveBack(calls)

    def _takeBack(self, number: int) -> bool:
        try:
            call = next(call for call in self._calls.copy() if call[1] == number)
            self._calls.remove(call)
        except (StopIteration, ValueError, RuntimeError):
            # It has begun, or begins at this moment.
            return False
        self._giveBack([call])
        return True

    def _giveBack(self, calls: list[Message]) -> None:
        if calls:
            with self._changed:
                self._givenBack += calls
            self.post((UNBEGUN, [call[1] for call in calls]))

    def end(self) -> None:
        """
        End everything, because the near side has left, or the Dask worker ends.
        """
        self.recall()
        with self._changed:
            self._isOver = True
            self._inbox.append((QUIT,))
            self._changed.notify()
        number = self.runner.current
        if number is not None:
            self.session.interruptSoon(self, number)

    def strike(self, number: int) -> bool:
        """
        Interrupt a call or a stream.

        @return: whether its code was running.
        """
        return self._guard.strike(number)


def _begin(number: int) -> None:
    pass


class Session(WorkerPlugin):
    """
    What one near side has in one Dask worker.

    @cvar idempotent: whether Dask leaves a plugin alone that it has.
    """

    idempotent = True

    def __init__(self, id: str, raw: bool, forwardLogs: bool) -> None:
        self.name = f"asynqueue-{id}"
        self._raw = raw
        self._forwardLogs = forwardLogs
        self._versions = __version__, VERSION

    def setup(self, worker: Worker) -> None:
        """
        Begin, in a Dask worker.

        @raise ProtocolError: if another version of asynqueue is installed here.
        """
        if self._versions != (__version__, VERSION):
            raise ProtocolError(
                f"the Dask worker {worker.address} has asynqueue {__version__}, and this program "
                f"has {self._versions[0]}: install the same version in both places"
            )
        self._worker = worker
        self._batches: dict[str, FarBatch] = {}
        # The messages for batches that did not run here. They may be about to.
        self._early: dict[str, Request] = {}
        self._byThread: dict[int, FarBatch] = {}
        self._waiters: set[asyncio.Event] = set()
        self._journals: deque[Journal] = deque()
        self._isOver = False
        sweep(self._folder)
        self._logs: LogForwarding | None = None
        if self._forwardLogs:
            self._logs = LogForwarding(self._logged)
            self._logs.install({})
        # There are more threads now.
        worker.log_event(self.name, ["", worker.address])

    def teardown(self, worker: Worker) -> None:
        """
        End, in a Dask worker.
        """
        if self._logs is not None:
            self._logs.uninstall()
        worker.loop.add_callback(self._end)

    def _end(self) -> None:
        successor = self._worker.plugins.get(self.name)
        if isinstance(successor, Session):
            # Dask has put the same plugin in its place: a Dask worker may be given it twice.
            successor.adopt(self)
            return
        self._isOver = True
        for batch in list(self._batches.values()):
            batch.end()
        self._closeJournals()

    def adopt(self, other: Session) -> None:
        """
        Take over the batches of a session that this one replaces.
        """
        self._batches.update(other._batches)
        self._byThread.update(other._byThread)
        self._early.update(other._early)
        self._journals.extend(other._journals)
        other._journals.clear()
        for batch in other._batches.values():
            batch.session = self
        other._wake()

    # In the thread of a batch ---------------------------------------------------------------------

    def run(self, name: str, calls: Sequence[Message]) -> tuple[object, ...]:
        """
        Run a batch, unless it was begun before: Dask runs a task again if a worker dies with it or
        with its result.
        """
        token = Event(tokenOf(name))
        if token.is_set():
            return REFUSED, self.left(name)
        journal = self._takeJournal()
        try:
            token.set()
        except BaseException:
            if journal is not None:
                self._keep(journal)
            raise
        if journal is not None:
            # Not before, because only the run that has the token may have a journal.
            journal.open(name)
        batch = self._batches[name] = FarBatch(calls, self._raw, self, journal)
        thread = threading.get_ident()
        self._byThread[thread] = batch
        self._worker.loop.add_callback(self._begun, name, batch)
        try:
            return RAN, batch.run()
        finally:
            self._forget(name, thread)
            batch.session._forget(name, thread)
            if journal is not None:
                batch.session._keep(journal)

    def _forget(self, name: str, thread: int) -> None:
        self._batches.pop(name, None)
        self._byThread.pop(thread, None)

    def _keep(self, journal: Journal) -> None:
        if self._isOver:
            # Dask may run its batch again elsewhere, and look there for what it has left.
            journal.release()
        else:
            self._journals.append(journal)

    def _closeJournals(self) -> None:
        with suppress(IndexError):
            while True:
                self._journals.pop().close()

    def _takeJournal(self) -> Journal | None:
        """
        Take the journal that was not used for the longest time, or make one.
        """
        try:
            # The last one is left as it is: Dask may not have fetched its batch's result yet.
            isSpare = len(self._journals) > 1
            return self._journals.popleft() if isSpare else Journal(self._folder, self.name)
        except (IndexError, OSError) as error:
            _log.debug("a batch has no journal: %r", error)
            return None

    @property
    def _folder(self) -> str:
        # The worker's own folder is removed after it has died.
        return os.path.dirname(str(self._worker.local_directory))

    def left(self, batch: str) -> Left | None:
        """
        Tell what a batch left behind whose process has died on this machine.
        """
        return readJournal(self._folder, self.name, batch)

    def _logged(self, record: Record) -> None:
        batch = self._byThread.get(threading.get_ident())
        if batch is not None:
            batch.post((LOG, batch.runner.current, record))

    def posted(self) -> None:
        """
        A batch has said something.
        """
        if self._waiters:
            self._worker.loop.add_callback(self._wake)

    def noteSoon(self, batch: FarBatch) -> None:
        """
        Have the near side learn where a batch runs.
        """
        self._worker.loop.add_callback(self._note, batch)

    # In the thread of the event loop --------------------------------------------------------------

    def _begun(self, name: str, batch: FarBatch) -> None:
        early = self._early.pop(name, None)
        if early is not None:
            batch.answer(early)
        loop = self._worker.loop
        loop.call_later(NOTE_SECONDS, self._note, batch)
        loop.call_later(RECALL_SECONDS, batch.recall)

    def _note(self, batch: FarBatch) -> None:
        name = next((name for name, each in self._batches.items() if each is batch), None)
        if name is not None:
            self._worker.log_event(self.name, [name, self._worker.address])

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    def interruptSoon(self, batch: FarBatch, number: int) -> None:
        """
        Interrupt a call. It may be about to begin.
        """

        async def interrupt() -> None:
            for _ in range(100):
                if batch.strike(number) or batch not in self._batches.values():
                    return
                await asyncio.sleep(0.005)

        self._worker.loop.add_callback(interrupt)

    async def exchange(
        self, requests: Sequence[Request], seconds: float
    ) -> dict[str, Reply | None]:
        """
        Hand messages over in both directions.

        @param seconds: for how long to wait until there is something to hand over.
        @return: a L{Reply} for each batch that has something to say, and C{None} for each that is
            not here.
        """
        replies = self._answers(requests)
        if replies or seconds <= 0.0:
            return replies
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            # The near side has told everything by now.
            asked = [replace(request, messages=()) for request in requests]
            # Something may have come since it was looked at.
            if not any(self._hasSaidMore(request.batch) for request in requests):
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(waiter.wait(), seconds)
        finally:
            self._waiters.discard(waiter)
        return self._answers(asked)

    def _hasSaidMore(self, name: str) -> bool:
        batch = self._batches.get(name)
        return batch is None or batch.hasSaidMore

    def _answers(self, requests: Sequence[Request]) -> dict[str, Reply | None]:
        replies: dict[str, Reply | None] = {}
        for request in requests:
            batch = self._batches.get(request.batch)
            if batch is None:
                if request.messages:
                    self._early[request.batch] = request
                    while len(self._early) > 1000:
                        del self._early[next(iter(self._early))]
                replies[request.batch] = None
            else:
                reply = batch.answer(request)
                if reply is not None:
                    replies[request.batch] = reply
        return replies


def tokenOf(batch: str) -> str:
    """
    Name the event of Dask's that is set when a batch begins.
    """
    return f"{batch}-begun"


# What the near side has called --------------------------------------------------------------------


def runBatch(parcel: Parcel) -> Parcel:
    """
    Run a batch of calls: one task of Dask's.
    """
    session, batch, calls = loads(parcel.content)
    plugin = get_worker().plugins.get(session)
    if plugin is None:
        return wrap(UNPREPARED)
    assert isinstance(plugin, Session)
    return wrap(*plugin.run(batch, loads(calls)))


def leftBy(parcel: Parcel, dask_worker: Worker) -> Parcel | None:
    """
    Tell what a batch left behind. See L{Session.left}.
    """
    session, batch = loads(parcel.content)
    plugin = dask_worker.plugins.get(session)
    if plugin is None:
        return None
    assert isinstance(plugin, Session)
    return wrap(plugin.left(batch))


async def exchange(parcel: Parcel, dask_worker: Worker) -> Parcel | None:
    """
    Hand messages over in both directions. See L{Session.exchange}.
    """
    session, requests, seconds = loads(parcel.content)
    plugin = dask_worker.plugins.get(session)
    if plugin is None:
        return None
    assert isinstance(plugin, Session)
    return wrap(await plugin.exchange(requests, seconds))


UpdateOutcome = tuple[bool, Packed]
"""Whether an update returned, and what it returned or raised, packed."""


class UpdatePlugin(WorkerPlugin):
    """
    An update: a call that every Dask worker makes, those of now and those of later.

    @ivar outcome: what came of it, packed.
    """

    def __init__(self, name: str, body: bytes) -> None:
        self.name = name
        self._body = body
        self.outcome: UpdateOutcome | None = None

    async def setup(self, worker: Worker) -> None:
        """
        Make the call, in a thread of its own.
        """
        self.outcome = await asyncio.to_thread(self._run)

    def _run(self) -> UpdateOutcome:
        from contextvars import copy_context

        try:
            body: Body = loads(self._body)
            waiter = CoroutineRunner()
            kind, value = makeCall(copy_context(), None, body, waiter, _neverLater)
            waiter.close()
            if kind == RAISED:
                raise value
            return True, PICKLED.pack(value)
        except BaseException as error:
            return False, describe(error)


def _neverLater(outcome: object) -> None:
    raise AssertionError("a coroutine has outlasted its call")


def outcomeOfUpdate(name: str, dask_worker: Worker) -> Parcel:
    """
    Tell what came of an update.
    """
    plugin = dask_worker.plugins.get(name)
    assert isinstance(plugin, UpdatePlugin)
    return wrap(plugin.outcome)


async def exitNow(dask_worker: Worker) -> None:
    """
    End this Dask worker, if its nanny will start another one.
    """
    if dask_worker.nanny is None:
        _log.warning("a Dask worker without a nanny is not ended for the sake of one call")
    else:
        os._exit(1)


def processID(dask_worker: Worker) -> int:
    """
    Tell the process of a Dask worker.
    """
    return os.getpid()
