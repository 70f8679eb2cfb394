"""
The interfaces that asynqueue's parts meet each other through.
"""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface


class IWorker(Interface):
    """
    Accepts tasks and runs them somewhere. These six members are all that a worker of your own
    needs.

    Every worker is qualified for tasks of the series C{None}; its two lists name the others.
    """

    cQualified: list[Any] = Attribute(
        "The series that every instance of the class is qualified for: a list."
    )

    iQualified: list[Any] = Attribute(
        "The series that this instance is qualified for besides: a list."
    )

    def setResignator(callableObject: Any) -> None:
        """
        Take a callable, without arguments, to be called if the worker can work no more (its
        connection is lost, say). The queue then detaches it and gives what it had left to others.
        """

    def run(task: Any) -> Any:
        """
        Run a task: C{task.callTuple} is the function, its arguments and its keywords; end it with
        C{task.callback(result)} or C{task.errback(failure)}, or leave it to be given back by
        L{crash}.

        @return: a Deferred that fires when the worker can be given another task. It is not to fail.
        """

    def stop() -> Any:
        """
        Stop gracefully: finish what was given, take no more.

        @return: a Deferred that fires when all is done and nothing of the worker is left running.
        """

    def crash() -> list[Any]:
        """
        Stop rudely and at once.

        @return: the tasks that were given and not ended.
        """


class IPoolWorker(IWorker):
    """
    A worker as the pool of a queue sees it. The workers with a runner provide this. A worker of
    your own needs only the six members of L{IWorker}: it gets an adapter when it is attached.

    What happens to the tasks given to L{runMany} is said with events, which are data (see
    C{asynqueue._workers.events}).
    """

    capacity: Any = Attribute("What the worker can take: a L{Capacity<asynqueue.tasks.Capacity>}.")

    runsInOrder: bool = Attribute(
        "Whether tasks that were given later always run after those that were given before."
    )

    makeCheck: Any = Attribute(
        """
        Makes an object whose C{refusal(task)} returns, at small cost, the error that the task would
        fail with because it cannot be sent to this worker, or C{None} if it finds nothing wrong.
        C{None} if there is nothing to find out. A queue makes one such object for all workers with
        an equal C{makeCheck}, and asks it about tasks that have to wait. It does not ask about a
        task whose arguments are all plain (numbers, strings, C{None}) and whose function is that of
        the last task with which nothing was wrong.
        """
    )

    def setListener(listener: Any) -> None:
        """
        Take a callable that hears, from now on, each list of events as it happens. The callable may
        call this worker.
        """

    def runMany(tasks: list[Any]) -> list[Any]:
        """
        Run some tasks, in this order.

        @return: events of what came of them at once, for tasks that cannot be sent. The listener
            does not hear of these.
        @raise StateError: if the worker is stopping or has stopped. It has none of the tasks then.
        """

    def cancel(task: Any) -> None:
        """
        Stop the run of a task that has been ended here and is no longer wanted, if it can be
        stopped. This may cost the runner, but no other task.
        """


class IObserver(Interface):
    """
    Hears what happens to a queue's tasks and workers. Any callable will do, declared or not.
    """

    def __call__(event: Any) -> Any:
        """
        Something has happened.

        The queue calls this in the reactor's thread, with the events in their order. Its own state
        is up to date by then; a task's Deferred, or a worker's, fires after this. (Of what an
        observer itself causes, all hear once they have heard what it was told: such a Deferred may
        fire before.) An observer may ask anything of the queue. If it raises, that is logged, and
        the others still hear.

        @param event: an L{Event<asynqueue._queue.observers.Event>}.
        """


class IChannel(Interface):
    """
    Carries messages between a worker and one runner. It is used once.
    """

    pid: int | None = Attribute("The process ID of the runner, where it has one.")

    isMortal: bool = Attribute(
        """
        Whether L{terminate} and L{kill} end the code that runs in the runner. If they do not, a
        call that is not wanted goes on, and nobody waits for it.
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

        @param receiver: gets C{received(messages)} for what comes, in order, and C{lost(reason)}
            once, when nothing more can come, with a L{WorkerDied<asynqueue.errors.WorkerDied>} or
            L{WorkerStartError<asynqueue.errors.WorkerStartError>}. Neither is called from within
            L{open}.
        @raise WorkerStartError: if it cannot be started.
        """

    def send(messages: list[Any]) -> None:
        """
        Send messages, in order. Never blocks: what cannot leave now, leaves later.

        @raise PayloadTooLarge: if they are over the channel's limit. Nothing was sent.
        """

    def nudge() -> None:
        """
        Have the runner look at its messages even though a task is running. Not every channel can.
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
        @return: the runner's resident memory, in kilobytes, or C{None} if that is not known.
        """


class IJobStore(Interface):
    """
    Where jobs live between runs. Its methods may block: they are called in a thread, one at a time,
    all in the same one.
    """

    name: str = Attribute("What it is called in messages to people: a path, say.")

    def open() -> list[Any]:
        """
        Open the store for this program alone.

        @return: all jobs in it, as L{StoredJob<asynqueue._dispatch.stores.StoredJob>}, in the order
            of their numbers.
        @raise StoreLocked: if somebody else has it open.
        @raise StoreCorrupt: if it makes no sense. It is not made anew.
        @raise StoreError: if it cannot be opened for another reason.
        """

    def highest() -> int:
        """
        @return: the highest number that a job in it ever had; 0 if there was none.
        """

    def apply(changes: list[Any]) -> None:
        """
        Make some changes, in this order: all of them, so that they survive whatever happens after
        this has returned; or, if it raises, none. A change of a job that is not in it has no
        effect.

        @param changes: tuples; what they look like stands in L{asynqueue._dispatch.stores}.
        @raise StoreError: if they could not be made.
        """

    def jobs(state: str) -> list[Any]:
        """
        @return: the jobs in a state, in the order of their numbers.
        """

    def close() -> None:
        """
        Close the store, for somebody else to open.
        """
