"""
How fast two processes render the Mandelbrot set.

All sides draw, colour and compress a whole picture's stripes with the demo's C{renderStripe}, and
put a PNG file together in memory.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from time import perf_counter
from typing import Any

from asynqueue import ProcessQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import runInReactor
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
        seconds = 0.0
        # The peers have drawn whole pictures, too, before the one that counts.
        for _ in range(2):
            picture.clear()
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

    def render() -> Iterable[RenderedStripe]:
        plan = StripePlan(view, 1)
        for stripe in plan:
            rendered = renderStripe(stripe)
            plan.learn(rendered.packed.rows, rendered.seconds)
            yield rendered

    _timeToAssemble(view, render())
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


def twoBare(width: int, iterations: int) -> float:
    """
    @return: the same by two bare processes that have half the stripes each, and send each stripe
        through a pipe, once it was found which of L{HEIGHTS} is the best.
    """
    view = _makeView(width, iterations)
    prepareWorker(view)
    nears, processes = [], []
    for _ in range(2):
        near, far = multiprocessing.Pipe()
        process = multiprocessing.Process(target=renderWhatComes, args=(far, view), daemon=True)
        process.start()
        near.recv()
        nears.append(near)
        processes.append(process)

    def timeWith(height: int) -> float:
        return _timeToAssemble(view, _fromBare(nears, _stripes(view, height)))

    figure = _rate(view, timeWith(min(HEIGHTS, key=timeWith)))
    for near, process in zip(nears, processes, strict=True):
        near.send(None)
        process.join()
    return figure


def renderWhatComes(far: Connection, view: View) -> None:
    """
    Render the lists of stripes that come through a pipe.
    """
    prepareWorker(view)
    far.send(None)
    while (stripes := far.recv()) is not None:
        for stripe in stripes:
            far.send(renderStripe(stripe))


def _fromBare(nears: list[Any], stripes: list[Stripe]) -> Iterator[RenderedStripe]:
    """
    Yield the rendered stripes in order.
    """
    halves = [stripes[0::2], stripes[1::2]]
    for near, half in zip(nears, halves, strict=True):
        near.send(half)
    rendered: dict[Any, list[RenderedStripe]] = {near: [] for near in nears}
    ready: Any
    for number in range(len(stripes)):
        near = nears[number % 2]
        while len(rendered[near]) <= number // 2:
            for ready in wait(rendered):
                rendered[ready].append(ready.recv())
        yield rendered[near][number // 2]


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
            Contender("two bare processes, half the stripes each", twoBare, **_PICTURE),
            Target(0.99, isLeast=True),
        ),
        Row(
            "Mandelbrot set, 8,000 pixels wide",
            "Mpixel/s",
            _OURS,
            Contender("the same kernel, 1 process", oneProcess, **_PICTURE),
        ),
        Row(
            "Mandelbrot set, 8,000 pixels wide",
            "Mpixel/s",
            _OURS,
            Contender("Pool, best chunk", pool, **_PICTURE),
        ),
    ),
)
