"""
The wall clock is set back or forward while calls run.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, time
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from asynqueue import NullQueue

def wait():
    return Deferred()

def change():
    reactor.seconds = lambda: time.time() + float(sys.argv[1])

def failed(failure):
    kinds.append(failure.type.__name__)
    if len(kinds) == 2:
        queue.shutdown().addBoth(stopped)

def stopped(_):
    print(*sorted(kinds), time.monotonic() - started, flush=True)
    # The reactor's own end would take an hour.
    os._exit(0)

kinds = []
queue = NullQueue(slots=3, timeout=0.2)
queue.options(timeout=0.3).call(wait).addErrback(failed)
queue.options(stallTimeout=0.4).call(wait).addErrback(failed)
queue.call(wait).addErrback(lambda _: None)
reactor.callLater(0.05, change)
started = time.monotonic()
reactor.run()
"""


@pytest.mark.parametrize("change", [-3600, 3600])
def test_timeoutsAndTheDeadlineOfAShutdownCountTimeThatPasses(change: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(change)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    stalled, timedOut, seconds = done.stdout.split()
    assert (stalled, timedOut) == ("TaskStalled", "TaskTimeout")
    assert 0.29 <= float(seconds) < 20
