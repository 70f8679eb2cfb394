"""
How amounts are shown to people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asynqueue.interfaces import JSONObject

EXACT: Final = 50_000
"""Up to this, counts are shown exactly on a page. Greater ones change while they are read."""


def length(seconds: float | None) -> str:
    """
    @return: a length of time, for people.
    """
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.1f}s"


def kilobytes(size: int | None) -> str:
    """
    @return: an amount of memory, for people.
    """
    return "-" if size is None else f"{size / 1024:.0f}M"


def progressOf(task: JSONObject) -> str:
    """
    @return: how far a task has come, for people.
    """
    progress = task.get("progress")
    if not progress:
        return ""
    done, total = progress["done"], progress["total"]
    if isinstance(done, int | float) and isinstance(total, int | float) and total:
        return f"{100 * done / total:.0f}%"
    return str(done)


def roughly(count: int) -> str:
    """
    @return: a count, rounded to three digits if it is great.
    """
    if count <= EXACT:
        return f"{count:,}"
    unit = 10 ** (len(str(count)) - 3)
    return f"≈ {round(count / unit) * unit:,}" if count < 2**53 else f"≈ {count // unit * unit:,}"
