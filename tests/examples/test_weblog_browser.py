"""
The page, looked at in a browser.

It takes Chromium, which C{make browser} installs. Without it these tests fail.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from examples.weblog.madeup import makePart
from examples.weblog.report_html import renderHTML
from tests.examples.png import decodeRGB
from tests.examples.test_weblog_report import evilReport, reportOf

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Seconds that the browser may take to start, to show a page and to end.
PATIENCE = 50

# What a test would ask a person to look for. The page itself allows no scripts.
PROBE = """
<script>
const boxesOf = what =>
    [...document.querySelectorAll(what)].map(each => each.getBoundingClientRect());
const boxes = boxesOf("svg rect"), labels = boxesOf("svg text");
const right = document.querySelector("svg")?.getBoundingClientRect().right;
const hidden = [...document.querySelectorAll("h1,h2,td,th,li,text")].filter(each =>
    each.textContent.trim() && !(each.getBoundingClientRect().height > 0));
document.documentElement.dataset.probe = JSON.stringify({
    width: window.innerWidth,
    content: document.documentElement.scrollWidth,
    bars: boxes.filter(box => box.width > 0 && box.height > 0).length,
    outside: [...boxes, ...labels].filter(box => box.left < 0 || box.right > right + 1).length,
    hidden: hidden.length,
    headings: [...document.querySelectorAll("h2")].map(each => each.textContent),
    scripts: document.scripts.length,
    text: document.body.innerText,
});
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    """
    Find the browser.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail("Chromium is not installed, which shows the pages: run `make browser`")
    return found


def show(browser: str, folder: Path, page: str, *options: str) -> str:
    """
    Show a page, and return what the browser prints.
    """
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            *options,
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def probe(browser: str, folder: Path, page: str, width: int) -> Any:
    """
    Have a page measured by a script, which its policy would forbid.
    """
    page = re.sub(r"<meta http-equiv.*?>", "", page).replace("</body>", f"{PROBE}</body>")
    shown = show(browser, folder, page, f"--window-size={width},900", "--dump-dom")
    found = re.search(r'data-probe="([^"]*)"', shown)
    assert found is not None, shown[:2000]
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", [500, 1200])
def test_chartsAndTablesAreSeen(browser: str, tmp_path: Path, width: int) -> None:
    report = reportOf(makePart(1, 0, 5000, 100_000))
    found = probe(browser, tmp_path, renderHTML(report), width)
    assert found["content"] <= found["width"] == width
    shown = sum(1 for moment in report.timeline for count in moment.classes.values() if count)
    shares = sum(1 for count in report.classes.values() if count)
    assert found["bars"] == shown + shares
    assert (found["outside"], found["hidden"], found["scripts"]) == (0, 0, 1)
    assert "Pages" in found["headings"]
    for text in (f"{report.requests:,}", report.pages[0].name, report.browsers[0].name):
        assert text in found["text"]


def test_whatIsSmuggledInIsSeenAsText(browser: str, tmp_path: Path) -> None:
    found = probe(browser, tmp_path, renderHTML(evilReport()), 800)
    assert found["scripts"] == 1
    assert found["content"] <= found["width"]
    assert found["text"].count("<script>alert(1)</script>") >= 8
    assert "Partial" in found["text"]


def test_pictureOfThePageHasItsColours(browser: str, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    page = renderHTML(reportOf(makePart(1, 0, 5000, 100_000)))
    show(browser, tmp_path, page, "--window-size=700,500", f"--screenshot={picture}")
    width, height, pixels = decodeRGB(picture.read_bytes())
    assert (width, height) == (700, 500)
    colours = Counter(pixels)
    # The charts' green and amber; and some text on the ground.
    for colour in ((0x3F, 0x8F, 0x5B), (0xD0, 0x8A, 0x2E)):
        assert colours[colour] > 300
    assert 0.4 < colours.most_common(1)[0][1] / len(pixels) < 0.98
