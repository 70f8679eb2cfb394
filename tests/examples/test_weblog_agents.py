"""
Browsers and systems, as user agents name them.
"""

from __future__ import annotations

import pytest

from examples.weblog.agents import browserOf, browsersAndSystems, systemOf
from examples.weblog.aggregate import summarise
from examples.weblog.parse import parseLines
from tests.examples.weblogs import makeLine

_KIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_KIT}"
_CRAWLER = "compatible; Googlebot/2.1; +http://www.google.com/bot.html"

AGENTS = [
    (f"{_WINDOWS} Chrome/129.0.0.0 Safari/537.36", "Chrome", "Windows"),
    (f"{_WINDOWS} Chrome/129.0.0.0 Safari/537.36 Edg/129.0.2792.52", "Edge", "Windows"),
    (f"{_WINDOWS} Chrome/128.0.0.0 Safari/537.36 OPR/114.0.0.0", "Opera", "Windows"),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox", "Linux"),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/17.6 Safari/605.1.15",
        "Safari",
        "macOS",
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
        "Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
        "Safari",
        "iOS",
    ),
    (
        f"Mozilla/5.0 (Linux; Android 14; CUBOT NOTE 20) {_KIT} Chrome/129.0.0.0 Mobile "
        "Safari/537.36",
        "Chrome",
        "Android",
    ),
    (
        f"Mozilla/5.0 (Linux; Android 13; SM-G991B) {_KIT} SamsungBrowser/25.0 Chrome/121.0.0.0 "
        "Mobile Safari/537.36",
        "Samsung Internet",
        "Android",
    ),
    (
        "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
        "Internet Explorer",
        "Windows",
    ),
    (f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {_KIT} ({_CRAWLER})", None, "Android"),
    (f"Mozilla/5.0 ({_CRAWLER})", "robot: Googlebot", "other"),
    (
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "robot: AhrefsBot",
        "other",
    ),
    ("facebookexternalhit/1.1", "robot: facebookexternalhit", "other"),
    (
        "Mozilla/5.0 (compatible; YandexRenderResourcesX; +http://yandex.example/)",
        "robot: other",
        "other",
    ),
    ("curl/8.5.0", "curl", "other"),
    ("python-requests/2.32.3", "python-requests", "other"),
    ("Go-http-client/1.1", "Go-http-client", "other"),
    ("Wget/1.21.4 (linux-gnu)", "Wget", "Linux"),
    ("Mozilla/4.0", "other", "other"),
    ("() { :; }; x", "other", "other"),
    ("", "other", "other"),
]


@pytest.mark.parametrize(("agent", "browser", "system"), AGENTS)
def test_browserAndSystemAreNamed(agent: str, browser: str | None, system: str) -> None:
    assert browserOf(agent.encode()) == (browser or "robot: Googlebot")
    assert systemOf(agent.encode()) == system


def test_requestsOfAllVersionsOfABrowserAreOneFigure() -> None:
    agents = {f"{_WINDOWS} Chrome/{n}.0 Safari/537.36".encode(): n for n in (1, 2, 3)}
    browsers, systems = browsersAndSystems(agents)
    assert (browsers, systems) == ({b"Chrome": 6}, {b"Windows": 6})


def test_staticFilesAreApartFromPages() -> None:
    paths = ["/", "/a.css?v=2", "/A.PNG", "/a.js/b", "/report.pdf", "/css", "/f%2Ecss", "/x.css"]
    lines = [makeLine(request=f"GET {path} HTTP/1.1") for path in paths]
    lines.append(makeLine(request="GET /gone.css HTTP/1.1", status=404))
    found = summarise(parseLines(b"".join(lines)), 300).aggregate
    assert set(found.files) == {b"/a.css", b"/A.PNG", b"/f.css", b"/x.css"}
    assert set(found.pages) == {b"/", b"/a.js/b", b"/report.pdf", b"/css"}
    assert set(found.missing) == {b"/gone.css"}
