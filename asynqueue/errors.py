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
    The root of all errors of asynqueue.
    """


class ExtraMissing(AsynQueueError, ImportError):
    """
    Something needs packages that an extra of asynqueue installs, and they are not there.

    @ivar what: what needs them.
    @ivar extra: the name of the extra.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)
        self.what = what
        self.extra = extra

    def __str__(self) -> str:
        return (
            f"{self.what} needs packages that are not installed: pip install "
            f"'asynqueue2[{self.extra}]'"
        )


class StateError(AsynQueueError):
    """
    An object was asked for something that its state does not allow. It is unchanged.

    @ivar subject: the object.
    @ivar state: its state.
    @ivar event: what it was asked for.
    """

    def __init__(self, subject: object, state: str, event: str) -> None:
        super().__init__(subject, state, event)
        self.subject = subject
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"{self.subject} is {self.state}: '{self.event}' is not allowed now"


class WrongEventLoop(StateError, RuntimeError):
    """
    A queue was used where its event loop does not run.
    """

    def __str__(self) -> str:
        return f"{self.subject} {self.state}: {self.event}"


# The queue ----------------------------------------------------------------------------------------


class QueueStopped(AsynQueueError):
    """
    The queue is shutting down or has shut down. It refuses new calls with this error, and a task
    that it can no longer run fails with it.
    """


QueueRunError = QueueStopped
"""AsynQueue 0.9's name for L{QueueStopped}."""


class ImplementationError(AsynQueueError):
    """
    An object does not provide the interface that is needed.
    """


class InvariantError(ImplementationError):
    """
    An attribute of a worker does not have the form that C{IWorker} demands.
    """


class NotReadyError(AsynQueueError):
    """
    You asked for the next item before the last one was there.
    """


class AdminError(AsynQueueError):
    """
    A queue cannot be seen or steered from outside, or a program refused what it was asked for.
    """


# Jobs ---------------------------------------------------------------------------------------------


class JobError(AsynQueueError):
    """
    A job could not be put, kept or run.

    @ivar job: the job, or C{None}.
    """

    def __init__(self, message: str, job: Any = None) -> None:
        super().__init__(message)
        self.job = job


class JobNotDispatched(JobError, QueueStopped):
    """
    The queue was stopped before it had begun the job.
    """


class QueueFull(AsynQueueError):
    """
    A queue refuses a job or a call, because as many are pending as its C{size} or C{maxPending}
    allows. Its C{whenReady} tells when there is room.
    """


class JobNotStorable(JobError):
    """
    A job's argument cannot be encoded for the store.
    """


class JobExists(JobError):
    """
    A job was put under a unique key, and another job stands under that key.

    @ivar job: the other job.
    """


class StoreError(AsynQueueError):
    """
    A store of jobs could not be opened, read or written.
    """


class StoreLocked(StoreError):
    """
    A store of jobs is in use by another queue or another process. Only one at a time can use it.
    """


class StoreCorrupt(StoreError):
    """
    The content of a store of jobs is damaged. No new store is made in its place.
    """


# Tasks --------------------------------------------------------------------------------------------


class TaskError(AsynQueueError):
    """
    One task failed for a reason that is not its function's own exception.
    """


class TaskGivenUp(TaskError):
    """
    A task was given up while it was underway.

    @ivar stacks: what its worker was doing at that moment: the Python stacks of its threads as
        text. C{None} if that could not be told. They are in the C{__cause__}, too.
    @ivar residentKilobytes: the resident memory of the worker's process at that moment, or C{None}
        if that is not known.
    """

    stacks: str | None = None
    residentKilobytes: int | None = None

    def lastSeen(self, stacks: str | None, residentKilobytes: int | None) -> None:
        """
        Take note of what the worker was doing when the task was given up.

        @param stacks: the Python stacks of its threads, or C{None}.
        @param residentKilobytes: the resident memory of its process, or C{None}.
        """
        self.stacks = stacks
        self.residentKilobytes = residentKilobytes
        if stacks is not None:
            memory = "" if residentKilobytes is None else f" ({residentKilobytes} kB resident)"
            self.__cause__ = RemoteTraceback(f"The worker was here{memory}:\n{stacks}")


class TaskTerminated(TaskGivenUp):
    """
    Somebody had the process killed in which the task was running, over the program's admin socket.
    The task is not run again.
    """


class TaskTimeout(TaskGivenUp, builtins.TimeoutError):
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
    A task that may be run several times was begun as often as it may be, and its worker died each
    time. The last death is the C{__cause__}.
    """


class ReactorTouched(TaskError):
    """
    A task in a thread was about to do what only the reactor's own thread may do. It was stopped
    before that. Only debug mode notices this.

    @ivar task: the name of the task's function.
    @ivar method: the method that it was about to call.
    @ivar place: the file and line of that call; C{None} if the method was the task's own function.
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
            "the reactor's own thread may do: call reactor.callFromThread instead or, to wait for "
            "the result, twisted.internet.threads.blockingCallFromThread"
        )


class CallNotPicklable(TaskError):
    """
    A call cannot be sent to a worker, because its function or one of its arguments cannot be
    pickled. The call was not run.
    """


class CallNotRebuilt(TaskError):
    """
    A call reached its worker, but its function or an argument could not be rebuilt from the pickle
    there.
    """


class ResultNotPicklable(TaskError):
    """
    A task ran, but its result or an item that it yielded cannot be pickled, and so cannot come
    back.
    """


class ResultNotRebuilt(TaskError):
    """
    A task's result came back, but could not be rebuilt from its pickle on the near side.
    """


class PayloadTooLarge(TaskError):
    """
    A message is larger than the channel allows.
    """


class RemoteTraceback(Exception):
    """
    The text of a traceback from a worker. It is the C{__cause__} of the exception that came from
    there.
    """

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class RemoteError(TaskError):
    """
    A task raised an exception that cannot be rebuilt on the near side with its own type.

    @ivar typeName: the qualified name of the exception's type.
    @ivar text: the exception's text.
    @ivar traceback: the text of the traceback.
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
    A worker failed, rather than a task's own code.
    """


ThreadError = WorkerError
"""AsynQueue 0.9's name for the error of a worker that is a thread. A function's own exception comes
back as it is."""


class WorkerDied(WorkerError):
    """
    A worker's process or connection ended while it ran the task that fails with this error. It is
    unknown whether the task had any effect.

    @ivar pid: the ID of the process; C{None} if there was none.
    @ivar exitCode: its exit code; C{None} if a signal killed it, or if nothing is known.
    @ivar signal: the number of the signal that killed it, or C{None}.
    @ivar residentKilobytes: its resident memory when it was last looked at, or C{None}. That is
        once a second at most, and seldom during a long call.
    @ivar isLikelyOutOfMemory: whether the kernel has killed some process for lack of memory between
        that look and this one's death by SIGKILL. Only Linux tells.
    @ivar stacks: the stacks that C{faulthandler} wrote when the process crashed, or C{None}. They
        are in the C{__cause__}, too.
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
        Tell how it ended.

        @return: the beginning of a sentence.
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

    def ofCall(self, number: int) -> WorkerDied:
        """
        Get the error of one call that was lost.

        @param number: the call's number on its channel.
        @return: this error, if it says the same of every call.
        """
        return self


ProcessError = WorkerDied
"""AsynQueue 0.9's name for L{WorkerDied}."""


class ExecutorDied(WorkerDied):
    """
    An executor broke while it had the task that fails with this error. It is unknown whether the
    task had begun and had any effect.

    @ivar executor: the name of the executor's type.
    @ivar why: the executor's own error, as a text.
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


class DaskWorkerDied(WorkerDied):
    """
    A Dask worker died, or Dask lost what it did, while it had the task that fails with this error.

    @ivar why: what happened, as a text.
    @ivar begun: whether the call had begun there: C{'yes'} or C{'unknown'}. A call that is known
        not to have begun goes back to the queue instead.
    """

    def __init__(self, why: str, begun: str = "unknown") -> None:
        super().__init__()
        self.args = why, begun
        self.why = why
        self.begun = begun

    def __str__(self) -> str:
        return f"{self.death()}. Had this call begun: {self.begun}"

    def death(self) -> str:
        """
        See L{WorkerDied}.
        """
        return f"The Dask cluster lost the call ({self.why})"


class ConnectionLost(WorkerDied):
    """
    The connection to a server was lost for longer than the server keeps a session, or the server
    has lost the session, while it may have run the task that fails with this error.

    @ivar address: the server's address.
    @ivar why: what happened, as a text.
    @ivar accepted: whether the call had arrived at the server: C{'yes'}, C{'no'} or C{'unknown'}.
    @ivar begun: whether the call had begun there: C{'yes'}, C{'no'} or C{'unknown'}.
    """

    def __init__(
        self,
        address: str,
        why: str,
        accepted: str = "unknown",
        begun: str = "unknown",
        lastAccepted: int = 0,
        lastBegun: int = 0,
    ) -> None:
        """
        @param address: the server's address.
        @param why: what happened, as a text.
        @param accepted: whether the call had arrived at the server.
        @param begun: whether the call had begun there.
        @param lastAccepted: the number of the last call that is known to have arrived.
        @param lastBegun: the number of the last call that is known to have begun.
        """
        super().__init__()
        self.args = address, why, accepted, begun, lastAccepted, lastBegun
        self.address = address
        self.why = why
        self.accepted = accepted
        self.begun = begun
        self._lastAccepted = lastAccepted
        self._lastBegun = lastBegun

    def ofCall(self, number: int) -> ConnectionLost:
        """
        Get the error of one call, which says what is known of that call.
        """
        return ConnectionLost(
            self.address,
            self.why,
            "yes" if number <= max(self._lastAccepted, self._lastBegun) else "unknown",
            "yes" if number <= self._lastBegun else "unknown",
        )

    def __str__(self) -> str:
        return (
            f"{self.death()}. Was this call accepted there: {self.accepted}. "
            f"Had it begun: {self.begun}"
        )

    def death(self) -> str:
        """
        See L{WorkerDied}.
        """
        return f"The session with the server at {self.address} was lost: {self.why}"


class WorkerRecycled(WorkerError):
    """
    A worker replaces its process between two tasks, because the process has run as many tasks, or
    uses as much memory, as it may. No task fails with this; observers hear of it.
    """


class WorkerDetached(WorkerError):
    """
    A worker was detached from its queue before it had ended a task, and the task was not given to
    another worker.
    """


class WorkerStartError(WorkerError):
    """
    A worker could not start its process, thread or connection, after several tries.
    """


class ConnectionRefused(WorkerStartError):
    """
    A server and this program do not fit together: another key, another version, a certificate that
    is refused, or something else that trying again does not mend. The worker gives up.
    """


class ServerBusy(WorkerStartError):
    """
    A server has as many clients as it may have, or is shutting down. The worker tries again.
    """


class ProtocolError(WorkerError):
    """
    A message came over a channel that the protocol does not allow. The channel is closed.
    """


# Iteration ----------------------------------------------------------------------------------------


class IterationStopped(AsynQueueError):
    """
    An iteration ended before its last item, because its worker stopped.
    """


# Text ---------------------------------------------------------------------------------------------


def typeName(kind: type) -> str:
    """
    Name a type for people.

    @return: the qualified name, with its module unless that is C{builtins} or C{__main__}.
    """
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def textOf(error: BaseException | None) -> str:
    """
    Get the text of an exception. This never raises.

    @return: what C{str} makes of the exception, or a note that it cannot be printed.
    """
    try:
        # A plain string, even if __str__ returns one of another type.
        return str.__str__(str(error))
    except BaseException as unprintable:
        return f"<no text: {type(unprintable).__name__}>"


def signalName(number: int) -> str:
    """
    Name a signal.

    @return: for example C{'SIGTERM'}, or C{'unknown'}.
    """
    try:
        return signals.Signals(number).name
    except ValueError:
        return "unknown"


def withTraceback(exception: BaseException, text: Any) -> BaseException:
    """
    Attach a runner's traceback to an exception that came from there.

    @param exception: the exception, rebuilt on the near side.
    @param text: the text of the traceback, or something false if there is none.
    @return: the same exception. Its C{__cause__} is a L{RemoteTraceback} if there is a text.
    """
    if text:
        # The type may refuse attributes that are set in the usual way.
        object.__setattr__(exception, "__cause__", RemoteTraceback(text))
    return exception
