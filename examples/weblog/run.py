"""
The reading of logs on a process queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from threading import Event
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from asynqueue import (
    Deferator,
    DeferredTracker,
    IterationProducer,
    OrderedItemProducer,
    ProcessQueue,
    ThreadQueue,
)
from asynqueue.errors import WorkerDied
from examples.weblog.aggregate import Edges, Parsed
from examples.weblog.blocks import BLOCK_SIZE, Block, DataBlock
from examples.weblog.broadcast import Broadcast
from examples.weblog.errors import InputError, describeError
from examples.weblog.formats import detectFormat
from examples.weblog.inputs import Input, blocksOf, expandNames, openInput
from examples.weblog.settings import LineOptions, Settings
from examples.weblog.sinks import BlockTaker
from examples.weblog.summary import Summary
from examples.weblog.work import parseBlock, streamBlock

_UNDERWAY = 2
"""How many blocks there may be for each process between the cutting and the summing up."""

_PATIENCE = 1.0
_THREAD_PATIENCE = 0.2
"""How long processes, and the thread, may take to stop, in seconds. At the end they are idle; on an
interrupt they may be in the midst of something that nobody waits for any more, and the thread may
wait for a pipe."""

_ATTEMPTS = 2
"""How often a block is tried whose process died."""


class Watcher(Protocol):
    """
    An object that is told how far the reading has come.
    """

    def begin(self, total: int | None) -> None:
        """
        It begins.

        @param total: the bytes of all inputs; C{None} if nobody knows.
        """

    def advance(self, count: int) -> None:
        """
        Some more bytes are done.
        """


async def readLogs(
    names: Sequence[str],
    settings: Settings,
    watcher: Watcher,
    summary: Summary,
    sink: Any = None,
) -> None:
    """
    Read logs and sum them up. If it is cancelled, it reads nothing more, but parses what was read,
    so that the summary has all of that.

    @param names: names of files, or patterns of names.
    @param watcher: is told how far it has come.
    @param summary: what it all comes to, which is added to as the reading goes on. What could not
        be read is named there.
    @param sink: an C{IConsumer} of the records of interest, or C{None}. It gets them in order, some
        at a time, as lines of JSON, and may pause.
    """
    async with (
        ProcessQueue(settings.processes, timeout=_PATIENCE) as queue,
        ThreadQueue(1, timeout=_THREAD_PATIENCE) as threads,
    ):
        reading = Reading(queue, threads, settings, watcher, summary, sink)
        await reading.readUntilCancelled(names)


class Reading:
    """
    One reading of some logs.
    """

    def __init__(
        self,
        queue: Any,
        threads: Any,
        settings: Settings,
        watcher: Watcher,
        summary: Summary,
        sink: Any = None,
        blockSize: int = BLOCK_SIZE,
    ) -> None:
        """
        @param queue: runs the parsing: any C{TaskQueue}.
        @param threads: runs what blocks: a queue that streams what iterators yield.
        @param blockSize: how many bytes a block is to have.
        """
        self._queue = queue
        self._threads = threads
        self._settings = settings
        self._watcher = watcher
        self._summary = summary
        self._sink = sink
        self._blockSize = blockSize
        self._broadcast = Broadcast(queue)
        self._underway = DeferredTracker()
        # The thread that reads looks at this.
        self._isEnough = Event()

    async def readUntilCancelled(self, names: Sequence[str]) -> None:
        """
        Do what L{read} does. If this is cancelled, nothing more is read. What was read is parsed
        and summed up before the cancellation takes effect.

        @raise Exception: if there is a fault in what runs the parsing, rather than in a log.
        """
        work = Deferred.fromCoroutine(self.read(names))
        # Cancelling this one does not cancel the work.
        over: Deferred[None] = Deferred()

        def tellOver(result: Failure | None) -> Failure | None:
            if not over.called:
                over.callback(None)
            return result

        work.addBoth(tellOver)
        try:
            await over
        except CancelledError:
            self._isEnough.set()
            await work
            raise
        await work

    async def read(self, names: Sequence[str]) -> None:
        """
        Read them all, one after the other.

        @raise Exception: if there is a fault in what runs the parsing, rather than in a log.
        """
        self._summary.isPartial = True
        inputs = self._openAll(names)
        sizes = [source.size for source in inputs]
        known = [size for size in sizes if size is not None]
        self._watcher.begin(sum(known) if len(known) == len(sizes) else None)
        producer = OrderedItemProducer(consumer=self._take)
        try:
            for source in inputs:
                if not self._isEnough.is_set():
                    await self._readInput(source, producer)
            await producer.stop()
        except BaseException:
            producer.stopProducing()
            raise
        finally:
            self._summary.checkUnderstood(self._settings.lines.format)
        await self._broadcast.finish()
        self._summary.isPartial = self._isEnough.is_set()

    def _openAll(self, names: Sequence[str]) -> list[Input]:
        inputs = []
        for name in expandNames(names):
            try:
                inputs.append(openInput(name))
            except (OSError, InputError) as error:
                self._summary.addFailure(name, describeError(error))
        return inputs

    async def _readInput(self, source: Input, producer: OrderedItemProducer) -> None:
        options = self._settings.lines
        options = replace(options, format=options.format or source.format)
        log = _Log(source.name, Edges(self._settings.flood), options)
        most = _UNDERWAY * self._settings.processes
        try:
            cut = blocksOf(source, self._threads, self._blockSize, self._isEnough)
            async with aclosing(cut) as blocks:
                async for block in blocks:
                    if log.hasFailed or not producer.isProducing:
                        break
                    if log.options.format is None and isinstance(block, DataBlock):
                        log.options = replace(log.options, format=detectFormat(block.data))
                    self._underway.put(producer.produceItem(self._parse, log, block))
                    await self._underway.deferUntilFewer(most)
        except (OSError, InputError) as error:
            self._fail(log, error)
        self._summary.inputs.append(source.name)

    async def _parse(self, log: _Log, block: Block) -> _Outcome:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return log, block, await self._call(block, log.options)
            except WorkerDied as error:
                if attempt == _ATTEMPTS:
                    return log, block, error
            except (OSError, InputError) as error:
                return log, block, error
        raise AssertionError("the last attempt returns")

    def _call(self, block: Block, options: LineOptions) -> Deferred[Any]:
        flood = self._settings.flood
        if self._sink is None:
            return self._queue.call(parseBlock, block, flood, options)  # type: ignore[no-any-return]
        d: Deferred[Any] = self._queue.call(
            streamBlock, block, flood, self._settings.selection, options
        )
        return d

    async def _take(self, outcome: _Outcome) -> None:
        """
        A block's turn has come.
        """
        log, block, parsed = outcome
        if isinstance(parsed, Deferator):
            parsed = await self._takeRecords(parsed)
        if isinstance(parsed, Parsed):
            parsed.findings |= log.edges.add(parsed.edges)
            self._broadcast.add(self._summary.add(parsed, log.name))
        else:
            self._fail(log, parsed)
        self._watcher.advance(block.advance)

    async def _takeRecords(self, deferator: Deferator) -> Parsed | BaseException:
        taker = BlockTaker(self._sink)
        try:
            await IterationProducer(deferator, taker).run()
        except WorkerDied as error:
            return error
        return taker.parsed

    def _fail(self, log: _Log, error: BaseException) -> None:
        """
        An input is not read any further. Only what went wrong first is told.
        """
        if not log.hasFailed:
            log.hasFailed = True
            self._summary.addFailure(log.name, describeError(error))


class _Log:
    """
    An input that is being read.
    """

    def __init__(self, name: str, edges: Edges, options: LineOptions) -> None:
        self.name = name
        self.options = options
        self.edges = edges
        self.hasFailed = False


_Outcome = tuple[_Log, Block, Any]
