"""
A whole queue, its workers moved by hand, for a search.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from asynqueue import Event, QueuedTask
from asynqueue._core.options import USUAL
from asynqueue._queue.engine import Engine
from asynqueue._runner.framing import LARGEST
from asynqueue._runner.messages import UNBEGUN, Message
from asynqueue._workers import supervisor
from asynqueue._workers.supervisor import STALL_SECONDS, RunnerLink
from asynqueue.errors import PoisonTask, QueueStopped, WorkerDetached, WorkerDied
from asynqueue.interfaces import IWorker
from asynqueue.tasks import STOPPED, TaskOptions
from asynqueue.testing import memory
from asynqueue.testing.memory import DEAD, OPEN, MemoryChannel, MemoryWorker, act
from tests.model.contract import BEGAN, FIRED, UNHEARD, Contract, Fact, RecordingProtocol
from tests.model.protocolworld import short

SERVED: Final = TaskOptions(series="s")
IDEMPOTENT: Final = TaskOptions(idempotent=True)

Action = tuple[Any, ...]

_STORY: Final = re.compile(r"QUEUED (STARTED GIVEN_BACK )*(STARTED )?(FINISHED|FAILED|CANCELLED) ")


@dataclass(frozen=True)
class Setup:
    """
    What may happen.

    @ivar kinds: the options of the tasks.
    @ivar verbs: the actions, besides that calls are put and that workers move.
    @ivar atFirst: how many tasks are put before the search begins.
    @ivar isMeasured: whether the tasks are known to be short, so that they are sent ahead.
    @ivar deaths: how many runners may die.
    @ivar makeEngine: makes the queue's engine.
    @ivar makeProtocol: makes the near half of each runner.
    """

    kinds: tuple[TaskOptions, ...]
    verbs: frozenset[str]
    atFirst: int = 0
    isMeasured: bool = True
    deaths: int = 2
    makeEngine: Callable[..., Engine] = Engine
    makeProtocol: Callable[..., RecordingProtocol] = RecordingProtocol


class DirectWire:
    """
    Carries messages as they are. To make them bytes and messages again takes most of the time.
    """

    def carry(self, messages: list[Message], largest: int = LARGEST) -> list[Message]:
        """
        Carry messages.
        """
        return list(messages)


class ModelChannel(MemoryChannel):
    """
    A channel that notes facts.
    """

    note: Callable[[Fact], object]

    def _taskOf(self, number: int) -> Any:
        task = self._receiver.link.protocol.underway.get(number)
        return None if task is None else task.id

    def _begin(self, number: int) -> None:
        super()._begin(number)
        if self.state == OPEN:
            self.note(Fact(BEGAN, self.pid, self._taskOf(number)))

    def die(
        self, exitCode: int | None = None, signal: int | None = None, losing: bool = False
    ) -> None:
        if losing and self.state == OPEN:
            for message in self._incoming:
                for number in message[1] if message[0] == UNBEGUN else [0]:
                    self.note(Fact(UNHEARD, self.pid, self._taskOf(number)))
        super().die(exitCode, signal, losing)


class ModelWorker(MemoryWorker):
    """
    A worker with such channels.
    """

    cQualified: ClassVar[list[Hashable]] = []
    channelClass = ModelChannel

    def __init__(self, world: QueueWorld, series: list[Hashable]) -> None:
        self._world = world
        super().__init__(series, reactor=world.clock, prepare=self._prepared)
        self.actions["run"] = partial(world.run, self)

    def _prepared(self, channel: Any) -> None:
        channel.note = self._world.facts.append

    def _makeLink(self) -> RunnerLink:
        world = self._world
        make = partial(world.setup.makeProtocol, world.facts.append)
        protocols = patch.object(supervisor, "RunnerProtocol", make)
        with protocols, patch.object(memory, "Wire", DirectWire):
            return super()._makeLink()


@dataclass
class Known:
    """
    What is known of one task.

    @ivar outcomes: what its Deferred has fired with.
    @ivar story: what observers were told of it.
    """

    task: QueuedTask
    outcomes: list[Any] = field(default_factory=list)
    story: str = ""


class QueueWorld:
    """
    A queue with two workers, one of which is qualified for the series C{"s"}.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.clock = Clock()
        self.facts: list[Fact] = []
        self.contract = Contract(self._runsOf)
        self.engine = setup.makeEngine("the queue", self.clock, (), None)
        self.engine.observers.add(self._hear)
        self.known: list[Known] = []
        self.workers: list[ModelWorker] = []
        self.stories: dict[int, str] = defaultdict(str)
        self.meanwhile = ""
        self.deaths = 0
        self.hasCrashed = self.isShut = False
        self.done: list[Any] = []
        for series in (["s"], []):
            self.attach(*series)
        for worker in self.workers:
            worker.step()
        if setup.isMeasured:
            self.engine.scheduler.runTimes.note(act, 0.0)
        for _ in range(setup.atFirst):
            self.call()

    def _runsOf(self, id: int) -> int:
        return self.known[id - 1].task.options.runs if id <= len(self.known) else 1

    def _hear(self, event: Event) -> None:
        if event.task is not None:
            self.stories[event.task.id] += f"{event.kind} "

    # What may happen ------------------------------------------------------------------------------

    def actions(self) -> Iterator[Action]:
        verbs = self.setup.verbs
        engine = self.engine
        if engine.state == STOPPED:
            return
        if len(self.known) < len(self.setup.kinds) and not self.isShut:
            yield ("call",)
        for name, worker in enumerate(self.workers):
            yield from self._workerActions(name, worker)
        if "cancel" in verbs:
            for known in self.known:
                if not known.outcomes:
                    yield ("cancel", known.task.id)
        if self.clock.getDelayedCalls():
            yield ("tick",)
        if "attach" in verbs and len(self.workers) < 3 and not self.isShut:
            yield ("attach", "s")
        if "shutdown" in verbs and not self.isShut:
            yield ("shutdown", None)
            if "crash" in verbs:
                yield ("shutdown", 1.0)

    def _workerActions(self, name: int, worker: ModelWorker) -> Iterator[Action]:
        verbs = self.setup.verbs
        channel = worker.channel
        if channel._incoming or channel.state == DEAD:
            yield ("deliver", name)
        if channel.state == OPEN:
            yield from self._farActions(name, channel)
        if "detach" in verbs and self.engine.pool.find(worker) is not None:
            yield ("detach", name, "")
            if "crash" in verbs:
                yield ("detach", name, "crash")
                yield ("detach", name, "reassign")

    def _farActions(self, name: int, channel: MemoryChannel) -> Iterator[Action]:
        verbs = self.setup.verbs
        runner = channel.runner
        mayDie = "die" in verbs and self.deaths < self.setup.deaths
        if channel._outgoing or runner.hasWork or runner.ended:
            yield ("move", name, "")
            if channel._outgoing or runner._calls:
                if "stall" in verbs and self.workers[name]._supervisor.link._watch is not None:
                    yield ("move", name, "stall")
                if "interrupt" in verbs:
                    yield ("move", name, "interrupt")
                if mayDie:
                    yield ("move", name, "die")
        if mayDie:
            yield ("die", name, False)
            if "lose" in verbs and channel._incoming:
                yield ("die", name, True)

    def do(self, action: Action) -> None:
        getattr(self, action[0])(*action[1:])
        self.contract.take(self.facts)
        self.facts.clear()

    def call(self) -> None:
        """
        A task is put.
        """
        number = len(self.known) + 1
        task = self.engine.submit(act, ("run", number), {}, self.setup.kinds[number - 1])
        known = Known(task)
        self.known.append(known)
        task.d.addBoth(self._fired, known)

    def _fired(self, result: Any, known: Known) -> None:
        self.facts.append(Fact(FIRED, None, known.task.id))
        known.outcomes.append(result.value if isinstance(result, Failure) else result)

    def move(self, name: int, meanwhile: str) -> None:
        """
        A runner takes in what came and runs one call, and something may happen meanwhile.
        """
        self.meanwhile = meanwhile
        self.workers[name].channel.advance()
        self.meanwhile = ""

    def run(self, worker: ModelWorker, number: int) -> int:
        """
        A task's function runs.
        """
        meanwhile, self.meanwhile = self.meanwhile, ""
        if meanwhile == "die":
            self.deaths += 1
            worker.die()
        elif meanwhile == "stall":
            self.clock.advance(STALL_SECONDS)
        elif meanwhile == "interrupt":
            self.known[number - 1].task.cancel()
        return number

    def deliver(self, name: int) -> None:
        """
        The near side hears what a runner has said, or that it is gone.
        """
        self.workers[name].channel.deliver()

    def die(self, name: int, isLosing: bool) -> None:
        """
        A runner dies.
        """
        self.deaths += 1
        self.workers[name].die(losing=isLosing)

    def cancel(self, id: int) -> None:
        """
        A task is not wanted any more.
        """
        self.known[id - 1].task.cancel()
        assert self.known[id - 1].outcomes

    def tick(self) -> None:
        """
        The time comes at which something is due.
        """
        due = min(call.getTime() for call in self.clock.getDelayedCalls())
        self.clock.advance(max(0.0, due - self.clock.seconds()))

    def attach(self, *series: Hashable) -> None:
        """
        A worker is attached. Its runner has not said hello.
        """
        worker = ModelWorker(self, list(series))
        self.workers.append(worker)
        self.engine.pool.attach(worker).addErrback(lambda _: None)

    def detach(self, name: int, how: str) -> None:
        """
        A worker is let go, or crashed, and its tasks may go back into the queue.
        """
        self.hasCrashed = self.hasCrashed or how == "crash"
        record = self.engine.pool.find(self.workers[name])
        assert record is not None
        self.engine.pool.detach(record, reassign=how == "reassign", crash=bool(how))

    def shutdown(self, timeout: float | None) -> None:
        """
        The queue is shut down.
        """
        self.isShut = True
        self.hasCrashed = self.hasCrashed or timeout is not None
        self.engine.shutdown(timeout).addBoth(self.done.append)

    # What must be true ----------------------------------------------------------------------------

    def check(self) -> None:
        for known in self.known:
            assert len(known.outcomes) == known.task.isDone, f"{known.task} fires once, when done"
            for outcome in known.outcomes:
                self._isAllowed(known.task, outcome)
        waiting = [task.id for task in self.engine.scheduler]
        pending = [known.task.id for known in self.known if known.task.state == "PENDING"]
        assert sorted(waiting) == pending, "what is pending waits in the schedule"

    def _isAllowed(self, task: QueuedTask, outcome: Any) -> None:
        began = self.contract.began[task.id]
        if isinstance(outcome, (WorkerDied, PoisonTask)):
            assert began, f"{task} is blamed for a death, and never began"
            assert isinstance(outcome, PoisonTask) == (task.options.runs > 1), outcome
        elif isinstance(outcome, QueueStopped):
            # An idempotent task that has begun may wait for another run.
            isOver = task.id in self.contract.fates
            assert self.isShut and not isOver, f"{task} is refused, and it began or may begin"
        elif isinstance(outcome, WorkerDetached):
            assert self.hasCrashed, f"{task} is broken off, and nobody has crashed its worker"
        elif isinstance(outcome, Exception):
            assert task.state == "CANCELLED", outcome
        else:
            assert outcome == task.id and began, f"{task} returned {outcome}"

    def settle(self) -> None:
        """
        Let everything come to its end, then shut the queue down.
        """
        self._rest(lambda: not (self.engine.scheduler.held or self.clock.getDelayedCalls()))
        for task in self.engine.scheduler:
            able = [
                one for one in self.engine.pool.workers if task.series in (None, *one.iQualified)
            ]
            assert not able, f"{task} waits for ever, and {able} could run it"
        if not self.isShut:
            self.shutdown(None)
        self._rest(lambda: bool(self.done))
        assert self.done == [None], "the queue shuts down"
        assert not self.clock.getDelayedCalls(), "no timer is left"
        assert all(worker.state == STOPPED for worker in self.workers), "every worker has ended"
        self.contract.end()
        assert self.contract.fired == {known.task.id for known in self.known}
        for known in self.known:
            story = self.stories[known.task.id]
            assert _STORY.fullmatch(story), f"observers were told this of {known.task}: {story}"

    def _rest(self, isEnough: Callable[[], bool]) -> None:
        for _ in range(1000):
            moved = [worker.step() for worker in self.workers]
            self.contract.take(self.facts)
            self.facts.clear()
            self.check()
            if not any(moved) and isEnough():
                return
            self.clock.advance(STALL_SECONDS)
        raise AssertionError(f"{self.engine.scheduler.held} tasks are held for ever")

    def numberOf(self, worker: IWorker | None) -> int | None:
        if worker is None:
            return None
        assert isinstance(worker, ModelWorker)
        return self.workers.index(worker)

    def key(self) -> Hashable:
        engine = self.engine
        now = self.clock.seconds()
        tasks = [
            (
                known.task.state,
                known.task.attempts,
                self.numberOf(known.task.worker),
                self.contract.began[known.task.id],
                tuple(type(outcome).__name__ for outcome in known.outcomes),
            )
            for known in self.known
        ]
        delayed: Any = self.clock.getDelayedCalls()
        timers = sorted(
            (round(call.getTime() - now, 4), getattr(call.func, "__qualname__", ""))
            for call in delayed
        )
        loads: Any = engine.scheduler._workers
        free = sorted(loads, key=lambda record: loads[record].freeSince)
        workers = [self._keyOf(worker) for worker in self.workers]
        return (
            engine.state,
            tuple(tasks),
            tuple(task.id for task in engine.scheduler),
            tuple(timers),
            tuple((record.ID, record.state, round(loads[record].expected, 4)) for record in free),
            tuple(workers),
            tuple(round(each, 4) for each in engine.scheduler.runTimes.estimates.values()),
            (self.deaths, self.isShut, bool(self.done)),
        )

    def _keyOf(self, worker: ModelWorker) -> Hashable:
        link = worker._supervisor.link
        channel, runner, protocol = worker.channel, worker.channel.runner, link.protocol
        return (
            worker.state,
            channel.state,
            # Numbers only matter in their order.
            channel._begun - next(iter(protocol.underway), channel._begun),
            tuple(map(short, channel._outgoing)),
            tuple(map(short, channel._incoming)),
            tuple(short(call) for call in runner._calls),
            (runner._state, tuple(runner._unwanted)),
            tuple(task.id for task in protocol.underway.values()),
            (link.hasQuit, link._watch is None, worker._supervisor._backoff.losses),
        )


__all__ = ["IDEMPOTENT", "SERVED", "USUAL", "QueueWorld", "Setup"]
