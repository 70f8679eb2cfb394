"""
The runner: the place where a worker's calls really run.

It takes messages and posts messages, and leaves it to others how they travel. A child process
drives it over its pipe, a thread over a deque, and a test by hand.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from os import getpid
from typing import Final, NamedTuple

from asynqueue._runner import makecall
from asynqueue._runner.codecs import PICKLED, Answers, Codec
from asynqueue._runner.coroutines import CoroutineRunner
from asynqueue._runner.exceptions import TaskInterrupted, explained
from asynqueue._runner.forking import endCopy
from asynqueue._runner.makecall import ITERATOR, PLAIN_VALUE, WAITING, Outcome, Waiter, makeCall
from asynqueue._runner.messages import (
    CALL,
    CANCEL,
    GRANT,
    HELLO,
    QUIT,
    RECALL,
    RETURNED,
    STACK,
    STACKS,
    STREAMING,
    UNBEGUN,
    VERSION,
    Message,
)
from asynqueue._runner.progress import ProgressReports
from asynqueue._runner.stacks import describeStacks
from asynqueue._runner.streams import OpenStreams
from asynqueue.errors import CallNotRebuilt, StateError

PYTHON: Final = sys.version.split(maxsplit=1)[0]
"""The version of Python. The module C{platform} has it too, but takes its time to be imported."""

SERVING: Final = "SERVING"
ENDING: Final = "ENDING"
TERMINATED: Final = "TERMINATED"
CLOSED: Final = "CLOSED"

_MOVES: Final[Mapping[str, Mapping[str, str]]] = {
    # Calls and streams run.
    SERVING: {"quit": ENDING, "terminate": TERMINATED, "close": CLOSED},
    # No call begins any more. The streams are about to be closed.
    ENDING: {"quit": ENDING, "terminate": TERMINATED, "close": CLOSED},
    # What ends now is not answered: for the near side it has died with its runner.
    TERMINATED: {"quit": TERMINATED, "terminate": TERMINATED, "close": TERMINATED},
    # Signals may still come. No message does.
    CLOSED: {"terminate": CLOSED, "close": CLOSED},
}


class _Waiting(NamedTuple):
    """
    A call that has returned a Deferred, which is waited for without any code running.
    """

    id: int
    raw: bool | None
    started: float
    context: Context


class CallRunner:
    """
    Runs calls one at a time, in the order in which they come, and takes turns between them and the
    streams that they yield.

    Every call is answered once: RETURNED, RAISED, UNBEGUN, or STREAMING and later ENDED or RAISED.
    Each answer is posted before the next call begins, so that no answer is lost when a runner dies
    in its next call.

    @ivar running: the ID of the task whose code is running at this moment, or C{None}.
    @ivar waiting: the call whose Deferred is being waited for, or C{None}.
    @ivar watch: called when a call's function has been rebuilt, which may have imported anything,
        and again when the function has ended. It is not called any more once it has returned
        C{True}.
    @ivar tidy: called when a call has come to its end, unless something of a call goes on, to end
        what could hit the next call.
    @ivar wasNudged: set this to have L{look} called within the next call, because there is no call
        to interrupt yet.
    @ivar look: takes in the messages that are there, and calls L{interrupt}.
    @ivar told: is called when the runner has told what is running.
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
        @param begin: takes the number of each call that begins, before any of it is done.
        @param raw: whether iterators are brought back as they are, where a call does not say.
        @param clock: gives the time in seconds.
        @param codec: packs and unpacks values.
        @param waiter: waits for what functions return in place of their results. Default: a
            L{CoroutineRunner}.
        """
        self.running: int | None = None
        self.waiting: _Waiting | None = None
        self.watch: Callable[[], bool] | None = None
        self.tidy: Callable[[], object] | None = None
        self.wasNudged = False
        self.look: Callable[[], object] = lambda: None
        self.told: Callable[[], object] = lambda: None
        self._state = SERVING
        # A task may fork this process. The copy goes on in the middle of this runner, and must not
        # run anything else of it.
        self._home = getpid()
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
        # An outcome that a signal's handler brought about before its call was known to wait.
        self._early: Outcome | None = None
        # When a call or a batch of a stream has ended last.
        self._ended = 0.0
        # To bind a method takes as long as to call it.
        self._heard, self._later = self._report, self._waited

    def hello(self) -> None:
        """
        Say that calls may come.
        """
        self._post((HELLO, getpid(), VERSION, PYTHON))

    @property
    def ended(self) -> bool:
        """
        Whether the runner was told to quit or to terminate, or is closed.
        """
        return self._state != SERVING

    @property
    def isTerminated(self) -> bool:
        """
        Whether the runner was told to terminate. A call that it breaks off is not answered.
        """
        return self._state == TERMINATED

    @property
    def hasWork(self) -> bool:
        """
        Whether L{step} has something to do without another message.
        """
        if self._state != SERVING:
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
        return bool(self._streams.open)

    @property
    def current(self) -> int | None:
        """
        The ID of the task whose code is running, or else of the one whose result is waited for.
        """
        if self.running is not None:
            return self.running
        waiting = self.waiting
        return None if waiting is None else waiting.id

    def _move(self, event: str) -> None:
        try:
            self._state = _MOVES[self._state][event]
        except KeyError:
            raise StateError(self, self._state, event) from None

    # Messages -------------------------------------------------------------------------------------

    def receive(self, messages: Sequence[Message]) -> None:
        """
        Take messages in. No code of a task runs here, so this may be called while a task is
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
            elif kind == STACK:
                text = describeStacks(self.running is not None)
                self._post((STACKS, message[1], self.running, text))
                self.told()
            elif kind == QUIT:
                self._giveBack(list(self._calls))
                self.quit()

    def quit(self) -> None:
        """
        Begin no other call. This may be called in any thread.
        """
        self._move("quit")

    def interrupt(self) -> None:
        """
        End the running task if it is not wanted any more. Call this in the task's thread.

        @raise TaskInterrupted: if the task is to end, unless it is a coroutine, which is cancelled.
        """
        if self.running in self._unwanted:
            self._unwanted.discard(self.running)
            self._interrupted = self.running
            self._interrupt("it is not wanted any more")

    def terminate(self) -> None:
        """
        End the running task, if there is one, and then everything. Call this in the task's thread.

        @raise TaskInterrupted: if a task is running, unless it is a coroutine, which is cancelled.
        """
        self._move("terminate")
        if self.running is not None:
            self._interrupt("its worker was told to end")

    def _interrupt(self, why: str) -> None:
        # While a call waits for its Deferred, what is running now is another task's stream.
        if self.waiting is not None or not self._waiter.interrupt():
            raise TaskInterrupted(why)

    def _cancel(self, id: int) -> None:
        self._streams.unwanted(id)
        waiting = [call for call in self._calls if call[1] == id]
        if waiting:
            self._giveBack(waiting)
        elif id == self._interrupted:
            # A second request must not interrupt what the task does to clean up.
            return
        elif self.running == id or (self.waiting is not None and self.waiting.id == id):
            self._unwanted.add(id)

    def _giveBack(self, calls: list[Message]) -> None:
        if not calls:
            return
        for call in calls:
            self._calls.remove(call)
            self._reader.keep(call)
        self._post((UNBEGUN, [call[1] for call in calls]))

    # Work -----------------------------------------------------------------------------------------

    def step(self) -> None:
        """
        Run one call, and let each stream that has credit produce one batch. Do nothing if L{ended}.
        """
        if self._state != SERVING:
            # A signal's handler has ended it since the caller looked.
            return
        if self.waiting is None:
            if self._calls:
                self._run(self._calls.popleft())
        elif self.waiting.id in self._unwanted:
            self._unwanted.discard(self.waiting.id)
            self._waiter.interrupt()
        # The call may have been told to terminate, with the runner.
        if self._streams.open and self._state == SERVING:
            self._streams.step()
            self._ended = self._clock()

    def work(self, seconds: float) -> None:
        """
        Step for as long as there is something to do, but begin nothing after so many seconds.
        """
        deadline = self._clock() + seconds
        while self.hasWork:
            self.step()
            if self._ended >= deadline:
                return

    def close(self) -> None:
        """
        Give back the calls that have not begun, give up what is waited for, and close the streams.
        """
        self._giveBack(list(self._calls))
        if self.waiting is not None:
            self._waiter.interrupt()
        self._streams.close()
        self._waiter.close()
        self._move("close")

    def _run(self, call: Message) -> None:
        id = call[1]
        self._begin(id)
        try:
            body = self._reader.read(call)
            if self.watch is not None and type(call[2]) is not int:
                self._look()
        except BaseException as broken:
            self._answers.raised(id, 0.0, explained(CallNotRebuilt, "rebuild the call", broken))
            return
        clock, context = self._clock, copy_context()
        started = clock()
        # A signal's handler may raise TaskInterrupted at any call of a function from here on. There
        # is none between the end of the C{try} and the moment from which nothing is running.
        try:
            self.running = id
            if self.wasNudged:
                self.wasNudged = False
                self.look()
            outcome = makeCall(context, partial(self._heard, id), body, self._waiter, self._later)
            if self.tidy is not None and outcome[0] not in (ITERATOR, WAITING):
                self._tidyUp()
            if self.watch is not None:
                self._look()
        except BaseException as error:
            # This frame would hold the exception, which holds this frame.
            outcome = (
                makecall.RAISED,
                error.with_traceback(error.__traceback__ and error.__traceback__.tb_next),
            )
        self.running = self._interrupted = None
        if self._unwanted:
            self._unwanted.discard(id)
        kind, value = outcome
        if getpid() != self._home:
            endCopy(value if kind == makecall.RAISED else None)
        self._ended = clock()
        if kind == PLAIN_VALUE and not self._progress.sent:
            self._post((RETURNED, id, self._ended - started, value))
        elif kind == WAITING:
            self.waiting = _Waiting(id, call[4], started, context)
            if self._early is not None:
                early, self._early = self._early, None
                self._waited(early)
        else:
            self._answer(id, call[4], self._ended - started, context, outcome)

    def _tidyUp(self) -> None:
        # What a stream or a coroutine that goes on has left may be meant for that.
        if self.tidy is not None and not self._streams.open:
            self.tidy()

    def _look(self) -> None:
        if self.watch is not None and self.watch():
            self.watch = None

    def ran(self, id: int, raised: BaseException | None) -> None:
        """
        The code of a stream that was running has returned, or raised something.
        """
        if getpid() != self._home:
            endCopy(raised)
        self.running = self._interrupted = None
        self._unwanted.discard(id)

    def _waited(self, outcome: Outcome) -> None:
        """
        The Deferred that a call returned has fired.
        """
        waiting, self.waiting = self.waiting, None
        if waiting is None:
            self._early = outcome
            return
        self._unwanted.discard(waiting.id)
        seconds = self._clock() - waiting.started
        self._answer(waiting.id, waiting.raw, seconds, waiting.context, outcome)

    def _answer(
        self, id: int, raw: bool | None, seconds: float, context: Context, outcome: Outcome
    ) -> None:
        kind, value = outcome
        if self._progress.sent:
            self._progress.flush(id)
        if kind == PLAIN_VALUE:
            self._post((RETURNED, id, seconds, value))
        elif kind == makecall.RAISED:
            if not (self.isTerminated and isinstance(value, TaskInterrupted)):
                self._answers.raised(id, seconds, value)
        elif kind == ITERATOR and not (self._raw if raw is None else raw):
            self._streams.add(id, value, context)
            self._post((STREAMING, id, seconds))
        else:
            self._answers.returned(id, seconds, value)

    def _report(self, id: int, done: float, total: float | None) -> None:
        if getpid() != self._home:
            return
        waiting = self.waiting
        isWaiting = waiting is not None and waiting.id == id
        # A thread that an earlier task has left behind with its context reports to nobody.
        if self.running == id or isWaiting or id in self._streams.open:
            self._progress.report(id, done, total)
