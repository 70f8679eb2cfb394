"""
A queue of objects by priority, to wait at with Deferreds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, KeysView
from itertools import count
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, QueueOverflow, QueueUnderflow, succeed

from asynqueue._core.checks import checkCount
from asynqueue._core.heap import Place, PriorityHeap
from asynqueue._waiters import Waiters

_T = TypeVar("_T", bound=Hashable)


class _Entry(Generic[_T]):
    """
    An object in the queue, as the heap needs it.
    """

    __slots__ = ("id", "obj", "place", "priority")

    def __init__(self, obj: _T, priority: float, id: int) -> None:
        self.obj = obj
        self.priority = priority
        self.id = id
        self.place: Place | None = None


class DeferredPriorityQueue(Generic[_T]):
    """
    A queue like Twisted's C{DeferredQueue}, but with priorities: lower ones come first, equal ones
    in the order of putting. An object that waits can be moved and taken out.

    The objects are told apart as the keys of a C{dict} are: they must be hashable, and two equal
    objects cannot wait at the same time.

    @ivar size: how many objects may wait; C{None} for no limit.
    @ivar backlog: how many L{get}s may wait; C{None} for no limit.
    """

    def __init__(self, size: int | None = None, backlog: int | None = None) -> None:
        """
        @raise ValueError: if one of the two is neither C{None} nor an integer of 0 or more.
        """
        self.size = checkCount("size", size, least=0, optional=True)
        self.backlog = checkCount("backlog", backlog, least=0, optional=True)
        self._heap: PriorityHeap[_Entry[_T]] = PriorityHeap()
        self._entries: dict[_T, _Entry[_T]] = {}
        self._waiting: Waiters[_T] = Waiters()
        self._serials = count()

    def __repr__(self) -> str:
        return f"<DeferredPriorityQueue: {len(self)} objects, {len(self._waiting)} waiting>"

    def __len__(self) -> int:
        """
        How many objects wait.
        """
        return len(self._entries)

    def __contains__(self, obj: object) -> bool:
        """
        Whether an object waits.
        """
        return obj in self._entries

    def __bool__(self) -> bool:
        # A queue is one, full or empty.
        return True

    @property
    def waiting(self) -> KeysView[Deferred[_T]]:
        """
        A view of the Deferreds that wait for objects, in the order of asking.
        """
        return self._waiting.deferreds

    def put(self, obj: _T, priority: float = 0) -> None:
        """
        Add an object, or fire the Deferred that has waited for one for the longest time.

        @param obj: the object.
        @param priority: lower is more important.
        @raise RuntimeError: if the object waits here already.
        @raise QueueOverflow: if C{size} objects wait already.
        """
        if obj in self._entries:
            raise RuntimeError(f"{obj!r} waits in {self!r} already: it cannot be put twice")
        if self._waiting:
            self._waiting.take().callback(obj)
            return
        if self.size is not None and len(self) >= self.size:
            raise QueueOverflow(f"{self!r} may have no more than {self.size} objects")
        entry = _Entry(obj, priority, next(self._serials))
        self._heap.put(entry)
        self._entries[obj] = entry

    def get(self) -> Deferred[_T]:
        """
        Take the first object out.

        @return: a Deferred that fires with it, at once or when there is one. Cancelling it ends the
            wait, and the objects go to others.
        @raise QueueUnderflow: if there is no object, and C{backlog} Deferreds wait for one already.
        """
        if self._entries:
            obj = self._heap.take().obj
            del self._entries[obj]
            return succeed(obj)
        if self.backlog is not None and len(self._waiting) >= self.backlog:
            raise QueueUnderflow(f"{self!r} may have no more than {self.backlog} waiting")
        return self._waiting.add()

    def delete(self, obj: _T) -> None:
        """
        Take an object out. Nobody gets it.

        @raise KeyError: if it does not wait here.
        """
        self._heap.cancel(self._entries.pop(obj))

    def reprioritize(self, obj: _T, priority: float) -> None:
        """
        Move an object. Among those of its new priority it stands in the order of putting.

        @param obj: the object.
        @param priority: lower is more important.
        @raise KeyError: if it does not wait here.
        """
        self._heap.reprioritise(self._entries[obj], priority)

    def clear(self) -> list[_T]:
        """
        Take all objects out. Deferreds that wait for one go on waiting.

        @return: the objects, in their order.
        """
        objects = [entry.obj for entry in self._heap.clear()]
        self._entries.clear()
        return objects

    def asGenerator(self) -> Iterator[_T]:
        """
        Return an iterator over the objects that wait at its first step, in their order. They stay
        where they are.
        """
        return (entry.obj for entry in self._heap)
