"""
Rendering a picture with the processes of a queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue import DaskWorker, DeferredTracker, OrderedItemProducer, ProcessQueue, TaskQueue
from asynqueue.errors import ExtraMissing, WorkerDied
from asynqueue.wire import RemoteWorker
from mcmandelbrot.errors import BadRequest, MandelbrotError, RenderingFailed
from mcmandelbrot.output import Output
from mcmandelbrot.plan import StripePlan
from mcmandelbrot.png import PNGAssembler
from mcmandelbrot.progress import Progress
from mcmandelbrot.stripe import RenderedStripe, Stripe, loadKernel, prepareWorker, renderStripe
from mcmandelbrot.view import View

# How many seconds the processes may take to stop. At the end of the work they are idle, and stop at
# once. After an interrupt they may be at work on long stripes that are no longer wanted.
_PATIENCE = 1.0

# How often a stripe is drawn again if its process was killed.
_RETRIES = 5

# How many seconds the first of the servers, or the cluster, may take to answer.
_CONNECTING = 10.0

_log = Logger()

# For how many seconds all servers may be out of reach in the middle of a picture, and how often to
# look.
_ABSENCE = 60.0
_LOOK = 1.0

# How many stripes for each process may have been cut and not been written: one that is being drawn,
# one that was sent ahead, and one that waits for a stripe above it.
_UNDERWAY = 3


async def renderPicture(view: View, processes: int, output: Output, progress: Progress) -> None:
    """
    Render a picture and write it, as a PNG file, to an output.

    @param view: the view that the picture shows.
    @param processes: the largest number of worker processes.
    @param output: the output, which is finished at the end.
    @param progress: shows the progress of the work.
    @raise MandelbrotError: if the picture cannot be written, or a worker process fails.
    """
    plan = StripePlan(view, processes)
    async with ProcessQueue(plan.processes, timeout=_PATIENCE) as queue:
        try:
            # Drawing twice does no harm, so a worker process that is killed loses nothing.
            retrying = queue.options(retries=_RETRIES)
            await prepareWorkers(queue, view)
            progress.begin()
            await writePicture(retrying, view, plan, output.write, progress.advance)
        except MandelbrotError:
            raise
        except Exception as error:
            raise RenderingFailed(f"{type(error).__name__}: {error}") from error
        output.finish()


async def renderRemotely(
    view: View, servers: Sequence[str], key: Any, output: Output, progress: Progress
) -> None:
    """
    Render a picture on servers and write it, as a PNG file, to an output.

    The work begins when the first server answers. The others join it when they do, and a server
    that was restarted joins it again. If none is left, or none can be reached for a minute, the
    work ends.

    @param view: the view that the picture shows.
    @param servers: the addresses of the servers.
    @param key: the servers' key, or the name of its file.
    @param output: the output, which is finished at the end.
    @param progress: shows the progress of the work.
    @raise BadRequest: if an address or the key is not valid, or a server refuses the key.
    @raise MandelbrotError: if no server answers any more, the picture cannot be written, or a task
        fails.
    """
    makers = [partial(RemoteWorker, address, key) for address in servers]
    who = "the server does not answer" if len(servers) == 1 else "no server answers"
    trouble = f"{who} within {_CONNECTING:g} seconds: {', '.join(servers)}"
    try:
        await _renderElsewhere(view, makers, trouble, output, progress)
    except OSError as error:
        raise BadRequest(f"cannot read the key file {key}: {error.strerror}") from error
    except ValueError as error:
        raise BadRequest(str(error)) from error


async def renderOnCluster(view: View, scheduler: str, output: Output, progress: Progress) -> None:
    """
    Render a picture on a Dask cluster and write it, as a PNG file, to an output.

    @param view: the view that the picture shows.
    @param scheduler: the address of the cluster's scheduler.
    @param output: the output, which is finished at the end.
    @param progress: shows the progress of the work.
    @raise BadRequest: if Dask distributed is not installed.
    @raise MandelbrotError: if the cluster does not answer, the picture cannot be written, or a task
        fails.
    """
    trouble = f"the Dask scheduler does not answer within {_CONNECTING:g} seconds: {scheduler}"
    try:
        await _renderElsewhere(view, [partial(DaskWorker, scheduler)], trouble, output, progress)
    except ExtraMissing as error:
        raise BadRequest(str(error)) from error


async def _renderElsewhere(
    view: View,
    makers: Sequence[Callable[[], Any]],
    trouble: str,
    output: Output,
    progress: Progress,
) -> None:
    """
    Render a picture with workers that may come and go.

    @param makers: make the workers.
    @param trouble: what to say if none of them can work.
    """
    async with TaskQueue(timeout=_PATIENCE) as queue:
        workers = await _attachFirst(queue, makers, trouble)
        work = Deferred.fromCoroutine(_renderWith(queue, view, output, progress))
        watch = _WorkersWatch(queue, workers, work.cancel)
        try:
            await work
        except MandelbrotError:
            raise
        except Exception as error:
            why = watch.whyGone or f"{type(error).__name__}: {error}"
            raise RenderingFailed(why) from error
        finally:
            watch.stop()
        output.finish()


async def _renderWith(queue: TaskQueue, view: View, output: Output, progress: Progress) -> None:
    plan = StripePlan(view, _slots(queue))

    def advance(rows: int) -> None:
        # Others may have joined.
        plan.processes = _slots(queue)
        progress.advance(rows)

    retrying = queue.options(retries=_RETRIES)
    # One process compiles the kernel before the others need it.
    await retrying.call(prepareWorker, view)
    # The others prepare themselves before their first stripe. Nobody waits for a server that is
    # not there.
    queue.update(prepareWorker, view).addErrback(_notPrepared)
    progress.begin()
    await writePicture(retrying, view, plan, output.write, advance)


class _WorkersWatch:
    """
    Ends the work when no worker is left, or no server was reached for too long.

    @ivar whyGone: why it ended the work, or C{None}.
    """

    def __init__(self, queue: TaskQueue, workers: Sequence[Any], end: Callable[[], None]) -> None:
        """
        @param workers: the workers that were attached.
        @param end: ends the work.
        """
        self.whyGone: str | None = None
        self._queue = queue
        self._remote = [worker for worker in workers if isinstance(worker, RemoteWorker)]
        self._end = end
        self._absentSince: float | None = None
        queue.addObserver(self._observe)
        self._looking = LoopingCall(self._look)
        if self._remote:
            self._looking.start(_LOOK)

    def stop(self) -> None:
        self._queue.removeObserver(self._observe)
        if self._looking.running:
            self._looking.stop()

    def _observe(self, event: Any) -> None:
        if event.kind == "LEFT" and not self._queue.workers():
            who = "the last server" if self._remote else "the last worker"
            self._leave(f"{who} cannot be used any more: {event.reason}")

    def _look(self) -> None:
        attached = self._queue.workers()
        troubles = [worker.trouble for worker in self._remote if worker in attached]
        now = self._looking.clock.seconds()
        if not troubles or None in troubles:
            self._absentSince = None
        elif self._absentSince is None:
            self._absentSince = now
        elif now - self._absentSince >= _ABSENCE:
            self._leave(f"no server was reached for {_ABSENCE:g} seconds: {troubles[-1]}")

    def _leave(self, why: str) -> None:
        if self.whyGone is None:
            self.whyGone = why
            self._end()


def _slots(queue: TaskQueue) -> int:
    return sum(worker.capacity.slots for worker in queue.workers())


async def _attachFirst(
    queue: TaskQueue, makers: Sequence[Callable[[], Any]], trouble: str
) -> list[Any]:
    """
    Attach the workers, and wait for the first.

    @return: the workers.
    """
    from twisted.internet import reactor

    workers: list[Any] = []
    attached: list[Deferred[int]] = []
    try:
        for make in makers:
            workers.append(make())
            attached.append(queue.attachWorker(workers[-1]))
    finally:
        # Once one is there, the others are not waited for.
        first = DeferredList(attached, True, fireOnOneErrback=True, consumeErrors=True)
    first.addTimeout(_CONNECTING, reactor)
    try:
        await first
    except FirstError as error:
        if error.subFailure.check(CancelledError):
            raise RenderingFailed(trouble) from error
        raise RenderingFailed(str(error.subFailure.value)) from error
    return workers


def _notPrepared(failure: Failure) -> None:
    """
    Leave it to the stripes to fail if a process could not prepare itself.
    """
    _log.info("a process of a server did not prepare itself: {why}", why=failure.value)


async def prepareWorkers(queue: ProcessQueue, view: View) -> None:
    """
    Have all workers load the modules and tables that they need. One of them compiles the kernel
    first, if that was not done before, so that the others find it compiled.

    @param queue: the queue of the workers.
    @param view: the view that they are about to render.
    """
    await _updateAll(queue, loadKernel)
    await queue.options(retries=_RETRIES).call(prepareWorker, view)
    await _updateAll(queue, prepareWorker, view)


async def _updateAll(queue: ProcessQueue, function: Callable[..., object], *args: object) -> None:
    try:
        await queue.update(function, *args)
    except WorkerDied as error:
        # The queue makes the same call in the process that replaces it.
        _log.info("a worker process died while it prepared itself: {error}", error=error)


async def writePicture(
    queue: Any,
    view: View,
    plan: StripePlan,
    write: Callable[[bytes], Awaitable[None]],
    advance: Callable[[int], object],
) -> None:
    """
    Render a picture's stripes and write them as a PNG file, in order, as they come.

    @param queue: an object with the C{call} of a C{TaskQueue}, which runs the work.
    @param view: the view that the picture shows.
    @param plan: cuts the picture into stripes.
    @param write: writes some bytes of the file. Its awaitable is done when there is room for more.
    @param advance: is called after each stripe, with the number of its rows.
    """
    assembler = PNGAssembler(view.width, view.height, view.texts)
    await write(assembler.start())

    async def render(stripe: Stripe) -> RenderedStripe:
        rendered: RenderedStripe = await queue.call(renderStripe, stripe)
        plan.learn(rendered.packed.rows, rendered.seconds)
        return rendered

    async def add(rendered: RenderedStripe) -> None:
        await write(assembler.add(rendered.packed))
        advance(rendered.packed.rows)

    producer = OrderedItemProducer(consumer=add)
    underway = DeferredTracker()
    try:
        while producer.isProducing and (stripe := next(plan, None)) is not None:
            underway.put(producer.produceItem(render, stripe))
            await underway.deferUntilFewer(_UNDERWAY * plan.processes)
        await producer.stop()
    except BaseException:
        producer.stopProducing()
        raise
    await write(assembler.finish())
