"""
A runner to be driven by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.codecs import DIRECT, PICKLED, Codec
from asynqueue._runner.makecall import Waiter
from asynqueue._runner.messages import (
    CALL,
    CANCEL,
    ENDED,
    GRANT,
    ITEMS,
    PROGRESS,
    QUIT,
    RAISED,
    RECALL,
    RETURNED,
    STREAMING,
    UNBEGUN,
    Message,
)
from asynqueue._runner.packing import PLAIN, STANDARD
from tests.runner.travel import travelled

NAMES = {
    RETURNED: "RETURNED",
    RAISED: "RAISED",
    STREAMING: "STREAMING",
    ITEMS: "ITEMS",
    ENDED: "ENDED",
    UNBEGUN: "UNBEGUN",
    PROGRESS: "PROGRESS",
}

Event = tuple[Any, ...]


class Handle:
    """
    A function of a test's own, which can be pickled because it stays where it is.
    """

    functions: ClassVar[dict[int, Callable[..., Any]]] = {}
    numbers = count()

    def __init__(self, function: Callable[..., Any]) -> None:
        self.number = next(self.numbers)
        self.functions[self.number] = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.functions[self.number](*args, **kwargs)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Stage:
    """
    Gives a runner messages, and keeps what it says.

    @ivar now: what its clock shows.
    @ivar events: everything that it said, in order, shortly: the calls that began as C{("begin",
        number)}, its messages by their names, with values and exceptions rebuilt and without times.
    @ivar messages: its messages as they came.
    """

    def __init__(
        self, raw: bool = False, codec: Codec = PICKLED, waiter: Waiter | None = None
    ) -> None:
        self.now = 0.0
        self.codec = codec
        self.events: list[Event] = []
        self.messages: list[Message] = []
        self.runner = CallRunner(
            self._post, self._begin, raw, lambda: self.now, codec=codec, waiter=waiter
        )

    def _post(self, message: Message) -> None:
        if self.codec is PICKLED:
            # It is read at once, as the other end would find it: nothing can change it later.
            message = travelled(message)
        unpack = self.codec.unpack
        self.messages.append(message)
        kind, *rest = message
        if kind == RETURNED:
            rest = [rest[0], unpack(rest[2])]
        elif kind == RAISED:
            rest = [rest[0], self.codec.rebuild(rest[2])]
        elif kind == STREAMING:
            rest = rest[:1]
        elif kind == ITEMS:
            rest = [rest[0], [unpack(item) for item in rest[1]]]
        self.events.append((NAMES[kind], *rest))

    def _begin(self, number: int) -> None:
        self.events.append(("begin", number))

    # What one says to it

    def call(
        self,
        id: int,
        function: Any,
        *args: Any,
        raw: bool | None = None,
        context: Any = None,
        **kw: Any,
    ) -> None:
        """
        Have it call a function, that of a test included. Bytes, numbers and pairs go as they are.
        """
        if self.codec is DIRECT:
            self.runner.receive([(CALL, id, function, (args, kw), raw, context)])
            return
        if callable(function):
            function = STANDARD.pack(Handle(function))
        plain = not kw and PLAIN.issuperset(map(type, args))
        self.send(
            CALL,
            id,
            function,
            args if plain else STANDARD.pack((args, kw)),
            raw,
            STANDARD.pack(context),
        )

    def send(self, *message: Any) -> None:
        self.runner.receive([travelled(message)])

    def cancel(self, id: int) -> None:
        self.send(CANCEL, id)

    def grant(self, id: int, items: int, size: int) -> None:
        self.send(GRANT, id, items, size)

    def recall(self) -> None:
        self.send(RECALL)

    def quit(self) -> None:
        self.send(QUIT)

    # What one sees

    def run(self) -> list[Event]:
        """
        Let it work until it has nothing to do.

        @return: the events from before that on which nobody has taken yet.
        """
        for _ in range(10_000):
            if not self.runner.hasWork:
                return self.taken()
            self.runner.step()
        raise AssertionError("it works for ever")

    def taken(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def items(self, id: int) -> list[Any]:
        """
        All items of a stream that have come.
        """
        batches = [m for m in self.messages if m[:2] == (ITEMS, id)]
        return [self.codec.unpack(item) for _, _, batch, _ in batches for item in batch]


class StageTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage()
        self.runner = self.stage.runner
        self.addCleanup(Handle.functions.clear)

    def raised(self, event: Event, id: int, kind: type[BaseException]) -> str:
        """
        Check that an event is a call's or stream's failure.

        @return: the exception's text.
        """
        assert event[:2] == ("RAISED", id)
        assert type(event[2]) is kind
        return str(event[2])

    def only(self, events: Iterable[Event]) -> Event:
        (event,) = events
        return event
