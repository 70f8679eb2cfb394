"""
The near half of the protocol: calls become messages to a runner, and its messages become events.

Nothing here does I/O or knows a clock. L{RunnerProtocol.call} and its like give the messages to
send, and L{RunnerProtocol.receive} gives the events that messages mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from types import FunctionType
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue._core.scheduler import isModuleBuiltin
from asynqueue._core.task import Task
from asynqueue._iteration.sources import ItemSource
from asynqueue._runner.codecs import PICKLED, Codec
from asynqueue._runner.exceptions import withoutFrames
from asynqueue._runner.messages import (
    CALL,
    CANCEL,
    CREDIT_BYTES,
    CREDIT_ITEMS,
    ENDED,
    GRANT,
    HELLO,
    ITEMS,
    LOG,
    PROGRESS,
    RAISED,
    RETURNED,
    STACKS,
    STREAMING,
    UNBEGUN,
    VERSION,
    Message,
)
from asynqueue._runner.packing import PLAIN, STANDARD, Packed, Packer
from asynqueue._workers.events import (
    GivenBack,
    Items,
    Logged,
    Progressed,
    Raised,
    Ready,
    Returned,
    StacksTold,
    StreamEnded,
    StreamLost,
    WorkerEvent,
    Yielded,
)
from asynqueue._workers.picklability import refusedCall, refusedContext
from asynqueue.errors import ProtocolError, ResultNotRebuilt, textOf

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue._runner.logs import Record

FUNCTIONS: Final = 4096
"""How many functions one runner is taught. A call of another function carries its pickle."""


class Writer(Protocol):
    """
    Writes the calls of one runner.
    """

    def write(self, number: int, task: Task) -> Message:
        """Make the message of a task's call. Raises C{CallNotPicklable}."""

    def unteach(self, task: Task, message: Message) -> None:
        """Forget what a message taught, because it was not sent."""


class DirectWriter:
    """
    Writes calls for a runner that shares this side's memory: function and arguments as they are.
    """

    def write(self, number: int, task: Task) -> Message:
        """
        Make the message of a task's call.
        """
        arguments = (task.args, task.kwargs)
        return (CALL, number, task.function, arguments, task.options.raw, task.context)

    def unteach(self, task: Task, message: Message) -> None:
        """
        Do nothing, because nothing was taught.
        """


class CallWriter:
    """
    Writes the calls for one runner, and knows which functions the runner has been taught.

    A plain function, if it is pickled by its name, is sent once and numbered. Any other callable (a
    bound method, a C{partial}, a function that is pickled by value) may change between calls and is
    pickled each time.
    """

    def __init__(self, packer: Packer = STANDARD) -> None:
        """
        @param packer: packs functions and arguments.
        """
        self._packer = packer
        self._numbers: dict[object, int] = {}
        self._unused = count()

    def write(self, number: int, task: Task) -> Message:
        """
        Make the message of a task's call.

        @param number: the call's number on its channel.
        @raise CallNotPicklable: naming the function or the argument that is at fault.
        """
        args = task.args
        arguments: object = args
        isPlain = not task.kwargs
        # This takes half the time of PLAIN.issuperset() if there are few arguments, as usual.
        for value in args:
            if type(value) not in PLAIN:
                isPlain = False
                break
        if not isPlain:
            arguments = self._pack((args, dict(task.kwargs)), task)
        context = None if task.context is None else self._packContext(task)
        # The function comes last, because a call that cannot be written teaches nothing.
        try:
            function: object = self._numbers.get(task.function)
        except Exception:
            # It cannot be hashed, and so was never taught.
            function = None
        if function is None:
            function = self._teach(task)
        return (CALL, number, function, arguments, task.options.raw, context)

    def unteach(self, task: Task, message: Message) -> None:
        """
        Forget what a message taught, because it was not sent.
        """
        function = message[2]
        if type(function) is tuple and type(function[0]) is int:
            del self._numbers[task.function]

    def _teach(self, task: Task) -> object:
        """
        Give a function its number if it may have one.

        @return: the number and the function's pickle, or the pickle alone.
        """
        function = task.function
        data = self._pack(function, task)
        if len(self._numbers) >= FUNCTIONS or not _isNamed(function, data):
            return data
        number = self._numbers[function] = next(self._unused)
        return number, data

    def _pack(self, value: object, task: Task) -> Packed:
        try:
            return self._packer.pack(value)
        except BaseException as error:
            refusal = refusedCall(task, error, self._packer)
        # Raised here, so that the error itself is no context of it.
        raise refusal

    def _packContext(self, task: Task) -> Packed:
        try:
            return self._packer.pack(task.context)
        except BaseException as error:
            refusal = refusedContext(task, error, self._packer)
        raise refusal


def _isNamed(function: Callable[..., object], packed: Packed) -> bool:
    """
    Whether a function was packed by its name alone.
    """
    if type(function) is not FunctionType:
        return isModuleBuiltin(function)
    try:
        return bool(packed == STANDARD.pack(function))
    except Exception:
        # It has no name to be found by.
        return False


class RunnerProtocol:
    """
    Knows what was sent to one runner, and what became of it.

    Calls are numbered in the order of sending, which is the order in which they run. So when the
    runner is lost, the calls up to the last one that had begun were begun, and the others were not.

    @ivar underway: the tasks that were sent and not answered, by number. A task that was cancelled
        stays until the runner has answered.
    @ivar streams: the streams that are open, by number.
    @ivar sources: those, and the streams of which somebody still has items to take, by their tasks'
        IDs.
    @ivar completed: how many calls have run to their end.
    @ivar error: why the runner's messages made no sense, once they did not. Nothing more is to be
        received then.
    """

    def __init__(
        self,
        link: StreamLink,
        codec: Codec = PICKLED,
        writer: Writer | None = None,
        sources: WeakValueDictionary[int, ItemSource] | None = None,
    ) -> None:
        """
        @param link: what streams tell the runner through.
        @param codec: what becomes of values on their way.
        @param writer: writes the calls, for that codec's reader. Default: a L{CallWriter}.
        @param sources: what becomes C{sources}. Default: an empty one.
        """
        self.underway: dict[int, QueuedTask] = {}
        self.streams: dict[int, NearStream] = {}
        self.sources = WeakValueDictionary() if sources is None else sources
        self.completed = 0
        self.error: Exception | None = None
        self._link = link
        self._numbers = count(1)
        self._codec = codec
        self._writer: Writer = CallWriter() if writer is None else writer
        self._handlers: dict[int, Callable[..., WorkerEvent]] = {
            HELLO: self._hello,
            RAISED: self._raised,
            STREAMING: self._streaming,
            ITEMS: self._items,
            ENDED: self._ended,
            UNBEGUN: self._unbegun,
            PROGRESS: self._progress,
            LOG: self._logged,
            STACKS: self._stacks,
        }

    @property
    def isIdle(self) -> bool:
        """
        Whether nothing is underway and no stream is open.
        """
        return not self.underway and not self.streams

    # Near to far ----------------------------------------------------------------------------------

    def call(self, tasks: Sequence[QueuedTask]) -> tuple[list[Message], list[WorkerEvent]]:
        """
        Begin some calls.

        @return: the messages to send, and an event for each task whose call cannot be written.
        """
        messages: list[Message] = []
        refused: list[WorkerEvent] = []
        for task in tasks:
            number = next(self._numbers)
            try:
                messages.append(self._writer.write(number, task))
            except Exception as error:
                refused.append(Raised(task, None, Failure(error.with_traceback(None))))
            else:
                self.underway[number] = task
        return messages, refused

    def uncall(self, messages: Sequence[Message]) -> list[QueuedTask]:
        """
        Take calls back whose messages could not be sent.

        @return: their tasks.
        """
        tasks = []
        for message in messages:
            task = self.underway.pop(message[1])
            self._writer.unteach(task, message)
            tasks.append(task)
        return tasks

    def cancel(self, number: int) -> list[Message]:
        """
        Give up a call or a stream, even if it is running.

        @return: the messages to send.
        """
        return [(CANCEL, number)]

    def has(self, number: int) -> bool:
        """
        Whether a call or a stream is not over yet.
        """
        return number in self.underway or number in self.streams

    def numberOf(self, task: Task) -> int | None:
        """
        Find the number under which a task is underway or streams, or C{None} if it does neither.
        """
        for number, underway in self.underway.items():
            if underway is task:
                return number
        for number, stream in self.streams.items():
            if stream.task is task:
                return number
        return None

    def mayRun(self, number: int, begun: int | None) -> bool:
        """
        Whether a call or a stream may be running now, and no other call is.

        @param begun: the number of the last call that began, or C{None} if that is not known.
        """
        first = next(iter(self.underway), None)
        if first is None:
            return True
        if number == first:
            # If a later one has begun, this one was given back, which was not heard yet.
            return begun is None or begun <= number
        return number in self.streams and begun is not None and begun < first

    def isWaiting(self, number: int, begun: int | None) -> bool:
        """
        Whether it is known that a call has not begun although nothing is before it: the system
        gives the runner no time. To recall calls then would keep them from ever being run.
        """
        return begun is not None and begun < number and not self.streams

    def isBlocked(self, begun: int | None) -> bool:
        """
        Whether it is known that no call has begun of those that are underway, and that a stream may
        be the reason.
        """
        first = next(iter(self.underway), None)
        return bool(self.streams) and first is not None and begun is not None and begun < first

    # Far to near ----------------------------------------------------------------------------------

    def receive(self, messages: Sequence[Message]) -> list[WorkerEvent]:
        """
        Take in what the runner says.

        @return: what it means, in order. If a message makes no sense, L{error} says why, and the
            events are those of the messages before it.
        """
        events: list[WorkerEvent] = []
        underway = self.underway
        try:
            for message in messages:
                if message[0] != RETURNED:
                    handler = self._handlers.get(message[0])
                    if handler is None:
                        raise ProtocolError(f"an unknown message came: {message!r:.200}")
                    events.append(handler(*message))
                    continue
                _, number, seconds, packed = message
                task = underway.pop(number)
                self.completed += 1
                if type(packed) in PLAIN:
                    events.append(Returned(task, seconds, packed))
                else:
                    events.append(self._rebuilt(task, seconds, packed))
        except Exception as error:
            self.error = error
        return events

    def _rebuilt(self, task: QueuedTask, seconds: float, packed: Packed) -> WorkerEvent:
        try:
            value = self._codec.unpack(packed)
            if isinstance(value, Deferred):
                raise TypeError("it is a Deferred, which nothing here would ever fire")
        except BaseException as error:
            return Raised(task, seconds, Failure(notRebuilt(f"the result of {task}", error)))
        return Returned(task, seconds, value)

    def _hello(self, _: int, pid: int, version: int, python: str) -> WorkerEvent:
        if version != VERSION:
            raise ProtocolError(
                f"the runner speaks version {version} of the protocol (on Python {python}), "
                f"this side speaks version {VERSION}"
            )
        return Ready()

    def _raised(self, _: int, number: int, seconds: float, described: Packed) -> WorkerEvent:
        failure = Failure(self._codec.rebuild(described))
        stream = self.streams.pop(number, None)
        if stream is not None:
            return StreamEnded(stream, failure)
        task = self.underway.pop(number)
        self.completed += 1
        return Raised(task, seconds, failure)

    def _streaming(self, _: int, number: int, seconds: float) -> WorkerEvent:
        task = self.underway.pop(number)
        self.completed += 1
        stream = NearStream(number, task, self._link, self._codec.unpack)
        self.streams[number] = self.sources[stream.taskID] = stream
        return Yielded(task, seconds, stream)

    def _items(self, _: int, number: int, batch: list[Packed], size: int) -> WorkerEvent:
        return Items(self.streams[number], batch, size)

    def _ended(self, _: int, number: int) -> WorkerEvent:
        return StreamEnded(self.streams.pop(number))

    def _unbegun(self, _: int, numbers: list[int]) -> WorkerEvent:
        return GivenBack([self.underway.pop(number) for number in numbers])

    def _progress(self, _: int, number: int, done: float, total: float | None) -> WorkerEvent:
        stream = self.streams.get(number)
        task = self.underway.get(number) if stream is None else stream.task
        return Progressed(task, done, total)

    def _logged(self, _: int, number: int | None, record: Record) -> WorkerEvent:
        stream = self.streams.get(number) if number is not None else None
        task = self.underway.get(number) if number is not None else None
        return Logged(
            task.id if task is not None else None if stream is None else stream.taskID, record
        )

    def _stacks(self, _: int, question: int, number: int | None, text: str) -> WorkerEvent:
        stream = self.streams.get(number) if number is not None else None
        task = self.underway.get(number) if number is not None else None
        return StacksTold(question, task if stream is None else stream.task, text)

    # The end --------------------------------------------------------------------------------------

    def split(self, begun: int | None) -> tuple[list[QueuedTask], list[QueuedTask]]:
        """
        Forget what is underway, because the runner is gone.

        @param begun: the number of the last call that began. C{None}, if that is not known, counts
            as the first call that is underway.
        @return: the tasks whose calls had begun, and those whose calls had not.
        """
        if begun is None:
            begun = next(iter(self.underway), 0)
        tasks, self.underway = self.underway, {}
        hadBegun = [task for number, task in tasks.items() if number <= begun]
        return hadBegun, [task for number, task in tasks.items() if number > begun]

    def endStreams(self, reason: Exception) -> list[WorkerEvent]:
        """
        Forget the streams that are open, because the runner is gone.

        @return: an event for each.
        """
        streams, self.streams = self.streams, {}
        return [StreamLost(stream, Failure(reason)) for stream in streams.values()]


class StreamLink(Protocol):
    """
    How a stream tells its runner something.
    """

    def send(self, messages: list[Message]) -> None:
        """Send messages."""

    def stopStream(self, number: int) -> None:
        """See to it that a stream ends in the runner."""

    def soon(self, function: Callable[[], None]) -> None:
        """Have a function called in the reactor's thread, from whichever thread."""


class NearStream(ItemSource):
    """
    The near end of a stream: it buffers the items that came, and grants credit for more as they are
    taken.

    @ivar number: the number of the call that yields it.
    @ivar task: that task, until it is done.
    @ivar taskID: its ID.
    """

    def __init__(
        self,
        number: int,
        task: QueuedTask,
        link: StreamLink,
        unpack: Callable[[Packed], object] = PICKLED.unpack,
    ) -> None:
        super().__init__()
        self.number = number
        self.task = task
        self.taskID = task.id
        self._items = CREDIT_ITEMS
        self._bytes = CREDIT_BYTES
        self._link = link
        self._unpack = unpack

    def arrived(self, batch: list[Packed], size: int) -> None:
        """
        Add a batch of items, which used so many bytes of credit. An item that cannot be rebuilt
        ends the stream, after the items before it.
        """
        self._items -= len(batch)
        self._bytes -= size
        unpack = self._unpack
        try:
            items = [item if type(item) in PLAIN else unpack(item) for item in batch]
        except BaseException:
            self._addUntilBroken(batch, size)
        else:
            self.add(items, size)

    def _addUntilBroken(self, batch: list[Packed], size: int) -> None:
        items: list[object] = []
        broken: Failure | None = None
        for item in batch:
            try:
                items.append(self._unpack(item))
            except BaseException as error:
                broken = Failure(notRebuilt("an item", error))
                break
        self.add(items, size)
        # An item may be rebuilt the second time.
        if broken is not None:
            self.fail(broken)
            self._link.stopStream(self.number)

    def consumed(self, count: int, cost: int) -> None:
        """
        Grant again what was taken.
        """
        if not self.isOver:
            self._items += count
            self._bytes += cost
            self._link.send([(GRANT, self.number, count, cost)])

    @property
    def credit(self) -> tuple[int, int]:
        """
        See L{ItemSource}.
        """
        return self._items, self._bytes

    def stopped(self) -> None:
        """
        End the stream in the runner, because the rest is not wanted.
        """
        self._link.stopStream(self.number)

    def abandoned(self, stop: Callable[[], None]) -> None:
        """
        Stop in the reactor's thread, because the taker was garbage-collected.
        """
        self._link.soon(stop)


def notRebuilt(what: str, error: BaseException) -> ResultNotRebuilt:
    """
    Make the error of a value that came and could not be rebuilt.

    @param what: the value, named for people.
    @param error: what rebuilding it raised.
    """
    why = f"{type(error).__name__}: {textOf(error)}"
    explained = ResultNotRebuilt(f"could not rebuild {what}: {why}")
    explained.__cause__ = withoutFrames(error)
    return explained
