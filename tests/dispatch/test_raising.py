"""
Somebody else's exceptions: no job is left UNDERWAY by them, no C{stop} hangs, and no store stays
locked.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from asynqueue import ResizableDispatchQueue, Retry
from asynqueue._dispatch.stores import DEAD, WAITING
from asynqueue.rdq import Job, JobCancelled
from tests.dispatch.cases import DispatchCase
from tests.dispatch.stored import DurableCase


class Harsh(BaseException):
    """
    What C{except Exception} lets through.
    """


def refuse(*_: object) -> Any:
    raise Harsh("no")


class PolicyTests(DispatchCase):
    def fails(self, jobarg: Any) -> Any:
        raise ValueError(jobarg)

    def test_aPolicyThatRaisesABaseExceptionFailsTheJob(self) -> None:
        for retry in (Retry(delays=refuse), Retry(isWorthwhile=refuse)):
            queue = self.makeQueue(self.fails, width=1, retry=retry)
            d = queue.put("a")
            self.settle()
            error = self.errorOf(d, Harsh)
            assert d.job.state == Job.FAILED
            assert isinstance(error.__cause__, ValueError)
            assert queue.size() == (0, 0)
            assert self.successResultOf(queue.stop()) == []

    def test_aPolicyThatRaisesTheErrorItselfFailsTheJobWithIt(self) -> None:
        def again(error: BaseException) -> bool:
            raise error

        queue = self.makeQueue(self.fails, width=1, retry=Retry(isWorthwhile=again))
        d = queue.put("a")
        self.settle()
        assert self.errorOf(d, ValueError).__cause__ is None

    def test_aPolicyThatCancelsTheJobAndRaisesHasCancelledIt(self) -> None:
        jobs: list[Job] = []

        def cancel(_: BaseException) -> bool:
            jobs[0].cancel()
            raise Harsh

        queue = self.makeQueue(self.fails, width=1, retry=Retry(isWorthwhile=cancel))
        d = queue.put("a")
        jobs.append(d.job)
        self.settle()
        self.errorOf(d, JobCancelled)
        self.successResultOf(queue.stop())


class CancellerTests(DispatchCase):
    """
    What a function waits for has a canceller that raises.
    """

    def setUp(self) -> None:
        super().setUp()
        self.calls: list[Deferred[Any]] = []

    def wait(self, jobarg: Any) -> Deferred[Any]:
        d: Deferred[Any] = Deferred(refuse)
        self.calls.append(d)
        return d

    def logged(self, number: int) -> None:
        assert len(self.flushLoggedErrors(Harsh)) == number

    def test_theJobIsCancelledAndItsSlotIsFree(self) -> None:
        queue = self.makeQueue(self.wait, width=1)
        first, second = queue.put("a"), queue.put("b")
        self.settle()
        assert first.job.cancel()
        self.errorOf(first, JobCancelled)
        self.settle()
        assert second.job.state == Job.UNDERWAY
        self.logged(1)
        # What the function waited for may come all the same.
        self.calls[0].callback(None)
        assert queue.size() == (1, 0)
        self.calls[1].callback(5)
        assert self.successResultOf(second).result == 5

    def test_stopCancelsTheOthersAndEnds(self) -> None:
        queue = self.makeQueue(self.wait, width=3)
        jobs = self.putAll(queue, "abcd")
        self.settle()
        assert self.successResultOf(queue.stop(cancelUnderway=True)) == jobs
        self.logged(3)
        self.assertStates(jobs, *[Job.CANCELLED] * 3, Job.PENDING)
        for call in self.calls:
            call.errback(ValueError("too late"))

    def test_aFunctionThatCancelsItsOwnJobHoldsUpNothing(self) -> None:
        def cancelOwn(jobarg: Any) -> Deferred[Any]:
            jobs[0].cancel()
            return self.wait(jobarg)

        queue = self.makeQueue(cancelOwn, width=1)
        jobs = self.putAll(queue, "a")
        self.settle()
        self.logged(1)
        assert jobs[0].state == Job.CANCELLED
        assert self.successResultOf(queue.stop()) == []

    def test_whatWaitsForAnotherDeferredIsNotWaitedFor(self) -> None:
        def chained(jobarg: Any) -> Deferred[Any]:
            outer: Deferred[Any] = Deferred()
            outer.addCallback(lambda _: self.wait(jobarg))
            outer.callback(None)
            return outer

        queue = self.makeQueue(chained, width=1)
        jobs = self.putAll(queue, "a")
        self.settle()
        assert self.successResultOf(queue.stop(cancelUnderway=True)) == jobs
        self.logged(1)


class OpeningTests(DurableCase):
    """
    Something raises what is no C{Exception} while a store is opened, as Ctrl-C does.
    """

    def setUp(self) -> None:
        super().setUp()
        queue = self.makeDurable()
        self.putAll(queue, "abc")
        self.successResultOf(queue.stop())

    def assertWhole(self) -> None:
        assert {one.state for one in self.store.content()} == {WAITING}
        queue = self.makeDurable()
        assert self.argsOf(queue.pending()) == ["a", "b", "c"]

    def makeFailing(self, **keywords: Any) -> None:
        with pytest.raises(Harsh):
            self.makeDurable(**keywords)

    def test_afterTheKeysFunctionTheStoreCanBeOpened(self) -> None:
        self.makeFailing(rate=1, rateKey=refuse)
        self.assertWhole()

    def test_afterTheCodecTheStoreCanBeOpened(self) -> None:
        class Codec:
            dumps = loads = staticmethod(refuse)

        self.makeFailing(codec=Codec())
        self.assertWhole()

    def test_aStoreInAFileIsUnlocked(self) -> None:
        path = self.mktemp()
        options: dict[str, Any] = {"store": path, "storedAs": "held"}
        queue = ResizableDispatchQueue(self.held, reactor=self.clock, **options)
        queue.put("a")
        self.successResultOf(queue.stop())
        with pytest.raises(Harsh):
            ResizableDispatchQueue(self.held, rate=1, rateKey=refuse, reactor=self.clock, **options)
        queue = ResizableDispatchQueue(self.held, reactor=self.clock, **options)
        assert self.argsOf(queue.pending()) == ["a"]
        self.successResultOf(queue.stop())


class RequeueTests(DurableCase):
    def test_aDeadLetterWhoseKeyCannotBeToldIsOneAgain(self) -> None:
        def fail(jobarg: Any) -> Any:
            raise ValueError(jobarg)

        isHarsh = False

        def key(jobarg: Any) -> Any:
            return refuse() if isHarsh else jobarg

        queue = self.makeDurable(fail, width=1, rate=1, rateKey=key)
        [job] = self.putAll(queue, "a")
        self.settle()
        [letter] = self.successResultOf(queue.deadLetters())
        isHarsh = True
        again = self.successResultOf(queue.retryDeadLetter(letter))
        assert (job.state, again.state) == (Job.FAILED, Job.FAILED)
        self.errorOf(again.watch(), Harsh)
        assert [one.state for one in self.store.content()] == [DEAD]
