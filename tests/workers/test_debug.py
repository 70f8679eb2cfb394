"""
Worker threads in debug mode: the contract, and what tasks may touch, in a thread moved by hand.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import FrameType
from typing import Any
from unittest import mock

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import Interface, implementer, provider

from asynqueue import ThreadQueue, ThreadWorker
from asynqueue._runner.messages import CALL, ENDED, ITEMS, QUIT, RAISED, RETURNED, Message
from asynqueue._workers.threads import ThreadChannel
from asynqueue.errors import ReactorTouched, ResultNotPicklable
from asynqueue.testing import FarWorkerContract, IteratingWorkerContract, far
from asynqueue.threads import ThreadLooper


class ContractTests(FarWorkerContract, IteratingWorkerContract, TestCase):
    def makeWorker(self) -> ThreadWorker:
        return ThreadWorker(debug=True)


class Receiver:
    """
    Notes what a channel tells it, and may do something about it.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.react: Callable[[], object] = list

    def received(self, messages: list[Message]) -> None:
        """Note it."""
        self.messages += messages
        self.react()

    def lost(self, reason: Exception) -> None:
        """It is over."""


class IOwn(Interface):
    """
    The further methods of a reactor that is not Twisted's.
    """

    def advance(seconds: float) -> None:
        """Any thread may do so."""


@implementer(IOwn)
class OwnClock(Clock):
    """
    Has a method that Twisted knows nothing of.
    """


@implementer(IReactorTime)
class Wrapper:
    """
    Hands its calls on to a reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._reactor, name)


class DebugCase(SynchronousTestCase):
    """
    A channel in debug mode whose thread is the test's own.
    """

    isWatched = True

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.receiver = Receiver()
        self.before = sys.getprofile()
        self.addCleanup(sys.setprofile, self.before)

    def runAll(self, *calls: Any) -> list[Message]:
        """
        @param calls: functions, or tuples of a function and its arguments.
        @return: what became of them: the messages after HELLO.
        """
        targets: list[Callable[[], object]] = []
        self.channel = ThreadChannel(self.reactor, start=targets.append, debug=self.isWatched)
        self.channel.open(self.receiver)
        messages: list[Message] = []
        for number, call in enumerate(calls, 1):
            function, *args = call if isinstance(call, tuple) else (call,)
            messages.append((CALL, number, function, (tuple(args), {}), None, None))
        self.channel.send(messages)
        with mock.patch.object(self.receiver, "react", self.quitAfter(len(calls))):
            targets[0]()
        answers, self.receiver.messages = self.receiver.messages[1:], []
        return answers

    def quitAfter(self, count: int) -> Callable[[], None]:
        """
        @return: what has the channel end when so many calls have been answered.
        """
        react = self.receiver.react

        def quit() -> None:
            react()
            over = [m for m in self.receiver.messages if m[0] in (RETURNED, RAISED, ENDED)]
            if len(over) == count:
                self.channel.send([(QUIT,)])

        return quit

    def touchOf(self, *call: Any) -> ReactorTouched:
        """
        Run a call that is to fail.
        """
        [answer] = self.runAll(call)
        error = answer[3] if answer[0] == RAISED else None
        assert isinstance(error, ReactorTouched), answer
        [logged] = self.flushLoggedErrors(ReactorTouched)
        self.assertIs(logged.value, error)
        return error

    def resultOf(self, *call: Any) -> Any:
        """
        Run a call that is to succeed.
        """
        [answer] = self.runAll(call)
        self.assertEqual(answer[0], RETURNED, answer)
        return answer[3]


class TouchTests(DebugCase):
    def test_whatWouldBeScheduledIsNot(self) -> None:
        error = self.touchOf(lambda: self.reactor.callLater(1, list))
        self.assertEqual(error.method, "reactor.callLater")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_methodsOfTheReactorsInterfaces(self) -> None:
        reactor, factory = self.reactor, Factory()
        descriptor = FileDescriptor(MemoryReactorClock())
        for name, args in {
            "getDelayedCalls": (),
            "stop": (),
            "callWhenRunning": (list,),
            "addSystemEventTrigger": ("before", "shutdown", list),
            "listenTCP": (0, factory),
            "connectTCP": ("host", 1, factory),
            "listenUNIX": ("path", factory),
            "addReader": (descriptor,),
            "removeAll": (),
            "installNameResolver": (None,),
        }.items():
            error = self.touchOf(getattr(reactor, name), *args)
            self.assertEqual(error.method, f"reactor.{name}")
        self.assertEqual((reactor.tcpServers, reactor.tcpClients, reactor.readers), ([], [], set()))
        self.assertFalse(reactor.hasStopped)

    def test_itsDelayedCalls(self) -> None:
        delayed = self.reactor.callLater(5, list)
        for name, args in {"cancel": (), "reset": (1,), "delay": (1,)}.items():
            error = self.touchOf(getattr(delayed, name), *args)
            self.assertEqual(error.method, f"DelayedCall.{name}")
        self.assertTrue(delayed.active())
        self.assertEqual(delayed.getTime(), 5)

    def test_itsTransports(self) -> None:
        transport = FileDescriptor(self.reactor)
        transport.connected = 1
        for name, args in {
            "write": (b"bytes",),
            "writeSequence": ([b"bytes"],),
            "loseConnection": (),
            "registerProducer": (object(), True),
            "startReading": (),
            "stopWriting": (),
        }.items():
            error = self.touchOf(getattr(transport, name), *args)
            self.assertEqual(error.method, f"FileDescriptor.{name}")
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        self.assertIsNone(transport.producer)

    def test_throughTwistedsOwnCode(self) -> None:
        error = self.touchOf(lambda: deferLater(self.reactor, 1))
        self.assertEqual(error.method, "reactor.callLater")
        self.assertIn(f"{__file__.removesuffix('c')}:", error.place or "")

    def test_whatTwistedHandsToADeferredIsStillTheFailure(self) -> None:
        kept: list[Deferred[Any]] = []

        def start() -> Deferred[Any]:
            looping = LoopingCall(list)
            looping.clock = self.reactor
            kept.append(looping.start(1))
            return kept[0]

        self.touchOf(start)
        self.failureResultOf(kept[0], ReactorTouched)

    def test_aCoroutine(self) -> None:
        async def touch() -> None:
            await asyncio.sleep(0)
            self.reactor.callLater(1, list)

        async def touchLater() -> None:
            await asyncio.create_task(touch())

        self.assertIn("touch", self.touchOf(touch).task)
        self.assertIn("touch", self.touchOf(touchLater).task)

    def test_aReactorThatHandsOnItsCalls(self) -> None:
        inner = self.reactor
        self.reactor = Wrapper(inner)
        delayed = inner.callLater(5, list)
        for touch in (
            lambda: self.reactor.callLater(1, list),
            lambda: inner.callLater(1, list),
            delayed.cancel,
        ):
            self.touchOf(touch)
        self.assertEqual(inner.getDelayedCalls(), [delayed])

    def test_aMethodThatSomebodyHasPutSomethingBefore(self) -> None:
        stop = self.reactor.stop
        self.reactor.stop = lambda how: stop()
        self.assertEqual(self.touchOf(self.reactor.stop, "now").method, "reactor.stop")

    def test_aMethodWithADecorator(self) -> None:
        def decorate(function: Any) -> Any:
            @wraps(function)
            def wrapper(*args: Any, **kw: Any) -> Any:
                return function(*args, **kw)

            return wrapper

        class Decorated(Clock):
            callLater = decorate(Clock.callLater)
            advance = decorate(Clock.advance)

        self.reactor = Decorated()
        self.touchOf(lambda: self.reactor.callLater(1, list))
        self.resultOf(self.reactor.advance, 1)


class HardlyReactor:
    """
    Has nothing that could be off limits.
    """

    def seconds(self) -> float:
        return 0.0


class AllowedTests(DebugCase):
    def test_whatIsNoneOfTheReactors(self) -> None:
        other = Clock()

        def work() -> float:
            other.callLater(5, list).reset(4)
            other.callLater(5, list).cancel()
            transport = FileDescriptor(MemoryReactorClock())
            transport.startReading()
            return other.getDelayedCalls()[0].getTime()

        self.assertEqual(self.resultOf(work), 4)

    def test_theTime(self) -> None:
        self.assertEqual(self.resultOf(self.reactor.seconds), 0.0)

    def test_whatTwistedSaysNothingOf(self) -> None:
        self.reactor = OwnClock()
        self.resultOf(self.reactor.advance, 3)
        self.assertEqual(self.reactor.seconds(), 3)

    def test_aStaticMethod(self) -> None:
        class Static(Clock):
            @staticmethod
            def getDelayedCalls() -> Any:
                return []

        self.reactor = Static()
        self.assertEqual(self.resultOf(self.reactor.getDelayedCalls), [])

    def test_whoHearsOfTheAnswers(self) -> None:
        delayed: list[Any] = []
        self.receiver.react = lambda: delayed.append(self.reactor.callLater(1, list))
        answers = self.runAll((far.numbers, 3), (far.echo, 1))
        self.assertEqual([answer[0] for answer in answers if answer[0] == RAISED], [])
        self.assertGreater(len(delayed), 3)

    def test_aReactorThatIsHardlyOne(self) -> None:
        self.reactor = HardlyReactor()
        self.assertEqual(self.resultOf(far.echo, 1), 1)

    def test_everythingIfNotInDebugMode(self) -> None:
        self.isWatched = False
        self.assertIs(self.resultOf(sys.getprofile), self.before)
        self.resultOf(lambda: bool(self.reactor.callLater(1, list)))
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)


class AfterwardsTests(DebugCase):
    def touch(self) -> None:
        """Do what is not allowed."""
        self.reactor.callLater(1, list)

    def swallow(self) -> str:
        """Do so, and hide it."""
        try:
            self.touch()
        except ReactorTouched:
            return "hidden"
        return "not noticed"

    def test_theNextCallsRunAndAreWatched(self) -> None:
        answers = self.runAll(self.touch, (far.echo, 1), self.touch, (far.echo, 2))
        self.assertEqual(
            [answer[0] for answer in answers], [RAISED, RETURNED, RAISED, RETURNED], answers
        )
        self.assertEqual(len(self.flushLoggedErrors(ReactorTouched)), 2)

    def test_whatIsSwallowedIsLogged(self) -> None:
        events: list[Any] = []

        @provider(ILogObserver)
        def observe(event: Any) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.assertEqual(self.resultOf(self.swallow), "hidden")
        [failure] = self.flushLoggedErrors(ReactorTouched)
        [event] = [event for event in events if "log_failure" in event]
        self.assertEqual(event["log_level"].name, "critical")
        self.assertIn("MainThread", event["log_format"].format(**event))
        trace = failure.getTraceback()
        self.assertIn("in swallow", trace)
        self.assertIn("in touch", trace)
        self.assertNotIn("runner.py", trace)

    def test_whatIsSwallowedBlamesNoOtherCall(self) -> None:
        first, second = self.runAll(self.swallow, (succeed, 1))
        self.assertEqual(first[0], RETURNED)
        self.assertIsInstance(second[3], ResultNotPicklable)
        self.assertEqual(len(self.flushLoggedErrors(ReactorTouched)), 1)

    def test_norAnotherStream(self) -> None:
        begun: list[int] = []

        def untilBegun() -> Iterator[int]:
            while not begun:
                yield 1
            self.swallow()

        def begin() -> Iterator[Any]:
            begun.append(1)
            return iter([succeed(1)])

        answers = self.runAll(untilBegun, begin)
        [error] = [answer[3] for answer in answers if answer[0] == RAISED]
        self.assertIsInstance(error, ResultNotPicklable)
        self.assertEqual(len(self.flushLoggedErrors(ReactorTouched)), 1)

    def test_aStreamEndsWithIt(self) -> None:
        def some() -> Iterator[int]:
            yield 1
            self.touch()

        answers = self.runAll(some)
        self.assertEqual([answer[0] for answer in answers][1:], [ITEMS, RAISED])
        self.assertIsInstance(answers[-1][3], ReactorTouched)
        self.assertIn("some", answers[-1][3].task)
        self.flushLoggedErrors(ReactorTouched)

    def test_aStreamThatIsClosedIsWatched(self) -> None:
        def some() -> Iterator[int]:
            try:
                self.swallow()
                self.channel.send([(QUIT,)])
                while True:
                    yield 1
            finally:
                self.swallow()

        self.assertEqual(self.runAll(some)[-1][0], ENDED)
        self.assertEqual(len(self.flushLoggedErrors(ReactorTouched)), 2)

    def test_aTouchAtTheVeryEndTakesNoProfilerAway(self) -> None:
        def some() -> Iterator[int]:
            try:
                self.channel.send([(QUIT,)])
                while True:
                    yield 1
            finally:
                self.swallow()

        def profile(*_: object) -> None:
            pass

        sys.setprofile(profile)
        self.runAll(some)
        self.assertIs(sys.getprofile(), profile)
        sys.setprofile(self.before)
        self.flushLoggedErrors(ReactorTouched)


class ErrorTests(DebugCase):
    def test_itNamesTheTaskTheMethodAndThePlace(self) -> None:
        def work() -> None:
            self.reactor.callLater(1, list)

        error = self.touchOf(work)
        line = work.__code__.co_firstlineno + 1
        name = f"{type(self).__name__}.{self._testMethodName}.<locals>.work"
        self.assertEqual(error.task, name)
        self.assertEqual(error.place, f"{work.__code__.co_filename}:{line}")
        for part in (name, "reactor.callLater", f":{line}", "callFromThread"):
            self.assertIn(part, str(error))

    def test_aTaskThatIsNothingElseHasNoPlace(self) -> None:
        error = self.touchOf(self.reactor.stop)
        self.assertIsNone(error.place)
        self.assertNotIn("None", str(error))


class ProfileTests(DebugCase):
    """
    A profiler may be at work in the same thread.
    """

    def setUp(self) -> None:
        super().setUp()
        self.called: list[str] = []

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Note what is called."""
        if event == "call":
            self.called.append(frame.f_code.co_name)

    def test_noneIsLeftBehind(self) -> None:
        self.resultOf(far.echo, 1)
        self.assertIs(sys.getprofile(), self.before)
        self.touchOf(self.reactor.stop)
        self.assertIs(sys.getprofile(), self.before)

    def test_oneThatIsThereGoesOn(self) -> None:
        sys.setprofile(self.profile)
        self.resultOf(far.echo, 1)
        self.touchOf(self.reactor.stop)
        self.assertEqual(sys.getprofile(), self.profile)
        sys.setprofile(self.before)
        self.assertIn("echo", self.called)
        self.assertIn("stop", self.called)

    def test_oneThatATaskSetsGoesOn(self) -> None:
        answers = self.runAll((sys.setprofile, self.profile), (far.echo, 1), self.reactor.stop)
        self.assertEqual(sys.getprofile(), self.profile)
        sys.setprofile(self.before)
        self.assertIn("echo", self.called)
        self.assertIsInstance(answers[2][3], ReactorTouched)
        self.flushLoggedErrors(ReactorTouched)

    def test_oneThatATaskSetsAfterATouchGoesOn(self) -> None:
        def work() -> None:
            try:
                self.reactor.stop()
            except ReactorTouched:
                sys.setprofile(self.profile)

        self.runAll(work, (far.echo, 1))
        self.assertEqual(sys.getprofile(), self.profile)
        sys.setprofile(self.before)
        self.assertIn("echo", self.called)
        self.flushLoggedErrors(ReactorTouched)

    def test_oneWrittenInCGoesOn(self) -> None:
        profiler = cProfile.Profile()
        profiler.enable()
        self.addCleanup(profiler.disable)
        self.resultOf(far.echo, 1)
        profiler.disable()
        called = [name for _, _, name in pstats.Stats(profiler).stats]  # type: ignore[attr-defined]
        self.assertIn("echo", called)


class DefaultTests(SynchronousTestCase):
    def test_itIsOnInPythonsDevelopmentMode(self) -> None:
        for isDeveloping in (False, True):
            with mock.patch.object(sys, "flags", mock.Mock(dev_mode=isDeveloping)):
                self.assertEqual(self.isOn(), isDeveloping)
                self.assertEqual(self.isOn(debug=None), isDeveloping)
                self.assertTrue(self.isOn(debug=True))
                self.assertFalse(self.isOn(debug=False))

    def isOn(self, **options: Any) -> bool:
        """
        Whether a worker's tasks are watched.
        """
        clock = Clock()
        worker = ThreadWorker(reactor=clock, **options)
        thread, channel = worker.thread, worker._channel
        worker.crash()
        clock.pump([0] * 3)
        thread.join(20.0)
        assert isinstance(channel, ThreadChannel)
        return channel._watch is not None


class QueueTests(TestCase):
    timeout = 45.0

    async def test_aQueueHandsItOnToItsWorkers(self) -> None:
        async with ThreadQueue(debug=True) as queue:
            self.assertIsNotNone(await queue.call(sys.getprofile))
        async with ThreadQueue(debug=False) as queue:
            self.assertIs(await queue.call(sys.getprofile), None)

    async def test_soDoesALooper(self) -> None:
        for debug in (True, False):
            looper = ThreadLooper(debug=debug)
            profile = await looper.call(sys.getprofile, raw=True)
            self.assertEqual(profile is not None, debug)
            await looper.stop()
