"""
The queue whose workers are servers. It is apart from the other queues, because a program without
servers need not import what talks to them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Unpack

from twisted.internet.interfaces import IReactorTime

from asynqueue._queue.taskqueue import QueueKeywords, TaskQueue, takesQueueKeywords
from asynqueue._reactor import defaultReactor
from asynqueue._runner.codecs import PicklerName
from asynqueue._workers.wire.endpoints import TlsFolder, clientEndpoint
from asynqueue._workers.wire.keys import Key, keyBytes
from asynqueue._workers.wire.worker import RemoteWorker


class RemoteQueue(TaskQueue):
    """
    A L{TaskQueue} with a L{RemoteWorker} for each of some servers::

        async with RemoteQueue(["tcp:127.0.0.1:7411", "tcp:127.0.0.1:7412"], key="key") as queue:
            print(await queue.call(function, argument))

    A server with several processes gives the queue as many workers.
    """

    @takesQueueKeywords
    def __init__(
        self,
        addresses: Iterable[str],
        key: Key,
        *,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        callStats: bool = False,
        forwardLogs: bool = True,
        pickler: PicklerName = "pickle",
        tls: TlsFolder = None,
        reactor: IReactorTime | None = None,
        **options: Unpack[QueueKeywords],
    ) -> None:
        """
        Begin to connect to the servers. Calls wait until the first one is there.

        @param addresses: the servers' addresses. L{RemoteWorker} describes them, and the keywords
            from C{key} to C{tls}.
        @param key: the key that all the servers have, or the path of its file.
        @param series: the series that all workers are qualified for, besides C{None}, C{'remote'}
            and those that the servers offer.
        @param raw: whether an iterator that a task returns is brought back as it is, where the call
            does not say. Default: C{False}; its items are streamed.
        @param callStats: whether the workers keep the times that their C{stats} return. Default:
            C{False}.
        @param forwardLogs: whether what tasks log is logged in this process, too. Default: C{True}.
        @param pickler: C{"pickle"}, or C{"cloudpickle"} to send functions and classes by value that
            the servers cannot import. They need C{cloudpickle}, too. Default: C{"pickle"}.
        @param tls: the folder with this program's certificates. Default: no TLS.
        @param reactor: the reactor to use. Default: the global reactor.
        @param options: C{timeout}, C{drainTimeout}, C{warn}, C{verbose}, C{spew}, C{observers} and
            C{contextvars}, as for L{TaskQueue}.
        @raise TypeError: if C{addresses} is a text, or there is an unknown keyword.
        @raise ValueError: if there is no address, or one is not valid, or the key or the pickler
            is not.
        @raise OSError: if a file cannot be read.
        @raise ExtraMissing: if TLS or the pickler is not installed.
        """
        if isinstance(addresses, str):
            raise TypeError(f"addresses must be a list of addresses, not the text {addresses!r}")
        places = list(addresses)
        if not places:
            raise ValueError("a RemoteQueue needs the address of at least one server")
        secret = keyBytes(key)
        for address in places:
            clientEndpoint(defaultReactor() if reactor is None else reactor, address, tls)
        super().__init__(reactor=reactor, **options)
        for address in places:
            worker = RemoteWorker(
                address,
                secret,
                series,
                raw,
                callStats,
                forwardLogs,
                pickler=pickler,
                tls=tls,
                reactor=reactor,
            )
            # The caller waits for a call, rather than for the workers.
            self.attachWorker(worker).addErrback(lambda _: None)
