"""
What is seen of a task queue, and what can be done to it.
"""

from __future__ import annotations

import gc
import json
from itertools import chain, count
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from asynqueue import AsyncWorker, ResizableDispatchQueue, TaskQueue
from asynqueue._queue import inspection
from asynqueue._runner.messages import CREDIT_BYTES, CREDIT_ITEMS
from asynqueue.admin.api import VERBS
from asynqueue.errors import AdminError, QueueStopped, TaskTerminated
from asynqueue.rdq import MemoryJobStore
from asynqueue.testing import InlineWorker, StepWorker
from asynqueue.testing.memory import act
from tests.admin.cases import WHO, AdminCase


def fail(text: str) -> None:
    raise ValueError(text)


class SeeingTests(AdminCase):
    def test_aQueueIsSeenWithItsWorkersAndWhatTheyRun(self) -> None:
        worker = self.makeWorker("x", stepSeconds=None)
        worker.channel.resident = 1234
        queue = self.makeQueue(worker)
        admin = queue.admin()
        worker.stepAll()
        running = queue.submit(len, "abc", series="x")
        waiting = queue.submit(fail, "secret", niceness=5)
        self.clock.advance(3)
        seen = self.get(admin, "snapshot")
        self.assertEqual(
            (seen["state"], seen["paused"], seen["pending"], seen["underway"]),
            ("RUNNING", False, 1, 1),
        )
        [found] = seen["workers"]
        self.assertEqual(found["pid"], worker.channel.pid)
        self.assertEqual(found["residentKilobytes"], 1234)
        self.assertEqual((found["state"], found["restarts"], found["tasks"]), ("READY", 0, 1))
        [task] = seen["tasksUnderway"]
        self.assertEqual((task["id"], task["function"]), (running.id, "len"))
        self.assertEqual((task["series"], task["ran"], task["worker"]), ("x", 3.0, found["id"]))
        [task] = seen["tasksPending"]
        self.assertEqual((task["id"], task["function"]), (waiting.id, "fail"))
        self.assertEqual((task["niceness"], task["waited"], task["ran"]), (5, 3.0, None))
        self.assertEqual(seen["waited"], 3.0)
        waiting.d.addErrback(lambda _: None)
        worker.stepAll()

    def test_aWorkerTellsWhatHasBegunApartFromWhatItWasSentAhead(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        admin = queue.admin()
        seen: list[Any] = []
        worker.channel.actions["look"] = lambda: seen.append(self.get(admin, "snapshot"))
        worker.stepAll()
        task = queue.submit(act, "look")
        worker.stepAll()
        [found] = seen[0]["workers"]
        self.assertEqual([running["id"] for running in found["running"]], [task.id])

    def test_aLostRunnerIsSeenWithTheReason(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        admin = queue.admin()
        self.settle()
        worker.channel.die(exitCode=3)
        self.clock.advance(1)
        self.clock.advance(1)
        [found] = self.get(admin, "snapshot")["workers"]
        self.assertEqual(found["restarts"], 1)
        self.assertIn("3", found["losses"][0]["reason"])

    def test_ofVeryManyWorkersTheFirstAreSeen(self) -> None:
        queue = self.makeQueue(*[InlineWorker() for _ in range(250)])
        seen = self.get(queue.admin(), "snapshot")
        self.assertEqual((seen["workerCount"], len(seen["workers"])), (250, 200))

    def test_aWorkersStackIsToldByTheWorkerOrByATaskOfIts(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker, InlineWorker())
        admin = queue.admin()
        self.settle()
        worker.channel.resident = 1234
        answer = self.get(admin, "stacks", worker=1)
        self.assertEqual((answer["worker"], answer["residentKilobytes"]), (1, 1234))
        self.assertIn("No code of a task is running", answer["text"])
        self.assertIn("does not tell", self.get(admin, "stacks", worker=2)["text"])
        self.assertIn("one of", self.refusal(admin, "stacks"))
        self.assertIn("no worker 9", self.refusal(admin, "stacks", worker=9))
        self.assertIn("task 9", self.refusal(admin, "stacks", task=9))

    def test_progressIsSeen(self) -> None:
        queue = self.makeQueue(self.makeWorker(stepSeconds=None))
        admin = queue.admin()
        self.workers[0].stepAll()
        task = queue.submit(len, "abc")
        task.reported(3, float("inf"))
        [seen] = self.get(admin, "snapshot")["tasksUnderway"]
        self.assertEqual(seen["progress"], {"done": 3, "total": "inf", "ago": 0.0})
        self.workers[0].stepAll()

    def test_aTaskIsFoundWhereverItIs(self) -> None:
        queue = self.makeQueue(self.makeWorker(stepSeconds=None))
        admin = queue.admin(history=3)
        self.workers[0].stepAll()
        ended = queue.submit(fail, "oh")
        ended.d.addErrback(lambda _: None)
        self.workers[0].stepAll()
        running = queue.submit(len, "abc")
        waiting = [queue.submit(len, "abc") for _ in range(200)]
        self.patch(inspection, "DEEPEST", 5)
        for task, state in (
            (ended, "FAILED"),
            (running, "UNDERWAY"),
            (waiting[0], "PENDING"),
            (waiting[-1], "PENDING"),
        ):
            found = self.get(admin, "task", task=task.id)
            self.assertEqual((found["id"], found["state"]), (task.id, state))
        self.assertIn("no task 999", self.refusal(admin, "task", task=999))
        self.get(admin, "cancel", all=True)
        for task in waiting:
            task.d.addErrback(lambda _: None)
        self.workers[0].stepAll()

    def test_seriesAreSeenByTheirFirstTasks(self) -> None:
        queue = self.makeQueue(self.makeWorker("mails"))
        queue.pause()
        admin = queue.admin()
        for series in ("films", "mails", "mails", None):
            queue.call(len, "abc", series=series).addErrback(lambda _: None)
        seen = self.get(admin, "snapshot")
        self.assertEqual(seen["seriesCount"], 3)
        self.assertEqual(
            [(each["series"], each["pending"], each["served"]) for each in seen["series"]],
            [("films", 1, False), ("mails", 2, True), (None, 1, True)],
        )

    def test_openStreamsAreSeen(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        admin = queue.admin()
        self.settle()
        items = self.resultOf(queue.call(count))
        [stream] = self.get(admin, "snapshot")["streams"]
        self.assertEqual((stream["task"], stream["function"]), (1, "count"))
        for _ in range(20):
            self.clock.advance(0)
        # The far side has sent what it may, and nobody takes it.
        [stream] = self.get(admin, "snapshot")["streams"]
        self.assertEqual((stream["items"], stream["creditItems"]), (CREDIT_ITEMS, 0))
        self.assertLess(stream["creditBytes"], CREDIT_BYTES)
        items.source.items.clear()
        items.source.taken(CREDIT_ITEMS)
        [stream] = self.get(admin, "snapshot")["streams"]
        self.assertEqual((stream["items"], stream["creditItems"]), (0, CREDIT_ITEMS))
        items.stop()

    def test_argumentsAndResultsAreHiddenUnlessTheyAreAllowed(self) -> None:
        for show in ((), ("arguments", "results")):
            queue = self.makeQueue(self.makeWorker())
            admin = queue.admin(show=show, history=5)
            self.settle()
            self.resultOf(queue.call(str, "secret"))
            queue.pause()
            queue.call(str, "secret").addErrback(lambda _: None)
            text = json.dumps(self.get(admin, "snapshot", queue=admin.name))
            self.assertEqual(text.count("secret"), 3 if show else 0)
            admin.close()

    def test_whatEndedIsRememberedWhileSomebodyLooks(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        admin = queue.admin()
        self.settle()
        self.resultOf(queue.call(len, "abc"))
        self.assertEqual(self.get(admin, "snapshot")["last"], [])
        admin.api.attach()
        self.resultOf(queue.call(len, "abc"))
        self.errorOf(queue.call(fail, "oh"), ValueError)
        seen = self.get(admin, "snapshot")
        self.assertEqual(seen["ended"]["counts"], {"FINISHED": 1, "FAILED": 1})
        self.assertEqual(sum(seen["ended"]["rates"]), 2)
        failed, finished = seen["last"]
        self.assertEqual((failed["function"], failed["error"]), ("fail", "ValueError: oh"))
        # Where that was raised, in the runner, is in the cause.
        self.assertIn("in fail\n", failed["traceback"])
        self.assertEqual((finished["function"], finished["state"]), ("len", "FINISHED"))
        admin.api.detach()
        self.assertEqual(self.get(admin, "snapshot")["last"], [])

    def test_nothingIsObservedWhileNobodyLooks(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        admin = queue.admin()
        self.assertEqual(queue._engine.observers.observers, ())
        admin.api.attach()
        self.assertEqual(len(queue._engine.observers.observers), 1)
        admin.api.detach()
        self.assertEqual(queue._engine.observers.observers, ())

    def test_aHistoryIsKeptEvenWhileNobodyLooks(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        admin = queue.admin(history=2)
        self.settle()
        for text in ("a", "bb", "ccc"):
            self.resultOf(queue.call(len, text))
        self.assertEqual(len(self.get(admin, "snapshot")["last"]), 2)

    def test_pagesGoThroughWhatWaitsInItsOrder(self) -> None:
        queue = self.makeQueue()
        admin = queue.admin()
        for _ in range(60):
            queue.call(len, "abc").addErrback(lambda _: None)
        queue.call(abs, 1, doNext=True).addErrback(lambda _: None)
        pages = [
            [task["id"] for task in self.get(admin, "snapshot", page=page)["tasksPending"]]
            for page in range(4)
        ]
        self.assertEqual([len(page) for page in pages], [25, 25, 11, 0])
        self.assertEqual([*chain(*pages)], [61, *range(1, 61)])

    def test_aPageThatWouldTakeTooLongIsRefused(self) -> None:
        admin = self.makeQueue().admin()
        self.assertIn("too far down", self.refusal(admin, "snapshot", page=9999, size=500))
        self.assertIn("page must be", self.refusal(admin, "snapshot", page=10**15))
        self.assertIn("size must be", self.refusal(admin, "snapshot", size=10**9))

    def test_whatAnOwnWorkerDoesNotTellIsNull(self) -> None:
        queue = self.makeQueue(InlineWorker())
        [seen] = self.get(queue.admin(), "snapshot")["workers"]
        self.assertEqual((seen["pid"], seen["restarts"], seen["running"]), (None, 0, []))


class SteeringTests(AdminCase):
    def held(self, *calls: tuple[Any, ...], **options: Any) -> list[Any]:
        """
        @return: tasks of a new queue that has no worker.
        """
        self.queue = self.makeQueue()
        self.admin = self.queue.admin()
        tasks = [self.queue.submit(*call) for call in calls]
        for task in tasks:
            task.d.addErrback(lambda _: None)
        return tasks

    def states(self, tasks: list[Any]) -> str:
        return "".join(task.state[0] for task in tasks)

    def test_someTasksAreCancelled(self) -> None:
        tasks = self.held((len, "a"), (len, "b"), (len, "c"))
        answer = self.get(self.admin, "cancel", tasks=[tasks[0].id, tasks[2].id, 999])
        self.assertEqual(answer, {"cancelled": 2})
        self.assertEqual(self.states(tasks), "CPC")

    def test_aSeriesIsCancelled(self) -> None:
        self.held()
        named = self.queue.submit(len, "a", series="x")
        other = self.queue.submit(len, "a")
        named.d.addErrback(lambda _: None)
        other.d.addErrback(lambda _: None)
        self.assertEqual(self.get(self.admin, "cancel", series="x"), {"cancelled": 1})
        self.assertEqual((named.state, other.state), ("CANCELLED", "PENDING"))
        self.assertEqual(self.get(self.admin, "cancel", series=None), {"cancelled": 1})

    def test_allCallsOfAFunctionAreCancelled(self) -> None:
        tasks = self.held((len, "a"), (abs, 1), (len, "c"))
        self.assertEqual(self.get(self.admin, "cancel", function="len"), {"cancelled": 2})
        self.assertEqual(self.states(tasks), "CPC")

    def test_everythingIsCancelled(self) -> None:
        tasks = self.held(*[(len, "a")] * 300)
        self.assertEqual(self.get(self.admin, "cancel", all=True), {"cancelled": 300})
        self.assertEqual(self.states(tasks), "C" * 300)

    def test_aTaskThatIsUnderwayIsCancelledOnlyWhereThatIsSaid(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        admin = queue.admin()
        worker.stepAll()
        task = queue.submit(len, "a")
        self.assertEqual(self.get(admin, "cancel", all=True), {"cancelled": 0})
        self.assertEqual(self.get(admin, "cancel", tasks=[task.id]), {"cancelled": 1})
        self.errorOf(task.d, CancelledError)
        worker.stepAll()
        self.clock.advance(1)

    def test_aTaskIsTerminatedAtOnceTogetherWithItsProcess(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        admin = queue.admin()
        worker.stepAll()
        worker.channel.resident = 1234
        replies: list[Any] = []

        def ask() -> None:
            request = {"do": "terminate", "task": task.id}
            admin.api.answer(request, WHO).addCallback(replies.append)
            worker.channel.deliver()

        worker.actions["ask"] = ask
        # It would be run again if its process died by itself.
        task = queue.options(idempotent=True).submit(act, "ask")
        worker.stepAll()
        self.assertEqual(replies, [{"ok": True, "result": {"terminated": task.id}}])
        error = self.errorOf(task.d, TaskTerminated)
        self.assertIn("in act\n", error.stacks)
        self.assertEqual(error.residentKilobytes, 1234)
        signals = [name for name, _ in worker.channels[0].signals]
        self.assertEqual(signals, ["nudge", "kill"])
        self.clock.advance(0)
        d = queue.call(len, "abc")
        worker.stepAll()
        self.assertEqual((self.resultOf(d), len(worker.channels)), (3, 2))

    def test_onlyTheTaskThatIsRunningIsTerminated(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        admin = queue.admin()
        worker.stepAll()
        queue.call(len, "abc")
        worker.stepAll()
        ahead = [queue.submit(len, "abc") for _ in range(2)][1]
        self.settle()
        self.assertEqual(ahead.state, "UNDERWAY")
        text = self.refusal(admin, "terminate", task=ahead.id)
        self.assertIn("is not what", text)
        self.assertIn("cancelled", text)
        waiting = queue.submit(len, "abc", series="nobody's")
        self.assertIn("no worker", self.refusal(admin, "terminate", task=waiting.id))
        worker.stepAll()
        self.assertEqual(ahead.result, 3)
        waiting.cancel()
        self.errorOf(waiting.d, CancelledError)

    def test_whatHasNoProcessIsNotTerminated(self) -> None:
        ends: Deferred[None] = Deferred()
        for worker in (StepWorker(), AsyncWorker(reactor=self.clock)):
            queue = self.makeQueue(worker)
            admin = queue.admin()
            task = queue.submit(lambda: ends)
            self.settle()
            text = self.refusal(admin, "terminate", task=task.id, queue=admin.name)
            self.assertIn("has no process that could be killed", text)
            self.assertEqual(task.state, "UNDERWAY")
            if isinstance(worker, StepWorker):
                worker.finish()
        ends.callback(None)

    def test_aTaskThatEndsMeanwhileIsNotTerminated(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        admin = queue.admin()
        worker.stepAll()
        replies: list[Any] = []

        def ask() -> None:
            request = {"do": "terminate", "task": task.id}
            admin.api.answer(request, WHO).addCallback(replies.append)

        worker.actions["ask"] = ask
        task = queue.submit(act, "ask")
        worker.stepAll()
        self.assertIn("has ended in its process before", replies[0]["error"])
        self.assertEqual((task.state, len(worker.channels)), ("FINISHED", 1))

    def test_aSelectionHasToBeOne(self) -> None:
        self.held()
        self.assertIn("one of", self.refusal(self.admin, "cancel"))
        self.assertIn("one of", self.refusal(self.admin, "cancel", all=True, series="x"))

    def test_aTaskThatWaitsIsMoved(self) -> None:
        tasks = self.held((len, "a"), (len, "b"), (len, "c"))
        last, first = tasks[0].id, tasks[2].id
        self.get(self.admin, "reprioritise", task=first, priority="first")
        self.get(self.admin, "reprioritise", task=last, priority="last")
        seen = self.get(self.admin, "snapshot")["tasksPending"]
        self.assertEqual([task["id"] for task in seen], [first, tasks[1].id, last])
        self.assertEqual((seen[0]["priority"], seen[2]["priority"]), ("first", "last"))
        self.assertIn("no task 99", self.refusal(self.admin, "reprioritise", task=99, priority=1))

    def test_theQueueIsPausedAndResumed(self) -> None:
        self.held()
        self.get(self.admin, "pause")
        self.assertTrue(self.queue.paused)
        self.get(self.admin, "resume")
        self.assertFalse(self.queue.paused)

    def test_aRunnerIsReplacedOnRequest(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        admin = queue.admin()
        self.settle()
        former = worker.channel
        [seen] = self.get(admin, "snapshot")["workers"]
        self.get(admin, "recycle", worker=seen["id"])
        self.clock.pump([0.0] * 5)
        [seen] = self.get(admin, "snapshot")["workers"]
        self.assertEqual((seen["restarts"], seen["recycled"], seen["place"]), (1, 1, {}))
        self.assertIn("somebody asked for it", seen["losses"][-1]["reason"])
        self.assertIsNot(worker.channel, former)
        self.assertEqual(self.resultOf(queue.call(len, "abc")), 3)
        self.assertIn("no worker 77", self.refusal(admin, "recycle", worker=77))

    def test_aQueueRefusesWhatItDoesNotHave(self) -> None:
        self.held()
        for verb, parameters in [("width", {"width": 3}), ("processes", {"count": 3})]:
            self.assertIn(f"no {verb}", self.refusal(self.admin, verb, **parameters))

    def test_eachActIsRefusedToThoseWhoMayOnlyLook(self) -> None:
        self.held((len, "a"))
        jobs = ResizableDispatchQueue(print, reactor=self.clock, store=MemoryJobStore())
        owner = jobs.admin(readOnly=True)
        acts = [word for word, verb in VERBS.items() if verb.acts]
        self.assertIn("terminate", acts)
        needed: dict[str, Any] = {
            "reprioritise": {"task": 1, "priority": 1},
            "terminate": {"task": 1},
            "width": {"width": 2},
            "rate": {"rate": 2},
            "processes": {"count": 2},
            "recycle": {"worker": 1},
        }
        with capturedLogs() as events:
            for word in acts:
                parameters = needed.get(word, {})
                if word in owner.queue.verbs:
                    text = self.refusal(owner, word, queue=owner.name, **parameters)
                    self.assertIn("only be looked at", text)
        self.assertEqual(events, [])
        self.successResultOf(jobs.stop())

    def test_aQueueThatIsReadOnlyIsNotChanged(self) -> None:
        queue = self.makeQueue()
        admin = queue.admin(readOnly=True)
        self.assertIn("only be looked at", self.refusal(admin, "pause"))
        self.assertFalse(queue.paused)
        self.get(admin, "snapshot")

    def test_oneWhoMayOnlyLookChangesNothing(self) -> None:
        self.held()
        answered = self.admin.api.answer({"do": "pause"}, WHO, acts=())
        self.assertFalse(self.successResultOf(answered)["ok"])
        self.assertFalse(self.queue.paused)

    def test_eachActIsLoggedWithWhoAsked(self) -> None:
        self.held((len, "a"))
        with capturedLogs() as events:
            self.get(self.admin, "snapshot")
            self.assertEqual(events, [])
            self.get(self.admin, "cancel", all=True)
        [event] = events
        self.assertEqual((event["who"], event["word"]), (WHO, "cancel"))
        self.assertIn("'cancelled': 1", event["outcome"])


class RequestTests(AdminCase):
    def test_anUnknownVerbIsRefusedWithTheKnownOnes(self) -> None:
        admin = self.makeQueue().admin()
        for verb in ("explode", None, 3, ["x"], "x" * 10_000):
            text = self.refusal(admin, verb)
            self.assertIn("snapshot", text)
            self.assertLess(len(text), 500)

    def test_aRequestThatIsNoObjectIsRefused(self) -> None:
        admin = self.makeQueue().admin()
        requests: tuple[Any, ...] = (None, 3, [], "pause")
        for request in requests:
            reply = self.successResultOf(admin.api.answer(request, WHO))
            self.assertFalse(reply["ok"])

    def test_wrongParametersAreRefusedByName(self) -> None:
        admin = self.makeQueue().admin()
        wrong: list[tuple[str, dict[str, Any], str]] = [
            ("snapshot", {"page": -1}, "page"),
            ("snapshot", {"page": True}, "page"),
            ("snapshot", {"page": 1.5}, "page"),
            ("snapshot", {"colour": 1}, "colour"),
            ("snapshot", {"queue": ["x"]}, "queue"),
            ("cancel", {"tasks": "all"}, "tasks"),
            ("cancel", {"tasks": [1, "x"]}, "tasks"),
            ("cancel", {"tasks": [1] * 20_000}, "tasks"),
            ("cancel", {"all": 1}, "all"),
            ("cancel", {"series": {}}, "series"),
            ("reprioritise", {"task": 1}, "priority"),
            ("reprioritise", {"task": 1, "priority": float("nan")}, "priority"),
            ("reprioritise", {"task": 1, "priority": "middle"}, "priority"),
            ("reprioritise", {"task": 1, "priority": []}, "priority"),
        ]
        for verb, parameters, name in wrong:
            self.assertIn(name, self.refusal(admin, verb, **parameters))

    def test_aReplyRepeatsTheNumberOfTheRequest(self) -> None:
        admin = self.makeQueue().admin()
        reply = self.successResultOf(admin.api.answer({"id": 7, "do": "hello"}, WHO))
        self.assertEqual(reply["id"], 7)
        self.assertEqual(reply["result"]["api"], 1)

    def test_severalQueuesHaveNamesOfTheirOwn(self) -> None:
        admins = [self.makeQueue().admin() for _ in range(3)]
        mails = self.makeQueue().admin(name="mails")
        self.assertEqual(
            [queue["name"] for queue in self.get(mails, "queues")],
            ["TaskQueue", "TaskQueue-2", "TaskQueue-3", "mails"],
        )
        self.assertIn("TaskQueue-2", self.refusal(admins[0], "snapshot"))
        self.assertIn("'nobody'", self.refusal(admins[0], "snapshot", queue="nobody"))
        self.assertEqual(self.get(admins[0], "snapshot", queue="mails")["name"], "mails")

    def test_aQueueIsSeenUntilItHasShutDown(self) -> None:
        first, second = self.makeQueue(), self.makeQueue()
        admin = first.admin()
        self.assertIs(first.admin(), admin)
        second.admin()
        self.resultOf(first.shutdown())
        self.assertEqual(list(admin.api.queues), ["TaskQueue-2"])
        self.assertRaises(QueueStopped, first.admin)

    def test_whatCannotBeShownIsRefused(self) -> None:
        queue = self.makeQueue()
        self.assertRaises(AdminError, queue.admin, show="passwords")
        self.assertRaises(ValueError, queue.admin, history=-1)

    def test_aClockHasNoSocket(self) -> None:
        queue = TaskQueue(reactor=Clock())
        self.assertRaises(AdminError, queue.admin)
        self.successResultOf(queue.shutdown())

    def test_aQueueThatTheProgramHasDroppedIsSeenNoMore(self) -> None:
        queue = TaskQueue(reactor=self.clock)
        admin = queue.admin()
        self.assertEqual(list(admin.api.queues), ["TaskQueue"])
        del queue
        gc.collect()
        self.settle()
        self.assertEqual(list(admin.api.queues), [])
