"""
Writing to pipes: all bytes, in order, whenever there is room, and never waiting in the call.
"""

from __future__ import annotations

import os
import select

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mcmandelbrot.writer import writeWhenReady


class PipeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.reading, self.writing = os.pipe()
        self.addCleanup(self.closeBoth)

    def closeBoth(self) -> None:
        for descriptor in {self.reading, self.writing} - {-1}:
            os.close(descriptor)

    def closeReading(self) -> None:
        os.close(self.reading)
        self.reading = -1

    def hasRoom(self) -> bool:
        return bool(select.select([], [self.writing], [], 0)[1])

    def letWrite(self) -> None:
        """
        Say that there is room as long as there is room.
        """
        while self.reactor.getWriters() and self.hasRoom():
            (writer,) = self.reactor.getWriters()
            self.assertEqual(writer.fileno(), self.writing)
            writer.doWrite()

    def test_allIsWrittenHoweverLittleRoomThereIs(self) -> None:
        data = os.urandom(300_000)
        d = writeWhenReady(self.writing, data, self.reactor)
        arrived = b""
        while self.reactor.getWriters():
            self.letWrite()
            arrived += os.read(self.reading, 50_000)
        self.assertIsNone(self.successResultOf(d))
        os.close(self.writing)
        self.writing = -1
        while portion := os.read(self.reading, 1_000_000):
            arrived += portion
        self.assertEqual(arrived, data)

    def test_fullPipeIsWaitedFor(self) -> None:
        d = writeWhenReady(self.writing, bytes(1_000_000), self.reactor)
        self.letWrite()
        self.assertFalse(self.hasRoom())
        self.assertNoResult(d)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_pipeThatIsNotReadyAfterAllIsWaitedFor(self) -> None:
        os.set_blocking(self.writing, False)
        d = writeWhenReady(self.writing, bytes(1_000_000), self.reactor)
        self.letWrite()
        (writer,) = self.reactor.getWriters()
        writer.doWrite()
        self.assertNoResult(d)
        d.cancel()
        self.failureResultOf(d, CancelledError)

    def test_writingAfterTheReaderLeftFails(self) -> None:
        self.closeReading()
        d = writeWhenReady(self.writing, b"data", self.reactor)
        self.letWrite()
        self.failureResultOf(d, BrokenPipeError)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_readerThatTheReactorSeesLeaveFails(self) -> None:
        d = writeWhenReady(self.writing, b"data", self.reactor)
        (writer,) = self.reactor.getWriters()
        writer.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(d, BrokenPipeError)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_whatIsNoPipeIsWrittenAtOnce(self) -> None:
        path = self.mktemp()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        d = writeWhenReady(descriptor, b"data", self.reactor)
        self.assertIsNone(self.successResultOf(d))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"data")

    def test_reactorThatWatchesNothingIsNotAsked(self) -> None:
        d = writeWhenReady(self.writing, b"data", object())
        self.assertIsNone(self.successResultOf(d))
        self.assertEqual(os.read(self.reading, 100), b"data")
