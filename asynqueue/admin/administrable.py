"""
The base of the queues that others can see and steer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from asynqueue.interfaces import IAdministered

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from asynqueue.admin.server import Administration


class Showing(NamedTuple):
    """
    The things that are to be shown of a queue.

    @ivar name: the queue's name in requests.
    @ivar show: what else is shown: C{"arguments"} and C{"results"}.
    @ivar history: how many tasks or jobs that ended are remembered even while nobody looks.
    @ivar isReadOnly: whether the queue can only be looked at.
    """

    name: str
    show: Iterable[str]
    history: int
    isReadOnly: bool


class Administrable:
    """
    A queue that others can see and steer.
    """

    # Is there while others can see the queue.
    _administrations: list[Administration]

    def admin(
        self,
        *,
        name: str | None = None,
        show: Iterable[str] = (),
        history: int = 0,
        readOnly: bool = False,
    ) -> Administration:
        """
        Let others of this user see and steer this queue, with C{asynqueue top} for example. A Unix
        socket with mode 0600 is opened as soon as the reactor runs, and removed with the last queue
        or when the program ends. All queues of a reactor share it. Calling this again changes
        nothing.

        With C{ASYNQUEUE_ADMIN=1} in the environment every queue does this by itself.

        @param name: the queue's name there. Default: that of its class. A number follows if another
            queue has the name.
        @param show: what else is shown: C{"arguments"} and C{"results"}, shortened. Default:
            neither, because they may be secret.
        @param history: how many tasks or jobs that ended are remembered even while nobody looks.
            Default: 0. The queue then notes what ends only while somebody looks.
        @param readOnly: whether the queue can only be looked at. Default: C{False}.
        @return: an object with the C{path} of the socket, which is C{None} before the reactor runs,
            and C{close()}.
        @raise AdminError: if the reactor has no Unix sockets, or C{show} names something else.
        @raise ValueError: if C{history} is not an integer of 0 or more.
        @raise QueueStopped: if the queue was shut down or stopped.
        """
        self._checkAdministrable()
        if not self._administrations:
            from asynqueue.admin.server import Administration

            showing = Showing(name or type(self).__name__, show, history, readOnly)
            view, reactor = self._inspect(showing)
            self._administrations.append(Administration(view, self, reactor))
        return self._administrations[0]

    def administered(
        self,
        *,
        name: str | None = None,
        show: Iterable[str] = (),
        history: int = 0,
        readOnly: bool = False,
    ) -> IAdministered:
        """
        Make what L{AdminSite<asynqueue.admin.AdminSite>} or an L{AdminAPI
        <asynqueue.admin.AdminAPI>} of your own needs to show this queue. Nothing is opened. The
        parameters are those of L{admin}.

        @return: what is seen of this queue, which it does not keep alive.
        @raise AdminError: if C{show} names something else.
        @raise ValueError: if C{history} is not an integer of 0 or more.
        """
        showing = Showing(name or type(self).__name__, show, history, readOnly)
        return self._inspect(showing)[0]

    def _checkAdministrable(self) -> None:
        """
        @raise QueueStopped: if the queue was shut down or stopped.
        """
        raise NotImplementedError

    def _inspect(self, showing: Showing) -> tuple[IAdministered, IReactorTime]:
        """
        @return: what is seen of this queue, and its reactor.
        """
        raise NotImplementedError
