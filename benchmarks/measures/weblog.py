"""
How fast two processes parse a web server's log, and how much memory that takes.

All Python sides parse the same blocks of the same file with the same pattern, and come to the same
sums.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import psutil

from asynqueue import ProcessQueue, ThreadQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.oldpeer import PeerMissing
from benchmarks.parts import runInReactor
from examples.weblog.aggregate import Edges, Parsed
from examples.weblog.blocks import Block, cutFile
from examples.weblog.generate import PART_LINES
from examples.weblog.madeup import makePart
from examples.weblog.run import Reading
from examples.weblog.settings import FLOOD, Settings
from examples.weblog.summary import Summary
from examples.weblog.work import parseBlock

_HOME = Path(__file__).parents[2] / "build"

# What the example's report has nothing of, GoAccess need not count.
_IGNORED = (
    *("CACHE_STATUS", "GEO_LOCATION", "KEYPHRASES", "MIME_TYPE", "OS", "REMOTE_USER"),
    *("TLS_TYPE", "VIRTUAL_HOSTS", "VISIT_TIMES"),
)

_SAMPLES = 0.02
"""Seconds between two looks at how much memory is used."""


class _Silent:
    def begin(self, total: int | None) -> None:
        pass

    def advance(self, count: int) -> None:
        pass


def ours(lines: int) -> float:
    """
    @return: lines a second by a queue with two processes, as the example uses it.
    """
    return runInReactor(lambda: _ours(_logOf(lines), lines))


async def _ours(log: Path, lines: int) -> float:
    summary = Summary()
    async with ProcessQueue(2) as queue, ThreadQueue(1) as threads:
        await queue.update(_warmUp)
        started = perf_counter()
        await Reading(queue, threads, Settings(2), _Silent(), summary).read([str(log)])
        seconds = perf_counter() - started
    return _rate(summary, lines, seconds)


def oneProcess(lines: int) -> float:
    """
    @return: the same by this process alone.
    """
    log = _logOf(lines)
    _warmUp()
    return _timeToSum(lines, lambda: map(_parse, _blocksOf(log)))


def pool(lines: int) -> float:
    """
    @return: the same by the standard library's pool of two.
    """
    log = _logOf(lines)
    with multiprocessing.Pool(2, _warmUp) as workers:
        workers.map(_warmUpAgain, range(4), chunksize=1)
        return _timeToSum(lines, lambda: workers.imap(_parse, _blocksOf(log)))


def command(lines: int) -> float:
    """
    @return: lines a second by the example's whole command with two processes, its start included.
    """
    arguments = ["-m", "examples.weblog", "-j", "2", "--json", str(_logOf(lines))]
    return _timeCommand(lines, [sys.executable, *arguments])


def goaccess(lines: int) -> float:
    """
    @return: the same by GoAccess, whose report is JSON of much the same.
    """
    options = ["--log-format=COMBINED", "--no-progress"]
    options += [f"--ignore-panel={panel}" for panel in _IGNORED]
    with tempfile.TemporaryDirectory() as folder:
        output = f"--output={folder}/report.json"
        return _timeCommand(lines, ["goaccess", str(_logOf(lines)), output, *options])


def memory(megabytes: int) -> float:
    """
    @return: the most resident memory of the example's command, that of its processes together, in
        MB, while it reads a log.
    """
    lines = megabytes * 1_000_000 // 219
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "access.log")
        _makeLog(log, lines)
        process = psutil.Popen(
            [sys.executable, "-m", "examples.weblog", "-j", "2", "--json", str(log)],
            stdout=subprocess.DEVNULL,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _residentOf(process))
            sleep(_SAMPLES)
    if process.returncode:
        raise ValueError(f"the command ended with status {process.returncode}")
    return peak / 1e6


class _GoAccess(Contender):
    def interpreter(self) -> list[str]:
        """
        See L{Contender}.
        """
        if shutil.which("goaccess") is None:
            raise PeerMissing("goaccess is not installed: apt install goaccess")
        return super().interpreter()


def _residentOf(process: psutil.Process) -> int:
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
    return total


def _timeCommand(lines: int, arguments: list[str]) -> float:
    started = perf_counter()
    subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return lines / (perf_counter() - started)


def _timeToSum(lines: int, parse: Callable[[], Iterable[Parsed]]) -> float:
    summary, edges = Summary(), Edges(FLOOD)
    started = perf_counter()
    for parsed in parse():
        parsed.findings |= edges.add(parsed.edges)
        summary.add(parsed)
    return _rate(summary, lines, perf_counter() - started)


def _rate(summary: Summary, lines: int, seconds: float) -> float:
    found = summary.aggregate.requests + summary.aggregate.malformed
    if found != lines or summary.failures:
        raise ValueError(f"of {lines} lines {found} were read; {summary.failures}")
    return lines / seconds


def _blocksOf(log: Path) -> Iterable[Block]:
    return cutFile(str(log), os.stat(log))


def _parse(block: Block) -> Parsed:
    return parseBlock(block, FLOOD)


def _warmUp() -> None:
    makePart(1, 0, 100, 100)


def _warmUpAgain(number: int) -> None:
    sleep(0.05)


def _logOf(lines: int) -> Path:
    """
    The log to read, which is made if there is none.
    """
    log = _HOME / f"weblog-{lines}.log"
    if not log.exists():
        _HOME.mkdir(exist_ok=True)
        partial = log.with_suffix(".part")
        _makeLog(partial, lines)
        os.replace(partial, log)
    return log


def _makeLog(log: Path, lines: int) -> None:
    with log.open("wb") as file, multiprocessing.Pool(2) as workers:
        starts = range(0, lines, PART_LINES)
        parts = [(1, start, min(start + PART_LINES, lines), lines) for start in starts]
        for part in workers.imap(_makePart, parts):
            file.write(part)


def _makePart(arguments: tuple[int, int, int, int]) -> bytes:
    return makePart(*arguments)


_LOG: dict[str, Any] = {"arguments": {"lines": 1_000_000}, "quick": {"lines": 40_000}}
_OURS = Contender("ours, 2 processes", ours, **_LOG)

MEASURE = Measure(
    "weblog",
    (
        Row(
            "web log of 1,000,000 lines",
            "lines/s",
            _OURS,
            Contender("the same pattern, 1 process", oneProcess, **_LOG),
            Target(1.9, isLeast=True),
        ),
        Row(
            "web log of 1,000,000 lines",
            "lines/s",
            _OURS,
            Contender("Pool, the same blocks", pool, **_LOG),
            Target(1, isLeast=True),
        ),
        Row(
            "web log, the whole command",
            "lines/s",
            Contender("ours, 2 processes", command, **_LOG),
            _GoAccess("GoAccess", goaccess, **_LOG),
            Target(4, isLeast=True),
        ),
    ),
)

MEMORY = Measure(
    "weblog memory",
    (
        Row(
            "web log of 1,000 MB, peak memory",
            "MB",
            Contender(
                "ours, 1,000 MB", memory, arguments={"megabytes": 1_000}, quick={"megabytes": 20}
            ),
            Contender("ours, 10 MB", memory, arguments={"megabytes": 10}),
            Target(2, isLeast=False),
        ),
    ),
)
