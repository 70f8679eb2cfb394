"""
Servers for tests of remote workers, in this process or in one of their own. Their runners are real
processes.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue.testing import FaultProxy
from asynqueue.wire import RemoteService, RemoteWorker, newKey

KEY = newKey()


def serveCommand(key: str, address: str, *options: str) -> list[str]:
    """
    @return: the command that starts a server.
    """
    program = [sys.executable, "-m", "asynqueue._command"]
    return [*program, "serve", "--listen", address, "--key", key, *options]


def twistCommand(key: str, address: str, *options: str) -> list[str]:
    """
    @return: the command that starts a server under C{twist}, which logs to stderr as text.
    """
    program = [sys.executable, "-m", "twisted", "--log-format", "text", "--log-file", "+"]
    return [*program, "asynqueue", "--listen", address, "--key", key, *options]


class RemoteMixin:
    """
    For a trial test case: servers, proxies and workers that end with the test.
    """

    addCleanup: Any

    async def serve(self, **options: Any) -> RemoteService:
        """
        @return: a server that listens.
        """
        address = options.pop("address", "tcp:0:interface=127.0.0.1")
        key = options.pop("key", KEY)
        service = RemoteService(address, key, **options)
        service.startService()
        self.addCleanup(self._end, service)
        self.port = (await service.whenListening).getHost().port
        return service

    async def proxy(self) -> FaultProxy:
        """
        @return: a proxy before the last server that was made. Workers then connect to it.
        """
        from twisted.internet import reactor

        proxy = FaultProxy(reactor, "127.0.0.1", self.port)
        self.port = await proxy.start()
        self.addCleanup(proxy.stop)
        return proxy

    def remote(self, **options: Any) -> RemoteWorker:
        """
        @return: a worker that connects to the last server or proxy that was made.
        """
        return RemoteWorker(f"tcp:127.0.0.1:{self.port}", options.pop("key", KEY), **options)

    @staticmethod
    def _end(service: RemoteService) -> Deferred[None]:
        ended = service.stopService()
        service.abort()
        return ended
