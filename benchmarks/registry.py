"""
All measures, in the order of the table.
"""

from __future__ import annotations

from typing import Final

from benchmarks.measure import Measure
from benchmarks.measures import (
    array,
    calls,
    dispatch,
    efficiency,
    items,
    mandelbrot,
    mapping,
    pending,
    roundtrip,
    start,
)

MEASURES: Final[tuple[Measure, ...]] = (
    calls.MEASURE,
    mapping.MEASURE,
    roundtrip.MEASURE,
    efficiency.MEASURE,
    items.MEASURE,
    array.MEASURE,
    pending.MEASURE,
    dispatch.MEASURE,
    start.MEASURE,
    mandelbrot.MEASURE,
)
