"""
The report for a terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.weblog.report import Count, Moment, Offender, Report, foldTimeline
from examples.weblog.texts import bytesText, shareText

_BAR = 40
_BLOCKS = " ▏▎▍▌▋▊▉█"

# A timeline of more rows than that is summed up by a longer unit, so that it fits on a screen.
_MOST_MOMENTS = 48

# How many columns the cells beside a bar have.
_BESIDE_BARS = 36

# Numbers come first, so that what may be long is last and has the room that is left.
_NUMBERS = ("requests", "share", "5xx", "lines")

# Control characters, and characters that change the direction of the following text.
_UNSEEN = ("Cc", "Cf", "Zl", "Zp")

_STYLES = {"2xx": "green", "3xx": "cyan", "4xx": "yellow", "5xx": "red"}


def printReport(report: Report, console: Console) -> None:
    """
    Print a report.
    """
    console.print(Group(*_parts(report, Bars(console))), soft_wrap=False)


class Bars:
    """
    I draw bars with characters that a console's encoding has.
    """

    def __init__(self, console: Console) -> None:
        self._width = max(1, min(_BAR, console.width - _BESIDE_BARS))
        try:
            _BLOCKS.encode(console.encoding)
        except UnicodeEncodeError:
            self._isPlain = True
        else:
            self._isPlain = False

    def draw(self, share: float) -> str:
        """
        @return: a bar for a share of 1.
        """
        if self._isPlain:
            return "#" * round(share * self._width)
        full, rest = divmod(round(share * self._width * 8), 8)
        return _BLOCKS[8] * full + (_BLOCKS[rest] if rest else "")


def _parts(report: Report, bars: Bars) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if report.isPartial:
        parts.append(Text("PARTIAL: interrupted, this is what was read so far", "bold red"))
    if report.inputs:
        parts.append(plainText(f"Read: {', '.join(report.inputs)}"))
    parts += [_overview(report), _classes(report, bars), _timeline(report, bars)]
    for title, counts in (
        ("Virtual hosts", report.hosts),
        ("Pages", report.pages),
        ("Static files", report.files),
        ("Missing pages (404)", report.missing),
        ("Referrers", report.referrers),
        ("Browsers and other programs", report.browsers),
        ("Systems", report.systems),
        ("Addresses", report.addresses),
    ):
        if counts:
            parts.append(_table(title, counts, report.requests))
    if report.offenders:
        parts.append(_offenders(report.offenders, report.misbehaving))
    if report.malformedByInput:
        parts += [_malformedByInput(report), _malformed(report)]
    if report.failures:
        parts.append(_failures(report.failures))
    return parts


def _overview(report: Report) -> RenderableType:
    table = _makeTable("Overview", "", "")
    table.columns[1].justify = "right"
    if report.first and report.last:
        table.add_row("from", report.first.replace("T", " "))
        table.add_row("to", report.last.replace("T", " "))
    for name, value in (
        ("requests", f"{report.requests:,}"),
        ("visitors (addresses)", f"{report.visitors:,}"),
        ("sent", bytesText(report.bytes)),
        ("malformed lines", f"{report.malformed:,}"),
        ("misbehaving addresses", f"{report.misbehaving:,}"),
    ):
        table.add_row(name, value)
    return table


def _classes(report: Report, bars: Bars) -> RenderableType:
    table = _makeTable("Status", "requests", "share", "class", "")
    for name, count in report.classes.items():
        share = count / report.requests if report.requests else 0.0
        bar = Text(bars.draw(share), _STYLES.get(name, "white"))
        table.add_row(f"{count:,}", shareText(count, report.requests), name, bar)
    return table


def _timeline(report: Report, bars: Bars) -> RenderableType:
    unit, timeline = foldTimeline(report.timeline, report.unit, _MOST_MOMENTS)
    table = _makeTable(f"Timeline by {unit} (UTC)", "requests", "5xx", unit, "")
    most = max((moment.requests for moment in timeline), default=0)
    for moment in timeline:
        table.add_row(*_momentCells(moment, most, unit, bars))
    return table


def _momentCells(moment: Moment, most: int, unit: str, bars: Bars) -> tuple[RenderableType, ...]:
    start = moment.start[:16].replace("T", " ") if unit == "hour" else moment.start[:10]
    bar = Text(bars.draw(moment.requests / most if most else 0.0), "blue")
    return f"{moment.requests:,}", f"{moment.classes['5xx']:,}", start, bar


def _table(title: str, counts: Sequence[Count], total: int) -> RenderableType:
    table = _makeTable(title, "requests", "share", "")
    for count in counts:
        share = shareText(count.requests, total)
        table.add_row(f"{count.requests:,}", share, plainText(count.name))
    return table


def _offenders(offenders: Sequence[Offender], total: int) -> RenderableType:
    table = _makeTable(f"Misbehaving addresses ({total:,} in all)", "requests", "address", "rules")
    for offender in offenders:
        rules = Text(", ".join(offender.rules), "red")
        table.add_row(f"{offender.requests:,}", plainText(offender.address), rules)
    return table


def _malformedByInput(report: Report) -> RenderableType:
    table = _makeTable("Malformed lines", "lines", "input")
    for name, count in report.malformedByInput.items():
        table.add_row(f"{count:,}", plainText(name))
    return table


def _malformed(report: Report) -> RenderableType:
    table = _makeTable("Malformed lines, for example", "")
    for line in report.malformedExamples:
        table.add_row(plainText(line))
    return table


def _failures(failures: dict[str, str]) -> RenderableType:
    table = _makeTable("Could not be read, or not to the end", "input", "reason")
    for name, reason in failures.items():
        table.add_row(plainText(name), plainText(reason, "red"))
    return table


def _makeTable(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    table.show_header = any(headings)
    for heading in headings:
        table.add_column(
            heading, justify="right" if heading in _NUMBERS else "left", overflow="fold"
        )
    return table


def plainText(text: str, style: str = "") -> Text:
    """
    @return: text from a log, in which nothing is markup, and control characters are shown rather
        than obeyed.
    """
    shown = [repr(char)[1:-1] if unicodedata.category(char) in _UNSEEN else char for char in text]
    return Text("".join(shown), style)
