"""
The types of calls of the asyncio face. It is mypy that tests them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, assert_type

from asynqueue.aio import Stream, SubmittedTask, TaskQueue
from asynqueue.testing import InlineWorker


def measure(text: str) -> int:
    return len(text)


async def measureLater(text: str) -> int:
    return len(text)


def measureInAFuture(text: str) -> asyncio.Future[int]:
    return asyncio.ensure_future(measureLater(text))


def letters(text: str) -> Iterator[str]:
    yield from text


async def main() -> None:
    async with TaskQueue(InlineWorker()) as queue:
        assert_type(queue.call(measure, "text", niceness=3), asyncio.Future[int])
        assert_type(queue.submit(measure, "text"), SubmittedTask[int])
        assert_type(await queue.submit(measure, "text"), int)
        assert_type(queue.call(letters, "text"), asyncio.Future[Any])
        options = queue.options(niceness=3)
        assert_type(options.call(measure, text="text"), asyncio.Future[int])
        assert_type(options.submit(letters, text="text"), SubmittedTask[Any])
        assert_type(queue.map(measure, ["text"]), Stream[int])
        going = options.map(measure, ["text", 3], ordered=False, returnExceptions=True)
        assert_type(going, Stream[int | BaseException])
        assert [type(each) async for each in going] == [int, TypeError]


async def _onlyForTypes(queue: TaskQueue) -> None:
    assert_type(queue.call(measureLater, "text"), asyncio.Future[Any])
    assert_type(queue.call(measureInAFuture, "text"), asyncio.Future[Any])
    queue.options().call(measure, 3)  # type: ignore[call-overload]


def test_callsHaveTheTypesOfTheirFunctions() -> None:
    asyncio.run(main())
