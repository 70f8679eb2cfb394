"""
The settings for the reading of logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from examples.weblog.filters import ALL_REQUESTS, Filters

FLOOD: Final = 300
"""How many requests an address may send within a minute, where nobody says otherwise."""


@dataclass(frozen=True)
class LineOptions:
    """
    How the lines of one log are to be read. It goes to the worker processes.

    @ivar format: one of L{examples.weblog.formats.FORMATS}, or C{None} to find out.
    @ivar filters: which requests count.
    @ivar isForwarded: whether a request's address is the one that X-Forwarded-For names.
    """

    format: str | None = None
    isForwarded: bool = False
    filters: Filters = ALL_REQUESTS


DEFAULT_LINES: Final = LineOptions()


@dataclass(frozen=True)
class Settings:
    """
    How logs are to be read.

    @ivar processes: how many processes parse them.
    @ivar flood: how many requests an address may send within a minute.
    @ivar lines: how lines are to be read.
    @ivar selection: which records are of interest: one of L{examples.weblog.records.SELECTIONS}.
    """

    processes: int
    flood: int = FLOOD
    selection: str = "bad"
    lines: LineOptions = DEFAULT_LINES
