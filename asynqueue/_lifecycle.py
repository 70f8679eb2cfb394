"""
How a program ends, and who is told. This is the one place that hears of signals, of the reactor's
stop and of the interpreter's end.

A program ends in one of these ways. C{docs/shutdown.rst} shows them from the outside::

    what happens                    who is told, in this order
    -----------------------------   -------------------------------------------------------------
    a signal stops the reactor      StopCalls "before"; drain() of each Ending that has a
                                    drainTimeout; the reactor waits; StopCalls "during"; endNow()
                                    of the other Endings
    the same, and a second signal   cut() of each Ending that drains; a drainTimeout that has
                                    passed does so too
    the reactor stops otherwise     StopCalls "before"; the program's own triggers; StopCalls
                                    "during"; endNow() of each Ending
    a signal asks a program of      drain() of each Ending that has a drainTimeout, and cut() at a
    asyncio to end                  second signal; the others are the program's to end
    the program ends one object     drain() of that one, and cut() when its drainTimeout has passed;
                                    if a signal comes meanwhile, as if it drained because of that
    the interpreter ends, and the   abort() of each Ending
    reactor has not stopped
    SIGKILL                         nobody: see _workers/reaper.py

There is one L{_Program} for each reactor that anybody has registered with. It has one trigger at a
time in that reactor. One function is registered with C{atexit} in all.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Literal, Protocol, TypeAlias, cast
from weakref import WeakSet, ref

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.checks import checkSeconds
from asynqueue._core.states import Table, nextState
from asynqueue._reactor import callFromAnyThread
from asynqueue._waiters import OneShotObserverList
from asynqueue.errors import signalName

DRAIN_SECONDS: Final = 5.0
"""The default of every queue's C{drainTimeout}: half of the 10 seconds after which Docker kills a
container that it has asked to end. So the program has time left for all else."""

# Only Windows has SIGBREAK. Twisted's reactors stop at these signals.
_NAMES: Final = ("SIGINT", "SIGTERM", "SIGBREAK")

Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None
"""What C{signal.getsignal} returns."""

_log = Logger()


class Drainable(Protocol):
    """
    An object that may go on for a while after a signal.
    """

    drainTimeout: float | None
    """For how many seconds what is underway may go on. C{None}: the object's user handles
    signals."""


class Ending:
    """
    The effect of the program's end on one object, a queue for example. Constructing it registers
    it, until L{forget}.

    The object must keep it: the registry refers to it weakly, so that nobody is kept alive in order
    to be ended.

    @ivar whenOver: is called when the object has come to its end.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        owner: Drainable,
        countUnderway: Callable[[], int],
        drain: Callable[[str], Deferred[Any]],
        cut: Callable[[str], Deferred[Any]],
        endNow: Callable[[str], object],
        abort: Callable[[], object],
    ) -> None:
        """
        @param owner: the object.
        @param countUnderway: tells how much is underway.
        @param drain: has the object take on nothing and begin nothing any more, because of what it
            is given as a text. It returns a Deferred that fires when all is over.
        @param cut: ends what is underway, after C{drain}. It returns a Deferred that fires when all
            is over.
        @param endNow: ends everything. The reactor has had its last turn.
        @param abort: ends everything, without logging failures. The interpreter ends.
        @raise ValueError: if the owner's C{drainTimeout} is negative or not a number.
        """
        checkSeconds("drainTimeout", owner.drainTimeout, optional=True)
        self.owner = owner
        self.countUnderway = countUnderway
        self.drain = drain
        self.cut = cut
        self.endNow = endNow
        self.abort = abort
        self.whenOver: Callable[[], object] = lambda: None
        self._program = _programOf(reactor)
        self._program.add(self)

    @property
    def hasBegun(self) -> bool:
        """
        Whether the program is about to end: a signal has asked for it, the reactor stops, or the
        interpreter ends, which it does without its main thread.
        """
        return self._program.isEnding

    def begin(self, why: str) -> Deferred[None]:
        """
        Drain the object now, as when a signal stops the reactor, although the program may go on.
        A C{drainTimeout} of C{None} is no limit here.

        @param why: why, as the end of a sentence.
        @return: a Deferred that fires when the object is over.
        """
        return self._program.drainOne(self, why)

    def forget(self) -> None:
        """
        The object has come to its end: there is nothing left to be told.
        """
        self._program.forget(self)
        self.whenOver()


class StopCall:
    """
    A function that is called once when a reactor stops. Constructing it registers it, until
    L{forget}.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        phase: Literal["before", "during"],
        function: Callable[[], object],
    ) -> None:
        """
        @param phase: C{"before"}: at the beginning of the reactor's stop. C{"during"}: after the
            reactor's last turn, before any L{Ending}'s C{endNow}.
        """
        self.phase = phase
        self.function = function
        self._program = _programOf(reactor)
        self._program.addCall(self)

    def forget(self) -> None:
        """
        The function is not to be called.
        """
        self._program.forgetCall(self)


_programs: Final[dict[int, _Program]] = {}
"""By the identity of the reactor, which each of these refers to."""


def _programOf(reactor: IReactorTime) -> _Program:
    # A new one is kept once there is something to tell.
    return _programs.get(id(reactor)) or _Program(reactor)


def endingsOf(reactor: object) -> list[Ending]:
    """
    @return: the objects of a reactor that have not come to their end, in the order of registration.
    """
    program = _programs.get(id(reactor))
    present = () if program is None else [weak() for weak in list(program._endings)]
    return [ending for ending in present if ending is not None]


def drainAll(reactor: object, number: int) -> Deferred[Any]:
    """
    Drain each L{Ending} that has a C{drainTimeout}, as when a signal stops the reactor, although
    the reactor goes on.

    @param reactor: a reactor whose L{exitSignal} is set.
    @param number: the signal.
    @return: a Deferred that fires when all of them are over.
    """
    program = _programs.get(id(reactor))
    return succeed(None) if program is None else program.drain(number)


def _interpreterEnds() -> None:
    for program in list(_programs.values()):
        program.abort()


class _Program:
    """
    Everybody who wants to hear of the end of one reactor, and of the interpreter under it.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        # A clock in the place of a reactor never stops.
        isAble = hasattr(reactor, "addSystemEventTrigger")
        self._core = cast(IReactorCore, reactor) if isAble else None
        # The process in which each was registered.
        self._endings: dict[ref[Ending], int] = {}
        self._calls: dict[StopCall, None] = {}
        self._trigger: object | None = None
        self._isStopping = False
        # The endings that drain or have drained.
        self._drained: WeakSet[Ending] = WeakSet()
        self._drains: dict[_Drain, None] = {}
        self._second = SecondSignal(reactor, self._signalled)

    @property
    def isEnding(self) -> bool:
        if self._isStopping or exitSignal(self._reactor) is not None:
            return True
        return not threading.main_thread().is_alive()

    # Who is to be told ----------------------------------------------------------------------------

    def add(self, ending: Ending) -> None:
        def collected(weak: ref[Ending]) -> None:
            # The garbage collector works in any thread.
            callFromAnyThread(self._reactor, lambda: self._remove(weak))

        self._endings[ref(ending, collected)] = os.getpid()
        self._watch()
        # The last function that was registered is called first. This one must come before those of
        # the modules that the object has imported by now.
        atexit.unregister(_interpreterEnds)
        atexit.register(_interpreterEnds)

    def addCall(self, call: StopCall) -> None:
        if self._core is not None:
            self._calls[call] = None
            self._watch()

    def forget(self, ending: Ending) -> None:
        for weak in list(self._endings):
            if weak() is ending:
                self._remove(weak)

    def forgetCall(self, call: StopCall) -> None:
        self._calls.pop(call, None)
        self._dropIfEmpty()

    def _remove(self, weak: ref[Ending]) -> None:
        self._endings.pop(weak, None)
        self._dropIfEmpty()

    def _watch(self) -> None:
        _programs[id(self._reactor)] = self
        if self._trigger is not None or self._core is None:
            return
        # What comes while the reactor stops is too late for the beginning of that.
        phase, function = "before", self._reactorStops
        if self._isStopping:
            phase, function = "during", self._reactorStopped
        self._trigger = self._core.addSystemEventTrigger(phase, "shutdown", function)

    def _dropIfEmpty(self) -> None:
        if self._endings or self._calls:
            return
        if self._trigger is not None and self._core is not None:
            self._core.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        _programs.pop(id(self._reactor), None)
        if not any(program._endings for program in _programs.values()):
            atexit.unregister(_interpreterEnds)

    def _present(self) -> list[Ending]:
        """
        The endings that have not drained, in the order of registration.
        """
        present = (weak() for weak in list(self._endings))
        return [one for one in present if one is not None and one not in self._drained]

    # The reactor stops ----------------------------------------------------------------------------

    def _reactorStops(self) -> Deferred[Any] | None:
        self._trigger = None
        self._isStopping = True
        self._call("before")
        if self._endings or self._calls:
            # This comes after the triggers of a program that ends something in a way of its own.
            self._watch()
        number = exitSignal(self._reactor)
        if number is not None:
            return self.drain(number)
        if self._drains:
            # Whoever drains these has the reactor wait for them.
            self._second.install()
        return None

    def drain(self, number: int) -> Deferred[Any]:
        why = f"the program was asked to end by {signalName(number)}"
        present = self._present()
        new = [
            self._makeDrain(ending, why)
            for ending in present
            if ending.owner.drainTimeout is not None
        ]
        # Some may drain already.
        drains = list(self._drains)
        if drains:
            # This comes first, because a second signal may come as soon as one of these says that
            # it drains. The last one that is over uninstalls it.
            self._second.install()
        for drain in new:
            drain.begin()
        return DeferredList([drain.whenOver() for drain in drains])

    def drainOne(self, ending: Ending, why: str) -> Deferred[None]:
        found = next((drain for drain in self._drains if drain.ending is ending), None)
        if found is None:
            if ending in self._drained:
                return succeed(None)
            found = self._makeDrain(ending, why)
            if self._isStopping or exitSignal(self._reactor) is not None:
                # It ends before the reactor tells this of the signal. If there was none, the first
                # one is to stop the reactor.
                self._second.install()
            found.begin()
        return found.whenOver()

    def _makeDrain(self, ending: Ending, why: str) -> _Drain:
        seconds = ending.owner.drainTimeout
        drain = _Drain(
            ending,
            math.inf if seconds is None else seconds,
            why,
            self._reactor,
            self._drainOver,
        )
        self._drained.add(ending)
        self._drains[drain] = None
        return drain

    def _signalled(self, number: int) -> None:
        for drain in list(self._drains):
            drain.signalled(number)

    def _drainOver(self, drain: _Drain) -> None:
        del self._drains[drain]
        if not self._drains:
            self._second.uninstall()

    def _reactorStopped(self) -> None:
        self._trigger = None
        self._call("during")
        for ending in self._present():
            _tell(ending.endNow, "the reactor has stopped")

    def _call(self, phase: str) -> None:
        for call in [call for call in self._calls if call.phase == phase]:
            # One may have been forgotten because of another.
            if call in self._calls:
                _tell(call.function)
                self.forgetCall(call)

    # The interpreter ends -------------------------------------------------------------------------

    def abort(self) -> None:
        endings, self._endings = self._endings, {}
        for weak, pid in endings.items():
            ending = weak()
            # A process that was forked from this one has nothing to end here.
            if ending is not None and pid == os.getpid():
                _tell(ending.abort)


def _tell(function: Callable[..., object], *args: object) -> None:
    try:
        function(*args)
    except BaseException:
        # The others must be told all the same.
        _log.failure("{function} failed while the program was ending", function=function)


DRAINING: Final = "DRAINING"
CUT: Final = "CUT"
OVER: Final = "OVER"

DRAIN: Final[Table] = {
    # Tasks that are underway may go on.
    DRAINING: {"cut": CUT, "finish": OVER},
    # Tasks that are underway are being ended. A third signal or the deadline adds nothing.
    CUT: {"cut": CUT, "finish": OVER},
    # Both drain() and cut() tell of the end.
    OVER: {"cut": OVER, "finish": OVER},
}


class _Drain:
    """
    The last seconds of one object.
    """

    def __init__(
        self,
        ending: Ending,
        seconds: float,
        why: str,
        reactor: IReactorTime,
        over: Callable[[_Drain], object],
    ) -> None:
        """
        @param seconds: for how long what is underway may go on.
        """
        self.ending = ending
        self._done: OneShotObserverList[None] = OneShotObserverList()
        self._seconds = seconds
        self._why = why
        self._reactor = reactor
        self._tellOver = over
        self._state: str = DRAINING
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        maybeDeferred(self.ending.drain, self._why).addBoth(self._over)
        if self._state == OVER:
            return
        if self._seconds < math.inf:
            self._timer = self._reactor.callLater(self._seconds, self._outOfTime)
        _log.info(
            "{subject} drains, because {why}. {count} underway may go on for {seconds} seconds. A "
            "second signal ends them at once",
            subject=self.ending.owner,
            why=self._why,
            count=self.ending.countUnderway(),
            seconds=self._seconds,
        )

    def signalled(self, number: int) -> None:
        self._cut(f"{self._why}, and then by {signalName(number)} to end at once")

    def _outOfTime(self) -> None:
        self._timer = None
        self._cut(f"{self._why}, and {self._seconds} seconds have passed since")

    def _cut(self, why: str) -> None:
        wasDraining = self._state == DRAINING
        self._state = nextState(DRAIN, self._state, "cut", self)
        if wasDraining:
            maybeDeferred(self.ending.cut, why).addBoth(self._over)

    def _over(self, result: object) -> None:
        if isinstance(result, Failure):
            _log.failure("{subject} failed to end", result, subject=self.ending.owner)
        wasOver = self._state == OVER
        self._state = nextState(DRAIN, self._state, "finish", self)
        if wasOver:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._tellOver(self)
        self._done.fire(None)

    def whenOver(self) -> Deferred[None]:
        return self._done.whenFired()


# Signals ------------------------------------------------------------------------------------------


def exitSignal(reactor: object) -> int | None:
    """
    Tell why a reactor stops.

    @param reactor: a reactor, or a clock in its place.
    @return: the number of the signal that has asked it to; C{None} if none has, or if it was not
        the reactor that handled it.
    """
    # Twisted has no public way to ask. A handler of our own would have to be in place before the
    # first signal comes, and the program's handlers are not ours to replace.
    number = getattr(reactor, "_exitSignal", None)
    return number if isinstance(number, int) else None


class SecondSignal:
    """
    Handles the signals that ask a program to end, while it is ending already.

    The handler that was there before is called afterwards, unless it is the reactor's own, which
    can stop only once, or Python's or the system's default.
    """

    def __init__(self, reactor: IReactorTime, hear: Callable[[int], object]) -> None:
        """
        @param hear: is called with the number of each signal, in the reactor's thread.
        """
        self._reactor = reactor
        self._hear = hear
        self._isListening = False
        self._before: dict[int, Handler] = {}

    def install(self) -> None:
        """
        Listen from now on. This has an effect only in the main thread, and only for signals that
        are not ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._isListening = True
        for name in _NAMES:
            number: int | None = getattr(signal, name, None)
            if number is None:
                continue
            before = signal.getsignal(number)
            # None is also a handler that Python could not bring back.
            if before not in (None, signal.SIG_IGN, self):
                self._before[number] = before
                signal.signal(number, self)

    def uninstall(self) -> None:
        """
        Listen no more, and bring back the handlers that were there before. Where somebody has put
        another handler in place meanwhile, that one stays, and may go on calling this one.
        """
        self._isListening = False
        for number, before in self._before.items():
            if signal.getsignal(number) is self:
                signal.signal(number, before)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """
        A signal came. The main thread may be in the middle of anything.
        """
        before = self._before.get(number)
        if self._isListening:
            callFromAnyThread(self._reactor, lambda: self._hear(number))
            if self._isDefault(before):
                return
        if callable(before):
            before(number, frame)

    def _isDefault(self, handler: object) -> bool:
        if handler is signal.default_int_handler:
            return True
        return getattr(handler, "__self__", None) is self._reactor
