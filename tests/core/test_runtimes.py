from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._core.scheduler import UNKNOWN
from asynqueue.tasks import RunTimes


def work() -> None: ...


def rest() -> None: ...


class Service:
    def method(self) -> None: ...

    def other(self) -> None: ...

    def __call__(self) -> None: ...


def closureOver(thing: object) -> Callable[[], object]:
    return lambda: thing


def functions(count: int) -> list[Callable[[], None]]:
    """
    Make functions that each have a code of their own.
    """
    made: dict[str, Any] = {}
    for k in range(count):
        exec(f"def function{k}(): return {k}", made)
    return [made[f"function{k}"] for k in range(count)]


class EstimateTests(SynchronousTestCase):
    def test_functionNeverMeasuredIsExpectedToTakeLong(self) -> None:
        assert RunTimes().expect(work) == UNKNOWN == 3600.0

    def test_firstMeasurementIsTheEstimate(self) -> None:
        times = RunTimes()
        times.note(work, 0.25)
        assert (times.expect(work), times.expect(rest)) == (0.25, UNKNOWN)

    def test_slowerRunRaisesTheEstimateAtOnce(self) -> None:
        times = RunTimes()
        times.note(work, 0.001)
        times.note(work, 5.0)
        assert times.expect(work) == 5.0

    def test_quickerRunLowersItByATenthOfTheDifference(self) -> None:
        times = RunTimes()
        times.note(work, 1.0)
        times.note(work, 0.0)
        self.assertAlmostEqual(times.expect(work), 0.9)
        times.note(work, 0.4)
        self.assertAlmostEqual(times.expect(work), 0.85)

    def test_slowRunIsRememberedForSomeDozensOfQuickOnes(self) -> None:
        times = RunTimes()
        times.note(work, 1.0)
        for _ in range(24):
            times.note(work, 0.0001)
        assert times.expect(work) > 0.05
        for _ in range(48):
            times.note(work, 0.0001)
        assert times.expect(work) < 0.001

    @given(st.lists(st.floats(0, 1e6), min_size=1))
    def test_isNeverBelowTheLastRunNorAboveTheSlowest(self, runs: list[float]) -> None:
        times = RunTimes()
        for seconds in runs:
            times.note(work, seconds)
            assert times.expect(work) >= seconds * (1 - 1e-12)
        assert times.expect(work) <= max(runs)


class KeyTests(SynchronousTestCase):
    def test_closuresOfOneFunctionShareAnEstimate(self) -> None:
        times = RunTimes()
        times.note(closureOver(1), 0.5)
        assert times.expect(closureOver(2)) == 0.5

    def test_methodIsThatOfEveryInstance(self) -> None:
        times = RunTimes()
        times.note(Service().method, 0.5)
        assert times.expect(Service().method) == 0.5
        assert times.expect(Service().other) == UNKNOWN

    def test_functionsOfModulesWrittenInCAreEstimated(self) -> None:
        times = RunTimes()
        times.note(time.sleep, 0.5)
        assert (times.expect(time.sleep), times.expect(time.time)) == (0.5, UNKNOWN)

    def test_otherCallablesAreNeverEstimated(self) -> None:
        times = RunTimes()
        others: list[Callable[..., Any]] = [
            partial(work),
            Service(),
            Service,
            [].append,
            "".join,
            str.upper,
            dict.fromkeys,
        ]
        for function in others:
            times.note(function, 0.001)
            assert times.expect(function) == UNKNOWN

    def test_noClosureNorInstanceIsKeptAlive(self) -> None:
        times = RunTimes()
        thing, service = Service(), Service()
        alive = weakref.WeakSet([thing, service])
        times.note(closureOver(thing), 0.5)
        times.note(service.method, 0.5)
        del thing, service
        gc.collect()
        assert len(alive) == 0


class LimitTests(SynchronousTestCase):
    def test_theEstimateMadeFirstIsForgottenFirst(self) -> None:
        times = RunTimes(limit=3)
        made = functions(5)
        for function in made:
            times.note(function, 0.5)
        assert [times.expect(function) for function in made] == [UNKNOWN] * 2 + [0.5] * 3

    def test_measuringAgainForgetsNobody(self) -> None:
        times = RunTimes(limit=3)
        made = functions(3)
        for function in made * 4:
            times.note(function, 0.5)
        assert [times.expect(function) for function in made] == [0.5] * 3

    def test_asManyAsTheLimitAreRemembered(self) -> None:
        times = RunTimes()
        made = functions(times.limit + 1)
        for function in made:
            times.note(function, 0.5)
        remembered = [function for function in made if times.expect(function) != UNKNOWN]
        assert remembered == made[1:]
