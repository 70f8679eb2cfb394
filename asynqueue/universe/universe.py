"""
The universe: the place where a worker's calls really run.

It takes messages and posts messages; how they travel is not its business. A child process drives
one over its pipe, a test drives one by hand.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from asynqueue.errors import CallNotRebuilt, ResultNotPicklable
from asynqueue.universe.exceptions import describe, explained, typeName
from asynqueue.universe.iterators import isIterator
from asynqueue.universe.messages import (
    CALL,
    CANCEL,
    ENDED,
    GRANT,
    HELLO,
    ITEMS,
    QUIT,
    RAISED,
    RECALL,
    RETURNED,
    STREAMING,
    UNBEGUN,
    VERSION,
    Message,
)
from asynqueue.universe.packing import PLAIN, Packed, pack, sizeOf, unpack
from asynqueue.universe.streams import FarStream, ItemNotPicklable


class TaskInterrupted(BaseException):
    """
    Raised within a running task that is no longer wanted, to ask it to end. It is no C{Exception},
    so that a task's usual error handling lets it pass.
    """


class Universe:
    """
    Runs calls one at a time, in the order in which they come, and takes turns between them and the
    streams that they yield.

    Every call is answered once: RETURNED, RAISED, UNBEGUN, or STREAMING and later ENDED or RAISED.
    Each answer is posted before the next call begins, so that none is lost with a universe that
    dies in its next call.

    @ivar ended: C{True} once it was told to quit.
    @ivar running: the ID of the task whose code is running at this moment, or C{None}.
    """

    def __init__(
        self,
        post: Callable[[Message], None],
        begin: Callable[[int], object] = lambda number: None,
        raw: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        @param post: takes each message for the near side and sends it off at once.
        @param begin: is told the number of each call that begins, before anything of it is done.
        @param raw: whether iterators are brought back as they are, where a call does not say.
        @param clock: gives the time in seconds.
        """
        self.ended = False
        self.running: int | None = None
        self._post = post
        self._begin = begin
        self._raw = raw
        self._clock = clock
        self._calls: deque[Message] = deque()
        # Each function that was defined: packed, and rebuilt once it was called.
        self._definitions: dict[int, Packed] = {}
        self._functions: dict[int, Any] = {}
        self._streams: dict[int, FarStream] = {}
        self._unwanted: set[int] = set()

    def hello(self) -> None:
        """
        Say that calls may come.
        """
        self._post((HELLO, os.getpid(), VERSION, platform.python_version()))

    @property
    def hasWork(self) -> bool:
        """
        Whether L{step} has something to do without another message.
        """
        return bool(self._calls) or any(
            stream.canProduce or stream.closing for stream in self._streams.values()
        )

    @property
    def hasStreams(self) -> bool:
        """
        Whether a stream is open, for which messages may come at any time.
        """
        return bool(self._streams)

    # What comes -----------------------------------------------------------------------------------

    def receive(self, messages: Sequence[Message]) -> None:
        """
        Take messages in. Nothing of a task runs here, so that this may be called while one is
        running.
        """
        for message in messages:
            kind = message[0]
            if kind == CALL:
                self._calls.append(message)
            elif kind == GRANT:
                stream = self._streams.get(message[1])
                if stream is not None:
                    stream.grant(message[2], message[3])
            elif kind == CANCEL:
                self._cancel(message[1])
            elif kind == RECALL:
                self._giveBack(list(self._calls))
            elif kind == QUIT:
                self._giveBack(list(self._calls))
                self.ended = True

    def interrupt(self) -> None:
        """
        Called within the running task's thread: end the task if it is not wanted any more.

        @raise TaskInterrupted: if so.
        """
        if self.running in self._unwanted:
            self._unwanted.discard(self.running)
            raise TaskInterrupted

    def terminate(self) -> None:
        """
        Called within the running task's thread: end the task, if there is one, and then everything.

        @raise TaskInterrupted: if a task is running.
        """
        self.ended = True
        if self.running is not None:
            raise TaskInterrupted

    def _cancel(self, id: int) -> None:
        stream = self._streams.get(id)
        if stream is not None:
            stream.closing = True
        waiting = [call for call in self._calls if call[1] == id]
        if waiting:
            self._giveBack(waiting)
        elif self.running == id:
            self._unwanted.add(id)

    def _giveBack(self, calls: list[Message]) -> None:
        if not calls:
            return
        for call in calls:
            self._calls.remove(call)
            self._keepFunction(call[2])
        self._post((UNBEGUN, [call[1] for call in calls]))

    # What is done ---------------------------------------------------------------------------------

    def step(self) -> None:
        """
        Run one call, and let each stream that has credit produce one batch.
        """
        if self._calls:
            self._run(self._calls.popleft())
        if self._streams:
            for stream in list(self._streams.values()):
                if stream.closing:
                    self._close(stream)
                elif stream.canProduce:
                    self._produce(stream)

    def close(self) -> None:
        """
        Give back the calls that did not begin, and close the streams. To be called when L{ended}.
        """
        self._giveBack(list(self._calls))
        for stream in list(self._streams.values()):
            self._close(stream)

    def _run(self, call: Message) -> None:
        _, id, function, arguments, raw = call
        self._begin(id)
        try:
            function = self._keepFunction(function)
            function, args, kwargs = self._rebuild(function, arguments)
        except BaseException as error:
            self._raised(id, 0.0, explained(CallNotRebuilt, "rebuild the call", error))
            return
        clock = self._clock
        started = clock()
        self.running = id
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self.running = None
            self._raised(id, clock() - started, error)
            return
        finally:
            self.running = None
            self._unwanted.discard(id)
        seconds = clock() - started
        if type(result) in PLAIN:
            self._post((RETURNED, id, seconds, result))
        elif isIterator(result) and not (self._raw if raw is None else raw):
            self._streams[id] = FarStream(id, result, clock)
            self._post((STREAMING, id, seconds))
        else:
            self._returned(id, seconds, result)

    def _keepFunction(self, function: Any) -> Any:
        """
        Note a definition, even of a call that is not run, since later calls may name its number.
        """
        if type(function) is tuple and type(function[0]) is int:
            number, data = function
            self._definitions.setdefault(number, data)
            return number
        return function

    def _rebuild(self, function: Any, arguments: Any) -> tuple[Any, Any, dict[str, Any]]:
        if type(function) is int:
            number, function = function, self._functions.get(function)
            if function is None:
                function = self._functions[number] = unpack(self._definitions[number])
        else:
            function = unpack(function)
        # A packed tuple ends with its list of buffers, which is no plain value.
        if type(arguments) is tuple and (not arguments or type(arguments[-1]) is not list):
            return function, arguments, {}
        args, kwargs = unpack(arguments)
        return function, args, kwargs

    def _returned(self, id: int, seconds: float, result: Any) -> None:
        try:
            packed = pack(result)
        except BaseException as error:
            what = f"pickle the result, of type {typeName(type(result))}"
            self._raised(id, seconds, explained(ResultNotPicklable, what, error))
            return
        self._post((RETURNED, id, seconds, packed))

    def _raised(self, id: int, seconds: float, error: BaseException) -> None:
        self._post((RAISED, id, seconds, describe(error)))

    # Streams --------------------------------------------------------------------------------------

    def _produce(self, stream: FarStream) -> None:
        batch: list[Packed] = []
        used = 0
        over = False
        failure: BaseException | None = None
        self.running = stream.id
        try:
            used, over = stream.produce(batch)
        except ItemNotPicklable as error:
            what = f"pickle an item, of type {typeName(type(error.args[0]))}"
            failure = explained(ResultNotPicklable, what, error.__cause__ or error)
        except TaskInterrupted as error:
            # If the near side asked for it, the stream is closed and ends like any other.
            failure = None if stream.closing else error
        except BaseException as error:
            failure = error
        finally:
            self.running = None
            self._unwanted.discard(stream.id)
        if batch:
            # Where something was raised, nobody counted.
            used = used or sum(map(sizeOf, batch))
            self._post((ITEMS, stream.id, batch, used))
        if failure is not None:
            del self._streams[stream.id]
            self._raised(stream.id, 0.0, failure)
            self._closeQuietly(stream)
        elif over:
            del self._streams[stream.id]
            self._post((ENDED, stream.id))

    def _close(self, stream: FarStream) -> None:
        del self._streams[stream.id]
        try:
            stream.close()
        except BaseException as error:
            self._raised(stream.id, 0.0, error)
        else:
            self._post((ENDED, stream.id))

    def _closeQuietly(self, stream: FarStream) -> None:
        """
        After a failure that was told already, what closing adds to it goes to the interpreter's
        hook.
        """
        try:
            stream.close()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
