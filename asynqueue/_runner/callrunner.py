"""
The runner: the place where a worker's calls really run.

It takes messages and posts messages; how they travel is not its business. A child process drives
one over its pipe, a thread over a deque, a test drives one by hand.
"""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from asynqueue._runner.codecs import PICKLED, Answers, Codec
from asynqueue._runner.context import Pairs, applyContext
from asynqueue._runner.coroutines import CoroutineRunner, Waiter
from asynqueue._runner.exceptions import TaskInterrupted, explained
from asynqueue._runner.messages import (
    CALL,
    CANCEL,
    GRANT,
    HELLO,
    QUIT,
    RECALL,
    RETURNED,
    STREAMING,
    UNBEGUN,
    VERSION,
    Message,
)
from asynqueue._runner.packing import PLAIN
from asynqueue._runner.progress import ProgressReports, setReporter
from asynqueue._runner.streams import OpenStreams, isIterator
from asynqueue.errors import CallNotRebuilt


class CallRunner:
    """
    Runs calls one at a time, in the order in which they come, and takes turns between them and the
    streams that they yield.

    Every call is answered once: RETURNED, RAISED, UNBEGUN, or STREAMING and later ENDED or RAISED.
    Each answer is posted before the next call begins, so that none is lost with a runner that
    dies in its next call.

    @ivar ended: C{True} once it was told to quit, or to end at once.
    @ivar isTerminated: C{True} once it was told to end at once. What ends for that reason is not
        answered any more: to the near side it has died with its runner.
    @ivar running: the ID of the task whose code is running at this moment, or C{None}.
    @ivar watch: is called when a call's function has been rebuilt, which may have imported
        anything, and again when it has returned or raised.
    @ivar wasNudged: to be set when somebody wants L{look} to be called within the next call, since
        there is none to interrupt yet.
    @ivar look: takes in the messages that are there, and calls L{interrupt}.
    @ivar waiting: the call whose result is waited for, where that is done without any code running,
        or C{None}.
    """

    def __init__(
        self,
        post: Callable[[Message], None],
        begin: Callable[[int], object] = lambda number: None,
        raw: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        codec: Codec = PICKLED,
        waiter: Waiter | None = None,
    ) -> None:
        """
        @param post: takes each message for the near side and sends it off at once.
        @param begin: is told the number of each call that begins, before anything of it is done.
        @param raw: whether iterators are brought back as they are, where a call does not say.
        @param clock: gives the time in seconds.
        @param codec: what becomes of values on their way.
        @param waiter: waits for what functions return in place of their results. Default: a
            L{CoroutineRunner}.
        """
        self.ended = self.isTerminated = False
        self.running: int | None = None
        self.waiting: _Run | None = None
        self.watch: Callable[[], object] = _doNothing
        self.wasNudged = False
        self.look: Callable[[], object] = _doNothing
        self._post = post
        self._begin = begin
        self._raw = raw
        self._clock = clock
        self._codec = codec
        self._reader = codec.makeReader()
        self._waiter = CoroutineRunner() if waiter is None else waiter
        self._calls: deque[Message] = deque()
        self._progress = ProgressReports(post, clock)
        self._answers = Answers(post, codec)
        self._streams = OpenStreams(self, post, codec, clock, self._progress, self._answers)
        self._unwanted: set[int] = set()
        self._interrupted: int | None = None

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
        if self.ended:
            return False
        waiting = self.waiting
        if waiting is None:
            return bool(self._calls) or self._streams.haveWork
        return waiting.id in self._unwanted or self._streams.haveWork

    @property
    def hasStreams(self) -> bool:
        """
        Whether a stream is open, for which messages may come at any time.
        """
        return bool(self._streams)

    @property
    def current(self) -> int | None:
        """
        The ID of the task whose code is running, or else of the one whose result is waited for.
        """
        if self.running is not None:
            return self.running
        waiting = self.waiting
        return None if waiting is None else waiting.id

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
                self._streams.grant(*message[1:])
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

        @raise TaskInterrupted: if so, and unless it is a coroutine, which is cancelled.
        """
        if self.running in self._unwanted:
            self._unwanted.discard(self.running)
            self._interrupted = self.running
            self._interrupt("it is not wanted any more")

    def terminate(self) -> None:
        """
        Called within the running task's thread: end the task, if there is one, and then everything.

        @raise TaskInterrupted: if a task is running, unless it is a coroutine, which is cancelled.
        """
        self.ended = self.isTerminated = True
        if self.running is not None:
            self._interrupt("its worker was told to end")

    def _interrupt(self, why: str) -> None:
        # If something is waited for without any code running, that is not what is running now.
        if self.waiting is not None or not self._waiter.interrupt():
            raise TaskInterrupted(why)

    def _cancel(self, id: int) -> None:
        self._streams.unwanted(id)
        waiting = [call for call in self._calls if call[1] == id]
        if waiting:
            self._giveBack(waiting)
        elif id == self._interrupted:
            # What it does to clean up is not to be interrupted by another like request.
            return
        elif self.running == id or (self.waiting is not None and self.waiting.id == id):
            self._unwanted.add(id)

    def _giveBack(self, calls: list[Message]) -> None:
        if not calls:
            return
        for call in calls:
            self._calls.remove(call)
            self._reader.keep(call[2])
        self._post((UNBEGUN, [call[1] for call in calls]))

    # What is done ---------------------------------------------------------------------------------

    def step(self) -> None:
        """
        Run one call, and let each stream that has credit produce one batch; nothing if L{ended}.
        """
        if self.ended:
            # By a signal's handler, since the caller has looked.
            return
        if self.waiting is None:
            if self._calls:
                self._run(self._calls.popleft())
        elif self.waiting.id in self._unwanted:
            self._unwanted.discard(self.waiting.id)
            self._waiter.interrupt()
        if self._streams:
            self._streams.step()

    def close(self) -> None:
        """
        Give back the calls that did not begin, give up what is waited for, and close the streams.
        To be called when L{ended}.
        """
        self._giveBack(list(self._calls))
        if self.waiting is not None:
            self._waiter.interrupt()
        self._streams.close()
        self._waiter.close()

    def _run(self, call: Message) -> None:
        _, id, function, arguments, raw, pairs = call
        self._begin(id)
        try:
            pairs = pairs and self._codec.unpack(pairs)
            isKnown = type(function) is int
            function, args, kwargs = self._reader.read(function, arguments)
            if not isKnown:
                self.watch()
        except BaseException as broken:
            self._answers.raised(id, 0.0, explained(CallNotRebuilt, "rebuild the call", broken))
            return
        run = _Run(id, raw, self._clock())
        error: BaseException | None = None
        try:
            self.running = id
            run.context.run(self._call, run, function, args, kwargs, pairs)
        except BaseException as raised:
            # The entry of this function is of no use to anybody.
            trace = raised.__traceback__
            error = raised.with_traceback(trace and trace.tb_next)
        finally:
            self.ran(id)
        # Only now, when nothing can interrupt the call any more, so that it is answered once.
        if error is not None:
            self._end(run, None, error)
        elif run.isThere:
            self._end(run, run.result, run.error)
        else:
            self.waiting = run

    def _call(self, run: _Run, function: Any, args: Any, kwargs: Any, pairs: Any) -> None:
        """
        Within the context of a call: make it.
        """
        if self.wasNudged:
            self.wasNudged = False
            self.look()
        # By its number: the run has the context, which is to have this.
        setReporter(partial(self._report, run.id))
        if pairs:
            _applyContext(pairs)
        try:
            result = function(*args, **kwargs)
            if type(result) not in PLAIN:
                if self._waiter.accepts(result):
                    self._waiter.wait(result, partial(self._waited, run))
                    return
                result = self._waiter.iterate(result)
            run.result = result
            run.isThere = True
        finally:
            self.watch()

    def ran(self, id: int) -> None:
        """
        The code of a call or a stream that was running has returned. (For the streams to call.)
        """
        self.running = self._interrupted = None
        self._unwanted.discard(id)

    def _waited(self, run: _Run, result: Any, error: BaseException | None) -> None:
        """
        What a call returned in place of its result has come to its end.
        """
        if error is None:
            run.result = self._waiter.iterate(result)
        else:
            run.error = _withCatcher(error)
        run.isThere = True
        if self.waiting is run:
            self.waiting = None
            self._unwanted.discard(run.id)
            self._end(run, run.result, run.error)

    def _end(self, run: _Run, result: Any, error: BaseException | None) -> None:
        """
        Answer a call.
        """
        id, seconds = run.id, self._clock() - run.started
        self._progress.flush(id)
        if error is not None:
            if not (self.isTerminated and isinstance(error, TaskInterrupted)):
                self._answers.raised(id, seconds, error)
        elif type(result) in PLAIN:
            self._post((RETURNED, id, seconds, result))
        elif isIterator(result) and not (self._raw if run.raw is None else run.raw):
            self._streams.add(id, result, run.context)
            self._post((STREAMING, id, seconds))
        else:
            self._answers.returned(id, seconds, result)

    def _report(self, id: int, done: float, total: float | None) -> None:
        waiting = self.waiting
        isWaiting = waiting is not None and waiting.id == id
        # What a task has left behind, a thread with its context say, reports to nobody.
        if self.running == id or isWaiting or id in self._streams:
            self._progress.report(id, done, total)


def _applyContext(pairs: Pairs) -> None:
    try:
        applyContext(pairs)
    except Exception as error:
        raise explained(CallNotRebuilt, "rebuild the call's context variables", error) from None


def _doNothing() -> None:
    """
    Nothing is to be done.
    """


class _Run:
    """
    A call that has begun.
    """

    __slots__ = ("context", "error", "id", "isThere", "raw", "result", "started")

    def __init__(self, id: int, raw: bool | None, started: float) -> None:
        self.id = id
        self.raw = raw
        self.started = started
        self.context: Context = copy_context()
        self.isThere = False
        self.result: Any = None
        self.error: BaseException | None = None


def _withCatcher(error: BaseException) -> BaseException:
    """
    Raise and catch an exception that was caught elsewhere, since the entry of who caught it is left
    out when it is described.
    """
    context = error.__context__
    try:
        raise error
    except BaseException as caught:
        caught.__context__ = context
        return caught
