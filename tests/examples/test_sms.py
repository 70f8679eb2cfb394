"""
C{examples/sms}, as real processes: driven over HTTP, killed, and counted at the gateway.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples.smsprograms import (
    PATIENCE,
    ROOT,
    Program,
    ask,
    countSent,
    mostInASecond,
    order,
    readRecord,
    readStatus,
    sendForm,
    waitUntil,
)

LIMIT = 100
WIDTH = 10
Starter = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Starter]:
    programs: list[Program] = []

    def starter(module: str, *options: object) -> Program:
        programs.append(Program(module, *options))
        return programs[-1]

    yield starter
    for program in programs:
        program.clear()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "gateway.jsonl"


def startGateway(start: Starter, record: Path, *options: object) -> Program:
    return start("gateway", "--record", record, "--limit", LIMIT, *options)


def startServer(start: Starter, gateway: Program | None, record: Path, *options: object) -> Program:
    store = record.with_name("jobs.db")
    address = "http://127.0.0.1:9/" if gateway is None else gateway.address
    known = ("--gateway", address, "--store", store, "--limit", LIMIT, "--width", WIDTH)
    return start("server", *known, *options)


def makeNumbers(first: int, count: int) -> list[str]:
    return [f"+44 20 {first + index:08d}" for index in range(count)]


def waitForMore(record: Path, count: int) -> None:
    enough = len(readRecord(record)) + count
    waitUntil(lambda: len(readRecord(record)) >= enough, f"{count} more messages")


def test_acknowledgedMessagesArriveThoughTheServerIsKilled(start: Starter, record: Path) -> None:
    gateway = startGateway(start, record, "--failures", 0.1, "--latency", 0.05)
    kills = acknowledged = 0
    for forms in range(2):
        server = startServer(start, gateway, record, "--attempts", 15)
        for form in range(3):
            numbers = makeNumbers(1000 * forms + 100 * form, 30)
            assert sendForm(server.address, numbers, "The bridge is open.").code == 202
            acknowledged += len(numbers)
        # Once it is killed as soon as it has acknowledged, and else in the middle of sending.
        if forms:
            waitForMore(record, 25)
        server.end(signal.SIGKILL)
        kills += 1
    server = startServer(start, gateway, record, "--attempts", 15)

    def isDone() -> bool:
        facts, _ = readStatus(server.address)
        return (facts["Pending"], facts["Underway"]) == ("0", "0")

    waitUntil(isDone, "the rest")
    facts, _ = readStatus(server.address)
    assert facts["Dead letters"] == "0"
    came = readRecord(record)
    sent = countSent(came)
    assert len(sent) == acknowledged
    assert sent.total() - len(sent) <= kills * WIDTH
    assert mostInASecond(came) <= LIMIT
    assert 429 not in {each.status for each in came}
    assert 500 in {each.status for each in came}
    told = json.loads(ask(f"{gateway.address}count").page)
    assert told["messages"] == acknowledged
    assert server.end(signal.SIGTERM)[0] == 0


def test_stopLetsWhatIsUnderwayArriveAndKeepsTheRest(start: Starter, record: Path) -> None:
    gateway = startGateway(start, record, "--failures", 0, "--latency", 0.15)
    server = startServer(start, gateway, record)
    assert sendForm(server.address, makeNumbers(0, 40), "Hello").code == 202
    waitUntil(lambda: len(readRecord(record)) > 0, "the first message")
    assert server.end(signal.SIGTERM) == (0, "")
    before = countSent(readRecord(record))
    assert 0 < len(before) < 40

    server = startServer(start, gateway, record)
    waitUntil(lambda: len(countSent(readRecord(record))) == 40, "all messages")
    assert server.end(signal.SIGINT) == (0, "")
    assert set(countSent(readRecord(record)).values()) == {1}


def test_operatorCommandsTheQueue(start: Starter, record: Path) -> None:
    gateway = startGateway(start, record, "--failures", 0)
    server = startServer(start, gateway, record, "--width", 1)
    assert order(server.address, "pause") == (303, "", "/status")
    waitUntil(lambda: readStatus(server.address)[0]["Width"] == "1", "the server's start")
    assert sendForm(server.address, makeNumbers(0, 3), "<script>alert(1)</script>").code == 202
    assert "<script>" not in ask(f"{server.address}status").page
    facts, tables = readStatus(server.address)
    assert (facts["State"], facts["Pending"]) == ("paused", "3")
    rows = tables["Pending"]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert {row[2] for row in rows} == {"<script>alert(1)</script>"}

    assert order(server.address, "move", job=3, priority=-2).code == 303
    assert order(server.address, "cancel", job=1).code == 303
    assert order(server.address, "widen").code == 303
    facts, tables = readStatus(server.address)
    assert facts["Width"] == "2"
    assert [(row[0], row[3]) for row in tables["Pending"]] == [("3", "-2"), ("2", "0")]
    assert order(server.address, "narrow").code == 303
    assert readStatus(server.address)[0]["Width"] == "1"
    for name, job in (("cancel", 1), ("cancel", "x"), ("retry", 2), ("dance", 2)):
        assert order(server.address, name, job=job).code == 409
    assert order(server.address, "move", job=2, priority="high").code == 409

    assert order(server.address, "resume").code == 303
    waitUntil(lambda: len(countSent(readRecord(record))) == 2, "the two that are left")


def test_deadLettersAreRetriedAndDropped(start: Starter, record: Path) -> None:
    gateway = startGateway(start, record, "--failures", 1, "--latency", 0)
    server = startServer(start, gateway, record, "--attempts", 1)
    assert sendForm(server.address, makeNumbers(0, 2), "Hello").code == 202
    waitUntil(lambda: readStatus(server.address)[0]["Dead letters"] == "2", "two dead letters")
    letters = readStatus(server.address)[1]["Dead letters"]
    assert [row[:3] for row in letters] == [
        ["1", "+442000000000", "Hello"],
        ["2", "+442000000001", "Hello"],
    ]
    assert "the gateway answers 500: broken" in letters[0][5]
    assert order(server.address, "drop", job=1).code == 303
    assert order(server.address, "retry", job=2).code == 303
    waitUntil(lambda: len(readRecord(record)) == 3, "another attempt")
    came = readRecord(record)
    assert came[2].id in {came[0].id, came[1].id}


def test_foreignSitesAndBadFormsAreRefused(start: Starter, record: Path) -> None:
    server = startServer(start, None, record)
    fields = {"form": "0" * 32, "numbers": "+44 20 7946 0123", "text": "Hello"}
    assert ask(server.address, fields, Origin="http://example.com").code == 403
    assert ask(server.address, fields, Host="example.com").code == 421
    assert ask(server.address, fields, Origin="http://[").code == 403
    huge = {**fields, "text": "x" * 5_000_000}
    assert ask(server.address, huge).code == 413
    assert ask(server.address, {**fields, "form": "mine"}).code == 400
    shown = ask(server.address, {**fields, "numbers": '+1"><b>\n+44 20 7946 0123'})
    assert shown.code == 400
    assert "<b>" not in shown.page
    assert "+1&quot;&gt;&lt;b&gt;" in shown.page or '+1"&gt;&lt;b&gt;' in shown.page
    assert readStatus(server.address)[0]["Pending"] == "0"
    assert ask(f"{server.address}none").code == 404
    assert "<style" not in shown.page
    assert " style=" not in ask(f"{server.address}status").page
    assert ask(f"{server.address}style.css").code == 200


def test_secondServerOnTheSameStoreSaysWhyItCannotBegin(start: Starter, record: Path) -> None:
    startServer(start, None, record)
    second = startServer(start, None, record)
    assert second.address == ""
    _, complaint = second.process.communicate(timeout=PATIENCE)
    assert second.process.returncode == 1
    assert "The server cannot begin: " in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("number", "isUnderAShell"),
    [(signal.SIGHUP, False), (signal.SIGKILL, False), (signal.SIGKILL, True)],
)
def test_programStartsItsServerAgainAndLeavesNoProcessBehind(
    number: int, isUnderAShell: bool, tmp_path: Path
) -> None:
    command = f"{sys.executable} -m examples.sms --port 0 --folder {tmp_path}"
    # A shell replaces itself with its last command.
    command = f"{command} --parent $$; true" if isUnderAShell else f"exec {command}"
    program = subprocess.Popen(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        said = program.stdout.readline() + program.stdout.readline()
        if number == signal.SIGHUP:
            os.kill(int(said.split()[-1]), signal.SIGKILL)
            assert "started again" in program.stdout.readline()
            said = said.splitlines()[0] + program.stdout.readline()
        ports = [int(port) for port in re.findall(r"http://127.0.0.1:([0-9]+)", said)]
        assert len(ports) == 2
    finally:
        program.send_signal(number)
    # All of them have its standard error, which ends with the last of them.
    _, complaint = program.communicate(timeout=PATIENCE)
    assert "Traceback" not in complaint
    for port in ports:
        with socket.socket() as connection:
            assert connection.connect_ex(("127.0.0.1", port)) != 0
