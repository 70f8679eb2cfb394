"""
Twisted's services for queues: for C{.tac} files, C{Application} and C{MultiService}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from asynqueue._dispatch.rdq import ResizableDispatchQueue
from asynqueue._queue.taskqueue import TaskQueue
from asynqueue._reactor import defaultReactor
from asynqueue._systemd import SystemdNotifier, notifierOf
from asynqueue._workers.wire.server import RemoteService
from asynqueue.errors import QueueStopped

if TYPE_CHECKING:
    from asynqueue.admin.server import Administration

__all__ = ["QueueService", "RemoteService", "administer"]

_P = ParamSpec("_P")
_Q = TypeVar("_Q", bound=TaskQueue | ResizableDispatchQueue)


class QueueService(Service, Generic[_Q]):
    """
    Makes a queue when it starts, and drains it when it stops::

        application = Application("mails")
        mails = QueueService(ProcessQueue, 4, drainTimeout=20)
        mails.setServiceParent(application)

    C{twistd} reads its file before it goes into the background, and starts the services afterwards.
    A queue belongs to the process that has made it, so it has to be made by then.

    Where systemd has asked for that (C{Type=notify}), it is told when the program is ready and when
    it ends, and with C{WatchdogSec}, that the reactor runs.

    @ivar reactor: the reactor of the program, whose end systemd hears of. Set it before the start.
        Default: C{None}, for the global reactor.
    """

    reactor: IReactorTime | None = None

    def __init__(self, makeQueue: Callable[_P, _Q], *args: _P.args, **kw: _P.kwargs) -> None:
        """
        @param makeQueue: makes the queue: a class, such as C{ProcessQueue} or
            C{ResizableDispatchQueue}, or a function. It is called at each start.
        @param args: its arguments.
        @param kw: its keywords.
        """
        self._makeQueue: Callable[[], _Q] = lambda: makeQueue(*args, **kw)
        self._queue: _Q | None = None

    @property
    def queue(self) -> _Q:
        """
        The queue, after the first start.

        @raise QueueStopped: before that.
        """
        if self._queue is None:
            name = self.name or type(self).__name__
            raise QueueStopped(f"the service {name} has no queue yet, because it was not started")
        return self._queue

    def startService(self) -> None:
        """
        Make the queue.
        """
        self._queue = self._makeQueue()
        super().startService()  # type: ignore[no-untyped-call]
        self._notifier.serviceStarted()

    def stopService(self) -> Deferred[None]:
        """
        Drain the queue: what waits is refused, or stays in its store. Calls and jobs that are
        underway may go on for as many seconds as the queue's C{drainTimeout} says. While the
        reactor stops because of a signal, a second signal ends it at once.

        @return: a Deferred that fires when the queue is shut down.
        """
        if self._queue is None:
            return succeed(None)
        if self.running:
            super().stopService()  # type: ignore[no-untyped-call]
            self._queue.drain().addBoth(self._drained)
        return self._queue.drain()

    def _drained(self, _: object) -> None:
        self._notifier.serviceEnded()

    @property
    def _notifier(self) -> SystemdNotifier:
        return notifierOf(defaultReactor() if self.reactor is None else self.reactor)


def administer(service: RemoteService, name: str = "server") -> Administration:
    """
    Let others of this user see the sessions of a server, with C{asynqueue top} for example, as
    C{queue.admin()} does for a queue. Its clients steer what it does, so it can only be looked at.

    @param service: the server.
    @param name: its name there. A number follows if something else has the name.
    @return: an object with the C{path} of the socket, which is C{None} before the reactor runs, and
        C{close()}.
    @raise AdminError: if the reactor has no Unix sockets.
    """
    from asynqueue.admin._sessions import ServerInspection
    from asynqueue.admin.server import Administration

    administration = Administration(ServerInspection(service, name), service, service.reactor)
    service.whenEnded().addCallback(lambda _: administration.close())
    return administration
