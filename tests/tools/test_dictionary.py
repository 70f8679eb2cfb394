from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import DeferredDict
from tests.tools.clocks import noting, outcomes


class DictTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.values: DeferredDict[str, int] = DeferredDict()

    def test_valueThatIsThereComesAtOnce(self) -> None:
        self.values["a"] = 1
        assert self.successResultOf(self.values.get("a")) == 1
        assert self.successResultOf(self.values["a"]) == 1

    def test_indexingWaitsAsGettingDoes(self) -> None:
        d = self.values["a"]
        self.assertNoResult(d)
        self.values["a"] = 1
        assert self.successResultOf(d) == 1

    def test_valueThatIsNotThereComesWhenItIsPut(self) -> None:
        d = self.values.get("a")
        self.values["b"] = 2
        self.assertNoResult(d)
        self.values.put("a", 1)
        assert self.successResultOf(d) == 1

    def test_allWhoWaitGetItInTheOrderOfAsking(self) -> None:
        notes: list[int] = []
        for k in range(3):
            self.values.get("a").addCallback(noting(notes, k))
        assert self.values.pending("a") == 3
        self.values["a"] = 1
        assert notes == [0, 1, 2]
        assert self.values.pending("a") == 0

    def test_noneIsAValueLikeAnyOther(self) -> None:
        values: DeferredDict[str, None] = DeferredDict()
        values["a"] = None
        assert "a" in values
        assert self.successResultOf(values.get("a")) is None

    def test_latestValueCounts(self) -> None:
        self.values["a"] = 1
        self.values["a"] = 2
        assert self.successResultOf(self.values.get("a")) == 2

    def test_valueThatWasDeletedIsWaitedFor(self) -> None:
        self.values["a"] = 1
        del self.values["a"]
        d = self.values.get("a")
        self.assertNoResult(d)
        self.values["a"] = 2
        assert self.successResultOf(d) == 2

    def test_whatIsNotThereCannotBeDeleted(self) -> None:
        with pytest.raises(KeyError, match="a"):
            del self.values["a"]

    def test_looksLikeADictOfTheValuesThatAreThere(self) -> None:
        self.values["a"] = 1
        self.values["b"] = 2
        self.values.get("c")
        assert (len(self.values), list(self.values)) == (2, ["a", "b"])
        assert ("a" in self.values, "c" in self.values) == (True, False)
        assert repr(self.values) == "<DeferredDict: 2 values, 1 waiting>"
        assert isinstance(self.values, dict)

    def test_isMadeAndUpdatedAsADictIs(self) -> None:
        values: DeferredDict[str, int] = DeferredDict({"a": 1}, b=2)
        assert DeferredDict([("a", 1)], b=2) == values == {"a": 1, "b": 2}
        waiting = [values[key] for key in "cdef"]
        values.update({"c": 3}, d=4)
        values |= {"e": 5}
        assert values.setdefault("f", 6) == 6
        assert values.setdefault("f", 7) == 6
        assert [self.successResultOf(d) for d in waiting] == [3, 4, 5, 6]
        assert list(values.keys()) == list("abcdef")
        assert list(values.items())[-1] == ("f", 6)
        assert list(values.values()) == [1, 2, 3, 4, 5, 6]

    def test_whatIsPickledOrCopiedHasTheValuesAlone(self) -> None:
        values: DeferredDict[str, int] = DeferredDict(a=1)
        waiting = values["b"]
        for other in (pickle.loads(pickle.dumps(values)), copy.copy(values)):
            assert (type(other), other, other.pending("b")) == (DeferredDict, {"a": 1}, 0)
            other["b"] = 2
        self.assertNoResult(waiting)

    def test_popGivesTheValueItself(self) -> None:
        self.values["a"] = 1
        assert self.values.pop("a") == 1
        assert self.values.pop("a", 2) == 2
        self.assertNoResult(self.values["a"])

    def test_noWayOfSettingTakesADeferred(self) -> None:
        values: DeferredDict[str, object] = DeferredDict()
        for put in (DeferredDict, values.update, values.__ior__):
            with pytest.raises(TypeError, match="must not be a Deferred"):
                put({"a": succeed(1)})
        with pytest.raises(TypeError, match="must not be a Deferred"):
            values.setdefault("a", succeed(1))
        assert not values

    def test_whoCancelsGetsNothingAndLeavesNothing(self) -> None:
        first, second = self.values.get("a"), self.values.get("a")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        assert self.values.pending("a") == 1
        self.values["a"] = 1
        assert self.successResultOf(second) == 1
        alone = self.values.get("b")
        alone.cancel()
        self.failureResultOf(alone, CancelledError)
        assert self.values.pending("b") == 0
        assert repr(self.values) == "<DeferredDict: 1 values, 0 waiting>"

    def test_failureReachesThoseWhoWaitAndNobodyLater(self) -> None:
        first, second = self.values.get("a"), self.values.get("a")
        assert self.values.fail("a", ValueError("no")) == 2
        for d in (first, second):
            assert str(self.failureResultOf(d, ValueError).value) == "no"
        later = self.values.get("a")
        self.assertNoResult(later)
        assert "a" not in self.values

    def test_failureLeavesAValueThatIsThere(self) -> None:
        self.values["a"] = 1
        assert self.values.fail("a", Failure(ValueError())) == 0
        assert self.successResultOf(self.values.get("a")) == 1

    def test_deferredIsNoValue(self) -> None:
        values: DeferredDict[str, object] = DeferredDict()
        d = values.get("a")
        with pytest.raises(TypeError, match="the value of 'a' must not be a Deferred"):
            values["a"] = succeed(1)
        self.assertNoResult(d)
        assert "a" not in values

    def test_whatOneDoesWithTheValueIsNothingToTheOthers(self) -> None:
        first, second = self.values.get("a"), self.values.get("a")
        first.addCallback(lambda value: value * 10)
        self.values["a"] = 1
        assert self.successResultOf(first) == 10
        assert self.successResultOf(second) == 1

    def test_callbackMayDeleteAndAskAgain(self) -> None:
        again: list[Deferred[int]] = []

        def replace(_: int) -> None:
            del self.values["a"]
            again.append(self.values.get("a"))

        first, second = self.values.get("a").addCallback(replace), self.values.get("a")
        self.values["a"] = 1
        self.successResultOf(first)
        assert self.successResultOf(second) == 1
        self.assertNoResult(again[0])
        self.values["a"] = 2
        assert self.successResultOf(again[0]) == 2

    def test_callbackMayCancelAnotherThatWaits(self) -> None:
        first, second = self.values.get("a"), self.values.get("a")
        fired = outcomes(second)
        first.addCallback(lambda _: second.cancel())
        self.values["a"] = 1
        assert fired == [CancelledError]

    def test_callbackThatAsksAgainForTheSameIsNotToldOfTheSameFailure(self) -> None:
        again: list[Deferred[int]] = []
        first, second = self.values.get("a"), self.values.get("a")

        def askAgain(_: Failure) -> None:
            again.append(self.values.get("a"))

        first.addErrback(askAgain)
        assert self.values.fail("a", ValueError()) == 2
        self.failureResultOf(second, ValueError)
        self.assertNoResult(again[0])
        again[0].cancel()
        self.failureResultOf(again[0], CancelledError)
        assert self.values.pending("a") == 0


keys = st.integers(0, 3)


class DictMachine(RuleBasedStateMachine):
    """
    A DeferredDict beside a dict and lists of those who wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: DeferredDict[int, int] = DeferredDict()
        self.model: dict[int, int] = {}
        self.waiting: dict[int, list[tuple[Deferred[int], list[object]]]] = {}

    @rule(key=keys)
    def get(self, key: int) -> None:
        d = self.values.get(key)
        fired = outcomes(d)
        if key in self.model:
            assert fired == [self.model[key]]
        else:
            self.waiting.setdefault(key, []).append((d, fired))

    @rule(key=keys, value=st.integers())
    def put(self, key: int, value: int) -> None:
        self.values[key] = value
        self.model[key] = value
        assert all(fired == [value] for _, fired in self.waiting.pop(key, ()))

    @rule(key=keys)
    def delete(self, key: int) -> None:
        if key in self.model:
            del self.values[key]
            del self.model[key]

    @rule(key=keys)
    def fail(self, key: int) -> None:
        waiting = self.waiting.pop(key, [])
        assert self.values.fail(key, ValueError()) == len(waiting)
        assert all(fired == [ValueError] for _, fired in waiting)

    @rule(key=keys, which=st.integers(0, 3))
    def cancel(self, key: int, which: int) -> None:
        waiting = self.waiting.get(key, [])
        if which < len(waiting):
            d, fired = waiting.pop(which)
            d.cancel()
            assert fired == [CancelledError]

    @invariant()
    def agrees(self) -> None:
        assert self.values == self.model
        for key in range(4):
            waiting = self.waiting.get(key, [])
            assert self.values.pending(key) == len(waiting)
            assert not any(fired for _, fired in waiting)


TestDictMachine = DictMachine.TestCase
