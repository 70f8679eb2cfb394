"""
The parts of C{examples/sms} that need no processes.
"""

from __future__ import annotations

from threading import Event
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.template import Tag, flattenString

from asynqueue import DeadLetter
from asynqueue._dispatch.rdq import ResizableDispatchQueue
from asynqueue._dispatch.stores import WAITING, Change, MemoryJobStore
from asynqueue.errors import StoreError
from asynqueue.interfaces import IJobStore
from asynqueue.rdq import QueueFull
from examples.sms import texting
from examples.sms.client import Window
from examples.sms.messages import Message, makeMessage
from examples.sms.numbers import LONGEST_TEXT, MOST_NUMBERS, Numbers, complaints, parseNumbers
from examples.sms.pages import formPage, statusPage
from examples.sms.texting import Settings, Texting

EVIL = "\"'><script>alert(1)</script>&amp;"


class NumbersTests(SynchronousTestCase):
    def test_numbersAreReadHoweverTheyAreWritten(self) -> None:
        typed = " +44 20 7946-0123\r\n0044 (20) 7946.0124,+49/30/1234567;\n\n\t+12025550123 "
        good = ["+442079460123", "+442079460124", "+49301234567", "+12025550123"]
        self.assertEqual(parseNumbers(typed), Numbers(good, []))

    def test_numberThatIsTypedTwiceIsOne(self) -> None:
        self.assertEqual(parseNumbers("+12025550123, 001 202 555 0123").good, ["+12025550123"])

    def test_whatIsNoNumberIsToldAsItWasTyped(self) -> None:
        bad = [
            "020 7946 0123",
            "+0123456789",
            "+1234",
            "+1234567890123456",
            "Ann",
            "+1\uff12025550123",
        ]
        self.assertEqual(parseNumbers("\n".join(bad)), Numbers([], bad))

    def test_formThatCanBeSentHasNothingWrong(self) -> None:
        self.assertEqual(complaints(Numbers(["+12025550123"], []), "x" * LONGEST_TEXT), [])

    def test_everythingThatIsWrongIsTold(self) -> None:
        told = complaints(Numbers([], []), " \n")
        self.assertEqual(told, ["There is no telephone number.", "There is no text."])
        many = Numbers(["+12025550123"] * (MOST_NUMBERS + 1), ["Ann"])
        told = complaints(many, "x" * (LONGEST_TEXT + 1))
        self.assertEqual([line.split()[0] for line in told], ["Ann", "There", "The"])


class MessageTests(SynchronousTestCase):
    def test_sameFormGivesTheSameIdAndAnyOtherAnother(self) -> None:
        first = makeMessage("a", "+1", "x")
        self.assertEqual(makeMessage("a", "+1", "x"), first)
        others = [("b", "+1", "x"), ("a", "+2", "x"), ("a", "+1", "y")]
        self.assertEqual(len({first["id"], *(makeMessage(*each)["id"] for each in others)}), 4)


class PageTests(SynchronousTestCase):
    def show(self, page: Tag) -> str:
        return self.successResultOf(flattenString(None, page)).decode()

    def test_formShowsWhatWasTypedAsText(self) -> None:
        shown = self.show(formPage(EVIL, EVIL, [EVIL], EVIL))
        self.assertNotIn("<script", shown)
        self.assertEqual(shown.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;"), 4)
        self.assertNotIn(f'value="{EVIL[0]}', shown)

    def test_statusShowsMessagesAndErrorsAsText(self) -> None:
        queue = ResizableDispatchQueue(print, reactor=Clock())
        queue.put(makeMessage("a", EVIL, EVIL))
        letters = [DeadLetter(7, "f", jobarg, 0, 0.0, 1, None, EVIL) for jobarg in (EVIL, None)]
        shown = self.show(statusPage(queue, letters))
        self.assertNotIn("<script", shown)
        self.assertEqual(shown.count("&lt;script&gt;"), 5)

    def test_longTablesAreCutAndSayso(self) -> None:
        queue = ResizableDispatchQueue(print, reactor=Clock())
        for number in range(60):
            queue.put(makeMessage("a", f"+{number}", "x"))
        self.assertIn("… and 10 more", self.show(statusPage(queue, [])))


class WindowTests(SynchronousTestCase):
    def test_requestCountsUntilASecondAfterItsAnswer(self) -> None:
        clock = Clock()
        window = Window(2, clock)
        asked: list[Deferred[str]] = []

        def request() -> Deferred[str]:
            asked.append(Deferred())
            return asked[-1]

        runs = [Deferred.fromCoroutine(window.run(request)) for _ in range(4)]
        self.assertEqual(len(asked), 2)
        clock.advance(5)
        self.assertEqual(len(asked), 2, "the first two have not been answered")
        asked[0].callback("sent")
        self.assertEqual(self.successResultOf(runs[0]), "sent")
        asked[1].errback(ZeroDivisionError())
        self.failureResultOf(runs[1], ZeroDivisionError)
        clock.advance(0.99)
        self.assertEqual(len(asked), 2)
        clock.advance(0.01)
        self.assertEqual(len(asked), 4)

    def test_cancelledWaitTakesNoRoom(self) -> None:
        clock = Clock()
        window = Window(1, clock)
        asked: list[Deferred[None]] = []

        def request() -> Deferred[None]:
            asked.append(Deferred())
            return asked[-1]

        runs = [Deferred.fromCoroutine(window.run(request)) for _ in range(3)]
        runs[1].cancel()
        runs[1].addErrback(lambda _: None)
        asked[0].callback(None)
        clock.advance(1)
        self.assertEqual(len(asked), 2)


class BrokenStore(MemoryJobStore):
    """
    Cannot write.
    """

    def apply(self, changes: list[Change]) -> None:
        raise StoreError("the disk is full")


class SlowStore(MemoryJobStore):
    """
    Writes when it is told to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = Event()
        self.mayWrite = Event()

    def apply(self, changes: list[Change]) -> None:
        self.asked.set()
        self.mayWrite.wait()
        super().apply(changes)


class TextingTests(TestCase):
    timeout = 10.0

    def makeService(self, store: IJobStore) -> Texting:
        from twisted.internet import reactor

        async def send(message: Message) -> str:
            return "sent"

        return Texting(send, Settings(store), cast(IReactorTime, reactor))

    async def test_nothingIsAcknowledgedBeforeItIsSaved(self) -> None:
        store = SlowStore()
        self.addCleanup(store.mayWrite.set)
        service = self.makeService(store)
        accepted = Deferred.fromCoroutine(service.accept([makeMessage("a", "+1", "x")]))
        await deferToThread(store.asked.wait)
        self.assertNoResult(accepted)
        store.mayWrite.set()
        self.assertEqual(await accepted, [])
        self.assertEqual(len(store.jobs(WAITING)), 1)
        await service.queue.stop()

    async def test_whatCannotBeSavedIsNotAcknowledged(self) -> None:
        service = self.makeService(BrokenStore())
        messages = [makeMessage("a", f"+{number}", "x") for number in range(3)]
        self.assertEqual(await service.accept(messages), messages)
        self.assertTrue(self.flushLoggedErrors(StoreError))
        await deferLater(service.reactor, 0)
        self.assertEqual(service.queue.size(), (0, 0))
        await service.queue.stop()

    async def test_formThatIsSentTwiceIsTakenOnOnce(self) -> None:
        service = self.makeService(MemoryJobStore())
        messages = [makeMessage("a", f"+{number}", "x") for number in range(3)]
        self.assertEqual(await service.accept(messages), [])
        self.assertEqual(await service.accept(messages), [])
        self.assertEqual(service.queue.size(), (0, 3))
        await service.queue.stop()

    async def test_nothingIsTakenOnIfThereIsNoRoomForAll(self) -> None:
        self.patch(texting, "MOST_PENDING", 2)
        service = self.makeService(MemoryJobStore())
        with self.assertRaises(QueueFull):
            await service.accept(makeMessage("a", f"+{number}", "x") for number in range(3))
        self.assertEqual(service.queue.size(), (0, 0))
        await service.queue.stop()
