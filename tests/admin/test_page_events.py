"""
How browsers hear that what they show has changed.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from asynqueue.admin._events import MOST
from tests.admin.pages import HOST, PageCase, Wire

CHANGED = b"event: changed"


class EventTests(PageCase):
    def setUp(self) -> None:
        super().setUp()
        self.queue = self.makeQueue(self.makeWorker())
        self.other = self.makeQueue()
        self.settle()
        self.queue.pause()
        self.page = self.serve(self.queue, self.other)

    def listen(self, path: str = "/events") -> tuple[Any, Wire]:
        """
        @return: the server's end of a connection, and that of a browser that listens.
        """
        channel, wire = self.connect()
        channel.dataReceived(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        self.clock.advance(0)
        self.addCleanup(self.leave, channel)
        return channel, wire

    def leave(self, channel: Any) -> None:
        if channel.transport.connected:
            channel.transport.connected = False
            channel.connectionLost(Failure(ConnectionDone()))

    def told(self, wire: Wire) -> int:
        """
        @return: how often a browser was told that something has changed, since the last time.
        """
        told: int = wire.value().count(CHANGED)
        wire.clear()
        return told

    def put(self) -> None:
        self.queue.call(len, "abc").addErrback(lambda _: None)

    def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    def test_aBrowserIsToldOfAChangeWithinAQuarterOfASecond(self) -> None:
        _, wire = self.listen()
        self.assertIn(b"Content-Type: text/event-stream", wire.value())
        self.pass_(0.5)
        self.assertEqual(self.told(wire), 0)
        self.put()
        self.pass_(0.25)
        self.assertEqual(self.told(wire), 1)

    def test_manyChangesAreToldTogether(self) -> None:
        _, wire = self.listen()
        self.pass_(0.5)
        for _ in range(100):
            self.put()
            self.clock.advance(0.01)
        self.assertIn(self.told(wire), (3, 4, 5))

    def test_whatIsAtRestIsToldEverySeconds(self) -> None:
        self.queue.resume()
        _, wire = self.listen()
        self.pass_(0.5)
        self.told(wire)
        self.pass_(10)
        self.assertEqual(self.told(wire), 2)

    def test_whatWaitsIsToldEachSecond(self) -> None:
        self.put()
        _, wire = self.listen()
        self.pass_(0.5)
        self.told(wire)
        self.pass_(10)
        self.assertEqual(self.told(wire), 10)

    def test_onlyTheQueueThatIsShownIsTold(self) -> None:
        _, wire = self.listen("/events/queue/here/TaskQueue-2")
        _, both = self.listen()
        self.pass_(0.5)
        self.put()
        self.pass_(0.3)
        self.assertEqual((self.told(wire), self.told(both)), (0, 1))

    def test_aBrowserThatDoesNotReadIsToldNothingAndThenDropped(self) -> None:
        channel, wire = self.listen()
        self.pass_(0.5)
        channel.pauseProducing()
        self.put()
        self.pass_(5)
        self.assertEqual(self.told(wire), 0)
        channel.resumeProducing()
        self.pass_(6)
        self.assertFalse(wire.aborting)
        self.assertGreater(self.told(wire), 0)
        channel.pauseProducing()
        self.pass_(10.1)
        self.assertTrue(wire.aborting)

    def test_nothingIsLookedAtWhenTheLastBrowserHasGone(self) -> None:
        channel, _ = self.listen()
        other, _ = self.listen()
        self.leave(channel)
        self.pass_(0.5)
        self.leave(other)
        looks: list[int] = []
        assert self.page is not None
        self.patch(self.page._programs, "look", lambda: looks.append(1))
        self.pass_(3)
        self.assertEqual(looks, [])

    def test_onlySoManyBrowsersMayListen(self) -> None:
        for _ in range(MOST):
            self.listen()
        _, wire = self.listen()
        self.assertTrue(wire.value().startswith(b"HTTP/1.1 503 "))

    def test_aHeadIsNotKeptWaiting(self) -> None:
        answer = self.send("HEAD", "/events")
        self.assertEqual((answer.code, answer.body), (200, ""))
        assert self.page is not None
        self.assertEqual(self.page._events.state, "IDLE")

    def test_closingThePageEndsTheAnswers(self) -> None:
        _, wire = self.listen()
        assert self.page is not None
        self.page.close()
        self.assertTrue(wire.value().endswith(b"0\r\n\r\n"))

    def test_twoLooksNeverOverlap(self) -> None:
        _, wire = self.listen()
        self.pass_(0.5)
        later: Deferred[Any] = Deferred()
        asked: list[int] = []
        assert self.page is not None
        look = self.page._programs.look

        def slow() -> Deferred[Any]:
            asked.append(1)
            return later.addCallback(lambda _: look())

        self.patch(self.page._programs, "look", slow)
        self.pass_(3)
        self.assertEqual(len(asked), 1)
        self.put()
        later.callback(None)
        self.assertEqual(self.told(wire), 1)
