"""
How many items a second come from a child's generator.
"""

from __future__ import annotations

from time import perf_counter

from asynqueue import ProcessQueue
from benchmarks import asynqueue09
from benchmarks.measure import Contender, Measure, OldContender, Row, Target
from benchmarks.parts import CountingConsumer, runInReactor
from benchmarks.tasks import countUp

WARM_UP = 1_000


def ours(items: int) -> float:
    """
    @return: items a second, from the call until its Deferred fired.
    """
    return runInReactor(lambda: _ours(items))


async def _ours(items: int) -> float:
    consumer = CountingConsumer(items)
    async with ProcessQueue(1) as queue:
        await queue.call(countUp, WARM_UP, consumer=CountingConsumer(WARM_UP))
        started = perf_counter()
        await queue.call(countUp, items, consumer=consumer)
        seconds = perf_counter() - started
    consumer.counter.check()
    return items / seconds


_OURS = Contender("ours", ours, arguments={"items": 500_000}, quick={"items": 50_000})
_OLD = OldContender(
    "AsynQueue 0.9.9", asynqueue09.items, arguments={"items": 20_000}, quick={"items": 2_000}
)

_LABEL = "integers from a child to a consumer"
MEASURE = Measure(
    "items",
    (
        Row(_LABEL, "items/s", _OURS, None, Target(2_000_000, isLeast=True, isRatio=False)),
        Row(_LABEL, "items/s", _OURS, _OLD, Target(20, isLeast=True)),
    ),
)
