"""
The report as a page: one file, without scripts, and with nothing to be loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from examples.weblog.charts import CLASS_COLOURS, drawShares, drawTimeline
from examples.weblog.report import Count, Report
from examples.weblog.texts import bytesText, shareText

_STYLE: Final = """\
:root { color-scheme: light dark; --line: #8884; --soft: #888; --bar: #4a7fb5 }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.notice { background: #b3261e; color: #fff; padding: .6rem 1rem; border-radius: .3rem }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none }
.figures li { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem 1rem }
.figures b { display: block; font-size: 1.4rem }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
td, th { padding: .2rem .5rem; border-bottom: 1px solid var(--line); text-align: right }
td:first-child, th:first-child, td.text, th.text { text-align: left }
td { overflow-wrap: anywhere } th { color: var(--soft); font-weight: normal }
col.number { width: 7rem } col.share { width: 5rem } col.rules { width: 45% }
svg { width: 100%; height: auto; display: block } svg text { fill: currentColor; font-size: 11px }
.legend span { margin-right: 1rem } .legend i { display: inline-block; width: .8em; height: .8em }
code { overflow-wrap: anywhere }
"""

# Nothing is loaded or run, whatever a log may have smuggled in.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def renderHTML(report: Report) -> str:
    """
    @return: the page. It shows what a log says as text, never as markup.
    """
    body = "\n".join(part for part in _parts(report) if part)
    return _PAGE.format(policy=_POLICY, title="Web log report", style=_STYLE, body=body)


def _parts(report: Report) -> Iterable[str]:
    if report.isPartial:
        yield '<p class="notice">Partial: interrupted, this is what was read so far.</p>'
    span = f", from {report.first} to {report.last}" if report.first else ""
    yield f"<p>Read: {escape(', '.join(report.inputs)) or 'nothing'}{span}</p>"
    yield _failures(report)
    yield _figures(report)
    yield f"<h2>Timeline by {report.unit} (UTC)</h2>"
    yield drawTimeline(report.timeline, report.unit)
    yield "<h2>Status</h2>"
    yield drawShares(report.classes)
    yield _legend(report)
    for title, counts in (
        ("Statuses", report.statuses),
        ("Virtual hosts", report.hosts),
        ("Pages", report.pages),
        ("Static files", report.files),
        ("Missing pages (404)", report.missing),
        ("Referrers", report.referrers),
        ("Browsers and other programs", report.browsers),
        ("Systems", report.systems),
        ("Addresses", report.addresses),
    ):
        yield _counts(title, counts, report.requests)
    yield _offenders(report)
    yield _malformed(report)


def _figures(report: Report) -> str:
    figures = (
        ("requests", f"{report.requests:,}"),
        ("visitors (addresses)", f"{report.visitors:,}"),
        ("sent", bytesText(report.bytes)),
        ("malformed lines", f"{report.malformed:,}"),
        ("misbehaving addresses", f"{report.misbehaving:,}"),
    )
    items = "".join(f"<li><b>{value}</b>{name}</li>" for name, value in figures)
    return f'<ul class="figures">{items}</ul>'


def _legend(report: Report) -> str:
    items = "".join(
        f'<span><i style="background:{CLASS_COLOURS.get(name, "#888")}"></i> {name}: {count:,} '
        f"({shareText(count, report.requests) or '0%'})</span>"
        for name, count in report.classes.items()
    )
    return f'<p class="legend">{items}</p>'


def _counts(title: str, counts: Sequence[Count], total: int) -> str:
    rows = [
        (escape(count.name), f"{count.requests:,}", shareText(count.requests, total))
        for count in counts
    ]
    columns = '<col><col class="number"><col class="share">'
    return _table(title, columns, "<th></th><th>requests</th><th>share</th>", rows)


def _offenders(report: Report) -> str:
    rows = [
        (escape(each.address), f"{each.requests:,}", escape(", ".join(each.rules)))
        for each in report.offenders
    ]
    columns = '<col><col class="number"><col class="rules">'
    head = "<th></th><th>requests</th><th>rules</th>"
    return _table(f"Misbehaving addresses ({report.misbehaving:,} in all)", columns, head, rows)


def _table(title: str, columns: str, head: str, rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n" for cells in rows)
    return (
        f"<h2>{title}</h2>\n<table><colgroup>{columns}</colgroup>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    )


def _malformed(report: Report) -> str:
    if not report.malformedExamples:
        return ""
    lines = "".join(f"<li><code>{escape(line)}</code></li>\n" for line in report.malformedExamples)
    rows = [(escape(name), f"{count:,}") for name, count in report.malformedByInput.items()]
    table = _table("Malformed lines", '<col><col class="number">', "<th></th><th>lines</th>", rows)
    return f"{table}<h2>Malformed lines, for example</h2>\n<ul>{lines}</ul>"


def _failures(report: Report) -> str:
    if not report.failures:
        return ""
    items = "".join(
        f"<li><b>{escape(name)}</b>: {escape(reason)}</li>\n"
        for name, reason in report.failures.items()
    )
    return f"<h2>Could not be read, or not to the end</h2>\n<ul>{items}</ul>"
