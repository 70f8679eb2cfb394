"""
Calling through a queue, and naming options for it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

from asynqueue import TaskQueue
from asynqueue._core.options import OPTION_NAMES
from asynqueue.errors import QueueStopped
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.testing import far
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.support.cases import QueueCase

OWN_KEYWORDS = {
    "niceness": 5,
    "series": "x",
    "doNext": True,
    "doLast": False,
    "timeout": 3,
    "consumer": None,
    "raw": True,
    "returnFailure": False,
}
"""Every keyword that C{call} keeps for itself."""


class CallTests(QueueCase):
    def test_theResultComesBack(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.assertEqual(self.resultOf(queue.call(far.add, 3, second=4)), 7)

    def test_anExceptionComesBackAsTheFailure(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        error = self.errorOf(queue.call(far.refuse, "not this"), ValueError)
        self.assertEqual(str(error), "not this")

    def test_oneTasksFailureIsNoOthers(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        ds = [queue.call(far.reciprocal, number) for number in (1, 0, 2)]
        self.assertEqual(self.resultOf(ds[0]), 1)
        self.errorOf(ds[1], ZeroDivisionError)
        self.assertEqual(self.resultOf(ds[2]), 0.5)

    def test_aCallCanBeAwaited(self) -> None:
        queue = self.makeQueue(self.makeWorker())

        async def compute() -> Any:
            first = await queue.call(far.add, 1, 2)
            return await queue.call(far.add, first, 3)

        self.assertEqual(self.resultOf(ensureDeferred(compute())), 6)

    def test_callsRunInTheOrderOfPutting(self) -> None:
        ran: list[int] = []
        queue = self.makeQueue()
        for number in range(100):
            queue.call(ran.append, number)
        queue.attachWorker(InlineWorker())
        self.settle()
        self.assertEqual(ran, list(range(100)))

    def test_callsWaitUntilThereIsAWorker(self) -> None:
        queue = self.makeQueue()
        d = queue.call(far.echo, 1)
        self.settle()
        self.assertNoResult(d)
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.resultOf(d), 1)

    def test_aDeferredFiresNeverBeforeCallReturns(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        self.assertNoResult(queue.call(far.echo))

    def test_severalWorkersRunAtOnce(self) -> None:
        workers = [StepWorker(), StepWorker(), StepWorker()]
        queue = self.makeQueue(*workers)
        for number in range(4):
            queue.call(far.echo, number)
        self.assertEqual([worker.task.args for worker in workers], [(0,), (1,), (2,)])
        workers[1].finish()
        self.assertEqual(workers[1].task.args, (3,))

    def test_iteratorsBecomeDeferators(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        deferator = self.resultOf(queue.call(far.numbers, 3))
        assert isinstance(deferator, Deferator)

        async def collect() -> list[int]:
            return [item async for item in deferator]

        self.assertEqual(self.resultOf(ensureDeferred(collect())), [0, 1, 2])

    def test_aConsumerGetsTheItemsAndThenIsTheResult(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        consumer = ListConsumer()
        d = queue.call(far.numbers, 10_000, consumer=consumer)
        self.assertIs(self.resultOf(d), consumer)
        self.assertEqual(self.resultOf(consumer()), list(range(10_000)))

    def test_rawBringsAnIteratorBackWhole(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        result = self.resultOf(queue.call(far.echo, iter([1, 2]), raw=True))
        self.assertEqual(list(result), [1, 2])

    def test_rawIsTheWorkersChoiceWhereTheCallDoesNotSay(self) -> None:
        queue = self.makeQueue(self.makeWorker(raw=True))
        result = self.resultOf(queue.call(far.echo, iter([1, 2])))
        self.assertNotIsInstance(result, Deferator)
        streamed = self.resultOf(queue.call(far.echo, iter([1, 2]), raw=False))
        self.assertIsInstance(streamed, Deferator)


class KeywordTests(QueueCase):
    def test_thereIsATestForEveryOwnKeyword(self) -> None:
        self.assertEqual(OWN_KEYWORDS.keys(), OPTION_NAMES)

    def test_ownKeywordsAreNotTheFunctions(self) -> None:
        queue = self.makeQueue(self.makeWorker("x"))
        d = queue.call(far.keywords, 1, other=2, **OWN_KEYWORDS)
        self.assertEqual(self.resultOf(d), ((1,), {"other": 2}))

    def test_throughOptionsEveryKeywordIsTheFunctions(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        expected = ((1,), OWN_KEYWORDS)
        self.assertEqual(
            self.resultOf(queue.options().call(far.keywords, 1, **OWN_KEYWORDS)), expected
        )
        task = queue.options().submit(far.keywords, 1, **OWN_KEYWORDS)
        self.assertEqual(self.resultOf(task.d), expected)

    def test_evenThoseThatCallNamesItself(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        keywords: dict[str, Any] = {"function": 1, "self": 2, "args": 3, "kw": 4}
        ways: list[Any] = [queue.call, queue.options().call]
        for call in ways:
            self.assertEqual(self.resultOf(call(far.keywords, **keywords)), ((), keywords))
        for submit in (queue.submit, queue.options().submit):
            d = submit(far.keywords, **keywords).d
            self.assertEqual(self.resultOf(d), ((), keywords))
        self.assertEqual(self.resultOf(queue.update(far.keywords, **keywords)), [((), keywords)])

    def test_everyOptionReachesTheTask(self) -> None:
        queue = self.makeQueue()
        for submit in (
            lambda: queue.submit(far.echo, **OWN_KEYWORDS),
            lambda: queue.options(**OWN_KEYWORDS).submit(far.echo),
        ):
            task = submit()
            for name, value in OWN_KEYWORDS.items():
                self.assertEqual(getattr(task.options, name), value)
            task.d.addErrback(lambda _: None)

    def test_optionsCanBeUsedAgain(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        patient = queue.options(doLast=True)
        ds = [patient.call(far.echo, number) for number in range(3)]
        self.assertEqual([self.resultOf(d) for d in ds], [0, 1, 2])
        self.assertTrue(patient.options.doLast)

    def test_theCallersDictionaryIsLeftAlone(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        keywords = {"niceness": 1, "other": 2}
        self.resultOf(queue.call(far.keywords, **keywords))
        self.assertEqual(keywords, {"niceness": 1, "other": 2})


class QueueTests(QueueCase):
    def test_itsLengthIsTheNumberOfItsWorkers(self) -> None:
        queue = self.makeQueue()
        self.assertEqual(len(queue), 0)
        queue.attachWorker(self.makeWorker())
        queue.attachWorker(StepWorker())
        self.assertEqual(len(queue), 2)
        self.settle()

    def test_itIsTrueWhileItRunsAndHasAWorker(self) -> None:
        queue = self.makeQueue()
        self.assertIs(bool(queue), False)
        queue.attachWorker(StepWorker())
        self.assertIs(bool(queue), True)
        queue.shutdown()
        self.assertIs(bool(queue), False)

    def test_itRunsUntilItsShutdown(self) -> None:
        queue = self.makeQueue()
        self.assertTrue(queue.isRunning())
        queue.shutdown()
        self.assertFalse(queue.isRunning())

    def test_itsReprTellsWhatItHas(self) -> None:
        queue = self.makeQueue(StepWorker())
        for _ in range(3):
            queue.call(far.echo)
        self.assertEqual(repr(queue), "<TaskQueue: RUNNING, 1 workers, 2 tasks pending>")

    def test_leavingItsBlockShutsItDown(self) -> None:
        async def use() -> tuple[TaskQueue, int]:
            async with TaskQueue(self.makeWorker(), reactor=self.clock) as queue:
                pending = [queue.call(far.echo, number) for number in range(3)]
            return queue, sum([await d for d in pending])

        queue, total = self.resultOf(ensureDeferred(use()))
        self.assertEqual(total, 3)
        self.assertFalse(queue.isRunning())
        self.assertRaises(QueueStopped, queue.call, far.echo)

    def test_anErrorInItsBlockShutsItDownToo(self) -> None:
        async def use() -> None:
            async with TaskQueue(self.makeWorker(), reactor=self.clock):
                raise KeyError("mine")

        self.errorOf(Deferred.fromCoroutine(use()), KeyError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
