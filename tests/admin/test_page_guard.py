"""
What the page refuses, and what it shows as text. The numbers are those of the list of faults.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

import asynqueue.admin
from asynqueue.admin import Access, OneTimeLogin
from tests.admin.pages import HOST, PageCase

QUEUE = "/queue/here/TaskQueue"

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e\u2066\u0000\x1b[31m\ud800"


def fail(text: str) -> None:
    raise ValueError(text)


class Evil:
    """
    An argument whose C{repr} is markup.
    """

    def __repr__(self) -> str:
        return EVIL


class GuardTests(PageCase):
    def setUp(self) -> None:
        super().setUp()
        self.queue = self.makeQueue(self.makeWorker())
        self.settle()
        self.queue.pause()
        self.task = self.queue.submit(fail, "abc")
        self.task.d.addErrback(lambda _: None)
        self.serve(self.queue, show=["arguments", "results"])
        self.form, self.resume = self.get_(QUEUE).button("Resume")

    def steer(self, *headers: str, **fields: Any) -> int:
        """
        @return: the status of an attempt to resume the queue.
        """
        given = {**self.form.hidden, "act": self.resume, **fields}
        return self.post(self.form.action, *headers, **given).code

    def test_55_aCrossSiteRequestIsRefusedWhateverItsMethod(self) -> None:
        body = urlencode({**self.form.hidden, "act": self.resume}).encode()
        paths = ("/", QUEUE, self.form.action, "/events", "/static/admin.js")
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            for header in (
                "Sec-Fetch-Site: cross-site",
                "Sec-Fetch-Site: same-site",
                "Origin: https://evil.example",
                "Origin: null",
                "Origin: http://[",
                "Origin: http://127.0.0.1:8101",
            ):
                for path in paths:
                    for sent in (b"", body):
                        refused = self.send(method, path, header, body=sent)
                        self.assertEqual(refused.code, 403, (method, header, path))
        self.assertTrue(self.queue.paused)

    def test_55_aFormWithoutThePagesOwnTokenIsRefused(self) -> None:
        for token in ("", "0" * 64, "é", self.form.hidden["form"][:-1]):
            self.assertEqual(self.steer("Sec-Fetch-Site: same-origin", form=token), 403)
        self.access = Access("bob")
        self.assertEqual(self.steer(), 403, "that was the form of another user")
        self.assertTrue(self.queue.paused)
        self.access = Access("ann")
        self.assertEqual(self.steer("Sec-Fetch-Site: same-origin", f"Origin: http://{HOST}"), 303)
        self.assertFalse(self.queue.paused)

    def test_55_nothingIsChangedByAGet(self) -> None:
        fields = urlencode({**self.form.hidden, "act": self.resume})
        for method in ("GET", "HEAD"):
            self.assertEqual(self.send(method, f"{self.form.action}?{fields}").code, 405)
            self.assertEqual(self.send(method, f"{QUEUE}?{fields}").code, 200)
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            self.assertEqual(self.send(method, QUEUE).code, 405)
        self.assertEqual(self.post(QUEUE, **self.form.hidden, act=self.resume).code, 405)
        self.assertTrue(self.queue.paused)

    def test_55_thePageItselfIsGuardedUnderAnySite(self) -> None:
        # A program may serve it by a plain Site.
        self.patch(self.site, "refusal", lambda *_: None)
        refused = self.send("GET", "/", "Sec-Fetch-Site: cross-site")
        self.assertEqual(refused.code, 403)
        self.assertEqual(self.steer("Origin: https://evil.example"), 403)
        self.assertTrue(self.queue.paused)

    def test_56_aForeignHostIsRefusedWithEachRequest(self) -> None:
        for host in (
            "evil.example",
            "evil.example:8100",
            "127.0.0.1",
            "127.0.0.1:8101",
            "127.0.0.1:8100.evil.example",
        ):
            for path in ("/", QUEUE, "/events", "/static/admin.js"):
                self.assertEqual(self.send("GET", path, host=host).code, 421)
            body = urlencode({**self.form.hidden, "act": self.resume}).encode()
            self.assertEqual(self.send("POST", self.form.action, body=body, host=host).code, 421)
        self.assertTrue(self.queue.paused)

    def test_57_markupInTextsIsShownAsText(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        self.serve(queue, show=["arguments", "results"], history=9)
        self.settle()
        queue.call(fail, EVIL).addErrback(lambda _: None)
        self.settle()
        queue.pause()
        queue.call(len, Evil(), series=EVIL).addErrback(lambda _: None)
        shown = [self.get_(path) for path in ("/", QUEUE, "/task/here/TaskQueue/1")]
        shown.append(self.get_("/task/here/TaskQueue/2"))
        for page in shown:
            self.assertEqual(page.code, 200)
            self.assertNotIn("<script>alert", page.body)
            self.assertNotIn("<img", page.body)
            for hidden in "\u202e\u2066\0\x1b":
                self.assertNotIn(hidden, page.body)
        for page in shown[1:]:
            self.assertIn("<script>alert(1)</script>", page.text.replace("&lt;", "<"))
        self.assertIn("[U+202E][U+2066][U+0000][U+001B]", shown[1].body)
        self.assertIn("[U+D800]", shown[1].body)

    def test_57_markupInAnAddressIsShownAsText(self) -> None:
        for path in (
            "/queue/here/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
            f"{QUEUE}?pending=%3Cscript%3Ealert(1)",
            "/task/here/TaskQueue/%3Cscript%3Ealert(1)",
            f"{QUEUE}?said=%3Cscript%3Ealert(1)",
            "/%3Cscript%3Ealert(1)",
        ):
            page = self.get_(path)
            self.assertNotIn("<script>alert", page.body)
            self.assertIn(page.code, (200, 400, 404))

    def test_57_theTwinForProgramsIsNoPage(self) -> None:
        queue = self.makeQueue()
        queue.call(len, Evil(), series=EVIL).addErrback(lambda _: None)
        self.serve(queue, show=["arguments"])
        twin = self.get_(f"{QUEUE}?format=json")
        self.assertEqual(twin.headers["content-type"], "application/json")
        self.assertEqual(twin.headers["x-content-type-options"], "nosniff")
        self.assertTrue(twin.body.isascii())
        self.assertEqual(json.loads(twin.body)["queue"]["tasksPending"][0]["series"], EVIL)

    def test_57_eachAnswerForbidsForeignCodeAndFrames(self) -> None:
        answers = [
            self.get_("/"),
            self.get_(QUEUE),
            self.get_("/nonsense"),
            self.get_("/static/admin.js"),
            self.get_(f"{QUEUE}?format=json"),
            self.send("PUT", "/"),
            self.send("GET", "/", "Origin: null"),
        ]
        self.access = None
        answers.append(self.get_("/"))
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertIn("base-uri 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(answer.headers["x-frame-options"], "DENY")

    def test_57_noPageHasScriptsOrStylesWithinIt(self) -> None:
        for path in ("/", QUEUE, "/task/here/TaskQueue/1"):
            body = self.get_(path).body
            self.assertNotRegex(body, r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=")
            self.assertNotRegex(body, r"(src|href|action)=\"(?![/#])")

    def test_58_withoutALoginNothingIsAnswered(self) -> None:
        self.access = None
        for path in ("/", QUEUE, "/task/here/TaskQueue/1", "/events", "/static/admin.js", "/x"):
            for more in ("", "?format=json", "?token=guessed"):
                refused = self.get_(path + more)
                self.assertEqual(refused.code, 401, path)
                self.assertIn("www-authenticate", refused.headers)
                self.assertNotIn("TaskQueue", refused.body)
        self.assertEqual(self.steer(), 401)
        self.assertTrue(self.queue.paused)

    def test_59_aHugeOrEndlessBodyIsRefusedAtItsHeaders(self) -> None:
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            for length, code in (
                ("Content-Length: 200000000", b"413"),
                ("Transfer-Encoding: chunked", b"411"),
            ):
                channel, wire = self.connect()
                head = f"POST {self.form.action} HTTP/1.1\r\nHost: {HOST}\r\n"
                channel.dataReceived(f"{head}Content-Type: {kind}\r\n{length}\r\n\r\n".encode())
                self.assertTrue(wire.value().startswith(b"HTTP/1.1 " + code))
                for _ in range(50):
                    channel.dataReceived(bytes(10_000))
                self.assertIsNone(channel.requests[-1].content)
                self.clock.advance(10)
                self.assertTrue(wire.disconnecting)
                channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.queue.paused)

    def test_59_aPageNumberThatWouldTakeMuchIsRefused(self) -> None:
        for typed in ("0", "-1", "401", "9" * 30, "9" * 9_000, "1e9", "٣", "1_0", " 1", ""):
            for table in ("pending", "underway", "workers", "series", "streams", "ended"):
                page = self.get_(f"{QUEUE}?{urlencode({table: typed})}")
                self.assertEqual(page.code, 400, (table, typed[:20]))
                self.assertLess(len(page.body), 5000)
        self.assertEqual(self.get_(f"/task/here/TaskQueue/{10**18 * 10}").code, 400)

    def test_aSlowBrowserThatListensIsDropped(self) -> None:
        channel, wire = self.connect()
        channel.dataReceived(f"GET /events/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        channel.pauseProducing()
        self.clock.advance(9)
        self.assertFalse(wire.aborting)
        self.clock.advance(2)
        self.assertTrue(wire.aborting)
        channel.connectionLost(Failure(ConnectionDone()))


class LoginTests(PageCase):
    def setUp(self) -> None:
        super().setUp()
        self.spent: list[Access] = []
        self.login = OneTimeLogin(100, self.spent.append, self.clock.seconds)
        self.queue = self.makeQueue()
        page = self.serve(self.queue)
        page._login = self.login

    def enter(self, token: str) -> str:
        """
        @return: the cookie that a browser gets for a token.
        """
        answer = self.get_(f"/?token={token}")
        self.assertEqual((answer.code, answer.headers["location"]), (303, "/"))
        cookie, *rest = answer.headers["set-cookie"].split("; ")
        self.assertEqual({each.lower() for each in rest}, {"path=/", "httponly", "samesite=strict"})
        return f"Cookie: {cookie}"

    def test_58_aTokenIsGoodOnceAndGivesASession(self) -> None:
        token = self.login.makeToken(Access("ann"))
        self.assertEqual(self.get_("/").code, 401)
        cookie = self.enter(token)
        self.assertEqual(self.get_("/", cookie).code, 200)
        self.assertIn("ann", self.get_("/", cookie).text)
        self.assertEqual(self.get_(f"/?token={token}").code, 401)
        self.assertEqual(self.spent, [Access("ann")])

    def test_58_aTokenThatIsWrongTwiceThereOrAskedForByHeadIsNotSpent(self) -> None:
        token = self.login.makeToken(Access("ann"))
        self.assertEqual(self.send("HEAD", f"/?token={token}").code, 401)
        self.assertEqual(self.get_(f"/?token={token}&token={token}").code, 401)
        self.assertEqual(self.get_(f"/?token={token[:-1]}").code, 401)
        self.assertEqual(self.get_("/", f"Cookie: asynqueue-admin-80={token}").code, 401)
        crossSite = self.get_(f"/?token={token}", "Sec-Fetch-Site: cross-site")
        self.assertEqual(crossSite.code, 403)
        self.enter(token)

    def test_58_tokensAndSessionsEnd(self) -> None:
        old, token = (self.login.makeToken(Access("ann")) for _ in range(2))
        self.clock.advance(60)
        cookie = self.enter(token)
        self.clock.advance(60)
        self.assertEqual(self.get_(f"/?token={old}").code, 401)
        self.assertEqual(self.get_("/", cookie).code, 200)
        self.clock.advance(60)
        self.assertEqual(self.get_("/", cookie).code, 401)
        self.login.makeToken(Access("ann"))
        self.assertEqual((len(self.login._tokens), len(self.login._sessions)), (1, 0))

    def test_58_aTokenForLookingChangesNothing(self) -> None:
        cookie = self.enter(self.login.makeToken(Access("bob", acts=())))
        page = self.get_(QUEUE, cookie)
        self.assertEqual((page.code, page.forms), (200, []))


VENDORED = {
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "htmx.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def test_theFilesOfOthersAreThoseThatWereLookedAt() -> None:
    folder = Path(asynqueue.admin.__file__).parent / "static"
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in VENDORED}
    assert found == VENDORED
    ours = {"admin.css", "admin.js", "icon.svg"}
    assert {path.name for path in folder.iterdir()} == {*VENDORED, *ours}
