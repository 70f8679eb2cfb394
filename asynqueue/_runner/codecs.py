"""
How calls, results and exceptions become messages, and how messages become them again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

from asynqueue._runner.chunks import Describe, describing
from asynqueue._runner.exceptions import (
    describe,
    explained,
    packByValue,
    rebuild,
    withoutCatcher,
)
from asynqueue._runner.messages import RAISED, RETURNED, Message
from asynqueue._runner.packing import CLOUDPICKLE, STANDARD, Packed, Packer, sizeOf, unpack
from asynqueue.errors import PayloadTooLarge, ResultNotPicklable, typeName

Body = tuple[Any, Any, Any, Any]
"""A function, its arguments, its keywords, and the pairs of its context variables or C{None}."""

_NO_KEYWORDS: Final[dict[str, object]] = {}


class Reader(Protocol):
    """
    Reads the calls that a near side's writer wrote.
    """

    def keep(self, call: Message) -> None:
        """Note the function that a call defines, even if that call is not run."""

    def read(self, call: Message) -> Body:
        """Rebuild a call. Raises whatever rebuilding it raises."""


class PickleReader:
    """
    Rebuilds functions and arguments from their pickles, and remembers the functions that were
    numbered.
    """

    def __init__(self, describe: Describe = describe) -> None:
        """
        @param describe: describes what calls within a call have raised.
        """
        self._describe = describe
        # Each function that was defined: packed, and rebuilt once it was called.
        self._definitions: dict[int, Packed] = {}
        self._functions: dict[int, object] = {}

    def keep(self, call: Message) -> None:
        """
        Note a definition, because later calls may name its number.
        """
        function = call[2]
        if type(function) is tuple and type(function[0]) is int:
            self._definitions.setdefault(*function)

    def read(self, call: Message) -> Body:
        """
        Rebuild a call.
        """
        _, _, number, arguments, _, pairs = call
        if pairs is not None:
            pairs = unpack(pairs)
        function = self._functions.get(number) if type(number) is int else None
        if function is None:
            function = self._rebuild(call)
        # A packed tuple ends with its list of buffers, which is no plain value.
        if type(arguments) is tuple and (not arguments or type(arguments[-1]) is not list):
            return function, arguments, _NO_KEYWORDS, pairs
        args, kwargs = unpack(arguments)
        return function, args, kwargs, pairs

    def _rebuild(self, call: Message) -> object:
        self.keep(call)
        function = call[2]
        number = function[0] if type(function) is tuple else function
        if type(number) is not int:
            return describing(unpack(function), self._describe)
        if number not in self._functions:
            found = unpack(self._definitions[number])
            self._functions[number] = describing(found, self._describe)
        return self._functions[number]


class DirectReader:
    """
    Finds functions and arguments as they are, where the two sides share their memory.
    """

    def keep(self, call: Message) -> None:
        """
        Nothing is defined.
        """

    def read(self, call: Message) -> Body:
        """
        Take a call apart.
        """
        _, _, function, (args, kwargs), _, pairs = call
        return function, args, kwargs, pairs


class Codec(NamedTuple):
    """
    How the two sides of a channel make messages of values, and values of messages. A plain value
    (see L{PLAIN<asynqueue._runner.packing.PLAIN>}) travels as it is, with any of them.

    @ivar pack: makes a value ready to travel, or raises.
    @ivar unpack: makes a value of what arrived, or raises.
    @ivar sizeOf: about how many bytes a packed value takes up.
    @ivar isShared: whether a packed value is the value's own memory, so that it has to leave before
        the code that made it goes on.
    @ivar describe: makes an exception ready to travel. It does not raise.
    @ivar rebuild: makes an exception of what arrived.
    @ivar makeReader: makes the reader of one conversation's calls.
    """

    pack: Callable[[object], Packed]
    unpack: Callable[[Packed], Any]
    sizeOf: Callable[[Packed], int]
    isShared: Callable[[Packed], bool]
    describe: Callable[[BaseException], Any]
    rebuild: Callable[[Any], BaseException]
    makeReader: Callable[[], Reader]


def _asItIs(value: Any) -> Any:
    return value


def _withoutDeferred(value: object) -> object:
    """
    Refuse a Deferred, which is of use only to the reactor that it was made for.
    """
    defer = sys.modules.get("twisted.internet.defer")
    if isinstance(value, getattr(defer, "Deferred", ())):
        raise TypeError(
            "a Deferred stays where its reactor is: a function that returns one is for an "
            "AsyncWorker, or for a ProcessWorker with useReactor=True"
        )
    return value


def _pack(packer: Packer, value: object) -> Packed:
    return packer.pack(_withoutDeferred(value))


def _sizeInMemory(value: object) -> int:
    try:
        return sys.getsizeof(value)
    except Exception:
        # Some types compute it, and may fail.
        return object.__sizeof__(value)


PICKLED: Final = Codec(
    pack=partial(_pack, STANDARD),
    unpack=unpack,
    sizeOf=sizeOf,
    isShared=lambda packed: type(packed) is tuple,
    describe=describe,
    rebuild=rebuild,
    makeReader=PickleReader,
)
"""For two sides that share nothing."""

_describeByValue: Final = partial(describe, pack=packByValue)

PICKLED_BY_VALUE: Final = PICKLED._replace(
    pack=partial(_pack, CLOUDPICKLE),
    describe=_describeByValue,
    makeReader=partial(PickleReader, _describeByValue),
)
"""For two sides that share nothing, and whose functions and classes need not be importable."""

PicklerName = Literal["pickle", "cloudpickle"]
"""The values of a worker's C{pickler}."""

CODECS: Final[Mapping[str, Codec]] = {"pickle": PICKLED, "cloudpickle": PICKLED_BY_VALUE}
"""The codecs of the picklers, by their names."""

DIRECT: Final = Codec(
    pack=_withoutDeferred,
    unpack=_asItIs,
    sizeOf=_sizeInMemory,
    isShared=lambda packed: False,
    describe=withoutCatcher,
    rebuild=_asItIs,
    makeReader=DirectReader,
)
"""For two sides that share their memory: everything arrives as the very object that was sent."""


class Answers:
    """
    Posts answers. If an answer cannot travel, it posts one that says so.
    """

    def __init__(self, post: Callable[[Message], None], codec: Codec) -> None:
        self._post = post
        self._codec = codec

    def returned(self, id: int, seconds: float, result: object) -> None:
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
