"""
Writes what the documentation says of the latest run: its figures, a plot of them, and what became
of everything in its crashes and its storm.

C{make bench} does it at the end of a whole run, and C{python -m benchmarks.page} does it again from
the record of the latest run. C{docs/performance.rst} and C{docs/reliability.rst} include the files.

The plot is written as SVG by hand. It has bars and lines only, so it needs no plotting library. The
same record gives the same bytes everywhere, and a diff shows what changed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from xml.sax.saxutils import escape

from benchmarks.measure import Target
from benchmarks.record import LATEST
from benchmarks.table import figuresText, targetText

DOCS: Final = Path(__file__).parents[1] / "docs"
FIGURES: Final = DOCS / "performance-figures.inc"
PLOT: Final = DOCS / "performance.svg"
RELIABILITY: Final = DOCS / "reliability-figures.inc"

WRITTEN: Final = ".. Written by benchmarks/page.py. Changes made here are lost."

LESS_IS_BETTER: Final = {"µs", "ms", "bytes", "MB", "times", "functions", "files"}
"""The units of figures that are better the smaller they are."""

LEAST_ADVANTAGE: Final = 1e-4
"""Our figure may be 0 if nothing was done in time. The plot and the texts take it for this much."""

MANY: Final = 10
"""The plot tells so many times, and more, in whole numbers."""

ENOUGH: Final = 5
"""So many rounds make a median that the page does not warn of."""


@dataclass(frozen=True)
class Line:
    """
    One row of the table, as the record has it.

    @ivar ours: our figures, by round.
    @ivar ratios: ours to the peer's, by round.
    @ivar missing: why the peer could not be run, or C{None}.
    """

    label: str
    unit: str
    ours: list[float]
    peer: str | None
    peers: list[float]
    ratios: list[float]
    target: Target | None
    isMet: bool | None
    missing: str | None

    @property
    def advantages(self) -> list[float]:
        """
        By round, how many times better ours is than the peer's, whichever direction is better.
        """
        isLess = self.unit in LESS_IS_BETTER
        values = (1 / ratio if isLess else ratio for ratio in self.ratios)
        return [max(value, LEAST_ADVANTAGE) for value in values]

    @property
    def neededAdvantage(self) -> float | None:
        """
        The advantage that the target asks for, or C{None} if it bounds no ratio.
        """
        if self.target is None or not self.target.isRatio:
            return None
        return self.target.bound if self.target.isLeast else 1 / self.target.bound


def linesOf(record: Mapping[str, Any]) -> list[Line]:
    """
    Return the rows of a run's record, in their order.
    """
    return [
        Line(
            label=row["label"],
            unit=row["unit"],
            ours=row["figures"],
            peer=row["peer"],
            peers=row["peersFigures"],
            ratios=row["ratios"],
            target=Target(**row["target"]) if row["target"] else None,
            isMet=row["isMet"],
            missing=row["missing"],
        )
        for measure in record["measures"].values()
        for row in measure["rows"]
    ]


# The figures --------------------------------------------------------------------------------------


def figuresPage(record: Mapping[str, Any]) -> str:
    """
    Return reStructuredText: where the run was made, its table, and the rows in which others win.
    """
    lines = linesOf(record)
    parts = [WRITTEN, *_whereText(record)]
    if record["rounds"] < ENOUGH:
        parts.append(
            f".. warning::\n\n   Each figure comes from fewer than {ENOUGH} rounds, which "
            "are too few to rely on."
        )
    header = ("what", "unit", "asynqueue", "against", "theirs", "ratio", "target")
    parts += [_tableText([header, *map(_cells, lines)]), *_losersText(lines)]
    if record["broken"]:
        parts.append(f"These benchmarks broke in this run: {', '.join(record['broken'])}.")
    return "\n\n".join(parts) + "\n"


def _whereText(record: Mapping[str, Any]) -> Iterator[str]:
    machine, python = record["machine"], record["python"]
    gibibytes = machine["memoryBytes"] / 2**30
    yield (
        f"The run of {record['started'].partition('T')[0]}, commit {record['commit']}, on "
        f"{machine['processor']} ({machine['processors']} processors, {gibibytes:.0f} GiB of "
        f"memory), {machine['platform']}, {python['implementation']} "
        f"{python['version'].partition(' ')[0]}. Number of rounds: {record['rounds']}."
    )
    load = machine["loadAverages"][0]
    if load > 1:
        yield (
            f"The machine was not idle: its load average was {load:.1f} when the run began. The "
            "ratios say more than the figures, because both sides of a row were measured in turn."
        )
    for again in record.get("again", ()):
        yield (
            f"Measured later: {', '.join(again['names'])}, on "
            f"{again['started'].partition('T')[0]}, commit {again['commit']}. "
            f"Number of rounds: {again['rounds']}."
        )
    known = [f"{name} {version}" for name, version in record["versions"].items() if version]
    yield f"Versions: {', '.join(known)}."


def _tableText(rows: Iterable[Iterable[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in rows:
        lines += [
            f"   {'  ' if number else '* '}- {cell}".rstrip() for number, cell in enumerate(cells)
        ]
    return "\n".join(lines)


def _cells(line: Line) -> tuple[str, ...]:
    target = targetText(line.target, line.unit)
    if line.isMet is False:
        target += " (missed)"
    theirs = f"not measured: {line.missing}" if line.missing else figuresText(line.peers)
    return (
        line.label,
        line.unit,
        figuresText(line.ours),
        line.peer or "",
        theirs,
        figuresText(line.ratios),
        target,
    )


def _losersText(lines: Sequence[Line]) -> Iterator[str]:
    losers = [line for line in lines if line.advantages and median(line.advantages) < 1]
    if not losers:
        return
    yield "Others win in these rows:"
    for line in sorted(losers, key=lambda line: median(line.advantages)):
        yield f"- {line.label}: {line.peer} is {1 / median(line.advantages):,.2f} times as good."


# Crashes and the storm ----------------------------------------------------------------------------


def reliabilityPage(record: Mapping[str, Any]) -> str:
    """
    Return reStructuredText: a table of the crashes, and one of the storm.
    """
    crashes, storm = (record["comparisons"][name] for name in ("crashes", "storm"))
    names = list(crashes["totals"])
    words = [
        (label, *(" ".join(cells[name]["words"]) for name in names))
        for label, cells in crashes["cases"].items()
    ]
    totals = [
        (f"{title}, of {len(words)}", *(str(crashes["totals"][name][title]) for name in names))
        for title in crashes["totals"][names[0]]
    ]
    outcomes = [
        (name, *(f"{outcome[key]:,}" for key in STORM), f"{outcome['seconds']:.1f}")
        for name, outcome in storm["outcomes"].items()
    ]
    parts = [
        WRITTEN,
        *_whereText(record),
        "The task, the bystander and the pool, for each crash:",
        _tableText([("crash", *names), *words, *totals]),
        f"The storm, {storm['kills']:,} kills over {storm['tasks']:,} tasks, seed {storm['seed']}:",
        _tableText([("pool", *STORM.values(), "seconds"), *outcomes]),
    ]
    return "\n\n".join(parts) + "\n"


STORM: Final = {
    "kills": "kills",
    "done": "done",
    "failed": "failed",
    "failedUnbegun": "of these not begun",
    "twice": "run twice",
    "hung": "hung",
}
"""The columns of the storm's table, by their names in the record."""


# The plot -----------------------------------------------------------------------------------------

WIDTH: Final = 1020
LABELS: Final = 620
"""Where the bars' area begins, left of which the labels stand."""
RIGHT: Final = WIDTH - 60
STEP: Final = 22
TOP: Final = 40
ABOUT: Final = (
    "How many times better than each peer asynqueue is, row by row, on a logarithmic scale."
)


def plot(record: Mapping[str, Any]) -> str:
    """
    Return an SVG image: how many times better than its peer asynqueue is in each row. It is a part
    of the page, whose style sheet gives its classes the colours of the theme.
    """
    lines = [line for line in linesOf(record) if line.advantages]
    height = TOP + STEP * len(lines) + 30
    values = [value for line in lines for value in line.advantages]
    values += [line.neededAdvantage for line in lines if line.neededAdvantage is not None]
    low = math.floor(math.log10(min(values, default=1)))
    high = math.ceil(math.log10(max(values, default=10)))
    scale = _Scale(max(min(low, -1), -2), min(max(high, 1), 3))
    shapes = [
        f'<svg class="diagram plot" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{ABOUT}">',
        *_axis(scale, height),
    ]
    for number, line in enumerate(lines):
        shapes += _bar(line, scale, TOP + STEP * number)
    legend = "bar: median; line: range of the rounds; mark: target. Logarithmic scale."
    shapes.append(f'<text class="note" x="10" y="{height - 10}">{legend}</text>')
    return "\n".join([*shapes, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Scale:
    low: int
    high: int

    def place(self, value: float) -> float:
        # A value beyond the scale is drawn at its end.
        power = min(max(math.log10(value), self.low), self.high)
        part = (power - self.low) / (self.high - self.low)
        return LABELS + part * (RIGHT - LABELS)


def _axis(scale: _Scale, height: int) -> Iterator[str]:
    for power in range(scale.low, scale.high + 1):
        x = scale.place(10.0**power)
        kind = "even" if power == 0 else "grid"
        yield f'<path class="{kind}" d="M{x:.1f} {TOP - 10}V{height - 28}"/>'
        yield f'<text x="{x:.1f}" y="{TOP - 16}" text-anchor="middle">{10.0**power:g}x</text>'


def _bar(line: Line, scale: _Scale, y: int) -> Iterator[str]:
    middle = y + STEP / 2
    one, value = scale.place(1), scale.place(median(line.advantages))
    left, width = min(one, value), abs(value - one)
    kind = "better" if value >= one else "worse"
    label = escape(f"{line.label}, against {line.peer}")
    yield f'<text x="{LABELS - 10}" y="{middle + 4:.1f}" text-anchor="end">{label}</text>'
    yield (
        f'<rect class="{kind}" x="{left:.1f}" y="{y + 5}" width="{max(width, 1):.1f}" '
        f'height="{STEP - 10}"/>'
    )
    least, most = scale.place(min(line.advantages)), scale.place(max(line.advantages))
    yield f'<path class="range" d="M{least:.1f} {middle:.1f}H{most:.1f}"/>'
    if line.neededAdvantage is not None:
        x = scale.place(line.neededAdvantage)
        yield f'<path class="target" d="M{x:.1f} {y + 2}V{y + STEP - 2}"/>'
    advantage = median(line.advantages)
    text = f"{advantage:,.0f}x" if advantage >= MANY else f"{advantage:.2g}x"
    yield f'<text x="{RIGHT + 8}" y="{middle + 4:.1f}">{text}</text>'


def write(record: Mapping[str, Any]) -> None:
    """
    Write all files.
    """
    FIGURES.write_text(figuresPage(record), encoding="utf-8")
    PLOT.write_text(plot(record), encoding="utf-8")
    RELIABILITY.write_text(reliabilityPage(record), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Write all files from the record of a run.

    @param arguments: the command's. Default: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description="Write the documentation's figures and plot from the record of a run.",
    )
    parser.add_argument("record", nargs="?", type=Path, default=LATEST, help="the record's file")
    write(json.loads(parser.parse_args(arguments).record.read_text(encoding="utf-8")))
    print(f"Wrote {FIGURES}, {PLOT} and {RELIABILITY}")


if __name__ == "__main__":
    main()
