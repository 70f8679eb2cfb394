from __future__ import annotations

import math
import random
import weakref
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._core.heap import Place
from asynqueue.tasks import PriorityHeap


class Thing:
    """
    The least that a heap can hold. It cannot be compared.
    """

    __slots__ = ("__weakref__", "id", "place", "priority")

    def __init__(self, id: int, priority: float) -> None:
        self.id = id
        self.priority = priority
        self.place: Place | None = None

    def __repr__(self) -> str:
        return f"<thing {self.id}>"


class Counting(float):
    """
    A priority that counts how often it is compared.
    """

    count = 0

    def __lt__(self, other: Any) -> bool:
        Counting.count += 1
        return float.__lt__(self, other)

    def __eq__(self, other: object) -> bool:
        Counting.count += 1
        return float.__eq__(self, other)

    __hash__ = float.__hash__


def takeAll(heap: PriorityHeap[Thing]) -> list[Thing]:
    return [heap.take() for _ in range(len(heap))]


def filled(priorities: Sequence[float]) -> tuple[PriorityHeap[Thing], list[Thing]]:
    heap: PriorityHeap[Thing] = PriorityHeap()
    things = [Thing(id, priority) for id, priority in enumerate(priorities)]
    for thing in things:
        heap.put(thing)
    return heap, things


class HeapTests(SynchronousTestCase):
    def test_takesTheLowestPriorityFirst(self) -> None:
        heap, (a, b, c) = filled([3.0, -math.inf, 2.0])
        assert takeAll(heap) == [b, c, a]

    def test_equalPrioritiesComeInTheOrderOfPutting(self) -> None:
        heap, things = filled([1.0] * 100)
        assert takeAll(heap) == things

    def test_theIdAndNotTheOrderOfPuttingDecidesAmongEquals(self) -> None:
        heap: PriorityHeap[Thing] = PriorityHeap()
        late, early = Thing(9, 1.0), Thing(4, 1.0)
        heap.put(late)
        heap.put(early)
        assert takeAll(heap) == [early, late]

    def test_emptyHeapHasNoHeadAndNothingToTake(self) -> None:
        heap: PriorityHeap[Thing] = PriorityHeap()
        assert (len(heap), bool(heap), heap.head(), list(heap)) == (0, False, None, [])
        with self.assertRaisesRegex(IndexError, "the heap is empty"):
            heap.take()

    def test_headTellsTheFirstAndTakesNothing(self) -> None:
        heap, (_, first) = filled([2.0, 1.0])
        assert heap.head() is first
        assert (heap.head(), len(heap)) == (first, 2)

    def test_iterationIsInOrderAndTakesNothing(self) -> None:
        heap, (a, b, c) = filled([3.0, 1.0, 2.0])
        assert list(heap) == [b, c, a]
        assert takeAll(heap) == [b, c, a]

    def test_itemThatHasAPlaceIsRefusedAndStaysThere(self) -> None:
        heap, (a, b) = filled([1.0, 2.0])
        with self.assertRaisesRegex(ValueError, "<thing 0> is in a heap already"):
            heap.put(a)
        assert takeAll(heap) == [a, b]

    def test_takenItemCanBePutAgain(self) -> None:
        heap, (a, b) = filled([1.0, 2.0])
        assert heap.take() is a
        assert a not in heap
        a.priority = 2.0
        heap.put(a)
        assert takeAll(heap) == [a, b]


class CancelTests(SynchronousTestCase):
    def test_cancelledItemIsNeverTaken(self) -> None:
        for gone in range(5):
            heap, things = filled([4.0, 2.0, 3.0, 1.0, 5.0])
            assert heap.cancel(things[gone])
            assert things[gone] not in heap
            assert len(heap) == 4
            assert things[gone] not in takeAll(heap)

    def test_cancellingTwiceOrAfterTakingDoesNothing(self) -> None:
        heap, (a, b, c) = filled([1.0, 2.0, 3.0])
        assert heap.take() is a
        assert (heap.cancel(a), heap.cancel(b), heap.cancel(b)) == (False, True, False)
        assert (len(heap), takeAll(heap)) == (1, [c])

    def test_cancelledItemCanBePutAgainInItsOldPlace(self) -> None:
        heap, (a, b, c) = filled([1.0, 1.0, 1.0])
        heap.cancel(b)
        heap.put(b)
        assert takeAll(heap) == [a, b, c]

    def test_headPassesOverTheCancelled(self) -> None:
        heap, (a, b) = filled([1.0, 2.0])
        heap.cancel(a)
        assert heap.head() is b
        heap.cancel(b)
        assert heap.head() is None

    def test_cancellingTwentyThousandCostsAFewComparisonsEach(self) -> None:
        count = 20_000
        order = random.Random(1)
        heap, things = filled([Counting(order.random()) for _ in range(count)])
        order.shuffle(things)
        Counting.count = 0
        for thing in things:
            assert heap.cancel(thing)
        assert len(heap) == 0
        # All sweeps together look at as many entries as there were, and make a heap of them anew.
        assert Counting.count <= 5 * count

    def test_cancellingReleasesTheMemory(self) -> None:
        heap, things = filled([float(k) for k in range(2000)])
        alive = weakref.WeakSet(things)
        for thing in things[1:]:
            heap.cancel(thing)
        first = things[0]
        # Of the loops and the list, nothing is to hold them.
        del thing, things
        assert len(alive) <= heap.SMALL
        assert heap.take() is first

    def test_whatWasCancelledIsReleasedWhileTheRestIsTaken(self) -> None:
        # As many dead as living, all of them behind the living: none comes up by itself.
        heap, things = filled([float(k) for k in range(2000)])
        alive = weakref.WeakSet(things[1000:])
        for thing in things[1000:]:
            heap.cancel(thing)
        del thing, things
        for _ in range(999):
            heap.take()
        assert len(heap) == 1
        assert len(alive) <= heap.SMALL

    def test_anItemThatLeftTheLineStandsOnlyWhereItIsPutNext(self) -> None:
        heap, (a, b, c) = filled([1.0, 2.0, 3.0])
        heap.cancel(b)
        b.priority = 0.0
        heap.put(b)
        assert heap.take() is b
        b.priority = 4.0
        heap.put(b)
        assert takeAll(heap) == [a, c, b]


class IterationTests(SynchronousTestCase):
    def test_passesOverWhatHasLeftAndDoesNotSeeWhatCame(self) -> None:
        heap, (a, b, c, d) = filled([1.0, 4.0, 2.0, 3.0])
        items = iter(heap)
        assert next(items) is a
        heap.cancel(d)
        heap.put(Thing(9, 2.5))
        assert list(items) == [c, b]

    def test_allCanBeCancelledInPieces(self) -> None:
        order = random.Random(1)
        heap, things = filled([order.random() for _ in range(1000)])
        for thing in things[::3]:
            heap.reprioritise(thing, order.random())
        cancelled = [thing for thing in heap if heap.cancel(thing)]
        assert (len(heap), set(cancelled)) == (0, set(things))
        assert cancelled == sorted(cancelled, key=lambda thing: (thing.priority, thing.id))

    def test_anItemThatIsMovedMeanwhileIsSeenOnce(self) -> None:
        heap, things = filled([1.0, 2.0, 3.0])
        items = iter(heap)
        heap.reprioritise(things[2], 0.0)
        assert list(items) == things

    def test_anItemMayHaveAnotherPriorityInTheHeap(self) -> None:
        heap, (a,) = filled([5.0])
        first, last = Thing(1, 9.0), Thing(2, 0.0)
        heap.put(first, 1.0)
        heap.put(last, 6.0)
        assert (takeAll(heap), last.priority) == ([first, a, last], 0.0)


class ReprioritiseTests(SynchronousTestCase):
    def test_movesAnItem(self) -> None:
        heap, (a, b, c) = filled([1.0, 2.0, 3.0])
        heap.reprioritise(c, 0.0)
        heap.reprioritise(a, 9.0)
        assert (len(heap), list(heap), takeAll(heap)) == (3, [c, b, a], [c, b, a])

    def test_standsAmongItsNewEqualsWhereItsIdPutsIt(self) -> None:
        heap, (a, b, c) = filled([1.0, 5.0, 1.0])
        heap.reprioritise(b, 1.0)
        assert takeAll(heap) == [a, b, c]

    def test_toTheSamePriorityChangesNothing(self) -> None:
        heap, (a, b, c) = filled([1.0, 1.0, 1.0])
        for _ in range(100):
            heap.reprioritise(b, 1.0)
        assert takeAll(heap) == [a, b, c]

    def test_whatIsInNoHeapIsRefused(self) -> None:
        heap, (a,) = filled([1.0])
        heap.take()
        with self.assertRaisesRegex(ValueError, "<thing 0> is in no heap"):
            heap.reprioritise(a, 2.0)

    def test_movingOneItemForEverNeedsNoMoreRoom(self) -> None:
        heap, (a, _) = filled([1.0, 2.0])
        for k in range(10_000):
            heap.reprioritise(a, float(k))
        assert len(heap._entries) <= heap.SMALL


class ClearTests(SynchronousTestCase):
    def test_returnsTheItemsInOrderAndForgetsThem(self) -> None:
        heap, (a, b, c) = filled([3.0, 1.0, 2.0])
        heap.cancel(b)
        assert heap.clear() == [c, a]
        assert (len(heap), heap.head(), a in heap, c in heap) == (0, None, False, False)

    def test_clearedItemsCanBePutAgain(self) -> None:
        heap, things = filled([1.0, 2.0])
        heap.clear()
        for thing in things:
            thing.priority = -thing.priority
            heap.put(thing)
        assert takeAll(heap) == things[::-1]


class WalkTests(SynchronousTestCase):
    def test_walkingGivesTheItemsInTheirOrderAndTakesNone(self) -> None:
        order = random.Random(3)
        for _ in range(50):
            heap, things = filled([order.randrange(9) for _ in range(order.randrange(60))])
            for thing in order.sample(things, len(things) // 3):
                if order.random() < 0.5:
                    heap.cancel(thing)
                else:
                    heap.reprioritise(thing, order.randrange(9))
            before = list(heap)
            self.assertEqual(list(heap.walk()), before)
            self.assertEqual(takeAll(heap), before)
