"""
The channel to a runner behind a server, with a server that the test plays.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.messages import QUIT
from asynqueue._workers.wire.channel import OVER, WireChannel
from asynqueue._workers.wire.conversation import LEAVE, SECURE, SHAKING
from asynqueue._workers.wire.handshake import Attach, Hello, Welcome, encodeWish
from asynqueue._workers.wire.records import SIGNAL, WELCOME, Record
from asynqueue.errors import ConnectionLost


class Link:
    """
    A connection that has come through the handshake.
    """

    def __init__(self) -> None:
        self.handshake = SimpleNamespace(peer=Hello())
        self.heard: Any = None
        self.isFull = self.isFinished = False
        self.state = SECURE
        self.written: list[tuple[Any, ...]] = []

    def write(self, kind: int, *parts: bytes) -> None:
        self.written.append((kind, *parts))

    def settled(self) -> None:
        pass

    def finish(self) -> None:
        self.isFinished = True

    def abort(self, reason: Exception) -> None:
        self.finish()


class EndTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.losses: list[Exception] = []
        self.link = Link()
        receiver = SimpleNamespace(lost=self.losses.append)
        dialer: Any = SimpleNamespace(
            reactor=self.clock,
            hello=Hello(),
            address="tcp:127.0.0.1:7411",
            connect=self.connect,
            succeeded=lambda peer: None,
        )
        self.channel = WireChannel(dialer, Attach("client"))
        self.channel.open(receiver)
        self.clock.advance(0)
        self.secured(self.link)
        self.attempt.callback(self.link)

    def connect(self, secured: Any, closed: Any) -> Deferred[Any]:
        self.secured = secured
        self.attempt: Deferred[Any] = Deferred()
        return self.attempt

    def welcome(self) -> None:
        self.link.heard(Record(WELCOME, encodeWish(Welcome("session", 0))))

    def assertEnds(self) -> None:
        """
        Check that the channel ends although it is welcomed now.
        """
        self.welcome()
        self.clock.advance(0)
        self.assertEqual(self.channel.state, OVER)
        [loss] = self.losses
        self.assertIsInstance(loss, ConnectionLost)
        self.assertEqual(self.link.written[-1], (SIGNAL, bytes([LEAVE])))
        self.assertTrue(self.link.isFinished)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aWelcomeAfterTheQuitDoesNotBringItBack(self) -> None:
        self.channel.send([(QUIT,)])
        self.assertEnds()

    def test_aWelcomeAfterTheKillDoesNotBringItBack(self) -> None:
        self.channel.kill()
        self.channel.kill()
        self.assertEnds()

    def test_aServerThatAnswersLaterHearsThatTheSessionIsNotWanted(self) -> None:
        self.channel.kill()
        self.clock.advance(0)
        self.assertEqual(self.channel.state, OVER)
        self.assertFalse(self.link.isFinished)
        self.assertEnds()

    def test_aHandshakeThatIsNotOverIsAborted(self) -> None:
        self.link.state = SHAKING
        self.channel.kill()
        self.clock.advance(0)
        self.assertTrue(self.link.isFinished)
