"""
The answers to calls: what they returned, or raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asynqueue.errors import PayloadTooLarge, ResultNotPicklable
from asynqueue.universe.codecs import Codec
from asynqueue.universe.exceptions import explained, typeName
from asynqueue.universe.messages import RAISED, RETURNED, Message


class Answers:
    """
    Posts answers. One that cannot travel becomes the answer that says so.
    """

    def __init__(self, post: Callable[[Message], None], codec: Codec) -> None:
        self._post = post
        self._codec = codec

    def returned(self, id: int, seconds: float, result: Any) -> None:
        """
        A call has returned something.

        @param seconds: how long it took.
        """
        what = "bring back the result, of type "
        try:
            packed = self._codec.pack(result)
        except BaseException as error:
            what += typeName(type(result))
            self.raised(id, seconds, explained(ResultNotPicklable, what, error))
            return
        try:
            self._post((RETURNED, id, seconds, packed))
        except PayloadTooLarge as error:
            what += typeName(type(result))
            self.raised(id, seconds, explained(PayloadTooLarge, what, error))

    def raised(self, id: int, seconds: float, error: BaseException) -> None:
        """
        A call, or the stream that it has yielded, has raised an exception.
        """
        try:
            self._post((RAISED, id, seconds, self._codec.describe(error)))
        except PayloadTooLarge as tooLarge:
            what = f"bring back an exception of type {typeName(type(error))}"
            refusal = explained(PayloadTooLarge, what, tooLarge)
            self._post((RAISED, id, seconds, self._codec.describe(refusal)))
