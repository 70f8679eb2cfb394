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

from asynqueue import DeadLetter, ResizableDispatchQueue
from asynqueue._dispatch.stores import WAITING, Change
from asynqueue.errors import StoreError
from asynqueue.interfaces import IJobStore
from asynqueue.rdq import MemoryJobStore, QueueFull
from examples.sms import texting
from examples.sms.client import Window
from examples.sms.messages import Message, makeMessage
from examples.sms.numbers import (
    GSM_7,
    MOST_NUMBERS,
    UCS_2,
    Numbers,
    complaints,
    measureText,
    parseNumbers,
    readText,
)
from examples.sms.pages import (
    View,
    formPage,
    notSavedPage,
    sorryPage,
    statusPage,
    surePage,
)
from examples.sms.texting import Settings, Texting

EVIL = "\"'><script>alert(1)</script>&amp;"


class NumbersTests(SynchronousTestCase):
    def test_numbersAreReadHoweverTheyAreWritten(self) -> None:
        typed = " +44 20 7946-0123\r\n0044 (20) 7946.0124,+49/30/1234567;\n\n\t+12025550123 "
        good = ["+442079460123", "+442079460124", "+49301234567", "+12025550123"]
        self.assertEqual(parseNumbers(typed), Numbers(good, []))

    def test_numberThatIsTypedTwiceIsOne(self) -> None:
        self.assertEqual(parseNumbers("+12025550123, 001 202 555 0123").good, ["+12025550123"])

    def test_zeroThatIsDialledWithinTheCountryIsLeftOut(self) -> None:
        for typed in ("+44 (0)20 7946 0002", "0044(0) 20 79460002", "(+44) ( 0 )20-7946-0002"):
            self.assertEqual(parseNumbers(typed), Numbers(["+442079460002"], []))
        self.assertEqual(parseNumbers("+49 (0)30 1234567").good, ["+49301234567"])
        self.assertEqual(parseNumbers("+353 (0)1 234 5678").good, ["+35312345678"])

    def test_zeroThatBelongsToTheNumberStays(self) -> None:
        self.assertEqual(parseNumbers("+39 06 1234 5678").good, ["+390612345678"])
        self.assertEqual(parseNumbers("+225 07 01 02 03 04").good, ["+2250701020304"])

    def test_numberThatMayMeanTwoIsRefused(self) -> None:
        bad = [
            "+39 (0)6 1234 5678",
            "+44 020 7946 0002",
            "+44 (020) 7946 0002",
            "+44 20 (0) 7946 0002",
            "+44 (0)(0)20 7946 0002",
            "+44 (0)020 7946 0002",
            "(0)44 20 7946 0002",
        ]
        self.assertEqual(parseNumbers("\n".join(bad)), Numbers([], bad))

    def test_otherLinesAreToldAsTheyWereTyped(self) -> None:
        bad = [
            "020 7946 0123",
            "+0123456789",
            "+1234",
            "+1234567890123456",
            "Ann",
            "+1\uff12025550123",
            "+44\0 20 7946 0123",
        ]
        self.assertEqual(parseNumbers("\n".join(bad)), Numbers([], bad))


class TextTests(SynchronousTestCase):
    good = Numbers(["+12025550123"], [])

    def test_partsOfTheGSMAlphabetHoldTheirCharacters(self) -> None:
        for length, parts in ((0, 1), (160, 1), (161, 2), (306, 2), (307, 3), (459, 3), (460, 4)):
            self.assertEqual(measureText("é" * length), (GSM_7, length, parts))

    def test_characterOfTheExtensionCountsTwoAndIsNotDivided(self) -> None:
        for each in "^{}\\[~]|€\f":
            self.assertEqual(measureText(each), (GSM_7, 2, 1))
        self.assertEqual(measureText("€" * 80), (GSM_7, 160, 1))
        # Each part has room for 76, and a unit is left over.
        self.assertEqual(measureText("€" * 81), (GSM_7, 162, 2))
        self.assertEqual(measureText("€" * 152), (GSM_7, 304, 2))
        self.assertEqual(measureText("€" * 153), (GSM_7, 306, 3))

    def test_partsOfOtherTextsHoldLess(self) -> None:
        for length, parts in ((1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4)):
            self.assertEqual(measureText("ł" * length), (UCS_2, length, parts))
        self.assertEqual(measureText("x" * 70 + "ł").parts, 2)
        # Twice 16 bits each, and no more than 33 in a part.
        self.assertEqual(measureText("\U0001f600" * 67), (UCS_2, 134, 3))

    def test_textThatFitsHasNothingWrong(self) -> None:
        for text in ("x" * 459, "ł" * 201, "two\nlines", "x" * 200 + "ł"):
            self.assertEqual(complaints(self.good, text), [])

    def test_textThatNeedsMorePartsIsToldHowMany(self) -> None:
        (told,) = complaints(self.good, "x" * 460)
        self.assertEqual(
            told, "The text has 460 characters of GSM-7 and needs 4 parts; 3 parts hold 459."
        )
        (told,) = complaints(self.good, "x" * 201 + "ł")
        self.assertIn("202 characters of UCS-2", told)
        self.assertIn("Without characters such as ł they hold 459.", told)

    def test_controlCharactersAreRefused(self) -> None:
        for each in "\0\x07\t\f\x1b\x7f\x85\ud800":
            (told,) = complaints(self.good, f"Hello{each}")
            self.assertIn(f"U+{ord(each):04X}", told)

    def test_lineBreakOfABrowserIsOneCharacter(self) -> None:
        self.assertEqual(readText("a\r\nb\rc\n"), "a\nb\nc\n")

    def test_everythingThatIsWrongIsTold(self) -> None:
        told = complaints(Numbers([], []), " \n")
        self.assertEqual(told, ["There is no telephone number.", "There is no text."])
        many = Numbers(["+12025550123"] * (MOST_NUMBERS + 1), ["Ann"])
        told = complaints(many, "x" * 460)
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
        self.assertEqual(shown.count("&lt;script&gt;"), 6)

    def test_charactersThatCannotBeSeenAreShownByTheirNumbers(self) -> None:
        hidden = "a\u202eb\0"
        queue = ResizableDispatchQueue(print, reactor=Clock())
        queue.put(makeMessage("a", hidden, hidden))
        letters = [DeadLetter(7, "f", jobarg, 0, 0.0, 1, None, hidden) for jobarg in (hidden, None)]
        pages = [
            statusPage(queue, letters),
            formPage("", "", [hidden]),
            sorryPage("Sorry", hidden),
            surePage(hidden, {}, View()),
            notSavedPage([hidden], 1),
        ]
        shown = "".join(map(self.show, pages))
        self.assertNotIn("\u202e", shown)
        self.assertNotIn("\0", shown)
        self.assertEqual(shown.count("a[U+202E]b[U+0000]"), 10)


class ViewTests(SynchronousTestCase):
    def test_addressIsReadAsItWasWritten(self) -> None:
        self.assertEqual(View().address(), "/status")
        view = View(pending=3, dead=10, refresh=5)
        self.assertEqual(view.address(), "/status?pending=3&dead=10&refresh=5")
        self.assertEqual(View.read({"pending": "3", "dead": "10", "refresh": "5"}), view)
        self.assertEqual(view.address(refresh=0, dead=1), "/status?pending=3")

    def test_senselessAddressShowsTheBeginning(self) -> None:
        for typed in ("", "0", "-1", "x", "1e9", "9" * 5000, "\u0663", "1_0", "2147483648"):
            self.assertEqual(View.read({"dead": typed, "refresh": typed, "x": "1"}), View())
        self.assertEqual(View.read({"refresh": "999999999"}).refresh, 5)


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

    def test_limitCanBeChanged(self) -> None:
        clock = Clock()
        window = Window(1, clock)
        asked: list[int] = []

        async def request() -> None:
            asked.append(1)

        def run(count: int) -> None:
            for _ in range(count):
                Deferred.fromCoroutine(window.run(request))

        run(9)
        self.assertEqual(len(asked), 1)
        window.setLimit(4)
        self.assertEqual(len(asked), 4, "three more may come in this second")
        window.setLimit(2)
        clock.advance(1)
        self.assertEqual(len(asked), 6)
        clock.advance(1)
        self.assertEqual(len(asked), 8)

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
