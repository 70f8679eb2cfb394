"""
The contracts catch workers that break them. Each worker here fails exactly the tests it breaks.
"""

from __future__ import annotations

import gc
import unittest
from collections.abc import Hashable
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from asynqueue._runner.messages import GRANT, ITEMS, STREAMING, Message
from asynqueue.testing import (
    Hold,
    IteratingWorkerContract,
    MemoryChannel,
    MemoryWorker,
    PicklingWorkerContract,
    StepWorker,
    WorkerContract,
)


class RunsAfterAStop(StepWorker):
    def run(self, task: Any) -> Deferred[None]:
        if self.state != "STOPPED":
            return super().run(task)
        function, args, kwargs = task.callTuple
        task.callback(function(*args, **kwargs))
        return succeed(None)


class StopsTooEarly(StepWorker):
    def stop(self) -> Deferred[None]:
        super().stop()
        return succeed(None)


class DoesNotGiveBack(StepWorker):
    def crash(self) -> list[Any]:
        super().crash()
        return []


class GivesBackTwice(StepWorker):
    def crash(self) -> list[Any]:
        super().crash()
        return self.past[-1:]


class EndsWhatItGaveBack(StepWorker):
    def crash(self) -> list[Any]:
        tasks = super().crash()
        for task in tasks:
            task.errback(Failure(RuntimeError("crashed")))
        return tasks


class FailsWithItsTask(StepWorker):
    def fail(self, error: Exception) -> None:
        task, self.task = self.task, None
        free, self._free = self._free, None
        task.errback(Failure(error))
        if free is not None:
            free.errback(Failure(error))


class WaitsForWhatWasCancelled(StepWorker):
    def step(self) -> bool:
        return self.task is not None and not self.task.isDone and super().step()


class LosesKeywords(StepWorker):
    def step(self) -> bool:
        if self.task is not None:
            self.task.kwargs = {}
        return super().step()


class LosesTypes(StepWorker):
    def fail(self, error: Exception) -> None:
        super().fail(RuntimeError(str(error)))


class SharesItsSeries(StepWorker):
    shared: ClassVar[list[Hashable]] = []

    def __init__(self) -> None:
        super().__init__()
        self.iQualified = self.shared


class ResignsForNothing(StepWorker):
    def fail(self, error: Exception) -> None:
        super().fail(error)
        if self._resign is not None:
            self._resign()


class KeepsSeriesInATuple(StepWorker):
    cQualified = ()  # type: ignore[assignment] # that is what is wrong with it


def brokenPromises(case: type, contract: type, **attributes: Any) -> set[str]:
    """
    Run a contract.

    @param case: a test case that makes the worker.
    @param attributes: of the test case.
    @return: the names of the tests that did not pass.
    """
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(
        type("Case", (case, contract, TestCase), attributes)
    )
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun > 15
    assert not result.skipped
    names = {test.id().rpartition("test_")[2] for test, _ in result.failures + result.errors}
    # Tests that fail leave their frames in tracebacks, with what is open there.
    del suite, result
    gc.collect()
    return names


class StepCase(WorkerContract):
    """
    A contract's test case for workers that are stepped by hand.
    """

    # A Deferred that has not fired when everything was pumped never will.
    timeout = 0.2
    workerClass: type[StepWorker]

    def setUp(self) -> None:
        super().setUp()
        self.workers: list[StepWorker] = []

    def makeWorker(self) -> StepWorker:
        self.workers.append(self.workerClass())
        return self.workers[-1]

    def makeHold(self) -> Hold:
        return Hold()

    def pump(self) -> None:
        while any(worker.step() for worker in self.workers):
            pass


@pytest.mark.parametrize(
    ("worker", "broken"),
    [
        (StepWorker, set()),
        (RunsAfterAStop, {"nothingIsRunAfterAStop", "nothingIsRunAfterACrash"}),
        (StopsTooEarly, {"stopWaitsForWhatWasGiven"}),
        (DoesNotGiveBack, {"aCrashGivesBackWhatIsUnderway", "aCrashMayFollowAStop"}),
        (
            GivesBackTwice,
            {"anIdleWorkerCrashesWithNothingToGiveBack", "aCrashGivesBackWhatIsUnderway"},
        ),
        (EndsWhatItGaveBack, {"whatACrashGaveBackIsLeftAlone"}),
        (FailsWithItsTask, {"runDoesNotFailWithItsTask"}),
        (WaitsForWhatWasCancelled, {"aLateResultIsDropped"}),
        (LosesKeywords, {"keywordsReachTheFunction"}),
        (LosesTypes, {"anExceptionComesBackWithItsType"}),
        (SharesItsSeries, {"noTwoWorkersShareTheirOwnSeries"}),
        (ResignsForNothing, {"itHasNoReasonToResign"}),
        (KeepsSeriesInATuple, {"itsSeriesAreLists"}),
    ],
)
def test_aBrokenWorkerFailsWhatItBreaks(worker: type[StepWorker], broken: set[str]) -> None:
    assert brokenPromises(StepCase, WorkerContract, workerClass=worker) == broken


def test_aWorkerThatSaysNotThatItIsOneIsCaught() -> None:
    class Unsaid:
        cQualified: ClassVar[list[Hashable]] = []

        def __init__(self) -> None:
            self._worker = StepWorker()

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(self._worker, name)

    broken = brokenPromises(StepCase, WorkerContract, workerClass=Unsaid)
    assert broken == {"itProvidesIWorker"}


def test_aWorkerThatPicklesNothingIsNoPicklingWorker() -> None:
    broken = brokenPromises(StepCase, PicklingWorkerContract, workerClass=StepWorker, timeout=0.2)
    own = {name.removeprefix("test_") for name in vars(PicklingWorkerContract)}
    assert "whatIsSentIsACopy" in broken
    assert broken <= own


# Iteration ----------------------------------------------------------------------------------------


class BackToFront(MemoryChannel):
    """
    Each batch of items arrives back to front.
    """

    def post(self, message: Message) -> None:
        if message[0] == ITEMS:
            message = (*message[:2], message[2][::-1], *message[3:])
        super().post(message)


class WithoutCredit(MemoryChannel):
    """
    Each stream goes on producing while it is paused.
    """

    def post(self, message: Message) -> None:
        super().post(message)
        if message[0] == STREAMING:
            self.runner.receive([(GRANT, message[1], 60_000, 1 << 40)])


class MemoryCase(WorkerContract):
    """
    A contract's test case for workers whose runners move with a clock.
    """

    timeout = 0.2
    channelClass: type[MemoryChannel]

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()

    def makeWorker(self) -> MemoryWorker:
        class Worker(MemoryWorker):
            channelClass = self.channelClass

        return Worker(reactor=self.clock, stepSeconds=0.0)

    def makeHold(self) -> Hold:
        return Hold()

    def pump(self) -> None:
        self.clock.advance(0)


def test_itemsOutOfOrderAreCaught() -> None:
    broken = brokenPromises(MemoryCase, IteratingWorkerContract, channelClass=BackToFront)
    assert "moreItemsThanAnyCreditArriveInOrder" in broken
    own = {name.removeprefix("test_") for name in vars(IteratingWorkerContract)}
    assert broken <= own


def test_aGeneratorThatDoesNotStopForAPauseIsCaught() -> None:
    broken = brokenPromises(MemoryCase, IteratingWorkerContract, channelClass=WithoutCredit)
    assert broken == {"aPausedConsumerStopsTheGenerator"}
