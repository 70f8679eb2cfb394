"""
The web page: what it shows, and what its buttons do.
"""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from asynqueue import ResizableDispatchQueue
from asynqueue.admin import Access, AdminSite
from asynqueue.admin.web import GuardedSite
from asynqueue.rdq import MemoryJobStore
from asynqueue.testing import InlineWorker
from tests.admin.cases import makeDispatchQueue
from tests.admin.pages import HOST, PageCase

QUEUE = "/queue/here/TaskQueue"


def fail(text: str) -> None:
    raise ValueError(text)


class SeeingTests(PageCase):
    def test_allQueuesAreSeen(self) -> None:
        first, second = self.makeQueue(), self.makeQueue(InlineWorker())
        second.pause()
        first.call(len, "abc").addErrback(lambda _: None)
        self.serve(first, second)
        page = self.get_("/")
        self.assertEqual(page.code, 200)
        self.assertIn("TaskQueue-2", page.text)
        self.assertIn("paused", page.text)
        [program] = self.see("/")["programs"]
        self.assertEqual([queue["pending"] for queue in program["queues"]], [1, 0])

    def test_aQueueIsSeenWithItsWorkersAndWhatTheyRun(self) -> None:
        worker = self.makeWorker("x", stepSeconds=None)
        worker.channel.resident = 5 * 1024
        queue = self.makeQueue(worker)
        self.serve(queue, show=["arguments"])
        worker.stepAll()
        running = queue.submit(len, "abc", series="x")
        running.reported(3, 12)
        queue.submit(fail, "secret").d.addErrback(lambda _: None)
        self.clock.advance(3)
        page = self.get_(QUEUE)
        for text in ("len('abc')", "fail('secret')", "5M", "25%", str(worker.channel.pid), "3.0s"):
            self.assertIn(text, page.text)
        data = self.see(QUEUE)["queue"]
        self.assertEqual([task["id"] for task in data["tasksUnderway"]], [running.id])
        worker.stepAll()

    def test_aTaskIsSeenWithItsStack(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        self.serve(queue)
        worker.stepAll()
        task = queue.submit(len, "abc")
        told: Deferred[str] = Deferred()
        self.patch(worker, "stacks", lambda: told)
        told.callback('File "fractal.py", line 3, in <module>')
        page = self.get_(f"/task/here/TaskQueue/{task.id}")
        self.assertIn('File "fractal.py", line 3, in <module>', page.text)
        self.assertNotIn("<module>", page.body)
        worker.stepAll()
        self.resultOf(task.d)
        page = self.get_(f"/task/here/TaskQueue/{task.id}")
        self.assertEqual(page.code, 200)
        self.assertIn("finished", page.text)

    def test_whatEndedIsSeenWithItsError(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.serve(queue, history=3)
        self.settle()
        self.errorOf(queue.call(fail, "oh no"), ValueError)
        self.assertIn("ValueError: oh no", self.get_(QUEUE).text)
        self.assertIn("ValueError: oh no", self.get_("/task/here/TaskQueue/1").text)

    def test_streamsAreSeenWithTheCreditThatTheyUse(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.serve(queue)
        self.settle()
        items = self.resultOf(queue.call(count))
        [stream] = self.see(QUEUE)["queue"]["streams"]
        self.assertEqual((stream["task"], stream["over"]), (1, False))
        left = f"{stream['creditItems']:,} items, {stream['creditBytes'] / 1024:,.0f} KiB"
        self.assertIn(left, self.get_(QUEUE).text)
        items.stop()

    def test_seriesAreSeenAndThoseThatNoWorkerTakesAreNamed(self) -> None:
        queue = self.makeQueue(self.makeWorker("mails"))
        queue.pause()
        self.serve(queue)
        for series in ("mails", "mails", "films"):
            queue.call(len, "abc", series=series).addErrback(lambda _: None)
        found = self.see(QUEUE)["queue"]
        self.assertEqual(found["seriesCount"], 2)
        self.assertEqual(
            found["series"],
            [
                {"series": "mails", "pending": 2, "served": True},
                {"series": "films", "pending": 1, "served": False},
            ],
        )
        self.assertEqual(self.get_(QUEUE).text.count("No worker is qualified"), 1)

    def test_aPageHas25RowsAndLinksToTheOthers(self) -> None:
        queue = self.makeQueue()
        for number in range(60):
            queue.call(len, str(number)).addErrback(lambda _: None)
        self.serve(queue)
        pages = [self.see(f"{QUEUE}?pending={page}")["queue"]["tasksPending"] for page in (1, 2, 3)]
        self.assertEqual([len(page) for page in pages], [25, 25, 10])
        self.assertEqual([task["id"] for task in pages[2]], [*range(51, 61)])
        page = self.get_(f"{QUEUE}?pending=2")
        self.assertIn("Page 2 of 3", page.text)
        for address in (QUEUE, f"{QUEUE}?pending=3"):
            self.assertIn(f'href="{address}"', page.body)

    def test_manyUnderwayAndManyWorkersHavePagesToo(self) -> None:
        workers = [self.makeWorker(stepSeconds=None) for _ in range(30)]
        queue = self.makeQueue(*workers)
        for worker in workers:
            worker.stepAll()
        for _ in range(30):
            queue.call(len, "abc")
        self.serve(queue)
        for name, table in (("workers", "workers"), ("tasksUnderway", "underway")):
            for number, length in ((1, 25), (2, 5)):
                found = self.see(f"{QUEUE}?{table}={number}")["queue"]
                self.assertEqual(len(found[name]), length)
        self.assertIn("Page 2 of 2", self.get_(f"{QUEUE}?underway=2").text)
        for worker in workers:
            worker.stepAll()

    def test_greatCountsAreEstimates(self) -> None:
        queue = self.makeQueue()
        self.serve(queue)
        self.patch(queue._engine.scheduler, "waiting", 1_234_567)
        text = self.get_(QUEUE).text
        self.patch(queue._engine.scheduler, "waiting", 0)
        self.assertIn("≈ 1,230,000", text)
        self.assertNotIn("1,234,567", text)

    def test_numbersBeyond53BitsAreTextsForScripts(self) -> None:
        queue = self.makeQueue()
        queue.call(len, "a", series=2**53 + 1).addErrback(lambda _: None)
        queue.call(len, "a", series=2**53).addErrback(lambda _: None)
        self.serve(queue)
        series = [task["series"] for task in self.see(QUEUE)["queue"]["tasksPending"]]
        self.assertEqual(series, ["9007199254740993", 2**53])
        self.assertIn("9007199254740993", self.get_(QUEUE).text)

    def test_whatIsNotThereIsSaid(self) -> None:
        self.serve(self.makeQueue())
        for path in (
            "/nonsense",
            "/queue/here",
            "/queue/here/other",
            "/queue/there/TaskQueue",
            "/queue/here/TaskQueue/1",
            "/static/nonsense.js",
            "/static/../api.py",
            "/static/%2e%2e%2fapi.py",
            "/events/nonsense",
        ):
            self.assertEqual(self.get_(path).code, 404, path)
        self.assertEqual(self.get_("/task/here/TaskQueue/7").code, 409)
        self.assertIn("no task 7", self.get_("/task/here/TaskQueue/7?format=json").data["error"])

    def test_aHeadIsAnsweredWithoutABody(self) -> None:
        self.serve(self.makeQueue())
        page = self.send("HEAD", QUEUE)
        self.assertEqual((page.code, page.body), (200, ""))

    def test_aPageWorksBelowAnotherSitesPath(self) -> None:
        queue = self.makeQueue()
        queue.call(len, "a").addErrback(lambda _: None)
        root, below = Resource(), Resource()
        root.putChild(b"inner", below)
        page = AdminSite(queue, login=lambda _: self.access, reactor=self.clock)
        self.addCleanup(page.close)
        below.putChild(b"queues", page)
        self.site = GuardedSite(root, [HOST], reactor=self.clock)
        seen = self.get_("/inner/queues/")
        self.assertIn('href="/inner/queues/queue/here/TaskQueue"', seen.body)
        self.assertIn('src="/inner/queues/static/htmx.min.js', seen.body)
        asked = self.push(self.get_(f"/inner/queues{QUEUE}"), "Pause")
        self.assertIn("paused", self.follow(asked).text)

    def test_nothingIsObservedWhileNobodyLooks(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        self.settle()
        self.serve(queue)
        events = queue._engine.observers
        before = len(events.observers)
        self.get_("/")
        self.assertGreater(len(events.observers), before)
        self.clock.advance(59)
        self.get_("/")
        self.clock.advance(59)
        self.assertGreater(len(events.observers), before)
        self.clock.advance(1)
        self.assertEqual(len(events.observers), before)

    def test_theLoginMayTakeItsTime(self) -> None:
        later: Deferred[Access | None] = Deferred()
        page = AdminSite(self.makeQueue(), login=lambda _: later, reactor=self.clock)
        self.addCleanup(page.close)
        self.site = GuardedSite(page, [HOST], reactor=self.clock)
        channel, wire = self.connect()
        channel.dataReceived(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        self.assertEqual(wire.value(), b"")
        later.callback(Access("ann"))
        self.clock.advance(0)
        self.assertIn(b"200 OK", wire.value())
        channel.connectionLost(Failure(ConnectionDone()))

    def test_aBrowserThatLeavesBeforeTheAnswerDoesNoHarm(self) -> None:
        later: Deferred[Access | None] = Deferred()
        page = AdminSite(self.makeQueue(), login=lambda _: later, reactor=self.clock)
        self.addCleanup(page.close)
        self.site = GuardedSite(page, [HOST], reactor=self.clock)
        channel, wire = self.connect()
        channel.dataReceived(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        channel.connectionLost(Failure(ConnectionDone()))
        later.callback(Access("ann"))
        self.clock.advance(0)
        self.assertEqual(wire.value(), b"")

    def test_queuesThatHaveEndedAreStillSeen(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        jobs = ResizableDispatchQueue(len, reactor=self.clock)
        self.settle()
        self.serve(queue, jobs)
        over: list[Deferred[Any]] = [queue.shutdown(), jobs.stop()]
        for _ in range(10):
            self.clock.advance(1)
        for d in over:
            self.successResultOf(d)
        for path in ("/", QUEUE, "/queue/here/ResizableDispatchQueue"):
            self.assertEqual(self.get_(path).code, 200, path)
        self.assertIn("stopped", self.get_("/").text)


class SteeringTests(PageCase):
    def held(self, *calls: Any, **options: Any) -> list[Any]:
        """
        @return: the tasks that wait in a queue with one worker that is paused.
        """
        self.queue = self.makeQueue(self.makeWorker())
        self.settle()
        self.queue.pause()
        tasks = [self.queue.submit(len, "abc", **options) for _ in range(4)]
        for task in tasks:
            task.d.addErrback(lambda failure: failure.trap(CancelledError))
        self.serve(self.queue)
        return tasks

    def states(self, tasks: list[Any]) -> str:
        return "".join(task.state[0] for task in tasks)

    def test_aQueueIsPausedAndResumed(self) -> None:
        self.held()
        self.follow(self.push(self.get_(QUEUE), "Resume"))
        self.assertFalse(self.queue.paused)
        page = self.follow(self.push(self.get_(QUEUE), "Pause"))
        self.assertTrue(self.queue.paused)
        self.assertIn("Pause TaskQueue: done.", page.text)

    def test_whatWasDoneIsToldOnce(self) -> None:
        self.held()
        response = self.push(self.get_(QUEUE), "Resume")
        self.assertIn("Resume TaskQueue: done.", self.follow(response).text)
        self.assertNotIn("Resume TaskQueue: done.", self.follow(response).text)

    def test_cancellingAsksFirst(self) -> None:
        tasks = self.held()
        sure = self.push(self.get_(QUEUE), "Cancel…", f"Cancel task {tasks[1].id}")
        self.assertEqual(sure.code, 200)
        self.assertIn(f"Cancel task {tasks[1].id} of TaskQueue?", sure.text)
        self.assertEqual(self.states(tasks), "PPPP")
        self.assertIn("1 cancelled", self.follow(self.push(sure, "Yes")).text)
        self.assertEqual(self.states(tasks), "PCPP")

    def test_aSelectionIsCancelled(self) -> None:
        tasks = self.held()
        chosen = [tasks[0].id, tasks[3].id]
        sure = self.push(self.get_(QUEUE), "Cancel the chosen…", chosen=chosen)
        self.assertIn("2 chosen tasks", sure.text)
        self.follow(self.push(sure, "Yes"))
        self.assertEqual(self.states(tasks), "CPPC")
        nothing = self.push(self.get_(QUEUE), "Cancel the chosen…")
        self.assertEqual(nothing.code, 400)
        self.assertIn("nothing was chosen", nothing.text)

    def test_aSeriesIsCancelledWhateverItsName(self) -> None:
        for series in ("mails", "\u202e<b>", 7, None):
            tasks = self.held(series=series)
            sure = self.push(self.get_(QUEUE), "Cancel…", "Cancel what waits of series")
            self.follow(self.push(sure, "Yes"))
            self.assertEqual(self.states(tasks), "CCCC", series)

    def test_everythingThatWaitsIsCancelled(self) -> None:
        tasks = self.held()
        sure = self.push(self.get_(QUEUE), "Cancel all that wait…")
        self.assertIn("4 cancelled", self.follow(self.push(sure, "Yes")).text)
        self.assertEqual(self.states(tasks), "CCCC")

    def test_aTaskIsMovedByItsRowAndByANumber(self) -> None:
        tasks = self.held()
        self.follow(self.push(self.get_(QUEUE), "First", f"Run task {tasks[2].id} first"))
        order = [task["id"] for task in self.see(QUEUE)["queue"]["tasksPending"]]
        self.assertEqual(order, [tasks[place].id for place in (2, 0, 1, 3)])
        address = f"/task/here/TaskQueue/{tasks[0].id}"
        back = self.follow(self.push(self.get_(address), "Set", priority="12.5"))
        self.assertIn(f"Task {tasks[0].id}", back.text)
        self.assertEqual(tasks[0].priority, 12.5)
        refused = self.push(self.get_(address), "Set", priority="soon")
        self.assertEqual(refused.code, 409)
        self.assertIn("priority must be a number", refused.text)

    def test_terminatingIsApartFromCancellingAndAsksFirst(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        self.queue = self.makeQueue(worker)
        worker.stepAll()
        task = self.queue.submit(len, "abc")
        task.d.addErrback(lambda _: None)
        self.serve(self.queue)
        terminated: list[Any] = []

        def terminate(task: Any) -> Deferred[None]:
            terminated.append(task)
            return succeed(None)

        self.patch(self.queue._engine, "terminate", terminate)
        self.patch(worker, "stacks", lambda: succeed("File x"))
        address = f"/task/here/TaskQueue/{task.id}"
        sure = self.push(self.get_(address), "Terminate…")
        self.assertIn(f"Terminate task {task.id} of TaskQueue?", sure.text)
        self.assertEqual(terminated, [])
        self.follow(self.push(sure, "Yes"))
        self.assertEqual(terminated, [task])
        worker.stepAll()

    def test_aWorkerIsRecycled(self) -> None:
        self.queue = self.makeQueue(self.makeWorker())
        self.settle()
        self.serve(self.queue)
        asked: list[int] = []

        def recycle() -> bool:
            asked.append(1)
            return True

        self.patch(self.workers[0], "recycle", recycle)
        self.follow(self.push(self.get_(QUEUE), "Recycle"))
        self.assertEqual(asked, [1])

    def test_afterAnActTheSamePlaceIsShown(self) -> None:
        self.held()
        for number in range(60):
            self.queue.call(len, str(number)).addErrback(lambda _: None)
        response = self.push(self.get_(f"{QUEUE}?pending=2"), "Resume")
        self.assertTrue(response.headers["location"].startswith(f"{QUEUE}?pending=2&said="))

    def test_eachActIsLoggedWithWho(self) -> None:
        self.held()
        page = self.get_(QUEUE)
        with capturedLogs() as events:
            self.push(page, "Resume")
        [event] = [event for event in events if "who" in event]
        self.assertEqual((event["who"], event["word"]), ("ann", "resume"))

    def test_oneWhoMayOnlyLookHasNoButtonsAndIsRefused(self) -> None:
        tasks = self.held()
        form, value = self.get_(QUEUE).button("Resume")
        self.access = Access("bob", acts=())
        page = self.get_(QUEUE)
        self.assertEqual(page.forms, [])
        self.assertIn("may only look", page.text)
        refused = self.post(form.action, form=self.tokenOf("bob"), act=value)
        self.assertEqual(refused.code, 403)
        self.assertTrue(self.queue.paused)
        self.assertEqual(self.states(tasks), "PPPP")

    def tokenOf(self, who: str) -> str:
        page = self.site.resource
        assert isinstance(page, AdminSite)
        return page._formToken(Access(who))

    def test_rightsAreCheckedForEachAct(self) -> None:
        tasks = self.held()
        self.access = Access("bob", acts=["resume"])
        page = self.get_(QUEUE)
        self.assertEqual({button[0] for form in page.forms for button in form.buttons}, {"Resume"})
        form, _ = page.button("Resume")
        cancel = json.dumps({"do": "cancel", "all": True})
        refused = self.post(form.action, **form.hidden, act=cancel, sure="yes")
        self.assertEqual(refused.code, 403)
        self.assertIn("no right to cancel", refused.body)
        self.assertEqual(self.states(tasks), "PPPP")
        self.follow(self.push(page, "Resume"))
        self.assertFalse(self.queue.paused)

    def test_aReadOnlyQueueHasNoButtons(self) -> None:
        queue = self.makeQueue()
        queue.call(len, "a").addErrback(lambda _: None)
        self.serve(queue, readOnly=True)
        self.assertEqual(self.get_(QUEUE).forms, [])

    def test_aFormThatSaysNothingIsRefused(self) -> None:
        self.held()
        form, _ = self.get_(QUEUE).button("Resume")
        deep = "[" * 20_000
        for act in ("", "nonsense", "[]", "{}", '{"do": 1}', '{"do": "snapshot"}', deep):
            refused = self.post(form.action, **form.hidden, act=act)
            self.assertEqual(refused.code, 400, act[:20])
        wrong = self.post(form.action, **form.hidden, act='{"do": "pause", "x": 1}')
        self.assertEqual(wrong.code, 409)
        self.assertIn("no parameter", wrong.text)


class DispatchTests(PageCase):
    def setUp(self) -> None:
        super().setUp()
        self.calls: list[Deferred[Any]] = []

    def make(self, **options: Any) -> Any:
        return makeDispatchQueue(self, self.send_, **options)

    def send_(self, text: str) -> Any:
        if text.startswith("bad"):
            raise ValueError(f"{text[:4]} address")
        d: Deferred[Any] = Deferred()
        self.calls.append(d)
        return d

    def put(self, queue: Any, *texts: str) -> list[Any]:
        jobs = []
        for text in texts:
            d = queue.put(text)
            d.addErrback(lambda _: None)
            jobs.append(d.job)
        for _ in range(4):
            self.clock.advance(0)
        return jobs

    def test_widthAndRateAreSeenAndChanged(self) -> None:
        queue = self.make(width=2)
        self.serve(queue)
        address = "/queue/here/ResizableDispatchQueue"
        self.follow(self.push(self.get_(address), "Set", width="5"))
        self.assertEqual(queue.width, 5)
        page = self.get_(address)
        rate = next(
            (form, value)
            for form in page.forms
            for _, _, value in form.buttons
            if json.loads(value)["do"] == "rate"
        )
        form, value = rate
        self.follow(self.post(form.action, **form.hidden, act=value, rate="7", per="60", burst=""))
        self.assertEqual(queue.rate, (7, 60.0, None))
        self.assertIn("7 in 60 s", self.get_(address).text)
        self.follow(self.post(form.action, **form.hidden, act=value, rate="", per="1", burst=""))
        self.assertIsNone(queue.rate)
        refused = self.post(form.action, **form.hidden, act=value, rate="-1", per="1", burst="")
        self.assertEqual(refused.code, 409)

    def test_jobsAreSeenAndCancelled(self) -> None:
        queue = self.make(width=1)
        jobs = self.put(queue, "a", "b")
        self.serve(queue, show=["arguments"])
        page = self.get_("/queue/here/ResizableDispatchQueue")
        self.assertIn("send_('b')", page.text.replace("DispatchTests.", ""))
        sure = self.push(page, "Cancel…", f"Cancel task {jobs[1].id}")
        self.follow(self.push(sure, "Yes"))
        self.assertEqual(jobs[1].state, "CANCELLED")
        one = self.get_(f"/task/here/ResizableDispatchQueue/{jobs[0].id}")
        self.assertIn("underway", one.text)

    def test_deadLettersAreRetriedAndDroppedOneByOneChosenAndAllOfAKind(self) -> None:
        queue = self.make(width=9, store=MemoryJobStore(), storedAs="send")
        self.put(queue, "bad1 a", "bad1 b", "bad1 c", "bad2 d", "bad2 e")
        self.serve(queue)
        address = "/dead/here/ResizableDispatchQueue"
        found = self.see(address)["dead"]
        self.assertEqual(
            [(kind["count"], kind["error"]) for kind in found["kinds"]],
            [
                (3, "ValueError: bad1 address"),
                (2, "ValueError: bad2 address"),
            ],
        )
        ids = [letter["id"] for letter in found["letters"]]
        self.assertIn("Traceback", found["letters"][0]["traceback"])
        self.assertIn("bad1 address", self.get_(address).text)
        sure = self.push(self.get_(address), "Drop…", f"Drop dead letter {ids[0]}")
        self.assertIn(f"Drop dead letter {ids[0]}", sure.text)
        self.assertIn("1 done", self.follow(self.push(sure, "Yes")).text)
        kind = found["kinds"][1]["kind"]
        sure = self.post_(address, {"do": "drop", "kind": kind})
        self.assertIn("2 done", self.follow(self.push(sure, "Yes")).text)
        left = [letter["id"] for letter in self.see(address)["dead"]["letters"]]
        self.assertEqual(left, ids[1:3])
        # They fail again.
        self.follow(self.push(self.get_(address), "Retry the chosen", chosen=left[:1]))
        self.put(queue)
        self.assertEqual(len(self.see(address)["dead"]["letters"]), 2)

    def post_(self, address: str, request: dict[str, Any]) -> Any:
        form = self.get_(address).forms[0]
        return self.post(form.action, **form.hidden, act=json.dumps(request))
