from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.framing import FrameDecoder, decode, encode
from asynqueue._runner.messages import Message
from asynqueue._runner.packing import STANDARD, unpack
from asynqueue._runner.pipes import FarPipe, NearPipe
from asynqueue._runner.processmain import NUDGE

BIG = 4 << 20


class FarPipeTests(SynchronousTestCase):
    """
    The child's end of the pipe, with the parent's end at its side.
    """

    def setUp(self) -> None:
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.near, self.nearEnd = near, NearPipe(near.fileno())
        self.pipe = FarPipe(far.fileno())

    def test_whatIsPostedArrives(self) -> None:
        for number in range(3):
            self.pipe.post((1, number))
        messages = self.nearEnd.read()
        self.assertEqual(messages, [(1, 0), (1, 1), (1, 2)])

    def test_aLargeMessageIsWrittenToItsLastByte(self) -> None:
        data = os.urandom(1 << 10) * (BIG >> 10)
        posting = threading.Thread(target=self.pipe.post, args=((1, STANDARD.pack(data)),))
        posting.start()
        messages: list[Message] = []
        while not messages:
            messages = self.nearEnd.read()
        posting.join()
        [(_, packed)] = messages
        self.assertEqual(unpack(packed), data)

    def test_readingWaitsForNothingWhereThereIsInput(self) -> None:
        self.assertFalse(self.pipe.hasInput())
        self.near.send(encode([(1,), (2,)])[0])
        self.assertTrue(self.pipe.hasInput())
        self.assertEqual(self.pipe.read(), [(1,), (2,)])
        self.assertFalse(self.pipe.hasInput())

    def test_halfAMessageIsNoneYet(self) -> None:
        [frame] = encode([(1, "text")])
        self.near.send(frame[:7])
        self.assertEqual(self.pipe.read(), [])
        self.near.send(frame[7:])
        self.assertEqual(self.pipe.read(), [(1, "text")])

    def test_theParentsEndIsTheEnd(self) -> None:
        self.near.close()
        self.assertTrue(self.pipe.hasInput())
        self.assertEqual(self.pipe.read(), [])
        self.assertTrue(self.pipe.isClosed)

    def test_postingToNobodyRaises(self) -> None:
        self.near.close()
        self.assertRaises((BrokenPipeError, ConnectionResetError), self.pipe.post, (1,))


class PostingTests(SynchronousTestCase):
    """
    The far end of a real pipe, whose near end reads slowly.
    """

    def setUp(self) -> None:
        assert NUDGE is not None
        self.nudge = NUDGE
        self.addCleanup(signal.signal, NUDGE, signal.getsignal(NUDGE))
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.near, self.pipe = near, FarPipe(far.fileno())

    def heard(self, count: int) -> list[Message]:
        """
        @return: the first messages that arrive.
        """
        decoder = FrameDecoder()
        messages: list[Message] = []
        while len(messages) < count:
            with decoder.space() as space:
                size = self.near.recv_into(space)
            for segments in decoder.filled(size):
                messages += decode(segments)
        return messages

    def test_messagesOfSeveralThreadsDoNotMix(self) -> None:
        count, text = 50, "x" * 30_000

        def postMany(name: int) -> None:
            for number in range(count):
                self.pipe.post((name, number, text))

        threads = [threading.Thread(target=postMany, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        messages = self.heard(3 * count)
        for thread in threads:
            thread.join()
        for name in range(3):
            own = [message for message in messages if message[0] == name]
            self.assertEqual(own, [(name, number, text) for number in range(count)])

    def test_whatTheGarbageCollectorSaysInTheMiddleOfAMessageFollowsIt(self) -> None:
        write = self.pipe._write
        left = 3

        def collecting(pieces: Any) -> None:
            nonlocal left
            if left:
                left -= 1
                self.pipe.post(("garbage", left))
            write(pieces)

        self.pipe._write = collecting  # type: ignore[method-assign]
        self.pipe.post(("around",))
        self.assertEqual(
            self.heard(4), [("around",), ("garbage", 2), ("garbage", 1), ("garbage", 0)]
        )

    def test_itDoesSoInOtherThreadsToo(self) -> None:
        write = self.pipe._write
        hasCollected = False

        def collecting(pieces: Any) -> None:
            nonlocal hasCollected
            if not hasCollected:
                hasCollected = True
                self.pipe.post(("garbage",))
            write(pieces)

        self.pipe._write = collecting  # type: ignore[method-assign]
        thread = threading.Thread(target=self.pipe.post, args=(("around",),), daemon=True)
        thread.start()
        thread.join(20)
        self.assertEqual(self.heard(2), [("around",), ("garbage",)])

    def test_aSignalIsHeldBackUntilTheOutermostMessageIsWritten(self) -> None:
        order: list[object] = []

        def nudged(number: int, frame: object) -> None:
            order.append("held back" if self.pipe.holdsBack(number) else "heeded")

        signal.signal(self.nudge, nudged)
        write = self.pipe._write

        def collecting(pieces: Any) -> None:
            if not order:
                signal.raise_signal(self.nudge)
                self.pipe.post(("within",))
                order.append("written")
            write(pieces)

        self.pipe._write = collecting  # type: ignore[method-assign]
        self.pipe.post(("around",))
        self.assertEqual(order, ["held back", "written", "heeded"])
        self.assertEqual(self.heard(2), [("around",), ("within",)])

    def test_aSignalDuringAMessageIsRaisedAgainAfterIt(self) -> None:
        order: list[object] = []

        def nudged(number: int, frame: object) -> None:
            if self.pipe.holdsBack(number):
                order.append("held back")
            else:
                order.append("heeded")
                self.pipe.post(("within",))

        signal.signal(self.nudge, nudged)
        write = self.pipe._write

        def interrupted(pieces: Any) -> None:
            if not order:
                signal.raise_signal(self.nudge)
            write(pieces)

        self.pipe._write = interrupted  # type: ignore[method-assign]
        self.pipe.post(("around",))
        self.assertEqual(order, ["held back", "heeded"])
        self.assertEqual(self.heard(2), [("around",), ("within",)])
