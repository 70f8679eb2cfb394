"""
The interfaces between the parts of asynqueue, and to workers, observers and stores of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from asynqueue._core.groups import Capacity
    from asynqueue._dispatch.stores import Change, StoredJob
    from asynqueue._observers import Event
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue._runner.messages import Message
    from asynqueue._workers.events import WorkerEvent
    from asynqueue._workers.picklability import CallCheck
    from asynqueue._workers.procinfo import RunnerFacts, Sight

JSONObject: TypeAlias = dict[str, Any]
"""An object as JSON expresses it, by the names of its members."""


class IWorker(Interface):
    """
    Accepts tasks and runs them somewhere. A worker of your own needs only these six members.

    Every worker is qualified for tasks of the series C{None}. Its two lists name the other series.
    """

    cQualified: list[Hashable] = Attribute(
        "A list of the series that every instance of the class is qualified for."
    )

    iQualified: list[Hashable] = Attribute(
        "A list of the series that this instance is qualified for as well."
    )

    def setResignator(callableObject: Callable[[], object]) -> None:
        """
        Set a callable that the worker calls, without arguments, if it can no longer work, as when
        it loses its connection. The queue then detaches the worker and gives the tasks that it had
        left to others.
        """

    def run(task: QueuedTask) -> Deferred[Any]:
        """
        Run a task.

        End the task with C{task.callback(result)} or C{task.errback(failure)}, or leave it
        unfinished, so that L{crash} returns it.

        @param task: the task. Its C{callTuple} is the function, its
            positional arguments and its keywords.
        @return: a Deferred that fires when the worker can take another task. It must not fail.
        """

    def stop() -> Deferred[Any]:
        """
        Stop gracefully: finish the tasks that were given, and take no more.

        @return: a Deferred that fires when the worker has stopped and nothing of it is left.
        """

    def crash() -> list[QueuedTask]:
        """
        Stop at once, without finishing anything.

        @return: the tasks that were given and have not ended.
        """


class IPoolWorker(IWorker):
    """
    A worker as the pool of a queue sees it. The workers with a runner provide this. A worker of
    your own needs only the six members of L{IWorker}, because it gets an adapter when it is
    attached.

    Events, which are data, say what happens to the tasks that were given to L{runMany}. See
    C{asynqueue._workers.events}.
    """

    capacity: Capacity = Attribute(
        "How many tasks the worker takes: a L{Capacity<asynqueue.tasks.Capacity>}."
    )

    runsInOrder: bool = Attribute(
        "Whether tasks that were given later always run after those that were given before."
    )

    makeCheck: Callable[[], CallCheck] | None = Attribute(
        """
        Makes an object whose C{refusal(task)} returns, at small cost, the error that the task would
        fail with because it cannot be sent to this worker, or C{None} if it finds nothing wrong.
        C{None} if the worker has no such check. A queue makes one such object for all workers with
        an equal C{makeCheck}, and asks it about tasks that have to wait. It does not ask about a
        task whose arguments are all plain (numbers, strings, C{None}) and whose function is that of
        the last task with which nothing was wrong.
        """
    )

    def setListener(listener: Callable[[list[WorkerEvent]], None]) -> None:
        """
        Set the callable that gets each list of events, from now on. The callable may call this
        worker.
        """

    def runMany(tasks: list[QueuedTask]) -> list[WorkerEvent]:
        """
        Run some tasks, in this order.

        @return: the events of tasks that ended at once because they cannot be sent. The listener
            does not get these.
        @raise StateError: if the worker is stopping or has stopped. It has none of the tasks then.
        """

    def cancel(task: QueuedTask) -> None:
        """
        Stop the run of a task that has been ended here and is no longer wanted, if it can be
        stopped. This may cost the runner, but no other task.
        """

    def terminate(task: QueuedTask) -> None:
        """
        Kill the runner at once, because the task that is running in it is to be ended.

        @raise WorkerError: if the worker has no process that could be killed, or something else is
            running in it. Nothing was done then.
        """

    def lookAt(task: QueuedTask) -> Deferred[Sight] | None:
        """
        Look at the run of a task that is about to be given up, without harm to it.

        @return: a Deferred that fires soon, within a fraction of a second at the most, with a
            L{Sight<asynqueue._workers.procinfo.Sight>}. It does not fail. C{None} if there is
            nothing to be seen.
        """

    def facts() -> RunnerFacts:
        """
        Return what the worker can tell of its runner, for people.
        """

    def stacks() -> Deferred[str]:
        """
        Ask what the runner is doing.

        @return: a Deferred that fires with the Python stacks of the runner's threads, as text for
            people, or with a sentence that says why they cannot be told. It does not fail.
        """

    def recycle() -> bool:
        """
        Replace the runner by a new one when it has ended the tasks that it has.

        @return: whether that was begun. It is not if the worker has no runner that it could
            replace, or is about to replace it already.
        """


class IObserver(Interface):
    """
    Observes the tasks and workers of a queue. Any callable will do, whether or not it is declared
    to provide this interface.
    """

    def __call__(event: Event) -> object:
        """
        Handle one event.

        The queue calls this in the reactor's thread, with the events in their order. The queue's
        own state is up to date by then. The Deferred of the task, the worker
        or the job fires after this.

        An observer may call any method of the queue. The events that it causes that way come to
        all observers after the present event, so the Deferred of such a task may fire before its
        event. If an observer raises, the exception is logged and the other observers are called.

        @param event: an L{Event<asynqueue._observers.Event>}.
        @return: anything. It is not used.
        """


class ITracer(IObserver):
    """
    An observer that lets something travel with the tasks of a queue. Add it to the queue with
    C{addObserver}.
    """

    def capture() -> Iterable[tuple[str, object]]:
        """
        Take what is to travel from here with calls that are put into the queue later, as those of
        C{map}.

        @return: pairs of a name and a value, as they stand in a task's C{context}. The values must
            be picklable where the calls must be.
        """

    def begins(event: Event) -> None:
        """
        Handle a QUEUED or a STARTED when it happens: the task is not in the queue yet, or the
        worker does not have it yet. The C{context} of the task or the job may be changed here,
        though not by the STARTED of an update. This must not call the queue.

        The tracer gets the event once more, as all observers do, when the queue's own state is up
        to date.

        @param event: an L{Event<asynqueue._observers.Event>}.
        """


class IAdministered(Interface):
    """
    A queue as those who see and steer it from outside find it. L{asynqueue.admin} asks it.
    """

    name: str = Attribute("The queue's name in requests. It may be changed once, to be unique.")

    kind: str = Attribute("What kind of queue it is, for people.")

    isReadOnly: bool = Attribute("Whether it can only be looked at.")

    verbs: Mapping[str, Callable[..., object]] = Attribute(
        """
        What can be asked of this queue, by the verbs of L{asynqueue.admin.api}. Each takes the
        verb's parameters as keywords, and returns what JSON can express, or a Deferred of that.
        """
    )

    def summary() -> JSONObject:
        """
        Return the facts about the queue that cost little, as JSON can express them.
        """

    def observe(isWatched: bool) -> None:
        """
        Begin or cease to take note of what ends in the queue. Nothing is to be spent on that while
        nobody looks.
        """

    def forget() -> None:
        """
        Take note of nothing any more, because the queue is not to be seen any more.
        """


class IChannel(Interface):
    """
    Carries messages between a worker and one runner. A channel serves one runner only.
    """

    pid: int | None = Attribute("The process ID of the runner; C{None} if it has none.")

    isMortal: bool = Attribute(
        """
        Whether L{terminate} and L{kill} end the code that runs in the runner. If they do not, a
        call that is no longer wanted goes on, and the worker does not wait for it.
        """
    )

    lastBegun: int | None = Attribute(
        """
        The number of the last call that the runner began; C{None} if the channel cannot tell.
        """
    )

    def open(receiver: Any) -> None:
        """
        Start the runner, without waiting for it.

        @param receiver: an object whose C{received(messages)} is called with the messages that
            come, in order, and whose C{lost(reason)} is called once, when no more messages can
            come, with a L{WorkerDied<asynqueue.errors.WorkerDied>} or a
            L{WorkerStartError<asynqueue.errors.WorkerStartError>}. Neither is called before
            C{open} has returned.
        @raise WorkerStartError: if the runner cannot be started.
        """

    def send(messages: list[Message]) -> None:
        """
        Send messages, in order. This never blocks. Messages that cannot leave now leave later.

        @raise PayloadTooLarge: if they are over the channel's limit. None of them was sent.
        """

    def nudge() -> None:
        """
        Have the runner look at its messages even though a task is running. Some channels cannot do
        this, and do nothing.
        """

    def dump() -> None:
        """
        Have the runner's stacks written down, even if it is stuck in code that is not Python. Some
        channels cannot do this, and do nothing.
        """

    def stacks() -> str | None:
        """
        Return the stacks that L{dump} has had written, which takes some milliseconds, or those that
        can be read at once; C{None} if there are none.
        """

    def terminate() -> None:
        """
        Ask the runner to end, whatever it is doing.
        """

    def kill() -> None:
        """
        End the runner now.
        """

    def residentKilobytes() -> int | None:
        """
        Return the runner's resident memory, in kilobytes, or C{None} if that is not known.
        """


class IJobStore(Interface):
    """
    Keeps jobs between the runs of a program. Its methods may block. They are called one at a time,
    all in the same thread, which is not the reactor's.
    """

    name: str = Attribute("The store's name in messages to people, such as its path.")

    def open() -> list[StoredJob]:
        """
        Open the store for this program alone.

        @return: all jobs in the store, as L{StoredJob<asynqueue._dispatch.stores.StoredJob>}, in
            the order of their numbers.
        @raise StoreLocked: if another program has the store open.
        @raise StoreCorrupt: if its content makes no sense. A corrupt store is left as it is.
        @raise StoreError: if it cannot be opened for another reason.
        """

    def highest() -> int:
        """
        Return the highest number that a job in the store ever had; 0 if there was none.
        """

    def apply(changes: list[Change]) -> None:
        """
        Make some changes, in this order. When this has returned, all of them are durable. If this
        raises, none of them was made. A change of a job that is not in the store has no effect.

        @param changes: tuples, which L{asynqueue._dispatch.stores} describes.
        @raise StoreError: if the changes could not be made.
        """

    def jobs(state: str) -> list[StoredJob]:
        """
        Return the jobs in a state, in the order of their numbers.
        """

    def close() -> None:
        """
        Close the store, so that another program can open it.
        """
