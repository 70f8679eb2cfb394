"""
What systemd is told, over a datagram socket as it makes one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from asynqueue import TaskQueue
from asynqueue._systemd import SystemdNotifier
from asynqueue.service import QueueService
from asynqueue.testing import StepWorker
from tests.support.endingreactor import EndingClock
from tests.support.systemd import Systemd


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    end = Systemd(path)
    yield end
    end.close()


class RunningClock(EndingClock):
    """
    A clock that begins to run when the test says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []

    def callWhenRunning(self, function: Any) -> None:
        self.waiting.append(function)

    def run(self) -> None:
        for function in self.waiting:
            function()


def makeService(clock: Any) -> QueueService[TaskQueue]:
    service = QueueService(TaskQueue, StepWorker(), reactor=clock)
    service.reactor = clock
    return service


def test_readyWhenTheReactorRunsStoppingWhenItStops(systemd: Systemd) -> None:
    clock = RunningClock()
    services = [makeService(clock) for _ in range(2)]
    for service in services:
        service.startService()
    assert systemd.heard() == []
    clock.run()
    assert systemd.heard() == ["READY=1"]
    clock.addSystemEventTrigger("before", "shutdown", lambda: None)
    clock.stop()
    assert systemd.heard() == ["STOPPING=1"]
    for service in services:
        service.stopService()
    assert systemd.heard() == []
    assert clock.getDelayedCalls() == []


def test_theEndOfOneServiceIsNotThatOfTheProgram(systemd: Systemd) -> None:
    clock = RunningClock()
    service = makeService(clock)
    service.startService()
    clock.run()
    service.stopService()
    assert systemd.heard() == ["READY=1"]
    assert clock.getDelayedCalls() == []
    assert clock.triggers == []


def test_theWatchdogHearsTwiceAsOftenAsItWantsUntilTheLastServiceHasEnded(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    clock = EndingClock()
    service = makeService(clock)
    service.startService()
    clock.advance(4.9)
    assert systemd.heard() == ["READY=1"]
    clock.pump([0.1] + [5.0] * 3)
    assert systemd.heard() == ["WATCHDOG=1"] * 4
    service.queue.call(len, "abc").addErrback(lambda _: None)
    service.stopService()
    clock.advance(4.9)
    clock.advance(0.1)
    assert systemd.heard() == ["WATCHDOG=1"]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_aWatchdogThatIsNotForThisProgramHearsNothing(
    environ: dict[str, str], systemd: Systemd
) -> None:
    clock = Clock()
    notifier = SystemdNotifier(clock, {**environ, "NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"]})
    notifier.serviceStarted()
    assert clock.getDelayedCalls() == []
    notifier.serviceEnded()
    assert systemd.heard() == ["READY=1"]


def test_aSocketWithoutAPath() -> None:
    name = f"asynqueue-test-{os.getpid()}"
    end = Systemd(f"\0{name}")
    clock = Clock()
    notifier = SystemdNotifier(clock, {"NOTIFY_SOCKET": f"@{name}"})
    notifier.serviceStarted()
    notifier.stopping()
    notifier.stopping()
    assert end.heard() == ["READY=1", "STOPPING=1"]
    notifier.serviceEnded()
    end.close()


def test_whereNobodyListensTheProgramGoesOn(tmp_path: Path) -> None:
    clock = Clock()
    for path in ("", "nonsense", str(tmp_path / "nobody")):
        notifier = SystemdNotifier(clock, {"NOTIFY_SOCKET": path})
        notifier.serviceStarted()
        notifier.stopping()
        notifier.serviceEnded()
        assert notifier.state == "IDLE"
