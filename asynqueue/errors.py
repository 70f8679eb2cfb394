"""
One exception tree, with one root: L{AsynQueueError}.

Every error says what happened, to which task or worker, and what to do. This module imports nothing
but the standard library, so that the far side of a worker can raise and pickle these errors
cheaply.
"""

from __future__ import annotations

import builtins
import signal as signals
from typing import Any


class AsynQueueError(Exception):
    """
    The root of every error that asynqueue raises on its own account.
    """


class StateError(AsynQueueError):
    """
    An event came that the object's state does not allow. The object is unchanged.
    """

    def __init__(self, subject: object, state: str, event: str) -> None:
        super().__init__(subject, state, event)
        self.subject = subject
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"{self.subject} is {self.state}: '{self.event}' is not allowed now"


# The queue ----------------------------------------------------------------------------------------


class QueueStopped(AsynQueueError):
    """
    The queue is shutting down or has shut down: it takes no more calls, and a task that it could no
    longer run fails with this error.
    """


QueueRunError = QueueStopped
"""AsynQueue 0.9's name for L{QueueStopped}."""


class ImplementationError(AsynQueueError):
    """
    An object does not provide the interface that it was given as.
    """


class InvariantError(ImplementationError):
    """
    A worker's attributes do not have the form that C{IWorker} demands.
    """


class NotReadyError(AsynQueueError):
    """
    You asked for the next thing before the last one was there.
    """


# Jobs ---------------------------------------------------------------------------------------------


class JobError(AsynQueueError):
    """
    Something happened to a job.

    @ivar job: the job.
    """

    def __init__(self, message: str, job: Any = None) -> None:
        super().__init__(message)
        self.job = job


class JobNotDispatched(JobError, QueueStopped):
    """
    A job was still pending when its queue was stopped, and was not begun.
    """


class QueueFull(AsynQueueError):
    """
    A dispatch queue has as many pending jobs as it may have. Its C{whenReady} tells when there is
    room.
    """


class JobNotStorable(JobError):
    """
    A job's argument cannot be encoded for the store.
    """


class JobExists(JobError):
    """
    A job was put under a key of which there is to be one job only, and another stands there.

    @ivar job: that other one.
    """


class StoreError(AsynQueueError):
    """
    A store of jobs could not be opened, read or written.
    """


class StoreLocked(StoreError):
    """
    A store of jobs is in use by somebody else. It belongs to one at a time.
    """


class StoreCorrupt(StoreError):
    """
    What a store of jobs holds makes no sense. It is not made anew.
    """


# Tasks --------------------------------------------------------------------------------------------


class TaskError(AsynQueueError):
    """
    One task failed for a reason that is not its function's own exception.
    """


class TaskTimeout(TaskError, builtins.TimeoutError):
    """
    A task ran for longer than its timeout, in seconds.
    """


TimeoutError = TaskTimeout
"""AsynQueue 0.9's name for L{TaskTimeout}."""


class TaskStalled(TaskTimeout):
    """
    A task reported no progress for longer than its stall timeout, in seconds.
    """


class PoisonTask(TaskError):
    """
    A task that may be run more than once was begun as often as it may be, and each time its worker
    died with it. The last death is the C{__cause__}.
    """


class ReactorTouched(TaskError):
    """
    In debug mode: a task in a thread was about to do what only the reactor's own thread may do. It
    was not done.

    @ivar task: the name of the task's function.
    @ivar method: what it was about to call.
    @ivar place: from where: a file and a line; C{None} if that was all that the task was to do.
    """

    def __init__(self, task: str, method: str, place: str | None = None) -> None:
        super().__init__(task, method, place)
        self.task = task
        self.method = method
        self.place = place

    def __str__(self) -> str:
        place = "" if self.place is None else f" (from {self.place})"
        return (
            f"{self.task}, a task in a thread, was about to call {self.method}{place}, which only "
            "the reactor's own thread may do: have it done there with reactor.callFromThread, or, "
            "to wait for its result, with twisted.internet.threads.blockingCallFromThread"
        )


class CallNotPicklable(TaskError):
    """
    A call cannot be sent to a runner, because its function or one of its arguments cannot be
    pickled. No worker was used.
    """


class CallNotRebuilt(TaskError):
    """
    A call reached its runner, but its function or arguments could not be rebuilt from the pickle
    there.
    """


class ResultNotPicklable(TaskError):
    """
    A task ran, but its result (or an item that it yielded) cannot be pickled and so cannot come
    back.
    """


class ResultNotRebuilt(TaskError):
    """
    A task's result came back, but could not be rebuilt from its pickle on the near side.
    """


class PayloadTooLarge(TaskError):
    """
    A message is larger than the channel's limit.
    """


class RemoteTraceback(Exception):
    """
    The text of a traceback from a runner. It stands as the C{__cause__} of the exception that
    came from there.
    """

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class RemoteError(TaskError):
    """
    A task raised an exception that cannot be rebuilt on the near side with its own type.

    @ivar typeName: the qualified name of the exception's type.
    @ivar text: what C{str} made of the exception.
    @ivar traceback: the traceback's text.
    """

    def __init__(self, typeName: str, text: str, traceback: str) -> None:
        super().__init__(typeName, text, traceback)
        self.typeName = typeName
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.typeName}: {self.text}" if self.text else self.typeName


# Workers ------------------------------------------------------------------------------------------


class WorkerError(AsynQueueError):
    """
    A worker, rather than a task's own code, is at fault.
    """


ThreadError = WorkerError
"""AsynQueue 0.9's name for the error of a worker that is a thread. A function's own exception comes
back as it is."""


class WorkerDied(WorkerError):
    """
    A worker's runner died while it was running the task that fails with this error. Whether the
    task had any effect there is unknown.

    @ivar pid: the process ID of the runner, or C{None} if it has none.
    @ivar exitCode: its exit status, or C{None} if a signal killed it or nothing is known.
    @ivar signal: the number of the signal that killed it, or C{None}.
    @ivar residentKilobytes: its resident memory when last seen, or C{None}. It is looked at once a
        second at the most, and seldom while a call runs for long.
    @ivar isLikelyOutOfMemory: whether the kernel, by its own count, has killed some process for
        lack of memory between that sight and this one's death by SIGKILL. (Only Linux tells.)
    @ivar stacks: what C{faulthandler} wrote of the process's stacks when it crashed, or C{None}. It
        stands as the C{__cause__}, too.
    """

    def __init__(
        self,
        pid: int | None = None,
        exitCode: int | None = None,
        signal: int | None = None,
        residentKilobytes: int | None = None,
        isLikelyOutOfMemory: bool = False,
        stacks: str | None = None,
    ) -> None:
        super().__init__(pid, exitCode, signal, residentKilobytes, isLikelyOutOfMemory, stacks)
        self.pid = pid
        self.exitCode = exitCode
        self.signal = signal
        self.residentKilobytes = residentKilobytes
        self.isLikelyOutOfMemory = isLikelyOutOfMemory
        self.stacks = stacks
        if stacks is not None:
            self.__cause__ = RemoteTraceback(stacks)

    def __str__(self) -> str:
        return f"{self.death()}, while running this task"

    def death(self) -> str:
        """
        How the runner ended, as the beginning of a sentence.
        """
        text = "The worker's runner" if self.pid is None else f"Worker process {self.pid}"
        if self.signal is not None:
            text += f" was killed by signal {self.signal} ({signalName(self.signal)})"
        elif self.exitCode is not None:
            text += f" ended with exit code {self.exitCode}"
        else:
            text += " was lost"
        if self.isLikelyOutOfMemory:
            text += ", likely for lack of memory"
        if self.residentKilobytes is not None:
            text += f", last seen with {self.residentKilobytes} kB resident"
        return text


ProcessError = WorkerDied
"""AsynQueue 0.9's name for L{WorkerDied}."""


class ExecutorDied(WorkerDied):
    """
    An executor broke while it had the task that fails with this error. Whether the task had begun,
    and had any effect, is unknown.

    @ivar executor: what executor that was, for people.
    @ivar why: what it said of itself.
    """

    def __init__(self, executor: str, why: str) -> None:
        super().__init__()
        self.args = executor, why
        self.executor = executor
        self.why = why

    def death(self) -> str:
        """
        See L{WorkerDied}.
        """
        return f"The {self.executor} of the worker broke ({self.why})"


class WorkerRecycled(WorkerError):
    """
    Why a worker has let go of its runner, between two tasks, in order to start another. No task
    fails with this; observers hear of it.
    """


class WorkerDetached(WorkerError):
    """
    A worker was detached from its queue before it was done with a task, and the task was not given
    to another.
    """


class WorkerStartError(WorkerError):
    """
    A worker could not start its runner, after several tries.
    """


class ProtocolError(WorkerError):
    """
    What came over a channel is not what the protocol allows; the channel is given up.
    """


# Iteration ----------------------------------------------------------------------------------------


class IterationStopped(AsynQueueError):
    """
    An iteration was ended before its last item, because its worker stopped.
    """


def signalName(number: int) -> str:
    """
    @return: what a signal is called, or C{'unknown'}.
    """
    try:
        return signals.Signals(number).name
    except ValueError:
        return "unknown"


def withTraceback(exception: BaseException, text: Any) -> BaseException:
    """
    Hang a runner's traceback on an exception that came from there.

    @param exception: the exception, rebuilt on the near side.
    @param text: the traceback's text, or something false if there is none.
    @return: the same exception, its C{__cause__} a L{RemoteTraceback} if there is a text.
    """
    if text:
        # Around the type's own ways of setting attributes, which may refuse.
        object.__setattr__(exception, "__cause__", RemoteTraceback(text))
    return exception
