"""
The page, in a browser.

It takes Chromium, which C{make browser} installs. Without it these tests fail.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.examples.png import decodeRGB
from tests.support.browser import Browser, findBrowser

QUEUE = "queue/here/TaskQueue"


class Shown(NamedTuple):
    """
    A program that serves the page, and a browser.

    @ivar base: the address of the page.
    """

    base: str
    browser: Browser
    program: subprocess.Popen[str]

    def put(self) -> None:
        """
        Have the program put a call.
        """
        assert self.program.stdin is not None
        self.program.stdin.write("\n")
        self.program.stdin.flush()

    def pending(self) -> int:
        """
        @return: how many wait, as the page shows it now.
        """
        found: str = self.browser.run("document.querySelector('#pending .count').textContent")
        return int(found)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    program = findBrowser()
    if program is None:
        pytest.fail("Chromium is not installed, which shows the pages: run `make browser`")
    command = [sys.executable, "-m", "tests.admin.pageprogram"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as served:
        assert served.stdin is not None
        assert served.stdout is not None
        try:
            address = served.stdout.readline().strip()
            with Browser(program, tmp_path_factory.mktemp("profile")) as browser:
                browser.look(1280, 900)
                browser.open(address)
                base = address.partition("?")[0]
                assert browser.run("location.href") == base, "the token is still in the address"
                yield Shown(base, browser, served)
                assert browser.complaints == []
        finally:
            served.stdin.close()
            assert served.wait(20) == 0


@pytest.mark.parametrize("width", [390, 800, 1280])
@pytest.mark.parametrize("isDark", [False, True])
def test_eachWidthAndColourShowsEverything(shown: Shown, width: int, isDark: bool) -> None:
    browser = shown.browser
    browser.look(width, 200, isDark)
    for path in ("", QUEUE, "task/here/TaskQueue/61"):
        browser.open(shown.base + path)
        assert browser.run("document.documentElement.scrollWidth") <= width, path
        hidden = browser.run(
            "[...document.querySelectorAll('#live td, #live dd, #live h2')].filter(each =>"
            " each.textContent.trim() && !each.getBoundingClientRect().height).length"
        )
        assert hidden == 0, path
    browser.open(shown.base + QUEUE)
    browser.waitFor("document.querySelector('#chart canvas') !== null")
    _, _, pixels = decodeRGB(browser.picture())
    [(ground, _)] = Counter(tuple(pixel) for pixel in pixels).most_common(1)
    assert (sum(ground) < 200) == isDark


def test_thePageFollowsTheQueueWithoutLosingTheFocusAndWhatIsChosen(shown: Shown) -> None:
    browser = shown.browser
    browser.look(1280, 900)
    browser.open(shown.base + QUEUE)
    before = shown.pending()
    browser.run("window.isSame = true; document.querySelector('#task-3 button').focus()")
    shown.put()
    browser.waitFor(f"document.querySelector('#pending .count').textContent === '{before + 1}'")
    assert browser.run("window.isSame")
    assert browser.run("document.activeElement.closest('tr').id") == "task-3"
    browser.click("#task-5 input")
    shown.put()
    browser.waitFor("document.getElementById('switch').textContent.startsWith('Held')")
    assert shown.pending() == before + 1
    assert browser.run("document.querySelector('#task-5 input').checked")
    browser.click("#task-5 input")
    browser.waitFor(f"document.querySelector('#pending .count').textContent === '{before + 2}'")


def test_whatWasSeenLastStaysWhenTheLoginIsOver(shown: Shown) -> None:
    browser = shown.browser
    browser.look(1280, 900)
    browser.open(shown.base + QUEUE)
    before = shown.pending()
    browser.waitFor("document.getElementById('switch').textContent === 'Live'")
    cookies = browser.ask("Network.getCookies", urls=[shown.base])["cookies"]
    browser.ask("Network.clearBrowserCookies")
    shown.put()
    browser.waitFor("document.getElementById('switch').textContent === 'Logged out'")
    assert shown.pending() == before
    kept = ("name", "value", "domain", "path", "httpOnly", "sameSite")
    again = [{name: cookie[name] for name in kept} for cookie in cookies]
    browser.ask("Network.setCookies", cookies=again)
    browser.waitFor("document.getElementById('switch').textContent === 'Live'")
    assert all("401" in each for each in browser.complaints)
    browser.complaints.clear()


def test_aPausedPageDoesNotChange(shown: Shown) -> None:
    browser = shown.browser
    browser.look(1280, 900)
    browser.open(shown.base + QUEUE)
    before = shown.pending()
    browser.click("#switch")
    assert browser.run("document.getElementById('switch').textContent") == "Paused"
    browser.run(
        "window.changed = 0; new MutationObserver(() => ++window.changed)"
        ".observe(document.getElementById('live'), {subtree: true, childList: true})"
    )
    shown.put()
    # The program tells another page at once, so it has told this one as well.
    address = f"{shown.base}{QUEUE}?format=json"
    browser.waitFor(
        f"fetch('{address}').then(answer => answer.json())"
        f".then(found => found.queue.pending === {before + 1})"
    )
    browser.run("new Promise(done => setTimeout(done, 600))")
    assert (shown.pending(), browser.run("window.changed")) == (before, 0)
    browser.click("#switch")
    browser.waitFor(f"document.querySelector('#pending .count').textContent === '{before + 1}'")


def test_whatIsSmuggledInIsSeenAsText(shown: Shown) -> None:
    browser = shown.browser
    browser.look(1280, 900)
    for path in (QUEUE, "task/here/TaskQueue/61"):
        browser.open(shown.base + path)
        assert "<script>window.pwned" in browser.run("document.body.innerText")
        assert "[U+202E]" in browser.run("document.body.innerText")
        assert browser.run("window.pwned === undefined && !document.querySelector('img')")


def test_scriptsWithinAPageAreForbidden(shown: Shown) -> None:
    browser = shown.browser
    browser.open(shown.base)
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.pwned = 3'}));"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned = 4\">')"
    )
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert browser.run("window.pwned === undefined")
    assert len([each for each in browser.complaints if "Content Security Policy" in each]) >= 2
    browser.complaints.clear()


def test_theKeyboardReachesEverythingInOrder(shown: Shown) -> None:
    browser = shown.browser
    browser.look(1280, 900)
    browser.open(shown.base + QUEUE)
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Skip to the content"
    assert browser.run("document.activeElement.getBoundingClientRect().left >= 0")
    browser.press("Enter", "\r")
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Resume"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_withoutScriptsTheButtonsWorkAndDestroyingAsks(shown: Shown) -> None:
    browser = shown.browser
    browser.look(800, 900, hasScripts=False)
    browser.open(shown.base + QUEUE)
    before = shown.pending()
    assert browser.run("document.querySelector('noscript a') !== null")
    browser.click("#task-7 button[title='Cancel task 7']")
    browser.waitFor("document.querySelector('h1')?.textContent === 'Are you sure?'")
    browser.click("button[name=act]")
    browser.waitFor("document.querySelector('.note')?.textContent.includes('1 cancelled') === true")
    assert shown.pending() == before - 1
    assert browser.run("document.querySelector('#task-7')") is None
    browser.look(1280, 900)
