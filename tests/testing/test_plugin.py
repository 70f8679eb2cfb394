"""
The fixtures for pytest, in runs of pytest of their own.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import TaskQueue
from asynqueue.errors import WorkerDied
from asynqueue.testing import StepWorker, SynchronousQueue, far, killWorker

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[2]


def runTests(pytester: pytest.Pytester, text: str) -> pytest.RunResult:
    pytester.makepyfile(text)
    # The installed plugin may be that of another version, and others take long to import.
    plugin = ("--disable-plugin-autoload", "-p", "asynqueue.testing.plugin")
    return pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", "-rA")


def test_theDistributionDeclaresThePlugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"asynqueue": "asynqueue.testing.plugin"}
    assert "pytest" in project["optional-dependencies"]


def test_theFixtureGivesTheQueueThatIsAskedFor(pytester: pytest.Pytester) -> None:
    result = runTests(
        pytester,
        """
        import os
        import time
        import pytest
        from twisted.internet.defer import Deferred
        from asynqueue import report
        from asynqueue.errors import WorkerDied
        from asynqueue.testing import killWorker

        def workForLong():
            report(1)
            time.sleep(60)

        def test_byDefault(asynqueue_queue):
            assert type(asynqueue_queue).__name__ == "SynchronousQueue"
            assert asynqueue_queue.call(len, "abc").result == 3

        @pytest.mark.asynqueue_queue("synchronous", 3, series=["mine"])
        def test_withArguments(asynqueue_queue):
            assert len(asynqueue_queue) == 3
            assert asynqueue_queue.call(len, "abc", series="mine").result == 3

        @pytest.mark.parametrize("asynqueue_queue", ["synchronous", "process"], indirect=True)
        def test_eachKind(asynqueue_queue, asynqueue_wait):
            isHere = type(asynqueue_queue).__name__ == "SynchronousQueue"
            assert (asynqueue_wait(asynqueue_queue.call(os.getpid)) == os.getpid()) is isHere

            async def ask():
                return await asynqueue_queue.call(len, "abc")

            assert asynqueue_wait(ask()) == 3
            with pytest.raises(ZeroDivisionError):
                asynqueue_wait(asynqueue_queue.call(divmod, 1, 0))

        @pytest.mark.asynqueue_queue("thread", 2)
        def test_threads(asynqueue_queue, asynqueue_wait):
            assert len(asynqueue_queue) == 2
            assert asynqueue_wait(asynqueue_queue.call(os.getpid)) == os.getpid()

        @pytest.mark.asynqueue_queue("process")
        def test_aProcessThatIsKilled(asynqueue_queue, asynqueue_wait):
            begun = Deferred()
            asynqueue_queue.addObserver(
                lambda event: event.kind == "PROGRESSED" and begun.callback(None)
            )
            lost = asynqueue_queue.call(workForLong)
            asynqueue_wait(begun)
            killWorker(asynqueue_queue)
            with pytest.raises(WorkerDied):
                asynqueue_wait(lost)
            assert asynqueue_wait(asynqueue_queue.call(len, "abc")) == 3

        def test_whatDoesNotFire(asynqueue_wait):
            with pytest.raises(AssertionError, match="within 0.01 seconds"):
                asynqueue_wait(Deferred(), timeout=0.01)

        def test_theTestMayShutItDown(asynqueue_queue):
            asynqueue_queue.shutdown()
        """,
    )
    result.assert_outcomes(passed=8)


def test_aTestThatLeavesSomethingFailsAndNamesTheQueue(pytester: pytest.Pytester) -> None:
    result = runTests(
        pytester,
        """
        import time
        import pytest
        from asynqueue import ProcessQueue, ResizableDispatchQueue

        @pytest.mark.asynqueue_queue("process")
        def test_calls(asynqueue_queue, asynqueue_wait):
            asynqueue_wait(asynqueue_queue.call(len, ""))
            asynqueue_queue.call(time.sleep, 60)
            asynqueue_queue.call(len, "")

        def test_held(asynqueue_queue):
            asynqueue_queue.hold()
            asynqueue_queue.call(len, "")

        def test_another(asynqueue_queue):
            test_another.queue = ProcessQueue(1)

        def test_dispatching(asynqueue_queue):
            test_dispatching.queue = ResizableDispatchQueue(print)

        def test_nothing(asynqueue_queue):
            asynqueue_queue.call(len, "")

        @pytest.mark.asynqueue_queue("carrier pigeon")
        def test_unknown(asynqueue_queue):
            pass
        """,
    )
    result.assert_outcomes(passed=5, errors=5)
    result.stdout.fnmatch_lines_random(
        [
            "*<ProcessQueue: RUNNING, 1 workers, 1 tasks pending>, with <task 2 sleep: UNDERWAY>, "
            "<task 3 len: PENDING>",
            "*<SynchronousQueue: RUNNING, 1 workers, 0 tasks pending>, with <task 1 len: UNDERWAY>",
            "*<ProcessQueue: RUNNING, 1 workers, 0 tasks pending>, which was not shut down",
            "*<ResizableDispatchQueue: RUNNING, width 0, 0 underway, 0 pending>, which was not*",
            "*makes synchronous, process, thread, but not 'carrier pigeon'*",
        ]
    )


class KillWorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = SynchronousQueue()
        self.addCleanup(self.queue.shutdown)

    def test_theFirstCallWasRunning(self) -> None:
        self.queue.hold()
        first, second = self.queue.call(far.echo, 1), self.queue.call(far.echo, 2)
        killWorker(self.queue)
        self.assertNoResult(first)
        self.queue.release()
        self.failureResultOf(first, WorkerDied)
        self.assertEqual(self.successResultOf(second), 2)

    def test_aCallThatMayBeRunTwiceIs(self) -> None:
        self.queue.hold()
        d = self.queue.options(idempotent=True).call(far.echo, 1)
        killWorker(self.queue)
        self.queue.release()
        self.assertEqual(self.successResultOf(d), 1)

    def test_anIdleWorkerIsReplaced(self) -> None:
        killWorker(self.queue)
        self.assertEqual(self.successResultOf(self.queue.call(far.echo, 1)), 1)

    def test_aWorkerWithoutAProcessCannotBeKilled(self) -> None:
        queue = TaskQueue(StepWorker(), reactor=Clock())
        self.addCleanup(queue.shutdown)
        self.assertRaises(TypeError, killWorker, queue)

    def test_aWorkerThatIsNotThereCannotEither(self) -> None:
        self.assertRaises(IndexError, killWorker, self.queue, 1)
