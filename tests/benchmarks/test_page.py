"""
The documentation's figures and plot say what the record of a run says.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.page import figuresPage, linesOf, plot, reliabilityPage
from benchmarks.record import withMeasuredAgain

SVG = "{http://www.w3.org/2000/svg}"


def makeRow(**changes: Any) -> dict[str, Any]:
    row = {
        "label": "calls",
        "unit": "calls/s",
        "ours": "ours",
        "figures": [300.0, 400.0, 500.0, 400.0, 400.0],
        "peer": "another",
        "peersFigures": [100.0, 100.0, 100.0, 100.0, 100.0],
        "missing": None,
        "ratios": [3.0, 4.0, 5.0, 4.0, 4.0],
        "target": {"bound": 10, "isLeast": True, "isRatio": True},
        "isMet": False,
    }
    return {**row, **changes}


def makeRecord(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    record = {
        "started": "2026-01-02T03:04:05+00:00",
        "commit": "abc123",
        "machine": {
            "platform": "Linux",
            "processor": "a processor",
            "processors": 2,
            "memoryBytes": 8 << 30,
            "loadAverages": [0.1, 0.1, 0.1],
        },
        "python": {"version": "3.11.7 (main)", "implementation": "CPython"},
        "versions": {"twisted": "1.2.3", "absent": None},
        "rounds": 5,
        "measures": {"calls": {"rows": list(rows)}},
        "broken": [],
    }
    return {**record, **changes}


def test_pageHasTheMachineTheDateAndTheVersions() -> None:
    text = figuresPage(makeRecord(makeRow()))
    for part in ("2026-01-02", "abc123", "a processor", "CPython 3.11.7", "twisted 1.2.3"):
        assert part in text
    assert "absent" not in text


def test_pageHasTheMediansTheRangesAndTheMissedTarget() -> None:
    text = figuresPage(makeRecord(makeRow()))
    for cell in ("- 400 (300-500)", "- 100 (100-100)", "- 4 (3-5)", "- ≥ 10x (missed)"):
        assert cell in text


def test_pageSaysWhyAPeerWasNotMeasured() -> None:
    row = makeRow(peersFigures=[], ratios=[], isMet=None, missing="it is not installed")
    assert "not measured: it is not installed" in figuresPage(makeRecord(row))


@pytest.mark.parametrize(
    ("unit", "ratio", "isLost"),
    [("calls/s", 0.5, True), ("calls/s", 2.0, False), ("µs", 2.0, True), ("µs", 0.5, False)],
)
def test_pageNamesTheRowsInWhichOthersWin(unit: str, ratio: float, isLost: bool) -> None:
    text = figuresPage(makeRecord(makeRow(unit=unit, ratios=[ratio] * 5)))
    assert ("- calls: another is 2.00 times as good" in text) == isLost


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"rounds": 1}, "too few"),
        ({"broken": ["items"]}, "broke in this run: items"),
    ],
)
def test_pageWarnsOfARunThatIsNotToBeReliedOn(changes: dict[str, Any], warning: str) -> None:
    assert warning in figuresPage(makeRecord(makeRow(), **changes))
    assert warning not in figuresPage(makeRecord(makeRow()))


def test_whatWasMeasuredAgainReplacesWhatWasThereAndIsTold() -> None:
    whole = makeRecord(makeRow(label="first"), comparisons={}, broken=["items"])
    part = makeRecord(commit="fed", started="2026-11-30T10:00:00", comparisons={})
    part["measures"] = {"items": {"rows": [makeRow(label="later")]}}
    record = withMeasuredAgain(whole, part, ["items", "calls"])
    assert [line.label for line in linesOf(record)] == ["later", "first"]
    text = figuresPage(record)
    assert "broke" not in text
    assert "Measured later: items, on 2026-11-30, commit fed. Number of rounds: 5." in text


def test_aTargetOfLessThanThePeerNeedsAnAdvantageOfMore() -> None:
    target = {"bound": 0.5, "isLeast": False, "isRatio": True}
    (line,) = linesOf(makeRecord(makeRow(unit="ms", target=target, ratios=[0.25])))
    assert line.advantages == [4.0]
    assert line.neededAdvantage == 2.0


def test_aRowInWhichNothingWasDoneIsShown() -> None:
    record = makeRecord(makeRow(figures=[0.0] * 5, ratios=[0.0] * 5))
    assert "another is 10,000.00 times as good" in figuresPage(record)
    ElementTree.fromstring(plot(record))


def test_plotHasABarForEachRowWithARatio() -> None:
    alone = makeRow(peer=None, peersFigures=[], ratios=[], target=None, label="alone")
    text = plot(makeRecord(makeRow(), alone, makeRow(label="a < b & c")))
    texts = [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert "calls, against another" in texts
    assert "a < b & c, against another" in texts
    assert not any("alone" in each for each in texts)
    assert texts.count("4x") == 2


def test_crashesAndTheStormAreShownWithTheirTotals() -> None:
    cell = {"words": ["fails", "ok", "works"], "said": [], "status": None}
    broken = {"words": ["hangs", "lost", "broken"], "said": [], "status": None}
    outcome = {
        **{"kills": 50, "done": 4951, "failed": 49, "failedUnbegun": 1, "twice": 0, "hung": 3},
        "seconds": 1.66,
    }
    comparisons = {
        "crashes": {
            "cases": {"segmentation fault": {"ours": cell, "theirs": broken}},
            "totals": {"ours": {"tasks hung": 0}, "theirs": {"tasks hung": 1}},
        },
        "storm": {"kills": 50, "tasks": 5000, "seed": 17, "outcomes": {"ours": outcome}},
    }
    text = reliabilityPage(makeRecord(comparisons=comparisons))
    assert "   * - segmentation fault\n     - fails ok works\n     - hangs lost broken" in text
    assert "   * - tasks hung, of 1\n     - 0\n     - 1" in text
    assert "50 kills over 5,000 tasks, seed 17" in text
    assert (
        "   * - ours\n     - 50\n     - 4,951\n     - 49\n     - 1\n     - 0\n     - 3\n     - 1.7"
        in text
    )
