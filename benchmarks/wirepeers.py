"""
Servers of the peers that call over a network connection, each in a process of its own::

    python -m benchmarks.wirepeers amp|int32|sink|pyro

It prints the address where it listens, and serves until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols import amp
from twisted.protocols.basic import Int32StringReceiver


class Echo(amp.Command):
    """
    A call that returns its argument.
    """

    arguments = [(b"value", amp.Integer())]  # noqa: RUF012
    response = [(b"value", amp.Integer())]  # noqa: RUF012


class AmpEcho(amp.AMP):
    """
    AMP's server: it runs the call in its own process.
    """

    @Echo.responder
    def echo(self, value: int) -> dict[str, int]:
        """
        Answer one call.
        """
        return {"value": value}


class Int32Echo(Int32StringReceiver):
    """
    The bare server: it sends each string back.
    """

    def stringReceived(self, string: bytes) -> None:
        """
        Answer one string.
        """
        self.sendString(string)  # type: ignore[no-untyped-call]


class Sink(Protocol):
    """
    Takes blocks of bytes, each after its size in 8 bytes, puts each together, and answers its size.
    C{Int32StringReceiver} would take minutes for 100 MiB, because it copies all for each piece.
    """

    def __init__(self) -> None:
        self._block = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """
        Take some bytes.
        """
        block = self._block
        block += data
        if len(block) >= 8 and len(block) == 8 + int.from_bytes(block[:8], "little"):
            self._block = bytearray()
            assert self.transport is not None
            self.transport.write(len(block).to_bytes(8, "little"))


@contextmanager
def running(name: str) -> Iterator[str]:
    """
    Run a peer's server for the length of a C{with} block.

    @param name: which.
    @return: its address.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.wirepeers", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def _serveTwisted(protocol: type[Protocol]) -> None:
    from twisted.internet import reactor, stdio
    from twisted.internet.endpoints import TCP4ServerEndpoint

    installed: Any = reactor

    class UntilEnd(Protocol):
        def connectionLost(self, reason: object = None) -> None:
            if installed.running:
                installed.stop()

    def listens(port: Any) -> None:
        print(port.getHost().port, flush=True)

    factory = Factory.forProtocol(protocol)
    TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory).addCallback(listens)
    stdio.StandardIO(UntilEnd())
    installed.run()


def _servePyro() -> None:
    import threading

    import Pyro5.api

    @Pyro5.api.expose
    class Echoing:
        def echo(self, value: int) -> int:
            return value

        def countUp(self, number: int) -> Iterator[int]:
            yield from range(number)

    daemon = Pyro5.api.Daemon("127.0.0.1")
    print(daemon.register(Echoing()), flush=True)
    threading.Thread(target=daemon.requestLoop, daemon=True).start()
    sys.stdin.read()


def main(name: str) -> None:
    """
    Run one server.
    """
    if name == "pyro":
        _servePyro()
    else:
        _serveTwisted({"amp": AmpEcho, "int32": Int32Echo, "sink": Sink}[name])


if __name__ == "__main__":
    main(sys.argv[1])
