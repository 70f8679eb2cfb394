"""
C{asynqueue top}: what it shows, what its keys do, and that it leaves the terminal as it was.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asynqueue import ResizableDispatchQueue
from asynqueue._command import main
from asynqueue.admin._texts import length
from asynqueue.admin._top import (
    CONFIRMING,
    LEFT,
    LIST,
    TEXT,
    Programs,
    Top,
    asJSON,
    bars,
    describeAll,
    fit,
    keysOf,
    printable,
)
from asynqueue.aio import TaskQueue
from asynqueue.errors import AdminError
from asynqueue.rdq import MemoryJobStore
from asynqueue.testing import InlineWorker
from tests.admin.cases import AdminCase


class MemoryClient:
    """
    Asks the API of queues in this process.
    """

    def __init__(self, case: AdminCase, admin: Any) -> None:
        self.greeting = admin.api.greeting()
        self.isGone = False
        self._case = case
        self._admin = admin

    def ask(self, verb: str, **parameters: Any) -> Any:
        if self.isGone:
            raise AdminError("the program is gone")
        reply = json.loads(json.dumps(self._case.ask(self._admin, verb, **parameters)))
        if not reply["ok"]:
            raise AdminError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        self.isGone = True


class TopTests(AdminCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = self.makeWorker(stepSeconds=None)
        self.queue = self.makeQueue(self.worker)
        self.worker.stepAll()
        self.admin = self.queue.admin(name="mails", show="arguments")
        self.client = MemoryClient(self, self.admin)
        self.programs = Programs("a socket", connect=lambda path: self.client)
        self.top = Top(self.programs)

    def put(self, *arguments: Any) -> list[Any]:
        tasks = [self.queue.submit(len, argument) for argument in arguments]
        for task in tasks:
            task.d.addErrback(lambda _: None)
        self.addCleanup(self.worker.stepAll)
        return tasks

    def press(self, *keys: str) -> str:
        """
        @return: what is shown then.
        """
        for key in keys:
            self.top.press(key)
        if self.top.state == LIST:
            self.top.look()
        return self.shown()

    def shown(self, width: int = 120, height: int = 30) -> str:
        lines = self.top.lines(width, height)
        self.assertLessEqual(len(lines), height)
        self.assertEqual({len(line) for line in lines}, {width})
        return "\n".join(line.rstrip() for line in lines)

    def test_queuesWorkersAndTasksAreShown(self) -> None:
        self.put("a", "b")
        text = self.press()
        for part in ("[mails]", "1 pending", "1 underway", "MemoryWorker", "len('a')", "len('b')"):
            self.assertIn(part, text)

    def test_aSmallTerminalIsEnough(self) -> None:
        self.put(*["a"] * 100)
        self.top.look()
        self.shown(20, 5)
        self.shown(1, 1)

    def test_whatCannotBeUndoneIsAskedFirst(self) -> None:
        running, waiting = self.put("a", "b")
        self.top.look()
        text = self.press("down", "c")
        self.assertEqual(self.top.state, CONFIRMING)
        self.assertIn(f"cancel {waiting.id}, len, which is PENDING? (y/n)", text)
        self.press("n")
        self.assertEqual(waiting.state, "PENDING")
        self.assertIn("1 cancelled", self.press("c", "y"))
        self.assertEqual((running.state, waiting.state), ("UNDERWAY", "CANCELLED"))

    def test_allThatWaitIsCancelledAfterAsking(self) -> None:
        tasks = self.put("a", "b", "c")
        self.top.look()
        self.assertIn("all 2 that wait", self.press("C"))
        self.press("y")
        self.assertEqual([task.state[0] for task in tasks], ["U", "C", "C"])

    def test_aTaskIsTerminatedAfterAsking(self) -> None:
        [running] = self.put("a")
        self.top.look()
        self.assertIn(f"kill the process of {running.id}, len? (y/n)", self.press("T"))
        self.press("n")
        self.assertEqual(running.state, "UNDERWAY")
        self.assertIn(f"{running.id} terminated", self.press("T", "y"))
        self.assertEqual(running.state, "FAILED")
        self.assertEqual(self.worker.channels[0].signals[-1][0], "kill")

    def test_theQueueIsPausedAndResumed(self) -> None:
        self.top.look()
        self.assertIn("PAUSED", self.press("p"))
        self.assertTrue(self.queue.paused)
        self.press("p")
        self.assertFalse(self.queue.paused)

    def test_aTaskIsMoved(self) -> None:
        self.put("a", "b", "c")
        self.top.look()
        text = self.press("down", "down", "f")
        self.assertLess(text.index("len('c')"), text.index("len('b')"))

    def test_whatHasEndedIsShownWithItsErrors(self) -> None:
        self.admin.api.attach()
        self.addCleanup(self.admin.api.detach)
        d = self.queue.call(int, "twelve")
        self.worker.stepAll()
        self.errorOf(d, ValueError)
        self.top.look()
        text = self.press("e")
        self.assertIn("FAILED", text)
        self.assertIn("invalid literal for int() with base 10: 'twelve'", text)
        self.assertIn("scroll", text)
        before = text.splitlines()
        after = self.press("down").splitlines()
        self.assertEqual(after[0], before[1])
        self.press("up", "up", " ", " ", "q")
        self.assertEqual(self.top.state, LIST)

    def test_streamsAreShownWithTheirCredit(self) -> None:
        d = self.queue.call(count)
        self.worker.step()
        items = self.resultOf(d)
        self.worker.stepAll()
        self.top.look()
        text = self.press()
        self.assertRegex(text, r"stream of 1 count: 16384 items wait here, 0 items or \d+K more")
        items.stop()
        self.worker.stepAll()
        self.clock.advance(1)

    def test_deadLettersAreShownRetriedAndDropped(self) -> None:
        def send(number: str) -> None:
            raise ValueError(f"no number {number}")

        store = MemoryJobStore()
        jobs = ResizableDispatchQueue(send, 4, store=store, storedAs="send", reactor=self.clock)
        jobs.admin(name="jobs", show="arguments")
        for number in "ab":
            jobs.put(number).addErrback(lambda _: None)
        for _ in range(3):
            self.settle()
        self.top.look()
        self.press("\t")
        text = self.press("d")
        for part in ("2 dead letters", "send('a')", "ValueError: no number b", "Traceback"):
            self.assertIn(part, text)
        self.press("x")
        self.assertIn("retry all dead letters of jobs? (y/n)", self.press("R"))
        self.assertIn("2 done", self.press("y"))
        for _ in range(3):
            self.settle()
        self.assertIn("2 done", self.press("D", "y"))
        self.assertIn("0 dead letters", self.press("d"))
        self.press("x", "\t")
        self.assertIn("which has no deadLetters", self.press("d"))
        self.successResultOf(jobs.stop())

    def test_aRefusalIsShown(self) -> None:
        self.top.look()
        self.assertIn("which has no processes", self.press("+"))
        self.assertIn("there is no task", self.press("c"))

    def test_theStackOfATasksWorkerIsShownUntilAKeyIsPressed(self) -> None:
        self.put("a")
        self.top.look()
        self.client.ask = lambda verb, **parameters: {"text": f"{verb} of\n{parameters['task']}"}  # type: ignore[method-assign]
        text = self.press("s")
        self.assertEqual(self.top.state, TEXT)
        self.assertTrue(text.startswith("stacks of\n1\n"))
        self.top.press("x")
        self.assertEqual(self.top.state, LIST)

    def test_pagesOfWhatWaits(self) -> None:
        self.put(*["a"] * 60)
        self.top.look()
        self.assertIn("27 ", self.press("n"))
        self.assertNotIn("\n 5 ", self.shown())
        for _ in range(5):
            text = self.press("n")
        self.assertIn("60 ", text)
        for _ in range(5):
            text = self.press("b")
        self.assertIn("2 ", text)

    def test_theWidthOfADispatchQueueIsChanged(self) -> None:
        jobs = ResizableDispatchQueue(print, reactor=self.clock)
        jobs.admin(name="jobs")
        self.top.look()
        self.assertIn("[jobs]", self.press("\t"))
        self.assertIn("width 1", self.press("+"))
        self.assertEqual(jobs.width, 1)
        self.press("-", "-")
        self.press("-")
        self.assertEqual(jobs.width, 0)
        self.successResultOf(jobs.stop())

    def test_helpIsShownAndLeft(self) -> None:
        self.assertIn("the next queue", self.press("?"))
        self.press("q")
        self.assertEqual(self.top.state, LIST)
        self.press("q")
        self.assertEqual(self.top.state, LEFT)

    def test_withoutAnyProgramItSaysHowToGetOne(self) -> None:
        top = Top(Programs(find=list))
        top.look()
        self.assertIn("ASYNQUEUE_ADMIN=1", "".join(top.lines(120, 10)))
        for key in ("c", "p", "\t", "s", "down"):
            top.press(key)

    def test_aProgramThatGoesIsLeftOutAndFoundAgain(self) -> None:
        clients = [self.client, MemoryClient(self, self.admin)]
        programs = Programs(find=lambda: ["x"], connect=lambda path: clients.pop(0))
        self.assertEqual(len(programs.look()), 1)
        self.client.isGone = True
        self.assertEqual(programs.look(), [])
        self.assertEqual(len(programs.look()), 1)

    def test_theOneProgramThatIsAskedForHasToAnswer(self) -> None:
        self.top.look()
        self.client.isGone = True
        self.assertRaises(AdminError, self.top.look)

    def test_theTextAndTheJSONHaveEverything(self) -> None:
        self.put("a", "b")
        found = self.programs.look()
        text = describeAll(found)
        self.assertIn("mails", text)
        self.assertIn("len('b')", text)
        [program] = json.loads(asJSON(found))
        self.assertEqual(program["pid"], os.getpid())
        self.assertEqual(program["queues"][0]["tasksPending"][0]["call"], "len('b')")


def test_nothingThatATerminalObeysIsShown() -> None:
    assert printable("a\x1b[2J\x07\nb\u202e\u2066c\udc80") == "a?[2J??b??c?"


def test_wideCharactersTakeTwoColumns() -> None:
    assert fit("日本語", 5) == "日本 "
    assert fit("abc", 5) == "abc  "
    assert fit("e\u0301x", 3) == "e\u0301x "


def test_lengthsOfTimeAreShort() -> None:
    assert [length(seconds) for seconds in (None, 0.04, 90, 180, 7200, 200_000)] == [
        "-",
        "0.0s",
        "90.0s",
        "3m",
        "2h",
        "2d",
    ]


def test_barsGrowWithTheCounts() -> None:
    assert bars([0, 1, 4, 8]) == " ▁▄█"
    assert bars([]) == ""


def test_arrowsAreKeys() -> None:
    assert keysOf("q\x1b[A\x1bOBc") == ["q", "up", "down", "c"]


# The command --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def runtimeFolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def commanded(capfd: Any, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["top", *arguments])
    out, err = capfd.readouterr()
    return int(exit.value.code or 0), out, err


def whileRunning(do: Callable[[], Any]) -> Any:
    async def program() -> Any:
        async with TaskQueue(InlineWorker()) as queue:
            queue.admin(name="mails")
            await queue.call(len, "abc")
            found = await asyncio.to_thread(do)
            return found, queue.paused

    return asyncio.run(program())


def test_withoutATerminalTheQueuesAreShownOnce(capfd: Any) -> None:
    (code, out, _), _ = whileRunning(lambda: commanded(capfd))
    assert code == 0
    assert "mails" in out
    assert "\x1b" not in out


def test_asJSON(capfd: Any) -> None:
    (code, out, _), _ = whileRunning(lambda: commanded(capfd, "--json", "--queue", "mails"))
    assert code == 0
    assert json.loads(out)[0]["queues"][0]["name"] == "mails"


def test_nothingToSeeIsNoError(capfd: Any) -> None:
    code, out, _ = commanded(capfd, "--once")
    assert (code, out.count("\n")) == (0, 1)
    assert commanded(capfd, "--json")[:2] == (0, "[]\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--queue", "nobody", "--once"],
        ["--socket", "/nowhere/x.sock", "--once"],
        ["--interval", "0"],
        ["--interval", "nan"],
    ],
)
def test_errorsAreOneSentence(arguments: list[str], capfd: Any) -> None:
    code, _, err = commanded(capfd, *arguments)
    assert code == 2
    assert err.startswith("asynqueue: ")
    assert err.count("\n") == 1


def test_theHelpShowsExamples(capfd: Any) -> None:
    assert "\nexample" in commanded(capfd, "--help")[1]


def test_aTerminalShowsTheQueuesLiveObeysKeysAndIsLeftAsItWas() -> None:
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    before = termios.tcgetattr(far)

    def use() -> tuple[int, str]:
        command = [sys.executable, "-m", "asynqueue._command", "top", "--interval", "0.1"]
        with subprocess.Popen(command, stdin=far, stdout=far, stderr=far) as top:
            shown = readUntil("[mails]")
            os.write(near, b"p")
            shown += readUntil("PAUSED")
            os.write(near, b"q")
            shown += readUntil("\x1b[?1049l")
            return top.wait(20), shown

    def readUntil(part: str) -> str:
        ends, text = time.monotonic() + 20, ""
        while part not in text:
            assert time.monotonic() < ends, text
            if select.select([near], [], [], 1)[0]:
                text += os.read(near, 65536).decode(errors="replace")
        return text

    try:
        (code, shown), paused = whileRunning(use)
        assert code == 0
        assert paused
        assert "\x1b[?1049h" in shown
        assert termios.tcgetattr(far) == before
    finally:
        os.close(near)
        os.close(far)
