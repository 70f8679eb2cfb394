"""
The channel to a runner behind a server, with a server that the test plays.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.framing import encode
from asynqueue._runner.messages import QUIT, UNBEGUN
from asynqueue._workers.wire.channel import KILL_SECONDS, OVER, WireChannel
from asynqueue._workers.wire.conversation import DRAINING, LEAVE, SECURE, SHAKING
from asynqueue._workers.wire.handshake import Attach, Hello, Welcome, encodeWish
from asynqueue._workers.wire.records import DATA, SIGNAL, WELCOME, Record
from asynqueue.errors import ConnectionLost, WorkerRecycled


class Link:
    """
    A connection that has come through the handshake.
    """

    def __init__(self) -> None:
        self.handshake = SimpleNamespace(peer=Hello())
        self.heard: Any = None
        self.heardAll: Any = None
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
        self.heard: list[Any] = []
        receiver = SimpleNamespace(
            lost=self.losses.append,
            received=self.heard.append,
            retire=lambda reason: self.heard.append(("retired", type(reason))),
        )
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

    def test_whatTheServerSaysItselfMayComeBetweenMessagesOfTheRunner(self) -> None:
        self.welcome()
        frames = ([(DRAINING,)], [(UNBEGUN, [1])], [(DRAINING,), (UNBEGUN, [2])])
        body = b"".join(piece for frame in frames for piece in encode(frame))
        self.link.heard(Record(DATA, struct.pack("<QQQ", 0, 0, 0) + body))
        self.link.heardAll()
        retired = ("retired", WorkerRecycled)
        self.assertEqual(self.heard, [retired, [(UNBEGUN, [1])], retired, [(UNBEGUN, [2])]])
        self.channel.kill()
        self.clock.advance(KILL_SECONDS)

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
