"""
The guard in front of pages, in memory.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from asynqueue.admin._webkit import GuardedChannel
from asynqueue.admin.web import GuardedSite, Limits, hostsOf, visible

HOST = b"Host: 127.0.0.1:8100"


class Wire(StringTransport):
    """
    A client's end.

    @ivar aborting: whether the connection was cut off.
    """

    aborting = False

    def abortConnection(self) -> None:
        self.aborting = True


class Echo(Resource):
    """
    Counts what arrives, and answers.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self.held: list[Request] = []

    def render_GET(self, request: Request) -> bytes | int:
        if request.path == b"/hold":
            self.held.append(request)
            return NOT_DONE_YET
        return b"shown"

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        self.bodies.append(request.content.read())
        return b"done"


class GuardTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.echo = Echo()
        limits = Limits(body=1000, connections=3, requestSeconds=15, closeSeconds=5)
        self.site = GuardedSite(self.echo, hostsOf(8100), limits, reactor=self.clock)

    def connect(self) -> tuple[GuardedChannel, Wire]:
        channel = self.site.buildProtocol(None)
        assert channel is not None
        wire = Wire()
        channel.makeConnection(wire)
        return channel, wire

    def ask(self, method: bytes, *headers: bytes, body: bytes = b"") -> bytes:
        channel, wire = self.connect()
        if body:
            headers += (b"Content-Length: %d" % len(body),)
        head = b"\r\n".join([method + b" /x HTTP/1.1", *headers, b"", b""])
        channel.dataReceived(head + body)
        channel.connectionLost(Failure(ConnectionDone()))
        answer: bytes = wire.value()
        return answer

    def status(self, *arguments: bytes, body: bytes = b"") -> int:
        return int(self.ask(*arguments, body=body).split()[1])

    # Row 59 ---------------------------------------------------------------------------------------

    def test_hugeBodyIsRefusedAtItsHeaders(self) -> None:
        channel, wire = self.connect()
        channel.dataReceived(
            b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 200000000\r\n\r\n"
        )
        # The words are those of the Python that runs.
        self.assertTrue(wire.value().startswith(b"HTTP/1.1 413 "))
        self.assertIn(b"Connection: close", wire.value())
        self.assertIn(b"at most 1000 are taken", wire.value())
        for _ in range(100):
            channel.dataReceived(bytes(10_000))
        self.assertIsNone(channel.requests[-1].content)
        self.assertEqual(self.echo.bodies, [])
        self.assertEqual(wire.value().count(b"HTTP/1.1"), 1)
        self.clock.advance(5)
        self.assertTrue(wire.disconnecting)

    def test_endlessBodyIsRefusedAtItsHeaders(self) -> None:
        head = (b"POST", HOST, b"Transfer-Encoding: chunked")
        self.assertEqual(self.status(*head), 411)
        self.assertEqual(self.echo.bodies, [])

    def test_expectationOfAHugeBodyIsNotEncouraged(self) -> None:
        head = (b"POST", HOST, b"Expect: 100-continue", b"Content-Length: 1001")
        self.assertEqual(self.status(*head), 413)

    def test_bodyOfForeignOriginIsRefusedBeforeItComes(self) -> None:
        head = (b"POST", HOST, b"Origin: http://example.com", b"Content-Length: 900")
        self.assertEqual(self.status(*head), 403)

    def test_bodyWithinTheLimitArrives(self) -> None:
        self.assertEqual(self.status(b"POST", HOST, body=b"x" * 1000), 200)
        self.assertEqual(self.echo.bodies, [b"x" * 1000])

    # Rows 55 and 56 -------------------------------------------------------------------------------

    def test_crossSiteRequestIsRefusedWhateverItsMethod(self) -> None:
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"NONSENSE"):
            for site in (b"cross-site", b"same-site", b"\xff"):
                self.assertEqual(self.status(method, HOST, b"Sec-Fetch-Site: " + site), 403)
            for origin in (b"null", b"http://127.0.0.1:8101", b"http://[", b"", b"\xff\xfe"):
                self.assertEqual(self.status(method, HOST, b"Origin: " + origin), 403)
        self.assertEqual(self.echo.bodies, [])

    def test_ownPagesAndOtherProgramsAreWelcome(self) -> None:
        for headers in (
            (),
            (b"Origin: http://127.0.0.1:8100", b"Sec-Fetch-Site: same-origin"),
            (b"Sec-Fetch-Site: none",),
        ):
            self.assertEqual(self.status(b"GET", HOST, *headers), 200)
            self.assertEqual(self.status(b"POST", HOST, *headers, body=b"x"), 200)

    def test_linkOfAnotherSiteOpensAPageAndChangesNothing(self) -> None:
        opens = (
            b"Sec-Fetch-Site: cross-site",
            b"Sec-Fetch-Mode: navigate",
            b"Sec-Fetch-Dest: document",
        )
        self.assertEqual(self.status(b"GET", HOST, *opens), 200)
        self.assertEqual(self.status(b"POST", HOST, *opens, body=b"x"), 403)
        framed = (*opens[:2], b"Sec-Fetch-Dest: iframe")
        self.assertEqual(self.status(b"GET", HOST, *framed), 403)

    def test_onlyTheListedHostsAreAnswered(self) -> None:
        self.assertEqual(self.status(b"GET", b"Host: LocalHost:8100"), 200)
        for hosts in (
            (b"Host: example.com:8100",),
            (b"Host: 127.0.0.1:8101",),
            (b"Host: 127.0.0.1",),
            (b"Host: 127.0.0.1:8100.example.com",),
            (b"Host: \xff",),
            (HOST, b"Host: example.com"),
            (HOST, HOST),
            (),
        ):
            self.assertEqual(self.status(b"GET", *hosts), 421)
            self.assertEqual(self.status(b"POST", *hosts, body=b"x"), 421)

    def test_usualPortIsLeftOut(self) -> None:
        self.assertEqual(hostsOf(80, ["queue.example"]), ["queue.example"])

    # Row 57 ---------------------------------------------------------------------------------------

    def test_eachResponseForbidsScriptsAndFrames(self) -> None:
        shown = [
            self.ask(b"GET", HOST),
            self.ask(b"GET"),
            self.ask(b"BREW", HOST),
            self.ask(b"PUT", HOST),
            self.ask(b"POST", HOST, b"Content-Length: 1001"),
        ]
        self.assertEqual([int(each.split()[1]) for each in shown], [200, 421, 405, 405, 413])
        for each in shown:
            self.assertIn(b"default-src 'none'", each)
            self.assertIn(b"frame-ancestors 'none'", each)
            self.assertNotIn(b"unsafe-inline", each)
            self.assertIn(b"nosniff", each)

    def test_charactersThatCannotBeSeenAreShownByTheirNumbers(self) -> None:
        self.assertEqual(
            visible("a\0\u202eb\u2066\ufeff\ud800\x85\u2028\r"),
            "a[U+0000][U+202E]b[U+2066][U+FEFF][U+D800][U+0085][U+2028][U+000D]",
        )
        for text in (
            "two\nlines",
            "\U0001f469\u200d\U0001f680",
            "é שלום",
            "\u0645\u06cc\u200c\u062e",
        ):
            self.assertEqual(visible(text), text)

    # Slow clients ---------------------------------------------------------------------------------

    def test_dribblingClientIsDroppedInTime(self) -> None:
        channel, wire = self.connect()
        for byte in b"GET / HTTP/1.1":
            channel.dataReceived(bytes([byte]))
            self.clock.advance(1)
        self.assertFalse(wire.disconnecting)
        self.clock.advance(1)
        self.assertTrue(wire.disconnecting)

    def test_dribblingBodyIsDroppedInTime(self) -> None:
        channel, wire = self.connect()
        channel.dataReceived(b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 900\r\n\r\n")
        for _ in range(15):
            channel.dataReceived(b"x")
            self.clock.advance(1)
        self.assertTrue(wire.disconnecting)
        self.assertEqual(self.echo.bodies, [])

    def test_clientThatDoesNotReadItsAnswerIsCutOff(self) -> None:
        channel, wire = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\n" + HOST + b"\r\nConnection: close\r\n\r\n")
        self.assertTrue(wire.disconnecting)
        self.clock.advance(4)
        self.assertFalse(wire.aborting)
        self.clock.advance(1)
        self.assertTrue(wire.aborting)

    def test_slowAnswerIsNotTheClientsFault(self) -> None:
        channel, wire = self.connect()
        channel.dataReceived(b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n\r\n")
        self.clock.advance(1000)
        self.assertFalse(wire.disconnecting)
        self.echo.held[0].finish()
        self.clock.advance(14)
        self.assertFalse(wire.disconnecting)
        self.clock.advance(1)
        self.assertTrue(wire.disconnecting, "no other request came")
        self.clock.advance(5)
        self.assertTrue(wire.aborting, "the answer was not read")

    def test_newConnectionTakesThePlaceOfTheOneThatDribblesLongest(self) -> None:
        held, heldWire = self.connect()
        held.dataReceived(b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n\r\n")
        wires = [self.connect()[1] for _ in range(1500)]
        self.assertFalse(heldWire.aborting)
        self.assertEqual([wire.aborting for wire in wires], [True] * 1498 + [False] * 2)
        self.assertEqual(self.status(b"GET", HOST), 200)

    def test_noConnectionIsTakenWhileAllAreBeingAnswered(self) -> None:
        channels = [self.connect()[0] for _ in range(3)]
        for channel in channels:
            channel.dataReceived(b"GET /hold HTTP/1.1\r\n" + HOST + b"\r\n\r\n")
        self.assertIsNone(self.site.buildProtocol(None))
        channels[0].connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.status(b"GET", HOST), 200)

    def test_nothingIsLeftOfALostConnection(self) -> None:
        for head in (b"", b"Connection: close\r\n", b"Content-Length: 2000\r\n"):
            channel, _ = self.connect()
            channel.dataReceived(b"POST / HTTP/1.1\r\n" + HOST + b"\r\n" + head + b"\r\n")
            channel.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.clock.getDelayedCalls(), [])
