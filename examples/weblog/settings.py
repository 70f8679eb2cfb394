"""
The settings for the reading of logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FLOOD: Final = 300
"""How many requests an address may send within a minute, where nobody says otherwise."""


@dataclass(frozen=True)
class Settings:
    """
    How logs are to be read.

    @ivar processes: how many processes parse them.
    @ivar flood: how many requests an address may send within a minute.
    @ivar selection: which records are of interest: one of L{examples.weblog.records.SELECTIONS}.
    """

    processes: int
    flood: int = FLOOD
    selection: str = "bad"
