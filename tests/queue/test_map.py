"""
Mapping a function over many arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import AsyncWorker, TaskQueue
from asynqueue._queue.map import LARGEST_CHUNK
from asynqueue._runner.chunks import runChunk
from asynqueue.errors import CallNotPicklable, QueueStopped, WorkerDied
from asynqueue.iteration import Deferator, IterationProducer, ListConsumer
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryWorker, act
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.iteration.ledger import outcomesOf
from tests.support.cases import QueueCase


class Input:
    """
    An iterator of numbers that tells how far it was advanced, and whether it was closed.
    """

    def __init__(self, count: int) -> None:
        self.taken = 0
        self.closed = 0
        self._count = count

    def __iter__(self) -> Input:
        return self

    def __next__(self) -> int:
        if self.taken >= self._count:
            raise StopIteration
        self.taken += 1
        return self.taken - 1

    def close(self) -> None:
        self.closed += 1


def timed(seconds: float) -> float:
    """
    Take so many seconds of the clock.
    """
    act("advance", seconds)
    return seconds


def brokenInput(count: int) -> Iterator[int]:
    yield from range(count)
    raise KeyError("no more input")


class MapCase(QueueCase):
    def takeAll(self, deferator: Deferator) -> tuple[list[Any], Any]:
        """
        @return: the results, and the exception that ended them, or C{None}.
        """
        taken: list[Any] = []

        async def take() -> None:
            async for item in deferator:
                taken.append(item)

        outcomes = outcomesOf(Deferred.fromCoroutine(take()))
        self.settle()
        [ending] = outcomes
        return taken, ending

    def chunks(self, worker: StepWorker) -> list[list[Any]]:
        """
        @return: the items of each chunk that a worker was given.
        """
        for task in worker.past:
            self.assertIs(task.function, runChunk)
        return [list(task.args[1]) for task in worker.past]


class ResultTests(MapCase):
    def test_resultsComeInTheOrderOfTheItems(self) -> None:
        queue = self.makeQueue(self.makeWorker(), self.makeWorker())
        results, ending = self.takeAll(queue.map(far.square, range(1000)))
        self.assertEqual(results, [number * number for number in range(1000)])
        self.assertIsNone(ending)

    def test_evenIfWorkersAreDoneInAnotherOrder(self) -> None:
        workers = [StepWorker(), StepWorker()]
        queue = self.makeQueue(*workers)
        deferator = queue.map(far.square, range(4), chunksize=2)
        workers[1].step()
        self.assertEqual(list(deferator.source.items), [])
        workers[0].step()
        self.assertEqual(self.takeAll(deferator), ([0, 1, 4, 9], None))

    def test_noInputMakesNoResults(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertEqual(self.takeAll(queue.map(far.square, [])), ([], None))

    def test_severalIterablesGiveOneArgumentEach(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        results, ending = self.takeAll(queue.map(pow, [1, 2, 3], iter([3, 4])))
        self.assertEqual((results, ending), ([1, 16], None))
        results, _ = self.takeAll(queue.options().map(far.add, range(100), range(100)))
        self.assertEqual(results, list(range(0, 200, 2)))

    def test_withoutAnIterableThereIsNothingToMap(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertRaises(TypeError, queue.map, far.square)

    def test_anEmptyIteratorHasNoResults(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertEqual(self.takeAll(queue.map(far.square, iter(()), window=3)), ([], None))

    def test_withoutWorkersItWaits(self) -> None:
        queue = self.makeQueue()
        deferator = queue.map(far.square, range(10))
        self.settle()
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.takeAll(deferator)[0], [n * n for n in range(10)])

    def test_aConsumerCanTakeThem(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        consumer = ListConsumer()
        deferator = queue.map(far.square, range(5000))
        d = IterationProducer(deferator, consumer, self.clock).run()
        self.assertIs(self.resultOf(d), consumer)
        self.assertEqual(self.resultOf(consumer()), [n * n for n in range(5000)])

    def test_resultsOfAnyKindMayCome(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        values: list[Any] = [None, "x", [1], {}, ValueError("a value")]
        results, _ = self.takeAll(queue.map(far.echo, values))
        self.assertEqual([repr(result) for result in results], [repr(value) for value in values])

    def test_optionsReachTheChunks(self) -> None:
        worker = StepWorker(["mine"])
        queue = self.makeQueue(StepWorker(), worker)
        for deferator in (
            queue.map(far.square, [1], series="mine", niceness=3, timeout=5),
            queue.options(series="mine", niceness=3, timeout=5).map(far.square, [1]),
        ):
            options = worker.task.options
            self.assertEqual((options.series, options.niceness, options.timeout), ("mine", 3, 5))
            worker.step()
            self.assertEqual(self.takeAll(deferator), ([1], None))

    def test_aConsumerAmongTheOptionsIsRefused(self) -> None:
        queue = self.makeQueue()
        self.assertRaises(ValueError, queue.map, far.square, [1], consumer=ListConsumer())

    def test_whatIsNoIterableIsRefused(self) -> None:
        queue = self.makeQueue()
        notIterable: Any = 17
        self.assertRaises(TypeError, queue.map, far.square, notIterable)

    def test_sizesThatAreNoneAreRefused(self) -> None:
        queue = self.makeQueue()
        for size in (0, -1, 1.5, True, "many"):
            wrong: Any = size
            for name in ("window", "chunksize"):
                error = self.assertRaises(ValueError, queue.map, far.square, [], **{name: wrong})
                self.assertIn(f"{name} must be a positive integer", str(error))


class LazinessTests(MapCase):
    def test_noMoreThanAWindowIsOnItsWay(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        source = Input(100)
        deferator = queue.map(far.square, source, window=10, chunksize=3)
        self.assertEqual(source.taken, 10)
        while worker.step():
            pass
        self.assertEqual(source.taken, 10)
        self.assertEqual(self.chunks(worker), [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]])
        for number in range(3):
            self.assertEqual(deferator.source.take(), number * number)
        self.assertEqual(source.taken, 13)
        deferator.stop()

    def test_anExplicitWindowHoldsThroughout(self) -> None:
        queue = self.makeQueue(self.makeWorker(), self.makeWorker())
        source = Input(2_000)
        deferator = queue.map(far.square, source, window=50)
        self.settle()
        for number in range(2_000):
            self.assertLessEqual(source.taken, number + 50)
            if not deferator.source.items:
                self.settle()
            self.assertEqual(deferator.source.take(), number * number)

    def test_withoutAWindowThreeChunksAWorkerAreOnTheirWay(self) -> None:
        queue = self.makeQueue(StepWorker(), StepWorker())
        source = Input(1000)
        queue.map(far.square, source, chunksize=7).stop()
        self.assertEqual(source.taken, 42)

    def test_aWindowSmallerThanAChunkHolds(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        source = Input(1000)
        deferator = queue.map(far.square, source, window=2, chunksize=100)
        self.assertEqual(source.taken, 2)
        deferator.stop()

    def test_nothingIsTakenBeforeItIsWanted(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        source = Input(10**9)
        deferator = queue.map(far.square, source)
        for _ in range(5):
            self.settle()
        self.assertLessEqual(source.taken, 3)
        deferator.stop()


class ChunkTests(MapCase):
    def sizes(self, seconds: float, count: int) -> list[int]:
        """
        @return: the sizes of the chunks, where each item takes so many seconds.
        """
        worker = self.makeWorker()
        worker.actions["advance"] = self.clock.advance
        # The seconds that a chunk reports.
        self.patch(runChunk.__globals__["time"], "perf_counter", self.clock.seconds)
        queue = self.makeQueue(worker)
        sizes: list[int] = []
        submit = queue._engine.submit

        def noting(function: Any, args: Any, *others: Any, **keywords: Any) -> Any:
            sizes.append(len(args[1]))
            return submit(function, args, *others, **keywords)

        self.patch(queue._engine, "submit", noting)
        results, ending = self.takeAll(queue.map(timed, [seconds] * count))
        self.assertEqual((len(results), ending), (count, None))
        self.assertEqual(sum(sizes), count)
        return sizes

    def test_theyGrowWithQuickItems(self) -> None:
        sizes = self.sizes(0.0, 20_000)
        self.assertEqual(sizes[0], 1)
        self.assertIn(LARGEST_CHUNK, sizes)
        for before, after in zip(sizes, sizes[3:], strict=False):
            self.assertLessEqual(after, 4 * before)

    def test_theyTakeAFiftiethOfASecond(self) -> None:
        sizes = self.sizes(1 / 1024, 2000)
        self.assertEqual(set(sizes[10:-1]), {20})

    def test_slowItemsAreAlone(self) -> None:
        self.assertEqual(set(self.sizes(0.1, 20)), {1})

    def test_anExplicitSizeIsKept(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        deferator = queue.map(far.square, range(10), chunksize=4)
        while worker.step():
            pass
        self.assertEqual(self.chunks(worker), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]])
        self.assertEqual(len(self.takeAll(deferator)[0]), 10)


class FailureTests(MapCase):
    def test_aFailureComesAfterTheResultsBeforeIt(self) -> None:
        for chunksize in (1, 2, 3, 100, None):
            queue = self.makeQueue(self.makeWorker())
            source = [1, 2, 4, 0, 5, 8]
            results, error = self.takeAll(queue.map(far.reciprocal, source, chunksize=chunksize))
            self.assertEqual(results, [1, 0.5, 0.25])
            self.assertIsInstance(error, ZeroDivisionError)
            self.assertIn("reciprocal", str(error.__cause__))

    def test_afterAFailureNothingMoreIsTaken(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        source = Input(1000)
        deferator = queue.map(far.reciprocal, source, chunksize=1)
        self.assertEqual(source.taken, 3)
        worker.step()
        self.assertEqual((source.taken, source.closed), (3, 1))
        self.assertIsInstance(self.takeAll(deferator)[1], ZeroDivisionError)
        self.assertEqual(len(worker.past), 1)

    def test_aFailureEndsWhatIsUnderway(self) -> None:
        workers = [StepWorker(), StepWorker()]
        queue = self.makeQueue(*workers)
        deferator = queue.map(far.reciprocal, Input(100), chunksize=1)
        workers[0].step()
        self.assertEqual(workers[1].task.state, "CANCELLED")
        self.assertEqual(repr(queue), "<TaskQueue: RUNNING, 2 workers, 0 tasks pending>")
        workers[1].finish()
        self.takeAll(deferator)

    def test_anInputThatRaisesEndsItAfterWhatItGave(self) -> None:
        for chunksize in (1, 2, 100, None):
            queue = self.makeQueue(self.makeWorker())
            deferator = queue.map(far.square, brokenInput(5), chunksize=chunksize)
            results, error = self.takeAll(deferator)
            self.assertEqual(results, [0, 1, 4, 9, 16])
            self.assertIsInstance(error, KeyError)

    def test_aFunctionThatCannotBePickled(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        source = Input(100)
        results, error = self.takeAll(queue.map(lambda item: item, source))
        self.assertEqual((results, source.closed), ([], 1))
        self.assertIsInstance(error, CallNotPicklable)

    def test_aDeathInAChunk(self) -> None:
        worker = self.makeWorker()

        def dieAtThree(number: int) -> None:
            if number == 3:
                worker.die()

        worker.actions["advance"] = dieAtThree
        queue = self.makeQueue(worker)
        results, error = self.takeAll(queue.map(timed, range(10), chunksize=2))
        self.assertEqual(results, [0, 1])
        self.assertIsInstance(error, WorkerDied)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)


class UnorderedTests(MapCase):
    def test_resultsComeAsTheyAreThere(self) -> None:
        workers = [StepWorker(), StepWorker()]
        queue = self.makeQueue(*workers)
        deferator = queue.map(far.square, range(4), chunksize=2, ordered=False)
        workers[1].step()
        self.assertEqual(list(deferator.source.items), [4, 9])
        workers[0].step()
        self.assertEqual(self.takeAll(deferator), ([4, 9, 0, 1], None))

    def test_aSlowChunkHoldsUpNoOther(self) -> None:
        workers = [StepWorker(), StepWorker()]
        queue = self.makeQueue(*workers)
        source = Input(100)
        deferator = queue.options().map(far.square, source, window=2, chunksize=1, ordered=False)
        for number in range(1, 100):
            workers[1].step()
            self.assertEqual(deferator.source.take(), number * number)
        workers[0].step()
        self.assertEqual(self.takeAll(deferator), ([0], None))

    def test_aFailureComesAfterTheResultsThatAreThere(self) -> None:
        workers = [StepWorker(), StepWorker()]
        queue = self.makeQueue(*workers)
        deferator = queue.map(far.reciprocal, [1, 2, 4, 0], chunksize=2, ordered=False)
        workers[1].step()
        results, error = self.takeAll(deferator)
        self.assertEqual(results, [0.25])
        self.assertIsInstance(error, ZeroDivisionError)
        self.assertEqual(workers[0].task.state, "CANCELLED")
        workers[0].finish()

    def test_anInputThatRaisesEndsItAfterAllThatItGave(self) -> None:
        queue = self.makeQueue(self.makeWorker(), self.makeWorker())
        deferator = queue.map(far.square, brokenInput(5), chunksize=2, ordered=False)
        results, error = self.takeAll(deferator)
        self.assertEqual(sorted(results), [0, 1, 4, 9, 16])
        self.assertIsInstance(error, KeyError)

    def test_aShutdownEndsItAfterTheChunksThatWerePut(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        deferator = queue.map(far.square, Input(1000), chunksize=2, ordered=False)
        done = queue.shutdown()
        while worker.step():
            pass
        results, error = self.takeAll(deferator)
        self.assertEqual(results, [0, 1, 4, 9, 16, 25])
        self.assertIsInstance(error, QueueStopped)
        self.assertIsNone(self.resultOf(done))


class ExceptionsInPlaceTests(MapCase):
    def takeAllOf(self, queue: TaskQueue, *args: Any, **options: Any) -> list[Any]:
        """
        @return: what came, which has come to its end, with the types of exceptions.
        """
        results, ending = self.takeAll(queue.map(*args, returnExceptions=True, **options))
        self.assertIsNone(ending)
        return [type(item) if isinstance(item, BaseException) else item for item in results]

    def test_anExceptionComesInPlaceOfItsResult(self) -> None:
        for chunksize in (1, 2, 3, 100, None):
            queue = self.makeQueue(self.makeWorker())
            results = self.takeAllOf(queue, far.reciprocal, [1, 0, 2, 0], chunksize=chunksize)
            self.assertEqual(results, [1, ZeroDivisionError, 0.5, ZeroDivisionError])

    def test_itHasTheFarTraceback(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        results, _ = self.takeAll(queue.map(far.reciprocal, [0], returnExceptions=True))
        self.assertIn("reciprocal", str(results[0].__cause__))

    def test_whereNothingIsPickledItIsTheVeryException(self) -> None:
        raised = far.Unpicklable("stays here")

        def fail(_: object) -> None:
            raise raised

        for worker in (InlineWorker(), AsyncWorker(reactor=self.clock)):
            queue = self.makeQueue(worker)
            results, _ = self.takeAll(queue.map(fail, [1, 2], returnExceptions=True))
            self.assertEqual(results, [raised, raised])

    def test_withSeveralIterables(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        results = self.takeAllOf(queue, divmod, [7, 8, 9], [2, 0, 4], chunksize=2)
        self.assertEqual(results, [(3, 1), ZeroDivisionError, (2, 1)])

    def test_anItemThatCannotBePickledFailsAlone(self) -> None:
        for chunksize in (1, 2, 7, 100, None):
            for ordered in (True, False):
                queue = self.makeQueue(self.makeWorker())
                items = [1, 2, print, [lambda: None], 5, [lambda: None], 7]
                results = self.takeAllOf(
                    queue, far.echo, items, chunksize=chunksize, ordered=ordered
                )
                expected = [1, 2, print, CallNotPicklable, 5, CallNotPicklable, 7]
                if ordered:
                    self.assertEqual(results, expected)
                self.assertEqual(sorted(map(repr, results)), sorted(map(repr, expected)))

    def test_manyItemsThatCannotBePickledDoNotGoEverDeeper(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        items = [lambda: None] * 1000
        results = self.takeAllOf(queue, far.echo, items, chunksize=500)
        self.assertEqual(results, [CallNotPicklable] * 1000)

    def test_aDeathCostsItsChunk(self) -> None:
        worker = self.makeWorker()

        def dieAtThree(number: int) -> None:
            if number == 3:
                worker.die()

        worker.actions["advance"] = dieAtThree
        queue = self.makeQueue(worker)
        results = self.takeAllOf(queue, timed, range(7), chunksize=2)
        self.assertEqual(results, [0, 1, WorkerDied, WorkerDied, 4, 5, 6])

    def test_aCallThatWantsToExitEndsNoOther(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        results = self.takeAllOf(queue, exitAt, [1, 0, 3, 0, 0], chunksize=5)
        self.assertEqual(results, [1, SystemExit, 3, SystemExit, SystemExit])

    def test_anInputThatRaisesStillEndsIt(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        deferator = queue.map(far.reciprocal, brokenInput(3), chunksize=2, returnExceptions=True)
        results, error = self.takeAll(deferator)
        self.assertIsInstance(results.pop(0), ZeroDivisionError)
        self.assertEqual(results, [1, 0.5])
        self.assertIsInstance(error, KeyError)

    def test_aShutdownEndsItAfterTheChunksThatWerePut(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        source = Input(1000)
        deferator = queue.map(far.square, source, chunksize=2, returnExceptions=True)
        queue.shutdown()
        while worker.step():
            pass
        results, error = self.takeAll(deferator)
        self.assertEqual(results[:6], [0, 1, 4, 9, 16, 25])
        # Those that were taken out of the input meanwhile are there, too.
        self.assertEqual(len(results), source.taken)
        self.assertEqual({type(item) for item in results[6:]}, {QueueStopped})
        self.assertIsInstance(error, QueueStopped)


def exitAt(number: int) -> int:
    if not number:
        sys.exit("at nought")
    return number


class ContractTests(SynchronousTestCase):
    """
    Whatever the sizes, the order, the failures and the deaths are, each item has one result or one
    exception, and none is lost or comes twice.
    """

    @given(
        items=st.lists(st.integers(-2, 9), max_size=40),
        size=st.none() | st.integers(1, 7),
        window=st.none() | st.integers(1, 20),
        isOrdered=st.booleans(),
        goesOn=st.booleans(),
        isApart=st.booleans(),
        takes=st.lists(st.integers(0, 5), max_size=30),
    )
    def test_eachItemHasOneOutcomeInItsPlace(
        self,
        items: list[int],
        size: int | None,
        window: int | None,
        isOrdered: bool,
        goesOn: bool,
        isApart: bool,
        takes: list[int],
    ) -> None:
        clock = Clock()
        workers = [MemoryWorker(reactor=clock, stepSeconds=0.0) for _ in range(3)]
        for worker in workers:
            # An action of -1 kills the process.
            worker.actions["advance"] = lambda number, worker=worker: (
                worker.die() if number == -1 else None
            )
        queue = TaskQueue(*workers, reactor=clock)
        iterables = [range(len(items)), items] if isApart else [[*enumerate(items)]]
        deferator: Deferator = queue.map(
            pair if isApart else onePair,
            *iterables,
            chunksize=size,
            window=window,
            ordered=isOrdered,
            returnExceptions=goesOn,
        )
        source = deferator.source
        taken: list[Any] = []
        for count in [*takes, *[1] * (len(items) + 200)]:
            clock.advance(0.1)
            taken += [source.take() for _ in range(min(count, len(source.items)))]
        self.assertEqual(queue.load, 0)
        results = [item for item in taken if not isinstance(item, BaseException)]
        places = [place for place, _ in results]
        self.assertEqual(len(places), len({*places}), "one came twice")
        self.assertEqual(results, [(place, items[place]) for place in places])
        if isOrdered:
            self.assertEqual(places, sorted(places))
        if goesOn or not [item for item in items if item < 0]:
            self.assertEqual((source.state.value, source.failure), ("ended", None))
            self.checkAll(items, taken, isOrdered)
        else:
            self.assertEqual(source.state.value, "failed")
            self.checkUpToFailure(items, taken, isOrdered)
        queue.shutdown()
        clock.pump([0.1] * 20)

    def checkAll(self, items: list[int], taken: list[Any], isOrdered: bool) -> None:
        self.assertEqual(len(taken), len(items))
        lost = [place for place, item in enumerate(taken) if isinstance(item, BaseException)]
        kinds = [type(taken[place]) for place in lost]
        if isOrdered:
            places = [place for place in lost if type(taken[place]) is ValueError]
            self.assertEqual([items[place] for place in places], [-2] * len(places))
        # A death takes its whole chunk along.
        if -1 not in items:
            self.assertEqual(kinds, [ValueError] * items.count(-2))
        else:
            self.assertGreaterEqual(len(lost), items.count(-2) + items.count(-1))

    def checkUpToFailure(self, items: list[int], taken: list[Any], isOrdered: bool) -> None:
        self.assertFalse([item for item in taken if isinstance(item, BaseException)])
        first = next(place for place, item in enumerate(items) if item < 0)
        if isOrdered and -1 not in items:
            self.assertEqual(len(taken), first)
        elif isOrdered:
            self.assertLessEqual(len(taken), first)


def pair(place: int, number: int) -> tuple[int, int]:
    if number == -2:
        raise ValueError(number)
    act("advance", number)
    return place, number


def onePair(item: tuple[int, int]) -> tuple[int, int]:
    return pair(*item)


class StopTests(MapCase):
    def start(self, count: int = 1000) -> tuple[TaskQueue, StepWorker, Input, Deferator]:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        source = Input(count)
        return queue, worker, source, queue.map(far.square, source, chunksize=2)

    def test_stoppingClosesTheInputAndEndsTheChunks(self) -> None:
        queue, worker, source, deferator = self.start()
        worker.step()
        deferator.stop()
        self.assertEqual((source.taken, source.closed), (6, 1))
        self.assertEqual(worker.task.state, "CANCELLED")
        self.assertEqual(repr(queue), "<TaskQueue: RUNNING, 1 workers, 0 tasks pending>")
        worker.finish()
        self.assertEqual(self.takeAll(deferator), ([], None))
        self.assertEqual(source.taken, 6)

    def test_aGeneratorIsClosed(self) -> None:
        closed: list[bool] = []

        def generate() -> Iterator[int]:
            try:
                yield from range(100)
            finally:
                closed.append(True)

        queue = self.makeQueue(StepWorker())
        deferator = queue.map(far.square, generate())
        self.assertEqual(closed, [])
        deferator.stop()
        self.assertEqual(closed, [True])
        queue.workers()[0].finish()

    def test_droppingItStopsIt(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        source = Input(1000)
        queue.map(far.square, source)
        self.assertEqual(source.closed, 1)
        self.assertEqual(worker.task.state, "CANCELLED")

    def test_leavingTheLoopEarlyStopsIt(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        source = Input(1000)

        async def take() -> list[int]:
            taken: list[int] = []
            async with queue.map(far.square, source) as results:
                async for result in results:
                    taken.append(result)
                    if len(taken) == 3:
                        break
            return taken

        self.assertEqual(self.resultOf(Deferred.fromCoroutine(take())), [0, 1, 4])
        self.assertEqual(source.closed, 1)

    def test_afterTheEndTheInputIsLeftAlone(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        source = Input(10)
        deferator = queue.map(far.square, source)
        self.takeAll(deferator)
        deferator.stop()
        self.assertEqual(source.closed, 0)

    def test_aShutdownEndsItAfterTheChunksThatWerePut(self) -> None:
        queue, worker, source, deferator = self.start()
        done = queue.shutdown()
        while worker.step():
            pass
        results, error = self.takeAll(deferator)
        self.assertEqual(results, [0, 1, 4, 9, 16, 25])
        self.assertIsInstance(error, QueueStopped)
        self.assertEqual(source.closed, 1)
        self.assertIsNone(self.resultOf(done))

    def test_manyItemsDoNotGoEverDeeper(self) -> None:
        queue = self.makeQueue(InlineWorker())
        results, ending = self.takeAll(queue.map(far.square, range(5_000), chunksize=1))
        self.assertEqual((len(results), ending), (5_000, None))

    def test_manyItemsToAConsumerDoNotGoEverDeeper(self) -> None:
        queue = self.makeQueue(InlineWorker())
        consumer = ListConsumer()
        deferator = queue.map(far.square, range(5_000), chunksize=1)
        IterationProducer(deferator, consumer, self.clock).run()
        self.assertEqual(len(self.resultOf(consumer())), 5_000)
