"""
What the tests of streams share: generators of all kinds, and less credit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from asynqueue._runner import streams
from asynqueue._runner.messages import CREDIT_BYTES
from tests.runner.stage import StageTestCase


def credit(items: int, size: int = CREDIT_BYTES) -> Any:
    """
    With another credit to begin with.
    """
    return mock.patch.multiple(streams, CREDIT_ITEMS=items, CREDIT_BYTES=size)


class StreamTestCase(StageTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.closed: list[object] = []

    def generator(self, *items: Any, then: Callable[[], object] | None = None) -> Any:
        """
        @return: a function whose generator yields these items, and notes when it is closed.
        """

        def generate() -> Iterator[Any]:
            try:
                yield from items
                if then is not None:
                    yield then()
            finally:
                self.closed.append(True)

        return generate

    def endless(self) -> Iterator[int]:
        # It may be closed after the test, when the test case holds nothing any more.
        closed = self.closed
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.append(True)

    def raising(self, error: BaseException) -> Callable[[], object]:
        def fail() -> object:
            raise error

        return fail
