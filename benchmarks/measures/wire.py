"""
Calls, items and large arrays over a network connection, on the loopback interface.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.protocols.amp import AMP
from twisted.protocols.basic import Int32StringReceiver

from asynqueue import TaskQueue
from asynqueue._runner.framing import encode
from asynqueue._runner.messages import RETURNED
from asynqueue._workers.wire.records import PIECE
from asynqueue._workers.wire.session import Session
from asynqueue.wire import RemoteWorker, writeKey
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import Counter, CountingConsumer, runInReactor
from benchmarks.tasks import countUp, echo, endsOf, numbersOf
from benchmarks.wirepeers import Echo, running

WARM_UP = 500
"""So many calls come first."""

Call = Callable[[int], Any]


# Ours ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def _served() -> AsyncIterator[TaskQueue]:
    """
    A queue with a worker at a server with one process, which the console command runs.
    """
    with TemporaryDirectory() as name:
        key, port = Path(name, "key"), _freePort()
        writeKey(key)
        listen = f"tcp:{port}:interface=127.0.0.1"
        command = [sys.executable, "-m", "asynqueue._command", "serve", "--key", str(key)]
        server = subprocess.Popen([*command, "--listen", listen], stderr=subprocess.DEVNULL)
        try:
            async with TaskQueue(RemoteWorker(f"tcp:127.0.0.1:{port}", key)) as queue:
                await gatherResults([queue.call(echo, number) for number in range(WARM_UP)])
                yield queue
        finally:
            server.terminate()
            server.wait()


def _freePort() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def ours(calls: int, underway: int) -> float:
    """
    @param underway: how many calls are underway at any time.
    @return: calls a second.
    """

    async def work() -> float:
        async with _served() as queue:
            return await _callsPerSecond(lambda number: queue.call(echo, number), calls, underway)

    return runInReactor(work)


def oursLatency(calls: int) -> float:
    """
    @return: the median of the microseconds that a call takes, one after the other.
    """

    async def work() -> float:
        async with _served() as queue:
            return await _latency(lambda number: queue.call(echo, number), calls)

    return runInReactor(work)


def oursItems(items: int) -> float:
    """
    @return: items a second from a generator at the server to a consumer.
    """

    async def work() -> float:
        consumer = CountingConsumer(items)
        async with _served() as queue:
            started = perf_counter()
            await queue.call(countUp, items, consumer=consumer)
            seconds = perf_counter() - started
        consumer.counter.check()
        return items / seconds

    return runInReactor(work)


def oursArray(mebibytes: int, times: int) -> float:
    """
    @return: MiB a second, from the median of the times until the answer is here.
    """
    import numpy as np

    array = np.arange(mebibytes << 17, dtype=np.float64)

    async def work() -> float:
        seconds = []
        async with _served() as queue:
            for _ in range(1 + times):
                started = perf_counter()
                if await queue.call(endsOf, array) != array.size - 1:
                    raise ValueError("the server saw another array")
                seconds.append(perf_counter() - started)
        return mebibytes / median(seconds[1:])

    return runInReactor(work)


def oursArrayBack(mebibytes: int, times: int) -> float:
    """
    @return: MiB a second, from the median of the times from a call until the array that it returns
        is here.
    """

    async def work() -> float:
        seconds = []
        async with _served() as queue:
            for _ in range(1 + times):
                started = perf_counter()
                array = await queue.call(numbersOf, mebibytes)
                seconds.append(perf_counter() - started)
                if endsOf(array) != (mebibytes << 17) - 1:
                    raise ValueError("another array came back")
                # It is not to be thrown away while the next one is on its way.
                del array
        return mebibytes / median(seconds[1:])

    return runInReactor(work)


def kept(outcomes: int) -> float:
    """
    @return: the bytes that a session keeps for each outcome that is not acknowledged, where each
        travels by itself.
    """
    session = Session(1 << 30)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(outcomes):
        session.put(encode([(RETURNED, number, 1e-5, number)]))
        session.take(PIECE)
    after, _ = tracemalloc.get_traced_memory()
    return (after - before) / outcomes


# The peers ----------------------------------------------------------------------------------------


class _Strings(Int32StringReceiver):
    """
    The near side of the bare echo.
    """

    def __init__(self) -> None:
        self._waiting: deque[Deferred[bytes]] = deque()

    def ask(self, string: bytes) -> Deferred[bytes]:
        """
        @return: a Deferred that fires with the answer.
        """
        answer: Deferred[bytes] = Deferred()
        self._waiting.append(answer)
        self.sendString(string)  # type: ignore[no-untyped-call]
        return answer

    def stringReceived(self, string: bytes) -> None:
        """
        Fire the oldest Deferred.
        """
        self._waiting.popleft().callback(string)


@asynccontextmanager
async def _connected(name: str) -> AsyncIterator[Call]:
    """
    Calls at a Twisted peer's server.
    """
    from twisted.internet import reactor

    with running(name) as port:
        protocol: Any = AMP() if name == "amp" else _Strings()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", int(port)), protocol)
        if name == "amp":
            yield lambda number: protocol.callRemote(Echo, value=number).addCallback(
                lambda answer: answer["value"]
            )
        else:
            yield lambda number: protocol.ask(b"%d" % number).addCallback(int)
        protocol.transport.loseConnection()


def peer(name: str, calls: int, underway: int) -> float:
    """
    @return: calls a second for a peer with Twisted.
    """

    async def work() -> float:
        async with _connected(name) as call:
            return await _callsPerSecond(call, calls, underway)

    return runInReactor(work)


def peerLatency(name: str, calls: int) -> float:
    """
    @return: the median of the microseconds that a call takes for a peer with Twisted.
    """

    async def work() -> float:
        async with _connected(name) as call:
            return await _latency(call, calls)

    return runInReactor(work)


def sink(mebibytes: int, times: int) -> float:
    """
    @return: MiB a second for a block of so many bytes to a bare Twisted protocol that puts it
        together, through a blocking socket.
    """
    import socket

    data, seconds = bytes(mebibytes << 20), []
    with running("sink") as port, socket.create_connection(("127.0.0.1", int(port))) as near:
        for _ in range(1 + times):
            started = perf_counter()
            near.sendall(len(data).to_bytes(8, "little"))
            near.sendall(data)
            if int.from_bytes(near.recv(8), "little") != 8 + len(data):
                raise ValueError("the server got another block")
            seconds.append(perf_counter() - started)
    return mebibytes / median(seconds[1:])


def pyro(calls: int, underway: int) -> float:
    """
    @param underway: how many threads call, each with a connection of its own.
    @return: calls a second for Pyro5.
    """
    from concurrent.futures import ThreadPoolExecutor

    import Pyro5.api

    def callSome(numbers: range) -> list[int]:
        with Pyro5.api.Proxy(uri) as proxy:
            return [proxy.echo(number) for number in numbers]

    with running("pyro") as uri, ThreadPoolExecutor(underway) as pool:
        list(pool.map(callSome, [range(WARM_UP // underway)] * underway))
        counter = Counter(calls, lambda: None)
        started = perf_counter()
        for results in pool.map(callSome, [range(n, calls, underway) for n in range(underway)]):
            for result in results:
                counter.add(result)
        seconds = perf_counter() - started
    counter.check()
    return calls / seconds


def pyroLatency(calls: int) -> float:
    """
    @return: the median of the microseconds that a call takes for Pyro5.
    """
    import Pyro5.api

    times = []
    with running("pyro") as uri, Pyro5.api.Proxy(uri) as proxy:
        for number in range(WARM_UP + calls):
            started = perf_counter()
            if proxy.echo(number) != number:
                raise ValueError("another number came back")
            times.append(perf_counter() - started)
    return median(times[WARM_UP:]) * 1e6


def pyroItems(items: int) -> float:
    """
    @return: items a second from a generator at Pyro5's server.
    """
    import Pyro5.api

    counter = Counter(items, lambda: None)
    with running("pyro") as uri, Pyro5.api.Proxy(uri) as proxy:
        started = perf_counter()
        for item in proxy.countUp(items):
            counter.add(item)
        seconds = perf_counter() - started
    counter.check()
    return items / seconds


# What all of them do ------------------------------------------------------------------------------


async def _callsPerSecond(call: Call, calls: int, underway: int) -> float:
    for number in range(WARM_UP):
        await call(number)
    counter = Counter(calls, lambda: None)
    numbers = iter(range(calls))
    started = perf_counter()
    await gatherResults(
        [Deferred.fromCoroutine(_callInTurn(call, numbers, counter)) for _ in range(underway)]
    )
    seconds = perf_counter() - started
    counter.check()
    return calls / seconds


async def _callInTurn(call: Call, numbers: Iterator[int], counter: Counter) -> None:
    for number in numbers:
        counter.add(await call(number))


async def _latency(call: Call, calls: int) -> float:
    times = []
    for number in range(WARM_UP + calls):
        started = perf_counter()
        if await call(number) != number:
            raise ValueError("another number came back")
        times.append(perf_counter() - started)
    return median(times[WARM_UP:]) * 1e6


def _contenders(function: Callable[..., float], **arguments: Any) -> list[Contender]:
    """
    The Twisted peers.
    """
    quick = {"calls": 1_000}
    return [
        Contender(label, function, arguments={"name": name, **arguments}, quick=quick)
        for label, name in (("AMP", "amp"), ("a bare Int32 echo", "int32"))
    ]


def _callRows(label: str, underway: int, calls: int) -> Iterator[Row]:
    arguments, quick = {"calls": calls, "underway": underway}, {"calls": 1_000}
    mine = Contender("ours", ours, arguments=arguments, quick=quick)
    bound = Target(80_000, isLeast=True, isRatio=False) if underway > 1 else None
    amp, int32 = _contenders(peer, **arguments)
    pyro5 = Contender("Pyro5", pyro, arguments=arguments, quick=quick)
    yield Row(label, "calls/s", mine, None, bound)
    yield Row(label, "calls/s", mine, amp, Target(4, isLeast=True) if underway > 1 else None)
    yield Row(label, "calls/s", mine, pyro5)
    yield Row(label, "calls/s", mine, int32)


def _latencyRows() -> Iterator[Row]:
    label, arguments, quick = "one call over loopback", {"calls": 2_000}, {"calls": 200}
    mine = Contender("ours", oursLatency, arguments=arguments, quick=quick)
    amp, int32 = _contenders(peerLatency, **arguments)
    yield Row(label, "µs", mine, None, Target(90, isLeast=False, isRatio=False))
    for other in (amp, Contender("Pyro5", pyroLatency, arguments=arguments, quick=quick), int32):
        yield Row(label, "µs", mine, other)


_SIZE = {"arguments": {"mebibytes": 100, "times": 5}, "quick": {"times": 1}}
_ITEMS = {"arguments": {"items": 500_000}, "quick": {"items": 20_000}}

MEASURE = Measure(
    "wire",
    (
        *_callRows("calls over loopback, 32 underway", 32, 20_000),
        *_callRows("calls over loopback, one at a time", 1, 4_000),
        *_latencyRows(),
        Row(
            "items over loopback",
            "items/s",
            Contender("ours", oursItems, **_ITEMS),
            Contender("Pyro5", pyroItems, arguments={"items": 20_000}, quick={"items": 2_000}),
            Target(200_000, isLeast=True, isRatio=False),
        ),
        Row(
            "a NumPy array of 100 MiB over loopback",
            "MiB/s",
            Contender("ours", oursArray, **_SIZE),
            Contender("a bare protocol", sink, **_SIZE),
            Target(954, isLeast=True, isRatio=False),
        ),
        Row(
            "a NumPy array of 100 MiB that comes back over loopback",
            "MiB/s",
            Contender("ours", oursArrayBack, **_SIZE),
            None,
            Target(954, isLeast=True, isRatio=False),
        ),
        Row(
            "10,000 outcomes that a server keeps",
            "bytes",
            Contender("ours", kept, arguments={"outcomes": 10_000}),
        ),
    ),
)
