"""
What is seen of a dispatch queue, and what can be done to it.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue.errors import TaskTerminated
from asynqueue.rdq import MemoryJobStore
from asynqueue.testing import act
from tests.admin.cases import WHO, AdminCase, makeDispatchQueue


class DispatchTests(AdminCase):
    def setUp(self) -> None:
        super().setUp()
        self.calls: list[Deferred[Any]] = []

    def make(self, **options: Any) -> Any:
        return makeDispatchQueue(self, self.send, **options)

    def send(self, number: str) -> Deferred[Any]:
        d: Deferred[Any] = Deferred()
        self.calls.append(d)
        return d

    def put(self, queue: Any, *arguments: Any, **options: Any) -> list[Any]:
        jobs = []
        for argument in arguments:
            d = queue.put(argument, **options)
            d.addErrback(lambda _: None)
            jobs.append(d.job)
        self.clock.advance(0)
        return jobs

    def test_aQueueIsSeenWithItsJobs(self) -> None:
        queue = self.make(width=1, rate=10)
        admin = queue.admin()
        self.put(queue, "a", "b", "c")
        self.put(queue, "d", delay=60)
        self.clock.advance(2)
        seen = self.get(admin, "snapshot")
        self.assertEqual((seen["pending"], seen["underway"], seen["width"]), (3, 1, 1))
        self.assertEqual(seen["rate"], {"rate": 10, "per": 1.0, "burst": None})
        self.assertEqual([job["id"] for job in seen["tasksPending"]], [2, 3, 4])
        self.assertEqual([job["dueIn"] for job in seen["tasksPending"]], [None, None, 58.0])
        [underway] = seen["tasksUnderway"]
        self.assertEqual((underway["id"], underway["ran"]), (1, 2.0))

    def test_jobsOfSeveralRatesAreSeenByPriority(self) -> None:
        queue = self.make(rateKey=lambda number: number[0])
        self.put(queue, "a1", "b1", "a2", "c1")
        self.put(queue, "b2", priority=-1)
        seen = self.get(queue.admin(), "snapshot")["tasksPending"]
        self.assertEqual([job["id"] for job in seen], [5, 1, 2, 3, 4])
        self.assertEqual(seen[0]["series"], "b")

    def test_widthAndRateAreChanged(self) -> None:
        queue = self.make(width=0)
        admin = queue.admin()
        self.put(queue, "a", "b")
        self.get(admin, "width", width=1)
        self.clock.advance(0)
        self.assertEqual(len(self.calls), 1)
        self.get(admin, "rate", rate=3, per=60)
        self.assertEqual(queue.rate, (3, 60.0, None))
        self.get(admin, "rate", rate=None)
        self.assertIsNone(queue.rate)
        self.assertIn("width", self.refusal(admin, "width", width=-1))
        self.assertIn("per", self.refusal(admin, "rate", rate=3, per=0))

    def test_theQueueIsPausedAndResumed(self) -> None:
        queue = self.make(width=1)
        admin = queue.admin()
        self.get(admin, "pause")
        self.put(queue, "a")
        self.assertEqual((queue.paused, self.calls), (True, []))
        self.get(admin, "resume")
        self.clock.advance(0)
        self.assertEqual(len(self.calls), 1)

    def test_jobsAreCancelledAndMoved(self) -> None:
        queue = self.make(width=1)
        admin = queue.admin()
        jobs = self.put(queue, "a", "b", "c", "d")
        self.get(admin, "reprioritise", task=4, priority="first")
        seen = self.get(admin, "snapshot")["tasksPending"]
        self.assertEqual([job["id"] for job in seen], [4, 2, 3])
        self.assertEqual(self.get(admin, "cancel", tasks=[1, 2]), {"cancelled": 2})
        self.assertEqual(self.get(admin, "cancel", all=True), {"cancelled": 1})
        self.assertEqual(self.get(admin, "cancel", all=True, underway=True), {"cancelled": 1})
        self.assertEqual({job.state for job in jobs}, {"CANCELLED"})

    def test_aJobThatRunsInAProcessTellsWhatItDoesAndIsTerminated(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        tasks = self.makeQueue(worker)
        worker.stepAll()
        queue = makeDispatchQueue(self, act, width=2, queue=tasks)
        admin = queue.admin()
        replies: list[Any] = []

        def look() -> None:
            for verb in ("stacks", "terminate"):
                request = {"do": verb, "task": 1}
                admin.api.answer(request, WHO).addCallback(replies.append)
                worker.channel.deliver()

        worker.actions["look"] = look
        ended, waits = queue.put("look"), queue.put("wait")
        self.clock.advance(0)
        self.assertIn("waits in its task queue", self.refusal(admin, "stacks", task=2))
        worker.stepAll()
        error = self.failureResultOf(ended, TaskTerminated).value
        self.assertIn("in look\n", error.stacks)
        self.assertIn("in look\n", replies[0]["result"]["text"])
        self.assertEqual(replies[1], {"ok": True, "result": {"terminated": 1}})
        waits.addErrback(lambda _: None)
        waits.job.cancel()
        self.clock.advance(1)
        worker.stepAll()

    def test_aJobOfTheMainLoopIsNotTerminated(self) -> None:
        queue = self.make(width=1)
        admin = queue.admin()
        self.put(queue, "a")
        for verb in ("terminate", "stacks"):
            self.assertIn("runs in the main loop", self.refusal(admin, verb, task=1))
            self.assertIn("no job 9", self.refusal(admin, verb, task=9))
        self.assertIn("no workers of its own", self.refusal(admin, "stacks", worker=1))
        self.calls[0].callback(None)

    def test_whatEndedIsSeenWithItsTraceback(self) -> None:
        queue = self.make(width=3)
        admin = queue.admin(history=5)
        self.put(queue, "a", "secret")
        self.calls[0].callback(1)
        self.calls[1].errback(ValueError("no such number"))
        seen = self.get(admin, "snapshot")
        failed, finished = seen["last"]
        self.assertEqual((finished["state"], failed["state"]), ("FINISHED", "FAILED"))
        self.assertEqual(failed["error"], "ValueError: no such number")
        self.assertIn("no such number", failed["traceback"])
        self.assertNotIn("secret", json.dumps(seen))

    def test_deadLettersAreSeenRetriedAndDropped(self) -> None:
        queue = self.make(width=4, store=MemoryJobStore(), storedAs="send")
        admin = queue.admin(show="arguments")
        self.put(queue, "a", "b", "c")
        for d in self.calls:
            d.errback(ValueError("no such number"))
        self.clock.advance(0)
        seen = self.get(admin, "deadLetters", size=2)
        self.assertEqual((seen["count"], len(seen["letters"])), (3, 2))
        letter = seen["letters"][0]
        self.assertEqual((letter["id"], letter["error"]), (1, "ValueError: no such number"))
        self.assertIn("Traceback", letter["traceback"])
        self.assertEqual(letter["call"], "send('a')")
        answer = self.get(admin, "drop", jobs=[1, 9])
        self.assertEqual(answer, {"done": [1], "failed": {"9": "it is not a dead letter"}})
        answer = self.get(admin, "retry", all=True)
        self.assertEqual(answer, {"done": [2, 3], "failed": {}})
        self.clock.advance(0)
        self.assertEqual(len(self.calls), 5)
        self.assertEqual(self.get(admin, "deadLetters")["count"], 0)

    def test_deadLettersOfAKindAreDropped(self) -> None:
        queue = self.make(width=4, store=MemoryJobStore(), storedAs="send")
        admin = queue.admin()
        self.put(queue, "a", "b", "c")
        for d, text in zip(self.calls, ("busy", "gone", "busy"), strict=True):
            d.errback(ValueError(text))
        self.clock.advance(0)
        seen = self.get(admin, "deadLetters")
        self.assertEqual(
            [(kind["count"], kind["error"]) for kind in seen["kinds"]],
            [(2, "ValueError: busy"), (1, "ValueError: gone")],
        )
        answer = self.get(admin, "drop", kind=seen["kinds"][0]["kind"])
        self.assertEqual(answer, {"done": [1, 3], "failed": {}})
        self.assertIn("one of jobs, kind and all", self.refusal(admin, "drop", kind="x", all=True))
        self.assertEqual(self.get(admin, "drop", kind="nonsense"), {"done": [], "failed": {}})

    def test_aQueueWithoutAStoreHasNoDeadLetters(self) -> None:
        admin = self.make().admin()
        self.assertIn("no deadLetters", self.refusal(admin, "deadLetters"))

    def test_aStoppedQueueIsNotSeenAnyMore(self) -> None:
        queue = self.make()
        admin = queue.admin()
        self.successResultOf(queue.stop())
        self.assertEqual(list(admin.api.queues), [])
