"""
Faults of durable jobs. A test's number is its row's in the list of faults.

What these cannot make is a real loss of power: the file system's own promises are taken as they
are, and a torn write is made by cutting and garbling the file.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from asynqueue import ResizableDispatchQueue
from asynqueue._dispatch.stores import INSERT
from asynqueue.errors import StoreCorrupt, StoreLocked
from asynqueue.rdq import SQLiteJobStore, StoredJob
from tests.faults.durableprograms import WIDTH
from tests.support.processes import startProgram

PATIENCE = 40.0


def run(name: str, folder: Path) -> tuple[int, str]:
    """
    Run one of the programs to its end.

    @return: its exit code, and what it wrote.
    """
    program = startProgram("tests.faults.durableprograms", name, str(folder))
    try:
        out, _ = program.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()
        raise
    return program.returncode, out.decode()


def isSound(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "jobs.db")) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return found == "ok"


def diaryOf(folder: Path) -> list[tuple[str, int]]:
    path = folder / "diary"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, int(number)) for what, number in (line.split() for line in lines)]


def killOften(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """
    Kill a program with durable jobs again and again, then let it do what is left.

    @return: how many jobs were acknowledged, lost, run twice, and run after that they were done had
        been told.
    """
    chance = random.Random(seed)
    for number in range(kills):
        program = startProgram(
            "tests.faults.durableprograms", "busy", str(folder), str(number * 1_000_000)
        )
        # Some before it has opened its store, most in the middle of its work.
        time.sleep(chance.uniform(0.2, 1.0))
        assert program.poll() is None, program.communicate()
        program.send_signal(signal.SIGKILL)
        program.communicate()
    code, out = run("drain", folder)
    assert (code, out) == (0, "0\n")
    assert isSound(folder)
    diary = diaryOf(folder)
    acknowledged = {number for what, number in diary if what == "acknowledged"}
    runs = Counter(number for what, number in diary if what == "ran")
    told: set[int] = set()
    after = 0
    for what, number in diary:
        if what == "done":
            told.add(number)
        elif what == "ran":
            after += number in told
    return {
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - set(runs)),
        "duplicates": runs.total() - len(runs),
        "after": after,
    }


def checkKills(folder: Path, kills: int, seed: int) -> None:
    found = killOften(folder, kills, seed)
    print(f"seed {seed}, {kills} kills, width {WIDTH}: {found}")  # noqa: T201
    assert found["acknowledged"] > kills
    assert (found["lost"], found["after"]) == (0, 0)
    assert found["duplicates"] <= kills * WIDTH


def test_47_whatWasAcknowledgedOutlivesKills(tmp_path: Path) -> None:
    checkKills(tmp_path, 5, random.randrange(10**6))


@pytest.mark.slow
def test_47_storm(tmp_path: Path) -> None:
    checkKills(tmp_path, 200, random.randrange(10**6))


def jobs(count: int) -> list[StoredJob]:
    return [StoredJob(number, "f", '"' + "x" * 500 + '"', 0, 0.0) for number in range(1, count + 1)]


def filledStore(folder: Path, count: int = 40) -> SQLiteJobStore:
    """
    @return: an open store, with so many jobs, each of a commit of its own.
    """
    store = SQLiteJobStore(folder / "jobs.db")
    store.open()
    for job in jobs(count):
        store.apply([(INSERT, job)])
    return store


def copied(source: Path, target: Path) -> Path:
    """
    Copy a store's files as a crash leaves them.
    """
    target.mkdir()
    for suffix in ("", "-wal"):
        path = source / f"jobs.db{suffix}"
        (target / path.name).write_bytes(path.read_bytes())
    return target / "jobs.db-wal"


@pytest.mark.parametrize("how", ["cut", "garbled"])
def test_48_aTornWriteLeavesTheCommitsBefore(tmp_path: Path, how: str) -> None:
    (tmp_path / "origin").mkdir()
    store = filledStore(tmp_path / "origin")
    chance = random.Random(how)
    counts = set()
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        wal = copied(tmp_path / "origin", folder)
        content = wal.read_bytes()
        place = chance.randrange(32, len(content))
        rest = b"" if how == "cut" else chance.randbytes(len(content) - place)
        wal.write_bytes(content[:place] + rest)
        torn = SQLiteJobStore(folder / "jobs.db")
        found = torn.open()
        torn.close()
        assert found == jobs(40)[: len(found)]
        counts.add(len(found))
        assert isSound(folder)
    store.close()
    assert len(counts) > 3


def test_49_aFullDiskFailsPutsAndTheQueueLives(tmp_path: Path) -> None:
    # A limit on the size of files stands for the disk: both fail the write.
    code, out = run("full", tmp_path)
    assert code == 0
    kept, failed, inLine, state = out.split()
    assert int(kept) > 0
    assert int(failed) > 0
    assert (int(kept) + int(failed), inLine, state) == (40, kept, "FINISHED")
    # Those that were kept, and the one that was put when there was room again.
    assert len((tmp_path / "diary").read_text().splitlines()) == int(kept) + 1
    store = SQLiteJobStore(tmp_path / "jobs.db")
    assert store.open() == []
    store.close()


def head(content: bytes) -> bytes:
    return b"no database" + content[11:]


def middle(content: bytes) -> bytes:
    return content[:4096] + b"\xff" * 4096 + content[8192:]


def nothing(content: bytes) -> bytes:
    return b""


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("spoil", [head, middle, nothing, half])
def test_50_aCorruptFileIsSetAsideAndNotMadeAnew(tmp_path: Path, spoil: Any) -> None:
    filledStore(tmp_path).close()
    path = tmp_path / "jobs.db"
    spoilt = spoil(path.read_bytes())
    path.write_bytes(spoilt)
    with pytest.raises(StoreCorrupt, match="was set aside as"):
        SQLiteJobStore(path).open()
    [aside] = tmp_path.iterdir()
    assert aside.name.startswith("jobs.db.corrupt-")
    assert aside.read_bytes() == spoilt
    with pytest.raises(StoreCorrupt, match="was found corrupt before"):
        SQLiteJobStore(path).open()
    assert list(tmp_path.iterdir()) == [aside]
    aside.rename(tmp_path / "recovered")
    store = SQLiteJobStore(path)
    assert store.open() == []
    store.close()


def test_50_aFileThatIsGoneWhileItsLogIsThereIsNotMadeAnew(tmp_path: Path) -> None:
    store = filledStore(tmp_path)
    copied(tmp_path, tmp_path / "copy")
    store.close()
    (tmp_path / "copy" / "jobs.db").unlink()
    with pytest.raises(StoreCorrupt, match="which belongs to it, is there"):
        SQLiteJobStore(tmp_path / "copy" / "jobs.db").open()


def test_51_aSecondProcessIsRefusedAtOnce(tmp_path: Path) -> None:
    program = startProgram("tests.faults.durableprograms", "hold", str(tmp_path))
    try:
        assert program.stdout is not None
        # What was refused in the same process has not cost it the lock.
        assert program.stdout.readline() == b"StoreLocked\n"
        with pytest.raises(StoreLocked, match="in use by another process"):
            SQLiteJobStore(tmp_path / "jobs.db").open()
    finally:
        program.kill()
        program.communicate()
    store = SQLiteJobStore(tmp_path / "jobs.db")
    store.open()
    store.close()


def test_52_aForkedProcessIsRefusedAndSpoilsNothing(tmp_path: Path) -> None:
    code, out = run("fork", tmp_path)
    assert code == -signal.SIGKILL
    assert "was forked from it" in out
    store = SQLiteJobStore(tmp_path / "jobs.db")
    assert [job.id for job in store.open()] == [1, 2]
    store.close()


def test_52_soIsAPutOfItsQueue(tmp_path: Path) -> None:
    code, out = run("forkQueue", tmp_path)
    assert code == 0
    assert "was forked from it" in out


def test_53_theClockGoesBackAndTheOrderIsThatOfPutting(tmp_path: Path) -> None:
    now = 2_000_000_000.0

    class Queue(ResizableDispatchQueue):
        def _wallClock(self) -> float:
            return now

    def opened() -> Queue:
        # A clock has no threads, so all is written at once.
        return Queue(print, store=tmp_path / "jobs.db", reactor=Clock())

    queue = opened()
    for number in range(3):
        queue.put(number, delay=10.0 if number == 2 else None)
        now -= 100_000.0
    queue.stop()
    now -= 100_000.0
    queue = opened()
    assert [job.jobarg for job in queue.pending()] == [0, 1, 2]
    due = queue.pending()[2].due
    assert due is not None
    assert 0 < due <= 10.0
    queue.stop()


def test_54_aFunctionThatIsGoneLeavesDeadLettersThatNameIt(tmp_path: Path) -> None:
    def opened(function: Any) -> ResizableDispatchQueue:
        return ResizableDispatchQueue(function, 1, store=tmp_path / "jobs.db", reactor=clock)

    clock = Clock()
    queue = opened(head)
    queue.put("a")
    queue.stop()
    queue = opened(middle)
    clock.advance(0)
    assert queue.size() == (0, 0)
    letters: list[Any] = []
    queue.deadLetters().addCallback(letters.extend)
    (letter,) = letters
    assert letter.jobarg == "a"
    assert f"{__name__}.head" in letter.error
    assert f"{__name__}.middle" in letter.error
    queue.stop()
