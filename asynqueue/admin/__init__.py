"""
See and steer the queues of a running program, from another program.

C{queue.admin()} opens a Unix socket, over which a line-based JSON API is spoken. C{asynqueue top}
and C{asynqueue admin} speak it, and so does L{AdminClient}. L{AdminSite} is the web page of
C{asynqueue admin} for the pages of your own program::

    from asynqueue.admin import AdminClient, findSockets

    for path in findSockets():
        with AdminClient(path) as client:
            print(client.ask("queues"))

L{QueueMetrics} and L{MetricsResource} tell Prometheus what queues do. L{QueueTracer} makes spans of
OpenTelemetry of their tasks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from asynqueue._lazy import lazyNames

if TYPE_CHECKING:
    from asynqueue.admin.administrable import Administrable
    from asynqueue.admin.api import AdminAPI
    from asynqueue.admin.client import AdminClient, findSockets
    from asynqueue.admin.login import Access, OneTimeLogin
    from asynqueue.admin.metrics import DASHBOARD, MetricsResource, QueueMetrics
    from asynqueue.admin.server import Administration
    from asynqueue.admin.site import AdminSite
    from asynqueue.admin.tracing import QueueTracer

__all__ = [
    "DASHBOARD",
    "Access",
    "AdminAPI",
    "AdminClient",
    "AdminSite",
    "Administrable",
    "Administration",
    "MetricsResource",
    "OneTimeLogin",
    "QueueMetrics",
    "QueueTracer",
    "findSockets",
]

_HOMES = {
    "administrable": "Administrable",
    "api": "AdminAPI",
    "client": "AdminClient findSockets",
    "login": "Access OneTimeLogin",
    "metrics": "DASHBOARD MetricsResource QueueMetrics",
    "server": "Administration",
    "site": "AdminSite",
    "tracing": "QueueTracer",
}

__getattr__, __dir__ = lazyNames(globals(), _HOMES)

SWITCH: Final = "ASYNQUEUE_ADMIN"
"""The environment variable that has every queue call its C{admin}."""


def isSwitchedOn() -> bool:
    """
    Tell whether the environment asks for it that everything can be seen.
    """
    return os.environ.get(SWITCH, "0") not in ("", "0")


def openIfWanted(queue: Administrable) -> None:
    """
    Let others see a new queue if the environment asks for that. The queue works all the same if
    they cannot.
    """
    if not isSwitchedOn():
        return
    from twisted.logger import Logger

    from asynqueue.errors import AdminError

    try:
        queue.admin()
    except AdminError as error:
        Logger(__name__).warn("{queue}: {error}", queue=queue, error=error)
