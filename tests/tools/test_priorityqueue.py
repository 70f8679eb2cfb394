from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import CancelledError, Deferred, QueueOverflow, QueueUnderflow
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.tools import DeferredPriorityQueue
from tests.tools.clocks import outcomes


class PriorityQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue: DeferredPriorityQueue[str] = DeferredPriorityQueue()

    def fill(self, **priorities: float) -> None:
        for name, priority in priorities.items():
            self.queue.put(name, priority)

    def takeAll(self) -> str:
        return "".join(self.successResultOf(self.queue.get()) for _ in range(len(self.queue)))

    def test_givesTheObjectsByPriorityAndThenInTheOrderOfPutting(self) -> None:
        self.fill(a=3, b=1, c=2, d=1, e=3)
        assert self.takeAll() == "bdcae"

    def test_whoComesFirstGetsTheFirstObjectThatIsPut(self) -> None:
        first, second = self.queue.get(), self.queue.get()
        self.fill(a=5)
        assert self.successResultOf(first) == "a"
        self.assertNoResult(second)
        self.fill(b=0)
        assert self.successResultOf(second) == "b"
        assert len(self.queue) == 0

    def test_getThatWasCancelledTakesNoObject(self) -> None:
        first, second = self.queue.get(), self.queue.get()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.fill(a=1)
        assert self.successResultOf(second) == "a"
        third = self.queue.get()
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.fill(b=1)
        assert self.takeAll() == "b"

    def test_cancellingAGetThatHasFiredPutsNothingBack(self) -> None:
        self.fill(a=1)
        d = self.queue.get()
        d.cancel()
        assert self.successResultOf(d) == "a"
        assert len(self.queue) == 0

    def test_movedDownAnObjectIsNotLost(self) -> None:
        self.fill(a=1, b=2, c=3)
        self.queue.reprioritize("a", 10)
        assert len(self.queue) == 3
        assert self.takeAll() == "bca"

    def test_movedUpAnObjectComesFirst(self) -> None:
        self.fill(a=1, b=2, c=3)
        self.queue.reprioritize("c", 0)
        assert self.takeAll() == "cab"

    def test_movedAmongItsEqualsAnObjectStandsWhereItWasPut(self) -> None:
        self.fill(a=2, b=1, c=1)
        self.queue.reprioritize("a", 1)
        assert self.takeAll() == "abc"

    def test_movedObjectCanBeDeletedAndPutAgain(self) -> None:
        self.fill(a=1, b=2)
        self.queue.reprioritize("a", 3)
        self.queue.delete("a")
        assert self.takeAll() == "b"
        self.fill(a=1)
        assert self.takeAll() == "a"

    def test_deletedObjectIsNeverGiven(self) -> None:
        self.fill(a=1, b=2, c=3)
        self.queue.delete("b")
        assert ("b" in self.queue, "a" in self.queue) == (False, True)
        assert self.takeAll() == "ac"

    def test_whatDoesNotWaitCannotBeDeletedOrMoved(self) -> None:
        self.fill(a=1, b=1)
        self.takeAll()
        self.fill(b=1)
        self.queue.delete("b")
        for name in "abc":
            with pytest.raises(KeyError):
                self.queue.delete(name)
            with pytest.raises(KeyError):
                self.queue.reprioritize(name, 1)

    def test_sameObjectCannotWaitTwice(self) -> None:
        self.fill(a=1)
        with pytest.raises(RuntimeError, match=r"'a' waits in .* already: it cannot be put twice"):
            self.queue.put("a", 2)
        assert self.takeAll() == "a"
        self.fill(a=1)

    def test_whatIsClearedCanBePutAgain(self) -> None:
        self.fill(b=2, a=1)
        assert self.queue.clear() == ["a", "b"]
        assert len(self.queue) == 0
        self.fill(a=2, b=1)
        assert self.takeAll() == "ba"

    def test_clearLeavesThoseWhoWait(self) -> None:
        d = self.queue.get()
        assert self.queue.clear() == []
        self.fill(a=1)
        assert self.successResultOf(d) == "a"

    def test_generatorGivesTheObjectsInTheirOrderAndTakesNone(self) -> None:
        self.fill(a=3, b=1, c=2)
        self.queue.delete("c")
        objects = self.queue.asGenerator()
        assert next(objects) == "b"
        self.fill(z=0)
        assert list(objects) == ["a"]
        assert self.takeAll() == "zba"

    def test_sizeBoundsTheObjectsThatWait(self) -> None:
        queue: DeferredPriorityQueue[str] = DeferredPriorityQueue(size=1)
        d = queue.get()
        queue.put("a", 1)
        queue.put("b", 1)
        with pytest.raises(QueueOverflow, match="no more than 1 objects"):
            queue.put("c", 0)
        assert list(queue.asGenerator()) == ["b"]
        queue.delete("b")
        queue.put("c", 0)
        self.successResultOf(d)

    def test_backlogBoundsThoseWhoWait(self) -> None:
        queue: DeferredPriorityQueue[str] = DeferredPriorityQueue(backlog=1)
        d = queue.get()
        assert list(queue.waiting) == [d]
        with pytest.raises(QueueUnderflow, match="no more than 1 waiting"):
            queue.get()
        queue.put("a", 1)
        self.successResultOf(d)
        assert not queue.waiting

    def test_callbackMayPutAndGet(self) -> None:
        notes: list[str] = []

        def again(obj: str) -> None:
            notes.append(obj)
            if len(notes) < 5:
                self.queue.put(obj + "'", 0)
                self.queue.get().addCallback(again)

        self.queue.get().addCallback(again)
        other = self.queue.get()
        self.fill(a=1)
        assert notes == ["a"]
        assert self.successResultOf(other) == "a'"

    def test_emptyQueueIsTrue(self) -> None:
        assert self.queue
        assert repr(self.queue) == "<DeferredPriorityQueue: 0 objects, 0 waiting>"


@pytest.mark.parametrize("number", [-1, 1.5, "3", True])
def test_limitThatIsNoNumberIsRefused(number: Any) -> None:
    with pytest.raises(ValueError, match="size must be an integer of 0 or more or None"):
        DeferredPriorityQueue(size=number)
    with pytest.raises(ValueError, match="backlog must be an integer of 0 or more or None"):
        DeferredPriorityQueue(backlog=number)


objects = st.integers(0, 20)
priorities = st.integers(-3, 3)


class PriorityQueueMachine(RuleBasedStateMachine):
    """
    A queue beside a list that is sorted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue: DeferredPriorityQueue[int] = DeferredPriorityQueue()
        self.model: dict[int, tuple[int, int]] = {}
        self.serial = 0
        self.waiting: list[tuple[Deferred[int], list[object]]] = []

    @rule(obj=objects, priority=priorities)
    def put(self, obj: int, priority: int) -> None:
        if obj in self.model:
            with pytest.raises(RuntimeError):
                self.queue.put(obj, priority)
            return
        self.queue.put(obj, priority)
        if self.waiting:
            assert self.waiting.pop(0)[1] == [obj]
        else:
            self.serial += 1
            self.model[obj] = priority, self.serial

    @rule()
    def get(self) -> None:
        d = self.queue.get()
        fired = outcomes(d)
        if self.model:
            first = min(self.model, key=self.model.__getitem__)
            del self.model[first]
            assert fired == [first]
        else:
            self.waiting.append((d, fired))

    @rule(which=st.integers(0, 5))
    def cancelGet(self, which: int) -> None:
        if which < len(self.waiting):
            d, fired = self.waiting.pop(which)
            d.cancel()
            assert fired == [CancelledError]

    @rule(obj=objects, priority=priorities)
    def reprioritize(self, obj: int, priority: int) -> None:
        if obj in self.model:
            self.queue.reprioritize(obj, priority)
            self.model[obj] = priority, self.model[obj][1]

    @rule(obj=objects)
    def delete(self, obj: int) -> None:
        if obj in self.model:
            self.queue.delete(obj)
            del self.model[obj]

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == sorted(self.model, key=self.model.__getitem__)
        self.model.clear()

    @invariant()
    def agrees(self) -> None:
        ordered = sorted(self.model, key=self.model.__getitem__)
        assert list(self.queue.asGenerator()) == ordered
        assert len(self.queue) == len(ordered)
        assert list(self.queue.waiting) == [d for d, _ in self.waiting]
        assert not any(fired for _, fired in self.waiting)


TestPriorityQueueMachine = PriorityQueueMachine.TestCase
