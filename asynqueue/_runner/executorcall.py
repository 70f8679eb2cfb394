"""
Calls that run in somebody else's executor.

Such an executor takes a function with its arguments, and brings back the result. Whether it runs
the function in this process or in another one shows only when the function runs.
"""

from __future__ import annotations

import os
import sys
from contextvars import copy_context
from functools import partial
from pickle import dumps, loads
from typing import Any, Final, NamedTuple, Protocol

from asynqueue._runner.chunks import describing
from asynqueue._runner.codecs import DIRECT, PICKLED, Body, Codec
from asynqueue._runner.coroutines import CoroutineRunner
from asynqueue._runner.exceptions import describe, explained
from asynqueue._runner.makecall import ITERATOR, RAISED, makeCall
from asynqueue._runner.packing import PLAIN, Packed
from asynqueue._runner.pullstream import PullStream
from asynqueue.errors import CallNotRebuilt, ResultNotPicklable, typeName

_MARKER: Final = object()


def whereabouts() -> tuple[int, int]:
    """
    @return: what tells this interpreter from all others that run now: a subinterpreter has module
        objects of its own.
    """
    return os.getpid(), id(_MARKER)


class Near(Protocol):
    """
    The maker of a call that runs in the same interpreter. Both methods are called in the executor's
    thread.
    """

    def begun(self) -> None:
        """The call begins."""

    def report(self, done: float, total: float | None) -> None:
        """It has come so far."""


class Call:
    """
    A call on its way to where it runs. If it is pickled on that way, it becomes a L{PickledCall}.

    @ivar wasPickled: whether it was, so that it may have left.
    @ivar near: takes the call's beginning and progress.
    @ivar raw: whether an iterator is a result like any other.
    """

    __slots__ = ("_body", "_isSealed", "_origin", "near", "raw", "wasPickled")

    def __init__(self, body: Body, raw: bool, near: Near, isSealed: bool) -> None:
        """
        @param isSealed: whether the call travels in a pickle within the pickle. If it cannot be
            rebuilt, only this call fails: without the seal, a process of a C{ProcessPoolExecutor}
            would end, and the whole pool with it. A pool with a pickler of its own, such as
            C{cloudpickle}, cannot be given a sealed call.
        """
        self.raw = raw
        self.near: Near = near
        self.wasPickled = False
        self._body = body
        self._isSealed = isSealed
        self._origin = whereabouts()

    @property
    def isHere(self) -> bool:
        """
        Whether it is where it was made.
        """
        return self._origin == whereabouts()

    def open(self) -> Body:
        """
        Find what to call.
        """
        return self._body

    def __reduce__(self) -> tuple[object, ...]:
        self.wasPickled = True
        return PickledCall, (self._sealed() if self._isSealed else self._body, self.raw)

    def _sealed(self) -> bytes:
        from multiprocessing.reduction import ForkingPickler

        return bytes(ForkingPickler.dumps(self._body, 5))


class PickledCall:
    """
    A call that has arrived elsewhere.

    @ivar raw: whether an iterator is a result like any other.
    """

    __slots__ = ("_content", "raw")

    isHere: Final = False

    def __init__(self, content: Any, raw: bool) -> None:
        self._content = content
        self.raw = raw

    def open(self) -> Body:
        """
        Find what to call.

        @raise BaseException: whatever rebuilding it raises.
        """
        content = self._content
        body: Body = loads(content) if type(content) is bytes else content
        return body


class Outcome(NamedTuple):
    """
    The outcome of a call.

    @ivar isHere: whether the call ran in the interpreter that made it. If not, the rest is packed.
    @ivar result: the result, or a L{PullStream}, or C{None} if the call raised.
    @ivar error: the exception, as the codec describes it, or C{None}.
    """

    isHere: bool
    result: Any
    error: Any

    @property
    def codec(self) -> Codec:
        """
        The codec that unpacks the rest.
        """
        return DIRECT if self.isHere else CARRIED


def execute(call: Call | PickledCall) -> Outcome:
    """
    Make a call. An executor runs this function.

    @return: the outcome. Nothing is raised.
    """
    isHere = call.isHere
    codec = DIRECT if isHere else CARRIED
    try:
        function, *rest = call.open()
        body: Body = (describing(function, codec.describe), *rest)
    except BaseException as error:
        ours = explained(CallNotRebuilt, "rebuild the call", error)
        return Outcome(isHere, None, codec.describe(ours))
    near = call.near if isHere and isinstance(call, Call) else None
    if near is not None:
        near.begun()
    runner = CoroutineRunner()
    context = copy_context()
    reporter = None if near is None else near.report
    # Coroutines have ended when it returns: nothing comes later.
    kind, value = makeCall(context, reporter, body, runner, _neverLater)
    if kind == RAISED:
        outcome = Outcome(isHere, None, codec.describe(value))
    elif kind != ITERATOR or call.raw:
        outcome = _returned(isHere, codec, value)
    elif isHere:
        return Outcome(True, PullStream(value, context, runner), None)
    else:
        outcome = _cannotStream(codec, value)
    return _closed(runner, outcome, codec)


def _neverLater(outcome: object) -> None:
    raise AssertionError("a coroutine has outlasted its call")


def _returned(isHere: bool, codec: Codec, result: object) -> Outcome:
    try:
        return Outcome(isHere, codec.pack(result), None)
    except BaseException as error:
        what = f"pickle the result, of type {typeName(type(result))}"
        return Outcome(isHere, None, codec.describe(explained(ResultNotPicklable, what, error)))


def _cannotStream(codec: Codec, iterator: object) -> Outcome:
    """
    Refuse an iterator, because it cannot leave its interpreter, and nobody there could ask it for
    more.
    """
    try:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
        raise ResultNotPicklable(
            f"the call returned an iterator, of type {typeName(type(iterator))}, and an executor "
            "whose calls run in another interpreter cannot stream its items: return a list, or use "
            "a ProcessWorker, which can"
        )
    except BaseException as error:
        return Outcome(False, None, codec.describe(error))


def _closed(runner: CoroutineRunner, outcome: Outcome, codec: Codec) -> Outcome:
    """
    Close what a call's coroutine ran in.
    """
    try:
        runner.close()
    except BaseException as error:
        return Outcome(outcome.isHere, None, codec.describe(error))
    return outcome


def _carry(value: object) -> Packed:
    """
    Pack a value into something that any pickler can take along.
    """
    if type(value) in PLAIN:
        return value
    try:
        return dumps(value, 5)
    except BaseException:
        # Where an executor has the pickler of that name, it pickles more.
        cloudpickle = sys.modules.get("cloudpickle")
        if cloudpickle is None:
            raise
        return cloudpickle.dumps(value)


CARRIED: Final = PICKLED._replace(pack=_carry, describe=partial(describe, pack=_carry))
"""For two interpreters with an executor between them, which pickles in its own way."""
