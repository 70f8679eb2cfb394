"""
The reactor and its threads: the way into the reactor's thread, and the way out of it.

  - L{callFromAnyThread} has one function called in the reactor's thread.
  - L{ReactorInbox} brings many things there, in batches.
  - L{SerialThread} has functions called in another thread, one after the other.
  - L{ReactorTurns} has what comes in crowds done in several turns of the reactor.
  - L{ReactorSteps} has what takes many steps done in several turns of the reactor.
  - L{asDeferred} waits for what a function that was called in the reactor's thread returned.
"""

from __future__ import annotations

import math
import os
import threading
import time
from asyncio import isfuture
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from inspect import iscoroutine
from queue import SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary, ref

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorSocket,
    IReactorTime,
    IReactorUNIX,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._runner.progress import Reporter, setReporter

__all__ = [
    "Done",
    "IReactor",
    "IReactorTime",
    "ImmediateExecutor",
    "ReactorInbox",
    "ReactorSteps",
    "ReactorTurns",
    "SerialExecutor",
    "SerialThread",
    "SteadyClock",
    "asDeferred",
    "callEach",
    "callFromAnyThread",
    "defaultReactor",
    "perReactor",
    "serialExecutor",
    "startCoroutine",
    "startThread",
    "turnsOf",
]

_T = TypeVar("_T")
_log = Logger()


class IReactor(
    IReactorCore, IReactorTime, IReactorFromThreads, IReactorFDSet, IReactorSocket, IReactorUNIX
):
    """
    The interfaces of Twisted's reactors that asynqueue uses. No reactor declares this, and not
    every one provides all of them. The C{providedBy} of Twisted's own interface tells whether one
    is missing. A clock in the place of a reactor provides C{IReactorTime} alone.
    """


def defaultReactor() -> IReactor:
    """
    Get the global reactor, for an object that was constructed without one.

    The first call installs Twisted's default reactor, unless the program has installed another one
    before.

    @return: the global reactor.
    """
    from twisted.internet import reactor

    return cast(IReactor, reactor)


WATCH_SECONDS: Final = 1.0
"""How often a L{SteadyClock} looks for calls that are late, as long as it has calls that wait."""


@implementer(IReactorTime)
class SteadyClock:
    """
    Measures and waits for times of one run of a program. It reads like the reactor's clock when it
    is made, and never goes back nor leaps, whatever becomes of the wall clock.

    Twisted's reactors follow the wall clock. When that is set back, their delayed calls are late by
    as much, and early when it is set forward. So this looks after its own calls from another
    thread, once a second, and has one that comes early wait for the rest.

    @ivar reactor: schedules the calls.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        """
        @param reactor: a reactor; or a clock that has no threads, whose own time counts then.
        """
        self.reactor = reactor
        self._isReal = IReactorFromThreads.providedBy(reactor)
        self._read = time.monotonic if self._isReal else reactor.seconds
        self._offset = reactor.seconds() - self._read()
        self._last = -math.inf
        # The delayed calls that are looked after; and when to tidy up.
        self._calls: dict[_SteadyCall, None] = {}
        self._many = _FEW
        self._isWatching = False

    def seconds(self) -> float:
        now = self._read() + self._offset
        if now < self._last:
            # A clock that was set back goes on from where it was.
            self._offset += self._last - now
            return self._last
        self._last = now
        return now

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        if not self._isReal or not delay > 0:
            return self.reactor.callLater(delay, callable, *args, **kw)
        if len(self._calls) >= self._many:
            self._forgetCalls()
        call = _SteadyCall(self, self.seconds() + delay, partial(callable, *args, **kw))
        self._calls[call] = None
        if not self._isWatching:
            self._watch()
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        return self.reactor.getDelayedCalls()

    def _forgetCalls(self) -> None:
        self._calls = {call: None for call in self._calls if call.active()}
        self._many = max(_FEW, 2 * len(self._calls))

    def _watch(self) -> None:
        self._isWatching = True

        def wait() -> None:
            time.sleep(WATCH_SECONDS)
            callFromAnyThread(self.reactor, self._look)

        startThread(wait, "asynqueue clock")

    def _look(self) -> None:
        self._isWatching = False
        self._forgetCalls()
        now = self.seconds()
        for call in list(self._calls):
            if call.getTime() < now:
                call.begin(0.0)
        if self._calls:
            self._watch()


@implementer(IDelayedCall)
class _SteadyCall:
    """
    A delayed call of a L{SteadyClock}. If the reactor calls it too early, because the wall clock
    was set forward, it waits for the rest.
    """

    __slots__ = ("_call", "_clock", "_function", "_time")

    def __init__(self, clock: SteadyClock, time: float, function: Callable[[], object]) -> None:
        self._clock = clock
        self._time = time
        self._function = function
        self._call: IDelayedCall | None = None
        self.begin(time - clock.seconds())

    def begin(self, delay: float) -> None:
        """
        Have the reactor call this after so many seconds by its own clock.
        """
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = self._clock.reactor.callLater(max(0.0, delay), self._due)

    def _due(self) -> None:
        left = self._time - self._clock.seconds()
        # A reactor may be early by as much as its clock is coarse.
        if left > EARLY_SECONDS:
            self.begin(left)
            return
        self._call = None
        self._function()

    def getTime(self) -> float:
        return self._time

    def active(self) -> bool:
        return self._call is not None and bool(self._call.active())

    def cancel(self) -> None:
        if self._call is None:
            raise AlreadyCalled
        self._call.cancel()

    def delay(self, secondsLater: float) -> None:
        self._time += secondsLater
        self.begin(self._time - self._clock.seconds())

    def reset(self, secondsFromNow: float) -> None:
        self._time = self._clock.seconds() + secondsFromNow
        self.begin(secondsFromNow)


EARLY_SECONDS: Final = 0.001
"""By how much a delayed call may be early."""

_FEW: Final = 64
"""With fewer delayed calls than this, it is not worth looking for those that can be forgotten."""


# Into the reactor's thread ------------------------------------------------------------------------


def callFromAnyThread(reactor: object, function: Callable[[], object]) -> None:
    """
    Have a function called in the reactor's thread soon. This may be called in any thread, and in
    the middle of anything, as by the garbage collector.

    @param reactor: a reactor. A clock that has no threads calls the function at once.
    @param function: the function, which takes no arguments.
    """
    if IReactorFromThreads.providedBy(reactor):
        reactor.callFromThread(function)
    else:
        function()


def takeReports(reactor: object, reported: Reporter) -> None:
    """
    Have a function hear of L{report<asynqueue.report>} in the present context. It is called in the
    reactor's thread: at once, or soon if a thread reports to which the context was passed.

    @param reactor: a reactor, in whose thread this is called.
    """
    setReporter(partial(_passReport, reactor, threading.get_ident(), reported))


def _passReport(
    reactor: object, home: int, reported: Reporter, done: float, total: float | None
) -> None:
    if threading.get_ident() == home:
        reported(done, total)
    else:
        callFromAnyThread(reactor, partial(reported, done, total))


class ReactorInbox(Generic[_T]):
    """
    Brings things from any thread to the reactor's, in the order of putting.

    The reactor is woken once for everything that is put before it gets there. There is no lock, so
    C{put} never waits, not even in the middle of another C{put}.
    """

    def __init__(self, reactor: object, receive: Callable[[list[_T]], object]) -> None:
        """
        @param receive: is called in the reactor's thread with the things, of which there is at
            least one.
        """
        self._reactor = reactor
        self._receive = receive
        self._things: deque[_T] = deque()
        self._isAwake = False

    def put(self, thing: _T) -> None:
        """
        Put a thing. This may be called in any thread.
        """
        self._things.append(thing)
        # Two threads that come here at the same time wake the reactor twice, which is harmless.
        if not self._isAwake:
            self._isAwake = True
            callFromAnyThread(self._reactor, self.flush)

    def flush(self) -> None:
        """
        Hand over now what was put. This is called in the reactor's thread only.
        """
        # This comes first, because a thing that is put after the counting must wake the reactor.
        self._isAwake = False
        things: list[_T] = []
        # With a clock two threads may come here at the same time.
        with suppress(IndexError):
            for _ in range(len(self._things)):
                things.append(self._things.popleft())
        if things:
            self._receive(things)


def callEach(functions: list[Callable[[], object]]) -> None:
    """
    Call functions that a L{ReactorInbox} has brought. If one raises, that is logged, and the others
    are called all the same.
    """
    for function in functions:
        try:
            function()
        except BaseException:
            _log.failure("{function} raised in the reactor's thread", function=function)


# In the reactor's thread --------------------------------------------------------------------------


def startCoroutine(reactor: object, coroutine: Coroutine[Any, Any, _T]) -> Deferred[_T]:
    """
    Run a coroutine in the reactor's thread.

    @param reactor: a reactor on a loop of C{asyncio} may have a method C{startCoroutine}, which
        runs the coroutine as a task of that loop. Otherwise it may await Deferreds.
    @return: a Deferred of the coroutine's result. Cancelling it cancels the coroutine.
    """
    start = getattr(reactor, "startCoroutine", Deferred.fromCoroutine)
    return cast("Deferred[_T]", start(coroutine))


def asDeferred(reactor: object, result: Any) -> Any:
    """
    @param result: what a function that was called in the reactor's thread returned.
    @return: a Deferred if that is a coroutine, which then runs, or a future of C{asyncio};
        otherwise the result itself.
    """
    if iscoroutine(result):
        return startCoroutine(reactor, result)
    return Deferred.fromFuture(result) if isfuture(result) else result


# In the reactor's thread, in several turns --------------------------------------------------------

TURN_SECONDS: Final = 0.01
"""For how long, in one turn of the reactor, L{ReactorTurns} begins another of its functions."""


def perReactor(make: Callable[[IReactorTime], _T]) -> Callable[[IReactorTime], _T]:
    """
    @param make: makes an object for a reactor, to which the object must not refer for ever.
    @return: a function that returns the one object of a reactor.
    """
    made: WeakKeyDictionary[IReactorTime, _T] = WeakKeyDictionary()

    def one(reactor: IReactorTime) -> _T:
        if reactor not in made:
            made[reactor] = make(reactor)
        return made[reactor]

    return one


class ReactorTurns:
    """
    Calls functions that may come in crowds, such as the ends of two hundred processes that were
    killed at once. Each is called at once while the present turn of the reactor has time for it,
    else in one of the next turns. They are called in the order of L{do}.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = ref(reactor)
        self._functions: deque[Callable[[], object]] = deque()
        # When the first and the last function of this turn began and ended.
        self._began = self._ended = -math.inf

    def do(self, function: Callable[[], object]) -> None:
        """
        Call a function now, or in a later turn.

        @param function: takes no arguments. An exception comes through if the function is called
            now, and is logged if it is called later.
        """
        if not self._functions and self._hasTime():
            self._call(function)
            return
        self._functions.append(function)
        if len(self._functions) == 1:
            self._goOnLater()

    def _hasTime(self) -> bool:
        now = self._seconds()
        if not 0 <= now - self._ended < TURN_SECONDS:
            # What came before was not in this turn, or there was little of it.
            self._began = now
        return now - self._began < TURN_SECONDS

    def _call(self, function: Callable[[], object]) -> None:
        try:
            function()
        finally:
            self._ended = self._seconds()

    def _seconds(self) -> float:
        reactor = self._reactor()
        return 0.0 if reactor is None else reactor.seconds()

    def _goOnLater(self) -> None:
        reactor = self._reactor()
        if reactor is not None:
            reactor.callLater(0, self._goOn)

    def _goOn(self) -> None:
        self._began = self._ended = self._seconds()
        while self._functions and self._hasTime():
            function = self._functions[0]
            self._call(partial(callEach, [function]))
            # Only now, because what it asks for is to come after the others.
            self._functions.popleft()
        if self._functions:
            self._goOnLater()


turnsOf = perReactor(ReactorTurns)
"""Returns the one L{ReactorTurns} of a reactor."""


STEPS_SECONDS: Final = 0.01
"""How long, in one turn of the reactor, L{ReactorSteps} goes on."""


class ReactorSteps:
    """
    Does something that may take many steps: some at once, and the others in the reactor's next
    turns. Functions are called in the order in which they were added.
    """

    def __init__(self, reactor: IReactorTime, over: Callable[[], object]) -> None:
        """
        @param over: is called when nothing is left to do.
        """
        self._reactor = reactor
        self._over = over
        self._waiting: deque[Iterator[object]] = deque()
        self._isAtWork = False
        self._later: IDelayedCall | None = None

    def __bool__(self) -> bool:
        """
        Whether something is left to do.
        """
        return bool(self._waiting)

    def add(self, steps: Iterator[object], least: int = 0) -> None:
        """
        Do something, or begin with it. If other things are to be done before, or this is called
        from within a step, it waits for them.

        @param steps: does one step for each of its items.
        @param least: how many steps are done now, however long that takes.
        """
        self._waiting.append(steps)
        if len(self._waiting) == 1:
            self._goOn(STEPS_SECONDS, least)

    def finish(self) -> None:
        """
        Do now all that is left. From within a step this does nothing.
        """
        if self._waiting and not self._isAtWork:
            self._goOn(math.inf)

    def _goOn(self, seconds: float = STEPS_SECONDS, least: int = 0) -> None:
        if self._later is not None:
            if self._later.active():
                self._later.cancel()
            self._later = None
        self._isAtWork = True
        isOver = False
        try:
            isOver = self._work(self._reactor.seconds() + seconds, least)
        finally:
            self._isAtWork = False
            if not isOver:
                self._later = self._reactor.callLater(0, self._goOn)
        if isOver:
            self._over()

    def _work(self, until: float, least: int) -> bool:
        """
        @return: whether all is done.
        """
        done = 0
        while self._waiting:
            for _ in self._waiting[0]:
                done += 1
                if done >= least and self._reactor.seconds() >= until:
                    return False
            self._waiting.popleft()
        return True


# Into another thread ------------------------------------------------------------------------------

Done = Callable[[Any], object]
"""Is called with what a function returned, or with a Failure."""


def startThread(target: Callable[[], object], name: str) -> threading.Thread:
    """
    Start a thread that does not keep the interpreter from ending.

    @param target: what the thread calls.
    @param name: the thread's name.
    @raise RuntimeError: if the system has no more threads.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


class SerialExecutor(Protocol):
    """
    Calls functions, one after the other.
    """

    def call(self, done: Done, function: Callable[..., object], *args: object) -> None:
        """Call a function. C{done} is called in the reactor's thread."""

    def wait(self, function: Callable[..., _T], *args: object) -> _T:
        """Call a function, and return what it returns."""

    def hurry(self) -> None:
        """
        The reactor has had its last turn. Wait for the calls that are underway, and call their
        C{done} here; and do so at once for every later call.
        """

    def close(self) -> None:
        """No more calls will come."""


class ImmediateExecutor:
    """
    Calls functions at once, in the caller's thread. It is for a clock in the place of a reactor.
    """

    def call(self, done: Done, function: Callable[..., object], *args: object) -> None:
        try:
            result = function(*args)
        except BaseException:
            result = Failure()
        done(result)

    def wait(self, function: Callable[..., _T], *args: object) -> _T:
        return function(*args)

    def hurry(self) -> None:
        pass

    def close(self) -> None:
        pass


class SerialThread:
    """
    A thread that calls functions, one after the other. Handing a call over and back takes 25 to 60
    microseconds, which is less than a pool of threads takes.

    It does not keep the interpreter from ending.
    """

    def __init__(
        self, reactor: object, name: str, refuse: Callable[[str], Exception] = RuntimeError
    ) -> None:
        """
        Start the thread.

        @param reactor: has each C{done} called in its thread.
        @param name: the thread's name.
        @param refuse: makes the error of a call in a forked process, from its text.
        @raise RuntimeError: if the system has no more threads.
        """
        self._name = name
        self._refuse = refuse
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._results: ReactorInbox[Callable[[], object]] = ReactorInbox(reactor, self._tell)
        self._untold: deque[Callable[[], object]] = deque()
        self._isHurried = self._isClosed = False
        self._pid = os.getpid()
        startThread(self._serve, name)

    def call(self, done: Done, function: Callable[..., object], *args: object) -> None:
        if self._pid != os.getpid():
            done(Failure(self._foreign()))
            return

        def call() -> None:
            result = _resultOf(function, args)
            self._results.put(lambda: done(result))

        self._calls.put(call)
        if self._isHurried and not self._isClosed:
            self._catchUp()

    def wait(self, function: Callable[..., _T], *args: object) -> _T:
        if self._pid != os.getpid():
            raise self._foreign()
        results: SimpleQueue[_T | Failure] = SimpleQueue()
        self._calls.put(lambda: results.put(_resultOf(function, args)))
        result = results.get()
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def hurry(self) -> None:
        self._isHurried = True
        if not self._isClosed and self._pid == os.getpid():
            self._catchUp()

    def close(self) -> None:
        self._isClosed = True
        self._calls.put(None)

    def _catchUp(self) -> None:
        self.wait(lambda: None)
        self._results.flush()

    def _tell(self, results: list[Callable[[], object]]) -> None:
        self._untold.extend(results)
        # A call from within one of these comes back here if there is a hurry.
        while self._untold:
            callEach([self._untold.popleft()])

    def _foreign(self) -> Exception:
        return self._refuse(
            f"the thread {self._name!r} of process {self._pid} cannot be used by {os.getpid()}, "
            "which was forked from it. Make a new object there"
        )

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            # What it refers to is not to live until the next call comes.
            del call


def _resultOf(function: Callable[..., _T], args: tuple[object, ...]) -> _T | Failure:
    try:
        return function(*args)
    except BaseException:
        return Failure()


def serialExecutor(
    reactor: object, name: str, refuse: Callable[[str], Exception] = RuntimeError
) -> SerialExecutor:
    """
    @return: a L{SerialThread}, or an L{ImmediateExecutor} if the reactor is a clock that has no
        threads.
    """
    if IReactorFromThreads.providedBy(reactor):
        return SerialThread(reactor, name, refuse)
    return ImmediateExecutor()
