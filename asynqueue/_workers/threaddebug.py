"""
The debug mode of worker threads: a task that touches the reactor is stopped right there.

Python tells a thread's profile function of each function that the thread calls. The one here looks
whether that is a method which only the reactor's own thread may call. Nothing is patched, and no
other thread is watched.
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
"""What a reactor provides for other threads than its own."""

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
"""What other methods of transports do, they do with these."""

_RUNNER: Final = "asynqueue._runner."
"""What the names of those modules begin with that run the tasks."""


class OffLimits:
    """
    What of a reactor its own thread alone may touch: the methods of Twisted's interfaces that it
    provides, but for those made for other threads; its delayed calls; and its transports.
    """

    def __init__(self, reactor: object, exempt: Iterable[Callable[..., Any]] = ()) -> None:
        """
        @param reactor: the reactor, or what stands for it. It may have as little of a reactor as it
            likes.
        @param exempt: methods that do nothing that is not allowed, whatever they call.
        """
        # A reactor may hand on its calls to another.
        self._reactors: list[object] = [reactor]
        # By identity: the hash of code is that of all that it consists of, and takes long. The code
        # is kept, so that no other can have its identity.
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
            # Somebody may have put something before it, as Trial does.
            self._add(codes, getattr(type(reactor), name, None))
            method = getattr(reactor, name, None)
            if isinstance(method, MethodType):
                self._reactors.append(method.__self__)
                self._add(codes, method)

    def _add(self, codes: dict[int, CodeType], method: Any) -> None:
        # Decorators have their code in common with other uses of theirs.
        code = getattr(unwrap(getattr(method, "__func__", method)), "__code__", None)
        if isinstance(code, CodeType) and code.co_argcount:
            codes[id(code)] = code

    def touched(self, frame: FrameType) -> str | None:
        """
        @param frame: of a call that has just begun, of code with one of the L{identities}.
        @return: the name of the method, if it is one of this reactor and was not called by one that
            may do so.
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
    @return: what may be the reactor that something belongs to.
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
    @return: the name of the function that a task began with, as far as its frames tell.
    """
    own = [frame for frame in frames if _packageOf(frame) != "asyncio"]
    return (own or frames)[-1].f_code.co_qualname


def _placeOf(frames: list[FrameType]) -> str | None:
    """
    @return: where a task called what led to this, if that was not what it began with.
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

    A profile function that the thread has already is called as before, and is back afterwards.
    """

    log = Logger()

    def __init__(self, offLimits: OffLimits, running: Callable[[], int | None]) -> None:
        """
        @param offLimits: what is not to be touched.
        @param running: returns the number of the call whose code is running, or C{None}.
        """
        self._offLimits = offLimits
        self._running = running
        self._before: Any = None
        self._hasRaised = False
        self._last: tuple[int | None, ReactorTouched] | None = None
        self._profile: Final = self._makeProfile()

    def _makeProfile(self) -> Callable[[FrameType, str, Any], None]:
        # It is called very often, so it is made of what is quick.
        identities = self._offLimits.identities

        def profile(frame: FrameType, event: str, argument: Any) -> None:
            if self._before is not None:
                self._before(frame, event, argument)
            if event == "call" and id(frame.f_code) in identities:
                self._look(frame)

        return profile

    def _look(self, frame: FrameType) -> None:
        method = self._offLimits.touched(frame)
        if method is not None:
            # It is in no variable here: its traceback will have this frame.
            raise self._stop(frame, method)

    def _stop(self, frame: FrameType, method: str) -> ReactorTouched:
        frames = _ofTask(frame)
        error = ReactorTouched(_nameOf(frames), method, _placeOf(frames))
        # The task may catch it, and Twisted may hand it to a Deferred that nobody looks at.
        self._tell(error, frames)
        self._last = self._running(), error
        # Python takes a profile function away that raises.
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
        Called in the thread, before it runs any task, and then again and again: watch it from now
        on, even if the profile function was taken away.
        """
        present = sys.getprofile()
        if present is self._profile:
            return
        if present is not None and not callable(present):
            # One written in C, which could neither be called nor put back from here.
            return
        if present is not None or not self._hasRaised:
            self._before = present
        self._hasRaised = False
        self._last = None
        sys.setprofile(self._profile)

    def end(self) -> None:
        """
        Called in the thread: watch it no longer.
        """
        present = sys.getprofile()
        if present is self._profile or (present is None and self._hasRaised):
            sys.setprofile(self._before)

    def answer(self, message: Message) -> Message:
        """
        See what becomes of a call that was stopped. Twisted hands on what is raised in it to a
        Deferred, as often as not. If that is the call's result, which a thread refuses, this is not
        what the call should fail with.

        @param message: what the runner posts.
        @return: what to post.
        """
        if self._last is not None and message[0] == RAISED:
            number, touch = self._last
            if number == message[1] and isinstance(message[3], ResultNotPicklable):
                return (*message[:3], touch)
        return message
