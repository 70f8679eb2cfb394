from __future__ import annotations

import os
import socket
from pickle import PickleBuffer
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.framing import OpenFrame, encode
from asynqueue._runner.packing import STANDARD, unpack
from asynqueue._runner.pipes import PASSED, PIECES, READS, NearPipe
from asynqueue.errors import ProtocolError

BIG = 8 << 20
"""More bytes than a pipe takes while they are not read."""


class NearPipeCase(SynchronousTestCase):
    """
    A pipe whose far end is in the test's own hands.
    """

    def setUp(self) -> None:
        self.near, self.far = socket.socketpair()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)
        self.pipe = NearPipe(self.near.fileno())
        self.arrived: list[Any] = []

    def sendAll(self, *messages: Any) -> None:
        """
        Send messages from the far end, while the near one reads: each as a frame.
        """
        self.far.setblocking(False)
        for message in messages:
            for piece in encode([message]):
                left = memoryview(piece)
                while left:
                    try:
                        left = left[self.far.send(left) :]
                    except BlockingIOError:
                        self.readOnce()
        self.far.setblocking(True)
        self.readOnce()

    def readOnce(self) -> int:
        """
        Have the near end read, and count the messages that this completed.
        """
        messages = self.pipe.read()
        self.arrived += messages
        return len(messages)

    def drain(self, count: int) -> bytes:
        """
        Read some bytes at the far end, while the near one writes.
        """
        data = bytearray()
        while len(data) < count:
            self.pipe.write()
            data += self.far.recv(min(count - len(data), 1 << 20))
        return bytes(data)


class ReadingTests(NearPipeCase):
    def test_nothingToReadIsNoFrame(self) -> None:
        self.assertEqual(self.pipe.read(), [])
        self.assertFalse(self.pipe.isClosed)

    def test_framesComeInOrder(self) -> None:
        self.sendAll(*[(number,) for number in range(5)])
        self.assertEqual(self.arrived, [(number,) for number in range(5)])

    def test_aFrameThatComesByteForByteIsReadOnce(self) -> None:
        [frame] = encode([(1, "text")])
        for byte in bytes(frame[:-1]):
            self.far.send(bytes([byte]))
            self.assertEqual(self.readOnce(), 0)
        self.far.send(bytes(frame[-1:]))
        self.assertEqual(self.readOnce(), 1)
        self.assertEqual(self.arrived, [(1, "text")])

    def test_aFrameLargerThanThePipeArrivesWhole(self) -> None:
        data = os.urandom(1 << 10) * (BIG >> 10)
        self.sendAll((STANDARD.pack(data),))
        while not self.arrived:
            self.readOnce()
        [(packed,)] = self.arrived
        self.assertEqual(unpack(packed), data)

    def test_whatWasReadIsNotHeld(self) -> None:
        self.far.send(b"".join(encode([(1,)])))
        messages = self.pipe.read()
        self.assertEqual(messages, [(1,)])
        self.assertFalse([value for value in vars(self.pipe).values() if value is messages])

    def test_buffersArePassedOnAsTheyComeAfterTheMessagesBefore(self) -> None:
        passed: list[Any] = []

        def passFrame(before: list[Any], opened: OpenFrame) -> Any:
            passed.append((before, opened.messages()))
            return lambda piece: passed.append(bytes(piece))

        self.pipe = NearPipe(self.near.fileno(), passFrame)
        pieces = b"".join(encode([(2, PickleBuffer(b"a" * 300_000))]))
        self.far.send(b"".join([*encode([(0,)]), *encode([(1,)]), pieces[:400]]))
        self.assertEqual(self.pipe.read(), [])
        self.assertEqual(passed[0], ([(0,), (1,)], [(2, b"")]))
        self.far.send(pieces[400:200_000])
        self.pipe.read()
        sizes = list(map(len, passed[1:]))
        self.assertLess(300_000 - sum(sizes), len(pieces) - 199_999)
        self.assertLessEqual(max(sizes), PASSED)
        self.far.send(b"".join([pieces[200_000:], *encode([(3,)])]))
        self.assertEqual(self.pipe.read(), [(3,)])
        self.assertEqual(b"".join(passed[1:]), b"a" * 300_000)

    def test_aFrameThatNobodyTakesArrivesWhole(self) -> None:
        self.pipe = NearPipe(self.near.fileno(), lambda before, opened: None)
        self.sendAll((1, PickleBuffer(b"a" * 300_000)), (2,))
        while len(self.arrived) < 2:
            self.readOnce()
        self.assertEqual(self.arrived, [(1, b"a" * 300_000), (2,)])

    def test_oneReadEndsThoughThePeerNeverDoes(self) -> None:
        # As much as the system holds at once is put there, again after each read.
        frame = encode([(1, "x" * 60000)])[0]
        self.far.setblocking(False)
        fills = 0

        def fill(*_: Any) -> Any:
            nonlocal fills
            fills += 1
            try:
                while True:
                    self.far.send(frame)
            except BlockingIOError:
                return realRead(*_)

        realRead = os.readv
        self.patch(os, "readv", fill)
        self.pipe.read()
        self.assertLessEqual(fills, READS)

    def test_bytesAreCounted(self) -> None:
        [frame] = encode([(1,)])
        self.far.send(frame)
        self.pipe.read()
        self.assertEqual(self.pipe.transferred, len(frame))


class EndTests(NearPipeCase):
    def test_theEndComesAfterWhatWasSaid(self) -> None:
        self.far.send(encode([(7,)])[0])
        self.far.close()
        self.readOnce()
        self.readOnce()
        self.assertEqual(self.arrived, [(7,)])
        self.assertTrue(self.pipe.isClosed)

    def test_halfAFrameIsDroppedAtTheEnd(self) -> None:
        [frame] = encode([(1, "cut short")])
        self.far.send(frame[: len(frame) // 2])
        self.far.close()
        self.assertEqual(self.pipe.read(), [])
        self.assertEqual(self.pipe.read(), [])
        self.assertTrue(self.pipe.isClosed)

    def test_aLostConnectionIsAnEnd(self) -> None:
        # With something unread at the far end, the near one gets ECONNRESET.
        self.pipe.put(encode([(1,)]))
        self.pipe.write()
        self.far.close()
        self.assertEqual(self.pipe.read(), [])
        self.assertTrue(self.pipe.isClosed)

    def test_noiseIsRefused(self) -> None:
        self.far.send(b"\xff" * 64)
        self.assertRaises(ProtocolError, self.pipe.read)

    def test_writingToNobodyFailsNobody(self) -> None:
        self.far.close()
        self.pipe.put(encode([(1,)]))
        self.pipe.write()
        self.assertFalse(self.pipe.hasOutgoing)

    def test_whatWasSaidIsReadAfterAWriteToNobody(self) -> None:
        self.far.send(encode([(7,)])[0])
        self.far.close()
        self.pipe.put(encode([(1,)]))
        self.pipe.write()
        self.readOnce()
        self.assertEqual(self.arrived, [(7,)])

    def test_closingForgetsWhatWasNotWritten(self) -> None:
        self.pipe.put([b"x" * BIG])
        self.pipe.write()
        self.assertTrue(self.pipe.hasOutgoing)
        self.pipe.close()
        self.assertFalse(self.pipe.hasOutgoing)
        self.assertTrue(self.pipe.isClosed)

    def test_theDescriptorIsLeftToItsOwner(self) -> None:
        self.pipe.close()
        os.fstat(self.near.fileno())


class WritingTests(NearPipeCase):
    def test_nothingLeavesBeforeItIsWritten(self) -> None:
        self.far.setblocking(False)
        self.pipe.put([b"data"])
        self.assertRaises(BlockingIOError, self.far.recv, 1)
        self.pipe.write()
        self.assertEqual(self.far.recv(10), b"data")

    def test_aFullPipeDoesNotBlock(self) -> None:
        self.pipe.put([b"x" * BIG])
        self.pipe.write()
        self.assertTrue(self.pipe.hasOutgoing)
        self.assertLess(self.pipe.transferred, BIG)
        self.pipe.write()
        self.assertTrue(self.pipe.hasOutgoing)

    def test_theRestLeavesAsThePipeTakesIt(self) -> None:
        data = os.urandom(1 << 10) * (BIG >> 10)
        self.pipe.put([b"head", memoryview(data), b"tail"])
        self.assertEqual(self.drain(BIG + 8), b"head" + data + b"tail")
        self.assertFalse(self.pipe.hasOutgoing)
        self.assertEqual(self.pipe.transferred, BIG + 8)

    def test_manyPiecesLeaveInOrder(self) -> None:
        pieces = [b"%06d" % number for number in range(3 * PIECES + 1)]
        self.pipe.put([*pieces])
        self.assertEqual(self.drain(6 * len(pieces)), b"".join(pieces))

    def test_emptyPiecesAreNothingToWaitFor(self) -> None:
        self.pipe.put([b"", memoryview(b"")])
        self.assertFalse(self.pipe.hasOutgoing)

    def test_oneWriteKeepsToItsLimit(self) -> None:
        small = 1 << 10
        self.pipe.put([b"x" * small for _ in range(4 * PIECES)])
        self.pipe.write(limit=1)
        # One go has been made, which takes up to so many pieces.
        self.assertLessEqual(self.pipe.transferred, PIECES * small)
        self.assertTrue(self.pipe.hasOutgoing)

    def test_aLargeBufferIsNotCopied(self) -> None:
        data = bytearray(BIG)
        self.pipe.put([memoryview(data)])
        self.pipe.write()
        # It is still the owner's memory: what is changed before it leaves, leaves changed.
        data[-1] = 7
        self.assertEqual(self.drain(BIG)[-1], 7)


class ThroughThePipeTests(SynchronousTestCase):
    @given(
        st.lists(
            st.one_of(st.integers(), st.text(), st.binary(max_size=300_000)),
            max_size=20,
        )
    )
    def test_whateverGoesInComesOut(self, values: list[Any]) -> None:
        left, right = socket.socketpair()
        with left, right:
            sender, reader = NearPipe(left.fileno()), NearPipe(right.fileno())
            for value in values:
                sender.put(encode([(1, STANDARD.pack(value))]))
            arrived: list[Any] = []
            while len(arrived) < len(values):
                sender.write()
                arrived += reader.read()
            self.assertEqual([unpack(packed) for _, packed in arrived], values)
            self.assertFalse(sender.hasOutgoing)
            self.assertEqual(sender.transferred, reader.transferred)
