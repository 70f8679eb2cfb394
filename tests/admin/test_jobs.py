"""
C{asynqueue jobs}: the jobs of a store, whether a program has it open or not.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asynqueue._command import main
from asynqueue._dispatch.stores import BEGIN, DEAD_LETTER, INSERT
from asynqueue.aio import ResizableDispatchQueue
from asynqueue.rdq import SQLiteJobStore, StoredJob


@pytest.fixture(autouse=True)
def runtimeFolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """
    A store with two jobs that wait, one that has begun, and two dead letters.
    """
    path = tmp_path / "jobs.db"
    with closing(SQLiteJobStore(path)) as store:
        store.open()
        arguments: list[str | bytes] = ['"a"', '"b"', b"\x00\xff", '"d"', '"\\u001b[2J"']
        for id, arg in enumerate(arguments, 1):
            store.apply([(INSERT, StoredJob(id, "send", arg, 0, 1e9, unique=f"key{id}"))])
        store.apply(
            [(BEGIN, 3), (DEAD_LETTER, 4, "ValueError: no\nsuch"), (DEAD_LETTER, 5, "x\x1b[2J")]
        )
    return str(path)


def content(path: str) -> dict[int, tuple[str, int]]:
    with closing(SQLiteJobStore(path)) as store:
        return {job.id: (job.state, job.attempts) for job in store.open()}


def jobs(capsys: Any, *arguments: str) -> str:
    """
    @return: what the command prints.
    """
    with pytest.raises(SystemExit) as exit:
        main(["jobs", *arguments])
    out, err = capsys.readouterr()
    assert (exit.value.code, err) == (0, "")
    return str(out)


def fails(capsys: Any, *arguments: str) -> str:
    """
    @return: the one sentence with which the command fails.
    """
    with pytest.raises(SystemExit) as exit:
        main(["jobs", *arguments])
    out, err = capsys.readouterr()
    assert (exit.value.code, out) == (2, "")
    assert err.startswith("asynqueue: ")
    assert err.count("\n") == 1
    return str(err)


def test_aListShowsEachJobInALine(path: str, capsys: Any) -> None:
    lines = jobs(capsys, path, "list").splitlines()
    assert len(lines) == 6
    assert lines[1].split()[:2] == ["1", "waiting"]
    assert "ValueError: no?such" in lines[4]
    assert "\x1b" not in "".join(lines)


def test_aListAsJSON(path: str, capsys: Any) -> None:
    found = json.loads(jobs(capsys, path, "list", "--json", "--state", "dead"))
    assert [(job["id"], job["state"], job["error"]) for job in found] == [
        (4, "dead", "ValueError: no\nsuch"),
        (5, "dead", "x\x1b[2J"),
    ]


def test_aJobIsShownWithEverything(path: str, capsys: Any) -> None:
    text = jobs(capsys, path, "show", "4")
    for part in ("ValueError: no\n", "such\n", '"d"', "key4", "2001-09-09"):
        assert part in text
    [job] = json.loads(jobs(capsys, path, "show", "--json", "1"))
    assert job["argument"] == '"a"'


def test_anExportHasTheArgumentsExactly(path: str, capsys: Any) -> None:
    exported = [json.loads(line) for line in jobs(capsys, path, "export").splitlines()]
    assert [job["argument"] for job in exported] == ['"a"', '"b"', None, '"d"', '"\\u001b[2J"']
    assert exported[2]["argumentBase64"] == "AP8="


def test_deadLettersWaitAgain(path: str, capsys: Any) -> None:
    assert "1 jobs" in jobs(capsys, path, "retry", "4")
    assert content(path)[4] == ("waiting", 0)
    assert json.loads(jobs(capsys, path, "retry", "--all", "--json")) == {"done": [5]}


def test_deadLettersAreForgotten(path: str, capsys: Any) -> None:
    jobs(capsys, path, "drop", "--all")
    assert list(content(path)) == [1, 2, 3]


def test_jobsThatWaitAreCancelled(path: str, capsys: Any) -> None:
    jobs(capsys, path, "cancel", "1", "3", "1")
    assert list(content(path)) == [2, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["retry", "4", "1"], "job 1 is no dead letter"),
        (["drop", "2"], "job 2 is no dead letter"),
        (["cancel", "1", "4"], "job 4 is a dead letter"),
        (["cancel", "99"], "no job 99"),
        (["show", "99"], "no job 99"),
        (["drop"], "--all"),
        (["drop", "4", "--all"], "--all"),
    ],
)
def test_whatCannotBeDoneChangesNothing(
    path: str, arguments: list[str], part: str, capsys: Any
) -> None:
    before = content(path)
    assert part in fails(capsys, path, *arguments)
    assert content(path) == before


def test_aDeadLetterWhoseKeyAnotherJobHasDoesNotWaitAgain(path: str, capsys: Any) -> None:
    with closing(SQLiteJobStore(path)) as store:
        store.open()
        store.apply([(INSERT, StoredJob(6, "send", "1", 0, 1e9, unique="key4"))])
    assert "key" in fails(capsys, path, "retry", "--all")


def test_nothingIsMadeOrMovedThatIsNoStore(tmp_path: Path, capsys: Any) -> None:
    text, other = tmp_path / "text", tmp_path / "other.db"
    text.write_text("dear diary " * 50)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE jobs (id INTEGER)")
    before = sorted(tmp_path.iterdir())
    for name in (text, other):
        assert "is not one of asynqueue's stores" in fails(capsys, str(name), "list")
    assert "No such file" in fails(capsys, str(tmp_path / "nothing.db"), "list")
    assert "directory" in fails(capsys, str(tmp_path), "list")
    assert sorted(tmp_path.iterdir()) == before


def test_aStoreInUseIsRefusedIfNobodyCanBeAsked(path: str, capsys: Any) -> None:
    with closing(SQLiteJobStore(path)) as store:
        store.open()
        assert "is in use" in fails(capsys, path, "list")


def test_theOwnerOfAStoreInUseIsAsked(path: str, capsys: Any) -> None:
    def send(number: Any) -> Any:
        raise AssertionError("the queue's width is 0")

    def ask(do: Callable[..., str], *arguments: str) -> Any:
        return asyncio.to_thread(do, capsys, path, *arguments)

    async def program() -> None:
        queue = ResizableDispatchQueue(send, store=path, storedAs="send")
        queue.admin(show="arguments")
        found = json.loads(await ask(jobs, "list", "--json"))
        assert [(job["id"], job["state"]) for job in found] == [
            (1, "waiting"),
            (2, "waiting"),
            (3, "dead"),
            (4, "dead"),
            (5, "dead"),
        ]
        assert "send('b')" in await ask(jobs, "show", "2")
        assert "1 jobs" in await ask(jobs, "cancel", "2")
        assert "1 jobs" in await ask(jobs, "drop", "4")
        assert "1 jobs" in await ask(jobs, "retry", "5")
        assert "job 4" in await ask(fails, "drop", "4")
        assert "job 99" in await ask(fails, "cancel", "99")
        assert "export" in await ask(fails, "export")
        assert [job.jobarg for job in queue.pending()] == ["a", "\x1b[2J"]
        await queue.stop()

    with closing(SQLiteJobStore(path)) as store:
        store.open()
        store.apply([(DEAD_LETTER, 3, "it cannot be decoded")])
    asyncio.run(program())
    assert list(content(path)) == [1, 3, 5]


def test_theHelpShowsExamples(capsys: Any) -> None:
    for arguments in (["--help"], ["x", "list", "--help"], ["x", "drop", "--help"]):
        assert "\nexample" in jobs(capsys, *arguments)
