"""
Blocking iterators between real threads and a real reactor.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from asynqueue import ThreadQueue
from asynqueue._reactor import defaultReactor
from asynqueue.errors import NotReadyError
from asynqueue.iteration import (
    Consumerator,
    Deferator,
    Filerator,
    IterationProducer,
    OrderedItemProducer,
)

MANY = 5000

#: Seconds for a program.
PATIENCE = 30


class BridgesTests(TestCase):
    timeout = 20

    @inlineCallbacks
    def test_aThreadIteratesOverWhatAProducerWrites(self) -> Any:
        consumerator = Consumerator(window=8)
        done = consumerator.deferUntilDone()
        listed = deferToThread(list, consumerator)
        yield IterationProducer(Deferator(iter(range(MANY))), consumerator).run()
        self.assertEqual((yield listed), list(range(MANY)))
        self.assertIsNone((yield done))

    @inlineCallbacks
    def test_aThreadThatLeavesEarlyStopsTheProducer(self) -> Any:
        consumerator = Consumerator(window=8)

        def takeThree() -> list[Any]:
            items = [next(consumerator) for _ in range(3)]
            consumerator.stop()
            return items

        taken = deferToThread(takeThree)
        deferator = Deferator(iter(range(10**9)))
        yield IterationProducer(deferator, consumerator).run()
        self.assertEqual((yield taken), [0, 1, 2])
        self.assertFalse((yield deferator.d))
        yield consumerator.deferUntilDone()

    @inlineCallbacks
    def test_waitingInTheReactorsThreadIsRefused(self) -> Any:
        consumerator, filerator = Consumerator(), Filerator()
        # From a reactor's turn.
        turn: Deferred[None] = Deferred()
        defaultReactor().callLater(0, turn.callback, None)
        yield turn
        self.assertRaises(NotReadyError, next, consumerator)
        self.assertRaises(NotReadyError, next, filerator)
        yield deferToThread(consumerator.stop)
        yield deferToThread(filerator.stop)

    @inlineCallbacks
    def test_aFullFileratorHoldsUpTheWritingThread(self) -> Any:
        filerator = Filerator(window=2)
        longest = [0]

        def write() -> None:
            with filerator:
                for number in range(MANY):
                    filerator.write(number)
                    longest[0] = max(longest[0], len(filerator._buffer))

        written = deferToThread(write)
        self.assertEqual((yield deferToThread(list, filerator)), list(range(MANY)))
        yield written
        self.assertLessEqual(longest[0], 2)
        yield filerator.deferUntilDone()

    @inlineCallbacks
    def test_stoppingReleasesAThreadThatWaitsToWrite(self) -> Any:
        filerator = Filerator(window=1)
        filerator.write(0)
        isWriting = threading.Event()

        def write() -> None:
            isWriting.set()
            filerator.write(1)

        written = deferToThread(write)
        yield deferToThread(isWriting.wait, 10)
        yield deferToThread(filerator.stop)
        yield self.assertFailure(written, BrokenPipeError)

    @inlineCallbacks
    def test_aFileratorIsTheResultOfATaskInAThread(self) -> Any:
        def table(rows: int) -> Filerator:
            filerator = Filerator(window=4)

            def write() -> None:
                with filerator:
                    for row in range(rows):
                        filerator.write(b"%d\n" % row)

            threading.Thread(target=write, daemon=True).start()
            return filerator

        queue = ThreadQueue(1)
        try:
            deferator = yield queue.call(table, 100)
            got = []
            for d in deferator:
                got.append((yield d))
            self.assertEqual(got, [b"%d\n" % row for row in range(100)])
        finally:
            yield queue.shutdown()

    @inlineCallbacks
    def test_aStreamThatIsStoppedEndsTheWriting(self) -> Any:
        ends: list[threading.Thread] = []
        errors: list[BaseException] = []

        def endless() -> Filerator:
            filerator = Filerator(window=4)

            def write() -> None:
                try:
                    while True:
                        filerator.write(b"x")
                except (ValueError, BrokenPipeError) as error:
                    errors.append(error)

            ends.append(threading.Thread(target=write, daemon=True))
            ends[0].start()
            return filerator

        queue = ThreadQueue(1)
        try:
            deferator = yield queue.call(endless)
            for d in deferator:
                self.assertEqual((yield d), b"x")
                deferator.stop()
                break
            yield deferToThread(ends[0].join, 10)
            self.assertEqual(len(errors), 1)
        finally:
            yield queue.shutdown()

    @inlineCallbacks
    def test_aThreadGetsItemsInOrderHoweverTheyArrive(self) -> Any:
        producer = OrderedItemProducer(window=3)
        yield producer.start(list)

        def later(number: int) -> Deferred[int]:
            d: Deferred[int] = Deferred()
            delay = 0.001 * (number * 7 % 5)
            defaultReactor().callLater(delay, d.callback, number)
            return d

        for number in range(50):
            producer.produceItem(later, number)
        self.assertEqual((yield producer.stop()), list(range(50)))

    @inlineCallbacks
    def test_aFunctionsErrorIsTheOutcome(self) -> Any:
        def fail(i: Consumerator) -> None:
            next(i)
            raise ZeroDivisionError

        producer = OrderedItemProducer()
        yield producer.start(fail)
        yield producer.produceItem(lambda: 1)
        yield self.assertFailure(producer.stop(), ZeroDivisionError)


STOPPED = """
from twisted.internet import reactor, threads
from asynqueue.errors import IterationStopped
from asynqueue.iteration import {name}

bridge = {name}()

def iterate():
    reactor.callFromThread(reactor.stop)
    try:
        next(bridge)
    except IterationStopped:
        print("ended")

reactor.callWhenRunning(threads.deferToThread, iterate)
reactor.run()
"""

HANGING = """
import threading
from twisted.internet import reactor
from asynqueue.iteration import OrderedItemProducer

producer = OrderedItemProducer()
d = producer.start(lambda i: threading.Event().wait())
d.addCallback(lambda _: reactor.stop())
reactor.run()
print("ended")
"""


@pytest.mark.parametrize(
    "program",
    [STOPPED.format(name="Consumerator"), STOPPED.format(name="Filerator"), HANGING],
    ids=["Consumerator", "Filerator", "hanging function"],
)
def test_theProgramEndsWithItsReactor(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
