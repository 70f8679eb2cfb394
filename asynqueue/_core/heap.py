"""
A stable priority heap whose items can be cancelled and moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

Place = tuple[float, int, Any]
"""Where an item stands: its priority, its serial among all that were put, and the item itself."""


class Placed(Protocol):
    """
    What a L{PriorityHeap} holds: any object with a slot for its place.
    """

    place: Place | None


Item = TypeVar("Item", bound=Placed)


class PriorityHeap(Generic[Item]):
    """
    Items in order of priority, lower first; equal priorities in the order of putting.

    L{put}, L{take}, L{cancel} and L{reprioritise} are O(log n) or better, amortised. Cancelling and
    moving leave a dead entry behind, which is dropped when it comes up; whenever the dead outnumber
    the living, all dead entries are swept out at once. An item knows its entry (C{item.place}) and
    an entry its item: an entry lives for as long as the two agree, which spares a dictionary and
    its memory.

    What is put in the order in which it will be taken, as most items are, stands in a line and is
    never sorted: there L{put} and L{take} cost the same however many there are.

    An item can be in one heap at a time.
    """

    __slots__ = ("_dead", "_entries", "_line")

    SMALL = 64
    """With fewer entries than this, sweeping is not worth its while."""

    def __init__(self) -> None:
        self._line: deque[Place] = deque()
        self._entries: list[Place] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._line) + len(self._entries) - self._dead

    def __contains__(self, item: Item) -> bool:
        place = item.place
        return place is not None and place[2] is item

    def __iter__(self) -> Iterator[Item]:
        """
        The items in the order in which they would be taken, without taking them.
        """
        for entry in sorted([*_living(self._line), *_living(self._entries)]):
            yield entry[2]

    def put(self, item: Item, priority: float, serial: int) -> None:
        """
        @param item: what to add.
        @param priority: where it goes; lower is earlier.
        @param serial: decides among equal priorities, lower first. No two items of a heap may share
            one.
        @raise ValueError: if the item already has a place.
        """
        if item.place is not None:
            raise ValueError(f"{item!r} is in a heap already")
        item.place = entry = (priority, serial, item)
        if not self._line or entry > self._line[-1]:
            self._line.append(entry)
        else:
            heappush(self._entries, entry)

    def head(self) -> Place | None:
        """
        @return: the place of the item that L{take} would return, or C{None} if there is none.
        """
        line, entries = self._line, self._entries
        if self._dead:
            while line and line[0][2].place is not line[0]:
                line.popleft()
                self._dead -= 1
            while entries and entries[0][2].place is not entries[0]:
                heappop(entries)
                self._dead -= 1
        if line and not (entries and entries[0] < line[0]):
            return line[0]
        return entries[0] if entries else None

    def take(self) -> Item:
        """
        Remove and return the first item.

        @raise IndexError: if the heap is empty.
        """
        entry = self.head()
        if entry is None:
            raise IndexError("the heap is empty")
        if self._line and entry is self._line[0]:
            self._line.popleft()
        else:
            heappop(self._entries)
        item: Item = entry[2]
        item.place = None
        if self._dead:
            self._sweep()
        return item

    def cancel(self, item: Item) -> bool:
        """
        Take an item out, wherever it stands.

        @return: C{True} if it was in a heap, C{False} if it had been taken or cancelled.
        """
        if item.place is None:
            return False
        item.place = None
        self._dead += 1
        self._sweep()
        return True

    def reprioritise(self, item: Item, priority: float) -> None:
        """
        Move an item. Among its new equals it stands where its serial puts it.

        @raise ValueError: if it is not in the heap.
        """
        place = item.place
        if place is None:
            raise ValueError(f"{item!r} is in no heap")
        item.place = entry = (priority, place[1], item)
        heappush(self._entries, entry)
        self._dead += 1
        self._sweep()

    def clear(self) -> list[Item]:
        """
        Take everything out.

        @return: the items, in their order.
        """
        items = list(self)
        for item in items:
            item.place = None
        self._line.clear()
        self._entries.clear()
        self._dead = 0
        return items

    def _sweep(self) -> None:
        size = len(self._line) + len(self._entries)
        if self._dead * 2 > size > self.SMALL:
            self._line = deque(_living(self._line))
            self._entries = list(_living(self._entries))
            heapify(self._entries)
            self._dead = 0


def _living(entries: Iterable[Place]) -> Iterator[Place]:
    return (entry for entry in entries if entry[2].place is entry)
