"""
Faults that come of large values. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from twisted.internet.defer import gatherResults

from asynqueue import ProcessQueue
from asynqueue._reactor import defaultReactor
from asynqueue._runner.framing import LARGEST
from asynqueue._workers.launch import startContext
from asynqueue.errors import PayloadTooLarge
from asynqueue.testing import far
from tests.faults import bigvalues
from tests.faults.bigvalues import MARK
from tests.support.processes import PollingReactor, ProcessTestCase

MB = 1 << 20
SIZE = 100 * MB

LONGEST_TURN = 0.050
"""Seconds that a turn of the reactor may take, besides one copy of the value."""


def copySeconds() -> float:
    """
    @return: how much processor time it takes the thread at present to copy a value, the least of
        some trials.
    """
    value = bytes(SIZE)
    seconds = []
    for _ in range(3):
        began = time.thread_time()
        bytearray(value)
        seconds.append(time.thread_time() - began)
    return min(seconds)


class Turns:
    """
    How much processor time each turn of the reactor takes its thread. Unlike its time by the clock,
    that does not grow with what else the machine has to do. What the tests before have left in
    memory is kept from the garbage collector, which would take its time over it.

    @ivar seconds: of each turn.
    """

    def __init__(self) -> None:
        self._reactor: Any = defaultReactor()
        self.seconds: list[float] = []

    def __enter__(self) -> Turns:
        gc.collect()
        gc.freeze()
        self._real = self._reactor.runUntilCurrent
        self._reactor.runUntilCurrent = self._begin
        self._began = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        # The turn that this happens in counts as far as it has come.
        self._end()
        self._reactor.runUntilCurrent = self._real

    def _begin(self) -> None:
        self._end()
        self._real()

    def _end(self) -> None:
        now = time.thread_time()
        self.seconds.append(now - self._began)
        self._began = now


def makeBytes() -> bytes:
    return os.urandom(MB) * (SIZE // MB)


def makeByteArray() -> bytearray:
    return bytearray(makeBytes())


def makeArray() -> Any:
    return numpy.frombuffer(makeBytes(), numpy.int64).copy()


def makeList() -> list[bytes]:
    return [os.urandom(MB) for _ in range(SIZE // MB)]


def makeLongList() -> dict[str, Any]:
    part = os.urandom(1 << 16)
    return {"parts": [part[k % 100 :] + part[: k % 100] for k in range(SIZE >> 16)]}


class BigValueCase(ProcessTestCase):
    """
    Tests that have large values go out and come back.
    """

    method = "forkserver"

    def start(self, N: int = 1, **options: Any) -> ProcessQueue:
        return self.makeQueue(N, context=startContext(self.method), **options)

    async def assertGoesBothWays(self, queue: ProcessQueue, make: Callable[[], Any]) -> None:
        """
        A value goes out and comes back, twice at once, and no turn of the reactor takes long.
        """
        await queue.update(os.getpid, ephemeral=True)
        value = make()
        longest = [await self.goBothWays(queue, value)]
        # What else the machine does adds to the time that a turn takes, and takes nothing from it:
        # so the least is what the turn itself needs.
        while min(longest) >= LONGEST_TURN and len(longest) < 3:
            longest.append(await self.goBothWays(queue, value))
        if min(longest) >= LONGEST_TURN:
            limit = LONGEST_TURN + copySeconds()
            self.assertLess(min(longest), limit, f"the longest turns took {longest}")

    async def goBothWays(self, queue: ProcessQueue, value: Any) -> float:
        """
        @return: the time of the longest turn.
        """
        with Turns() as turns:
            results = await gatherResults([queue.call(far.echo, value) for _ in range(2)])
        for result in results:
            self.assertIs(type(result), type(value))
            isArray = type(value) is numpy.ndarray
            self.assertTrue(numpy.array_equal(result, value) if isArray else result == value)
        self.assertGreater(len(turns.seconds), SIZE // (8 * MB))
        return max(turns.seconds)

    async def assertRefusedOnItsWayBack(self) -> None:
        queue = self.start()
        pid = await queue.call(os.getpid)
        refused = queue.call(bigvalues.makeVast, LARGEST + 1)
        after = queue.call(os.getpid)
        error = await self.errorOf(refused, PayloadTooLarge)
        self.assertIn(f"over the limit of {LARGEST} bytes", str(error))
        self.assertEqual(await after, pid, "the worker goes on")


class ForkServerTests(BigValueCase):
    async def test_15_aHundredMegabytesOutAndBackAtOnce(self) -> None:
        await self.assertGoesBothWays(self.start(), makeBytes)

    async def test_15_toTwoProcessesAndBackAtOnce(self) -> None:
        await self.assertGoesBothWays(self.start(2), makeBytes)

    async def test_15_aBytearray(self) -> None:
        await self.assertGoesBothWays(self.start(), makeByteArray)

    async def test_15_anArray(self) -> None:
        await self.assertGoesBothWays(self.start(), makeArray)

    async def test_15_manyBytesInAList(self) -> None:
        await self.assertGoesBothWays(self.start(), makeList)

    async def test_15_veryManyBytesWithinOtherThings(self) -> None:
        await self.assertGoesBothWays(self.start(), makeLongList)

    async def test_15_pollingAloneMovesItToo(self) -> None:
        # Its intervals must not grow while there is something to move.
        await self.assertGoesBothWays(self.start(reactor=PollingReactor()), makeBytes)

    async def test_16_whatIsTooLargeIsRefusedOnItsWayOut(self) -> None:
        queue = self.start()
        pid = await queue.call(os.getpid)
        before = queue.call(far.echo, 1)
        refused = queue.call(len, bigvalues.makeVast(LARGEST + 1))
        after = queue.call(os.getpid)
        error = await self.errorOf(refused, PayloadTooLarge)
        self.assertIn(f"over the limit of {LARGEST} bytes", str(error))
        self.assertEqual([await before, await after], [1, pid])

    async def test_16_whatIsTooLargeIsRefusedOnItsWayBack(self) -> None:
        await self.assertRefusedOnItsWayBack()

    async def test_16_anItemThatIsTooLargeEndsItsStream(self) -> None:
        queue = self.start()
        pid = await queue.call(os.getpid)
        deferator = await queue.call(bigvalues.yieldVast, 3, LARGEST + 1)
        items: list[Any] = []
        with pytest.raises(PayloadTooLarge):
            async for item in deferator:
                items.append(item)
        self.assertEqual(items, [0, 1, 2])
        self.assertEqual(await queue.call(os.getpid), pid, "the worker goes on")

    async def test_16_anErrorThatIsTooLargeIsRefused(self) -> None:
        queue = self.start()
        pid = await queue.call(os.getpid)
        error = await self.errorOf(queue.call(bigvalues.raiseVast, LARGEST + 1), PayloadTooLarge)
        self.assertIn("VastError", str(error))
        self.assertEqual(await queue.call(os.getpid), pid, "the worker goes on")


class SpawnTests(BigValueCase):
    """
    Once they have been started, all processes are alike.
    """

    method = "spawn"

    @pytest.mark.slow
    async def test_15_aHundredMegabytesOutAndBackAtOnce(self) -> None:
        await self.assertGoesBothWays(self.start(), makeBytes)

    async def test_16_whatIsTooLargeIsRefusedOnItsWayBack(self) -> None:
        await self.assertRefusedOnItsWayBack()


class VeryLargeTests(ProcessTestCase):
    """
    Values about whose sizes a number of 31, or of 32 bits, cannot tell.
    """

    timeout = 500.0

    async def assertArrives(self, make: Callable[..., Any], size: int, name: str) -> None:
        """
        A value goes out whole, and one comes back whole.
        """
        places = [k for k in (0, 2**31 - 1, 2**31, 2**32 - 1, 2**32, size - 1) if k < size]
        others = [1, size // 2, size - 2]
        mark = "m" if make is bigvalues.makeText else MARK
        nothing = "\0" if make is bigvalues.makeText else 0
        expected = name, size, [mark] * len(places) + [nothing] * len(others)
        queue = self.makeQueue()
        value = make(size, places)
        self.assertEqual(await queue.call(bigvalues.look, value, [*places, *others]), expected)
        del value
        back = await queue.call(make, size, places)
        self.assertEqual(bigvalues.look(back, [*places, *others]), expected)

    @pytest.mark.slow
    async def test_16_twoGibibytesOfBytes(self) -> None:
        await self.assertArrives(bigvalues.makeBytes, 2**31 + 4097, "bytes")

    @pytest.mark.slow
    async def test_16_aBytearray(self) -> None:
        await self.assertArrives(bigvalues.makeByteArray, 2**31 + 4097, "bytearray")

    @pytest.mark.slow
    async def test_16_fourGibibytesInAnArray(self) -> None:
        await self.assertArrives(bigvalues.makeArray, 2**32 + 4097, "ndarray")

    @pytest.mark.slow
    async def test_16_twoGibibytesOfText(self) -> None:
        await self.assertArrives(bigvalues.makeText, 2**31 + 4097, "str")
