"""
Running a measure's contenders in turn.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Contender, Measure, Row
from benchmarks.oldpeer import PeerMissing

PATIENCE = 600.0
"""Seconds after which a contender is stopped."""

_ROOT = Path(__file__).parents[1]


class BenchmarkBroken(Exception):
    """
    A contender gave no figure.
    """


@dataclass(frozen=True)
class Spread:
    """
    The median of some numbers, and how far they lie apart.
    """

    median: float
    least: float
    most: float


def spreadOf(figures: list[float]) -> Spread:
    """
    @param figures: at least one.
    """
    return Spread(statistics.median(figures), min(figures), max(figures))


class Rounds:
    """
    The figures of a measure's contenders, round by round.

    @ivar isQuick: whether the rounds are too short to rely on.
    @ivar figures: by contender, one figure for each round. A peer that cannot be run here has none.
    @ivar missing: by contender, why it cannot be run here.
    """

    def __init__(self, measure: Measure, isQuick: bool, tell: Callable[[str], object]) -> None:
        """
        @param tell: is told of each figure.
        """
        self._measure = measure
        self.isQuick = isQuick
        self._tell = tell
        self.figures: dict[Contender, list[float]] = {each: [] for each in measure.contenders}
        self.missing: dict[Contender, str] = {}

    def run(self, rounds: int) -> None:
        """
        @param rounds: how often each contender has its turn.
        @raise BenchmarkBroken: if one gives no figure.
        """
        for number in range(1, rounds + 1):
            for contender, figures in self.figures.items():
                if contender in self.missing:
                    continue
                try:
                    command = contender.command(self.isQuick)
                except PeerMissing as missing:
                    self.missing[contender] = str(missing)
                    continue
                figures.append(runContender(command))
                place = f"{self._measure.name}, round {number} of {rounds}"
                self._tell(f"{place}: {contender.name}: {figures[-1]:,.6g}")

    def ratios(self, row: Row) -> list[float]:
        """
        @return: by round, our figure divided by the peer's.
        """
        if row.peer is None:
            return []
        pairs = zip(self.figures[row.ours], self.figures[row.peer], strict=False)
        return [ours / peer for ours, peer in pairs]

    def isMet(self, row: Row) -> bool | None:
        """
        @return: whether the median meets a row's target; C{None} if that is not known.
        """
        if row.target is None:
            return None
        values = self.ratios(row) if row.target.isRatio else self.figures[row.ours]
        return row.target.isMet(statistics.median(values)) if values else None


def runContender(command: list[str]) -> float:
    """
    @return: the figure that a command prints in its last line.
    @raise BenchmarkBroken: if it prints none.
    """
    # In a new session, everything that it starts can be ended with it.
    with subprocess.Popen(
        command,
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, complaint = process.communicate(timeout=PATIENCE)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise BenchmarkBroken(_told(command, f"took over {PATIENCE:.0f} s")) from error
            raise
    lines = printed.strip().splitlines()
    if process.returncode or not lines:
        why = f"ended with status {process.returncode}\n{complaint[-3000:]}"
        raise BenchmarkBroken(_told(command, why))
    sys.stderr.write(complaint)
    return float(lines[-1])


def _told(command: list[str], what: str) -> str:
    return f"{' '.join(command)} {what}"
