"""
What can be the path of a store, and what a damaged row does.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from asynqueue import ResizableDispatchQueue
from asynqueue.errors import StoreCorrupt, StoreError
from asynqueue.rdq import SQLiteJobStore
from tests.dispatch.stored import saved


def makeQueue(path: Path) -> ResizableDispatchQueue:
    return ResizableDispatchQueue(print, store=path, storedAs="print", reactor=Clock())


def result(d: Any) -> Any:
    results: list[Any] = []
    d.addBoth(results.append)
    return results[0]


def makeFifo(path: Path) -> None:
    os.mkfifo(path)


def makeFolder(path: Path) -> None:
    path.mkdir()


def makeLinkToNothing(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def makeLinkToItself(path: Path) -> None:
    path.symlink_to(path)


def makeLinkToADevice(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    "make", [makeFifo, makeFolder, makeLinkToNothing, makeLinkToItself, makeLinkToADevice]
)
def test_whatIsNoRegularFileIsRefusedAndNotTouched(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "jobs.db"
    make(path)
    before = os.lstat(path)
    with pytest.raises(StoreError):
        makeQueue(path)
    assert os.lstat(path).st_ino == before.st_ino
    assert os.listdir(tmp_path) == ["jobs.db"]


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 300, "x" * 254, "x/" * 3000])
def test_aPathThatCannotBeIsRefused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError):
        SQLiteJobStore(name).open()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could rename a device")
def test_aDeviceIsRefusedAndNotRenamed() -> None:
    before = os.stat("/dev/null")
    with pytest.raises(StoreError, match="not a regular file"):
        SQLiteJobStore("/dev/null").open()
    after = os.stat("/dev/null")
    assert (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)


def test_aLinkToAStoreIsThatStore(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "jobs.db", tmp_path / "link.db"
    makeQueue(path).stop()
    link.symlink_to(path)
    queue = makeQueue(link)
    queue.put("a")
    queue.stop()
    queue = makeQueue(path)
    assert [job.jobarg for job in queue.pending()] == ["a"]
    queue.stop()
    assert sorted(os.listdir(tmp_path)) == ["link.db", "real"]
    assert os.listdir(tmp_path / "real") == ["jobs.db"]


def test_whatIsCorruptBehindALinkIsSetAsideWhereItLies(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "jobs.db", tmp_path / "link.db"
    path.write_bytes(b"not a database" * 500)
    link.symlink_to(path)
    with pytest.raises(StoreCorrupt, match="set aside"):
        SQLiteJobStore(link).open()
    assert link.is_symlink()
    assert [name.startswith("jobs.db.corrupt-") for name in os.listdir(path.parent)] == [True]


def test_aStoreWhoseFileIsGoneAcknowledgesNothing(tmp_path: Path) -> None:
    queue = makeQueue(tmp_path / "jobs.db")
    assert not isinstance(result(saved(queue.put("a"))), Exception)
    os.unlink(tmp_path / "jobs.db")
    d = queue.put("b")
    assert result(saved(d)).check(StoreError)
    assert result(d).check(StoreError)
    queue.stop()


def test_soDoesOneWhoseFileWasReplaced(tmp_path: Path) -> None:
    makeQueue(tmp_path / "other.db").stop()
    queue = makeQueue(tmp_path / "jobs.db")
    os.rename(tmp_path / "other.db", tmp_path / "jobs.db")
    assert result(saved(queue.put("a"))).check(StoreError)
    queue.stop()


DAMAGES = [
    ("arg", b"\xff\xfe", "TEXT"),
    ("function", b"pri\xeet", "TEXT"),
    ("state", b"waitinf", "TEXT"),
    ("state", b"wait\xe9ng", "TEXT"),
    ("uniqueKey", b"k\xe9y", "TEXT"),
    ("queued", b"yesterday", "TEXT"),
    ("due", b"tomorrow", "TEXT"),
    ("due", b"1e999", "REAL"),
    ("priority", b"high", "TEXT"),
    ("attempts", b"many", "TEXT"),
    ("attempts", b"1.5", "REAL"),
]


@pytest.mark.parametrize(("column", "value", "kind"), DAMAGES)
def test_aDamagedRowIsOneDeadLetter(tmp_path: Path, column: str, value: bytes, kind: str) -> None:
    path = tmp_path / "jobs.db"
    queue = makeQueue(path)
    for name in "abc":
        queue.put(name, unique=name)
    queue.stop()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE jobs SET {column} = CAST(? AS {kind}) WHERE id = 2", [value])
        connection.commit()
    for _ in range(2):
        queue = makeQueue(path)
        assert [job.jobarg for job in queue.pending()] == ["a", "c"]
        [letter] = result(queue.deadLetters())
        assert letter.id == 2
        assert f"its {column.removesuffix('Key')} is damaged" in letter.error
        letter.error.encode()
        letter.function.encode()
        queue.stop()
    queue = makeQueue(path)
    assert result(queue.dropDeadLetter(letter)) is None
    assert result(queue.deadLetters()) == []
    queue.stop()
