"""
The Unix socket by which a program lets others see and steer its queues.

The socket lies in a folder that only its owner can enter, and takes requests of its owner alone, a
line of JSON each.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Final, cast
from weakref import finalize

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IPushProducer,
    IReactorFDSet,
    IReactorSocket,
    IReactorTime,
    IReadDescriptor,
)
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.states import Table, nextState
from asynqueue._lifecycle import Ending
from asynqueue._reactor import IReactor, callFromAnyThread
from asynqueue.admin.api import AdminAPI
from asynqueue.admin.client import socketFolder
from asynqueue.errors import AdminError
from asynqueue.interfaces import IAdministered, JSONObject

LONGEST_LINE: Final = 1 << 16
"""How many bytes a request may have."""

MOST_CLIENTS: Final = 16
"""How many clients may be connected at once."""

SLOW_SECONDS: Final = 10.0
"""A client that takes nothing of its replies for so many seconds is dropped."""

# One client ---------------------------------------------------------------------------------------

OPEN: Final = "OPEN"
ANSWERING: Final = "ANSWERING"
CLOSED: Final = "CLOSED"

CONNECTION: Final[Table] = {
    # The next request may be read.
    OPEN: {"ask": ANSWERING, "close": CLOSED},
    # A request is being answered. Those behind it wait.
    ANSWERING: {"answer": OPEN, "close": CLOSED},
    CLOSED: {"close": CLOSED},
}


@implementer(IPushProducer)
class AdminConnection(Protocol):
    """
    Answers the requests of one client, one after the other and one in each turn of the reactor.

    Of requests it holds one line at the most, and of replies what the system does not take at
    once: while there are such, no other request is answered.

    @ivar state: a state of L{CONNECTION}.
    """

    # It is more than ITransport has: it can be paused and aborted.
    transport: Any
    log = Logger()

    def __init__(self, api: AdminAPI, reactor: IReactorTime, who: str) -> None:
        """
        @param who: who the client is, for the log.
        """
        self.state: str = OPEN
        self._api = api
        self._reactor = reactor
        self._who = who
        self._received = bytearray()
        # The call that reads the next request.
        self._next: IDelayedCall | None = None
        # The call that drops the client, while it takes none of its replies.
        self._drop: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self._api.attach()
        self._write(self._api.greeting())

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._close()
        self._api.detach()

    def dataReceived(self, data: bytes) -> None:
        if self.state == CLOSED:
            return
        self._received += data
        if len(self._received) > LONGEST_LINE and b"\n" not in self._received[:LONGEST_LINE]:
            self._refuse(f"a request may have {LONGEST_LINE} bytes, and this one has more")
            return
        self._goOn()

    def _goOn(self) -> None:
        """
        Read on, or answer the next request in the reactor's next turn, if it may be answered.
        """
        if self.state == CLOSED:
            return
        hasLine = b"\n" in self._received
        mayAsk = self.state == OPEN and self._drop is None
        if hasLine and mayAsk and self._next is None:
            self._next = self._reactor.callLater(0, self._ask)
        if hasLine or not mayAsk:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def _ask(self) -> None:
        self._next = None
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        self.state = nextState(CONNECTION, self.state, "ask", self)
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = "too deep" if isinstance(error, RecursionError) else str(error)
            self._answered({"ok": False, "error": f"a request is a line of JSON: {why}"})
            return
        self._api.answer(request, self._who).addCallback(self._answered)

    def _answered(self, reply: JSONObject) -> None:
        if self.state == CLOSED:
            return
        self.state = nextState(CONNECTION, self.state, "answer", self)
        self._write(reply)
        self._goOn()

    def _write(self, reply: JSONObject) -> None:
        try:
            text = json.dumps(reply, allow_nan=False)
        except (TypeError, ValueError):
            self.log.failure("a reply of the admin socket is no JSON")
            text = json.dumps({"ok": False, "error": "JSON cannot express the answer"})
        self.transport.write(text.encode("ascii") + b"\n")

    def _refuse(self, why: str) -> None:
        self._write({"ok": False, "error": why})
        self._close()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _close(self) -> None:
        self.state = nextState(CONNECTION, self.state, "close", self)
        self._received.clear()
        for call in (self._next, self._drop):
            if call is not None:
                call.cancel()
        self._next = self._drop = None

    def abort(self) -> None:
        """
        Drop the client.
        """
        self._close()
        self.transport.abortConnection()

    def cut(self) -> None:
        """
        Drop the client before this returns, because the reactor may have no other turn.
        """
        self._close()
        self.transport.stopReading()
        self.transport.stopWriting()
        self.transport.connectionLost(Failure(ConnectionAborted()))

    def _tooSlow(self) -> None:
        self._drop = None
        self.abort()

    # IPushProducer: the transport has as many bytes as it should hold, or has room again ----------

    def pauseProducing(self) -> None:
        if self.state != CLOSED and self._drop is None:
            self._drop = self._reactor.callLater(SLOW_SECONDS, self._tooSlow)

    def resumeProducing(self) -> None:
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None
            self._goOn()

    def stopProducing(self) -> None:
        # The connection is gone, and connectionLost comes.
        pass


# The socket ---------------------------------------------------------------------------------------


def peerOf(connection: socket.socket) -> tuple[int | None, int | None]:
    """
    @return: the user ID and the process ID of the other end of a Unix socket, or C{None} where the
        system does not tell.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None, None
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, size))
    return uid, pid


def describePeer(uid: int | None, pid: int | None) -> str:
    """
    @return: who a client is, for people.
    """
    if uid is None:
        return "the owner of the socket"
    with suppress(ImportError, KeyError):
        import pwd

        return f"{pwd.getpwuid(uid).pw_name} (user {uid}, process {pid})"
    return f"user {uid}, process {pid}"


@implementer(IReadDescriptor)
class AdminListener:
    """
    Listens on a new Unix socket in the runtime folder, and removes it at the end.

    @ivar path: where the socket lies.
    """

    log = Logger()

    def __init__(self, reactor: IReactor, api: AdminAPI) -> None:
        """
        @raise AdminError: if the socket cannot be made.
        """
        self._reactor = reactor
        self._api = api
        self._clients: set[AdminConnection] = set()
        folder = socketFolder(make=True)
        self.path = os.path.join(folder, f"{os.getpid()}-{secrets.token_hex(3)}.sock")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(self.path)
            os.chmod(self.path, 0o600)
            self._socket.listen(MOST_CLIENTS)
        except OSError as error:
            self._socket.close()
            with suppress(OSError):
                os.unlink(self.path)
            raise AdminError(f"cannot make the admin socket {self.path}: {error}") from error
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "asynqueue admin"

    def doRead(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The client waits until the system has something to spare.
                self._reactor.removeReader(self)
                self._reactor.callLater(1.0, self._readAgain)
            return
        with connection:
            uid, pid = peerOf(connection)
            self._clients = {client for client in self._clients if client.state != CLOSED}
            isOwn = uid in (None, 0, os.geteuid())
            if isOwn and len(self._clients) < MOST_CLIENTS:
                factory = _ClientFactory(self, describePeer(uid, pid))
                # This makes a socket of its own of it.
                self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, factory)
            elif not isOwn:
                self.log.warn("admin: user {uid} was refused", uid=uid)

    def makeConnection(self, who: str) -> AdminConnection:
        """
        Make what answers a new client.
        """
        client = AdminConnection(self._api, self._reactor, who)
        self._clients.add(client)
        return client

    def _readAgain(self) -> None:
        if self._socket.fileno() != -1:
            self._reactor.addReader(self)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        The reactor drops everything that it reads, because it has stopped.
        """
        self.close()

    def close(self) -> None:
        """
        Listen no more, remove the socket and drop the clients.
        """
        if self._socket.fileno() == -1:
            return
        self._reactor.removeReader(self)
        self._socket.close()
        with suppress(OSError):
            os.unlink(self.path)
        for client in [*self._clients]:
            if client.state != CLOSED:
                client.cut()


class _ClientFactory(ServerFactory):
    """
    Makes the protocol of one client.
    """

    noisy = False

    def __init__(self, listener: AdminListener, who: str) -> None:
        self._listener = listener
        self._who = who

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._listener.makeConnection(self._who)


# The queues of one reactor ------------------------------------------------------------------------

IDLE: Final = "IDLE"
WAITING: Final = "WAITING"
LISTENING: Final = "LISTENING"

SERVER: Final[Table] = {
    # There is no queue.
    IDLE: {"open": WAITING},
    # The reactor does not run yet. A program may still go into the background.
    WAITING: {"listen": LISTENING, "close": IDLE},
    LISTENING: {"close": IDLE},
}


class AdminServer:
    """
    The admin socket of one reactor, as long as there is a queue that is to be seen.

    @ivar api: answers the requests.
    @ivar state: a state of L{SERVER}.
    """

    drainTimeout: float | None = None
    """Signals concern the queues. The socket stays until they have drained."""

    log = Logger()

    def __init__(self, reactor: IReactor) -> None:
        self.reactor = reactor
        program = os.path.basename(sys.argv[0] or "python")
        self.api = AdminAPI({"pid": os.getpid(), "program": program})
        self.state: str = IDLE
        self._listener: AdminListener | None = None
        self._ending: Ending | None = None

    @property
    def path(self) -> str | None:
        """
        Where the socket lies, or C{None} if there is none.
        """
        return None if self._listener is None else self._listener.path

    def add(self, queue: IAdministered) -> None:
        """
        Add a queue. With the first one, the socket is opened as soon as the reactor runs.
        """
        self.api.add(queue)
        if self.state == IDLE:
            self._move("open")
            self._ending = Ending(
                self.reactor, self, lambda: 0, _nothing, _nothing, self._endNow, self._close
            )
            self.reactor.callWhenRunning(self._listen)

    def remove(self, queue: IAdministered) -> None:
        """
        Remove a queue. After the last one, the socket is removed.
        """
        self.api.remove(queue)
        if not self.api.queues:
            self._close()

    def _move(self, event: str) -> None:
        self.state = nextState(SERVER, self.state, event, self)

    def _listen(self) -> None:
        if self.state != WAITING:
            return
        try:
            self._listener = AdminListener(self.reactor, self.api)
        except AdminError as error:
            # The program does its work all the same.
            self.log.error("{error}", error=error)
            return
        self._move("listen")
        self.log.info("admin: {path}", path=self.path)

    def _endNow(self, why: str) -> None:
        self._close()

    def _close(self) -> None:
        if self.state == IDLE:
            return
        self._move("close")
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        ending, self._ending = self._ending, None
        if ending is not None:
            ending.forget()
        _servers.pop(id(self.reactor), None)


def _nothing(why: str) -> Deferred[None]:
    return succeed(None)


_servers: Final[dict[int, AdminServer]] = {}
"""By the identity of the reactor, which each of these refers to while it is open."""


class Administration:
    """
    A queue that others can see and steer, as C{queue.admin()} returns it.

    @ivar queue: what is seen of it.
    """

    def __init__(self, queue: IAdministered, owner: object, reactor: IReactorTime) -> None:
        """
        @param queue: an L{IAdministered<asynqueue.interfaces.IAdministered>}, which must not keep
            the owner.
        @param owner: the queue itself. When the program has dropped it, it is not seen any more.
        @param reactor: the reactor that the queue runs in.
        @raise AdminError: if the reactor cannot do this.
        """
        isAble = hasattr(socket, "AF_UNIX") and hasattr(reactor, "callWhenRunning")
        if not (
            isAble and IReactorSocket.providedBy(reactor) and IReactorFDSet.providedBy(reactor)
        ):
            raise AdminError(f"an admin socket needs a reactor with Unix sockets, not {reactor!r}")
        self.queue = queue
        self._server = _servers.setdefault(id(reactor), AdminServer(cast(IReactor, reactor)))
        self._server.add(queue)
        self._dropped = finalize(owner, self._ownerDropped, reactor, os.getpid())
        self._dropped.atexit = False

    def _ownerDropped(self, reactor: IReactorTime, pid: int) -> None:
        # The garbage collector works in any thread. A process that was forked has no part in this.
        if pid == os.getpid():
            callFromAnyThread(reactor, self.close)

    @property
    def name(self) -> str:
        """
        The name of the queue in requests.
        """
        return self.queue.name

    @property
    def path(self) -> str | None:
        """
        Where the socket lies. It is C{None} before the reactor runs, and after L{close}.
        """
        return self._server.path

    @property
    def api(self) -> AdminAPI:
        """
        Answers the requests, about all queues of the reactor.
        """
        return self._server.api

    def close(self) -> None:
        """
        Let others see the queue no more. The socket goes with the last queue. A queue that is shut
        down does this itself.
        """
        self._dropped.detach()
        self._server.remove(self.queue)
        self.queue.forget()
