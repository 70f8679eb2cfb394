"""
The page, looked at in a browser.

It takes Chromium, which C{make browser} installs. Without it these tests fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.weblog.madeup import makePart
from examples.weblog.report_html import renderHTML
from tests.examples.png import decodeRGB
from tests.examples.test_weblog_report import evilReport, reportOf
from tests.support.browser import Browser, findBrowser

# What a test would ask a person to look for.
PROBE = """
(() => {
    const boxesOf = what =>
        [...document.querySelectorAll(what)].map(each => each.getBoundingClientRect());
    const boxes = boxesOf("svg rect"), labels = boxesOf("svg text");
    const right = document.querySelector("svg")?.getBoundingClientRect().right;
    const hidden = [...document.querySelectorAll("h1,h2,td,th,li,text")].filter(each =>
        each.textContent.trim() && !(each.getBoundingClientRect().height > 0));
    return {
        width: window.innerWidth,
        content: document.documentElement.scrollWidth,
        bars: boxes.filter(box => box.width > 0 && box.height > 0).length,
        outside: [...boxes, ...labels].filter(box => box.left < 0 || box.right > right + 1).length,
        hidden: hidden.length,
        headings: [...document.querySelectorAll("h2")].map(each => each.textContent),
        scripts: document.scripts.length,
        text: document.body.innerText,
    };
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = findBrowser()
    if program is None:
        pytest.fail("Chromium is not installed, which shows the pages: run `make browser`")
    with Browser(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser
        assert browser.complaints == []


def show(browser: Browser, folder: Path, page: str, width: int, height: int = 900) -> None:
    """
    Show a page.
    """
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    browser.look(width, height)
    browser.open(file.as_uri())


def probe(browser: Browser, folder: Path, page: str, width: int) -> Any:
    """
    Show a page and measure it.
    """
    show(browser, folder, page, width)
    return browser.run(PROBE)


@pytest.mark.parametrize("width", [500, 1200])
def test_chartsAndTablesAreSeen(browser: Browser, tmp_path: Path, width: int) -> None:
    report = reportOf(makePart(1, 0, 5000, 100_000))
    found = probe(browser, tmp_path, renderHTML(report), width)
    assert found["content"] <= found["width"] == width
    shown = sum(1 for moment in report.timeline for count in moment.classes.values() if count)
    shares = sum(1 for count in report.classes.values() if count)
    assert found["bars"] == shown + shares
    assert (found["outside"], found["hidden"], found["scripts"]) == (0, 0, 0)
    assert "Pages" in found["headings"]
    for text in (f"{report.requests:,}", report.pages[0].name, report.browsers[0].name):
        assert text in found["text"]


def test_whatIsSmuggledInIsSeenAsText(browser: Browser, tmp_path: Path) -> None:
    found = probe(browser, tmp_path, renderHTML(evilReport()), 800)
    assert found["scripts"] == 0
    assert found["content"] <= found["width"]
    assert found["text"].count("<script>alert(1)</script>") >= 8
    assert "Partial" in found["text"]


def test_pictureOfThePageHasItsColours(browser: Browser, tmp_path: Path) -> None:
    page = renderHTML(reportOf(makePart(1, 0, 5000, 100_000)))
    show(browser, tmp_path, page, 700, 500)
    width, height, pixels = decodeRGB(browser.picture())
    assert (width, height) == (700, 500)
    colours = Counter(pixels)
    # The charts' green and amber; and some text on the ground.
    for colour in ((0x3F, 0x8F, 0x5B), (0xD0, 0x8A, 0x2E)):
        assert colours[colour] > 300
    assert 0.4 < colours.most_common(1)[0][1] / len(pixels) < 0.98
