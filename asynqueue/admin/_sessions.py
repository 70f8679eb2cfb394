"""
What others see of a server for remote workers: its sessions, as a queue's workers are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from zope.interface import implementer

from asynqueue._workers.procinfo import processorSeconds
from asynqueue._workers.wire.server import RemoteService, ServerSession
from asynqueue.interfaces import IAdministered, JSONObject

MOST_SESSIONS: Final = 200
"""How many sessions a snapshot shows. The system is asked for the memory of each."""


@implementer(IAdministered)
class ServerInspection:
    """
    What others see of a L{RemoteService<asynqueue.wire.RemoteService>}. The calls and their names
    are the clients' own, so only their numbers are seen here.

    @ivar name: the server's name in requests.
    @ivar kind: the name of its class.
    @ivar isReadOnly: C{True}: its clients steer it.
    @ivar verbs: what can be asked.
    """

    isReadOnly = True

    def __init__(self, service: RemoteService, name: str) -> None:
        self.name = name
        self.kind = type(service).__name__
        self._service = service
        self.verbs: Mapping[str, Callable[..., object]] = {"snapshot": self.snapshot}

    def observe(self, isWatched: bool) -> None:
        """
        Do nothing, because nothing is noted of what ends.
        """

    def forget(self) -> None:
        """
        Do nothing, as L{observe}.
        """

    def summary(self) -> JSONObject:
        """
        See L{IAdministered}.
        """
        sessions = self._service.sessions
        return {
            "name": self.name,
            "kind": self.kind,
            "state": "DRAINING" if self._service.isDraining else "RUNNING",
            "paused": False,
            "pending": sum(session.waiting for session in sessions),
            "underway": sum(session.isBusy for session in sessions),
            "workers": len(sessions),
            "address": self._service.address,
            "waited": None,
            "ended": None,
            "readOnly": self.isReadOnly,
            "verbs": [*self.verbs],
        }

    def snapshot(self, page: int = 0, size: int = 25) -> JSONObject:
        """
        @param page: accepted as for queues. There are no tasks to page through.
        @param size: so is this.
        @return: everything that is seen of the server.
        """
        sessions = self._service.sessions
        return {
            **self.summary(),
            "workerCount": len(sessions),
            "workers": [
                self._session(number, session)
                for number, session in enumerate(sessions[:MOST_SESSIONS], 1)
            ],
            "seriesCount": 0,
            "series": [],
            "tasksUnderway": [],
            "tasksPending": [],
            "page": page,
            "size": size,
            "streams": [],
            "last": [],
        }

    def _session(self, number: int, session: ServerSession) -> JSONObject:
        facts = session.facts()
        return {
            "id": number,
            "kind": "session",
            "name": f"a session of client {session.client[:8]}",
            "state": facts.state,
            "mayGetTasks": not self._service.isDraining,
            "pid": facts.pid,
            "residentKilobytes": facts.residentKilobytes,
            "processorSeconds": None if facts.pid is None else processorSeconds(facts.pid),
            "restarts": facts.restarts,
            "recycled": facts.recycled,
            "place": dict(facts.place),
            "losses": [],
            "tasks": session.waiting + session.isBusy,
            "running": [],
            "series": [],
        }
