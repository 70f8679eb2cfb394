from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._iteration.sources import SourceState
from asynqueue.iteration import Deferator
from tests.iteration.ledger import Ledger, ended


class DroppedTests(SynchronousTestCase):
    """
    A Deferator that nobody refers to any more.
    """

    def test_stopsItsSourceWithoutAnyGarbageCollection(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        source = Ledger(1, 2, 3)
        deferator = Deferator(source)
        next(deferator)
        outcome = deferator.d
        del deferator
        assert source.stops == 1
        assert self.successResultOf(outcome) is False

    def test_stopsItsSourceAfterALoopThatWasLeft(self) -> None:
        source = Ledger(1, 2, 3)

        async def first() -> Any:
            async for item in Deferator(source):
                return item

        assert self.successResultOf(Deferred.fromCoroutine(first())) == 1
        gc.collect()
        assert source.stops == 1

    def test_stopsItsSourceAfterAWaitThatWasCancelled(self) -> None:
        source = Ledger(1)
        d = next(Deferator(source))
        d.cancel()
        d.addErrback(lambda _: None)
        del d
        gc.collect()
        assert source.stops == 1

    def test_staysWhileADeferredWaits(self) -> None:
        source, got = Ledger(), list[Any]()
        next(Deferator(source)).addCallback(got.append)
        gc.collect()
        assert source.stops == 0
        source.add([1, 2])
        assert got == [1]
        gc.collect()
        assert source.stops == 1

    def test_isFreedWhenIdle(self) -> None:
        source = Ledger()
        deferator = Deferator(source)
        d = next(deferator)
        source.add([1, 2])
        assert self.successResultOf(d) == 1
        reference = weakref.ref(deferator)
        del deferator, d
        gc.collect()
        assert reference() is None

    def test_leavesAloneWhatHasRunToItsEnd(self) -> None:
        source = ended(1)
        for d in Deferator(source):
            del d
        gc.collect()
        assert source.state is SourceState.ENDED

    def test_mayBeStoppedLaterAndElsewhere(self) -> None:
        class Remote(Ledger):
            def abandoned(self, stop: Callable[[], None]) -> None:
                later.append(stop)

        later: list[Callable[[], None]] = []
        source = Remote(1, 2)
        outcome = Deferator(source).d
        gc.collect()
        assert source.stops == 0
        self.assertNoResult(outcome)
        later.pop()()
        gc.collect()
        assert source.stops == 1
        assert later == []
        assert self.successResultOf(outcome) is False

    def test_thatWasNeverConstructedDoesNoHarm(self) -> None:
        with self.assertRaises(TypeError):
            Deferator("things", "not callable")
        gc.collect()

    def test_closesAGenerator(self) -> None:
        closed: list[bool] = []

        def generate() -> Any:
            try:
                yield 1
                yield 2
                yield 3
            finally:
                closed.append(True)

        generator = generate()
        assert self.successResultOf(next(Deferator(generator))) == 1
        gc.collect()
        assert closed == [True]
