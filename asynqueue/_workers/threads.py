"""
Workers that run their tasks in threads of this process.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextvars import ContextVar
from functools import cached_property, partial
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from asynqueue._reactor import ReactorInbox, callFromAnyThread, startThread, turnsOf
from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.codecs import DIRECT, Codec
from asynqueue._runner.logs import LogForwarding, Record
from asynqueue._runner.messages import CALL, CANCEL, LOG, RECALL, UNBEGUN, Message
from asynqueue._runner.stacks import describeThread
from asynqueue._workers.channelworker import ChannelWorker
from asynqueue.errors import WorkerDied, WorkerStartError
from asynqueue.interfaces import IChannel

if TYPE_CHECKING:
    from asynqueue._workers.threaddebug import ReactorWatch


class Inbox:
    """
    Messages for a thread, which waits for them. A call that the thread has not taken can be taken
    back.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._isClosed = False

    def put(self, messages: Iterable[Message]) -> None:
        """
        Add messages.
        """
        with self._changed:
            self._messages.extend(messages)
            self._changed.notify()

    def takeCalls(self, number: int | None = None) -> list[Message]:
        """
        Take calls back.

        @param number: the number of a call; C{None} for all calls.
        @return: the calls that the thread had not taken.
        """
        with self._changed:
            taken: list[Message] = []
            left: deque[Message] = deque()
            for message in self._messages:
                isWanted = message[0] == CALL and number in (None, message[1])
                (taken if isWanted else left).append(message)
            self._messages = left
            return taken

    def take(self, shouldWait: bool) -> list[Message]:
        """
        Take messages out, in order, up to the first call. The calls after it stay here, where they
        can still be taken back.

        @param shouldWait: whether to wait if there are no messages, until the inbox is closed.
        """
        with self._changed:
            while shouldWait and not self._messages and not self._isClosed:
                self._changed.wait()
            taken: list[Message] = []
            while self._messages and not (taken and taken[-1][0] == CALL):
                taken.append(self._messages.popleft())
            return taken

    def close(self) -> None:
        """
        End the thread's wait, now and later.
        """
        with self._changed:
            self._isClosed = True
            self._changed.notify()


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind is PickleBuffer:
        return PickleBuffer(bytes(value.raw()))
    if kind is tuple:
        return tuple([_copied(part) for part in value])
    if kind is list:
        return [_copied(part) for part in value]
    return value


def _startWorker(target: Callable[[], object]) -> threading.Thread:
    thread = startThread(target, "asynqueue worker")
    thread.name = f"asynqueue worker {thread.native_id}"
    return thread


_present: Final[ContextVar[ThreadChannel]] = ContextVar("the channel whose thread this is")


@implementer(IChannel)
class ThreadChannel:
    """
    A thread and the messages to and from it. Values are not pickled, unless the codec does that.

    Nothing can end a thread from outside. If a thread is told to end while it runs a call, it is
    left behind: its later messages are dropped, and it ends after that call.
    """

    isMortal = False
    pid = None

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        raw: bool = False,
        start: Callable[[Callable[[], object]], Any] = _startWorker,
        debug: bool = False,
        codec: Codec = DIRECT,
        logLevels: Mapping[str, int] | None = None,
    ) -> None:
        """
        @param reactor: the reactor, whose thread receives the messages.
        @param raw: whether iterators come back as they are, where a call does not say.
        @param start: starts the thread, given the function that it is to call.
        @param debug: whether tasks are kept from touching the reactor.
        @param codec: packs and unpacks values in the thread.
        @param logLevels: the levels from which on what the tasks log is sent in messages, by the
            names of the loggers; C{None} to send nothing.
        """
        self._reactor = reactor
        self._start = start
        self._watch: ReactorWatch | None = None
        self._raw = raw
        self._codec = codec
        if debug:
            from asynqueue._workers.threaddebug import OffLimits, ReactorWatch

            # A clock that has no threads receives the messages within this thread.
            offLimits = OffLimits(reactor, exempt=[self._post])
            self._watch = ReactorWatch(offLimits, lambda: self._runner.running)
        self._inbox = Inbox()
        self._mayGoOn = threading.Event()
        self._mayGoOn.set()
        self._outbox: ReactorInbox[Message] = ReactorInbox(reactor, self._deliver)
        self._isLeft = False
        self._isOver = False
        self._lastBegun = 0
        self._thread: threading.Thread | None = None
        self._logLevels = logLevels
        self._logs = None if logLevels is None else LogForwarding(self._forward)
        # Why the thread could not be started, and the call that is going to tell it.
        self._refusal: tuple[WorkerStartError, IDelayedCall] | None = None

    @cached_property
    def _runner(self) -> CallRunner:
        # A queue may have a thousand threads that wait for their turn to start, and this takes a
        # fifth of the time of making a worker.
        post = self._post if self._codec is DIRECT else self._postCopy
        if self._watch is not None:
            post = self._postWatched
        return CallRunner(post, self._note, self._raw, codec=self._codec)

    # IChannel -------------------------------------------------------------------------------------

    @property
    def lastBegun(self) -> int:
        """
        The number of the last call that began.
        """
        return self._lastBegun

    def open(self, receiver: Any) -> None:
        """
        Start the thread.
        """
        self._receiver = receiver
        turnsOf(self._reactor).do(self._begin)
        if self._refusal is not None:
            (reason, telling), self._refusal = self._refusal, None
            telling.cancel()
            raise reason

    @property
    def thread(self) -> Any:
        """
        The thread, after L{open}. If many are being started and this one waits for its turn, it is
        started now. C{None} if there is none.
        """
        self._begin()
        return self._thread

    @property
    def name(self) -> str | None:
        """
        The thread's name, or C{None} as long as it was not started.
        """
        return None if self._thread is None else str(self._thread.name)

    def _begin(self) -> None:
        """
        Start the thread, unless it was started or nobody wants it any more.
        """
        if self._thread is not None or self._isOver or self._isLeft:
            return
        # The thread is not to make another one.
        serve = partial(self._serve, self._runner)
        try:
            self._thread = self._start(serve)
        except RuntimeError as error:
            self._isOver = True
            reason = WorkerStartError(
                f"could not start a worker's thread: {error}. The system may have no more threads"
            )
            reason.__cause__ = error
            # Unless it is still being opened, and the caller hears of it.
            self._refusal = reason, self._reactor.callLater(0, self._receiver.lost, reason)
            return
        if self._logs is not None and self._logLevels is not None:
            self._logs.installAmongOthers(self._logLevels, self._isPresent)

    def send(self, messages: list[Message]) -> None:
        """
        Send messages. Calls that the thread has not begun are taken back at once, even while the
        thread is busy.
        """
        for message in messages:
            if message[0] == RECALL:
                self._takeBack(None)
            elif message[0] == CANCEL:
                self._takeBack(message[1])
        self._inbox.put(messages)

    def nudge(self) -> None:
        """
        Do nothing, because a thread looks at its messages between two calls.
        """

    def terminate(self) -> None:
        """
        Have the thread end after the call that it runs now.
        """
        self._runner.quit()
        self._inbox.close()
        self._mayGoOn.set()

    def pauseReading(self, isPaused: bool) -> None:
        """
        Have the thread wait before its next call or batch of items, or go on. A thread that pickles
        also waits after each large message, until this is called.
        """
        if isPaused and not self._isLeft and not self._isOver:
            self._mayGoOn.clear()
        else:
            self._mayGoOn.set()

    @property
    def waitingBytes(self) -> int:
        """
        Return 0, because what the thread has not taken is in this process already.
        """
        return 0

    def kill(self) -> None:
        """
        Leave the thread behind at once.
        """
        if self._isOver or self._isLeft:
            return
        self._isLeft = True
        number = self._runner.running
        if number is not None:
            self.log.warn(
                "{thread} is left behind, because it still runs call {number}",
                thread=self._thread,
                number=number,
            )
        self.terminate()
        self._reactor.callLater(0, self._over)

    def residentKilobytes(self) -> int | None:
        """
        Return C{None}, because a thread has no memory of its own.
        """
        return None

    def dump(self) -> None:
        """
        Do nothing, because L{stacks} needs nothing to be written before.
        """

    def stacks(self) -> str | None:
        """
        Return the stack of what the thread is running.
        """
        ident = getattr(self._thread, "ident", None)
        return describeThread(ident, self._runner.running is not None)

    def _takeBack(self, number: int | None) -> None:
        numbers = [call[1] for call in self._inbox.takeCalls(number)]
        if numbers:
            self._post((UNBEGUN, numbers))

    # In the thread --------------------------------------------------------------------------------

    def _serve(self, runner: CallRunner) -> None:
        inbox, watch = self._inbox, self._watch
        # The contexts of the calls are copies of this thread's.
        _present.set(self)
        try:
            runner.hello()
            while not runner.ended:
                runner.receive(inbox.take(shouldWait=not runner.hasWork))
                if watch is not None:
                    watch.watch()
                while not (self._mayGoOn.wait(1.0) or self._isLeft):
                    pass
                if not self._isLeft:
                    runner.step()
            runner.receive(inbox.takeCalls())
            runner.close()
        finally:
            if watch is not None:
                watch.end()
            callFromAnyThread(self._reactor, self._ended)

    def _note(self, number: int) -> None:
        self._lastBegun = number

    def _isPresent(self) -> bool:
        return _present.get(None) is self

    def _forward(self, record: Record) -> None:
        self._post((LOG, self._runner.current, record))

    def _post(self, message: Message) -> None:
        self._outbox.put(message)

    def _postCopy(self, message: Message) -> None:
        if not self._isLeft and any(type(part) in (PickleBuffer, tuple) for part in message):
            # It may be large. The reactor's thread is to say that there is room for the next.
            self._mayGoOn.clear()
        # The task may change the memory that a buffer shows before the message has left.
        self._post(_copied(message))

    def _postWatched(self, message: Message) -> None:
        assert self._watch is not None
        self._post(self._watch.answer(message))

    # In the reactor's thread ----------------------------------------------------------------------

    def _deliver(self, messages: list[Message]) -> None:
        if not self._isLeft:
            self._receiver.received(messages)

    def _ended(self) -> None:
        # Many threads may end at once.
        turnsOf(self._reactor).do(self._over)

    def _over(self) -> None:
        """
        The thread has ended, or was left behind.
        """
        if self._isOver:
            return
        if self._logs is not None:
            self._logs.uninstall()
        self._outbox.flush()
        self._isOver = True
        self._receiver.lost(WorkerDied())


class ThreadWorker(ChannelWorker):
    """
    Runs tasks in a thread of its own, one at a time.

    Nothing is pickled or copied: arguments and results are the very objects. An iterator is
    advanced in the thread, and its items come in batches.

    A call that is cancelled or out of time goes on, because nothing can end a thread. Its result is
    dropped, and the thread counts as busy until the call returns. If a thread is busy when its
    worker is crashed, or when the program ends, it is left behind.

    @ivar thread: the thread of this moment.
    """

    cQualified: ClassVar[list[Hashable]] = ["thread", "local"]
    codec = DIRECT
    packer = None

    def __init__(
        self,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        debug: bool | None = None,
    ) -> None:
        """
        Start the thread.

        @param series: the series that this worker is qualified for, besides C{None}, C{'thread'}
            and C{'local'}.
        @param raw: whether an iterator that a task returns comes back as it is, rather than as a
            stream of items, where the call does not say.
        @param callStats: whether to keep the times that C{stats} returns.
        @param reactor: the reactor. Default: the global reactor.
        @param debug: whether a task that is about to do what only the reactor's thread may do is
            stopped with C{ReactorTouched}, which is logged as well. Tasks run several times slower
            then. Default: whether Python runs in its development mode (C{python -X dev}).
        """
        self._raw = raw
        self._debug = sys.flags.dev_mode if debug is None else debug
        super().__init__(series, callStats, reactor)

    def __repr__(self) -> str:
        assert isinstance(self._channel, ThreadChannel)
        return f"<{type(self).__name__} in {self._channel.name!r}: {self._describeState()}>"

    def makeChannel(self) -> IChannel:
        """
        Make the channel to a new thread.
        """
        return ThreadChannel(self._reactor, self._raw, debug=self._debug)

    @property
    def thread(self) -> threading.Thread:
        """
        The thread of this moment.
        """
        assert isinstance(self._channel, ThreadChannel)
        thread: threading.Thread = self._channel.thread
        return thread
