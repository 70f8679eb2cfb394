"""
Far more items than Python's limit for the depth of recursion, none of which may deepen the stack.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.iteration import Deferator, IterationProducer, ListConsumer, Prefetcherator
from tests.iteration.ledger import MANY, Ledger, Notebook, depth, ended


def sources() -> Generator[tuple[Deferator, Any], None, None]:
    """
    Deferators whose L{MANY} items are all ready, and what makes them so.
    """
    yield Deferator(ended(*range(MANY))), None
    source = Ledger()

    def feed() -> None:
        source.add(range(MANY))
        source.end()

    yield Deferator(source), feed
    yield Deferator(iter(range(MANY))), None
    first: Deferred[int] = Deferred()
    yield Deferator(first if n == 0 else n for n in range(MANY)), lambda: first.callback(0)
    prefetcherator = Prefetcherator()
    prefetcherator.setup(iter(range(MANY)))
    yield Deferator(prefetcherator), None


class RecursionTests(SynchronousTestCase):
    def check(self, deferator: Deferator, release: Any, items: list[int]) -> None:
        if release is not None:
            assert items == []
            release()
        assert items == list(range(MANY))
        assert self.successResultOf(deferator.d) is True

    def test_anInlineCallbacksLoop(self) -> None:
        @inlineCallbacks
        def loop() -> Generator[Deferred[Any], Any, None]:
            for d in deferator:
                item = yield d
                items.append(item)

        for deferator, release in sources():
            items: list[int] = []
            outcome = loop()
            self.check(deferator, release, items)
            self.successResultOf(outcome)

    def test_aCoroutinesLoop(self) -> None:
        async def loop() -> None:
            async for item in deferator:
                items.append(item)

        for deferator, release in sources():
            items: list[int] = []
            outcome = Deferred.fromCoroutine(loop())
            self.check(deferator, release, items)
            self.successResultOf(outcome)

    def test_aChainOfCallbacksThatAskForTheNext(self) -> None:
        def step(item: int) -> None:
            items.append(item)
            depths.add(depth())
            for d in deferator:
                d.addCallback(step)
                break

        for deferator, release in sources():
            items: list[int] = []
            depths: set[int] = set()
            next(deferator).addCallback(step)
            self.check(deferator, release, items)
            assert len(depths) <= 3

    def test_aChainByWhateverMethodCallbacksAreAdded(self) -> None:
        for method in ("addCallback", "addCallbacks", "addBoth"):
            deferator, items = Deferator(ended(*range(MANY))), list[int]()

            def step(
                item: int,
                deferator: Deferator = deferator,
                items: list[int] = items,
                method: str = method,
            ) -> None:
                items.append(item)
                for d in deferator:
                    getattr(d, method)(step)
                    break

            getattr(next(deferator), method)(step)
            self.check(deferator, None, items)

    def test_aChainOfCallbacksThatReturnTheNext(self) -> None:
        def step(item: int) -> Any:
            items.append(item)
            for d in deferator:
                return d.addBoth(step)
            return "over"

        for deferator, release in sources():
            items: list[int] = []
            outcome = next(deferator).addCallbacks(step, step)
            self.check(deferator, release, items)
            assert self.successResultOf(outcome) == "over"

    def test_aProducer(self) -> None:
        for deferator, release in sources():
            clock, consumer = Clock(), ListConsumer()
            d = IterationProducer(deferator, consumer, clock).run()
            if release is not None:
                release()
            self.successResultOf(d)
            assert self.successResultOf(consumer()) == list(range(MANY))

    def test_aConsumerThatPausesAndResumesWithinEachWrite(self) -> None:
        def reaction(item: int) -> None:
            producer.pauseProducing()
            producer.resumeProducing()

        consumer = Notebook(reaction)
        producer = IterationProducer(Deferator(iter(range(MANY))), consumer, Clock())
        self.successResultOf(producer.run())
        assert consumer.items == list(range(MANY))

    def test_aConsumerWhoseProcessingHasFired(self) -> None:
        class Quick(ListConsumer):
            def processItem(self, item: Any) -> Any:
                return succeed(item)

        consumer = Quick()
        self.successResultOf(
            IterationProducer(Deferator(ended(*range(MANY))), consumer, Clock()).run()
        )
        assert self.successResultOf(consumer()) == list(range(MANY))

    def test_aConsumerWhoseProcessingFiresFromWithinTheNext(self) -> None:
        class Lagging(ListConsumer):
            last: Deferred[Any] | None = None

            def processItem(self, item: Any) -> Any:
                if self.last is not None:
                    self.last.callback(None)
                self.last = Deferred()
                return self.last

        consumer = Lagging()
        source = ended(*range(MANY))
        d = IterationProducer(Deferator(source), consumer, Clock()).run()
        while source.items:
            assert consumer.last is not None
            last, consumer.last = consumer.last, None
            last.callback(None)
        assert consumer.last is not None
        consumer.last.callback(None)
        self.successResultOf(d)
        assert len(self.successResultOf(consumer())) == MANY
