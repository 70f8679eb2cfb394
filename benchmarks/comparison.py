"""
Comparisons: contenders side by side. The result is not a figure but the fate of every task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Asked:
    """
    The way in which a comparison is made.

    @ivar isQuick: whether to do only enough to show that it works.
    @ivar isLarge: whether to do as much as the design asks for, with asynqueue alone.
    @ivar seed: the seed of everything that is left to chance.
    """

    isQuick: bool
    isLarge: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    Contenders that go through the same faults.

    @ivar name: the name by which C{-k} finds it.
    @ivar about: one line on what is compared.
    @ivar run: makes the comparison and tells of each step. It returns the record and the text to
        print.
    """

    name: str
    about: str
    run: Callable[[Asked, Tell], tuple[dict[str, Any], str]]
