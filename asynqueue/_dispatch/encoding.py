"""
What a store keeps as text: arguments, errors and keys.
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from twisted.python.reflect import safe_repr

from asynqueue.errors import textOf, typeName

LONGEST_TEXT: Final = 10_000
"""How many characters of an error's text are kept."""


class JobCodec(Protocol):
    """
    Encodes jobs' arguments as text or bytes, and decodes them. The modules C{json} and C{pickle}
    are such codecs.
    """

    def dumps(self, value: Any, /) -> str | bytes:
        """Encode an argument, or raise."""

    def loads(self, data: Any, /) -> Any:
        """Decode an argument, or raise."""


class ExactJSON:
    """
    JSON for those values only that come back as they were. A tuple, which would come back as a
    list, is refused rather than changed. So are a dictionary whose keys are not strings, and a
    value of a derived type, such as an enumeration's.
    """

    def __init__(self) -> None:
        # json.dumps makes a new encoder for each call.
        self._encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

    def dumps(self, value: Any, /) -> str:
        """
        @raise ValueError: if the value would come back as another.
        @raise TypeError: if JSON cannot express the value's type.
        """
        text = self._encode(value)
        if type(value) not in _ATOMS and not _isExact(value):
            raise ValueError(f"it would come back from JSON as {safe_repr(json.loads(text))}")
        if "\\ud" in text and json.loads(text) != value:
            # Two halves of a character become one.
            raise ValueError("its text would come back from JSON as another")
        return text

    def loads(self, data: Any, /) -> Any:
        """
        @raise ValueError: if the data is not JSON.
        """
        return json.loads(data)


_ATOMS: Final = frozenset((str, int, float, bool, type(None)))


def _isExact(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return all(type(item) in _ATOMS or _isExact(item) for item in value)
    if kind is dict:
        return all(type(key) is str for key in value) and _isExact([*value.values()])
    return kind in _ATOMS


def describeForStore(error: BaseException | None) -> str:
    """
    @return: an exception's type and text, as every store can keep them.
    """
    return "" if error is None else storable(f"{typeName(type(error))}: {textOf(error)}")


def storable(text: str) -> str:
    """
    @return: a text for people, as every store can keep it: not too long, and without halves of
        characters.
    """
    return text[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()


def checkText(text: str) -> None:
    """
    @raise ValueError: if a store cannot keep the text. One such text would spoil a whole group of
        changes.
    """
    if not text.isascii():
        # A UnicodeEncodeError is a ValueError.
        text.encode()
