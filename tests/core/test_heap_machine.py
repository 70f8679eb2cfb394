from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asynqueue.tasks import PriorityHeap
from tests.core.test_heap import Thing


class TinyHeap(PriorityHeap[Thing]):
    """
    Sweeps early, so that short runs come by it.
    """

    __slots__ = ()
    SMALL = 4


priorities = st.one_of(
    st.sampled_from([-math.inf, 0.0, 1.0, 2.0, math.inf]), st.floats(allow_nan=False)
)


class HeapMachine(RuleBasedStateMachine):
    """
    The heap against a plain list that is sorted for every look.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heap = TinyHeap()
        self.model: list[tuple[float, int, Thing]] = []
        self.outside: list[Thing] = []
        self.serial = 0

    def ordered(self) -> list[tuple[float, int, Thing]]:
        return sorted(self.model, key=lambda place: place[:2])

    @rule(priority=priorities, count=st.integers(1, 8))
    def put(self, priority: float, count: int) -> None:
        for _ in range(count):
            self.serial += 1
            thing = Thing(self.serial, priority)
            self.heap.put(thing)
            self.model.append((priority, self.serial, thing))

    @precondition(lambda self: self.outside)
    @rule(data=st.data(), priority=priorities)
    def putAgain(self, data: st.DataObject, priority: float) -> None:
        thing = self.outside.pop(data.draw(st.integers(0, len(self.outside) - 1)))
        thing.priority = priority
        self.heap.put(thing)
        self.model.append((priority, thing.id, thing))

    @rule(count=st.integers(1, 8))
    def take(self, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            first = self.ordered()[0]
            assert self.heap.take() is first[2]
            self.model.remove(first)
            self.outside.append(first[2])

    @precondition(lambda self: self.model)
    @rule(data=st.data(), count=st.integers(1, 8))
    def cancel(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            place = self.model.pop(data.draw(st.integers(0, len(self.model) - 1)))
            assert self.heap.cancel(place[2])
            self.outside.append(place[2])

    @rule(count=st.integers(1, 8))
    def cancelTheLast(self, count: int) -> None:
        for place in self.ordered()[-count:]:
            assert self.heap.cancel(place[2])
            self.model.remove(place)
            self.outside.append(place[2])

    @precondition(lambda self: self.outside)
    @rule(data=st.data())
    def cancelWhatIsOutside(self, data: st.DataObject) -> None:
        assert not self.heap.cancel(data.draw(st.sampled_from(self.outside)))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), priority=priorities)
    def reprioritise(self, data: st.DataObject, priority: float) -> None:
        index = data.draw(st.integers(0, len(self.model) - 1))
        _, serial, thing = self.model[index]
        self.heap.reprioritise(thing, priority)
        self.model[index] = (priority, serial, thing)

    @precondition(lambda self: len(self.model) > 3)
    @rule()
    def clear(self) -> None:
        expected = [place[2] for place in self.ordered()]
        assert self.heap.clear() == expected
        self.model.clear()
        self.outside += expected

    @precondition(lambda self: self.model)
    @rule()
    def head(self) -> None:
        assert self.heap.head() is self.ordered()[0][2]

    @invariant()
    def agreesWithTheModel(self) -> None:
        assert list(self.heap) == [place[2] for place in self.ordered()]
        assert len(self.heap) == len(self.model)
        assert all(thing in self.heap for _, _, thing in self.model)
        assert not any(thing in self.heap for thing in self.outside)

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 8))
    def cancelWhileIterating(self, count: int) -> None:
        expected = [place[2] for place in self.ordered()]
        seen = []
        for thing in self.heap:
            seen.append(thing)
            if len(seen) <= count:
                assert self.heap.cancel(thing)
                self.outside.append(thing)
        self.model = [place for place in self.model if place[2] not in seen[:count]]
        assert seen == expected

    @invariant()
    def theDeadAreBounded(self) -> None:
        assert len(self.heap._entries) <= 2 * len(self.heap) + self.heap.SMALL


HeapMachineTests = HeapMachine.TestCase
