from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from asynqueue._reactor import defaultReactor
from asynqueue._runner.framing import encode
from asynqueue._runner.messages import CALL, HELLO, QUIT, RETURNED, VERSION, Message
from asynqueue._runner.packing import STANDARD
from asynqueue._workers.launch import SLOT_SECONDS, Launcher
from asynqueue._workers.processchannel import PipeChannel
from asynqueue.errors import WorkerDied, WorkerStartError
from asynqueue.interfaces import IChannel
from asynqueue.testing import far
from asynqueue.tools.delay import Delay
from tests.integration import tasks
from tests.support.processes import BrokenStart, PollingReactor, ProcessTestCase, countFds


class Receiver:
    """
    Notes what a channel tells it.

    @ivar over: fires with the reason when the channel is lost.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.over: Deferred[Exception] = Deferred()

    def received(self, messages: list[Message]) -> None:
        """
        Note them.
        """
        self.messages += messages

    def lost(self, reason: Exception) -> None:
        """
        The end, of which there is one.
        """
        self.over.callback(reason)


class PipeChannelTests(ProcessTestCase):
    """
    One channel, without a worker.
    """

    def makeReactor(self) -> Any:
        return defaultReactor()

    def open(self, context: Any = None) -> PipeChannel:
        reactor = self.makeReactor()
        self.receiver = Receiver()
        # A launcher of its own, because children of an earlier test may still be starting.
        channel = PipeChannel(
            reactor, Delay(reactor=reactor), context=context, launcher=Launcher(reactor)
        )
        channel.open(self.receiver)
        # This starts the child now, although the turn may have no time left for it.
        self.assertIsNotNone(channel.process)
        return channel

    async def test_itProvidesIChannel(self) -> None:
        channel = self.open()
        verifyObject(IChannel, channel)
        channel.kill()
        await self.receiver.over

    async def test_whatIsSentWithinAFrameWaitsUntilItIsWhole(self) -> None:
        channel = self.open()
        value = bytearray(1 << 20)
        call = (CALL, 1, STANDARD.pack(len), STANDARD.pack(((value,), {})), False, None)
        head, body, buffer = encode([call])
        await self.until(lambda: self.receiver.messages)
        self.assertTrue(channel.beginFrame([head, body], len(value)))
        channel.send([(CALL, 2, STANDARD.pack(far.echo), (5,), False, None)])
        view = memoryview(buffer)
        for start in range(0, len(value), 100_000):
            channel.continueFrame(view[start : start + 100_000])
        await self.until(lambda: len(self.receiver.messages) >= 3)
        answers = [(*each[:2], each[3]) for each in self.receiver.messages[1:]]
        self.assertEqual(answers, [(RETURNED, 1, len(value)), (RETURNED, 2, 5)])
        channel.send([(QUIT,)])
        await self.receiver.over
        self.assertFalse(channel.beginFrame([head, body], len(value)))

    async def test_aLargeMessageIsLetGoWhenItWasWritten(self) -> None:
        channel = self.open()
        await self.until(lambda: self.receiver.messages)
        value = bytearray(4 << 20)
        channel.send([(CALL, 1, STANDARD.pack(len), STANDARD.pack(((value,), {})), False, None)])
        with self.assertRaises(BufferError):
            # It is being sent from where it is.
            value.clear()
        await self.until(lambda: len(self.receiver.messages) == 2)
        value.clear()
        channel.send([(QUIT,)])
        await self.receiver.over

    async def test_nothingIsHeardFromWithinOpenOrSend(self) -> None:
        channel = self.open()
        self.assertEqual(self.receiver.messages, [])
        await self.until(lambda: self.receiver.messages)
        channel.send([(CALL, 1, STANDARD.pack(far.echo), (5,), False, None)])
        # Whatever the child has answered meanwhile.
        for _ in range(3):
            tasks.sleepOr(0.01)
            before = list(self.receiver.messages)
            channel.send([(QUIT,)])
            self.assertEqual(self.receiver.messages, before)
        self.assertFalse(self.receiver.over.called)
        await self.receiver.over

    async def test_messagesGoBothWaysUntilTheEnd(self) -> None:
        channel = self.open()
        channel.send([(CALL, 1, STANDARD.pack(far.echo), (5,), False, None)])
        await self.until(lambda: len(self.receiver.messages) == 2)
        channel.send([(QUIT,)])
        reason = await self.receiver.over
        [hello, returned] = self.receiver.messages
        self.assertEqual(hello[:3], (HELLO, channel.pid, VERSION))
        self.assertEqual((returned[0], returned[1], returned[3]), (RETURNED, 1, 5))
        assert isinstance(reason, WorkerDied)
        self.assertEqual((reason.pid, reason.exitCode, reason.signal), (channel.pid, 0, None))

    async def test_itTellsWhatHasBegun(self) -> None:
        channel = self.open()
        self.assertEqual(channel.lastBegun, 0)
        path = self.makeFolder() / "runs"
        arguments = (str(path), tasks.sleepAwhile)
        channel.send(
            [
                (
                    CALL,
                    7,
                    STANDARD.pack(tasks.touchAnd),
                    STANDARD.pack((arguments, {})),
                    False,
                    None,
                ),
                (CALL, 8, STANDARD.pack(far.echo), (5,), False, None),
            ]
        )
        await self.until(path.exists)
        self.assertEqual(channel.lastBegun, 7)
        channel.kill()
        await self.receiver.over
        self.assertEqual(channel.lastBegun, 7)

    async def test_aChildThatSaidNothingWasNeverThere(self) -> None:
        channel = self.open()
        channel.kill()
        reason = await self.receiver.over
        if not self.receiver.messages:
            self.assertIsInstance(reason, WorkerStartError)

    async def test_afterTheEndNothingIsSentOrKilled(self) -> None:
        channel = self.open()
        channel.kill()
        await self.receiver.over
        self.patch(os, "kill", lambda *_: self.fail("another process may have this ID now"))
        self.patch(os, "writev", lambda *_: self.fail("another file may have this descriptor"))
        channel.send([(QUIT,)])
        channel.nudge()
        channel.terminate()
        channel.kill()
        self.assertIsNone(channel.residentKilobytes())
        self.assertEqual(channel.process.exitcode, -signal.SIGKILL)

    def makeChannel(self, isBroken: bool = True, limit: int = 2) -> PipeChannel:
        """
        Make a channel that is not open yet. C{self.launcher} says when its child is started.

        @param isBroken: whether the system refuses to start the child.
        @param limit: how many children may be starting at a time.
        """
        context: Any = BrokenStart() if isBroken else None
        if isBroken:
            context.refusals = 1
        # In the turns of a clock there is always time left, whatever other tests have just done.
        self.clock = Clock()
        self.launcher = Launcher(self.clock, limit)
        return PipeChannel(defaultReactor(), Delay(), context=context, launcher=self.launcher)

    async def test_aChildThatCannotBeStartedInALaterTurnTellsIt(self) -> None:
        before = countFds()
        channel = self.makeChannel(limit=1)
        self.launcher.ask(lambda: None)
        receiver = Receiver()
        channel.open(receiver)
        self.clock.advance(SLOT_SECONDS)
        reason = await receiver.over
        self.assertIsInstance(reason, WorkerStartError)
        self.assertIn("Exec format error", str(reason))
        self.assertEqual(countFds(), before)

    async def test_aChildThatCannotBeStartedLeavesNothing(self) -> None:
        before = countFds()
        channel = self.makeChannel()
        with self.assertRaises(WorkerStartError) as caught:
            channel.open(Receiver())
        self.assertIn("Exec format error", str(caught.exception))
        self.assertEqual(countFds(), before)
        self.patch(os, "kill", lambda *_: self.fail("there is nothing to kill"))
        self.patch(os, "writev", lambda *_: self.fail("there is nothing to write to"))
        channel.send([(QUIT,)])
        channel.nudge()
        channel.terminate()
        channel.kill()
        self.assertEqual((channel.pid, channel.lastBegun), (None, 0))
        self.assertIsNone(channel.residentKilobytes())

    async def test_withoutDescriptorsItSaysSo(self) -> None:
        before = countFds()

        def refuse(*_: Any) -> Any:
            raise OSError(24, "Too many open files")

        for name in ("memfd_create", "dup"):
            with self.subTest(name):
                patch = self.patch(os, name, refuse)
                channel = self.makeChannel(isBroken=False)
                with self.assertRaises(WorkerStartError):
                    channel.open(Receiver())
                patch.restore()
                self.assertEqual(countFds(), before)
                self.assertEqual(channel.lastBegun, 0)


class PollingTests(PipeChannelTests):
    """
    With a reactor that watches no file descriptor.
    """

    def makeReactor(self) -> Any:
        return PollingReactor()
