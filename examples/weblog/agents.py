"""
What a user agent says of itself: the browser, or the program, and the system that it runs on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

ROBOT: Final = "robot: "
"""How the names of programs begin that go through pages by themselves."""

OTHER: Final = "other"

# A robot says so, or gives the address of a page about itself. Some add a browser's words. Cubot is
# a make of telephones.
_ROBOT = re.compile(
    rb"\b(?!cubot\b)([\w.-]*(?:bot|crawler|spider|slurp|scanner|fetcher|preview|externalhit)\b[\w-]*)",
    re.IGNORECASE,
)
_PAGE_ABOUT_IT = re.compile(rb"(?:^|; |\()\+?https?://|@[\w-]+\.\w")
# The first word of an agent that is no browser, as in C{curl/8.5.0}.
_PROGRAM = re.compile(rb"([A-Za-z][\w .+-]*?)(?:/| \(|$)")

# Most browsers also name those whose pages they can show, so the first one that fits counts.
_BROWSERS: Final[Sequence[tuple[str, re.Pattern[bytes]]]] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("Edge", rb"\b(?:Edg|EdgA|EdgiOS|Edge)/"),
        ("Opera", rb"\b(?:OPR|OPT|Opera)\b"),
        ("Samsung Internet", rb"\bSamsungBrowser/"),
        ("Yandex", rb"\bYaBrowser/"),
        ("Vivaldi", rb"\bVivaldi/"),
        ("Brave", rb"\bBrave/"),
        ("Firefox", rb"\b(?:Firefox|FxiOS)/"),
        ("Chrome", rb"\b(?:Chrome|Chromium|CriOS)/"),
        ("Internet Explorer", rb"\bMSIE |\bTrident/"),
        ("Safari", rb"\bVersion/[\d.]+ (?:Mobile/\w+ )?Safari/|\bMobile/\w+ Safari/"),
        ("an app's web view", rb"\bAppleWebKit/"),
    )
)
_SYSTEMS: Final[Sequence[tuple[str, re.Pattern[bytes]]]] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("Android", rb"\bAndroid\b"),
        ("iOS", rb"\b(?:iPhone|iPad|iPod)\b|\bCFNetwork/"),
        ("Windows", rb"\bWindows\b"),
        ("ChromeOS", rb"\bCrOS\b"),
        ("macOS", rb"\bMacintosh\b|\bMac OS X\b|\bDarwin/"),
        ("BSD", rb"\b\w+BSD\b"),
        ("Linux", rb"\b[Ll]inux\b"),
    )
)


def browserOf(agent: bytes) -> str:
    """
    @param agent: a user agent.
    @return: the browser that it names; the program's own name, if it is no browser, with L{ROBOT}
        before that of a robot; or L{OTHER}.
    """
    robot = _ROBOT.search(agent)
    if robot is not None:
        return ROBOT + robot[1].decode("utf-8", "backslashreplace")
    isBrowserLike = agent.startswith((b"Mozilla/", b"Opera/"))
    if isBrowserLike and _PAGE_ABOUT_IT.search(agent) is None:
        return next((name for name, pattern in _BROWSERS if pattern.search(agent)), OTHER)
    program = None if isBrowserLike else _PROGRAM.match(agent)
    if program is not None:
        return program[1].decode("utf-8", "backslashreplace")
    return ROBOT + OTHER if isBrowserLike else OTHER


def systemOf(agent: bytes) -> str:
    """
    @return: the system that a user agent names, or L{OTHER}.
    """
    return next((name for name, pattern in _SYSTEMS if pattern.search(agent)), OTHER)


def browsersAndSystems(
    agents: Mapping[bytes, int],
) -> tuple[Counter[bytes], Counter[bytes]]:
    """
    @param agents: requests by user agent.
    @return: the requests by browser or program, and by system.
    """
    browsers: Counter[bytes] = Counter()
    systems: Counter[bytes] = Counter()
    for agent, count in agents.items():
        browsers[browserOf(agent).encode()] += count
        systems[systemOf(agent).encode()] += count
    return browsers, systems
