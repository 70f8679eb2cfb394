"""
Descriptions of calls and errors for people, and results shown as they come.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import count
from threading import current_thread
from typing import Any, Self, TypeVar, overload

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from asynqueue._core.description import describeCall, describeError, describeValue


class Info:
    """
    Describes a call, or with C{remember} several::

        info = Info().setCall(fetch, [url], {"timeout": 30})
        try:
            fetch(url, timeout=30)
        except OSError:
            log.error(info.aboutException())

    Its descriptions are strings. It never fails because of anything that a callable or an argument
    does.
    """

    def __init__(self, remember: bool = False, whichThread: bool = False) -> None:
        """
        @param remember: whether to keep a call after L{setCall} was given another one, until
            L{forgetID}.
        @param whichThread: whether to name the thread in which L{setCall} was called.
        """
        self._remember = remember
        self._whichThread = whichThread
        self._IDs = count(1)
        self._ID: int | None = None
        self._known: dict[int, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # From Python 3.14 on, a count cannot be pickled.
        return {**self.__dict__, "_IDs": next(self._IDs)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._IDs = count(state["_IDs"])

    @property
    def ID(self) -> int | None:
        """
        The number of the present call; C{None} if there is none. No other call of this object has
        the same.
        """
        return self._ID

    def setCall(self, *metaArgs: Any, **kw: Any) -> Self:
        """
        Set the call to describe.

        @param metaArgs: the callable, or its name; then, if there are any, its positional
            arguments, as a list or tuple, or a single one that is neither; then a dict of its
            keywords. Without these, the present call's callable stays.
        @keyword args: the positional arguments.
        @param kw: besides C{args} and C{instance}: C{kw}, a dict of the keywords.
        @keyword instance: what the callable is a method of.
        @return: this object.
        @raise ValueError: if there is no callable, neither given nor from before.
        @raise TypeError: for other keywords, or more arguments.
        """
        unknown = kw.keys() - {"args", "kw", "instance"}
        if unknown or len(metaArgs) > 3:
            raise TypeError("setCall takes (function, args, kw), args=, kw= and instance=")
        if metaArgs:
            call = {"f": metaArgs[0], "args": (), "kw": {}, "instance": None}
            call.update(zip(("f", "args", "kw"), metaArgs, strict=False))
            if self._whichThread:
                call["thread"] = threading.current_thread().name
        else:
            before = self.getInfo(self._ID, "callDict")
            if before is None or not kw:
                raise ValueError("setCall needs a callable, or args, kw or instance for the last")
            call = dict(before)
        call.update(kw)
        if not isinstance(call["args"], (list, tuple)):
            call["args"] = [call["args"]]
        if not self._remember:
            self._known.clear()
        self._ID = next(self._IDs)
        self._known[self._ID] = {"callDict": call}
        return self

    @contextmanager
    def context(self, *metaArgs: Any, **kw: Any) -> Iterator[CallInfo]:
        """
        Describe a call within a C{with} block, even if L{setCall} is given other calls meanwhile.
        The call is forgotten afterwards.

        @return: a context manager that gives a L{CallInfo}. See L{setCall} for the parameters.
        @raise ValueError: if this object was made without C{remember}.
        """
        if not self._remember:
            raise ValueError("a context needs an Info that remembers: Info(remember=True)")
        ID = self.setCall(*metaArgs, **kw).ID
        assert ID is not None
        try:
            yield CallInfo(self, ID)
        finally:
            self.forgetID(ID)

    # What is kept ---------------------------------------------------------------------------------

    def forgetID(self, ID: int | None) -> None:
        """
        Forget a call. With C{remember}, memory grows until this is called.
        """
        if ID is not None:
            self._known.pop(ID, None)

    def getInfo(self, ID: int | None, name: str, nowForget: bool = False) -> Any:
        """
        Get something that is kept with a call.

        @param ID: a call's number; C{None} for the present call.
        @param name: C{'callDict'} for a dict of its C{f}, C{args}, C{kw} and C{instance}; or a name
            that L{saveInfo} was given; or the name of a method that begins with C{about}, for the
            text that it gave.
        @param nowForget: whether to forget the call then.
        @return: the value, or C{None} if there is none.
        """
        ID = self._ID if ID is None else ID
        if ID is None:
            return None
        found = self._known.get(ID, {}).get(name)
        if nowForget:
            self.forgetID(ID)
        return found

    def saveInfo(self, name: str, x: Any, ID: int | None = None) -> Any:
        """
        Keep a value with a call, if the call is not forgotten.

        @param name: the name under which L{getInfo} finds it.
        @param x: the value.
        @param ID: the call's number. Default: the present call's.
        @return: C{x}.
        """
        ID = self._ID if ID is None else ID
        if ID in self._known:
            self._known[ID][name] = x
        return x

    # Descriptions ---------------------------------------------------------------------------------

    def aboutCall(self, ID: int | None = None, nowForget: bool = False) -> str:
        """
        Describe a call.

        @return: the call as you would write it, C{"fetch('http://…', timeout=30)"}. Long arguments
            are shortened. The text is empty if the call is not known.
        """
        ID = self._ID if ID is None else ID
        call = self.getInfo(ID, "callDict")
        text = self.getInfo(ID, "aboutCall", nowForget)
        if text is not None or call is None:
            return text or ""
        text = describeCall(call["f"], call["args"], call["kw"], call["instance"])
        if "thread" in call:
            text += f" <Thread: {call['thread']}>"
        return str(text if nowForget else self.saveInfo("aboutCall", text, ID))

    def aboutException(
        self,
        ID: int | None = None,
        exception: BaseException | None = None,
        nowForget: bool = False,
    ) -> str:
        """
        Describe an exception.

        @param ID: the number of the call that raised it. Default: the present call's.
        @param exception: the exception. Default: the one that is being handled.
        @param nowForget: whether to forget the call then.
        @return: the exception, the call that raised it, and the traceback.
        @raise ValueError: if no exception is given, and none is being handled or was described
            before.
        """
        exception = sys.exc_info()[1] if exception is None else exception
        if exception is None:
            before = self.getInfo(ID, "aboutException", nowForget)
            if before is None:
                raise ValueError("no exception is given, and none is being handled")
            return str(before)
        lines = "".join(traceback.format_exception(exception))
        return self._about("aboutException", "Exception", exception, lines, ID, nowForget)

    def aboutFailure(
        self, failureObj: Failure, ID: int | None = None, nowForget: bool = False
    ) -> str:
        """
        Describe a Failure, as L{aboutException} describes an exception. You may use it as an
        errback, which turns the failure into its description.
        """
        lines = failureObj.getTraceback()
        return self._about("aboutFailure", "Failure", failureObj.value, lines, ID, nowForget)

    def _about(
        self, name: str, kind: str, error: Any, lines: str, ID: int | None, nowForget: bool
    ) -> str:
        ID = self._ID if ID is None else ID
        call = self.aboutCall(ID)
        title = f"{kind} {describeError(error)}" + (f" doing call {call}" if call else "")
        text = f"{title}\n{'-' * min(79, len(title))}\n{lines.rstrip()}"
        self.saveInfo(name, text, ID)
        if nowForget:
            self.forgetID(ID)
        return text


class CallInfo:
    """
    One call of an L{Info}, as L{Info.context} gives it.

    @ivar info: the L{Info}.
    @ivar ID: the call's number.
    """

    def __init__(self, info: Info, ID: int) -> None:
        self.info = info
        self.ID = ID

    def getInfo(self, name: str) -> Any:
        """
        See L{Info.getInfo}.
        """
        return self.info.getInfo(self.ID, name)

    def aboutCall(self) -> str:
        """
        See L{Info.aboutCall}.
        """
        return self.info.aboutCall(self.ID)

    def aboutException(self, exception: BaseException | None = None) -> str:
        """
        See L{Info.aboutException}.
        """
        return self.info.aboutException(self.ID, exception)

    def aboutFailure(self, failureObj: Failure) -> str:
        """
        See L{Info.aboutFailure}.
        """
        return self.info.aboutFailure(failureObj, self.ID)


Function = TypeVar("Function", bound=Callable[..., Any])
Write = Callable[[str], Any]

_MARK = "_asynqueueShowsThread"


@overload
def showResult(function: Function) -> Function: ...
@overload
def showResult(*, write: Write) -> Callable[[Function], Function]: ...
def showResult(function: Any = None, *, write: Write | None = None) -> Any:
    """
    Decorate a function or a method, so that each call of it writes a line::

        @showResult
        def add(first, second): ...

        001: add(1, second=2) -> 3

    If the function returns a Deferred or a coroutine, the line comes when the result is there. An
    exception or a failure is shown, and passed on.

    @param function: the function.
    @param write: takes each line, from the thread in which the call ends; C{print}, say. Default:
        the logger C{asynqueue}, at level INFO.
    @return: the decorated function; without C{function}, a decorator.
    """
    if function is None:
        return lambda later: showResult(later, write=write)  # type: ignore[call-overload]
    say = logging.getLogger("asynqueue").info if write is None else write
    numbers = count(1)

    def describe(args: tuple[Any, ...], kw: dict[str, Any]) -> str:
        text = f"{next(numbers):03d}: {describeCall(function, args, kw)}"
        if getattr(shown, _MARK, False):
            text += f" <Thread: {current_thread().name}>"
        return text

    async def follow(call: str, awaitable: Awaitable[Any]) -> Any:
        try:
            result = await awaitable
        except BaseException as error:
            say(f"{call} raised {describeError(error)}")
            raise
        say(f"{call} -> {describeValue(result)}")
        return result

    def came(result: Any, call: str) -> Any:
        if isinstance(result, Failure):
            say(f"{call} failed with {describeError(result.value)}")
        else:
            say(f"{call} -> {describeValue(result)}")
        return result

    def run(args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        call = describe(args, kw)
        try:
            result = function(*args, **kw)
        except BaseException as error:
            say(f"{call} raised {describeError(error)}")
            raise
        if isinstance(result, Deferred):
            return result.addBoth(came, call)
        if inspect.iscoroutine(result):
            return follow(call, result)
        return came(result, call)

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def shown(*args: Any, **kw: Any) -> Any:
            return await run(args, kw)

    else:

        @wraps(function)
        def shown(*args: Any, **kw: Any) -> Any:
            return run(args, kw)

    return shown


def whichThread(function: Function) -> Function:
    """
    Decorate a function that has L{showResult}, in either order, so that its lines name the thread
    in which it was called.
    """
    setattr(function, _MARK, True)
    return function
