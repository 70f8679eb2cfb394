"""
Signals: the first lets the work tidy up, the second does not wait.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from mcmandelbrot.errors import Interrupted, OutputFailed
from mcmandelbrot.signals import ReactorRun, handlingSignals, raiseInterrupted


class StepReactor(Clock):
    """
    I run until I am stopped, and meanwhile let the test do one thing after another.
    """

    def __init__(self, *steps: Callable[[], object]) -> None:
        super().__init__()
        self.running = False
        self._steps = list(steps)
        self._calls: list[Callable[[], object]] = []

    def callWhenRunning(self, function: Callable[[], object]) -> None:
        self._calls.append(function)

    callFromThread = callWhenRunning

    def run(self, installSignalHandlers: bool) -> None:
        assert not installSignalHandlers
        self.running = True
        while self.running:
            if self._calls:
                self._calls.pop(0)()
            else:
                self._steps.pop(0)()
        assert self._steps == []

    def stop(self) -> None:
        assert self.running
        self.running = False


def send(number: int) -> Callable[[], None]:
    """
    Make a step that sends this process a signal.
    """
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signalIsRaisedWithItsExitStatus(number: int) -> None:
    with pytest.raises(Interrupted) as caught, handlingSignals(raiseInterrupted):
        send(number)()
    assert caught.value.exitStatus == 128 + number


def test_handlersAreRestored() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with handlingSignals(raiseInterrupted):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def test_ignoredSignalStaysIgnored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handlingSignals(raiseInterrupted):
            send(signal.SIGHUP)()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Work:
    """
    A coroutine's course.

    @ivar log: what has happened.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.waiting: Deferred[None] = Deferred()
        self.tidying: Deferred[None] = Deferred()

    async def begin(self) -> None:
        """
        Wait, and tidy up afterwards.
        """
        self.log.append("begun")
        try:
            await self.waiting
        except CancelledError:
            self.log.append("cancelled")
            await self.tidying
            self.log.append("tidy")
            raise
        self.log.append("done")


def test_reactorStopsWhenTheWorkIsDone() -> None:
    work = Work()
    ReactorRun(work.begin, StepReactor(lambda: work.waiting.callback(None))).run()
    assert work.log == ["begun", "done"]


def test_failureOfTheWorkIsRaised() -> None:
    work = Work()
    reactor = StepReactor(lambda: work.waiting.errback(OutputFailed("no room")))
    with pytest.raises(OutputFailed, match="no room"):
        ReactorRun(work.begin, reactor).run()


def test_workThatIsDoneAtOnceNeedsNoReactor() -> None:
    async def nothing() -> None:
        pass

    ReactorRun(nothing, StepReactor()).run()


def test_firstSignalLetsTheWorkTidyUp() -> None:
    work = Work()
    reactor = StepReactor(send(signal.SIGINT), lambda: work.tidying.callback(None))
    with pytest.raises(Interrupted) as caught:
        ReactorRun(work.begin, reactor).run()
    assert caught.value.exitStatus == 130
    assert work.log == ["begun", "cancelled", "tidy"]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_secondSignalDoesNotWait(second: int) -> None:
    work = Work()
    with pytest.raises(Interrupted) as caught:
        ReactorRun(work.begin, StepReactor(send(signal.SIGINT), send(second))).run()
    assert caught.value.exitStatus == 130
    assert work.log == ["begun", "cancelled"]


def test_tidyingUpHasItsTime() -> None:
    work = Work()
    reactor: Any = StepReactor(send(signal.SIGTERM), lambda: reactor.advance(ReactorRun.grace))
    with pytest.raises(Interrupted) as caught:
        ReactorRun(work.begin, reactor).run()
    assert caught.value.exitStatus == 143
    assert work.log == ["begun", "cancelled"]


def test_signalBeforeTheReactorRunsKeepsTheWorkFromBeginning() -> None:
    work = Work()
    reactor = StepReactor()
    reactor.callWhenRunning(send(signal.SIGINT))
    with pytest.raises(Interrupted):
        ReactorRun(work.begin, reactor).run()
    assert work.log == []


def test_workThatIsDoneInSpiteOfASignalIsDone() -> None:
    async def stubborn() -> None:
        try:
            await waiting
        except CancelledError:
            return

    waiting: Deferred[None] = Deferred()
    ReactorRun(stubborn, StepReactor(send(signal.SIGINT))).run()
