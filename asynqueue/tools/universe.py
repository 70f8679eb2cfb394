"""
AsynQueue 0.9's loop of a child process, for programs that talk to it over a pipe of their own.

The workers here do not use it. Their child processes run C{asynqueue._runner}.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, Protocol

from asynqueue._runner.streams import isIterator
from asynqueue.tools.info import Info

CallTuple = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function, its positional arguments and its keywords."""

Answer = tuple[bytes, Any]
"""The outcome of a call: its kind, and its result or text."""


class Connection(Protocol):
    """
    One end of a pipe: a C{multiprocessing.connection.Connection}, for example.
    """

    def recv(self) -> Any:
        """Wait for an object and return it."""

    def send(self, obj: Any) -> None:
        """Send an object."""

    def close(self) -> None:
        """Close this end."""


class UniverseRunner:
    """
    Makes calls and tells what came of them.

    @ivar callTimes: how long each call took, in seconds, if they are kept.
    """

    def __init__(self, raw: bool, callStats: bool) -> None:
        self.raw = raw
        self.callStats = callStats
        self.callTimes: list[float] = []
        self._info = Info()

    def __call__(self, callTuple: CallTuple) -> Answer:
        """
        Make a call.

        @param callTuple: the function, its positional arguments and its keywords. The function is
            not given a keyword C{raw}, which says whether an iterator is a result like any other.
        @return: C{b"r"} and the result; C{b"i"} and an iterator; or C{b"e"} and a text about the
            exception.
        """
        function, args, keywords = callTuple
        kw = dict(keywords)
        raw = kw.pop("raw", None)
        began = perf_counter()
        try:
            result = function(*args, **kw)
        except Exception:
            return b"e", self._info.setCall(function, args, kw).aboutException()
        if self.callStats:
            self.callTimes.append(perf_counter() - began)
        isRaw = self.raw if raw is None else raw
        return (b"i" if isIterator(result) and not isRaw else b"r"), result


class ProcessUniverse:
    """
    Makes the calls that come over a pipe, one at a time.

    An object that comes is one of these:

      - A call, as a tuple of the function, its positional arguments and its keywords. It is
        answered as L{UniverseRunner} answers it, but in place of an iterator goes an ID.
      - The ID of an iterator. It is answered as by L{next}.
      - The empty text. It is answered with the list of the calls' times and C{True}.
      - C{None}, which ends the loop.

    @ivar runner: makes the calls.
    @ivar iterators: the iterators that have not ended, by ID.
    """

    def __init__(
        self, raw: bool = False, callStats: bool = False, useReactor: bool = False
    ) -> None:
        """
        @param raw: whether an iterator is a result like any other, where the call does not say.
        @param callStats: whether to keep the times of the calls.
        @param useReactor: must be C{False}. C{ProcessWorker(useReactor=True)} has such processes.
        @raise ValueError: if C{useReactor} is true.
        """
        if useReactor:
            raise ValueError(
                "a ProcessUniverse runs no reactor: use ProcessWorker(useReactor=True) instead"
            )
        self.runner = UniverseRunner(raw, callStats)
        self.iterators: dict[str, Iterator[Any]] = {}
        self._made = 0

    def next(self, ID: str) -> tuple[Any, bool]:
        """
        Advance an iterator.

        @return: its next item and C{True}; or C{None} and C{False} if it has ended, or there is no
            iterator with this ID. An exception that the iterator raises is raised here.
        """
        iterator = self.iterators.get(ID)
        if iterator is None:
            return None, False
        try:
            return next(iterator), True
        except BaseException as error:
            del self.iterators[ID]
            if isinstance(error, StopIteration):
                return None, False
            raise

    do_next = next

    def loop(self, connection: Connection) -> None:
        """
        Make calls until C{None} comes, then close the connection. SIGINT is ignored from here on if
        this is the main thread. An iterator that raises ends without its error being told, as in
        AsynQueue 0.9, whose message of an item has no place for it.

        @param connection: where the calls come from and the answers go to.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        while (order := connection.recv()) is not None:
            connection.send(self._answer(order))
        connection.close()

    def _answer(self, order: Any) -> Any:
        if order == "":
            return self.runner.callTimes, True
        if isinstance(order, str):
            try:
                return self.next(order)
            except Exception:
                return None, False
        status, result = self.runner(order)
        if status != b"i":
            return status, result
        self._made += 1
        ID = f"iterator {self._made}"
        self.iterators[ID] = result
        return status, ID
