"""
The page about other programs, whose admin sockets are found.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from asynqueue.admin import Access, AdminSite
from asynqueue.admin._programs import FoundPrograms
from asynqueue.admin.server import AdminConnection
from asynqueue.admin.web import GuardedSite
from tests.admin.pages import HOST, PageCase


class End(StringTransport):
    """
    One end of a connection in memory.
    """

    protocol: Any = None
    aborting = False

    def abortConnection(self) -> None:
        if not self.aborting:
            self.aborting = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


class ProgramTests(PageCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.paths: list[str] = []
        self.programs = FoundPrograms(self.clock, find=lambda: self.paths)
        page = AdminSite(login=lambda _: self.access, programs=self.programs, reactor=self.clock)
        self.site = GuardedSite(page, [HOST], reactor=self.clock)
        self.queue = self.makeQueue(self.makeWorker())
        self.settle()
        self.queue.pause()
        self.admin = self.queue.admin(name="mails")
        self.ends: list[tuple[End, End]] = []
        self.addCleanup(page.close)

    def start(self, name: str = "7-abc", api: Any = None) -> None:
        """
        Have a program come whose socket has a name.
        """
        self.paths.append(str(self.folder / f"{name}.sock"))
        self.programs.look()
        address, factory, *_ = self.clock.unixClients[-1]
        self.assertEqual(address, self.paths[-1])
        near, far = End(), End()
        near.protocol = factory.buildProtocol(None)
        far.protocol = AdminConnection(api or self.admin.api, self.clock, "ann (user 1)")
        far.protocol.makeConnection(far)
        near.protocol.makeConnection(near)
        self.ends.append((near, far))
        self.pump()

    def pump(self) -> None:
        """
        Carry everything from end to end.
        """
        for _ in range(40):
            for near, far in self.ends:
                for source, target in ((near, far), (far, near)):
                    data = source.value()
                    source.clear()
                    if data and not target.aborting:
                        target.protocol.dataReceived(data)
            self.clock.advance(0)

    def send(self, *arguments: Any, **options: Any) -> Any:
        # Each turn of the reactor carries what was written.
        pumping = self.clock.advance

        def advance(seconds: float) -> None:
            pumping(seconds)
            for near, far in getattr(self, "ends", ()):
                for source, target in ((near, far), (far, near)):
                    data = source.value()
                    source.clear()
                    if data and not target.aborting and not source.aborting:
                        target.protocol.dataReceived(data)

        self.clock.advance = advance
        try:
            return super().send(*arguments, **options)
        finally:
            del self.clock.advance

    def test_aProgramIsFoundSeenAndSteered(self) -> None:
        self.assertIn("No program can be seen", self.get_("/").text)
        self.start()
        page = self.get_("/")
        self.assertIn("mails", page.text)
        self.assertIn("/queue/7-abc/mails", page.body)
        self.follow(self.push(self.get_("/queue/7-abc/mails"), "Resume"))
        self.assertFalse(self.queue.paused)

    def test_oneWhoMayOnlyLookIsRefusedThoughTheSocketWouldAllowIt(self) -> None:
        self.start()
        form, value = self.get_("/queue/7-abc/mails").button("Resume")
        self.access = Access("ann", acts=())
        self.assertEqual(self.post(form.action, **form.hidden, act=value).code, 403)
        self.assertTrue(self.queue.paused)

    def test_aProgramThatIsGoneIsNotShown(self) -> None:
        self.start()
        near, far = self.ends.pop()
        self.paths.clear()
        near.abortConnection()
        far.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIn("No program can be seen", self.get_("/").text)
        self.assertEqual(self.get_("/queue/7-abc/mails").code, 404)

    def test_aProgramThatDoesNotAnswerIsLeftAndAskedAgainLater(self) -> None:
        self.start()
        near, far = self.ends.pop()
        channel, wire = self.connect()
        channel.dataReceived(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        self.clock.advance(9)
        self.assertEqual(wire.value(), b"")
        self.clock.advance(2)
        self.assertTrue(near.aborting)
        self.clock.advance(0)
        self.assertIn(b"200 OK", wire.value())
        channel.connectionLost(Failure(ConnectionDone()))
        far.protocol.connectionLost(Failure(ConnectionDone()))
        self.paths.clear()
        self.start()
        self.assertIn("mails", self.get_("/").text)

    def test_whatMakesNoSenseIsLeft(self) -> None:
        for nonsense in (b"nonsense\n", b"[]\n", b'{"ok": true}\n{"ok": true}\n', bytes(1 << 27)):
            self.start()
            near, far = self.ends.pop()
            near.protocol.dataReceived(nonsense)
            self.assertTrue(near.aborting, nonsense[:20])
            far.protocol.connectionLost(Failure(ConnectionDone()))
            self.paths.clear()
        self.assertIn("No program can be seen", self.get_("/").text)

    def test_whatAKilledProgramHasLeftIsRemoved(self) -> None:
        for error, isLeft in (
            (ConnectionRefusedError(errno.ECONNREFUSED), False),
            (ConnectionDone(), True),
        ):
            path = self.folder / "9-dead.sock"
            path.touch()
            self.paths = [str(path)]
            channel, wire = self.connect()
            channel.dataReceived(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            factory = self.clock.unixClients[-1][1]
            factory.clientConnectionFailed(None, Failure(error))
            self.clock.advance(0)
            self.assertIn(b"200 OK", wire.value())
            channel.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(path.exists(), isLeft)
