"""
The lives of jobs that a store keeps.
"""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, defaultdict
from enum import Enum, IntEnum, StrEnum
from itertools import count
from typing import Any, NamedTuple

import numpy
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from asynqueue import Retry
from asynqueue.errors import (
    JobExists,
    JobNotDispatched,
    JobNotStorable,
    QueueFull,
    QueueStopped,
    StoreError,
)
from asynqueue.rdq import Job, JobCancelled, JobDeferred
from tests.dispatch.stored import DurableCase, FrailStore, SteppedAside, saved


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Share(float, Enum):
    HALF = 0.5


class Text(str):
    __slots__ = ()


class Numbers(list[int]):
    pass


class Point(NamedTuple):
    x: int


class LifeTests(DurableCase):
    def test_itIsSavedWhenItIsWritten(self) -> None:
        self.aside = SteppedAside()
        d = self.makeDurable().put("a")
        safe = saved(d)
        self.assertNoResult(safe)
        self.aside.step()
        self.assertIs(self.successResultOf(safe), d.job)
        self.assertIs(self.successResultOf(saved(d)), d.job)

    def test_itsFunctionIsCalledWhenItsBeginningIsWritten(self) -> None:
        self.aside = SteppedAside()
        self.makeDurable(width=1).put("a")
        self.settle()
        self.aside.step()
        self.assertEqual(self.held.begun, [])
        self.aside.step()
        self.assertEqual(self.held.begun, ["a"])
        self.assertEqual(self.rows(), [('"a"', "begun", 1)])

    def test_itsEndIsToldWhenThatIsWritten(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=1)
        d = queue.put("a")
        self.settle()
        self.aside.stepAll()
        self.held.finish("a")
        drained = queue.pause()
        self.assertNoResult(d)
        self.assertNoResult(drained)
        self.assertEqual(queue.size(), (0, 0), "its slot is free")
        self.aside.step()
        self.assertEqual(self.successResultOf(d).result, "a!")
        self.successResultOf(drained)
        self.assertEqual(self.rows(), [])

    def test_itIsTooLateToCancelAJobWhoseEndIsBeingWritten(self) -> None:
        self.aside = SteppedAside()
        d = self.makeDurable(width=1).put("a")
        self.settle()
        self.aside.stepAll()
        self.held.finish("a")
        d.cancel()
        self.assertFalse(d.job.cancel())
        self.assertNoResult(d)
        self.aside.stepAll()
        self.assertEqual(self.successResultOf(d).state, Job.FINISHED)
        self.assertEqual(self.rows(), [])

    def test_thatAJobIsCancelledIsToldWhenItIsOnDisk(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=1)
        first, second, third = (queue.put(name) for name in "abc")
        self.settle()
        self.aside.stepAll()
        first.cancel()
        self.assertTrue(second.job.cancel())
        queue.clearQueue()
        waiting = [queue.pause(), first, second, third, third.job.watch()]
        self.assertStates([d.job for d in (first, second, third)], *[Job.CANCELLED] * 3)
        for d in waiting:
            self.assertNoResult(d)
        self.aside.stepAll()
        for d in waiting[1:]:
            self.failureResultOf(d, JobCancelled)
        self.successResultOf(waiting[0])
        self.assertEqual(self.rows(), [])

    def test_oneThatIsCancelledBeforeItsBeginningIsWrittenIsNotBegun(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=1)
        d = queue.put("a")
        self.settle()
        d.cancel()
        self.aside.stepAll()
        self.failureResultOf(d, CancelledError)
        self.assertEqual((self.held.begun, queue.size(), self.rows()), ([], (0, 0), []))
        self.successResultOf(saved(d))

    def test_oneThatFailsIsADeadLetter(self) -> None:
        queue = self.makeDurable(width=1)
        d = queue.put("a", 5, unique="key")
        self.settle()
        self.held.fail("a", ValueError("no \ud800"))
        self.failureResultOf(d, ValueError)
        [letter] = self.lettersOf(queue)
        found = (letter.jobarg, letter.priority, letter.attempts, letter.unique, letter.function)
        self.assertEqual(found, ("a", 5, 1, "key", "held"))
        self.assertEqual(letter.error, "ValueError: no \\ud800")

    def test_aFailureThatNobodyHearsIsNotLogged(self) -> None:
        queue = self.makeDurable(width=1)
        job = queue.put("a").job
        queue.put("b").job.cancel()
        self.settle()
        self.held.fail("a", ValueError("no"))
        queue.put("c")
        queue.stop(cancelUnderway=True)
        self.failureResultOf(job.watch(), ValueError)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_butWhoeverListensLateHears(self) -> None:
        queue = self.makeDurable(width=1)
        d = queue.put("a")
        self.settle()
        self.held.fail("a", ValueError("no"))
        self.failureResultOf(d, ValueError)

    def test_clearedOnesAreGone(self) -> None:
        for cancels in (True, False):
            queue = self.makeDurable(store=FrailStore())
            first = self.silenced(queue.put("a", unique="key"))
            queue.clearQueue(cancels)
            second = queue.put("b", unique="key")
            self.assertIsNot(first.job, second.job, "the key is free")
            queue.stop()

    def test_aPriorityIsKept(self) -> None:
        queue = self.makeDurable()
        low, high = queue.put("a", 1).job, queue.put("b", 2).job
        high.reprioritize(0)
        self.assertRaises(ValueError, low.reprioritize, 2**63)
        self.assertRaises(ValueError, queue.put, "c", -(2**63) - 1)
        self.crash()
        self.assertEqual(self.argsOf(self.makeDurable().pending()), ["b", "a"])

    def test_fullIsFullButNotForOneThatStands(self) -> None:
        queue = self.makeDurable(size=1)
        d = queue.put("a", unique="key")
        self.assertRaises(QueueFull, queue.put, "b")
        self.assertIs(queue.put("a", unique="key").job, d.job)


class UniqueTests(DurableCase):
    def test_thereIsOneInLineOrUnderway(self) -> None:
        queue = self.makeDurable(width=1)
        first = queue.put("a", unique="key")
        self.assertIs(queue.put("b", unique="key").job, first.job)
        self.settle()
        second = queue.put("b", unique="key")
        self.assertIs(second.job, first.job)
        error = self.assertRaises(JobExists, queue.put, "b", unique="key", mayStand=False)
        self.assertIs(error.job, first.job)
        self.assertEqual(queue.size(), (1, 0))
        self.held.finish("a")
        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        self.assertIsNot(queue.put("b", unique="key").job, first.job)

    def test_soThereIsAfterARestart(self) -> None:
        self.makeDurable().put("a", unique="key")
        self.crash()
        queue = self.makeDurable()
        self.assertEqual(queue.put("b", unique="key").job.jobarg, "a")

    def test_aKeyIsAText(self) -> None:
        queue = self.makeDurable()
        for key in (7, b"key", "\ud800"):
            self.assertRaises(ValueError, queue.put, "a", unique=key)
        self.assertRaises(ValueError, self.makeQueue().put, "a", unique="key")


class RestartTests(DurableCase):
    def test_whatWaitedAndWhatWasUnderwayWaitsInOrder(self) -> None:
        queue = self.makeDurable(width=1)
        for arg, priority in (("a", 2), ("b", 1), ("c", 2), ("d", 0)):
            queue.put(arg, priority)
        self.settle()
        self.crash()
        queue = self.makeDurable()
        self.assertEqual(self.argsOf(queue.pending()), ["d", "b", "a", "c"])
        self.assertEqual([job.attempts for job in queue.pending()], [1, 0, 0, 0])
        self.assertEqual(queue.put("e").job.id, 5)

    def test_theWallClockGoingBackChangesNoOrder(self) -> None:
        queue = self.makeDurable()
        queue.put("a")
        self.wall.now -= 5000
        queue.put("b")
        self.crash()
        self.wall.now -= 5000
        queue = self.makeDurable()
        queue.put("c")
        self.assertEqual(self.argsOf(queue.pending()), ["a", "b", "c"])

    def test_aDelayGoesOnAndIsNeverLongerThanAtFirst(self) -> None:
        self.makeDurable().put("a", delay=100)
        for passed, left in ((40, 60), (-5000, 100), (200, -100)):
            self.wall.now = 1_000_000.0 + passed
            self.crash()
            [job] = self.makeDurable().pending()
            assert job.due is not None
            self.assertAlmostEqual(job.due - self.clock.seconds(), left)

    def test_afterSoManyAttemptsItIsDead(self) -> None:
        self.makeDurable(width=1).put("a")
        for _ in range(3):
            self.settle()
            self.crash()
            queue = self.makeDurable(width=1)
        self.assertEqual(queue.size(), (0, 0))
        [letter] = self.lettersOf(queue)
        self.assertIn("it was begun 3 times", letter.error)

    def test_thePolicySaysHowMany(self) -> None:
        self.makeDurable(width=1).put("a")
        self.settle()
        self.crash()
        queue = self.makeDurable(retry=Retry(attempts=1))
        self.assertEqual(len(self.lettersOf(queue)), 1)

    def test_aJobForAnotherFunctionIsDeadAndBothAreNamed(self) -> None:
        self.makeDurable().put("a")
        self.crash()
        queue = self.makeDurable(storedAs="new.name")
        [letter] = self.lettersOf(queue)
        self.assertIn("for the function held, and this queue's is new.name", letter.error)
        self.successResultOf(queue.retryDeadLetter(letter))
        self.crash()
        self.assertEqual(self.argsOf(self.makeDurable(storedAs="new.name").pending()), ["a"])

    def test_anArgumentThatCannotBeDecodedIsDead(self) -> None:
        self.makeDurable(codec=pickle).put({1, 2})
        self.crash()
        self.assertEqual(self.argsOf(self.makeDurable(codec=pickle).pending()), [{1, 2}])
        self.crash()
        queue = self.makeDurable()
        [letter] = self.lettersOf(queue)
        self.assertIn("cannot be decoded", letter.error)
        self.assertIsInstance(letter.jobarg, bytes)
        self.assertRaises(JobNotStorable, queue.retryDeadLetter, letter)

    def test_aJobWithoutAKeyForItsRateIsDead(self) -> None:
        self.makeDurable().put("a")
        self.crash()
        queue = self.makeDurable(rate=1, rateKey=lambda arg: arg["customer"])
        self.assertIn(
            "its key for the rate cannot be told: TypeError", self.lettersOf(queue)[0].error
        )


class CodecTests(DurableCase):
    def test_whatWouldComeBackAsAnotherIsRefused(self) -> None:
        queue = self.makeDurable()
        for arg in ((1, 2), [(1,)], float("nan"), {1: 2}, {1, 2}, b"x", object()):
            self.assertRaises(JobNotStorable, queue.put, arg)
        self.assertEqual((queue.size(), self.rows()), ((0, 0), []))

    def test_soIsAValueThatWouldComeBackAsAnotherType(self) -> None:
        derived: list[Any] = [
            *(Level.LOW, Word.A, Share.HALF, Text("a"), Numbers([1]), Point(1)),
            *(defaultdict(int), defaultdict(list, a=[1]), OrderedDict(a=1), Counter("a")),
            *(numpy.float64(1.5), numpy.str_("a")),
        ]
        queue = self.makeDurable()
        for value in derived:
            for arg in (value, [value], {"a": value}, [{"a": [value]}]):
                self.assertRaises(JobNotStorable, queue.put, arg)
        for key in (Word.A, Text("a"), Level.LOW, True, None, 1.5):
            self.assertRaises(JobNotStorable, queue.put, {key: 1})
            self.assertRaises(JobNotStorable, queue.put, [{"a": {key: 1}}])
        self.assertEqual((queue.size(), self.rows()), ((0, 0), []))

    def test_withPickleTheyComeBackAsTheyWere(self) -> None:
        args: list[Any] = [Level.LOW, Word.A, defaultdict(int, a=1), Point(1), (1, {2: {3}})]
        queue = self.makeDurable(codec=pickle)
        for arg in args:
            queue.put(arg)
        self.crash()
        found = self.argsOf(self.makeDurable(codec=pickle).pending())
        self.assertEqual(found, args)
        self.assertEqual([type(arg) for arg in found], [type(arg) for arg in args])

    def test_whatComesBackIsWhatWasPut(self) -> None:
        args: list[Any] = [None, True, 1, 1.5, "\u00fc\ud800", [1, [2]], {"a": {"b": None}}]
        queue = self.makeDurable()
        for arg in args:
            queue.put(arg)
        self.crash()
        self.assertEqual(self.argsOf(self.makeDurable().pending()), args)

    def test_aCodecThatMakesNeitherTextNorBytesIsRefused(self) -> None:
        class Codec:
            loads = staticmethod(lambda data: data)
            dumps = staticmethod(lambda value: value)

        queue = self.makeDurable(codec=Codec())
        for arg in (7, None, "\ud800"):
            self.assertRaises(JobNotStorable, queue.put, arg)
        queue.put("a")


class DeadLetterTests(DurableCase):
    def dead(self, **keywords: Any) -> Any:
        queue = self.makeDurable(width=1)
        self.silenced(queue.put("a", **keywords))
        self.settle()
        self.held.fail("a", ValueError("no"))
        return queue, self.lettersOf(queue)[0]

    def test_oneIsTriedAgainAsIfItWereNew(self) -> None:
        queue, letter = self.dead(priority=3)
        job = self.successResultOf(queue.retryDeadLetter(letter))
        self.assertEqual((job.id, job.priority, job.attempts), (letter.id, 3, 0))
        self.successResultOf(job.saved)
        self.settle()
        self.held.finish("a")
        self.assertEqual(self.successResultOf(job.watch()).result, "a!")
        self.assertEqual(self.rows(), [])

    def test_onceOnly(self) -> None:
        queue, letter = self.dead()
        queue.retryDeadLetter(letter)
        for call in (queue.retryDeadLetter, queue.dropDeadLetter):
            self.assertRaises(StoreError, call, letter)

    def test_oneIsDropped(self) -> None:
        queue, letter = self.dead()
        self.assertIsNone(self.successResultOf(queue.dropDeadLetter(letter)))
        self.assertEqual((self.lettersOf(queue), self.rows()), ([], []))
        self.assertRaises(StoreError, queue.retryDeadLetter, letter)

    def test_notWhileAnotherHasItsKey(self) -> None:
        queue, letter = self.dead(unique="key")
        queue.put("b", unique="key")
        self.assertRaises(JobExists, queue.retryDeadLetter, letter)

    def test_ifTheStoreFailsItStaysDead(self) -> None:
        queue, letter = self.dead(unique="key")
        self.store.isBroken = True
        self.failureResultOf(queue.retryDeadLetter(letter), StoreError)
        self.failureResultOf(queue.dropDeadLetter(letter), StoreError)
        self.store.isBroken = False
        self.assertEqual(self.lettersOf(queue), [letter])
        self.successResultOf(queue.retryDeadLetter(letter))
        self.flushLoggedErrors(StoreError)

    def test_oneThatIsRevivedAsTheQueueStopsWaitsForTheNextRun(self) -> None:
        queue, letter = self.dead()
        self.store.close()
        self.crash()
        self.aside = SteppedAside()
        queue = self.makeDurable()
        revived = queue.retryDeadLetter(letter)
        stopped = queue.stop()
        self.aside.stepAll()
        job = self.successResultOf(revived)
        self.failureResultOf(job.watch(), JobNotDispatched)
        self.assertEqual(self.successResultOf(stopped), [job])
        self.assertEqual(self.rows(), [('"a"', "waiting", 0)])

    def test_aStoppedQueueHasNone(self) -> None:
        queue, letter = self.dead()
        queue.stop()
        self.assertRaises(QueueStopped, queue.retryDeadLetter, letter)
        self.failureResultOf(queue.deadLetters(), StoreError)

    def test_norHasOneWithoutAStore(self) -> None:
        self.assertRaises(StoreError, self.makeQueue().deadLetters)


class FullDiskTests(DurableCase):
    def test_aPutFailsAndTheQueueLives(self) -> None:
        queue = self.makeDurable(width=1)
        self.store.isBroken = True
        d = queue.put("a", unique="key")
        self.failureResultOf(saved(d), StoreError)
        self.failureResultOf(d, StoreError)
        self.assertEqual(queue.size(), (0, 0))
        self.store.isBroken = False
        d = queue.put("b", unique="key")
        self.settle()
        self.held.finish("b")
        self.successResultOf(d)
        self.flushLoggedErrors(StoreError)

    def test_oneThatCannotBeginIsTriedAgain(self) -> None:
        queue = self.makeDurable(width=1)
        job = queue.put("a").job
        self.store.isBroken = True
        self.settle()
        self.assertEqual((job.state, job.attempts, self.held.begun), (Job.PENDING, 0, []))
        self.store.isBroken = False
        self.clock.advance(1)
        self.settle()
        self.assertEqual(self.held.begun, ["a"])
        self.flushLoggedErrors(StoreError)

    def test_oneThatCannotBeginAsTheQueueStopsIsLeftBehind(self) -> None:
        self.aside = SteppedAside()
        queue = self.makeDurable(width=1)
        d = queue.put("a")
        self.settle()
        self.aside.step()
        self.store.isBroken = True
        stopped = queue.stop()
        self.aside.stepAll()
        self.failureResultOf(d, JobNotDispatched)
        self.assertEqual(self.successResultOf(stopped), [d.job])
        self.flushLoggedErrors(StoreError)


class StopTests(DurableCase):
    def test_whatIsUnderwayEndsAndWhatWaitsIsKept(self) -> None:
        queue = self.makeDurable(width=1)
        first, second = queue.put("a"), queue.put("b")
        self.settle()
        stopped = queue.stop()
        self.failureResultOf(second, JobNotDispatched)
        self.held.finish("a")
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(stopped), [second.job])
        self.assertEqual(self.rows(), [('"b"', "waiting", 0)])
        self.assertEqual(self.argsOf(self.makeDurable().pending()), ["b"])

    def test_whatIsCancelledByItIsKept(self) -> None:
        queue = self.makeDurable(width=1)
        d = queue.put("a")
        self.settle()
        self.assertEqual(self.successResultOf(queue.stop(True)), [d.job])
        self.failureResultOf(d, JobCancelled)
        self.assertEqual(self.rows(), [('"a"', "waiting", 1)])

    def test_oneThatFailsMeanwhileButMayBeTriedAgainIsKept(self) -> None:
        queue = self.makeDurable(width=1, retry=Retry(delays=lambda n: 5.0))
        d = queue.put("a")
        self.settle()
        stopped = queue.stop()
        self.held.fail("a", ValueError("not now"))
        error = self.failureResultOf(d, JobNotDispatched).value
        self.assertIsInstance(error.__cause__, ValueError)
        self.assertEqual(self.successResultOf(stopped), [d.job])
        self.assertEqual(self.rows(), [('"a"', "waiting", 1)])


def _watch(d: JobDeferred, over: set[int]) -> None:
    """
    Note when it is told that a job is over.
    """

    def cancelled(failure: Failure) -> None:
        failure.trap(JobCancelled)
        over.add(d.job.jobarg)

    d.addCallbacks(lambda job: over.add(job.jobarg), cancelled)


class CrashTests(DurableCase):
    @given(st.data())
    def test_anAcknowledgedJobIsThereAndOneWhoseEndWasToldIsNot(self, data: Any) -> None:
        self.crash()
        self.setUp()
        acknowledged: set[int] = set()
        over, unwanted = set[int](), set[int]()
        steps = st.sampled_from(["put", "turn", "step", "finish", "fail", "cancel", "crash"])
        numbers = count(1)

        self.aside = SteppedAside()
        queue = self.makeDurable(width=2, retry=Retry(attempts=100, delays=lambda n: 0.0))
        for step in data.draw(st.lists(steps, max_size=40)):
            if step == "put":
                d = queue.put(next(numbers))
                saved(d).addCallback(lambda job: acknowledged.add(job.jobarg))
                _watch(d, over)
            elif step == "turn":
                self.settle()
            elif step == "step" and self.aside.calls:
                self.aside.step()
            elif step in ("finish", "fail") and self.held._calls:
                arg = min(self.held._calls)
                if step == "finish":
                    self.held.finish(arg)
                else:
                    self.held.fail(arg, ValueError("no"))
            elif step == "cancel" and queue.pending():
                job = queue.pending()[0]
                # It is not wanted, whether or not that is written before a crash.
                unwanted.add(job.jobarg)
                job.cancel()
            elif step == "crash":
                # Somewhere between two commits, or while one is on its way.
                self.crash()
                self.aside = SteppedAside()
                queue = self.makeDurable(width=2, retry=Retry(attempts=100, delays=lambda n: 0.0))
                there = {job.jobarg for job in queue.pending()}
                self.assertLessEqual(acknowledged - over - unwanted, there)
                self.assertFalse(over & there)
                for job in queue.pending():
                    _watch(job.watch(), over)
