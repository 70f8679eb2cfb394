"""
What one client of the admin socket can do, and cannot.
"""

from __future__ import annotations

import json
import random
from typing import Any

from twisted.internet.testing import StringTransport

from asynqueue.admin.server import CLOSED, LONGEST_LINE, SLOW_SECONDS, AdminConnection
from tests.admin.cases import AdminCase


class Transport(StringTransport):
    """
    Tells its producer when it holds more bytes than it should.
    """

    full = 1 << 16

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) > self.full and self.producer is not None:
            self.producer.pauseProducing()

    def take(self) -> bytes:
        """
        Have the client read everything.
        """
        data: bytes = self.value()
        self.clear()
        if self.producer is not None:
            self.producer.resumeProducing()
        return data


class ConnectionTests(AdminCase):
    def setUp(self) -> None:
        super().setUp()
        self.queue = self.makeQueue()
        self.admin = self.queue.admin()
        self.connection, self.transport = self.connect()
        self.transport.take()

    def connect(self) -> tuple[AdminConnection, Transport]:
        connection = AdminConnection(self.admin.api, self.clock, "a test")
        transport = Transport()
        connection.makeConnection(transport)
        self.addCleanup(self.lose, connection)
        return connection, transport

    def lose(self, connection: AdminConnection) -> None:
        if connection.connected:
            connection.connected = 0
            connection.connectionLost()

    def send(self, data: bytes, turns: int = 5) -> list[Any]:
        """
        @return: the replies.
        """
        self.connection.dataReceived(data)
        for _ in range(turns):
            self.clock.advance(0)
        return [json.loads(line) for line in self.transport.take().splitlines()]

    def test_aClientIsGreetedWithProgramAndVersion(self) -> None:
        _, transport = self.connect()
        greeting = json.loads(transport.value())
        self.assertEqual((greeting["api"], greeting["queues"]), (1, ["TaskQueue"]))
        self.assertIsInstance(greeting["pid"], int)

    def test_eachLineIsAnsweredInItsOrder(self) -> None:
        lines = b"".join(b'{"id": %d, "do": "queues"}\n' % number for number in range(3))
        replies = self.send(lines)
        self.assertEqual([reply["id"] for reply in replies], [0, 1, 2])

    def test_aLineMayComeInPieces(self) -> None:
        line = b'{"do": "queues"}\n'
        for index in range(len(line) - 1):
            self.assertEqual(self.send(line[index : index + 1], 1), [])
        [reply] = self.send(b"\n")
        self.assertTrue(reply["ok"])

    def test_garbageIsRefusedAndTheNextLineAnswered(self) -> None:
        order = random.Random(7)
        for line in [
            b"",
            b"pause",
            b"{",
            b"\xff\xfe\x00",
            b"[" * 30_000,
            b'{"do": "pause", "queue": ' + b"9" * 6000 + b"}",
            b'{"do": NaN}',
            *(order.randbytes(50).replace(b"\n", b"") for _ in range(50)),
        ]:
            [reply] = self.send(line + b"\n")
            self.assertFalse(reply["ok"], line)
        [reply] = self.send(b'{"do": "queues"}\n')
        self.assertTrue(reply["ok"])
        self.assertFalse(self.queue.paused)

    def test_anIdThatJSONCannotExpressIsRefused(self) -> None:
        [reply] = self.send(b'{"do": "queues", "id": NaN}\n')
        self.assertFalse(reply["ok"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_aGiantLineEndsTheConnection(self) -> None:
        [reply] = self.send(b"x" * (LONGEST_LINE + 1))
        self.assertIn("bytes", reply["error"])
        self.assertEqual(self.connection.state, CLOSED)
        self.assertTrue(self.transport.disconnecting)

    def test_onlyOneRequestIsAnsweredInATurn(self) -> None:
        self.connection.dataReceived(b'{"do": "queues"}\n' * 1000)
        [turn] = self.clock.getDelayedCalls()
        self.clock.calls.clear()
        turn.func()
        self.assertEqual(self.transport.value().count(b"\n"), 1)
        self.assertEqual(self.transport.producerState, "paused")

    def test_aSlowReaderIsAnsweredNoMoreAndThenDropped(self) -> None:
        for _ in range(100):
            self.queue.call(len, "abc").addErrback(lambda _: None)
        self.connection.dataReceived(b'{"do": "snapshot", "size": 100}\n' * 1000)
        for _ in range(50):
            self.clock.advance(0)
        held = len(self.transport.value())
        self.assertLess(held, 2 * Transport.full)
        self.clock.advance(SLOW_SECONDS - 1)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(1)
        self.assertEqual(self.connection.state, CLOSED)
        self.assertEqual(len(self.transport.value()), held)

    def test_aReaderThatCatchesUpIsAnsweredOn(self) -> None:
        for _ in range(100):
            self.queue.call(len, "abc").addErrback(lambda _: None)
        self.connection.dataReceived(b'{"do": "snapshot", "size": 100}\n' * 20)
        replies = 0
        for _ in range(100):
            self.clock.advance(0)
            replies += self.transport.take().count(b"\n")
        self.assertEqual(replies, 20)

    def test_aClientThatGoesIsObservedNoMore(self) -> None:
        self.assertEqual(len(self.queue._engine.observers.observers), 1)
        self.connection.dataReceived(b'{"do": "queues"}\n')
        self.lose(self.connection)
        self.assertEqual(self.queue._engine.observers.observers, ())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_anAnswerThatComesAfterTheClientHasGoneIsDropped(self) -> None:
        self.connection.dataReceived(b'{"do": "cancel", "all": true}\n')
        self.clock.advance(0)
        self.transport.clear()
        self.lose(self.connection)
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"")
