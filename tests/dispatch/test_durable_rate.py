"""
The rate of a queue whose jobs begin some time after they were taken.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.dispatch.stored import DurableCase, SteppedAside


class RateTests(DurableCase):
    def begin(self, **keywords: Any) -> Any:
        """
        @return: a queue that notes in C{starts} when its function is called.
        """
        self.aside = SteppedAside()
        self.starts: list[float] = []

        def start(arg: Any) -> None:
            self.starts.append(round(self.clock.seconds(), 6))

        return self.makeDurable(start, 100, rate=10, per=1.0, **keywords)

    def live(self, seconds: float, stepEach: float = 0.1) -> None:
        """
        Let time pass, with a commit now and then.
        """
        assert self.aside is not None
        for _ in range(round(seconds / stepEach)):
            self.clock.advance(stepEach)
            self.aside.stepAll()
        self.settle()

    def assertRateHeld(self, rate: int, per: float) -> None:
        for first in self.starts:
            within = [time for time in self.starts if first <= time < first + per - 1e-6]
            self.assertLessEqual(len(within), rate)

    def test_itHoldsThoughTheFirstCommitIsSlow(self) -> None:
        queue = self.begin()
        for number in range(40):
            queue.put(number)
        # Nothing is written for a while, and ten jobs were taken at the beginning.
        self.clock.advance(0.6)
        self.live(6)
        self.assertEqual(len(self.starts), 40)
        self.assertRateHeld(10, 1.0)

    def test_itHoldsForEachKey(self) -> None:
        queue = self.begin(rateKey=lambda number: number % 2)
        for number in range(40):
            queue.put(number)
        self.clock.advance(0.6)
        self.live(6)
        self.assertEqual(len(self.starts), 40)
        self.assertEqual(max(Counter(self.starts).values()), 20)

    def test_oneThatIsHeldCanBeCancelled(self) -> None:
        queue = self.begin()
        jobs = [queue.put(number).job for number in range(20)]
        assert self.aside is not None
        # Ten are taken at 0.0 and start at 0.6; the others are taken at 1.0, and may start at 1.6.
        self.settle()
        for seconds in (0.6, 0.4):
            self.clock.advance(seconds)
            self.aside.stepAll()
        held = [job for job in jobs if job in queue.underway()]
        self.assertEqual(len(held), 10)
        for job in held:
            job.watch().addErrback(lambda _: None)
            job.cancel()
        self.settle()
        self.assertEqual(queue.size().underway, 0)
        self.assertEqual(len(self.starts), 10)

    def test_whatIsTakenAndStartsAtOnceIsNotHeldUp(self) -> None:
        queue = self.begin()
        for number in range(10):
            queue.put(number)
        self.live(0.2)
        self.assertEqual(len(self.starts), 10)
