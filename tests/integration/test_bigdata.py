"""
Big arguments, big results and big arrays.
"""

from __future__ import annotations

import os
from typing import Any

import numpy
import psutil
from twisted.internet.defer import gatherResults

from asynqueue import Deferator, ProcessQueue
from asynqueue._runner.packing import STANDARD
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import ProcessTestCase

MB = 1 << 20


class BigDataTests(ProcessTestCase):
    def start(self, N: int = 1, **options: Any) -> ProcessQueue:
        return self.makeQueue(N, **options)

    async def test_callsGoOnBesideABigOne(self) -> None:
        queue = self.start(2)
        data = os.urandom(MB) * 64
        big = queue.call(far.echo, data)
        small = [queue.call(far.echo, number) for number in range(2000)]
        self.assertEqual(await gatherResults(small), list(range(2000)))
        self.assertEqual(await big, data)

    async def test_textAndBytesOfEverySizeComeBack(self) -> None:
        queue = self.start()
        # About the sizes at which something is packed or framed in another way.
        for size in (1 << 16, 1 << 17, 1 << 18):
            for length in range(size - 70, size + 71, 10):
                self.assertEqual(await queue.call(far.echo, "x" * length), "x" * length)
                self.assertEqual(await queue.call(far.echo, b"x" * length), b"x" * length)

    async def test_aBigArrayArrivesWritableAndEqual(self) -> None:
        queue = self.start()
        array = numpy.arange(100 * MB // 8, dtype=numpy.int64)
        self.assertEqual(
            await queue.call(tasks.describeArray, array),
            (array.shape, "int64", float(array.sum()), True),
        )
        del array

    async def test_aBigArrayComesBackWritableAndEqual(self) -> None:
        queue = self.start()
        array = numpy.arange(4 * MB, dtype=numpy.float64)
        back = await queue.call(tasks.doubleInPlace, array)
        self.assertTrue(back.flags.writeable)
        back -= array
        self.assertTrue(numpy.array_equal(back, array))
        self.assertEqual(array[7], 7.0, "the child's array is its own")

    async def test_arraysOfEveryKindComeBack(self) -> None:
        queue = self.start()
        whole = numpy.arange(MB, dtype=numpy.float32).reshape(1024, 1024)
        for array in (
            whole,
            numpy.asfortranarray(whole),
            whole[::2, 1:],
            whole[:0],
            whole.astype(object)[:8, :8],
            numpy.float64(5),
        ):
            back = await queue.call(far.echo, array)
            self.assertEqual(back.dtype, array.dtype)
            self.assertTrue(numpy.array_equal(back, array))
        several = await queue.call(far.echo, {"one": whole, "other": (whole[0], [whole])})
        self.assertTrue(numpy.array_equal(several["other"][1][0], whole))

    async def test_arraysStreamToo(self) -> None:
        queue = self.start()
        deferator = await queue.call(tasks.arrays, 40, MB)
        assert isinstance(deferator, Deferator)
        number = 0
        async for array in deferator:
            self.assertEqual((array.size, array[0], array[-1]), (MB, number, number))
            number += 1
        self.assertEqual(number, 40)

    async def test_thePicklerDoesNotCopyAnArray(self) -> None:
        array = numpy.zeros(MB)
        data, buffers = STANDARD.pack((array, 1))
        self.assertLess(len(data), 1000)
        [buffer] = buffers
        array[3] = 5.0
        self.assertEqual(numpy.frombuffer(buffer)[3], 5.0, "it is the array's own memory")

    async def test_sendingAnArrayTakesNoMemory(self) -> None:
        queue = self.start()
        await queue.call(far.echo)
        array = numpy.ones(100 * MB, dtype=numpy.uint8)
        before = psutil.Process().memory_info().rss
        described = queue.call(tasks.describeArray, array)
        most = 0

        def look() -> bool:
            nonlocal most
            most = max(most, psutil.Process().memory_info().rss - before)
            return described.called

        await self.until(look)
        self.assertEqual((await described)[2], 100 * MB)
        self.assertLess(most, 50 * MB)

    async def test_memoryIsGivenBackAfterABigResult(self) -> None:
        queue = self.start()
        data = bytes(64 * MB)
        await queue.call(far.echo, data)
        before = psutil.Process().memory_info().rss
        for _ in range(5):
            await queue.call(far.echo, data)
        self.assertLess(psutil.Process().memory_info().rss - before, 100 * MB)
