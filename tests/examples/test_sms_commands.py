"""
The command lines of C{examples/sms}, and programs whose parent ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from examples.sms import __main__, gateway, options, server

Command = Callable[[list[str]], object]


class CommandTests(SynchronousTestCase):
    def refuse(self, command: Command, *arguments: str) -> str:
        said = StringIO()
        with redirect_stderr(said):
            ended = self.assertRaises(SystemExit, command, list(arguments))
        self.assertEqual(ended.code, 2)
        return said.getvalue()

    def test_senselessOptionIsOneSentenceAndTheStatus2(self) -> None:
        url = ("--gateway", "http://127.0.0.1:8101/")
        cases: list[tuple[Command, tuple[str, ...]]] = [
            (__main__.main, ("--limit", "0")),
            (__main__.main, ("--limit", "1001")),
            (__main__.main, ("--port", "99999")),
            (__main__.main, ("--port", "x")),
            (__main__.main, ("--folder", "/dev/null/sms")),
            (__main__.main, ("--nonsense",)),
            (gateway.parseArguments, ("--failures", "nan")),
            (gateway.parseArguments, ("--failures", "2")),
            (gateway.parseArguments, ("--latency", "-1")),
            (gateway.parseArguments, ("--limit", "9" * 5000)),
            (gateway.parseArguments, ("--seed", "x")),
            (server.parseArguments, (*url, "--width", "-1")),
            (server.parseArguments, (*url, "--attempts", "0")),
            (server.parseArguments, ()),
            *((server.parseArguments, ("--gateway", wrong)) for wrong in WRONG_ADDRESSES),
        ]
        for command, arguments in cases:
            said = self.refuse(command, *arguments)
            self.assertEqual(said.count("\n"), 1)
            self.assertTrue(said.startswith("python -m examples.sms"), said)
            self.assertTrue(said.endswith(".\n"), said)

    def test_helpHasNoMarkup(self) -> None:
        for command in (__main__.main, gateway.parseArguments, server.parseArguments):
            said = StringIO()
            with redirect_stdout(said):
                ended = self.assertRaises(SystemExit, command, ["--help"])
            self.assertEqual(ended.code, 0)
            self.assertNotIn("C{", said.getvalue())
            self.assertIn("--parent PID", said.getvalue())

    def test_goodOptionsAreTakenOver(self) -> None:
        command = server.parseArguments(
            ["--gateway", "http://[::1]:80/x", "--width", "0", "--limit", "7", "--port", "0"]
        )
        self.assertEqual((command.width, command.limit, command.port), (0, 7, 0))

    def test_recordThatIsNotOneIsTold(self) -> None:
        path = Path(self.mktemp())
        path.write_text('[1.0, "a", 200]\n[2.0, "b"\n')
        error = self.assertRaises(ValueError, gateway.Record, path)
        self.assertIn("line 2 of", str(error))


WRONG_ADDRESSES = (
    "",
    "nonsense",
    "http://",
    "http://[",
    "http://a:99999/",
    "http://a:0/",
    "https://a/",
    "http://\xe4/",
    "http://a/ b",
    "http://a/\n",
)


class ParentTests(SynchronousTestCase):
    def test_programEndsOnceWhenItsParentHasEnded(self) -> None:
        parents = [7, 7, 1, 1, 1]
        self.patch(os, "getppid", lambda: parents.pop(0))
        clock = Clock()
        ends: list[float] = []
        options.endWithParent(7, lambda: ends.append(clock.seconds()), clock)
        clock.pump([0.5] * 4)
        self.assertEqual(ends, [1.0])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_programWithoutParentLooksForNone(self) -> None:
        clock = Clock()
        options.endWithParent(None, self.fail, clock)
        self.assertEqual(clock.getDelayedCalls(), [])
