"""
Jobs in an SQLite file.
"""

from __future__ import annotations

import ctypes
import glob
import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from zope.interface import implementer

from asynqueue._dispatch.stores import (
    BEGIN,
    BEGUN,
    DEAD,
    DEAD_LETTER,
    END,
    INSERT,
    MOVE,
    REQUEUE,
    WAIT,
    WAITING,
    Change,
    StoredJob,
)
from asynqueue.errors import StoreCorrupt, StoreError, StoreLocked
from asynqueue.interfaces import IJobStore

VERSION: Final = 1
"""The number of the file's layout, which stands in its C{user_version}."""

APPLICATION: Final = 0x41514A31
"""The file's C{application_id}, by which a store is recognised."""

_LAYOUT: Final = f"""
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        function TEXT NOT NULL,
        arg BLOB NOT NULL,
        priority NUMERIC NOT NULL,
        queued REAL NOT NULL,
        due REAL,
        uniqueKey TEXT,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        error TEXT
    );
    PRAGMA user_version = {VERSION};
    PRAGMA application_id = {APPLICATION};
"""

_FIELDS: Final = "id, function, arg, priority, queued, due, uniqueKey, state, attempts, error"

_STATEMENTS: Final = {
    INSERT: f"INSERT INTO jobs ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    BEGIN: f"UPDATE jobs SET state = '{BEGUN}', attempts = attempts + 1 WHERE id = ?1",
    WAIT: f"UPDATE jobs SET state = '{WAITING}', due = ?2, error = ?3 WHERE id = ?1",
    MOVE: "UPDATE jobs SET priority = ?2 WHERE id = ?1",
    END: "DELETE FROM jobs WHERE id = ?1",
    DEAD_LETTER: f"UPDATE jobs SET state = '{DEAD}', error = ?2 WHERE id = ?1",
    REQUEUE: f"""
        UPDATE jobs SET function = ?2, state = '{WAITING}', attempts = 0, due = NULL, error = NULL
        WHERE id = ?1
    """,
}


@implementer(IJobStore)
class SQLiteJobStore:
    """
    Keeps jobs in one file, in write-ahead mode and with C{synchronous=FULL}. Changes that L{apply}
    has written outlive a crash of the program or of the machine, if the disk does what it says.

    The file belongs to one process at a time. Only their owner can read and write the file and the
    one beside it (C{-wal}).
    """

    def __init__(
        self, path: str | os.PathLike[str], wallClock: Callable[[], float] = time.time
    ) -> None:
        """
        @param path: the file. It is made if there is none. Its folder has to exist.
        @param wallClock: gives the seconds since the epoch, to name a file that is set aside.
        """
        # Neither SQLite's own names nor a later current folder are meant.
        self._path = self._named = Path(os.path.abspath(path)) if os.fspath(path) else Path()
        self._wallClock = wallClock
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._file: tuple[int, int] = 0, 0

    def __repr__(self) -> str:
        return f"<SQLiteJobStore {self.name}>"

    @property
    def name(self) -> str:
        """
        The file's path.
        """
        return str(self._named)

    # IJobStore ------------------------------------------------------------------------------------

    def open(self) -> list[StoredJob]:
        """
        See L{IJobStore}. A file that is corrupt is set aside under another name beside its old one,
        and no other is made in its place as long as it lies there.
        """
        if self._connection is not None:
            raise StoreLocked(f"{self.name} is open already: a store is for one queue at a time")
        self._findFile()
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=0.0)
        # SQLite does not check the encoding of texts. One damaged text is one damaged job.
        connection.text_factory = _decoded
        try:
            self._prepare(connection)
            rows = connection.execute(f"SELECT {_FIELDS} FROM jobs ORDER BY id").fetchall()
        except sqlite3.Error as error:
            connection.close()
            raise self._explained(error, "opened") from error
        except OSError as error:
            connection.close()
            raise StoreError(f"{self.name} could not be opened: {error}") from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._pid = os.getpid()
        found = os.stat(self._path)
        self._file = found.st_dev, found.st_ino
        # Only close() may close it. The garbage collector of a process that was forked from this
        # one would take the -wal file away from under this one.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        return [StoredJob(*row) for row in rows]

    def highest(self) -> int:
        """
        See L{IJobStore}.
        """
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"
        try:
            row = self._open().execute(query).fetchone()
        except sqlite3.Error as error:
            raise self._explained(error, "read") from error
        return int(row[0]) if row else 0

    def apply(self, changes: list[Change]) -> None:
        """
        See L{IJobStore}.
        """
        connection = self._open()
        self._checkFile()
        try:
            if len(changes) == 1:
                # A statement alone is a transaction of its own.
                [change] = changes
                connection.execute(_STATEMENTS[change[0]], _parameters(change))
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                for kind, group in groupby(changes, itemgetter(0)):
                    connection.executemany(_STATEMENTS[kind], map(_parameters, group))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        # A ValueError is one of the encoding of texts.
        except (sqlite3.Error, OverflowError, ValueError, KeyError) as error:
            raise self._explained(error, "written") from error

    def jobs(self, state: str) -> list[StoredJob]:
        """
        See L{IJobStore}.
        """
        query = f"SELECT {_FIELDS} FROM jobs WHERE state = ? ORDER BY id"
        try:
            return [StoredJob(*row) for row in self._open().execute(query, (state,))]
        except sqlite3.Error as error:
            raise self._explained(error, "read") from error

    def close(self) -> None:
        """
        See L{IJobStore}.
        """
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(connection))

    # The file -------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self.name} is not open")
        if self._pid != os.getpid():
            raise StoreError(
                f"{self.name} was opened by process {self._pid}, and cannot be used by "
                f"{os.getpid()}, which was forked from it: an SQLite connection does not survive "
                "that. Open a store of its own there"
            )
        return self._connection

    def _findFile(self) -> None:
        """
        See to it that there is a file. Only a regular file can be a store.
        """
        if self._named == Path():
            raise StoreError("the path of a store must not be empty")
        try:
            self._path = self._named
            if stat.S_ISLNK(os.lstat(self._named).st_mode):
                # What belongs to the file lies beside the file, not beside the link to it.
                self._path = Path(os.path.realpath(self._named, strict=True))
            found = os.stat(self._path)
        except FileNotFoundError as error:
            if self._named.is_symlink():
                raise StoreError(f"{self.name} is a symbolic link to nothing") from error
            try:
                self._makeFile()
            except (OSError, sqlite3.Error) as error:
                raise StoreError(f"{self.name} cannot be made: {error}") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.name!r} cannot be the path of a store: {error}") from error
        else:
            if not stat.S_ISREG(found.st_mode):
                raise StoreError(f"{self.name} is not a regular file, as a store has to be")
            # A store comes into being whole, so a file that is empty was emptied. The file is not
            # opened here, because closing it would give up the locks that this process has on it.
            if not found.st_size:
                raise StoreCorrupt(f"{self.name} is empty, as no store is. {self._setAside()}")

    def _checkFile(self) -> None:
        """
        @raise StoreError: if the file that is open does not lie where it did.
        """
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise StoreError(f"{self.name} is gone: {error}") from error
        if (found.st_dev, found.st_ino) != self._file:
            raise StoreError(f"{self.name} is another file now than the one that was opened")

    def _makeFile(self) -> None:
        aside = sorted(self._path.parent.glob(f"{glob.escape(self._path.name)}.corrupt-*"))
        if aside:
            raise StoreCorrupt(
                f"{self.name} was found corrupt before, and set aside as {aside[0]}. Recover what "
                "can be recovered from it, then move it away, to begin with an empty store"
            )
        if self._beside("-wal").exists():
            raise StoreCorrupt(
                f"{self.name} is gone, but {self._beside('-wal')}, which belongs to it, is there. "
                "Bring the file back; or move the other away, too, to begin with an empty store"
            )
        folder = self._path.parent
        # For the owner alone, from the beginning.
        descriptor, new = tempfile.mkstemp(prefix=f"{self._path.name}.new-", dir=folder)
        os.close(descriptor)
        try:
            with closing(sqlite3.connect(new, isolation_level=None)) as connection:
                connection.executescript(f"BEGIN;{_LAYOUT}COMMIT;")
            # Another process may have been quicker.
            with suppress(FileExistsError):
                os.link(new, self._path)
        finally:
            os.unlink(new)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Exclusive from the first look on, so that a second process is refused at once; it also
        # spares the memory that processes would share.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application != APPLICATION:
            raise StoreError(f"{self.name} is an SQLite file, but not one of asynqueue's stores")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise StoreError(
                f"{self.name} has layout {version}, and this version of asynqueue reads {VERSION}"
            )
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
        for path in (self._path, self._beside("-wal")):
            with suppress(FileNotFoundError):
                path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _explained(self, error: Exception, done: str) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreLocked(
                f"{self.name} is in use by another process, or by another queue of this one: a "
                "store belongs to one at a time"
            )
        isCorrupt = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if isCorrupt or (type(error) is sqlite3.DatabaseError and "malformed" in str(error)):
            if done != "opened":
                return StoreCorrupt(f"{self.name} is corrupt: {error}")
            return StoreCorrupt(f"{self.name} is corrupt ({error}). {self._setAside()}")
        return StoreError(f"{self.name} could not be {done}: {error}")

    def _setAside(self) -> str:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._wallClock()))
        target = self._beside(f".corrupt-{stamp}")
        while target.exists():
            target = target.with_name(f"{target.name}x")
        try:
            for suffix in ("-wal", "-shm", ""):
                source = self._beside(suffix)
                if source.exists():
                    source.rename(target.with_name(target.name + suffix))
        except OSError as error:
            return f"It could not be set aside: {error}. Move it away"
        return (
            f"It was set aside as {target}, and no other is made in its place as long as that is "
            "there. Recover what can be recovered from it, then move it away"
        )


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _parameters(change: Change) -> tuple[Any, ...]:
    if change[0] != INSERT:
        return change[1:]
    job: StoredJob = change[1]
    return (
        job.id,
        job.function,
        job.arg,
        job.priority,
        job.queued,
        job.due,
        job.unique,
        job.state,
        job.attempts,
        job.error,
    )
