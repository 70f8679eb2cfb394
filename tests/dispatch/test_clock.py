"""
The wall clock is set back or forward while a queue waits.
"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from twisted.internet.task import Clock

from asynqueue._reactor import SteadyClock, defaultReactor
from tests.dispatch.cases import DispatchCase


class SteadyClockTests(DispatchCase):
    def test_aClockThatIsSetBackGoesOn(self) -> None:
        clock = Clock()
        clock.advance(1000)
        steady = SteadyClock(clock)
        assert steady.seconds() == 1000
        clock.rightNow -= 3600
        assert steady.seconds() == 1000
        clock.advance(5)
        assert steady.seconds() == 1005

    def test_aRateGoesOn(self) -> None:
        queue = self.makeQueue(lambda _: None, 1, rate=1, per=1.0)
        self.clock.advance(10_000)
        self.putAll(queue, range(3))
        self.settle()
        self.clock.rightNow -= 3600
        queue.width = 2
        for call in self.clock.getDelayedCalls():
            # A reactor's clock goes on from there, and so do its delayed calls.
            call.reset(1.0)
        for _ in range(3):
            self.clock.advance(1.0)
        assert queue.size() == (0, 0)


PROGRAM = """
import os, sys, time
from twisted.internet import reactor
from asynqueue import ResizableDispatchQueue, Retry

tries = []

def function(jobarg):
    tries.append(jobarg)
    if jobarg == 2 and tries.count(2) == 1:
        raise ValueError
    if len(tries) == 4:
        print(time.monotonic() - started, flush=True)
        # The reactor's own end would take an hour.
        os._exit(0)

def change():
    # The queue waits for its rate and for a delay.
    reactor.seconds = lambda: time.time() + float(sys.argv[1])

retry = Retry(2, lambda _: 0.3)
queue = ResizableDispatchQueue(function, 3, rate=1, per=0.2, retry=retry)
for number, delay in (0, 0), (1, 0.4), (2, 0):
    queue.put(number, delay=delay)
reactor.callLater(0.05, change)
started = time.monotonic()
reactor.run()
"""


@pytest.mark.parametrize("change", [-3600, 3600])
def test_ratesDelaysAndRetriesOfARealReactorGoOn(change: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(change)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert 0.59 <= float(done.stdout) < 20


def test_aRealReactorsClockIsMonotonic(monkeypatch: pytest.MonkeyPatch) -> None:
    steady = SteadyClock(defaultReactor())
    before = steady.seconds()
    assert abs(before - time.time()) < 10
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= steady.seconds() - before < 10
