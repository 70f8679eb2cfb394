"""
Charts, as inline SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from examples.weblog.report import Moment

CLASS_COLOURS: Final = {
    "1xx": "#8a8a8a",
    "2xx": "#3f8f5b",
    "3xx": "#4a7fb5",
    "4xx": "#d08a2e",
    "5xx": "#b3261e",
}

_WIDTH = 1000
_HEIGHT = 220
_LEFT = 60
_FOOT = 20
_MOST_LABELS = 8

# How wide a label may be.
_LABEL = 80


def drawTimeline(timeline: Sequence[Moment], unit: str) -> str:
    """
    @param unit: what a moment is: C{"hour"} or C{"day"}.
    @return: a bar for each moment, its classes of status on top of each other.
    """
    if not timeline:
        return "<p>No requests.</p>"
    most = max(moment.requests for moment in timeline)
    step = (_WIDTH - _LEFT) / len(timeline)
    parts = [_text(_LEFT - 6, 12, f"{most:,}", "end"), _text(_LEFT - 6, _HEIGHT, "0", "end")]
    parts.append(
        f'<line x1="{_LEFT}" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}" stroke="currentColor"/>'
    )
    labelled = -(-len(timeline) // _MOST_LABELS)
    free = 0.0
    for number, moment in enumerate(timeline):
        x = _LEFT + number * step
        parts.append(_drawMoment(moment, x, step, most))
        if number % labelled == 0:
            label = moment.start[:10] if unit == "day" else moment.start[5:16].replace("T", " ")
            # A label near the right end is moved to the left, and left out if another is there.
            start = min(x, _WIDTH - _LABEL)
            if start >= free:
                parts.append(_text(start, _HEIGHT + 14, label))
                free = start + _LABEL
    return _svg(_HEIGHT + _FOOT, f"requests by {unit}", parts)


def drawShares(classes: Mapping[str, int]) -> str:
    """
    @return: one bar, with a part for each class of status.
    """
    total = sum(classes.values())
    parts, x = [], 0.0
    for name, count in classes.items():
        if count:
            width = count / total * _WIDTH
            title = f"{name}: {count:,}"
            parts.append(_rectangle(x, 0, width, 24, _colour(name), title))
            x += width
    return _svg(24, "requests by class of status", parts)


def _drawMoment(moment: Moment, x: float, step: float, most: int) -> str:
    parts, y = [], float(_HEIGHT)
    for name, count in moment.classes.items():
        if count:
            height = count / most * (_HEIGHT - 4)
            y -= height
            parts.append(_rectangle(x, y, max(step - 1, 0.5), height, _colour(name)))
    return f"<g><title>{escape(moment.start)}: {moment.requests:,}</title>{''.join(parts)}</g>"


def _rectangle(
    x: float, y: float, width: float, height: float, colour: str, title: str = ""
) -> str:
    inner = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'fill="{colour}">{inner}</rect>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    inner = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">\n'
        f"{inner}\n</svg>"
    )


def _colour(name: str) -> str:
    return CLASS_COLOURS.get(name, "#8a8a8a")
