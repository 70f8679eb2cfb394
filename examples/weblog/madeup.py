"""
The lines of a log that is made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import pi, sin
from random import Random
from typing import Final

DAYS: Final = 7
START: Final = datetime(2024, 9, 30, tzinfo=UTC)

_SECONDS = DAYS * 86_400

_PAGES = (
    ["/", "/about", "/contact", "/feed.xml", "/robots.txt", "/favicon.ico", "/search"]
    + [f"/articles/{number}/{word}" for number in range(1, 120) for word in ("read", "comments")]
    + [f"/products/{number}" for number in range(1, 400)]
)
_ASSETS = [
    f"/static/{kind}/{n}.{kind}" for n in range(40) for kind in ("css", "js", "png", "woff2")
]
_QUERIES = ("", "", "", "", "?page=2", "?utm_source=newsletter&utm_medium=email", "?q=queue")
_REFERRERS = (
    "-",
    "https://www.example.org/",
    "https://www.google.com/",
    "https://news.ycombinator.com/item?id=41700000",
    "https://duckduckgo.com/",
    "https://www.example.org/articles/7/read",
)
_MOZILLA = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
_SYSTEMS = (
    "Windows NT 10.0; Win64; x64",
    "X11; Linux x86_64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "Linux; Android 10; K",
)
_AGENTS = [_MOZILLA.format(system, v) for v in range(129, 99, -1) for system in _SYSTEMS] + [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "curl/8.5.0",
    r"Mozilla/5.0 (\"quoted\" agent)",
]
_SCANS = (
    ("GET /.env HTTP/1.1", 404),
    ("GET /.git/config HTTP/1.1", 404),
    ("POST /wp-login.php HTTP/1.1", 404),
    ("GET /phpmyadmin/index.php HTTP/1.1", 404),
    ("GET /cgi-bin/../../../../etc/passwd HTTP/1.1", 400),
    ("GET /products/1?id=1%20UNION%20ALL%20SELECT%20NULL-- HTTP/1.1", 403),
    (r"\x16\x03\x01\x00\xEE\x01\x00", 400),
    ("PROPFIND / HTTP/1.1", 405),
)
_STATUSES = (200, 304, 301, 206, 404, 403, 500, 502)
_STATUS_WEIGHTS = (820, 90, 30, 10, 30, 5, 8, 7)

# Out of so many lines one is broken, and one belongs to a scan.
_BROKEN = 5_000
_SCANNED = 400

_FLOOD = 450
_FLOODED = 100_000


def makePart(seed: int, start: int, stop: int, lines: int) -> bytes:
    """
    Make some lines.

    @param seed: of the log.
    @param start: the number of the first line.
    @param stop: the number of the line after the last.
    @param lines: how many the whole log has.
    """
    random = Random(f"{seed} {start} {lines}")
    count = stop - start
    made = [
        f'{address} - - [{date}] "{request}" {status} {size} "{referrer}" "{agent}"\n'
        for address, date, request, status, size, referrer, agent in zip(
            _addresses(random, start / lines, count),
            map(_dateText, (_secondOf((start + number) / lines) for number in range(count))),
            _requests(random, count),
            random.choices(_STATUSES, _STATUS_WEIGHTS, k=count),
            [int(size) for size in _sizes(random, count)],
            random.choices(_REFERRERS, (50, 20, 15, 3, 5, 7), k=count),
            _zipf(random, _AGENTS, count),
            strict=True,
        )
    ]
    _addScans(random, made, start / lines)
    if start // _FLOODED != stop // _FLOODED and count > _FLOOD:
        _addFlood(random, made, start / lines)
    for number in range(random.randrange(_BROKEN), count, _BROKEN):
        made[number] = made[number][: random.randrange(1, 60)] + "\n"
    return "".join(made).encode("ascii")


def _secondOf(position: float) -> float:
    """
    When a line was written, from the beginning: nights are quiet.
    """
    return _SECONDS * position + 43_200 / pi * 0.7 * sin(2 * pi * DAYS * position)


def _dateText(second: float) -> str:
    return (START + timedelta(seconds=int(second))).strftime("%d/%b/%Y:%H:%M:%S +0000")


def _addresses(random: Random, position: float, count: int) -> list[str]:
    # Those who visit today are not quite those of yesterday.
    first = int(position * 20_000)
    picks = (first + int(min(random.paretovariate(0.6), 20_000.0)) for _ in range(count))
    return [_addressOf(pick) for pick in picks]


def _addressOf(number: int) -> str:
    mixed = number * 2_654_435_761 % 2**32
    if number % 11 == 0:
        return f"2001:db8:{mixed >> 16:x}::{mixed & 0xFFFF:x}"
    return f"{mixed >> 24 or 1}.{mixed >> 16 & 255}.{mixed >> 8 & 255}.{mixed & 255}"


def _requests(random: Random, count: int) -> list[str]:
    pages = _zipf(random, _PAGES, count)
    assets = _zipf(random, _ASSETS, count)
    queries = random.choices(_QUERIES, k=count)
    methods = random.choices(("GET", "POST", "HEAD"), (95, 4, 1), k=count)
    return [
        f"{method} {page}{query} HTTP/1.1" if random.random() < 0.5 else f"GET {asset} HTTP/2.0"
        for method, page, query, asset in zip(methods, pages, queries, assets, strict=True)
    ]


def _sizes(random: Random, count: int) -> list[float]:
    return [min(random.paretovariate(0.9) * 400, 5e7) for _ in range(count)]


def _zipf(random: Random, choices: Sequence[str], count: int) -> list[str]:
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(choices))))
    return random.choices(choices, cum_weights=weights, k=count)


def _addScans(random: Random, made: list[str], position: float) -> None:
    scanner = f"203.0.113.{int(position * 60)}"
    for number in range(random.randrange(_SCANNED), len(made), _SCANNED):
        request, status = random.choice(_SCANS)
        date = made[number].partition("[")[2].partition("]")[0]
        made[number] = f'{scanner} - - [{date}] "{request}" {status} 162 "-" "-"\n'


def _addFlood(random: Random, made: list[str], position: float) -> None:
    """
    One address asks for the same again and again, within part of a minute.
    """
    first = random.randrange(len(made) - _FLOOD)
    flooder = f"198.51.100.{int(position * 200)}"
    date = made[first].partition("[")[2].partition("]")[0]
    for number in range(_FLOOD):
        second = f"{date[:18]}{number * 60 // _FLOOD:02}{date[20:]}"
        made[first + number] = (
            f'{flooder} - - [{second}] "GET /search?q={number} HTTP/1.1" 200 812 "-" "curl/8.5.0"\n'
        )
