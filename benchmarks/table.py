"""
The table of results.
"""

from __future__ import annotations

from benchmarks.measure import Row, Target
from benchmarks.rounds import Rounds, spreadOf

HEADER = ("measure", "unit", "ours", "peer", "peer's", "ratio", "target", "met")

Cells = tuple[str, ...]


def rowCells(row: Row, rounds: Rounds) -> Cells:
    """
    @param rounds: what was measured.
    @return: the texts under L{HEADER}.
    """
    ours = figuresText(rounds.figures[row.ours])
    peer = theirs = ratio = ""
    if row.peer is not None:
        peer = row.peer.name
        theirs = rounds.missing.get(row.peer) or figuresText(rounds.figures[row.peer])
        ratio = figuresText(rounds.ratios(row))
    met = {True: "yes", False: "NO", None: ""}[rounds.isMet(row)]
    target = targetText(row.target, row.unit)
    return row.label, row.unit, ours, peer, theirs, ratio, target, met


def layOut(lines: list[Cells], header: Cells = HEADER) -> str:
    """
    @return: the table, with columns as wide as their widest cell.
    """
    table = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    )


def targetText(target: Target | None, unit: str) -> str:
    """
    @param unit: of the row's figures.
    """
    if target is None:
        return ""
    sign = "≥" if target.isLeast else "≤"
    return f"{sign} {numberText(target.bound)}{'x' if target.isRatio else f' {unit}'}"


def figuresText(figures: list[float]) -> str:
    """
    @param figures: maybe none.
    @return: the median, with the least and the most.
    """
    if not figures:
        return ""
    spread = spreadOf(figures)
    least, most = numberText(spread.least), numberText(spread.most)
    return f"{numberText(spread.median)} ({least}-{most})"


def numberText(number: float) -> str:
    """
    @return: a number with four digits, or with all those before the decimal point.
    """
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
