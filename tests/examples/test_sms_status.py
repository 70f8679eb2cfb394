"""
The status page of C{examples/sms} and its orders, with a store in memory.
"""

from __future__ import annotations

import json
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.template import flattenString

from asynqueue._dispatch.stores import DEAD, INSERT
from asynqueue.rdq import MemoryJobStore, StoredJob
from examples.sms.client import MessageRefused
from examples.sms.messages import Message, makeMessage
from examples.sms.texting import Settings, Texting
from examples.sms.web import Answer, StatusPage

BROKEN = "GatewayError: the gateway answers 500: broken"
REFUSED = "MessageRefused: the gateway answers 400: no\u202e number"


def storeOfDeadLetters(count: int) -> MemoryJobStore:
    """
    @return: a store with dead letters, of which each tenth was refused.
    """
    store = MemoryJobStore()
    store.open()
    for id in range(1, count + 1):
        message = makeMessage("a", f"+44{id:010d}", "Hello")
        error = BROKEN if id % 10 else REFUSED
        job = StoredJob(
            id, "send a text", json.dumps(message), 0, 1.0, state=DEAD, attempts=8, error=error
        )
        store.apply([(INSERT, job)])
    store.close()
    return store


class StatusTests(TestCase):
    timeout = 20.0

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = cast(IReactorTime, reactor)
        self.store = storeOfDeadLetters(240)
        self.limits: list[int] = []
        self.arrived: list[str] = []
        self.texting = Texting(
            self.send, Settings(self.store), self.reactor, setLimit=self.limits.append
        )
        self.addCleanup(self.texting.queue.stop)
        self.page = StatusPage(self.texting)

    async def send(self, message: Message) -> str:
        self.arrived.append(message["number"])
        if message["number"].endswith("3"):
            raise MessageRefused("the gateway answers 400: no")
        return "sent"

    async def show(self, **fields: str) -> str:
        return await self.flatten(await self.page.get(fields), 200)

    async def order(self, name: str, **fields: str) -> Answer:
        return await self.page.post({"order": name, **fields})

    async def flatten(self, answer: Answer, code: int) -> str:
        self.assertEqual(answer.code, code)
        assert answer.page is not None
        shown: bytes = await flattenString(None, answer.page)
        return shown.decode()

    async def letters(self) -> int:
        return len(await self.texting.queue.deadLetters())

    async def kinds(self) -> list[str]:
        """
        @return: the kinds of dead letters, the largest first.
        """
        shown = await self.show()
        found = [part.split('"')[0] for part in shown.split('name="kind" value="')[1:]]
        return list(dict.fromkeys(found))

    async def test_allDeadLettersAreOnPagesOf25(self) -> None:
        seen: list[str] = []
        for number in range(1, 11):
            shown = await self.show(dead=str(number))
            self.assertIn(f"Page {number} of 10", shown)
            rows = [part.split("<")[0] for part in shown.split('class="text">+44')[1:]]
            self.assertEqual(len(rows), 25 if number < 10 else 15)
            seen += rows
        self.assertEqual(seen, [f"{id:010d}" for id in range(1, 241)])
        self.assertIn("Page 10 of 10", await self.show(dead="999999"))

    async def test_pageFollowsTheQueueWhenItIsAsked(self) -> None:
        self.assertNotIn("http-equiv", await self.show())
        shown = await self.show(refresh="5", dead="2")
        self.assertIn('<meta http-equiv="refresh" content="5"', shown)
        self.assertIn('href="/status?dead=2"', shown)
        self.assertIn('action="/status?dead=2&amp;refresh=5"', shown)
        answer = await self.page.post({"order": "pause", "refresh": "5", "dead": "2"})
        self.assertEqual(answer.location, "/status?dead=2&refresh=5")

    async def test_allOfAKindAreDroppedWhenThatIsMeant(self) -> None:
        broken, refused = await self.kinds()
        asked = await self.flatten(await self.order("drop kind", kind=refused, dead="3"), 200)
        self.assertIn("Drop 24 dead letters", asked)
        self.assertNotIn("\u202e", asked)
        self.assertIn('action="/status?dead=3"', asked)
        self.assertEqual(await self.letters(), 240)
        answer = await self.order("drop kind", kind=refused, sure="yes")
        self.assertEqual((answer.code, await self.letters()), (303, 216))
        self.assertEqual(await self.kinds(), [broken])
        self.assertEqual((await self.order("drop kind", kind=refused)).code, 409)

    async def test_allOfAKindAreTriedAgainAndCounted(self) -> None:
        broken, refused = await self.kinds()
        self.assertEqual((await self.order("retry kind", kind=refused)).code, 303)
        self.assertEqual(self.texting.queue.size(), (0, 24))
        self.assertEqual(await self.letters(), 216)
        self.assertEqual((await self.order("retry kind", kind=broken)).code, 303)
        self.assertEqual(self.texting.queue.size(), (0, 240))
        self.texting.queue.setRate(None)
        self.texting.queue.setWidth(50)
        while len(self.arrived) < 240 or self.texting.queue.size() != (0, 0):
            await deferLater(self.reactor, 0)
        shown = await self.show()
        self.assertIn("<th>Sent since the start</th><td>216</td>", shown)
        self.assertIn("<th>Failed attempts since the start</th><td>24</td>", shown)
        self.assertIn("<th>Dead letters</th><td>24</td>", shown)

    async def test_whatDestroysAsksFirst(self) -> None:
        self.assertEqual((await self.order("retry", job="1")).code, 303)
        self.assertEqual(self.texting.queue.size(), (0, 1))
        for name, job in (("cancel", "1"), ("drop", "2")):
            asked = await self.flatten(await self.order(name, job=job), 200)
            self.assertIn("Are you sure?", asked)
            self.assertEqual((self.texting.queue.size(), await self.letters()), ((0, 1), 239))
        await self.order("cancel", job="1", sure="yes")
        await self.order("drop", job="2", sure="yes")
        self.assertEqual((self.texting.queue.size(), await self.letters()), ((0, 0), 238))

    async def test_rateIsChangedInTheQueueAndAtTheGateway(self) -> None:
        self.assertEqual((await self.order("rate", rate="25")).code, 303)
        self.assertEqual(self.texting.queue.rate, (25, 1.0, None))
        self.assertEqual(self.limits, [25])
        self.assertIn("<th>Rate</th><td>25 in 1 s</td>", await self.show())
        for wrong in ("", "0", "-1", "1001", "x", "1.5", "nan", "9" * 5000):
            self.assertEqual((await self.order("rate", rate=wrong)).code, 409)
        self.assertEqual(self.limits, [25])

    async def test_senselessOrdersDoNothing(self) -> None:
        await self.order("retry", job="1")
        for fields in (
            {},
            {"order": "dance"},
            {"order": "drop", "job": "1"},
            {"order": "drop", "job": "9" * 5000},
            {"order": "drop kind"},
            {"order": "retry kind", "kind": "x"},
            {"order": "move", "job": "1", "priority": "9" * 400},
            {"order": "move", "job": "1", "priority": "nan"},
            {"order": "cancel", "job": "-1", "sure": "yes"},
        ):
            self.assertEqual((await self.page.post(fields)).code, 409)
        self.assertEqual((self.texting.queue.size(), await self.letters()), ((0, 1), 239))

    async def test_secondRetryOfAKindSaysThatItCameTooLate(self) -> None:
        _, refused = await self.kinds()
        orders = [Deferred.fromCoroutine(self.order("retry kind", kind=refused)) for _ in range(2)]
        self.assertEqual([(await each).code for each in orders], [303, 409])
        self.assertEqual(self.texting.queue.size(), (0, 24))
