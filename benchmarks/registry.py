"""
All measures, in the order of the table, and all comparisons.
"""

from __future__ import annotations

from typing import Final

from benchmarks import walk
from benchmarks.comparison import Comparison
from benchmarks.crashes import comparison as crashes
from benchmarks.measure import Measure
from benchmarks.measures import (
    admin,
    aio,
    array,
    calls,
    dask,
    dispatch,
    durable,
    efficiency,
    items,
    mandelbrot,
    mapping,
    pending,
    roundtrip,
    series,
    start,
    turns,
    weblog,
    wire,
)
from benchmarks.storms import cluster
from benchmarks.storms import comparison as storms

MEASURES: Final[tuple[Measure, ...]] = (
    walk.MEASURE,
    calls.MEASURE,
    mapping.MEASURE,
    roundtrip.MEASURE,
    aio.MEASURE,
    efficiency.MEASURE,
    items.MEASURE,
    array.MEASURE,
    pending.MEASURE,
    admin.MEASURE,
    series.MEASURE,
    dispatch.MEASURE,
    durable.MEASURE,
    start.MEASURE,
    turns.MEASURE,
    mandelbrot.MEASURE,
    weblog.MEASURE,
    weblog.MEMORY,
    wire.MEASURE,
    dask.MEASURE,
)

COMPARISONS: Final[tuple[Comparison, ...]] = (
    crashes.COMPARISON,
    storms.COMPARISON,
    cluster.COMPARISON,
)
