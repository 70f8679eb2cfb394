"""
What a measure is: rows, each of ours beside a peer's, with a target.
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
    A function that does something and returns a figure, each time in a process of its own.

    @ivar name: what it is, for the table.
    @ivar function: a public function of a module.
    @ivar arguments: its keyword arguments.
    @ivar quick: those that differ in a quick run, which does less than gives a figure to rely on.
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
        @return: how the command begins that runs it.
        @raise PeerMissing: if it cannot be run here.
        """
        return [sys.executable]

    def command(self, isQuick: bool) -> list[str]:
        """
        @return: the command to run, whose last line of output is the figure.
        @raise PeerMissing: if it cannot be run here.
        """
        home, name = self.function.__module__, self.function.__qualname__
        chosen = json.dumps(self.chosen(isQuick))
        return [*self.interpreter(), "-m", "benchmarks.contender", home, name, chosen]


class OldContender(Contender):
    """
    A contender that has AsynQueue 0.9 in the place of ours.
    """

    def interpreter(self) -> list[str]:
        """
        See L{Contender}.
        """
        # Otherwise our own package would be found first, in the current folder.
        return [str(oldPython()), "-P"]


@dataclass(frozen=True)
class Target:
    """
    What is to be reached.

    @ivar bound: the number.
    @ivar isLeast: whether that is the least or the most that will do.
    @ivar isRatio: whether it bounds the ratio of ours to the peer's, or our own figure.
    """

    bound: float
    isLeast: bool
    isRatio: bool = True

    def isMet(self, value: float) -> bool:
        """
        @param value: the median of the ratio or the figure, whichever is bound.
        """
        return value >= self.bound if self.isLeast else value <= self.bound


@dataclass(frozen=True, eq=False)
class Row:
    """
    One line of the table.

    @ivar label: what is measured.
    @ivar unit: of both figures.
    @ivar peer: what ours is measured against, or C{None}. The ratio is always that of our figure to
        the peer's.
    @ivar target: what the design asks for, or C{None} if it asks for nothing here.
    """

    label: str
    unit: str
    ours: Contender
    peer: Contender | None = None
    target: Target | None = None


@dataclass(frozen=True, eq=False)
class Measure:
    """
    Rows whose contenders are run in turn.

    @ivar name: what C{-k} finds it by.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def contenders(self) -> list[Contender]:
        """
        All that is to be run, in the order in which they first appear in the rows.
        """
        pairs = (contender for row in self.rows for contender in (row.ours, row.peer))
        return list(dict.fromkeys(contender for contender in pairs if contender is not None))
