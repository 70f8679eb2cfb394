"""
What a task says about how far it has come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import copy_context
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred

from asynqueue import report
from asynqueue._runner.codecs import DIRECT
from asynqueue._runner.messages import PROGRESS
from asynqueue._runner.progress import REPORT_SECONDS
from asynqueue._runner.reactormain import DeferredWaiter
from tests.runner.stage import Stage, StageTestCase


def reportTwice() -> None:
    report(1)
    report(2)


class ReportTests(StageTestCase):
    def reports(self) -> list[tuple[Any, ...]]:
        return [message[1:] for message in self.stage.messages if message[0] == PROGRESS]

    def run1(self, function: Any) -> list[tuple[Any, ...]]:
        """
        @return: what arrives of a call's reports, but for its number.
        """
        self.stage.messages.clear()
        self.stage.call(1, function)
        self.stage.run()
        return [message[1:] for message in self.reports()]

    def test_outsideOfATaskItIsIgnored(self) -> None:
        report(1)
        report("anything", None)  # type: ignore[arg-type]

    def test_itArrivesBeforeTheEnd(self) -> None:
        self.stage.call(1, lambda: report(1, 2))
        assert self.stage.run() == [("begin", 1), ("PROGRESS", 1, 1, 2), ("RETURNED", 1, None)]

    def test_theTotalNeedNotBeKnown(self) -> None:
        assert self.run1(lambda: report(3)) == [(3, None)]

    def test_ofManyTheFirstAndTheLastArrive(self) -> None:
        def work() -> None:
            for number in range(1000):
                report(number, 1000)

        assert self.run1(work) == [(0, 1000), (999, 1000)]

    def test_theLastArrivesBeforeAFailure(self) -> None:
        def work() -> None:
            report(1)
            report(2)
            raise ValueError

        self.stage.call(1, work)
        *_, last, failure = self.stage.run()
        assert last == ("PROGRESS", 1, 2, None)
        self.raised(failure, 1, ValueError)

    def test_thoseThatAreFarEnoughApartAllArrive(self) -> None:
        def work() -> None:
            for number in range(5):
                report(number)
                self.stage.now += REPORT_SECONDS

        assert self.run1(work) == [(number, None) for number in range(5)]

    def test_aWithheldOneIsOvertakenByALaterOne(self) -> None:
        def work() -> None:
            report(1)
            report(2)
            self.stage.now += REPORT_SECONDS
            report(3)

        assert self.run1(work) == [(1, None), (3, None)]

    def test_eachCallCountsForItself(self) -> None:
        for id in (1, 2, 3):
            self.stage.call(id, reportTwice)
        self.stage.run()
        assert self.reports() == [(id, n, None) for id in (1, 2, 3) for n in (1, 2)]

    def test_numbersOfAllKindsArriveAsPlainOnes(self) -> None:
        numbers: list[Any] = [
            np.int64(3),
            np.float32(0.5),
            np.array(2),
            Fraction(1, 4),
            Decimal("0.5"),
            True,
        ]
        for number in numbers:
            [(done, total)] = self.run1(lambda number=number: report(number, number))
            assert (done, total) == (float(number), float(number))
            assert type(done) is float
        assert self.run1(lambda: report(1 << 80)) == [(1 << 80, None)]

    def test_whatIsNoNumberIsATypeError(self) -> None:
        for wrong in ("3", b"3", None, [1], 1j, object()):
            self.stage.call(1, lambda wrong=wrong: report(wrong))
            self.raised(self.stage.run()[-1], 1, TypeError)
        self.stage.call(1, lambda: report(1, "2"))  # type: ignore[arg-type]
        self.raised(self.stage.run()[-1], 1, TypeError)

    def test_aGeneratorReportsToo(self) -> None:
        def some() -> Iterator[int]:
            for number in range(3):
                report(number, 3)
                yield number
            report(3, 3)

        self.stage.call(1, some)
        events = self.stage.run()
        assert [event[2] for event in events if event[0] == "PROGRESS"] == [0, 3]
        assert events[-1] == ("ENDED", 1)

    def test_aGeneratorThatIsClosedReportsItsLast(self) -> None:
        def some() -> Iterator[int]:
            for number in range(1 << 60):
                report(number)
                yield number

        self.stage.call(1, some)
        self.stage.run()
        self.stage.cancel(1)
        *_, last, end = self.stage.run()
        assert last[0] == "PROGRESS"
        assert last[2] > 0
        assert end == ("ENDED", 1)

    def test_severalGeneratorsDoNotTakeEachOthersReports(self) -> None:
        def some(base: int) -> Iterator[int]:
            for number in range(3):
                report(base + number)
                yield number
                self.stage.now += 0.006

        for id in (1, 2):
            self.stage.call(id, some, 10 * id)
        self.stage.run()
        for id in (1, 2):
            own = [done for who, done, _ in self.reports() if who == id]
            assert own[0] == 10 * id
            assert own[-1] == 10 * id + 2
            assert len(own) == 2

    def test_nothingIsKeptOfWhatIsOver(self) -> None:
        for id in range(20):
            self.stage.call(id, reportTwice)
            self.stage.run()
        progress = self.stage.runner._progress
        assert (progress.sent, progress._withheld) == ({}, {})

    def test_aThreadInTheTasksContextReportsForIt(self) -> None:
        def work() -> None:
            thread = threading.Thread(target=copy_context().run, args=(report, 5))
            thread.start()
            thread.join()

        assert self.run1(work) == [(5, None)]

    def test_whatATaskLeavesBehindReportsToNobody(self) -> None:
        contexts: list[Any] = []
        self.stage.call(1, lambda: contexts.append(copy_context()))
        self.stage.run()
        self.stage.call(2, lambda: contexts[0].run(report, 5))
        self.stage.run()
        assert self.reports() == []


class WaitingReportTests(StageTestCase):
    def test_aCoroutineReportsWhileItIsWaitedFor(self) -> None:
        stage = Stage(codec=DIRECT, waiter=DeferredWaiter(lambda: None))
        d: Deferred[Any] = Deferred()

        async def work() -> None:
            report(1)
            await d
            report(2)

        stage.call(1, work)
        assert stage.run() == [("begin", 1), ("PROGRESS", 1, 1, None)]
        d.callback(None)
        assert stage.run() == [("PROGRESS", 1, 2, None), ("RETURNED", 1, None)]
