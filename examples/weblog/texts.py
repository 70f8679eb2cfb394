"""
Figures as text.
"""

from __future__ import annotations


def bytesText(count: int) -> str:
    """
    @return: a number of bytes, such as C{1.5 GB}, with powers of 1000.
    """
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{count} bytes" if unit == "bytes" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"


def shareText(count: int, total: int) -> str:
    """
    @return: a share in percent; nothing if there is no whole.
    """
    return f"{count / total:.1%}" if total else ""
