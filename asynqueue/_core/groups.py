"""
The workers, and which series are served by the same ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from typing import Any

from asynqueue._core.heap import PriorityHeap
from asynqueue._core.series import SerialNumbers, Series


@dataclass(slots=True, eq=False)
class Capacity:
    """
    How much one worker can take.

    @ivar slots: how many tasks it runs at once.
    @ivar aheadSeconds: up to how many seconds' worth of tasks it may hold, running ones included,
        if all of them were measured to be short. 0 for a worker that is never sent a task ahead.
    @ivar aheadTasks: how many tasks it may then hold.
    """

    slots: int = 1
    aheadSeconds: float = 0.0
    aheadTasks: int = 64


@dataclass(slots=True, eq=False)
class WorkerLoad:
    """
    The scheduler's knowledge of one worker.

    @ivar groups: the groups of series that the worker is qualified for.
    @ivar isOpen: whether the worker may get tasks.
    @ivar isStalled: whether a task that it has takes far longer than was expected.
    @ivar held: how many tasks it has.
    @ivar expected: how many seconds they should take.
    @ivar freeSince: when it last got a free slot, as a number that grows.
    @ivar given: the tasks that the present decision gives it.
    """

    worker: Hashable
    capacity: Capacity
    groups: list[Group] = field(default_factory=list)
    isOpen: bool = False
    isStalled: bool = False
    held: int = 0
    expected: float = 0.0
    freeSince: int = 0
    given: list[Any] = field(default_factory=list)

    def key(self) -> tuple[bool, float, int]:
        """
        @return: the place of the worker among those to be served, lower first.
        """
        return self.held >= self.capacity.slots, self.expected, self.freeSince


class Group:
    """
    The series that the same workers are qualified for.

    @ivar loads: the workers.
    @ivar names: the names of the series. The group that no worker serves has none.
    @ivar series: the series of which tasks wait, by the first task of each.
    """

    __slots__ = ("loads", "names", "series")

    def __init__(self, loads: frozenset[WorkerLoad]) -> None:
        self.loads = loads
        self.names: set[Hashable] = set()
        self.series: PriorityHeap[Series] = PriorityHeap()

    def announce(self, series: Series) -> None:
        """
        Put a series where its first task belongs, after that has changed.
        """
        if series.head is not None:
            self.series.cancel(series)
        assert series.tasks is not None
        head = series.head = series.tasks.head()
        if head is not None:
            series.id = head.id
            series.priority = head.priority
            self.series.put(series)


class Groups:
    """
    The groups of all series. A decision looks at the groups of a worker and at the first series of
    each, so its cost does not grow with the series.

    @ivar of: the group of each series that a worker is qualified for, by the name of the series.
    @ivar unserved: the group of all other series.
    """

    def __init__(self, serials: SerialNumbers) -> None:
        """
        @param serials: knows the series that are in use.
        """
        self._serials = serials
        self.of: dict[Hashable, Group] = {}
        self.unserved = Group(frozenset())
        self._groups = {self.unserved.loads: self.unserved}

    def announce(self, series: Series) -> None:
        """
        Put a series where its first task belongs, as L{Group.announce} does.
        """
        self.of.get(series.name, self.unserved).announce(series)

    def clear(self) -> list[Series]:
        """
        Take out all series, because their tasks are going to wait no longer.

        @return: the series.
        """
        found = [series for group in self._groups.values() for series in group.series.clear()]
        for series in found:
            series.head = None
        return found

    @property
    def seriesWaiting(self) -> int:
        """
        Of how many series tasks wait.
        """
        return sum(len(group.series) for group in self._groups.values())

    def walk(self) -> Iterator[Series]:
        """
        @return: an iterator over all series of which tasks wait, by the first task of each. Nothing
            may change while it is used.
        """
        return merge(*(group.series.walk() for group in self._groups.values()), key=_order)

    def qualify(self, load: WorkerLoad, names: set[Hashable]) -> None:
        """
        Qualify a worker for more series.
        """
        unserved = names.difference(self.of)
        if unserved:
            self._move(self.unserved, unserved, frozenset([load]))
        for group in list(self._groups.values()):
            if load not in group.loads and (shared := group.names & names):
                self._move(group, shared, group.loads | {load})

    def remove(self, load: WorkerLoad) -> None:
        """
        Remove a worker.
        """
        for group in list(load.groups):
            self._move(group, group.names, group.loads - {load})

    def _move(self, source: Group, names: set[Hashable], loads: frozenset[WorkerLoad]) -> None:
        """
        Move series from one group to that of other workers.
        """
        target = self._groups.get(loads)
        if target is None and names == source.names:
            self._giveTo(loads, source)
            return
        if target is None:
            target = self._groups[loads] = Group(loads)
            for load in loads:
                load.groups.append(target)
        self._moveSeries(source, names, target)
        if target is self.unserved:
            for name in names:
                del self.of[name]
        else:
            target.names |= names
            self.of.update(dict.fromkeys(names, target))
        if source is not self.unserved:
            source.names = source.names - names
            if not source.names:
                del self._groups[source.loads]
                for load in source.loads:
                    load.groups.remove(source)

    def _giveTo(self, loads: frozenset[WorkerLoad], group: Group) -> None:
        """
        Change the workers of a whole group. With a thousand workers this is the usual case.
        """
        before = group.loads
        del self._groups[before]
        self._groups[loads] = group
        group.loads = loads
        for load in loads - before:
            load.groups.append(group)
        for load in before - loads:
            load.groups.remove(group)

    def _moveSeries(self, source: Group, names: set[Hashable], target: Group) -> None:
        if len(names) < len(source.series):
            known = [self._serials.get(name) for name in names]
            moving = [series for series in known if series is not None and series.head is not None]
        else:
            moving = [series for series in source.series if series.name in names]
        if len(moving) == len(source.series) and not target.series:
            source.series, target.series = target.series, source.series
        else:
            for series in moving:
                source.series.cancel(series)
                target.series.put(series)


def _order(series: Series) -> tuple[float, int]:
    return series.priority, series.id
