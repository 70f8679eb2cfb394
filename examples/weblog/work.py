"""
The work of a worker process on a block.

Worker processes import this module, so it imports nothing heavy.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from examples.weblog.aggregate import Parsed, summarise
from examples.weblog.blocks import Block
from examples.weblog.formats import parseAs
from examples.weblog.known import unknown
from examples.weblog.parse import ParsedLines
from examples.weblog.records import batchRecords
from examples.weblog.settings import DEFAULT_LINES, LineOptions


def parseBlock(block: Block, flood: int, options: LineOptions = DEFAULT_LINES) -> Parsed:
    """
    Read and parse a block.

    @param flood: how many requests an address may send within a minute.
    @param options: how the lines are to be read.
    @raise OSError: if it cannot be read.
    @raise InputError: if the file is not what it was.
    """
    return _parse(block, flood, options)[1]


def streamBlock(
    block: Block, flood: int, selection: str, options: LineOptions = DEFAULT_LINES
) -> Iterator[bytes | Parsed]:
    """
    Do the same, and pass on the records of interest.

    @param selection: which ones.
    @return: batches of them, and what the block comes to at the end. All of the parsing is done by
        now, as a task's run: what an iterator does is not counted as work by the queue.
    @raise OSError: if it cannot be read.
    @raise InputError: if the file is not what it was.
    """
    lines, parsed = _parse(block, flood, options)

    def stream() -> Iterator[bytes | Parsed]:
        yield from batchRecords(lines.rows, selection)
        yield parsed

    return stream()


def _parse(block: Block, flood: int, options: LineOptions) -> tuple[ParsedLines, Parsed]:
    with _notCollecting():
        lines = parseAs(block.read(), options.format, options.isForwarded)
        understood = len(lines.rows)
        lines.rows = options.filters.select(lines.rows)
        parsed = summarise(lines, flood)
        parsed.understood = understood
    parsed.findings = unknown(parsed.findings)
    return lines, parsed


@contextmanager
def _notCollecting() -> Iterator[None]:
    """
    Do not look for garbage in cycles. Rows make none, but they are many, and to go through them
    again and again takes a tenth of the time.
    """
    wasEnabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wasEnabled:
            gc.enable()
