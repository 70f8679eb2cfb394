"""
The server: it keeps sessions, and a runner in a process of its own for each.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable, Iterable
from mmap import mmap
from os import PathLike
from pathlib import Path
from pickle import PickleBuffer
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

from asynqueue._core.checks import checkCount, checkSeconds
from asynqueue._core.states import Table, nextState
from asynqueue._lifecycle import Ending
from asynqueue._reactor import defaultReactor
from asynqueue._runner.codecs import CODECS
from asynqueue._runner.exceptions import describe
from asynqueue._runner.framing import OpenFrame, Sink
from asynqueue._runner.messages import (
    CALL,
    CANCEL,
    ITEMS,
    RAISED,
    RECALL,
    RETURNED,
    STREAMING,
    UNBEGUN,
    Message,
)
from asynqueue._runner.packing import LARGE
from asynqueue._runner.processmain import ChildOptions
from asynqueue._systemd import notifierOf
from asynqueue._waiters import OneShotObserverList
from asynqueue._workers.process import ProcessWorker
from asynqueue._workers.processchannel import START_SECONDS, PipeChannel, pollingDelay
from asynqueue._workers.procinfo import RunnerFacts
from asynqueue._workers.reaper import programReaper
from asynqueue._workers.threads import ThreadChannel
from asynqueue._workers.wire.begun import BegunFiles, defaultFolder
from asynqueue._workers.wire.conversation import (
    DRAINING,
    KILL,
    LEAVE,
    NUDGE,
    RUNNER_LOST,
    TERMINATE,
    Connection,
    Conversation,
)
from asynqueue._workers.wire.endpoints import AcceptingFactory, TlsFolder, serverEndpoint
from asynqueue._workers.wire.handshake import (
    BUSY,
    LARGEST,
    UNKNOWN,
    Attach,
    Handshake,
    Hello,
    Welcome,
    decodeAttach,
    encodeWish,
)
from asynqueue._workers.wire.keys import Key, keyBytes
from asynqueue._workers.wire.only import OnlyModules
from asynqueue._workers.wire.records import WELCOME, Record
from asynqueue.errors import (
    CallNotRebuilt,
    PayloadTooLarge,
    ProtocolError,
    ServerBusy,
    WorkerStartError,
    typeName,
)

LOOK_SECONDS: Final = 0.025
"""How often a server looks which call has begun, while one may be about to."""

ABORT_SECONDS: Final = 1.0
"""How long a server that ends at once waits for its clients to hear of it."""

_ANSWERS: Final = frozenset((RETURNED, RAISED, STREAMING))

_NOT_REBUILT: Final = typeName(CallNotRebuilt)

_BUFFERS: Final = frozenset({bytearray, memoryview, mmap})

STRANGERS: Final = 64
"""How many connections may be in the handshake at once."""

LIVE: Final = "LIVE"
CUT: Final = "CUT"
OVER: Final = "OVER"

SESSION: Final[Table] = {
    # A client is connected.
    LIVE: {"cut": CUT, "end": OVER},
    # None is. What it has not acknowledged is kept for a while.
    CUT: {"resume": LIVE, "end": OVER},
    OVER: {},
}


class ServerSession:
    """
    A client's session, and its runner.

    @ivar state: a state of L{SESSION}.
    @ivar name: the secret name by which the client resumes it.
    @ivar client: says which sessions belong together.
    @ivar isForgotten: whether the client does not need to hear of it any more.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        wish: Attach,
        channel: PipeChannel | ThreadChannel,
        only: OnlyModules | None,
        hello: Hello,
        keepBytes: int,
        over: Callable[[ServerSession], None],
        reactor: IReactorTime,
    ) -> None:
        """
        @param name: the secret name by which the client resumes it.
        @param channel: the channel to the runner, not open yet.
        @param over: is called when nothing of the session is left.
        """
        self.state: str = CUT
        self.name = name
        self.client = wish.client
        self.isForgotten = False
        self._only = only
        self._keep = hello.keep
        self._keepBytes = keepBytes
        self._over = over
        self._reactor = reactor
        self._channel: PipeChannel | ThreadChannel | None = channel
        self._isDraining = False
        # The number of the last call that the runner got and has not given back.
        self._given = 0
        # The number of the last call that the runner has answered.
        self._answered = 0
        self._expiry: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self.conversation = Conversation(
            reactor,
            hello.largest,
            hello.heartbeat,
            self._arrived,
            self._cut,
            self._broken,
            self._signalled,
            self._acknowledged,
            self._passOn if isinstance(channel, PipeChannel) else None,
        )
        if isinstance(channel, PipeChannel):
            channel.passOn = self._passBack
        channel.open(self)

    @property
    def pid(self) -> int | None:
        """
        The process ID of the runner, or C{None} when it has ended.
        """
        return None if self._channel is None else self._channel.pid

    @property
    def waiting(self) -> int:
        """
        How many calls have arrived and have not begun.
        """
        return 0 if self._channel is None else max(0, self._given - self._channel.lastBegun)

    @property
    def isBusy(self) -> bool:
        """
        Whether a call has begun and was not answered yet.
        """
        return self._channel is not None and self._channel.lastBegun > self._answered

    def facts(self) -> RunnerFacts:
        """
        @return: what can be told of the session and its runner, for people.
        """
        channel = self._channel
        return RunnerFacts(
            self.state,
            self.pid,
            None if channel is None else channel.residentKilobytes(),
            place={
                "client": self.client[:8],
                "begun": 0 if channel is None else channel.lastBegun,
                "keptBytes": self.conversation.session.keptBytes,
            },
        )

    # The client's side ----------------------------------------------------------------------------

    def attach(self, connection: Connection, received: int) -> None:
        """
        Go on over a connection, in place of the one before.
        """
        self.conversation.close()
        if self.state == CUT:
            self._move("resume")
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        welcome = Welcome(self.name, self.conversation.session.received)
        connection.write(WELCOME, encodeWish(welcome))
        try:
            self.conversation.attach(connection, received)
        except ProtocolError:
            self.end()
            raise

    def drain(self) -> None:
        """
        Tell the client to send no more, and give back what has not begun.
        """
        self._isDraining = True
        if self._channel is not None:
            self.conversation.send([(DRAINING,)])
            self._channel.send([(RECALL,)])
            self._channel.nudge()

    def _arrived(self, messages: list[Message], hasBuffers: bool) -> None:
        channel = self._channel
        if channel is None:
            # The client hears of the runner's end after this.
            return
        if self._isDraining or self._only is not None:
            messages = self._accepted(messages)
        if hasBuffers and isinstance(channel, PipeChannel):
            messages = [_beside(message) for message in messages]
        if messages:
            self._give(messages)
            channel.send(messages)
        self._balance()

    def _accepted(self, messages: list[Message]) -> list[Message]:
        """
        Answer the calls that the runner is not to get.

        @return: the other messages.
        """
        accepted: list[Message] = []
        for message in messages:
            answer = self._turnDown(message) if message[0] == CALL else None
            if answer is None:
                accepted.append(message)
            else:
                self._answer(answer)
        return accepted

    def _turnDown(self, call: Message) -> Message | None:
        """
        @return: the answer to a call that the runner is not to get.
        """
        if self._isDraining:
            return (UNBEGUN, [call[1]])
        refusal = None if self._only is None else self._only.refusal(call)
        return None if refusal is None else (RAISED, call[1], 0.0, describe(refusal))

    def _give(self, messages: list[Message]) -> None:
        """
        Note which call is the last that the runner gets.
        """
        for message in reversed(messages):
            if message[0] == CALL:
                self._given = message[1]
                return

    def _passOn(self, messages: list[Message], opened: OpenFrame) -> Sink | None:
        """
        Have the runner get large buffers while they arrive, so that they are never here whole.

        @return: what takes the frame's bytes, or C{None} if the frame has to arrive first.
        """
        channel = self._channel
        if (
            not isinstance(channel, PipeChannel)
            or any(call[0] == CALL and self._turnDown(call) is not None for call in messages)
            or not channel.beginFrame([opened.head, opened.body], sum(opened.sizes))
        ):
            return None
        self._give(messages)

        def passPiece(piece: memoryview) -> None:
            channel.continueFrame(piece)
            self._balance()

        return passPiece

    def _signalled(self, signal: int) -> None:
        channel = self._channel
        if signal == LEAVE:
            self.isForgotten = True
            self.end()
        elif channel is None:
            return
        elif signal == NUDGE:
            channel.nudge()
        elif signal == TERMINATE:
            channel.terminate()
        elif signal == KILL:
            channel.kill()

    def _acknowledged(self) -> None:
        if self._channel is None and not self.conversation.session.keptBytes:
            self.isForgotten = True
            self.end()
        else:
            self._balance()

    def _cut(self, reason: Exception) -> None:
        self._move("cut")
        if self._expiry is not None:
            # The server ends, and nobody is there to hear of it.
            self.end()
            return
        self._expiry = self._reactor.callLater(self._keep, self._expire, reason)

    def _broken(self, reason: Exception) -> None:
        self.log.warn("a session was dropped, because {reason}", reason=reason)
        self.end()

    def _expire(self, reason: Exception) -> None:
        self._expiry = None
        self.log.warn(
            "a session was dropped, because its client was gone for {keep:g} seconds: {reason}",
            keep=self._keep,
            reason=reason,
        )
        self.end()

    def abort(self) -> None:
        """
        Kill the runner, tell the client if it is connected, and end.
        """
        if self.state == LIVE and self._channel is not None and self._expiry is None:
            self._channel.kill()
            # A client that does not acknowledge what it is told is not waited for.
            self._expiry = self._reactor.callLater(ABORT_SECONDS, self.end)
        else:
            self.end()

    def end(self) -> None:
        """
        Drop the session, and kill the runner if there is one.
        """
        if self.state == OVER:
            return
        self._move("end")
        for timer in (self._expiry, self._timer):
            if timer is not None and timer.active():
                timer.cancel()
        self.conversation.close()
        if self._channel is None:
            self._over(self)
        else:
            self._channel.kill()

    def _move(self, event: str) -> None:
        self.state = nextState(SESSION, self.state, event, self)

    # The runner's side ----------------------------------------------------------------------------

    def received(self, messages: list[Message]) -> None:
        """
        Pass the runner's messages on.
        """
        if self.state == OVER or self._channel is None:
            return
        self.conversation.begun = self._channel.lastBegun
        self._noteAnswer(messages)
        self._pass([each if each[0] == RETURNED else self._placed(each) for each in messages])
        self._balance()

    def _noteAnswer(self, messages: list[Message]) -> None:
        # Nearly always, the last message is one.
        for message in reversed(messages):
            if message[0] in _ANSWERS:
                self._answered = max(self._answered, message[1])
                return

    def _passBack(self, messages: list[Message], opened: OpenFrame) -> Sink | None:
        """
        Have the client get large buffers while the runner sends them, so that they are never here
        whole.

        @return: what takes the frame's bytes, or C{None} if the frame has to arrive first.
        """
        channel, conversation = self._channel, self.conversation
        if self.state == OVER or channel is None:
            return _drop
        if any(self._placed(message) is not message for message in messages):
            return None
        conversation.begun = channel.lastBegun
        self._noteAnswer(messages)
        try:
            conversation.beginFrame(opened)
        except PayloadTooLarge as error:
            for message in messages:
                self._refuse(message, error)
            return _drop

        def passPiece(piece: memoryview) -> None:
            if self.state != OVER:
                conversation.continueFrame(piece)
                self._balance()

        return passPiece

    def lost(self, reason: Exception) -> None:
        """
        The runner has ended: tell the client how, after all that the runner has said.
        """
        channel, self._channel = self._channel, None
        if self.state == OVER:
            self._over(self)
            return
        begun = 0 if channel is None else channel.lastBegun
        self.conversation.begun = begun
        self.conversation.abandonFrame()
        self.conversation.send([(RUNNER_LOST, describe(reason), begun)])

    def _placed(self, message: Message) -> Message:
        """
        Take note of calls that will never begin. Say on which machine a call could not be rebuilt,
        because the caller can rebuild it.

        @return: the message for the client.
        """
        if message[0] == UNBEGUN and self._given in message[1]:
            self._given = min(message[1]) - 1
        if message[0] != RAISED or message[3][1] != _NOT_REBUILT:
            return message
        kind, number, seconds, (_, _, text, trace) = message
        error = CallNotRebuilt(f"{text} (on the server {platform.node()})")
        packed, name, text, _ = describe(error)
        return (kind, number, seconds, (packed, name, text, trace))

    def _pass(self, messages: list[Message]) -> None:
        try:
            self.conversation.send(messages)
        except PayloadTooLarge as error:
            if len(messages) > 1:
                for message in messages:
                    self._pass([message])
            else:
                self._refuse(messages[0], error)

    def _refuse(self, message: Message, error: PayloadTooLarge) -> None:
        """
        Answer in place of the runner, whose answer is too large.
        """
        kind, number = message[0], message[1]
        if kind in (RETURNED, RAISED, ITEMS):
            self._answer((RAISED, number, 0.0, describe(error)))
            if kind == ITEMS and self._channel is not None:
                self._channel.send([(CANCEL, number)])

    def _answer(self, message: Message) -> None:
        self.conversation.send([message])

    # Between the two ------------------------------------------------------------------------------

    def _balance(self) -> None:
        """
        Take no more from either side than the other side takes from here, and see which call
        begins.
        """
        channel = self._channel
        if self.state == OVER or channel is None:
            return
        conversation = self.conversation
        channel.pauseReading(conversation.session.keptBytes > self._keepBytes)
        isFull = channel.waitingBytes > self._keepBytes
        conversation.holdAcknowledgements(isFull)
        if self._timer is None and (isFull or conversation.begun < self._given):
            self._timer = self._reactor.callLater(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        channel, conversation = self._channel, self.conversation
        if channel is not None and channel.lastBegun > conversation.begun:
            conversation.begun = channel.lastBegun
            conversation.tellBegun()
        self._balance()


def _drop(piece: memoryview) -> None:
    """
    Take bytes that nobody is to get.
    """


def _beside(value: Any) -> Any:
    """
    Have the large buffers in a message travel beside its pickle again, as they came.
    """
    kind = type(value)
    if kind is tuple:
        return tuple([_beside(part) for part in value])
    if kind is list:
        return [_beside(part) for part in value]
    if kind in _BUFFERS or (kind is bytes and len(value) >= LARGE):
        return PickleBuffer(value)
    return value


class RemoteService(Service):
    """
    Runs the calls of C{RemoteWorker}s, each worker's in a process of its own. It is a Twisted
    service, for C{setServiceParent}, and also works by itself::

        service = RemoteService("tcp:7411:interface=127.0.0.1", "key")
        service.startService()

    A client that knows the key can have any code run here, with the rights of this process.

    @ivar whenListening: a Deferred that fires with the port when connections are taken. It fails
        with the reason if they cannot be.
    """

    name = "asynqueue"

    log = Logger()

    def __init__(
        self,
        address: str,
        key: Key,
        *,
        tls: TlsFolder = None,
        processes: int = 1,
        threads: int = 0,
        series: Iterable[str] = (),
        only: Iterable[str] = (),
        maxClients: int = 16,
        keep: float = 60.0,
        keepBytes: int = 64 << 20,
        largest: int = LARGEST,
        heartbeat: float = 5.0,
        startTimeout: float = START_SECONDS,
        state: str | PathLike[str] | None = None,
        drainTimeout: float | None = 30.0,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        Make a service that does not listen yet.

        @param address: where to listen, as a description of Twisted's: C{tcp} or C{unix}. Without
            TLS, C{tcp} needs an C{interface} that is a loopback address.
        @param key: the key, or the path of its file.
        @param tls: the folder with the server's certificates, C{ca.pem}, C{cert.pem} and
            C{key.pem}. Clients then have to show a certificate that the CA has signed. Default:
            no TLS.
        @param processes: how many processes each client gets. Default: 1.
        @param threads: how many threads of this process each client gets, in place of processes.
            Damage that a task does is then done for all clients, and a task that cannot be stopped
            is left behind in its thread. Log records of tasks are logged here as well, and reach a
            client only if the levels of this process's loggers let them pass. Default: 0, for
            processes.
        @param series: the series that the workers of this server are qualified for.
        @param only: the names of the modules whose functions may be called. Default: any.
        @param maxClients: how many clients there may be at once. Default: 16.
        @param keep: for how many seconds a session is kept whose connection was cut. Default: 60.
        @param keepBytes: how many bytes are kept for a session. While there are more, its process
            waits before it says more. Default: 64 MiB.
        @param largest: how many bytes a client may send in one message. Default: 1 GiB.
        @param heartbeat: after how many seconds at the most the server sends something. A client
            that is silent for three times its own interval is taken to be gone. Default: 5.
        @param startTimeout: within how many seconds a new process has to be ready.
        @param state: a folder for a file of each session. If this server is killed, the server that
            takes its place reads there which calls had begun. Default: a folder for this address
            in C{XDG_RUNTIME_DIR}, or where temporary files are.
        @param drainTimeout: for how many seconds calls that are underway may go on when the service
            stops, or after a SIGINT or SIGTERM that stops the reactor. A second signal ends them at
            once. C{None} for no limit; then it ignores signals. Default: 30.
        @param reactor: the reactor. Default: the global reactor.
        @raise ValueError: if a number or the address is not valid, there is no key, others can read
            a key's file, or a file in the folder does not hold what it should.
        @raise OSError: if a file cannot be read.
        @raise ExtraMissing: if TLS is not installed.
        """
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._endpoint = serverEndpoint(self._reactor, address, tls)
        self._address = address
        self._key = keyBytes(key)
        self._threads = checkCount("threads", threads, least=0)
        self._hello = Hello(
            largest=checkCount("largest", largest, least=1 << 16),
            heartbeat=checkSeconds("heartbeat", heartbeat, positive=True, finite=True),
            processes=self._threads or checkCount("processes", processes),
            keep=checkSeconds("keep", keep, finite=True),
            series=tuple(series),
        )
        self._only = tuple(only)
        self._maxClients = checkCount("maxClients", maxClients)
        self._keepBytes = checkCount("keepBytes", keepBytes)
        self._state = defaultFolder(address) if state is None else Path(state)
        self._begunFiles: BegunFiles | None = None
        # The calls that are going to remove files that no client asks for any more.
        self._removals: set[IDelayedCall] = set()
        self.drainTimeout = checkSeconds("drainTimeout", drainTimeout, optional=True)
        self._ending: Ending | None = None
        self._startTimeout = checkSeconds("startTimeout", startTimeout, positive=True, finite=True)
        self.whenListening: Deferred[Any] = Deferred()
        self._port: IListeningPort | None = None
        self._isDraining = False
        self._strangers: set[Connection] = set()
        # By name. A session stays until its process is gone.
        self._sessions: dict[str, ServerSession] = {}
        self._ended: OneShotObserverList[None] = OneShotObserverList()

    def startService(self) -> None:
        """
        Begin to listen.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._reaper = programReaper()
        self._reaper.hold()
        self._openFiles()
        self._ending = Ending(
            self._reactor,
            self,
            lambda: len(self._sessions),
            self._drain,
            self._cut,
            self._endNow,
            self._killAll,
        )
        listening = maybeDeferred(self._endpoint.listen, AcceptingFactory(self._build))
        listening.addCallback(self._listens)
        listening.addCallbacks(self.whenListening.callback, self.whenListening.errback)

    def _openFiles(self) -> None:
        try:
            files = BegunFiles(self._state)
            left = files.ended()
        except OSError as error:
            self.log.warn(
                "if this server is killed, nobody will know which calls had begun: {why}", why=error
            )
            return
        self._begunFiles = files
        for path in left:
            self._removeLater(path)

    def _removeLater(self, path: Path) -> None:
        """
        Remove a session's file when its client has given the session up.
        """

        def remove() -> None:
            self._removals.discard(timer)
            path.unlink(missing_ok=True)

        timer = self._reactor.callLater(self._hello.keep, remove)
        self._removals.add(timer)

    def _listens(self, port: IListeningPort) -> IListeningPort:
        self._port = port
        self.log.info("serving at {address}", address=self._address)
        notifierOf(self._reactor).serviceStarted()
        return port

    def stopService(self) -> Deferred[None]:
        """
        Drain: take no clients and no calls any more, give back what has not begun, and let what is
        underway end. After C{drainTimeout} seconds do what L{abort} does.

        @return: a Deferred that fires when all sessions are over.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._ending is None:
            # It was never started.
            return succeed(None)
        return self._ending.begin("the service was stopped")

    def _drain(self, why: str) -> Deferred[None]:
        if not self._isDraining:
            self._isDraining = True
            if self._port is not None:
                self._port.stopListening()
            self.log.info("shutting down: {count} sessions are to end", count=len(self._sessions))
            for connection in list(self._strangers):
                connection.finish()
            for session in list(self._sessions.values()):
                session.drain()
            self._endIfIdle()
        return self._ended.whenFired()

    def abort(self) -> None:
        """
        Kill the processes of all sessions, tell the clients that are connected, and end.
        """
        self.log.info("ends {count} sessions at once", count=len(self._sessions))
        for session in list(self._sessions.values()):
            session.abort()

    def whenEnded(self) -> Deferred[None]:
        """
        Wait until the service has stopped and all sessions are over.

        @return: a Deferred that fires with C{None} then.
        """
        return self._ended.whenFired()

    def _cut(self, why: str) -> Deferred[None]:
        self.abort()
        return self.whenEnded()

    def _endNow(self, why: str) -> None:
        self._killAll()

    def _killAll(self) -> None:
        for session in list(self._sessions.values()):
            session.end()

    @property
    def address(self) -> str:
        """
        Where it listens, as it was told.
        """
        return self._address

    @property
    def reactor(self) -> IReactorTime:
        """
        Its reactor.
        """
        return self._reactor

    @property
    def isDraining(self) -> bool:
        """
        Whether it stops, or has stopped.
        """
        return self._isDraining

    @property
    def sessions(self) -> list[ServerSession]:
        """
        The sessions of this moment.
        """
        return list(self._sessions.values())

    # Connections ----------------------------------------------------------------------------------

    def _build(self) -> Protocol | None:
        if len(self._strangers) >= STRANGERS:
            # The transport is closed.
            return None
        handshake = Handshake(self._key, self._hello, isServer=True)
        connection = Connection(
            self._reactor, handshake, self._secured, self._strangerGone, self._endpoint.reasonOf
        )
        self._strangers.add(connection)
        return connection

    def _strangerGone(self, connection: Connection, reason: Exception) -> None:
        self._strangers.discard(connection)
        self.log.info("a connection was closed in the handshake: {reason}", reason=reason)

    def _secured(self, connection: Connection) -> None:
        connection.heard = lambda record: self._attach(connection, record)

    def _attach(self, connection: Connection, record: Record) -> None:
        wish = decodeAttach(record)
        if wish.session:
            session = self._sessions.get(wish.session)
            if session is None or session.state == OVER:
                self._refuseUnknown(connection, wish.session)
                return
        else:
            try:
                session = self._open(wish)
            except WorkerStartError as error:
                connection.refuse(BUSY, str(error), error)
                return
        self._strangers.discard(connection)
        session.attach(connection, wish.received)

    def _refuseUnknown(self, connection: Connection, name: str) -> None:
        files = self._begunFiles
        try:
            begun = None if files is None else files.lastBegun(name)
        except ServerBusy as error:
            connection.refuse(BUSY, str(error), error)
            return
        why = "it does not know the session"
        connection.refuse(UNKNOWN, why, ServerBusy(why), begun)

    def _open(self, wish: Attach) -> ServerSession:
        """
        @raise WorkerStartError: if there is no room for another session.
        """
        if self._isDraining:
            raise ServerBusy("it is shutting down")
        sessions = [session for session in self._sessions.values() if session.state != OVER]
        own = [session for session in sessions if session.client == wish.client]
        if not own and len({session.client for session in sessions}) >= self._maxClients:
            raise ServerBusy(f"it has as many clients as it may have, {self._maxClients}")
        if len(own) >= self._hello.processes:
            # A client that asks for a new session has given up one that it cannot resume.
            left = next((session for session in own if session.state == CUT), None)
            if left is None:
                raise ServerBusy(f"this client has all {self._hello.processes} sessions already")
            left.end()
        name, files = secrets.token_hex(16), self._begunFiles
        channel: PipeChannel | ThreadChannel
        if self._threads:
            channel = ThreadChannel(
                self._reactor, wish.raw, codec=CODECS[wish.pickler], logLevels=wish.logLevels
            )
        else:
            channel = PipeChannel(
                self._reactor,
                pollingDelay(self._reactor, ProcessWorker.interval, ProcessWorker.backoff),
                ChildOptions(raw=wish.raw, logLevels=wish.logLevels, pickler=wish.pickler),
                startTimeout=self._startTimeout,
                recordPath=None if files is None else str(files.path(name)),
            )
        only = OnlyModules(self._only) if self._only else None
        over, reactor = self._sessionOver, self._reactor
        session = ServerSession(
            name, wish, channel, only, self._hello, self._keepBytes, over, reactor
        )
        self._sessions[session.name] = session
        self.log.info(
            "client {client} has a session, {count} of {limit}",
            client=wish.client[:8],
            count=1 + sum(session.state != OVER for session in own),
            limit=self._hello.processes,
        )
        return session

    def _sessionOver(self, session: ServerSession) -> None:
        if self._sessions.pop(session.name, None) is not None:
            self.log.info("a session of client {client} is over", client=session.client[:8])
        files = self._begunFiles
        if files is not None and session.isForgotten:
            files.forget(session.name)
        elif files is not None:
            self._removeLater(files.path(session.name))
        self._endIfIdle()

    def _endIfIdle(self) -> None:
        if self._isDraining and not self._sessions and not self._ended.hasFired:
            self._reaper.letGo()
            # The next server removes them.
            for timer in self._removals:
                timer.cancel()
            self._removals.clear()
            if self._ending is not None:
                self._ending.forget()
            if self._port is not None:
                notifierOf(self._reactor).serviceEnded()
            self._ended.fire(None)
