"""
Jobs that a program saves itself, with C{pickle}, and puts again.
"""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import ResizableDispatchQueue
from asynqueue.errors import JobError, JobNotDispatched
from asynqueue.rdq import DurableJob, Job
from tests.dispatch.cases import DispatchCase
from tests.dispatch.stored import DurableCase

FACTS = ("id", "jobarg", "priority", "state", "attempts", "queuedTime", "startTime", "stopTime")


def send(jobarg: Any) -> Deferred[Any]:
    """
    A function that never ends.
    """
    return Deferred()


class PickledJobTests(DispatchCase):
    def facts(self, jobs: list[Job]) -> list[tuple[Any, ...]]:
        return [tuple(getattr(job, name) for name in (*FACTS, "due")) for job in jobs]

    def test_pendingJobsKeepWhatIsKnownOfThem(self) -> None:
        queue = self.makeQueue()
        self.clock.advance(3)
        self.putAll(queue, ["a", ("b", 2)], priority=5)
        self.putAll(queue, "c", priority=1, delay=60)
        pending = queue.pending()
        self.assertEqual(self.facts(pickle.loads(pickle.dumps(pending))), self.facts(pending))
        self.assertEqual(self.facts(copy.deepcopy(pending)), self.facts(pending))

    def test_soDoJobsThatHaveEnded(self) -> None:
        queue = self.makeQueue(width=3)
        jobs = self.putAll(queue, "abc")
        self.settle()
        self.held.finish("a")
        self.held.fail("b", ValueError())
        self.assertEqual(self.facts(pickle.loads(pickle.dumps(jobs))), self.facts(jobs))

    def test_putAgainTheyAreInTheSameOrder(self) -> None:
        queue = self.makeQueue(width=1)
        for jobarg, priority in zip("abcdef", [3, 1, 2.5, 1, -7, 3], strict=True):
            self.putAll(queue, jobarg, priority=priority)
        left = self.successResultOf(queue.stop())
        self.assertEqual({job.state for job in left}, {Job.PENDING})
        saved = pickle.dumps(left)
        again = self.makeQueue()
        jobs = [self.silenced(again.put(job)).job for job in pickle.loads(saved)]
        self.assertEqual(self.argsOf(again.pending()), list("ebdcaf"))
        self.assertEqual([job.priority for job in again.pending()], [-7, 1, 1, 2.5, 3, 3])
        self.assertEqual([job.id for job in jobs], [1, 2, 3, 4, 5, 6])
        again.width = 1
        self.settle()
        self.assertEqual(self.held.begun, ["e"])

    def test_anotherPriorityCanBeGiven(self) -> None:
        job = pickle.loads(pickle.dumps(self.putAll(self.makeQueue(), "a", priority=3)[0]))
        queue = self.makeQueue()
        self.assertEqual(queue.put(job, 0).job.priority, 0)
        self.assertEqual(queue.put(job).job.priority, 3)

    def test_anUnpickledJobBelongsToNoQueue(self) -> None:
        [job] = self.putAll(self.makeQueue(), "a")
        copied = pickle.loads(pickle.dumps(job))
        self.assertIs(type(copied), Job)
        self.assertFalse(copied.cancel())
        self.assertRaises(JobError, copied.reprioritize, 1)
        self.assertIs(self.errorOf(copied.watch(), JobError).job, copied)
        self.assertEqual((job.state, job.priority), (Job.PENDING, 0))

    def test_picklesNameThePublicModule(self) -> None:
        text = pickle.dumps(self.putAll(self.makeQueue(), "a")[0], protocol=0)
        self.assertIn(b"asynqueue.rdq", text)
        self.assertNotIn(b"_dispatch", text)


class LeftJobTests(DispatchCase):
    def test_nothingIsLoggedOfJobsThatAreLeft(self) -> None:
        queue = self.makeQueue(width=1)
        for jobarg in "abc":
            queue.put(jobarg)
        self.settle()
        heard = queue.pending()[0].watch()
        stopped = queue.stop()
        self.held.finish("a")
        self.assertEqual(self.argsOf(self.successResultOf(stopped)), ["b", "c"])
        self.errorOf(heard, JobNotDispatched)
        del heard
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_aLeftJobIsToldAgainAndCannotBeCancelled(self) -> None:
        queue = self.makeQueue()
        [job] = self.putAll(queue, "a")
        queue.stop()
        self.errorOf(job.watch(), JobNotDispatched)
        self.assertFalse(job.cancel())
        self.assertEqual(job.state, Job.PENDING)


class StartTests(DispatchCase):
    def test_startIsTheSameAsAWidth(self) -> None:
        queue = self.makeQueue()
        self.putAll(queue, "abc")
        queue.start(2)
        self.settle()
        self.assertEqual((queue.width, self.held.begun), (2, ["a", "b"]))
        self.assertRaises(ValueError, queue.start, -1)


class DurablePickleTests(DurableCase):
    def test_theKeyIsKept(self) -> None:
        queue = self.makeDurable()
        self.putAll(queue, "a", priority=2, unique="key")
        [saved] = pickle.loads(pickle.dumps(queue.pending()))
        self.assertIsInstance(saved, DurableJob)
        self.crash()
        self.store = type(self.store)()
        queue = self.makeDurable()
        job = queue.put(saved).job
        assert isinstance(job, DurableJob)
        self.assertEqual((job.jobarg, job.priority, job.unique), ("a", 2, "key"))

    def test_aQueueWithoutAStoreTakesIt(self) -> None:
        [job] = self.putAll(self.makeDurable(), "a", unique="key")
        queue = ResizableDispatchQueue(send, reactor=self.clock)
        self.queues.append(queue)
        self.assertEqual(queue.put(pickle.loads(pickle.dumps(job))).job.jobarg, "a")
