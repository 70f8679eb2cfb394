"""
What a comparison is: contenders side by side, where what counts is no figure but what became of
everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Asked:
    """
    How a comparison is to be made.

    @ivar isQuick: do only as much as shows that it works.
    @ivar isLarge: do as much as the design asks for, with asynqueue alone.
    @ivar seed: of whatever is left to chance.
    """

    isQuick: bool
    isLarge: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    Contenders that go through the same.

    @ivar name: what C{-k} finds it by.
    @ivar about: one line on what is compared.
    @ivar run: makes the comparison, telling of each step. Returns what to record, and the text to
        print.
    """

    name: str
    about: str
    run: Callable[[Asked, Tell], tuple[dict[str, Any], str]]
