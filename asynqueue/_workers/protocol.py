"""
The near half of the protocol: what was sent to a runner, and what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue._core.runtimes import isModuleBuiltin
from asynqueue._core.task import Task
from asynqueue._iteration.sources import ItemSource
from asynqueue._reactor import callFromAnyThread
from asynqueue._runner.codecs import PICKLED, Codec
from asynqueue._runner.exceptions import withoutFrames
from asynqueue._runner.messages import (
    CALL,
    CANCEL,
    ENDED,
    GRANT,
    HELLO,
    ITEMS,
    LOG,
    PROGRESS,
    RAISED,
    RECALL,
    RETURNED,
    STREAMING,
    UNBEGUN,
    VERSION,
    Message,
)
from asynqueue._runner.packing import PLAIN, Packed, pack
from asynqueue._workers.picklability import refusedCall, refusedContext
from asynqueue.errors import (
    PayloadTooLarge,
    ProtocolError,
    ResultNotRebuilt,
    WorkerStartError,
    textOf,
)
from asynqueue.interfaces import IChannel

FUNCTIONS = 4096
"""How many functions one runner is taught; calls of others carry their function's pickle each
time."""


class Writer(Protocol):
    """
    Writes the calls of one conversation.
    """

    def write(self, id: int, task: Task) -> Message:
        """The message of a task's call. Raises C{CallNotPicklable}."""

    def unteach(self, task: Task, message: Message) -> None:
        """A message that was written has not been sent."""


class DirectWriter:
    """
    Writes calls for a runner that shares this side's memory: function and arguments as they are.
    """

    def write(self, id: int, task: Task) -> Message:
        """
        The message of a task's call.
        """
        arguments = (task.args, task.kwargs)
        return (CALL, id, task.function, arguments, task.options.raw, task.context)

    def unteach(self, task: Task, message: Message) -> None:
        """
        Nothing was taught.
        """


class CallWriter:
    """
    Writes the calls for one runner, and knows which functions it has been taught.

    A plain function, which is pickled by its name, is sent once and numbered. Anything else that
    can be called (a bound method, a C{partial}) may change between calls and is pickled each time.
    """

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._unused = count()

    def write(self, id: int, task: Task) -> Message:
        """
        @param id: the call's ID on its channel.
        @param task: what to call.
        @return: its message.
        @raise CallNotPicklable: naming the function or the argument that is at fault.
        """
        args = task.args
        arguments: Any
        if not task.kwargs and PLAIN.issuperset(map(type, args)):
            arguments = args
        else:
            arguments = self._pack((args, dict(task.kwargs)), task)
        context = None if task.context is None else self._packContext(task)
        # Only now, since a call that is not written teaches nothing.
        return (CALL, id, self._numberOf(task), arguments, task.options.raw, context)

    def unteach(self, task: Task, message: Message) -> None:
        """
        A message that was written has not been sent.
        """
        function = message[2]
        if type(function) is tuple and type(function[0]) is int:
            del self._numbers[task.function]

    def _numberOf(self, task: Task) -> Any:
        """
        A function as it is sent: by its number, with its number, or without one.
        """
        try:
            number = self._numbers.get(task.function)
        except Exception:
            # It cannot be hashed, and so was never taught.
            number = None
        return self._teach(task) if number is None else number

    def _teach(self, task: Task) -> Any:
        function = task.function
        data = self._pack(function, task)
        if not _isNamed(function) or len(self._numbers) >= FUNCTIONS:
            return data
        number = self._numbers[function] = next(self._unused)
        return number, data

    def _pack(self, value: Any, task: Task) -> Packed:
        try:
            return pack(value)
        except BaseException as error:
            refusal = refusedCall(task, error)
        # Raised here, so that the error itself is no context of it.
        raise refusal

    def _packContext(self, task: Task) -> Packed:
        try:
            return pack(task.context)
        except BaseException as error:
            refusal = refusedContext(task, error)
        raise refusal


def _isNamed(function: Callable[..., Any]) -> bool:
    return type(function) is FunctionType or isModuleBuiltin(function)


class FarEnd(Protocol):
    """
    What a stream says to its far end.
    """

    def send(self, messages: list[Message]) -> None:
        """Send messages."""

    def unwanted(self, number: int) -> None:
        """See to it that a stream ends."""

    def soon(self, function: Callable[[], None]) -> None:
        """Have something called in the reactor's thread."""


class NearStream(ItemSource):
    """
    Buffers the items that came, and grants credit for more as they are taken.

    @ivar number: the number of the call that yields it.
    @ivar task: that task, until it is done.
    @ivar taskID: its ID.
    """

    def __init__(
        self,
        number: int,
        task: Any,
        farEnd: FarEnd,
        unpack: Callable[[Packed], Any] = PICKLED.unpack,
    ) -> None:
        super().__init__()
        self.number = number
        self.task = task
        self.taskID = task.id
        self._farEnd = farEnd
        self._unpack = unpack

    def arrived(self, batch: list[Packed], size: int) -> None:
        """
        A batch of items came, which used so many bytes of credit.
        """
        unpack = self._unpack
        try:
            self.add([item if type(item) in PLAIN else unpack(item) for item in batch], size)
        except BaseException:
            self._addUntilBroken(batch, size)

    def _addUntilBroken(self, batch: list[Packed], size: int) -> None:
        """
        An item cannot be rebuilt: those before it still arrive, then the stream fails.
        """
        items: list[Any] = []
        for item in batch:
            try:
                items.append(self._unpack(item))
            except BaseException as error:
                failure = Failure(notRebuilt("an item", error))
                break
        else:
            # It could be rebuilt this time.
            self.add(items, size)
            return
        self.add(items, size)
        self.fail(failure)
        self._farEnd.unwanted(self.number)

    def consumed(self, count: int, cost: int) -> None:
        """
        Grant again what was taken.
        """
        if not self.isOver:
            self._farEnd.send([(GRANT, self.number, count, cost)])

    def stopped(self) -> None:
        """
        Nobody wants the rest.
        """
        self._farEnd.unwanted(self.number)

    def abandoned(self, stop: Callable[[], None]) -> None:
        """
        Whoever took the items is garbage.
        """
        self._farEnd.soon(stop)


def notRebuilt(what: str, error: BaseException) -> ResultNotRebuilt:
    """
    @param what: what came, for people.
    @param error: why it could not be rebuilt.
    """
    why = f"{type(error).__name__}: {textOf(error)}"
    explained = ResultNotRebuilt(f"could not rebuild {what}: {why}")
    explained.__cause__ = withoutFrames(error)
    return explained


Ended = tuple[Any, float | None]
"""A task that a runner no longer has, and how many seconds its run took if it came to its end."""

_Refused = tuple[Any, Failure]
"""A task that could not be sent, and why."""


class Listener(Protocol):
    """
    Whoever has a conversation: a worker.
    """

    def greeted(self) -> None:
        """The runner said hello."""

    def released(self, ended: list[Ended]) -> None:
        """The runner no longer has these tasks."""

    def givenBack(self, tasks: list[Any]) -> None:
        """The runner did not begin these tasks, and will not."""

    def stalled(self) -> bool:
        """A task takes far longer than those that were measured. C{True} if those that were sent
        ahead are wanted back."""

    def yielded(self, task: Any, stream: NearStream) -> None:
        """A task returned an iterator, and its stream begins."""

    def unwanted(self, number: int) -> None:
        """A stream is to be ended."""

    def logged(self, taskID: int | None, record: Any) -> None:
        """Something was logged in the runner, maybe by a task."""


class RunnerProtocol:
    """
    Sends tasks to one runner and hears their ends.

    Calls have numbers here, in the order of sending, which is the order in which they run. So if
    the runner is lost, those up to the last one that had begun were begun, and the rest were not.

    @ivar underway: the tasks that were sent and not answered, by number. Some may be done, if they
        were cancelled.
    @ivar streams: the streams that are open, by number.
    @ivar untold: what ended, and the listener is about to be told.
    """

    stallSeconds = 0.05
    """When tasks that were sent ahead have waited for so long, in seconds, behind one task, they
    are recalled."""

    def __init__(
        self,
        channel: IChannel,
        listener: Listener,
        reactor: IReactorTime,
        codec: Codec = PICKLED,
        writer: Writer | None = None,
    ) -> None:
        """
        @param codec: what becomes of values on their way.
        @param writer: writes the calls, for that codec's reader. Default: a L{CallWriter}.
        """
        self.underway: dict[int, Any] = {}
        self.streams: dict[int, NearStream] = {}
        self._channel = channel
        self._listener = listener
        self._reactor = reactor
        self._numbers = count(1)
        self._codec = codec
        self._writer: Writer = CallWriter() if writer is None else writer
        self._stall: IDelayedCall | None = None
        self.untold: list[Ended] = []
        self._isOver = False
        self._handlers: dict[int, Callable[..., None]] = {
            HELLO: self._hello,
            RETURNED: self._returned,
            RAISED: self._raised,
            STREAMING: self._streaming,
            ITEMS: self._items,
            ENDED: self._ended,
            UNBEGUN: self._unbegun,
            PROGRESS: self._progress,
            LOG: self._logged,
        }

    @property
    def isIdle(self) -> bool:
        """
        Whether nothing is underway and no stream is open.
        """
        return not self.underway and not self.streams

    # Near to far ----------------------------------------------------------------------------------

    def send(self, messages: list[Message]) -> None:
        """
        Send messages that are known to be small.
        """
        self._channel.send(messages)

    def run(self, tasks: list[Any]) -> None:
        """
        Send calls. A task that cannot be sent fails.
        """
        messages: list[Message] = []
        refused: list[_Refused] = []
        for task in tasks:
            number = next(self._numbers)
            try:
                messages.append(self._writer.write(number, task))
            except Exception as error:
                refused.append((task, Failure(error.with_traceback(None))))
            else:
                self.underway[number] = task
        if messages:
            refused += self._sendCalls(messages)
        if len(self.underway) > 1 and self._stall is None:
            self._watch(next(iter(self.underway)))
        # Not before: on hearing of it, somebody may crash the worker.
        for task, failure in refused:
            self.untold.append((task, None))
            task.errback(failure)
        self._tellEnded()

    def _sendCalls(self, messages: list[Message]) -> list[_Refused]:
        try:
            self._channel.send(messages)
            return []
        except PayloadTooLarge as error:
            tasks = {message[1]: self.underway[message[1]] for message in messages}
            for message in messages:
                self._writer.unteach(tasks[message[1]], message)
            if len(messages) == 1:
                task = self.underway.pop(messages[0][1])
                return [(task, Failure(error.with_traceback(None)))]
        refused: list[_Refused] = []
        for number, task in tasks.items():
            refused += self._sendCalls([self._writer.write(number, task)])
        return refused

    def cancel(self, number: int) -> None:
        """
        Ask the runner to give up a call or a stream, even if it is running.
        """
        self._channel.send([(CANCEL, number)])
        self._channel.nudge()

    def unwanted(self, number: int) -> None:
        """
        Nobody wants the rest of a stream.
        """
        self._listener.unwanted(number)

    def soon(self, function: Callable[[], None]) -> None:
        """
        Have something called in the reactor's thread, from whichever thread.
        """
        callFromAnyThread(self._reactor, function)

    def has(self, number: int) -> bool:
        """
        Whether a call or a stream is not over yet.
        """
        return number in self.underway or number in self.streams

    def mayRun(self, number: int) -> bool:
        """
        Whether a call or a stream may be running now, and no other call is.
        """
        first = next(iter(self.underway), None)
        if first is None:
            return True
        begun = self._channel.lastBegun
        if number == first:
            # If a later one has begun, this one was given back, which was not heard yet.
            return begun is None or begun <= number
        return number in self.streams and begun is not None and begun < first

    # Sent ahead, and recalled ---------------------------------------------------------------------

    def _watch(self, head: int) -> None:
        self._stall = self._reactor.callLater(self.stallSeconds, self._look, head)

    def _look(self, head: int) -> None:
        """
        See whether the calls that were sent ahead get on.
        """
        self._stall = None
        if len(self.underway) < 2:
            return
        now = next(iter(self.underway))
        if now != head or self._isWaiting(now):
            self._watch(now)
            return
        if self._listener.stalled():
            self._channel.send([(RECALL,)])
            self._channel.nudge()

    def _isWaiting(self, number: int) -> bool:
        """
        Whether it is known that a call has not begun although nothing is before it: the runner is
        given no time to run. To recall calls then would keep them from ever being run.
        """
        begun = self._channel.lastBegun
        return begun is not None and begun < number and not self.streams

    # Far to near ----------------------------------------------------------------------------------

    def received(self, messages: list[Message]) -> None:
        """
        Take in what the runner says.

        @raise ProtocolError: if it makes no sense.
        """
        handlers = self._handlers
        try:
            for message in messages:
                handler = handlers.get(message[0])
                if handler is None:
                    raise ProtocolError(f"an unknown message came: {message!r:.200}")
                handler(*message)
                if self._isOver:
                    break
        finally:
            self._tellEnded()

    def _tellEnded(self) -> None:
        if self.untold:
            ended, self.untold = self.untold, []
            self._listener.released(ended)

    def _hello(self, _: int, pid: int, version: int, python: str) -> None:
        if version != VERSION:
            raise ProtocolError(
                f"the runner speaks version {version} of the protocol (on Python {python}), "
                f"this side speaks version {VERSION}"
            )
        self._listener.greeted()

    def _returned(self, _: int, number: int, seconds: float, packed: Packed) -> None:
        task = self.underway.pop(number)
        self.untold.append((task, seconds))
        if type(packed) in PLAIN:
            task.callback(packed)
            return
        try:
            value = self._codec.unpack(packed)
            if isinstance(value, Deferred):
                raise TypeError("it is a Deferred, which nothing here would ever fire")
        except BaseException as error:
            task.errback(Failure(notRebuilt(f"the result of {task}", error)))
        else:
            task.callback(value)

    def _raised(self, _: int, number: int, seconds: float, described: Any) -> None:
        failure = Failure(self._codec.rebuild(described))
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.fail(failure)
            return
        task = self.underway.pop(number)
        self.untold.append((task, seconds))
        task.errback(failure)

    def _streaming(self, _: int, number: int, seconds: float) -> None:
        task = self.underway.pop(number)
        stream = self.streams[number] = NearStream(number, task, self, self._codec.unpack)
        self.untold.append((task, seconds))
        if task.isDone:
            stream.stop()
        else:
            self._listener.yielded(task, stream)

    def _items(self, _: int, number: int, batch: list[Packed], size: int) -> None:
        self.streams[number].arrived(batch, size)

    def _ended(self, _: int, number: int) -> None:
        self.streams.pop(number).end()

    def _unbegun(self, _: int, numbers: list[int]) -> None:
        tasks = [self.underway.pop(number) for number in numbers]
        self.untold += [(task, None) for task in tasks]
        self._tellEnded()
        self._listener.givenBack([task for task in tasks if not task.isDone])

    def _progress(self, _: int, number: int, done: float, total: float | None) -> None:
        stream = self.streams.get(number)
        task = self.underway.get(number) if stream is None else stream.task
        if task is not None:
            task.reported(done, total)

    def _logged(self, _: int, number: int | None, record: Any) -> None:
        stream = self.streams.get(number) if number is not None else None
        task = self.underway.get(number) if number is not None else None
        taskID = task.id if task is not None else None if stream is None else stream.taskID
        self._listener.logged(taskID, record)

    # The end --------------------------------------------------------------------------------------

    def over(self) -> None:
        """
        The conversation is over, or not to be listened to any more.
        """
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._isOver = True

    def split(self, reason: Exception) -> tuple[list[Any], list[Any]]:
        """
        The runner is gone: tell what it had begun from what it had not.

        @param reason: why it is gone.
        @return: the tasks whose calls had begun, and those whose calls had not.
        """
        last = self._channel.lastBegun
        if last is None:
            # The channel cannot tell: suppose that the first one had begun, if any could.
            hasStarted = not isinstance(reason, WorkerStartError)
            last = next(iter(self.underway), 0) if hasStarted else 0
        begun = [task for number, task in self.underway.items() if number <= last]
        unbegun = [task for number, task in self.underway.items() if number > last]
        self.underway.clear()
        return begun, unbegun
