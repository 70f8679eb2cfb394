"""
The stores that come along.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp

import pytest
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._dispatch.stores import INSERT
from asynqueue.errors import StoreError
from asynqueue.rdq import MemoryJobStore, SQLiteJobStore, StoredJob
from asynqueue.testing import JobStoreContract


class MemoryJobStoreTests(JobStoreContract, SynchronousTestCase):
    def makeStore(self) -> MemoryJobStore:
        return MemoryJobStore()


class SQLiteJobStoreTests(JobStoreContract, SynchronousTestCase):
    def makeStore(self) -> SQLiteJobStore:
        self.path = Path(mkdtemp()) / "jobs.db"
        return SQLiteJobStore(self.path)

    def reopened(self, store: SQLiteJobStore) -> SQLiteJobStore:
        return SQLiteJobStore(store.name)

    def test_onlyItsOwnerMayReadIt(self) -> None:
        store = self.opened()
        store.apply([(INSERT, self.job())])
        modes = {each.name: each.stat().st_mode & 0o777 for each in self.path.parent.iterdir()}
        self.assertEqual(modes, {"jobs.db": 0o600, "jobs.db-wal": 0o600})

    def test_itIsOnDiskAtEachCommit(self) -> None:
        store = self.opened()
        pragmas = [
            store._open().execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "locking_mode")
        ]
        self.assertEqual(pragmas, ["wal", 2, "exclusive"])

    def test_aTextThatCannotBeEncodedFailsTheChanges(self) -> None:
        store = self.opened()
        with self.assertRaises(StoreError):
            store.apply([(INSERT, self.job(1)), (INSERT, self.job(2, unique="\ud800"))])
        self.assertEqual(store.jobs("waiting"), [])


def test_itsPathIsWhatItWasWhenItWasNamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteJobStore(":memory:")
    monkeypatch.chdir("/")
    store.open()
    store.close()
    assert (tmp_path / ":memory:").exists()


def test_anotherProgramsFileIsRefusedAndNotTouched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE jobs (id)")
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not one of asynqueue's stores"):
        SQLiteJobStore(path).open()
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["other.db"]


def test_aLaterLayoutIsRefusedAndLeftAlone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = SQLiteJobStore(path)
    store.open()
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="has layout 99, and this version of asynqueue reads 1"):
        SQLiteJobStore(path).open()
    assert path.exists()


def test_aFolderThatIsNotThereIsNamed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        SQLiteJobStore(tmp_path / "nowhere" / "jobs.db").open()


def test_aStoreThatWasRefusedCanBeOpenedLater(tmp_path: Path) -> None:
    first, second = (SQLiteJobStore(tmp_path / "jobs.db") for _ in range(2))
    first.open()
    job = StoredJob(1, "f", "1", 0, 0.0)
    first.apply([(INSERT, job)])
    with pytest.raises(StoreError):
        second.open()
    first.close()
    assert second.open() == [job]
    second.close()
