"""
C{asynqueue admin}, as a program of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from asynqueue._command import main
from asynqueue.aio import TaskQueue
from asynqueue.testing import InlineWorker

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


class Served:
    """
    The command, and a browser's cookie.
    """

    def __init__(self, lines: list[str]) -> None:
        self.links = [found[0] for line in lines if (found := re.search(r"http://\S+", line))]
        self.port = urlsplit(self.links[0]).port
        self.cookie = ""

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """
        @return: the status and the body of the answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        with closing(connection):
            connection.request(method, path, body or None, headers)
            with connection.getresponse() as answer:
                cookie = answer.getheader("Set-Cookie")
                if cookie is not None:
                    self.cookie = cookie.partition(";")[0]
                return answer.status, answer.read().decode()

    def enter(self, link: str) -> int:
        """
        @return: the status of the answer to a link.
        """
        parts = urlsplit(link)
        self.cookie = ""
        return self.ask("GET", f"{parts.path}?{parts.query}")[0]

    def page(self, path: str) -> str:
        status, body = self.ask("GET", path)
        assert status == 200
        return body


@contextmanager
def serving(*options: str) -> Iterator[tuple[Served, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "asynqueue._command", "admin", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            lines = [server.stdout.readline()]
            while "Ctrl-C" not in lines[-1]:
                lines.append(server.stdout.readline())
                assert lines[-1], "it has ended"
            yield Served(lines), server
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(PATIENCE) == 0


def withQueue(look: Callable[[TaskQueue, str], Any]) -> Any:
    """
    @return: what a function in another thread returns, while a queue waits that can be seen.
    """

    async def run() -> Any:
        async with TaskQueue(InlineWorker()) as queue:
            admin = queue.admin(name="mails")
            await queue.call(len, "abc")
            queue.pause()
            waiting = queue.call(len, "abc")
            assert admin.path is not None
            found = await asyncio.to_thread(look, queue, admin.path)
            queue.resume()
            await waiting
        return found

    return asyncio.run(run())


def test_aLinkOpensThePageOnceAndTheQueueIsSteered() -> None:
    def look(queue: TaskQueue, path: str) -> None:
        key = Path(path).stem
        with serving() as (served, server):
            assert served.ask("GET", "/")[0] == 401
            assert served.enter(served.links[0]) == 303
            assert "mails" in served.page("/")
            page = served.page(f"/queue/{key}/mails")
            token = re.search(r'name="form" value="(\w+)"', page)
            assert token is not None
            fields = {"form": token[1], "act": '{"do": "resume"}'}
            act = f"/act/queue/{key}/mails"
            assert served.ask("POST", act, urlencode(fields))[0] == 303
            assert queue.paused is False
            assert server.stdout is not None
            assert "For another browser: http://" in server.stdout.readline()
            assert served.enter(served.links[0]) == 401
            # The second link is for looking.
            assert served.enter(served.links[1]) == 303
            assert "<form" not in served.page(f"/queue/{key}/mails")

    withQueue(look)


def test_readOnlyChangesNothing() -> None:
    def look(queue: TaskQueue, path: str) -> None:
        with serving("--read-only", "--socket", path) as (served, _):
            assert len(served.links) == 1
            assert served.enter(served.links[0]) == 303
            assert "<form" not in served.page(f"/queue/{Path(path).stem}/mails")

    withQueue(look)


def test_aPortThatIsTakenOrMakesNoSenseIsOneSentence(capfd: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "asynqueue._command", "admin", "--port", port]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"asynqueue: cannot listen at port {port}: ")
    assert done.stderr.count("\n") == 1
    with pytest.raises(SystemExit) as ended:
        main(["admin", "--port", "99999"])
    assert ended.value.code == 2
    assert "0 to 65535" in capfd.readouterr().err


def test_theDemoEndsCleanlyOnCtrlC() -> None:
    command = [sys.executable, "-m", "examples.busy"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as demo:
        assert demo.stdout is not None
        served = Served([demo.stdout.readline()])
        assert served.enter(served.links[0]) == 303
        assert "mails" in served.page("/")
        assert "thumbnail" in served.page("/queue/here/calls")
        os.kill(demo.pid, signal.SIGINT)
        assert demo.wait(PATIENCE) == 0
        assert demo.stderr is not None
        assert demo.stderr.read() == ""
