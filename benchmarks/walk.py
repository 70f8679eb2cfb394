"""
Counts the functions and files of ours that one piece of work goes through, and prints the route.

Run it with C{make walk}, or C{python -m benchmarks.walk --help}. Three pieces of work are walked:

  - B{call}: one C{queue.call(add, 1, 2)} to an idle worker process that has run C{add} before,
    first until C{call} returns, then from the reactor's read of the answer until the reactor is
    idle again;
  - B{batch}: one batch of a stream, from the reactor's read until the reactor is idle again. The
    generator runs in the child, the consumer on the near side;
  - B{put}: one put into a durable dispatch queue whose width is used up, first until C{put}
    returns, then until its acknowledgement has fired and the reactor is idle again. The functions
    that the store's thread enters are counted apart.

A profile function hears of every function that is entered. Each entry counts, so a function that
is entered twice counts twice, and so does a generator that is resumed. Comprehensions do not count.
Only the functions of the package C{asynqueue} count. The functions of Twisted and of the standard
library are shown in the route, in parentheses, where ours call them or are called by them.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from asynqueue import ProcessQueue, ResizableDispatchQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import runInReactor
from benchmarks.tasks import add, yieldBatches

PACKAGE: Final = "asynqueue"

WARM_UP: Final = 50
"""How often the work is done before it is walked."""

WALKS: Final = 5
"""How often the work is walked. The walk of median length is the one that is reported."""

QUIET_TURNS: Final = 3
"""After so many turns of the reactor in which no function of ours was entered, it is idle."""

BATCH: Final = 100
"""How many items the walked batch has."""

PAUSE: Final = 0.02
"""Seconds between two batches. It is longer than a batch may be in the making, so each batch ends
with the item after the pause."""

_NO_FUNCTIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<module>"}


@dataclass(eq=False)
class Entry:
    """
    A function that was entered.

    @ivar module: the name of its module.
    @ivar file: its module's file.
    @ivar name: its qualified name.
    @ivar inner: the functions that it entered.
    """

    module: str
    file: str
    name: str
    inner: list[Entry] = field(default_factory=list)

    @property
    def isOurs(self) -> bool:
        """
        Whether it is a function of the package that is measured.
        """
        isFunction = self.name.rpartition(".")[2] not in _NO_FUNCTIONS
        return isFunction and (self.module + ".").startswith(PACKAGE + ".")

    @property
    def isProgram(self) -> bool:
        """
        Whether it is a function of this benchmark.
        """
        return self.module == __name__

    @property
    def origin(self) -> str:
        """
        The group in which functions that are not ours are counted.
        """
        top = self.module.partition(".")[0]
        return "comprehensions" if top == PACKAGE else f"{top}'s"

    def walk(self) -> Iterator[Entry]:
        """
        Yield this entry and all that it led to, in their order.
        """
        yield self
        for entry in self.inner:
            yield from entry.walk()


class Recorder:
    """
    Records the functions that are entered, by thread, between L{start} and L{stop}.

    @ivar ours: how many functions of ours were entered, in all threads.
    """

    def __init__(self) -> None:
        self.ours = 0
        self._isOn = False
        self._roots: dict[int, list[Entry]] = {}
        self._stacks: dict[int, list[Entry]] = {}
        # Threads that are started from here on report to the recorder, whether it is on or not.
        threading.setprofile(self._note)

    def start(self) -> None:
        """
        Forget what was recorded, and record from here on.
        """
        self._roots, self._stacks = {}, {}
        self._isOn = True
        sys.setprofile(self._note)

    def stop(self) -> None:
        """
        Record no more.
        """
        sys.setprofile(None)
        self._isOn = False

    def position(self) -> int:
        """
        Return how many outermost functions this thread has entered.
        """
        return len(self._roots.get(threading.get_ident(), ()))

    def take(self) -> tuple[list[Entry], list[Entry]]:
        """
        Return the outermost functions that this thread entered, and those of the other threads.
        """
        here = threading.get_ident()
        others = [root for key, roots in self._roots.items() if key != here for root in roots]
        return self._roots.get(here, []), others

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if not self._isOn or event not in {"call", "return"}:
            return
        thread = threading.get_ident()
        stack = self._stacks.setdefault(thread, [])
        if event == "return":
            # A function that was entered before the recorder was started is on no stack.
            if stack:
                stack.pop()
            return
        names = frame.f_globals
        entry = Entry(
            names.get("__name__", "?"),
            names.get("__file__", "?"),
            frame.f_code.co_qualname,
        )
        siblings = stack[-1].inner if stack else self._roots.setdefault(thread, [])
        siblings.append(entry)
        stack.append(entry)
        self.ours += entry.isOurs


def _pruned(entries: list[Entry], areCalledByOurs: bool = False) -> list[Entry]:
    """
    Leave out what neither calls a function of ours nor is called by one, and what the program does
    when it is called back.
    """
    kept = []
    for entry in entries:
        isCalledByOurs = entry.isOurs or (areCalledByOurs and not entry.isProgram)
        entry.inner = _pruned(entry.inner, isCalledByOurs)
        if areCalledByOurs or entry.isOurs or entry.inner:
            kept.append(entry)
    return kept


@dataclass
class Part:
    """
    One part of a walk.

    @ivar title: what happens in it.
    @ivar entries: the outermost functions that were entered.
    @ivar isApart: whether another thread entered them, so that they are counted apart.
    """

    title: str
    entries: list[Entry]
    isApart: bool = False

    def counts(self) -> Counter[str]:
        """
        Return how many functions of ours were entered, by file.
        """
        found = (entry for root in self.entries for entry in root.walk() if entry.isOurs)
        return Counter(_shortened(entry) for entry in found)

    def othersCounts(self) -> Counter[str]:
        """
        Return how many functions of others were entered, by their origin.
        """
        found = (entry for root in self.entries for entry in root.walk())
        return Counter(entry.origin for entry in found if not (entry.isOurs or entry.isProgram))

    def route(self) -> Iterator[str]:
        """
        Yield the lines of the call tree.
        """
        yield from _routeOf(self.entries, 1)


def _routeOf(entries: Iterable[Entry], depth: int) -> Iterator[str]:
    for (text, _), group in groupby(entries, lambda entry: (_told(entry), _isDetailed(entry))):
        alike = list(group)
        if not _isDetailed(alike[0]):
            times = f" ({len(alike)} times)" if len(alike) > 1 else ""
            yield "  " * depth + text + times
            continue
        for entry in alike:
            yield "  " * depth + text
            yield from _routeOf(entry.inner, depth + 1)


def _isDetailed(entry: Entry) -> bool:
    """
    Tell whether an entry always has its own line in the route, even beside others like it.
    """
    return entry.isOurs or bool(entry.inner)


def _told(entry: Entry) -> str:
    if entry.isProgram:
        return f"[the program: {entry.name}]"
    text = f"{_shortened(entry)}: {entry.name}"
    return text if entry.isOurs else f"({text})"


def _shortened(entry: Entry) -> str:
    """
    The file's path as its package sees it.
    """
    top, *_ = entry.module.split(".")
    parts = Path(entry.file).parts
    if top not in parts:
        return parts[-1]
    place = len(parts) - 1 - parts[::-1].index(top)
    return "/".join(parts[place + (top == PACKAGE) :])


@dataclass
class Walk:
    """
    The walk of one piece of work.
    """

    name: str
    parts: list[Part]

    def total(self, isApart: bool = False) -> Counter[str]:
        """
        Return how many functions of ours were entered, by file.

        @param isApart: whether to count those that another thread entered, and those alone.
        """
        counts: Counter[str] = Counter()
        for part in self.parts:
            if part.isApart == isApart:
                counts += part.counts()
        return counts


Titles = tuple[str, str, str]


class Walker:
    """
    Walks pieces of work in a running reactor.
    """

    def __init__(self, name: str, titles: Titles) -> None:
        """
        @param name: of the work.
        @param titles: the titles of the part until the work is begun, of the part after it, and of
            the part in other threads.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self._recorder = Recorder()
        self._name = name
        self._titles = titles

    async def walk(self, begin: Callable[[], Deferred[Any]]) -> Walk:
        """
        Walk a piece of work, C{WALKS} times.

        @param begin: begins the work. Its Deferred fires when the work is done.
        @return: the walk of median length.
        """
        walks = [await self._walkOnce(begin) for _ in range(WALKS)]
        walks.sort(key=lambda walk: (walk.total().total(), len(walk.total())))
        return walks[WALKS // 2]

    async def _walkOnce(self, begin: Callable[[], Deferred[Any]]) -> Walk:
        recorder = self._recorder
        gc.collect()
        gc.disable()
        recorder.start()
        await self._untilIdle()
        recorder.start()
        d = begin()
        begun = recorder.position()
        await _fired(d)
        await self._untilIdle()
        recorder.stop()
        gc.enable()
        here, others = recorder.take()
        parts = (here[:begun], here[begun:], others)
        return Walk(
            self._name,
            [
                Part(title, pruned, isApart=entries is others)
                for title, entries in zip(self._titles, parts, strict=True)
                if (pruned := _pruned(entries))
            ],
        )

    async def _untilIdle(self) -> None:
        quiet, entered = 0, self._recorder.ours
        while quiet < QUIET_TURNS:
            await self.wait(0)
            now = self._recorder.ours
            quiet = quiet + 1 if now == entered else 0
            entered = now

    def wait(self, seconds: float) -> Deferred[None]:
        """
        Return a Deferred that fires after so many seconds.
        """
        d: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, d.callback, None)
        return d


def _fired(d: Deferred[Any]) -> Deferred[None]:
    """
    Return a Deferred that fires when another one has, and leaves that one's result where it is.
    """
    fired: Deferred[None] = Deferred()

    def tell(result: Any) -> Any:
        fired.callback(None)
        return result

    d.addBoth(tell)
    return fired


# The three pieces of work -------------------------------------------------------------------------


_IN_THREADS: Final = "in other threads"


async def walkCall() -> Walk:
    """
    Walk one call to an idle process.
    """
    walker = Walker(
        "call",
        ("until call() has returned", "from the answer until the reactor is idle", _IN_THREADS),
    )
    async with ProcessQueue(1) as queue:
        for _ in range(WARM_UP):
            await queue.call(add, 1, 2)
        return await walker.walk(lambda: queue.call(add, 1, 2))


async def walkBatch() -> Walk:
    """
    Walk one batch of a stream.
    """
    walker = Walker("batch", ("", "from the batch until the reactor is idle", _IN_THREADS))
    consumer = BatchConsumer()
    async with ProcessQueue(1) as queue:
        over = queue.call(yieldBatches, BATCH, PAUSE, consumer=consumer)
        over.addErrback(lambda failure: failure.trap(CancelledError))
        for _ in range(WARM_UP):
            await consumer.nextBatch()
        walk = await walker.walk(consumer.nextBatch)
        over.cancel()
        return walk


async def walkPut() -> Walk:
    """
    Walk one put into a durable queue, until it is acknowledged.
    """
    walker = Walker(
        "put",
        ("until put() has returned", "until the acknowledgement has fired", _IN_THREADS),
    )
    with TemporaryDirectory() as folder:
        queue = ResizableDispatchQueue(
            _neverEnding,
            1,
            store=Path(folder, "jobs.db"),
            storedAs="never ending",
            reactor=walker.reactor,
        )
        occupier: Any = queue.put("occupier").addErrback(lambda failure: None)

        def put() -> Deferred[Any]:
            job: Any = queue.put(1).addErrback(lambda failure: None)
            saved: Deferred[Any] = job.job.saved
            return saved

        for _ in range(WARM_UP):
            await put()
        walk = await walker.walk(put)
        await queue.stop(cancelUnderway=True)
        del occupier
        return walk


@implementer(IConsumer)
class BatchConsumer:
    """
    Counts the items of a stream, and tells when a batch of them is there.
    """

    def __init__(self) -> None:
        self._items = 0
        self._waiting: Deferred[None] | None = None

    def nextBatch(self) -> Deferred[None]:
        """
        Return a Deferred that fires with the last item of the next batch.
        """
        self._waiting = Deferred()
        return self._waiting

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Never pause the producer.
        """

    def unregisterProducer(self) -> None:
        """
        Do nothing.
        """

    def write(self, item: Any) -> None:
        """
        Take an item.
        """
        self._items += 1
        if self._items % BATCH == 0 and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)


def _neverEnding(_: Any) -> Deferred[None]:
    return Deferred()


WALKED: Final[dict[str, Callable[[], Coroutine[Deferred[Any], Any, Walk]]]] = {
    "call": walkCall,
    "batch": walkBatch,
    "put": walkPut,
}


# What is made of them -----------------------------------------------------------------------------


def walk(name: str) -> Walk:
    """
    Walk a piece of work, in a reactor that is started and stopped for it.

    @param name: C{"call"}, C{"batch"} or C{"put"}.
    """
    walks: list[Walk] = []

    async def work() -> float:
        walks.append(await WALKED[name]())
        return 0.0

    runInReactor(work)
    return walks[0]


def functions(name: str) -> float:
    """
    @return: how many functions of ours the reactor's thread enters.
    """
    return walk(name).total().total()


def files(name: str) -> float:
    """
    @return: in how many files these functions are.
    """
    return len(walk(name).total())


def describe(walked: Walk) -> dict[str, Any]:
    """
    @return: the counts and the routes, as JSON can say them.
    """
    return {
        "functions": walked.total().total(),
        "files": len(walked.total()),
        "threadFunctions": walked.total(isApart=True).total(),
        "byFile": dict(walked.total()),
        "parts": [
            {
                "title": part.title,
                "isApart": part.isApart,
                "byFile": dict(part.counts()),
                "others": dict(part.othersCounts()),
                "route": list(part.route()),
            }
            for part in walked.parts
        ],
    }


def layOut(walked: Walk) -> str:
    """
    @return: the counts and the routes, to be read.
    """
    total = walked.total()
    lines = [
        f"{walked.name.upper()}: {total.total()} functions of ours in {len(total)} files",
        "",
    ]
    for part in walked.parts:
        counts = part.counts()
        lines.append(f"{part.title}: {counts.total()} functions of ours in {len(counts)} files")
        others = part.othersCounts()
        if others:
            told = ", ".join(f"{count} {name}" for name, count in others.most_common())
            lines.append(f"(and {told})")
        lines += [*part.route(), ""]
    lines += [f"{count:6}  {file}" for file, count in total.most_common()]
    return "\n".join(lines)


def _row(label: str, function: Callable[[str], float], name: str, most: float | None) -> Row:
    return Row(
        f"the walk of {label}",
        "functions" if function is functions else "files",
        Contender(f"ours, {name}", function, arguments={"name": name}),
        None,
        None if most is None else Target(most, isLeast=False, isRatio=False),
    )


MEASURE: Final = Measure(
    "walk",
    (
        _row("one steady call, near side", functions, "call", 45),
        _row("one steady call, near side", files, "call", 10),
        _row("a stream's batch of 100 items, near side", functions, "batch", None),
        _row("one durable put, until acknowledged", functions, "put", None),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Walk, and print the routes.

    @param arguments: the command's. Default: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.walk",
        description="Count the functions and files that one piece of work goes through.",
    )
    parser.add_argument("work", nargs="?", choices=list(WALKED), help="what to walk (all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    if chosen.work is None:
        # Each walk has a new process, because a reactor cannot be started twice.
        for name in WALKED:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.walk", name, *["--json"] * chosen.json],
                check=True,
            )
        return
    walked = walk(chosen.work)
    print(json.dumps(describe(walked)) if chosen.json else layOut(walked) + "\n")


if __name__ == "__main__":
    main()
