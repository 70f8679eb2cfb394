from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._reactor import defaultReactor
from asynqueue.tools.delay import Delay
from asynqueue.tools.tracker import DeferredTracker
from tests.tools.clocks import outcomes


class DefaultReactorTests(SynchronousTestCase):
    def test_isTheGlobalReactor(self) -> None:
        from twisted.internet import reactor

        self.assertIs(defaultReactor(), reactor)
        assert IReactorTime.providedBy(defaultReactor())

    def test_delayWithoutReactorWaitsWithTheGlobalOne(self) -> None:
        before = len(defaultReactor().getDelayedCalls())
        d = Delay()(1000)
        assert len(defaultReactor().getDelayedCalls()) == before + 1
        d.cancel()
        assert outcomes(d) == [CancelledError]
        assert len(defaultReactor().getDelayedCalls()) == before

    def test_trackerWithoutReactorTimesOutWithTheGlobalOne(self) -> None:
        before = len(defaultReactor().getDelayedCalls())
        tracker = DeferredTracker()
        tracker.addWait()
        d = tracker.deferToAll(timeout=1000)
        assert len(defaultReactor().getDelayedCalls()) == before + 1
        tracker.removeWait()
        assert self.successResultOf(d) is True
        assert len(defaultReactor().getDelayedCalls()) == before
