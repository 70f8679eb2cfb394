"""
A realistic log, made up: the same for the same number of lines and seed, on any machine.

Run it with C{python -m examples.weblog.generate --help}. It makes parts of the log on a queue.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from examples.weblog.madeup import makePart

if TYPE_CHECKING:
    from mcmandelbrot.output import Output

PART_LINES = 20_000
"""How many lines are made by one task. Other parts would make another log."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Make a log.

    @param arguments: the command's. Default: those of this process.
    @return: the exit status.
    """
    from mcmandelbrot.errors import Interrupted, MandelbrotError
    from mcmandelbrot.output import openOutput
    from mcmandelbrot.signals import ReactorRun

    found = _makeParser().parse_args(arguments)
    try:
        with openOutput(found.file, "FILE") as output:
            ReactorRun(lambda: writeLog(output, found.lines, found.seed)).run()
            output.finish()
    except Interrupted as reason:
        return reason.exitStatus
    except MandelbrotError as reason:
        print(f"generate: error: {reason}", file=sys.stderr)
        return reason.exitStatus
    print(f"{found.file}: {found.lines:,} lines", file=sys.stderr)
    return 0


async def writeLog(output: Output, lines: int, seed: int) -> None:
    """
    Make a log in the processes of a queue.

    @param lines: how many it is to have.
    """
    from asynqueue import ProcessQueue

    async with ProcessQueue(ProcessQueue.cores(), timeout=1.0) as queue:
        await writeParts(queue, output.write, lines, seed)


async def writeParts(
    queue: Any, write: Callable[[bytes], Awaitable[None] | None], lines: int, seed: int
) -> None:
    """
    Make a log in parts.

    @param queue: runs the work: any C{TaskQueue}.
    @param write: takes the parts in order.
    """
    from asynqueue import DeferredTracker, OrderedItemProducer

    producer = OrderedItemProducer(consumer=write)
    underway = DeferredTracker()
    try:
        for start in range(0, lines, PART_LINES):
            stop = min(start + PART_LINES, lines)
            underway.put(producer.produceItem(queue.call, makePart, seed, start, stop, lines))
            await underway.deferUntilFewer(3 * max(1, len(queue)))
        await producer.stop()
    except BaseException:
        producer.stopProducing()
        raise


def _makeParser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.weblog.generate", description="Make up an access log."
    )
    parser.add_argument("file", help="where to write it")
    parser.add_argument("--lines", type=int, default=1_000_000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another one, another log")
    return parser


if __name__ == "__main__":
    sys.exit(main())
