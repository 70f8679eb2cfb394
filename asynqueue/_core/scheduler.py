"""
The scheduler: it DECIDES which worker gets which task, and does nothing else.

Facts go in (a task came, a worker is free, a worker is gone); decisions come out. No reactor, no
I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Final, Generic, TypeVar

from asynqueue._core.groups import Capacity, Group, Groups, WorkerLoad
from asynqueue._core.heap import PriorityHeap
from asynqueue._core.priorities import FACTORS
from asynqueue._core.series import SerialNumbers, Series
from asynqueue._core.task import Task

TaskType = TypeVar("TaskType", bound=Task)

FIRST: Final = float("-inf")
LAST: Final = float("inf")

OVERHEAD: Final = 1e-5
"""The least cost of a task, in seconds: about the cost of its messages."""

QUANTUM: Final = 5e-4
"""Seconds' worth of tasks that one worker gets before the next worker's load is looked at."""


UNKNOWN: Final = 3600.0
"""The estimate in seconds for a function that was never measured: long."""


class RunTimes:
    """
    An estimate of the run time, in seconds, of each function, rather too high than too low.

    A run that takes longer than the estimate raises it at once. A shorter run lowers it by a tenth
    of the difference. So one slow run among quick ones is remembered for some dozens of runs.

    Functions are told apart by their code, so that no closure or instance is kept alive. Other
    callables are never estimated. When there are more than C{limit} functions, the estimates that
    were made first are forgotten.

    @ivar limit: how many functions to remember.
    @ivar estimates: the estimate of each function that is known, by its code.
    """

    __slots__ = ("estimates", "limit")

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self.estimates: dict[object, float] = {}

    def note(self, function: Callable[..., object], seconds: float) -> None:
        """
        Note that a call of C{function} took this many seconds.
        """
        estimates = self.estimates
        # Most callables are functions, which need no further call to be told apart.
        key = function.__code__ if type(function) is FunctionType else keyOf(function)
        known = estimates.get(key)
        if known is None:
            if key is None:
                return
            if len(estimates) >= self.limit:
                del estimates[next(iter(estimates))]
            estimates[key] = seconds
        elif seconds >= known:
            estimates[key] = seconds
        else:
            estimates[key] = known + (seconds - known) * 0.1

    def expect(self, function: Callable[..., object]) -> float:
        """
        Return the estimate in seconds; C{UNKNOWN} if there is none.
        """
        key = function.__code__ if type(function) is FunctionType else keyOf(function)
        return self.estimates.get(key, UNKNOWN)


def keyOf(function: object) -> object:
    """
    @return: what tells a callable apart from others without keeping a closure or an instance
        alive; C{None} for one that is never estimated.
    """
    if type(function) is FunctionType:
        return function.__code__
    if type(function) is MethodType:
        return getattr(function.__func__, "__code__", None)
    if isModuleBuiltin(function):
        return function
    return None


def isModuleBuiltin(function: object) -> bool:
    """
    @return: whether a callable is a built-in function of a module, rather than a method.
    """
    return type(function) is BuiltinFunctionType and isinstance(function.__self__, ModuleType)


class Scheduler(Generic[TaskType]):
    """
    Holds the tasks that wait and knows what each worker has.

    A worker with a free slot gets the first task, by priority, of all the series that it is
    qualified for. Of several free workers, the one with the least to do is served first, and of
    those the one that has been free for longest. A worker without a free slot is sent a task ahead
    only if all the tasks that it holds, and that task too, were measured to be short. A task that
    is not short is never passed over for one behind it. A task with a timeout is never sent ahead,
    nor is one behind it, so that its time counts from the start of its run.

    The costs of all operations are independent of the number of tasks and series that wait, or grow
    with its logarithm, amortised. L{decide} and L{submit} look at each worker once, and
    L{attach}, L{detach} and L{qualify} at the series that they concern.

    @ivar runTimes: the estimates of run times.
    @ivar waiting: how many tasks wait and do not rest.
    @ivar held: how many tasks the workers hold.
    @ivar isPaused: whether nothing is assigned.
    """

    def __init__(self, runTimes: RunTimes | None = None) -> None:
        self.runTimes = RunTimes() if runTimes is None else runTimes
        self.waiting = 0
        self.held = 0
        self.isPaused = False
        self._serials = SerialNumbers()
        self._newest = 0
        self._workers: dict[Hashable, WorkerLoad] = {}
        # How many open workers have a free slot.
        self._free = 0
        self._turn = 0
        self._groups = Groups(self._serials)
        self._resting: dict[TaskType, None] = {}

    # Tasks ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """
        How many tasks wait, those that rest among them.
        """
        return self.waiting + len(self._resting)

    @property
    def alive(self) -> int:
        """
        How many tasks were put and are not done.
        """
        return self._serials.users

    def submit(self, task: TaskType, mayStart: bool = True) -> Hashable | None:
        """
        Take a new task. If a worker has a free slot for it, and no task that waits and that this
        worker could take goes first, the task is assigned at once, to the same worker that
        L{decide} would choose. It then counts as held by that worker. Otherwise it waits.

        @param task: the task, which no worker has.
        @param mayStart: C{False} to have the task wait in any case.
        @return: the worker that the task is assigned to, or C{None} if it waits.
        """
        options = task.options
        name = options.series
        series = self._serials.enter(name, options.niceness)
        if options.doNext:
            task.priority = FIRST
        elif options.doLast:
            task.priority = LAST
        else:
            task.priority = series.number * FACTORS[options.niceness]
        self._newest = task.id
        if mayStart and self._free and not self.isPaused:
            group = self._groups.of.get(name)
            load = None
            for other in () if group is None else group.loads:
                # The same order as that of key(), without a call for each.
                if (
                    other.isOpen
                    and other.held < other.capacity.slots
                    and (
                        load is None
                        or other.expected < load.expected
                        or (other.expected == load.expected and other.freeSince < load.freeSince)
                    )
                ):
                    load = other
            if load is not None and not (self.waiting and self._isBehind(task, load)):
                if options.isTimed:
                    seconds = UNKNOWN
                else:
                    function = task.function
                    key = function.__code__ if type(function) is FunctionType else keyOf(function)
                    seconds = self.runTimes.estimates.get(key, UNKNOWN)
                    if seconds < OVERHEAD:  # noqa: PLR1730
                        seconds = OVERHEAD
                task.expected = seconds
                load.expected += seconds
                load.held += 1
                if load.held == load.capacity.slots:
                    self._free -= 1
                self.held += 1
                return load.worker
        self._wait(task, series)
        return None

    def put(self, task: TaskType) -> None:
        """
        Take a new task, which waits until L{decide} assigns it.
        """
        self.submit(task, False)

    def putBack(self, task: TaskType) -> None:
        """
        Have a task wait again, in its old place, after it was assigned and came back unbegun.
        """
        series = self._serials.get(task.options.series)
        assert series is not None, f"{task!r} is done"
        self._resting.pop(task, None)
        self._wait(task, series)

    def rest(self, task: TaskType) -> None:
        """
        Have a task wait, after it was assigned and came back, without being assigned until
        L{putBack}.
        """
        self._resting[task] = None

    def cancel(self, task: TaskType) -> bool:
        """
        Have a task wait no longer.

        @return: C{True} if it was waiting.
        """
        if task in self._resting:
            del self._resting[task]
            return True
        series = self._serials.get(task.options.series)
        if series is None or series.tasks is None or not series.tasks.cancel(task):
            return False
        self.waiting -= 1
        if series.head is task:
            self._groups.announce(series)
        return True

    def reprioritise(self, task: TaskType, priority: float) -> None:
        """
        Move a waiting task.

        @raise ValueError: if it does not wait.
        """
        series = self._serials.get(task.options.series)
        if series is None or series.tasks is None:
            raise ValueError(f"{task!r} does not wait here")
        series.tasks.reprioritise(task, priority)
        if series.head is task or series.tasks.head() is task:
            self._groups.announce(series)

    def done(self, task: TaskType) -> None:
        """
        Forget a task that was put, and have it wait no longer.
        """
        if task.place is not None or self._resting:
            self.cancel(task)
        self._serials.release(task.options.series)

    def clear(self, into: list[TaskType]) -> None:
        """
        Forget all tasks that wait, as L{done} forgets one. This takes far less time than L{done}
        for each.

        @param into: the tasks are added to this, each series in its order.
        """
        resting = list(self.resting())
        self._take(self._groups.clear(), into)
        self._clearResting(resting, into)

    def clearSeries(self, name: Hashable, into: list[TaskType]) -> None:
        """
        Forget the tasks of one series that wait, as L{clear} forgets all.
        """
        series = self._serials.get(name)
        if series is None:
            return
        resting = [task for task in self.resting() if task.options.series == name]
        if series.head is not None:
            self._take([series], into)
            self._groups.announce(series)
        self._clearResting(resting, into)

    def _clearResting(self, resting: list[TaskType], into: list[TaskType]) -> None:
        into += resting
        for task in resting:
            del self._resting[task]
            self._serials.release(task.options.series)

    def _take(self, every: list[Series], into: list[TaskType]) -> None:
        numbers = []
        for series in every:
            assert series.tasks is not None
            tasks = series.tasks.clear()
            into += tasks
            self.waiting -= len(tasks)
            numbers.append(len(tasks))
        # The name of a series may be at fault. By now all the tasks are known.
        for series, number in zip(every, numbers, strict=True):
            self._serials.release(series.name, number)

    def __iter__(self) -> Iterator[TaskType]:
        """
        @return: an iterator over the tasks that wait now, each series in its order. The scheduler
            may change before the iterator is at its end: tasks that no longer wait are passed over,
            and tasks that come later are not seen. So mass cancellation can be done in pieces.
        """
        return chain(self._tasksOf(iter(self._serials.all())), self.resting())

    def resting(self) -> Iterator[TaskType]:
        """
        Return an iterator over the tasks that rest now. The scheduler may change meanwhile.
        """
        return (task for task in [*self._resting] if task in self._resting)

    def waitingIn(self, series: Hashable) -> Iterator[TaskType]:
        """
        Return an iterator, as C{iter()} of the scheduler gives, over the waiting tasks of one
        series.
        """
        known = self._serials.get(series)
        resting = (task for task in self.resting() if task.options.series == series)
        return chain(self._tasksOf(iter(() if known is None else (known,))), resting)

    def unrunnable(self) -> Iterator[TaskType]:
        """
        Return an iterator, as C{iter()} of the scheduler gives, over the waiting tasks of those
        series for which no worker is qualified.
        """
        return self._tasksOf(iter(self._groups.unserved.series))

    def walk(self) -> Iterator[TaskType]:
        """
        Return an iterator over the waiting tasks of all series by priority, as one worker that is
        qualified for everything would take them, without those that rest. It copies nothing, so the
        first tasks of a million cost little. The scheduler must not change while it is used.
        """
        every = self._groups.walk()
        following = next(every, None)
        # The next task of each series that was come to.
        heads: list[tuple[float, int, TaskType, Iterator[TaskType]]] = []
        while heads or following is not None:
            while following is not None and (
                not heads or (following.priority, following.id) < heads[0][:2]
            ):
                assert following.tasks is not None
                _pushNext(heads, following.tasks.walk())
                following = next(every, None)
            _, _, task, tasks = heappop(heads)
            yield task
            _pushNext(heads, tasks)

    @property
    def seriesWaiting(self) -> int:
        """
        Of how many series tasks wait, without those that rest.
        """
        return self._groups.seriesWaiting

    def walkSeries(self) -> Iterator[tuple[Hashable, int, bool]]:
        """
        Return an iterator over the series of which tasks wait, by the first task of each: its name,
        how many wait, and whether a worker is qualified for it. As with L{walk}, the scheduler must
        not change while it is used.
        """
        for series in self._groups.walk():
            assert series.tasks is not None
            yield series.name, len(series.tasks), series.name in self._groups.of

    def _tasksOf(self, every: Iterator[Series]) -> Iterator[TaskType]:
        newest = self._newest
        tasks = (task for series in every for task in series.tasks or ())
        return (task for task in tasks if task.id <= newest)

    def _wait(self, task: TaskType, series: Series) -> None:
        tasks = series.tasks
        if tasks is None:
            tasks = series.tasks = PriorityHeap()
        tasks.put(task)
        self.waiting += 1
        if (
            series.head is None
            or task.priority < series.priority
            or (task.priority == series.priority and task.id < series.id)
        ):
            self._groups.announce(series)

    # Workers --------------------------------------------------------------------------------------

    @property
    def hasFreeWorker(self) -> bool:
        """
        Whether a worker has a free slot, for any series.
        """
        return self._free > 0

    def pause(self) -> None:
        """
        Assign nothing until L{resume}.
        """
        self.isPaused = True

    def resume(self) -> None:
        """
        Assign tasks again.
        """
        self.isPaused = False

    def attach(
        self, worker: Hashable, qualified: Iterable[Hashable] = (), capacity: Capacity | None = None
    ) -> None:
        """
        Add a worker. It gets nothing until L{open} is called for it.

        @param worker: whatever names it.
        @param qualified: the series that it may run, besides C{None}.
        @param capacity: how much it can take. Default: one task at a time.
        @raise ValueError: if it is attached already.
        """
        if worker in self._workers:
            raise ValueError(f"{worker!r} is attached already")
        load = WorkerLoad(worker, capacity or Capacity())
        self._workers[worker] = load
        self._groups.qualify(load, {None, *qualified})

    def detach(self, worker: Hashable) -> None:
        """
        Remove a worker, if it is attached. The tasks that it holds stay as they are.
        """
        if worker not in self._workers:
            return
        self.close(worker)
        load = self._workers.pop(worker)
        self.held -= load.held
        self._groups.remove(load)

    def qualify(self, worker: Hashable, series: Hashable) -> None:
        """
        Qualify a worker for one more series.
        """
        self._groups.qualify(self._workers[worker], {series})

    def serves(self, series: Hashable) -> bool:
        """
        Return whether a worker is qualified for a series.
        """
        return series in self._groups.of

    def open(self, worker: Hashable) -> None:
        """
        Allow a worker to get tasks.
        """
        load = self._workers[worker]
        if not load.isOpen:
            load.isOpen = True
            if load.held < load.capacity.slots:
                self._freed(load)

    def close(self, worker: Hashable) -> None:
        """
        Give a worker no tasks for now.
        """
        load = self._workers[worker]
        if load.isOpen and load.held < load.capacity.slots:
            self._free -= 1
        load.isOpen = False

    def stall(self, worker: Hashable) -> None:
        """
        Send a worker nothing ahead until all that it holds is over, because a task that it is
        running takes far longer than was expected. Said again meanwhile, this changes nothing.
        """
        load = self._workers[worker]
        if load.held and not load.isStalled:
            load.isStalled = True
            load.expected += UNKNOWN

    def ended(
        self, worker: Hashable, task: TaskType, seconds: float | None, isOver: bool = True
    ) -> None:
        """
        Note that a worker no longer holds a task. A task that was never assigned here, or never
        put, may be named all the same.

        @param worker: the worker that held it.
        @param task: the task.
        @param seconds: how long its run took, or C{None} if it did not run to its end.
        @param isOver: whether the task is done. Otherwise it is given back, with L{putBack}, or
            done later.
        """
        if seconds is not None:
            self.runTimes.note(task.function, seconds)
        load = self._workers.get(worker)
        if load is not None and task.expected is not None:
            load.expected -= task.expected
            held = load.held = load.held - 1
            self.held -= 1
            if not held:
                # The rest comes from rounding, or from a stall that is now over.
                load.expected = 0.0
                load.isStalled = False
            if load.isOpen and held == load.capacity.slots - 1:
                # As _freed() does, without a call for each task.
                self._free += 1
                self._turn += 1
                load.freeSince = self._turn
        if isOver and task.priority is not None:
            self._serials.release(task.options.series)

    def release(self, worker: Hashable, ended: Iterable[tuple[TaskType, float | None]]) -> None:
        """
        Note that a worker no longer holds some tasks, which are not done by that.

        @param worker: the worker that held them.
        @param ended: the tasks, each with the seconds as L{ended} takes them.
        """
        for task, seconds in ended:
            self.ended(worker, task, seconds, False)

    def _freed(self, load: WorkerLoad) -> None:
        self._free += 1
        self._turn += 1
        load.freeSince = self._turn

    # Decisions ------------------------------------------------------------------------------------

    def decide(self) -> list[tuple[Hashable, list[TaskType]]]:
        """
        Decide which worker runs what, now. Each task returned counts as held by its worker.

        @return: for each worker that gets something, the worker and its tasks, in the order to run
            them.
        """
        if not self.waiting or self.isPaused:
            return []
        queue = []
        for load in self._workers.values():
            capacity = load.capacity
            isFree = load.held < capacity.slots
            mayGetMore = isFree or (capacity.aheadSeconds and load.held < capacity.aheadTasks)
            if load.isOpen and mayGetMore:
                queue.append((load.key(), load))
        heapify(queue)
        served: list[WorkerLoad] = []
        refused: list[WorkerLoad] = []
        while queue:
            load = queue[0][1]
            before = len(load.given)
            if self._fill(load):
                heapreplace(queue, (load.key(), load))
            else:
                heappop(queue)
                refused.append(load)
            if len(load.given) == before:
                continue
            if not before:
                served.append(load)
            # The tasks that the others could not take may be gone now, and they may take the next.
            for other in refused:
                if other is not load and self.waiting:
                    heappush(queue, (other.key(), other))
            refused = [load] if refused and refused[-1] is load else []
        decisions = [(load.worker, load.given) for load in served]
        for load in served:
            load.given = []
        return decisions

    def _fill(self, load: WorkerLoad) -> bool:
        """
        Give a worker about a quantum's worth of tasks.

        @return: C{False} if it can get no more for now.
        """
        granted = 0.0
        while granted < QUANTUM:
            group = self._firstGroup(load)
            if group is None:
                return False
            series = group.series.head()
            assert series is not None
            # While no other series can come between, the one series is enough to look at.
            isAlone = len(load.groups) == 1 and len(group.series) == 1
            until = QUANTUM if isAlone else granted
            tasks, task = series.tasks, series.head
            assert tasks is not None
            while task is not None and (seconds := self._give(load, task)):
                tasks.cancel(task)
                self.waiting -= 1
                granted += seconds
                task = tasks.head()
                if granted >= until:
                    break
            else:
                if task is not None:
                    # The worker cannot take it.
                    if task is not series.head:
                        group.announce(series)
                    return False
            group.announce(series)
        return True

    def _give(self, load: WorkerLoad, task: TaskType) -> float:
        """
        Give a worker a task, if it can take it.

        @return: how many seconds the task should take; 0 if the worker cannot take it.
        """
        seconds = UNKNOWN if task.options.isTimed else self.runTimes.expect(task.function)
        if seconds < OVERHEAD:  # noqa: PLR1730
            seconds = OVERHEAD
        capacity = load.capacity
        if load.held >= capacity.slots and (
            load.expected + seconds > capacity.aheadSeconds or load.held >= capacity.aheadTasks
        ):
            return 0.0
        task.expected = seconds
        load.expected += seconds
        load.held += 1
        if load.held == capacity.slots:
            self._free -= 1
        self.held += 1
        load.given.append(task)
        return seconds

    def _firstGroup(self, load: WorkerLoad) -> Group | None:
        """
        @return: of the groups that a worker serves, the one with the task that goes first; C{None}
            if no task waits for it.
        """
        first = best = None
        for group in load.groups:
            series = group.series.head()
            if series is not None and (
                best is None
                or series.priority < best.priority
                or (series.priority == best.priority and series.id < best.id)
            ):
                first, best = group, series
        return first

    def _isBehind(self, task: TaskType, load: WorkerLoad) -> bool:
        """
        @return: whether a task that waits, and that a worker could take, goes before a new one.
        """
        group = self._firstGroup(load)
        if group is None:
            return False
        first = group.series.head()
        assert first is not None
        return (first.priority, first.id) < (task.priority, task.id)


def _pushNext(
    heads: list[tuple[float, int, TaskType, Iterator[TaskType]]], tasks: Iterator[TaskType]
) -> None:
    task = next(tasks, None)
    if task is not None:
        heappush(heads, (task.priority, task.id, task, tasks))
