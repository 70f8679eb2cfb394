"""
Small programs with durable jobs, which are killed or go without something.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from asynqueue import DurableJob, ResizableDispatchQueue, Retry
from asynqueue.errors import StoreError
from asynqueue.rdq import SQLiteJobStore

WIDTH = 4


class Diary:
    """
    What happened, in the order in which it did, over all runs: in a file that a kill leaves whole.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, number: int) -> None:
        os.write(self._fd, f"{what} {number}\n".encode())


def makeQueue(reactor: Any, folder: Path, diary: Diary) -> ResizableDispatchQueue:
    def work(number: int) -> Deferred[None]:
        d: Deferred[None] = deferLater(reactor, 0.002)
        return d.addCallback(lambda _: diary.note("ran", number))

    return ResizableDispatchQueue(
        work,
        WIDTH,
        store=folder / "jobs.db",
        storedAs="work",
        retry=Retry(attempts=1_000_000),
        reactor=reactor,
    )


def listen(job: DurableJob, diary: Diary) -> None:
    job.watch().addCallback(lambda job: diary.note("done", job.jobarg))


async def busy(reactor: Any, folder: Path, first: int) -> None:
    """
    Put jobs, from a number on, until somebody ends this.
    """
    diary = Diary(folder)
    queue = makeQueue(reactor, folder, diary)
    for job in queue.pending():
        assert isinstance(job, DurableJob)
        listen(job, diary)
    number = first
    while True:
        await deferLater(reactor, 0.001)
        for _ in range(3):
            job = queue.put(number, number % 3, unique=str(number)).job
            assert isinstance(job, DurableJob)
            listen(job, diary)
            job.saved.addCallback(lambda job: diary.note("acknowledged", job.jobarg))
            number += 1


async def drain(reactor: Any, folder: Path, first: int) -> None:
    """
    Do what is left.
    """
    diary = Diary(folder)
    queue = makeQueue(reactor, folder, diary)
    while queue.size() != (0, 0):
        await deferLater(reactor, 0.01)
    left = await queue.deadLetters()
    await queue.stop()
    print(len(left))  # noqa: T201


async def full(reactor: Any, folder: Path, first: int) -> None:
    """
    Have no room for a larger file, for a while.
    """
    diary = Diary(folder)
    queue = makeQueue(reactor, folder, diary)
    queue.setWidth(0)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    kept = failed = 0
    for number in range(40):
        try:
            job = queue.put("x" * 10_000 + str(number)).job
            assert isinstance(job, DurableJob)
            await job.saved
            kept += 1
        except StoreError:
            failed += 1
    inLine = queue.size().pending
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    d = queue.put(7, priority=-1)
    queue.setWidth(1)
    result = (await d).state
    while queue.size() != (0, 0):
        await deferLater(reactor, 0.01)
    await queue.stop()
    print(kept, failed, inLine, result)  # noqa: T201


async def hold(reactor: Any, folder: Path, first: int) -> None:
    """
    Hold a store, and let another queue of this process try to.
    """
    queue = makeQueue(reactor, folder, Diary(folder))
    try:
        makeQueue(reactor, folder, Diary(folder))
    except StoreError as error:
        print(type(error).__name__, flush=True)  # noqa: T201
    await deferLater(reactor, 60)
    await queue.stop()


def fork(folder: Path) -> None:
    """
    Have a child process use a store and end; put a job afterwards, and die.
    """
    from asynqueue._dispatch.stores import END, INSERT
    from asynqueue.rdq import StoredJob

    store = SQLiteJobStore(folder / "jobs.db")
    store.open()
    store.apply([(INSERT, StoredJob(1, "work", "1", 0, 0.0))])
    child = os.fork()
    if not child:
        try:
            store.apply([(END, 1)])
        except StoreError as error:
            print(error, flush=True)  # noqa: T201
        store.close()
        sys.exit()
    os.waitpid(child, 0)
    store.apply([(INSERT, StoredJob(2, "work", "2", 0, 0.0))])
    os.kill(os.getpid(), 9)


async def forkQueue(reactor: Any, folder: Path, first: int) -> None:
    """
    Have a child process put a job into a queue that was opened before.
    """
    queue = makeQueue(reactor, folder, Diary(folder))
    child = os.fork()
    if not child:
        queue.put(1).addErrback(lambda failure: print(failure.value, flush=True))  # noqa: T201
        os._exit(0)
    os.waitpid(child, 0)
    await queue.stop()


PROGRAMS: dict[str, Callable[..., Any]] = {
    "busy": busy,
    "drain": drain,
    "full": full,
    "hold": hold,
    "forkQueue": forkQueue,
}


def main(name: str, folder: str, number: str = "0") -> None:
    """
    Run one of them.

    @param number: the number of the first job that the program is to put.
    """
    if name == "fork":
        fork(Path(folder))
    else:
        react(PROGRAMS[name], (Path(folder), int(number)))
