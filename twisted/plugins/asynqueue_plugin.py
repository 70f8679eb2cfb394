"""
Has C{twist} and C{twistd} run the server of C{asynqueue serve}: C{twist asynqueue --help}.

This folder is no package, so that Twisted's own stays the one that is imported. Twisted looks in
every folder of this name for its plugins.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

asynqueue = ServiceMaker(
    "asynqueue", "asynqueue._twist", "Run the calls of asynqueue's RemoteWorkers.", "asynqueue"
)
