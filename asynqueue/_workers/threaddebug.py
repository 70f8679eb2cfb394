"""
The debug mode of worker threads: a task that is about to touch the reactor is stopped. This module
is imported in that mode only.

Python calls a thread's profile function at each function that the thread calls. The profile
function made here looks whether that is a method which only the reactor's own thread may call.
Nothing is patched, and no other thread is watched.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from inspect import unwrap
from types import CodeType, FrameType, MethodType, TracebackType
from typing import Any, Final

from twisted.internet import interfaces
from twisted.internet.abstract import FileDescriptor
from twisted.internet.base import DelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import providedBy

from asynqueue._runner.messages import RAISED, Message
from asynqueue.errors import ReactorTouched, ResultNotPicklable

FOR_THREADS: Final = (
    interfaces.IReactorFromThreads,
    interfaces.IReactorInThreads,
    interfaces.IReactorThreads,
)
"""The interfaces that a reactor provides for other threads than its own."""

HARMLESS: Final = frozenset({"seconds"})
"""Methods of the other interfaces that any thread may call."""

OF_DELAYED_CALLS: Final = ("cancel", "delay", "reset")

OF_TRANSPORTS: Final = (
    "loseConnection",
    "loseWriteConnection",
    "pauseProducing",
    "registerProducer",
    "resumeProducing",
    "startReading",
    "startWriting",
    "stopConsuming",
    "stopProducing",
    "stopReading",
    "stopWriting",
    "unregisterProducer",
    "write",
    "writeSequence",
)
"""The other methods of transports call these."""

_RUNNER: Final = "asynqueue._runner."
"""The prefix of the modules that run the tasks."""


class OffLimits:
    """
    Knows what only a reactor's own thread may touch: the methods of Twisted's interfaces that the
    reactor provides, except those made for other threads; its delayed calls; and its transports.
    """

    def __init__(self, reactor: object, exempt: Iterable[Callable[..., object]] = ()) -> None:
        """
        @param reactor: the reactor, or an object in its place, which may provide few of the
            interfaces.
        @param exempt: methods that may call anything.
        """
        # A reactor may hand on its calls to another.
        self._reactors: list[object] = [reactor]
        # The keys are identities, because the hash of code takes long: it is that of all its parts.
        # The code is kept, so that no other object can have its identity.
        self._forbidden: dict[int, CodeType] = {}
        self._exempt: dict[int, CodeType] = {}
        for method in exempt:
            self._add(self._exempt, method)
        for interface in providedBy(reactor).flattened():
            if interface in FOR_THREADS:
                self._addAll(self._exempt, reactor, interface.names())
            elif interface.__module__ == interfaces.__name__:
                self._addAll(self._forbidden, reactor, set(interface.names()) - HARMLESS)
        for name in OF_DELAYED_CALLS:
            self._add(self._forbidden, getattr(DelayedCall, name))
        for name in OF_TRANSPORTS:
            self._add(self._forbidden, getattr(FileDescriptor, name))
        self.identities: Final = frozenset(self._forbidden)

    def _addAll(self, codes: dict[int, CodeType], reactor: object, names: Iterable[str]) -> None:
        for name in names:
            # Somebody may have put another method before it, as Trial does.
            self._add(codes, getattr(type(reactor), name, None))
            method = getattr(reactor, name, None)
            if isinstance(method, MethodType):
                self._reactors.append(method.__self__)
                self._add(codes, method)

    def _add(self, codes: dict[int, CodeType], method: Any) -> None:
        # All uses of a decorator share the code of its inner function.
        code = getattr(unwrap(getattr(method, "__func__", method)), "__code__", None)
        if isinstance(code, CodeType) and code.co_argcount:
            codes[id(code)] = code

    def touched(self, frame: FrameType) -> str | None:
        """
        Look at a call.

        @param frame: the frame of a call that has just begun. Its code has one of the
            L{identities}.
        @return: the name of the method, if it belongs to this reactor and no exempt method has
            called it; otherwise C{None}.
        """
        code = frame.f_code
        thing = frame.f_locals[code.co_varnames[0]]
        if not any(home is reactor for home in _homes(thing) for reactor in self._reactors):
            return None
        if any(id(caller.f_code) in self._exempt for caller in _outward(frame)):
            return None
        isReactor = any(thing is reactor for reactor in self._reactors)
        return f"{'reactor' if isReactor else type(thing).__name__}.{code.co_name}"


def _homes(thing: object) -> tuple[object, ...]:
    """
    @return: objects that may be the reactor that a thing belongs to.
    """
    if isinstance(thing, DelayedCall):
        hooks = (thing.canceller, thing.resetter, thing.seconds)
        return tuple(getattr(hook, "__self__", None) for hook in hooks)
    if isinstance(thing, FileDescriptor):
        return (getattr(thing, "reactor", None),)
    return (thing,)


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _ofTask(frame: FrameType) -> list[FrameType]:
    """
    @return: the frames of a task, from the innermost one outward.
    """
    frames = []
    for one in _outward(frame):
        if str(one.f_globals.get("__name__")).startswith(_RUNNER):
            break
        frames.append(one)
    return frames


def _nameOf(frames: list[FrameType]) -> str:
    """
    @return: the name of the function that a task began with, as far as the frames tell.
    """
    own = [frame for frame in frames if _packageOf(frame) != "asyncio"]
    return (own or frames)[-1].f_code.co_qualname


def _placeOf(frames: list[FrameType]) -> str | None:
    """
    @return: the file and line at which a task made the call that led here; C{None} if the task
        began with that call.
    """
    for frame in frames[1:]:
        if _packageOf(frame) != "twisted":
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return None


def _packageOf(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


class ReactorWatch:
    """
    Watches one thread for as long as it serves a runner.

    If the thread has a profile function already, that is called as before, and is set again
    afterwards.
    """

    log = Logger()

    def __init__(self, offLimits: OffLimits, running: Callable[[], int | None]) -> None:
        """
        @param offLimits: what tasks must not touch.
        @param running: returns the number of the call whose code is running, or C{None}.
        """
        self._offLimits = offLimits
        self._running = running
        self._before: Any = None
        self._hasRaised = False
        self._last: tuple[int | None, ReactorTouched] | None = None
        self._profile: Final = self._makeProfile()

    def _makeProfile(self) -> Callable[[FrameType, str, object], None]:
        # It is called very often, so it uses local names only.
        identities = self._offLimits.identities

        def profile(frame: FrameType, event: str, argument: object) -> None:
            if self._before is not None:
                self._before(frame, event, argument)
            if event == "call" and id(frame.f_code) in identities:
                self._look(frame)

        return profile

    def _look(self, frame: FrameType) -> None:
        method = self._offLimits.touched(frame)
        if method is not None:
            # No variable here refers to the error, because its traceback will hold this frame.
            raise self._stop(frame, method)

    def _stop(self, frame: FrameType, method: str) -> ReactorTouched:
        frames = _ofTask(frame)
        error = ReactorTouched(_nameOf(frames), method, _placeOf(frames))
        # The task may catch the error, and Twisted may pass it to a Deferred that nobody looks at.
        self._tell(error, frames)
        self._last = self._running(), error
        # Python removes a profile function that raises.
        self._hasRaised = True
        return error

    def _tell(self, error: ReactorTouched, frames: list[FrameType]) -> None:
        trace = None
        for frame in frames:
            trace = TracebackType(trace, frame, frame.f_lasti, frame.f_lineno or 0)
        self.log.failure(
            "a task in {thread} was kept from touching the reactor",
            failure=Failure(error, ReactorTouched, trace),
            thread=threading.current_thread().name,
        )

    # What the thread does -------------------------------------------------------------------------

    def watch(self) -> None:
        """
        Watch the thread from now on. Call this in the thread before each task, because the profile
        function may have been removed.
        """
        present = sys.getprofile()
        if present is self._profile:
            return
        if present is not None and not callable(present):
            # It is written in C, and could neither be called nor set again from here.
            return
        if present is not None or not self._hasRaised:
            self._before = present
        self._hasRaised = False
        self._last = None
        sys.setprofile(self._profile)

    def end(self) -> None:
        """
        Watch the thread no longer. Call this in the thread.
        """
        present = sys.getprofile()
        if present is self._profile or (present is None and self._hasRaised):
            sys.setprofile(self._before)

    def answer(self, message: Message) -> Message:
        """
        Correct the failure of a call that was stopped. Twisted often passes an exception that is
        raised in a reactor's method to a Deferred. If that Deferred is the call's result, a thread
        refuses it; but the call should fail with L{ReactorTouched}.

        @param message: the message that the runner posts.
        @return: the message to post.
        """
        if self._last is not None and message[0] == RAISED:
            number, touch = self._last
            if number == message[1] and isinstance(message[3], ResultNotPicklable):
                return (*message[:3], touch)
        return message
