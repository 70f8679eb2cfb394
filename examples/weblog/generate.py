"""
A realistic log, made up: the same for the same number of lines and seed, on any machine.

Run it with C{python -m examples.weblog.generate --help}. It makes parts of the log on a queue.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from examples.weblog.madeup import makePart

PART_LINES = 20_000
"""How many lines are made by one task. Other parts would make another log."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Make a log.

    @param arguments: the command's. Default: those of this process.
    @return: the exit status.
    """
    from mcmandelbrot.errors import Interrupted
    from mcmandelbrot.signals import ReactorRun

    found = _makeParser().parse_args(arguments)
    partial = f"{found.file}.part"
    try:
        with open(partial, "wb") as file:
            ReactorRun(lambda: writeLog(file, found.lines, found.seed)).run()
        os.replace(partial, found.file)
    except Interrupted as reason:
        os.unlink(partial)
        return reason.exitStatus
    size = os.path.getsize(found.file)
    print(f"{found.file}: {found.lines:,} lines, {size / 1e6:,.0f} MB", file=sys.stderr)
    return 0


async def writeLog(file: BinaryIO, lines: int, seed: int) -> None:
    """
    Make a log in the processes of a queue.

    @param lines: how many it is to have.
    """
    from asynqueue import ProcessQueue

    async with ProcessQueue(ProcessQueue.cores(), timeout=1.0) as queue:
        await writeParts(queue, file, lines, seed)


async def writeParts(queue: Any, file: BinaryIO, lines: int, seed: int) -> None:
    """
    Make a log in parts.

    @param queue: runs the work: any C{TaskQueue}.
    """
    from asynqueue import DeferredTracker, OrderedItemProducer

    producer = OrderedItemProducer(consumer=lambda part: file.write(part) and None)
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
