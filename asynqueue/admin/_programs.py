"""
The programs that a page shows: this one, or those whose admin sockets are found.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from asynqueue._core.states import Table, nextState
from asynqueue._reactor import IReactor
from asynqueue.admin.api import AdminAPI
from asynqueue.admin.client import ANSWER_SECONDS, LONGEST_REPLY, listSockets
from asynqueue.admin.login import Access
from asynqueue.errors import AdminError
from asynqueue.interfaces import JSONObject

ABSENCE_SECONDS: Final = 60.0
"""If nobody has asked for so many seconds, the queues of this program are not observed any more."""

CONNECT_SECONDS: Final = 2.0
"""How long a program may take to accept a connection."""


class OwnProgram:
    """
    This program, with the queues that it was given.

    @ivar key: names the program in the addresses of pages.
    @ivar greeting: what it says of itself.
    """

    key: Final = "here"

    def __init__(self, api: AdminAPI, reactor: IReactorTime) -> None:
        """
        @param reactor: gives the time.
        """
        self._api = api
        self._reactor = reactor
        self._absence: IDelayedCall | None = None

    @property
    def greeting(self) -> JSONObject:
        return self._api.greeting()

    def ask(self, request: JSONObject, access: Access) -> Deferred[JSONObject]:
        """
        @param request: as L{AdminAPI} takes it.
        @param access: who asks, and what they may do.
        @return: a Deferred that fires with the reply.
        """
        if self._absence is None:
            self._api.attach()
            self._absence = self._reactor.callLater(ABSENCE_SECONDS, self.leave)
        else:
            self._absence.reset(ABSENCE_SECONDS)
        return self._api.answer(request, access.who, access.acts)

    def leave(self) -> None:
        """
        Have the queues observed no more, until somebody asks again.
        """
        absence, self._absence = self._absence, None
        if absence is not None:
            if absence.active():
                absence.cancel()
            self._api.detach()


class OwnPrograms:
    """
    This program alone.
    """

    def __init__(self, api: AdminAPI, reactor: IReactorTime) -> None:
        self._program = OwnProgram(api, reactor)

    def look(self) -> Deferred[Sequence[Program]]:
        """
        @return: a Deferred that fires with the programs.
        """
        return succeed([self._program])

    def close(self) -> None:
        """
        Leave the programs.
        """
        self._program.leave()


CONNECTING: Final = "CONNECTING"
OPEN: Final = "OPEN"
GONE: Final = "GONE"

PROGRAM: Final[Table] = {
    # It has not greeted yet.
    CONNECTING: {"greet": OPEN, "lose": GONE},
    # It can be asked.
    OPEN: {"lose": GONE},
    GONE: {},
}


class FoundProgram(Protocol):
    """
    Another program, at the end of its admin socket.

    @ivar state: a state of L{PROGRAM}.
    @ivar key: names the program in the addresses of pages.
    @ivar greeting: what it says of itself.
    @ivar path: where its socket lies.
    """

    # It is more than ITransport has: it can be aborted.
    transport: Any

    def __init__(
        self,
        reactor: IReactorTime,
        path: str,
        ready: Deferred[FoundProgram],
        lost: Callable[[str], object],
    ) -> None:
        """
        @param ready: fires with this, when the program has greeted.
        @param lost: is called with the path when the program is gone.
        """
        self.key = os.path.basename(path).removesuffix(".sock")
        self.state: str = CONNECTING
        self.greeting: JSONObject = {}
        self._reactor = reactor
        self.path = path
        self._ready = ready
        self._lost = lost
        self._received = bytearray()
        self._waiting: deque[Deferred[JSONObject]] = deque()
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._deadline = self._reactor.callLater(CONNECT_SECONDS, self.leave)

    def ask(self, request: JSONObject, access: Access) -> Deferred[JSONObject]:
        """
        See L{OwnProgram.ask}. The program knows only that this process asks, on behalf of its user.
        """
        if self.state != OPEN:
            return fail(AdminError(f"the program at {self.path} is gone"))
        answered: Deferred[JSONObject] = Deferred()
        self._waiting.append(answered)
        self.transport.write(json.dumps(request).encode() + b"\n")
        if self._deadline is None:
            self._deadline = self._reactor.callLater(ANSWER_SECONDS, self.leave)
        return answered

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if b"\n" not in data:
            if len(self._received) > LONGEST_REPLY:
                self.leave()
            return
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        for line in lines:
            if self.state == GONE:
                return
            try:
                reply = json.loads(line)
            except ValueError:
                reply = None
            if not isinstance(reply, dict):
                self.leave()
                return
            self._came(reply)

    def _came(self, reply: JSONObject) -> None:
        isAnswer = self.state == OPEN
        if isAnswer and not self._waiting:
            self.leave()
            return
        assert self._deadline is not None
        if len(self._waiting) > isAnswer:
            self._deadline.reset(ANSWER_SECONDS)
        else:
            self._deadline.cancel()
            self._deadline = None
        if isAnswer:
            self._waiting.popleft().callback(reply)
        else:
            self._move("greet")
            self.greeting = reply
            self._ready.callback(self)

    def _move(self, event: str) -> None:
        self.state = nextState(PROGRAM, self.state, event, self)

    def leave(self) -> None:
        """
        Close the connection, if there is one.
        """
        if self.transport is not None and self.state != GONE:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        isNew = self.state == CONNECTING
        self._move("lose")
        self._lost(self.path)
        error = AdminError(f"the program at {self.path} does not answer")
        if isNew:
            self._ready.errback(error)
        while self._waiting:
            self._waiting.popleft().errback(error)


class _Connecting(ClientFactory):
    """
    Makes the one connection to a program.
    """

    noisy = False

    def __init__(self, program: FoundProgram) -> None:
        self.program = program

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self.program

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """
        No program answers there. Sockets of killed ones are removed.
        """
        if reason.check(Refused) is not None:
            with suppress(OSError):
                os.unlink(self.program.path)
        self.program.connectionLost(reason)


class FoundPrograms:
    """
    All programs of this user that can be seen, or one of them.
    """

    def __init__(
        self,
        reactor: IReactor,
        path: str | None = None,
        find: Callable[[], Sequence[str]] = listSockets,
    ) -> None:
        """
        @param path: the socket of the one program to show. Default: all programs.
        @param find: lists the paths of the sockets.
        """
        self._reactor = reactor
        self._path = path
        self._find = find
        self._programs: dict[str, FoundProgram] = {}

    def look(self) -> Deferred[Sequence[Program]]:
        """
        @return: a Deferred that fires with the programs that answer now.
        @raise AdminError: if the folder of the sockets is not this user's alone.
        """
        paths = [self._path] if self._path is not None else self._find()
        new = [self._connect(path) for path in paths if path not in self._programs]
        looked = DeferredList(new, consumeErrors=True)
        return looked.addCallback(lambda _: [self._programs[path] for path in self._sorted()])

    def _sorted(self) -> list[str]:
        return sorted(path for path, program in self._programs.items() if program.state == OPEN)

    def _connect(self, path: str) -> Deferred[FoundProgram]:
        ready: Deferred[FoundProgram] = Deferred()
        program = FoundProgram(self._reactor, path, ready, self._forget)
        self._programs[path] = program
        self._reactor.connectUNIX(path, _Connecting(program), timeout=CONNECT_SECONDS)
        return ready

    def _forget(self, path: str) -> None:
        self._programs.pop(path, None)

    def close(self) -> None:
        """
        Leave the programs.
        """
        for program in [*self._programs.values()]:
            program.leave()


Program: TypeAlias = OwnProgram | FoundProgram
Programs: TypeAlias = OwnPrograms | FoundPrograms
