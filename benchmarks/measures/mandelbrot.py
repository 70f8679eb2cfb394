"""
How fast two processes render the Mandelbrot set.

All sides draw, colour and compress a whole picture's stripes with the demo's C{renderStripe}, and
put a PNG file together in memory.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from time import perf_counter
from typing import Any

from asynqueue import ProcessQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.reactor import runInReactor
from mcmandelbrot.plan import StripePlan
from mcmandelbrot.png import PNGAssembler
from mcmandelbrot.render import prepareWorkers, writePicture
from mcmandelbrot.stripe import RenderedStripe, Stripe, prepareWorker, renderStripe
from mcmandelbrot.view import View

HEIGHTS = (4, 16, 64)
"""How many rows of a stripe the pool is tried with."""


def ours(width: int, iterations: int) -> float:
    """
    @return: millions of pixels a second by a queue with two processes, as C{mcm} uses it.
    """
    return runInReactor(lambda: _ours(_makeView(width, iterations)))


async def _ours(view: View) -> float:
    picture: list[bytes] = []

    async def write(data: bytes) -> None:
        picture.append(data)

    async with ProcessQueue(2) as queue:
        await prepareWorkers(queue, view)
        started = perf_counter()
        await writePicture(queue, view, StripePlan(view, 2), write, lambda rows: None)
        seconds = perf_counter() - started
    return _rate(view, seconds)


def oneProcess(width: int, iterations: int) -> float:
    """
    @return: the same by this process alone.
    """
    view = _makeView(width, iterations)
    prepareWorker(view)
    plan = StripePlan(view, 1)

    def render() -> Iterable[RenderedStripe]:
        for stripe in plan:
            rendered = renderStripe(stripe)
            plan.learn(rendered.packed.rows, rendered.seconds)
            yield rendered

    return _rate(view, _timeToAssemble(view, render()))


def pool(width: int, iterations: int) -> float:
    """
    @return: the same by the standard library's pool of two, once it was found which of L{HEIGHTS}
        is the best.
    """
    view = _makeView(width, iterations)
    prepareWorker(view)
    with multiprocessing.Pool(2, prepareWorker, (view,)) as workers:
        workers.map(renderStripe, [Stripe(view, 0, 1)] * 4, chunksize=1)

        def timeWith(height: int) -> float:
            return _timeToAssemble(view, workers.imap(renderStripe, _stripes(view, height)))

        return _rate(view, timeWith(min(HEIGHTS, key=timeWith)))


def _makeView(width: int, iterations: int) -> View:
    return View(width, -0.63, 0.0, 1.4, 1.2, iterations)


def _stripes(view: View, height: int) -> list[Stripe]:
    return [
        Stripe(view, row, min(height, view.height - row)) for row in range(0, view.height, height)
    ]


def _timeToAssemble(view: View, stripes: Iterable[RenderedStripe]) -> float:
    started = perf_counter()
    assembler = PNGAssembler(view.width, view.height)
    picture = [assembler.start()]
    picture += (assembler.add(stripe.packed) for stripe in stripes)
    picture.append(assembler.finish())
    return perf_counter() - started


def _rate(view: View, seconds: float) -> float:
    return view.width * view.height / seconds / 1e6


_PICTURE: dict[str, Any] = {
    "arguments": {"width": 8_000, "iterations": 2_000},
    "quick": {"width": 600},
}
_OURS = Contender("ours, 2 processes", ours, **_PICTURE)

MEASURE = Measure(
    "mandelbrot",
    (
        Row(
            "Mandelbrot set, 8,000 pixels wide",
            "Mpixel/s",
            _OURS,
            Contender("the same kernel, 1 process", oneProcess, **_PICTURE),
            Target(1.95, isLeast=True),
        ),
        Row(
            "Mandelbrot set, 8,000 pixels wide",
            "Mpixel/s",
            _OURS,
            Contender("Pool, best chunk", pool, **_PICTURE),
            Target(0.98, isLeast=True),
        ),
    ),
)
