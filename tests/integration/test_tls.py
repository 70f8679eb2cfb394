"""
Servers and workers that speak TLS: who is let in, and what each error says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, cast

from twisted.internet import threads
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import TestCase

from asynqueue import RemoteQueue, TaskQueue
from asynqueue._workers.wire import conversation
from asynqueue._workers.wire.certificates import CertificateAuthority
from asynqueue.errors import ConnectionRefused
from asynqueue.testing import far
from asynqueue.tools import deferToDelay
from asynqueue.wire import RemoteWorker, newKey, writeCertificates
from tests.faults import wiretasks
from tests.support.remote import KEY, RemoteMixin

YEAR = timedelta(days=365)


class TlsTests(RemoteMixin, TestCase):
    timeout = 20.0
    root: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = mkdtemp()
        for name in ("ours", "theirs"):
            writeCertificates(os.path.join(cls.root, name))
        old = CertificateAuthority(days=3 * 365, now=datetime.now(UTC) - 2 * YEAR)
        ended = datetime.now(UTC) - YEAR
        old.issue(os.path.join(cls.root, "server"), "server", ["127.0.0.1"])
        old.issue(os.path.join(cls.root, "client"), "client")
        old.issue(os.path.join(cls.root, "oldserver"), "server", ["127.0.0.1"], ends=ended)
        old.issue(os.path.join(cls.root, "oldclient"), "client", ends=ended)
        old.issue(os.path.join(cls.root, "otherhost"), "server", ["worker.example.com"])

    @classmethod
    def tearDownClass(cls) -> None:
        shutil.rmtree(cls.root)

    def setUp(self) -> None:
        self.addCleanup(self._settle)
        self.logged: list[str] = []
        self.warned: list[str] = []
        note = cast(ILogObserver, self._note)
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)

    async def _settle(self) -> None:
        """
        Wait until both sides of each connection have ended TLS.
        """
        from twisted.internet import reactor

        clock: Any = reactor
        await self.until(
            lambda: not any("_isLate" in str(call) for call in clock.getDelayedCalls())
        )

    def _note(self, event: Any) -> None:
        if "in the handshake" in (event.get("log_format") or ""):
            self.logged.append(str(event["reason"]))
        if "certificates from before" in (event.get("log_format") or ""):
            self.warned.append(str(event["why"]))

    def at(self, name: str) -> str:
        return os.path.join(self.root, name)

    async def serveTls(self, name: str = "ours/server", **options: Any) -> Any:
        return await self.serve(tls=self.at(name), **options)

    def queueOf(self, worker: RemoteWorker) -> TaskQueue:
        queue = TaskQueue(worker, timeout=1.0)
        self.addCleanup(queue.shutdown)
        return queue

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferToDelay(0.01)

    async def refused(self, tls: str | None, host: str = "127.0.0.1") -> str:
        """
        @return: with which words a worker gives up.
        """
        queue = TaskQueue()
        self.addCleanup(queue.shutdown)
        folder = None if tls is None else self.at(tls)
        worker = RemoteWorker(f"tcp:{host}:{self.port}", KEY, tls=folder)
        error = await self.assertFailure(queue.attachWorker(worker), ConnectionRefused)
        self.flushLoggedErrors()
        self.assertIn(str(self.port), str(error))
        return str(error)

    async def trouble(self, **options: Any) -> str:
        """
        @return: why a worker tries again.
        """
        worker = self.remote(**options)
        queue = self.queueOf(worker)
        await self.until(lambda: worker.trouble)
        self.assertIn(str(worker.trouble), repr(worker))
        await queue.detachWorker(worker, crash=True)
        return str(worker.trouble)

    async def assertServes(self, client: str = "ours/client") -> None:
        """
        Check that the server goes on.
        """
        queue = self.queueOf(self.remote(tls=self.at(client)))
        self.assertEqual(await queue.call(far.add, 1, 2), 3)

    async def talk(self, context: ssl.SSLContext, data: bytes = b"") -> Exception | None:
        """
        Connect as another program would.

        @return: the error of the connection, after a byte was waited for.
        """

        def run() -> Exception | None:
            try:
                with (
                    socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
                    context.wrap_socket(plain, server_hostname="127.0.0.1") as peer,
                ):
                    peer.sendall(data)
                    return None if peer.recv(1) else EOFError()
            except OSError as error:
                return error

        return await threads.deferToThread(run)

    def context(self, client: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.at("ours/server/ca.pem"))
        if client is not None:
            context.load_cert_chain(self.at(f"{client}/cert.pem"), self.at(f"{client}/key.pem"))
        return context

    # What works -----------------------------------------------------------------------------------

    async def test_aNewConnectionUsesTheCertificatesThatWereRenewed(self) -> None:
        folders = {side: os.path.abspath(self.mktemp()) for side in ("server", "client")}
        for side, folder in folders.items():
            shutil.copytree(self.at(f"ours/{side}"), folder)
        await self.serve(tls=folders["server"])
        worker = self.remote(tls=folders["client"])
        queue = self.queueOf(worker)
        self.assertEqual(await queue.call(far.add, 1, 2), 3)
        for side, folder in folders.items():
            shutil.copytree(self.at(f"theirs/{side}"), folder, dirs_exist_ok=True)
        self.assertEqual(await queue.call(far.add, 3, 4), 7)
        await self.assertServes("theirs/client")
        self.assertIn("CA", await self.refused("ours/client"))
        # The worker's next connection shows its new certificate, too.
        channel: Any = worker._channel
        channel._conversation.connection.abort(ConnectionError("the test cuts it"))
        self.assertEqual(await queue.call(far.add, 5, 6), 11)

    async def test_certificatesThatAreHalfRenewedAreNotUsed(self) -> None:
        folder = os.path.abspath(self.mktemp())
        shutil.copytree(self.at("ours/server"), folder)
        await self.serve(tls=folder)
        shutil.copy(self.at("theirs/server/cert.pem"), folder)
        await self.assertServes()
        self.assertIn("holds another key", self.warned[-1])
        os.unlink(os.path.join(folder, "ca.pem"))
        await self.assertServes()
        self.assertIn("ca.pem", self.warned[-1])
        shutil.copytree(self.at("theirs/server"), folder, dirs_exist_ok=True)
        await self.assertServes("theirs/client")

    async def test_callsStreamsAndLargeDataCrossTls(self) -> None:
        await self.serveTls(processes=2)
        addresses = [f"tcp:localhost:{self.port}"]
        async with RemoteQueue(addresses, KEY, tls=self.at("ours/client")) as queue:
            self.assertEqual(await queue.call(far.add, 1, 2), 3)
            self.assertEqual(len(await queue.call(wiretasks.big, 8 << 20)), 8 << 20)
            stream = await queue.call(wiretasks.noted, os.path.abspath(self.mktemp()), 500)
            self.assertEqual([item async for item in stream], list(range(500)))

    async def test_aCutTlsConnectionIsResumed(self) -> None:
        await self.serveTls()
        proxy = await self.proxy()
        queue = self.queueOf(self.remote(tls=self.at("ours/client")))
        path = os.path.abspath(self.mktemp())
        for number in range(5):
            self.assertEqual(await queue.call(wiretasks.note, path, number), number)
            proxy.cut()
        self.assertEqual(Path(path).read_text().split(), ["0", "1", "2", "3", "4"])

    async def test_whatCrossesTlsCannotBeRead(self) -> None:
        await self.serveTls()
        proxy = await self.proxy()
        seen: list[bytes] = []
        queue = self.queueOf(self.remote(tls=self.at("ours/client")))
        await queue.call(far.add, 1, 2)
        for passage in proxy.passages:
            for side in (passage.near, passage.far):
                self.patch(side, "_arrived", _listening(seen, side._arrived))
        self.assertEqual(await queue.call(far.echo, b"secret" * 50), b"secret" * 50)
        self.assertGreater(len(b"".join(seen)), 600)
        self.assertNotIn(b"secret", b"".join(seen))

    # Certificates ---------------------------------------------------------------------------------

    async def test_aServerOfAnotherCaIsRefused(self) -> None:
        await self.serveTls()
        self.assertIn("a CA that is not in ca.pem", await self.refused("theirs/client"))
        await self.assertServes()

    async def test_aServerWhoseCertificateHasExpiredIsRefused(self) -> None:
        await self.serveTls("oldserver")
        self.assertIn("it has expired", await self.refused("client"))

    async def test_aServerWithTheCertificateOfAnotherHostIsRefused(self) -> None:
        await self.serveTls("otherhost")
        for host in ("127.0.0.1", "localhost"):
            text = await self.refused("client", host)
            self.assertIn(f"certificate is not for {host}", text)

    async def test_aServerWithTheCertificateOfAClientIsRefused(self) -> None:
        await self.serveTls("ours/client")
        self.assertIn("not for this purpose", await self.refused("ours/client"))

    async def test_aClientOfAnotherCaIsRefusedAndToldSo(self) -> None:
        await self.serveTls()
        mixed = self.at("mixed")
        shutil.copytree(self.at("theirs/client"), mixed)
        self.addCleanup(shutil.rmtree, mixed)
        shutil.copy(self.at("ours/client/ca.pem"), mixed)
        self.assertIn("refuses this side's certificate: unknown ca", await self.refused("mixed"))
        self.assertIn("a CA that is not in ca.pem", self.logged[-1])
        await self.assertServes()

    async def test_aClientWhoseCertificateHasExpiredIsRefusedAndToldSo(self) -> None:
        await self.serveTls("server")
        text = await self.refused("oldclient")
        self.assertIn("refuses this side's certificate: certificate expired", text)
        self.assertIn("it has expired", self.logged[-1])
        await self.assertServes("client")

    async def test_aClientWithTheCertificateOfAServerIsRefused(self) -> None:
        await self.serveTls()
        self.assertIn("refuses this side's certificate", await self.refused("ours/server"))
        self.assertIn("not for this purpose", self.logged[-1])

    async def test_aClientWithoutACertificateIsRefused(self) -> None:
        await self.serveTls()
        error = await self.talk(self.context(None))
        self.assertIsInstance(error, OSError)
        self.assertIn("shows no certificate", self.logged[-1])
        await self.assertServes()

    async def test_theKeyIsNeededBesidesTheCertificate(self) -> None:
        await self.serveTls(key=newKey())
        self.assertIn("the server's key is not", await self.refused("ours/client"))

    # Other protocols ------------------------------------------------------------------------------

    async def test_aClientThatSpeaksAnOlderTlsIsRefused(self) -> None:
        await self.serveTls()
        context = self.context("ours/client")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertIn("PROTOCOL_VERSION", str(await self.talk(context)))
        self.assertIn("does not speak TLS 1.3", self.logged[-1])
        await self.assertServes()

    async def test_aServerThatSpeaksAnOlderTlsIsNotUsed(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.at("ours/server/cert.pem"), self.at("ours/server/key.pem"))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            served = threads.deferToThread(_greet, listening, context)
            text = await self.trouble(tls=self.at("ours/client"))
            await served
        self.assertIn("does not speak TLS 1.3", text)

    async def test_aWorkerWithoutTlsAtAPortWithTlsSaysSo(self) -> None:
        await self.serveTls()
        self.assertIn("the other side speaks TLS", await self.trouble())
        await self.until(lambda: self.logged)
        self.assertIn("does not speak TLS", self.logged[-1])
        await self.assertServes()

    async def test_aWorkerWithTlsAtAPortWithoutTlsSaysSo(self) -> None:
        await self.serve()
        text = await self.trouble(tls=self.at("ours/client"))
        self.assertIn("the other side does not speak TLS", text)
        await self.until(lambda: self.logged)
        self.assertIn("speaks TLS", self.logged[-1])
        queue = self.queueOf(self.remote())
        self.assertEqual(await queue.call(far.add, 1, 2), 3)

    async def test_aNameThatDoesNotResolveIsNamedAndTriedAgain(self) -> None:
        from twisted.internet import reactor

        self.patch(reactor, "_nameResolver", _Nobody())
        worker = RemoteWorker("tcp:no.such.host:7411", KEY, tls=self.at("ours/client"))
        queue = self.queueOf(worker)
        await self.until(lambda: worker.trouble)
        self.assertIn("no.such.host", str(worker.trouble))
        self.assertEqual(worker.state, "STARTING")
        await queue.detachWorker(worker)

    async def test_aTlsHandshakeThatStopsIsClosed(self) -> None:
        self.patch(conversation, "HANDSHAKE_SECONDS", 0.1)
        service = await self.serveTls()

        def run() -> bytes:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
                return peer.recv(1)

        with self.assertRaises(ConnectionResetError):
            await threads.deferToThread(run)
        self.assertEqual(service._strangers, set())

    async def test_aRefusedPeerThatDoesNotEndTlsIsCutOff(self) -> None:
        self.patch(conversation, "HANDSHAKE_SECONDS", 0.1)
        await self.serveTls()
        context = self.context("ours/client")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

        def run() -> None:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        peer.sendall(outgoing.read())
                        incoming.write(peer.recv(1 << 14))
                tls.write(b"GET / HTTP/1.1\r\n")
                peer.sendall(outgoing.read())
                while peer.recv(1 << 14):
                    pass

        with self.assertRaises(ConnectionResetError):
            await threads.deferToThread(run)
        self.assertIn("speaks HTTP", self.logged[-1])


class _Nobody:
    """
    Resolves no name.
    """

    def resolveHostName(self, receiver: Any, hostName: str, *_: Any, **__: Any) -> None:
        receiver.resolutionBegan(None)
        receiver.resolutionComplete()


def _listening(seen: list[bytes], pass_: Any) -> Any:
    def arrived(data: bytes) -> None:
        seen.append(data)
        pass_(data)

    return arrived


def _greet(listening: socket.socket, context: ssl.SSLContext) -> None:
    peer, _ = listening.accept()
    # The worker does not want to speak so.
    with peer, contextlib.suppress(OSError):
        context.wrap_socket(peer, server_side=True)
