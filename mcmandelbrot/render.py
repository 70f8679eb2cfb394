"""
Rendering a picture with the processes of a queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.logger import Logger

from asynqueue import DeferredTracker, OrderedItemProducer, ProcessQueue
from asynqueue.errors import WorkerDied
from mcmandelbrot.errors import MandelbrotError, RenderingFailed
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

_log = Logger()

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
