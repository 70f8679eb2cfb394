"""
What is written into a store as text: arguments, errors and keys.
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from twisted.python.reflect import safe_repr

from asynqueue._runner.exceptions import textOf, typeName

LONGEST_TEXT: Final = 10_000
"""How many characters of an error's text are kept."""


class JobCodec(Protocol):
    """
    Makes texts or bytes of jobs' arguments, and arguments of these. The modules C{json} and
    C{pickle} are such.
    """

    def dumps(self, value: Any, /) -> str | bytes:
        """Encode an argument, or raise."""

    def loads(self, data: Any, /) -> Any:
        """Decode an argument, or raise."""


class ExactJSON:
    """
    JSON for those values only that come back as they were. A tuple, which would come back as a
    list, is refused rather than changed, and so is a dictionary whose keys are numbers.
    """

    def dumps(self, value: Any, /) -> str:
        """
        @raise ValueError: if the value would come back as another.
        @raise TypeError: if JSON knows nothing of the kind.
        """
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        if type(value) is not str and self.loads(text) != value:
            raise ValueError(f"it would come back from JSON as {safe_repr(self.loads(text))}")
        return text

    def loads(self, data: Any, /) -> Any:
        """
        @raise ValueError: if it is no JSON.
        """
        return json.loads(data)


def told(error: BaseException | None) -> str:
    """
    @return: an exception's type and text, for people.
    """
    return "" if error is None else f"{typeName(type(error))}: {textOf(error)}"


def storable(text: str) -> str:
    """
    @return: a text for people, as any store can keep it: not too long, and of real characters.
    """
    return text[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()


def checkKey(unique: str) -> None:
    """
    @raise ValueError: if this is no key that a store can keep.
    """
    if not isinstance(unique, str):
        raise ValueError(f"a unique key is a string, not {unique!r}")
    checkText(unique)


def checkText(text: str) -> None:
    """
    @raise ValueError: if this is no text that a store can keep.
    """
    if not text.isascii():
        # A UnicodeEncodeError is a ValueError. One such text would spoil a whole group of changes.
        text.encode()
