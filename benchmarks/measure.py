"""
Measures: rows, each with our figure beside a peer's, and a target.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.oldpeer import oldPython


@dataclass(frozen=True, eq=False)
class Contender:
    """
    A function that does something and returns a figure. Each time it runs in a new process.

    @ivar name: its name in the table.
    @ivar function: a public function of a module.
    @ivar arguments: its keyword arguments.
    @ivar quick: the arguments that differ in a quick run, which is too short to rely on.
    """

    name: str
    function: Callable[..., float]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)

    def chosen(self, isQuick: bool) -> dict[str, Any]:
        """
        @return: the arguments for a run.
        """
        return {**self.arguments, **self.quick} if isQuick else dict(self.arguments)

    def interpreter(self) -> list[str]:
        """
        @return: the beginning of the command that runs it.
        @raise PeerMissing: if it cannot be run here.
        """
        return [sys.executable]

    def command(self, isQuick: bool) -> list[str]:
        """
        @return: the command to run. The last line of its output is the figure.
        @raise PeerMissing: if it cannot be run here.
        """
        home, name = self.function.__module__, self.function.__qualname__
        chosen = json.dumps(self.chosen(isQuick))
        return [*self.interpreter(), "-m", "benchmarks.contender", home, name, chosen]


class OldContender(Contender):
    """
    A contender that uses AsynQueue 0.9 instead of our package.
    """

    def interpreter(self) -> list[str]:
        """
        See L{Contender}.
        """
        # Without -P, our own package in the current folder would be found first.
        return [str(oldPython()), "-P"]


@dataclass(frozen=True)
class Target:
    """
    The value that a row should reach.

    @ivar bound: the number.
    @ivar isLeast: whether that is the least or the most that is good enough.
    @ivar isRatio: whether it bounds the ratio of ours to the peer's, or our own figure.
    """

    bound: float
    isLeast: bool
    isRatio: bool = True

    def isMet(self, value: float) -> bool:
        """
        @param value: the median of the ratio or of the figure, whichever the target bounds.
        """
        return value >= self.bound if self.isLeast else value <= self.bound


@dataclass(frozen=True, eq=False)
class Row:
    """
    One line of the table.

    @ivar label: what is measured.
    @ivar unit: of both figures.
    @ivar peer: the contender to compare with, or C{None}. The ratio is always our figure divided by
        the peer's.
    @ivar target: the target in the design, or C{None} if it has none here.
    """

    label: str
    unit: str
    ours: Contender
    peer: Contender | None = None
    target: Target | None = None


@dataclass(frozen=True, eq=False)
class Measure:
    """
    Rows whose contenders run in turn.

    @ivar name: the name by which C{-k} finds it.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def contenders(self) -> list[Contender]:
        """
        All contenders of the rows, in the order in which they first appear there.
        """
        pairs = (contender for row in self.rows for contender in (row.ours, row.peer))
        return list(dict.fromkeys(contender for contender in pairs if contender is not None))
