"""
The report: figures, and how they are shown.
"""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console

from examples.weblog.aggregate import Edges, summarise
from examples.weblog.charts import drawTimeline
from examples.weblog.madeup import makePart
from examples.weblog.parse import parseLines
from examples.weblog.report import Report, foldTimeline, makeReport
from examples.weblog.report_html import renderHTML
from examples.weblog.report_json import renderJSON
from examples.weblog.report_text import printReport
from examples.weblog.summary import Summary
from examples.weblog.texts import bytesText
from tests.examples.weblogs import makeLine

EVIL = "<script>alert(1)</script>&amp;[bold]\x1b[31m\u202e"


def summaryOf(data: bytes, flood: int = 300) -> Summary:
    summary = Summary()
    parsed = summarise(parseLines(data), flood)
    parsed.findings |= Edges(flood).add(parsed.edges)
    summary.add(parsed)
    return summary


def reportOf(data: bytes, flood: int = 300) -> Report:
    return makeReport(summaryOf(data, flood))


def evilReport() -> Report:
    """
    Make a report in which all text is what somebody smuggled in.
    """
    request = f"GET /{EVIL} HTTP/1.1"
    lines = [
        makeLine(f"a{EVIL}", request=request, referrer=EVIL, agent=EVIL),
        makeLine(f"a{EVIL}", request=request, status=404),
        EVIL.encode() + b"\n",
    ]
    summary = summaryOf(b"".join(lines), flood=1)
    summary.inputs.append(EVIL)
    summary.addFailure(EVIL, EVIL)
    summary.isPartial = True
    return makeReport(summary)


def textOf(report: Report, width: int = 100) -> str:
    stream = io.StringIO()
    printReport(report, Console(file=stream, width=width, force_terminal=True))
    return stream.getvalue()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def tagsOf(page: str) -> _Tags:
    tags = _Tags()
    tags.feed(page)
    return tags


def test_tablesHaveTheGreatestFirstAndThenTheLeastName() -> None:
    paths = ["b", "c", "a", "c", "d"]
    data = b"".join(makeLine(request=f"GET /{path} HTTP/1.1") for path in paths)
    report = makeReport(summaryOf(data), top=3)
    assert [(page.name, page.requests) for page in report.pages] == [
        ("/c", 2),
        ("/a", 1),
        ("/b", 1),
    ]


def test_timelineHasHoursWithoutRequests() -> None:
    dates = ["10/Oct/2024:22:00:00 +0000", "11/Oct/2024:01:59:59 +0000"]
    report = reportOf(b"".join(makeLine(date=date) for date in dates))
    assert [(moment.start, moment.requests) for moment in report.timeline] == [
        ("2024-10-10T22:00Z", 1),
        ("2024-10-10T23:00Z", 0),
        ("2024-10-11T00:00Z", 0),
        ("2024-10-11T01:00Z", 1),
    ]
    assert report.unit == "hour"


def test_longTimelineIsByTheDay() -> None:
    dates = ["01/Oct/2024:22:00:00 +0000", "31/Oct/2024:01:59:59 +0000"]
    report = reportOf(b"".join(makeLine(date=date) for date in dates))
    assert (report.unit, len(report.timeline)) == ("day", 31)


@pytest.mark.parametrize(
    ("last", "unit", "rows"),
    [
        ("11/Oct/2021", "hour", 25),
        ("20/Nov/2021", "day", 42),
        ("01/Mar/2022", "week", 22),
        ("09/Oct/2024", "month", 37),
        ("09/Oct/2025", "year", 5),
        ("09/Oct/2060", "", None),
        ("09/Oct/9000", "", None),
    ],
)
def test_timelineOnATerminalIsShortEnoughToRead(last: str, unit: str, rows: int | None) -> None:
    dates = ["10/Oct/2021:00:00:00 +0000", f"{last}:00:00:00 +0000"]
    report = reportOf(b"".join(makeLine(date=date) for date in dates))
    found, timeline = foldTimeline(report.timeline, report.unit, 48)
    assert sum(moment.requests for moment in timeline) == 2
    assert len(timeline) <= 48
    if rows is not None:
        assert (found, len(timeline)) == (unit, rows)
    assert len(textOf(report).splitlines()) < 100


@pytest.mark.parametrize("width", [40, 60, 80])
def test_barsAreNotWrapped(width: int) -> None:
    stream = io.StringIO()
    report = reportOf(makePart(1, 0, 2000, 2000))
    printReport(report, Console(file=stream, width=width))
    rows = stream.getvalue().partition("Timeline")[2].partition("Pages")[0].splitlines()[2:]
    _, timeline = foldTimeline(report.timeline, report.unit, 48)
    assert len(rows) == len(timeline)


@pytest.mark.parametrize("hours", range(1, 41))
def test_labelsOfTheChartDoNotOverlap(hours: int) -> None:
    lines = [
        makeLine(date=f"{10 + n // 24}/Oct/2024:{n % 24:02}:00:00 +0000") for n in range(hours)
    ]
    chart = drawTimeline(reportOf(b"".join(lines)).timeline, "hour")
    found = re.findall(r'<text x="([\d.]+)" y="234.00" text-anchor="start">', chart)
    places = [float(place) for place in found]
    assert places
    assert all(b - a >= 80 for a, b in pairwise(places))
    assert places[-1] <= 920


def test_namesAndDatesAreAtTheTop() -> None:
    dates = ["10/Oct/2024:22:10:00 +0200", "11/Oct/2024:01:59:59 +0000"]
    summary = summaryOf(b"".join(makeLine(date=date) for date in dates))
    summary.inputs += ["a.log", "b.log"]
    report = makeReport(summary)
    assert (report.first, report.last) == ("2024-10-10T20:10Z", "2024-10-11T01:59Z")
    for text in (textOf(report), renderHTML(report)):
        assert text.index("a.log, b.log") < text.index("requests")
        assert re.search("2024-10-10.20:10Z", text)
        assert re.search("2024-10-11.01:59Z", text)


def test_oddDatesMakeNoEndlessTimeline() -> None:
    dates = ["01/Jan/1970:00:00:00 +0000", "31/Dec/9998:23:59:59 +0000"]
    report = reportOf(b"".join(makeLine(date=date) for date in dates))
    assert [moment.start[:10] for moment in report.timeline] == ["1970-01-01", "9998-12-31"]


def test_reportOfNothingCanBeShown() -> None:
    report = makeReport(Summary())
    assert "No requests." in renderHTML(report)
    assert "Overview" in textOf(report)
    assert json.loads(renderJSON(report))["requests"] == 0


def test_oddStatusIsShown() -> None:
    report = reportOf(makeLine(status=999))
    assert report.classes["9xx"] == 1
    assert "9xx" in textOf(report)
    assert "9xx" in renderHTML(report)


def test_jsonHasAllFigures() -> None:
    found = json.loads(renderJSON(evilReport()))
    assert (found["requests"], found["malformed"], found["bytes"]) == (2, 1, 1024)
    assert (found["partial"], found["visitors"], found["misbehaving"]) == (True, 1, 1)
    assert found["failures"] == {EVIL: EVIL}
    assert found["offenders"][0]["address"].startswith("a<script>")
    assert found["pages"] == [{"name": f"GET /{EVIL} HTTP/1.1"[4:-9], "requests": 1}]
    assert renderJSON(evilReport()).isascii()


def test_pageShowsWhatIsSmuggledInAsText() -> None:
    found = tagsOf(renderHTML(evilReport()))
    assert "script" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on") or name == "src"]
    assert found.text.count("<script>alert(1)</script>") >= 8


def test_pageLoadsNothing() -> None:
    page = renderHTML(reportOf(makePart(1, 0, 2000, 2000)))
    assert not {"link", "script", "img", "iframe", "object"} & set(tagsOf(page).tags)
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "@import" not in page


def test_terminalIsNotObeyedByWhatIsSmuggledIn() -> None:
    text = textOf(evilReport())
    assert "[bold]" in text
    assert "\x1b[31m\u202e" not in text
    assert r"\x1b[31m\u202e" in text.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("width", [20, 80, 200])
def test_terminalReportFitsItsWidth(width: int) -> None:
    stream = io.StringIO()
    printReport(reportOf(makePart(1, 0, 2000, 2000)), Console(file=stream, width=width))
    assert max(map(len, stream.getvalue().splitlines())) <= width


def test_partialReportSaysSo() -> None:
    assert "PARTIAL" in textOf(evilReport())
    assert "Partial" in renderHTML(evilReport())
    assert "PARTIAL" not in textOf(reportOf(makeLine()))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (2 * 10**9, "2 GB"),
        (10**15, "1,000.0 TB"),
    ],
)
def test_bytesAreReadable(count: int, text: str) -> None:
    assert bytesText(count) == text
