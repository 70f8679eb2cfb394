"""
One stripe of a picture: the task of a worker process, and its result.

The main process imports this module too. So this module imports numba and numpy only in the
functions that use them, which run in the workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from time import thread_time
from typing import Final

from mcmandelbrot.errors import BadRequest
from mcmandelbrot.png import PackedRows, packRows
from mcmandelbrot.view import View


@dataclass(frozen=True, slots=True)
class Stripe:
    """
    Consecutive rows of a picture.

    @ivar view: the view that the picture shows.
    @ivar firstRow: the uppermost row, counted from 0.
    @ivar rows: the number of rows.
    """

    view: View
    firstRow: int
    rows: int


@dataclass(frozen=True, slots=True)
class RenderedStripe:
    """
    A stripe that is ready for the file.

    @ivar packed: its rows.
    @ivar seconds: the processor time of the work on it, which does not depend on other programs.
    """

    packed: PackedRows
    seconds: float


def drawStripe(stripe: Stripe) -> bytes:
    """
    Draw a stripe.

    @return: a byte each for red, green and blue of each pixel, row by row.
    """
    import numpy as np

    from mcmandelbrot.kernel import countIterations
    from mcmandelbrot.palette import colorize

    view = stripe.view
    counts = np.empty((stripe.rows, view.width), np.float32)
    countIterations(view.grid, stripe.firstRow, view.iterations, counts)
    return colorize(counts, view.iterations).tobytes()


def loadKernel() -> None:
    """
    Import the kernel, which takes the longest to load.

    @raise BadRequest: if numba finds no folder for compiled code.
    """
    try:
        import_module("mcmandelbrot.kernel")
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        raise BadRequest(
            "numba can write neither to the user's cache folder nor next to the demo: "
            "name a folder for compiled code in NUMBA_CACHE_DIR"
        ) from error


LARGE: Final = 31 << 20
"""Bytes: as large as a block may be for glibc to take its size for usual."""


def prepareWorker(view: View) -> None:
    """
    Load everything that L{renderStripe} needs for a picture, so that the first stripe takes no
    longer than the others.

    @param view: the view that the picture shows.
    """
    from mcmandelbrot.kernel import compileKernel
    from mcmandelbrot.palette import makeTable

    compileKernel()
    makeTable(view.iterations)
    # glibc gives large blocks back to the system when they are freed, and the system clears each
    # page of a new one. That took a seventh of the time of a stripe. Once the program has freed a
    # block of some size, glibc keeps smaller ones (see M_MMAP_THRESHOLD in mallopt(3)). No page of
    # this one is ever used.
    bytearray(LARGE)


def renderStripe(stripe: Stripe) -> RenderedStripe:
    """
    Draw and compress a stripe. This is the task that the queue's workers run.
    """
    started = thread_time()
    packed = packRows(drawStripe(stripe), stripe.rows, stripe.firstRow)
    return RenderedStripe(packed, thread_time() - started)
