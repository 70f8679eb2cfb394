"""
The scheduler: it DECIDES which worker gets which task, and does nothing else.

Facts go in (a task came, a worker is free, a worker is gone); decisions come out. No reactor, no
I/O.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Generic, TypeVar

from asynqueue._core.heap import PriorityHeap
from asynqueue._core.options import USUAL
from asynqueue._core.priorities import SerialNumbers, priorityOf
from asynqueue._core.runtimes import UNKNOWN, RunTimes
from asynqueue._core.task import Task

TaskType = TypeVar("TaskType", bound=Task)

FIRST: Final = float("-inf")
LAST: Final = float("inf")

OVERHEAD: Final = 1e-5
"""Seconds that even the shortest task is taken to cost: about what its messages cost."""

QUANTUM: Final = 5e-4
"""Seconds' worth of tasks that one worker gets before the next worker's load is looked at."""


@dataclass(slots=True, eq=False)
class Capacity:
    """
    What one worker can take.

    @ivar slots: how many tasks it runs at once.
    @ivar aheadSeconds: up to how many seconds' worth of tasks it may hold, running ones included,
        if every one of them was measured to be short. 0 for a worker that is never sent a task
        ahead.
    @ivar aheadTasks: how many tasks it may then hold.
    """

    slots: int = 1
    aheadSeconds: float = 0.0
    aheadTasks: int = 64


@dataclass(slots=True, eq=False)
class _WorkerLoad(Generic[TaskType]):
    """
    What the scheduler knows of one worker.
    """

    worker: Hashable
    qualified: set[Hashable]
    capacity: Capacity
    open: bool = False
    held: int = 0
    expected: float = 0.0
    freeSince: int = 0
    given: list[TaskType] = field(default_factory=list)

    @property
    def isFree(self) -> bool:
        return self.held < self.capacity.slots

    def accepts(self, seconds: float) -> bool:
        capacity = self.capacity
        if self.held < capacity.slots:
            return True
        return self.expected + seconds <= capacity.aheadSeconds and self.held < capacity.aheadTasks

    def load(self) -> tuple[bool, float, int]:
        return self.held >= self.capacity.slots, self.expected, self.freeSince


class Scheduler(Generic[TaskType]):
    """
    Holds the tasks that wait and knows what each worker has.

    A task waits in its series' heap. A worker with a free slot gets the first task, by priority, of
    all the series that it is qualified for; of several free workers the one with the least to do,
    and of those the one that has been free for longest. A worker without a free slot is sent a task
    ahead only if all that it holds, and that task too, were measured to be short; a task that was
    not is never passed over for one behind it. A task with a timeout is never sent ahead, nor one
    behind it, so that its time counts from the start of its run.
    """

    def __init__(self, runTimes: RunTimes | None = None) -> None:
        self.runTimes = RunTimes() if runTimes is None else runTimes
        self._heaps: dict[Hashable, PriorityHeap[TaskType]] = {}
        self._workers: dict[Hashable, _WorkerLoad[TaskType]] = {}
        self._serials = SerialNumbers()
        self._turn = 0
        self._free = 0

    # Tasks ----------------------------------------------------------------------------------------
    # -------

    def __len__(self) -> int:
        """
        How many tasks wait.
        """
        return sum(len(heap) for heap in self._heaps.values())

    @property
    def alive(self) -> int:
        """
        How many tasks were put and are not L{done}.
        """
        return self._serials.users

    def __iter__(self) -> Iterator[TaskType]:
        """
        The tasks that wait, each series in its order.
        """
        for heap in self._heaps.values():
            yield from heap

    def put(self, task: TaskType) -> None:
        """
        A task came.
        """
        options = task.options
        serial = self._serials.take(options.series, options.niceness)
        if options.doNext:
            task.priority = FIRST
        elif options.doLast:
            task.priority = LAST
        else:
            task.priority = priorityOf(serial, options.niceness)
        self._place(task)

    def putBack(self, task: TaskType) -> None:
        """
        A task that was assigned comes back unbegun and waits again, in its old place.
        """
        self._place(task)

    def cancel(self, task: TaskType) -> bool:
        """
        A task is no longer wanted.

        @return: C{True} if it was waiting.
        """
        series = task.options.series
        heap = self._heaps.get(series)
        if heap is None or not heap.cancel(task):
            return False
        if not heap:
            del self._heaps[series]
        return True

    def reprioritise(self, task: TaskType, priority: float) -> None:
        """
        Move a waiting task.

        @raise ValueError: if it does not wait.
        """
        heap = self._heaps.get(task.options.series)
        if heap is None:
            raise ValueError(f"{task!r} does not wait here")
        heap.reprioritise(task, priority)
        task.priority = priority

    def done(self, task: TaskType) -> None:
        """
        A task that was put will not come back.
        """
        self._serials.release(task.options.series)

    def unrunnable(self) -> list[TaskType]:
        """
        @return: the waiting tasks of those series for which no worker is qualified.
        """
        served = {series for post in self._workers.values() for series in post.qualified}
        return [
            task for series, heap in self._heaps.items() if series not in served for task in heap
        ]

    def _place(self, task: TaskType) -> None:
        series = task.options.series
        heap = self._heaps.get(series)
        if heap is None:
            heap = self._heaps[series] = PriorityHeap()
        assert task.priority is not None
        heap.put(task, task.priority, task.id)

    # Workers --------------------------------------------------------------------------------------

    @property
    def hasFreeWorker(self) -> bool:
        """
        Whether a worker has a free slot, for whatever series.
        """
        return self._free > 0

    @property
    def held(self) -> int:
        """
        How many tasks the workers hold.
        """
        return sum(post.held for post in self._workers.values())

    def attach(
        self, worker: Hashable, qualified: Iterable[Hashable] = (), capacity: Capacity | None = None
    ) -> None:
        """
        A worker came. It gets nothing until L{open} is called for it.

        @param worker: whatever names it.
        @param qualified: the series that it may run, besides C{None}.
        @param capacity: what it can take; one task at a time by default.
        @raise ValueError: if it is here already.
        """
        if worker in self._workers:
            raise ValueError(f"{worker!r} was hired already")
        self._workers[worker] = _WorkerLoad(worker, {None, *qualified}, capacity or Capacity())

    def detach(self, worker: Hashable) -> None:
        """
        A worker is gone. What it holds is not touched.
        """
        if worker in self._workers:
            self.close(worker)
            del self._workers[worker]

    def qualify(self, worker: Hashable, series: Hashable) -> None:
        """
        A worker may run one more series from now on.
        """
        self._workers[worker].qualified.add(series)

    def serves(self, series: Hashable) -> bool:
        """
        @return: whether a worker is qualified for a series.
        """
        return any(series in post.qualified for post in self._workers.values())

    def open(self, worker: Hashable) -> None:
        """
        A worker may get tasks.
        """
        post = self._workers[worker]
        if not post.open:
            post.open = True
            if post.isFree:
                self._freed(post)

    def close(self, worker: Hashable) -> None:
        """
        A worker may get no tasks for now.
        """
        post = self._workers[worker]
        if post.open and post.isFree:
            self._free -= 1
        post.open = False

    def stall(self, worker: Hashable) -> None:
        """
        What a worker is running takes far longer than was expected: it is sent nothing ahead until
        all is over.
        """
        post = self._workers[worker]
        if post.held:
            post.expected += UNKNOWN

    def release(self, worker: Hashable, ended: Iterable[tuple[TaskType, float | None]]) -> None:
        """
        A worker no longer holds some tasks. Those that were never assigned here are passed over.

        @param ended: the tasks, each with how many seconds its run took, or C{None} if it did not
            run to its end.
        """
        post = self._workers.get(worker)
        wasFree = post is not None and post.isFree
        note = self.runTimes.note
        for task, seconds in ended:
            if seconds is not None:
                note(task.function, seconds)
            if post is not None and task.expected is not None:
                post.held -= 1
                post.expected -= task.expected
        if post is None:
            return
        if post.held == 0:
            # What rounding left, and what a stall added, is forgotten.
            post.expected = 0.0
        if post.open and post.isFree and not wasFree:
            self._freed(post)

    def _freed(self, post: _WorkerLoad[TaskType]) -> None:
        self._free += 1
        self._turn += 1
        post.freeSince = self._turn

    # Decisions ------------------------------------------------------------------------------------

    def decide(self) -> list[tuple[Hashable, list[TaskType]]]:
        """
        Who runs what, now. Each task returned counts as held by its worker from here on.

        @return: for each worker that gets something, the worker and its tasks, in the order to run
            them.
        """
        if not self._heaps:
            return []
        queue = [(post.load(), post) for post in self._workers.values() if post.open]
        heapify(queue)
        served: list[_WorkerLoad[TaskType]] = []
        refused: list[_WorkerLoad[TaskType]] = []
        while queue:
            post = queue[0][1]
            before = len(post.given)
            if self._fill(post):
                heapreplace(queue, (post.load(), post))
            else:
                heappop(queue)
                refused.append(post)
            if len(post.given) == before:
                continue
            if not before:
                served.append(post)
            # What the others could not take may be gone now, and they may take what follows it.
            for other in refused:
                if other is not post and self._heaps:
                    heappush(queue, (other.load(), other))
            refused = [post] if refused and refused[-1] is post else []
        decisions = [(post.worker, post.given) for post in served]
        for post in served:
            post.given = []
        return decisions

    def _fill(self, post: _WorkerLoad[TaskType]) -> bool:
        """
        Give a worker about a quantum's worth of tasks; C{False} if it can get no more for now.
        """
        granted = 0.0
        while granted < QUANTUM:
            heap = self._firstHeap(post.qualified)
            if heap is None:
                return False
            # As long as no other series can come between, the one heap is enough to look at.
            until = QUANTUM if len(self._heaps) == 1 else granted
            while True:
                seconds = self._offer(post, heap)
                if seconds is None:
                    return False
                granted += seconds
                if granted >= until or not heap:
                    break
        return True

    def _offer(self, post: _WorkerLoad[TaskType], heap: PriorityHeap[TaskType]) -> float | None:
        """
        Give a worker the first task of a heap, if it can take it: how many seconds that should
        take.
        """
        place = heap.head()
        assert place is not None
        task: TaskType = place[2]
        seconds = OVERHEAD
        if task.options is not USUAL and task.options.isTimed:
            seconds = UNKNOWN
        else:
            seconds = max(seconds, self.runTimes.expect(task.function))
        if not post.accepts(seconds):
            return None
        heap.take()
        task.expected = seconds
        post.held += 1
        if post.held == post.capacity.slots:
            self._free -= 1
        post.expected += seconds
        post.given.append(task)
        return seconds

    def _firstHeap(self, qualified: set[Hashable]) -> PriorityHeap[TaskType] | None:
        """
        The heap whose head goes first, of those that a worker is qualified for.
        """
        heaps = self._heaps
        best = None
        bestHeap = None
        for series in qualified if len(qualified) < len(heaps) else tuple(heaps):
            heap = heaps.get(series)
            if heap is None or series not in qualified:
                continue
            place = heap.head()
            if place is None:
                del heaps[series]
            elif best is None or place < best:
                best, bestHeap = place, heap
        return bestHeap
