"""
The near end of a stream of items from a universe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.python.failure import Failure

from asynqueue.errors import ResultNotRebuilt
from asynqueue.iteration.source import ItemSource
from asynqueue.universe.codecs import PICKLED
from asynqueue.universe.exceptions import textOf, withoutFrames
from asynqueue.universe.messages import GRANT, Message
from asynqueue.universe.packing import PLAIN, Packed


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
