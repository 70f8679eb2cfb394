"""
A stable priority heap whose items can be cancelled and moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, merge
from typing import Any, Final, Generic, Protocol, TypeVar

Entry = tuple[float, int, Any]
"""An item in the sorted part of a heap: its priority, its id and the item itself."""

IN_LINE: Final = "in line"
"""The place of an item that stands in the line of a heap."""

MOVED: Final = "moved"
"""The place of an item that is in no heap, but may have left a dead entry in a line. It never
stands in a line again, because the dead entry would come to life."""

Place = Entry | str
"""The place of an item: its entry, L{IN_LINE} or L{MOVED}. An item without one is C{None}."""


class Placed(Protocol):
    """
    An item of a L{PriorityHeap}. While the item is in the heap, only the heap changes these three.

    @ivar id: decides among equal priorities, lower first. No two items of a heap share one.
    @ivar priority: lower is earlier.
    @ivar place: belongs to the heap. C{None} at first.
    """

    id: int
    priority: Any
    place: Place | None


Item = TypeVar("Item", bound=Placed)


class PriorityHeap(Generic[Item]):
    """
    Items in order of priority, lower first; equal priorities in the order of their ids.

    All operations are O(log n) or better, amortised. Most items are put in the order in which they
    will be taken. Those stand in a line, which is never sorted and holds nothing but the items, so
    that a million of them cost little memory. The other items have an entry in a binary heap.

    An item that is cancelled or moved leaves a dead entry behind, which is dropped when it comes
    up. When the dead outnumber the living, all dead entries are dropped at once. An item's place
    says whether its entry lives.

    An item can be in one heap at a time.
    """

    __slots__ = ("_dead", "_entries", "_first", "_lastId", "_lastPriority", "_line")

    SMALL = 64
    """With fewer entries than this, dropping the dead at once is not worth the effort."""

    def __init__(self) -> None:
        # The first item of the line is line[first]. The slots before it are empty.
        self._line: list[Any] = []
        self._first = 0
        # Where the line's last item stood when it was put. It may have moved since.
        self._lastPriority = 0.0
        self._lastId = 0
        self._entries: list[Entry] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._line) - self._first + len(self._entries) - self._dead

    def __contains__(self, item: Item) -> bool:
        return _isPlaced(item.place)

    def __iter__(self) -> Iterator[Item]:
        """
        @return: an iterator over the items that are here now, in their order. It takes none of them
            out. The heap may change before the iterator is at its end: items that have left are
            passed over, and new items are not seen.
        """
        line: list[Item] = self._line[self._first :]
        entries = self._entries.copy()
        if self._dead:
            line = [item for item in line if item.place is IN_LINE]
            entries = [entry for entry in entries if entry[2].place is entry]
            heapify(entries)
        return _merged(line, entries)

    def walk(self) -> Iterator[Item]:
        """
        Return an iterator over the items, in their order, that copies nothing. So the first items
        of a million cost little. The heap must not change while the iterator is used.
        """
        line = self._line
        live = (line[index] for index in range(self._first, len(line)))
        inLine = (item for item in live if item.place is IN_LINE)
        return merge(inLine, self._walkEntries(), key=_order) if self._entries else inLine

    def _walkEntries(self) -> Iterator[Item]:
        entries = self._entries
        # An entry is no earlier than the one above it, so these are the next that may come.
        frontier = [(entries[0], 0)]
        while frontier:
            entry, index = heappop(frontier)
            if entry[2].place is entry:
                yield entry[2]
            for below in (2 * index + 1, 2 * index + 2):
                if below < len(entries):
                    heappush(frontier, (entries[below], below))

    def put(self, item: Item, priority: float | None = None) -> None:
        """
        Add an item.

        @param item: the item to add.
        @param priority: its priority here. Default: C{item.priority}. Another one costs memory.
        @raise ValueError: if the item is in a heap already.
        """
        place = item.place
        if place is None and priority is None:
            priority = item.priority
            last = self._lastPriority
            if not self._line or priority > last or (priority == last and item.id > self._lastId):
                self._line.append(item)
                self._lastPriority = priority
                self._lastId = item.id
                item.place = IN_LINE
                return
        elif _isPlaced(place):
            raise ValueError(f"{item!r} is in a heap already")
        entry = (item.priority if priority is None else priority, item.id, item)
        item.place = entry
        heappush(self._entries, entry)

    def head(self) -> Item | None:
        """
        Return the item that L{take} would return, or C{None} if the heap is empty.
        """
        if self._dead:
            self._dropDead()
        entries = self._entries
        if not self._line:
            return entries[0][2] if entries else None
        item: Item = self._line[self._first]
        if entries:
            priority, id, other = entries[0]
            if priority < item.priority or (priority == item.priority and id < item.id):
                return other  # type: ignore[no-any-return]
        return item

    def take(self) -> Item:
        """
        Remove the first item.

        @return: the item.
        @raise IndexError: if the heap is empty.
        """
        item = self.head()
        if item is None:
            raise IndexError("the heap is empty")
        if item.place is IN_LINE:
            self._advance()
            item.place = None
        else:
            heappop(self._entries)
            item.place = MOVED
        if self._dead:
            self._sweep()
        return item

    def cancel(self, item: Item) -> bool:
        """
        Remove an item, wherever it stands. The first item is removed at once, as L{take} does.

        @return: C{True} if it was in the heap, C{False} if it had been taken or cancelled.
        """
        place = item.place
        if place is IN_LINE and self._line[self._first] is item:
            self._advance()
            item.place = None
            return True
        if not _isPlaced(place):
            return False
        entries = self._entries
        if entries and entries[0] is place:
            heappop(entries)
        else:
            self._dead += 1
        item.place = MOVED
        if self._dead:
            self._sweep()
        return True

    def reprioritise(self, item: Item, priority: float) -> None:
        """
        Change an item's priority. Its id decides where it stands among its new equals.

        @raise ValueError: if the item is not in the heap.
        """
        if not _isPlaced(item.place):
            raise ValueError(f"{item!r} is in no heap")
        item.priority = priority
        item.place = entry = (priority, item.id, item)
        heappush(self._entries, entry)
        self._dead += 1
        self._sweep()

    def clear(self) -> list[Item]:
        """
        Remove all items.

        @return: the items, in their order.
        """
        isInLine = not self._entries and not self._dead
        items = self._line[self._first :] if isInLine else list(self)
        for item in items:
            item.place = MOVED
        self._line.clear()
        self._entries.clear()
        self._first = self._dead = 0
        return items

    def _advance(self) -> None:
        """
        Remove the line's first item.
        """
        line, first = self._line, self._first
        line[first] = None
        first += 1
        if first == len(line):
            line.clear()
            first = 0
        elif first > self.SMALL and first * 2 > len(line):
            del line[:first]
            first = 0
        self._first = first

    def _dropDead(self) -> None:
        """
        Remove the dead entries that stand in front of the living.
        """
        while self._line and self._line[self._first].place is not IN_LINE:
            self._advance()
            self._dead -= 1
        entries = self._entries
        while entries and entries[0][2].place is not entries[0]:
            heappop(entries)
            self._dead -= 1

    def _sweep(self) -> None:
        """
        Remove all dead entries, if they outnumber the living.
        """
        size = len(self._line) - self._first + len(self._entries)
        if self._dead * 2 > size > self.SMALL:
            self._line = [item for item in self._line[self._first :] if item.place is IN_LINE]
            self._first = 0
            self._entries = [entry for entry in self._entries if entry[2].place is entry]
            heapify(self._entries)
            self._dead = 0


def _order(item: Placed) -> tuple[float, int]:
    return item.priority, item.id


def _isPlaced(place: Place | None) -> bool:
    """
    @return: whether an item with this place is in a heap.
    """
    return place is IN_LINE or type(place) is tuple


def _merged(line: list[Item], entries: list[Entry]) -> Iterator[Item]:
    """
    @param line: items in their order.
    @param entries: a binary heap, which is used up.
    @return: an iterator over those that are still in a heap when they come up, in their order.
    """
    for item in line:
        here = (item.priority, item.id)
        while entries and entries[0][:2] < here:
            other: Item = heappop(entries)[2]
            if _isPlaced(other.place):
                yield other
        if _isPlaced(item.place):
            yield item
    while entries:
        other = heappop(entries)[2]
        if _isPlaced(other.place):
            yield other
