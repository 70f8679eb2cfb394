"""
How many jobs a second a durable dispatch queue writes down, one at a time and many at once.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults

from asynqueue import Delay, ResizableDispatchQueue
from benchmarks.measure import Contender, Measure, Row, Target
from benchmarks.parts import runInReactor
from benchmarks.tasks import echo

WARM_UP = 200


def _rate(jobs: int, started: float) -> float:
    return jobs / (time.perf_counter() - started)


def oneByOne(jobs: int) -> float:
    """
    @return: how many jobs a second are put, if each put waits until the job before is on the disk.
    """

    async def work(folder: Path) -> float:
        queue = ResizableDispatchQueue(echo, store=folder / "jobs.db")
        started = 0.0
        for number in range(-WARM_UP, jobs):
            if number == 0:
                started = time.perf_counter()
            job: Any = queue.put(number).job
            await job.saved
        rate = _rate(jobs, started)
        await queue.stop()
        return rate

    return _inFolder(work)


def burst(jobs: int) -> float:
    """
    @return: how many jobs a second are put in one turn of the reactor, until all are on the disk.
    """

    async def work(folder: Path) -> float:
        queue = ResizableDispatchQueue(echo, store=folder / "jobs.db")
        await Delay()(0)
        started = time.perf_counter()
        made: list[Any] = [queue.put(number).job for number in range(jobs)]
        await gatherResults([job.saved for job in made])
        rate = _rate(jobs, started)
        await queue.stop()
        return rate

    return _inFolder(work)


def _inFolder(work: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return runInReactor(lambda: work(Path(folder)))


def ceiling(jobs: int) -> float:
    """
    @return: how many commits of one row a second SQLite makes alone, with the same settings.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(f"{folder}/jobs.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, function TEXT, arg BLOB, "
            "priority NUMERIC, queued REAL, due REAL, uniqueKey TEXT, state TEXT, "
            "attempts INTEGER, error TEXT)"
        )
        insert = "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        started = 0.0
        for number in range(-WARM_UP, jobs):
            if number == 0:
                started = time.perf_counter()
            row = (None, "echo", json.dumps(number), 0, time.time(), None, None, "waiting", 0, None)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(insert, row)
            connection.execute("COMMIT")
        return _rate(jobs, started)


def hueyRate(jobs: int) -> float:
    """
    @return: how many calls a second go into huey's queue in a file, with C{fsync}.
    """
    from huey import SqliteHuey

    with tempfile.TemporaryDirectory() as folder:
        huey = SqliteHuey("jobs", filename=f"{folder}/jobs.db", fsync=True)
        task = huey.task()(echo)
        for number in range(WARM_UP):
            task(number)
        started = time.perf_counter()
        for number in range(jobs):
            task(number)
        rate = _rate(jobs, started)
        huey.storage.close()
        return rate


def persistQueueRate(jobs: int) -> float:
    """
    @return: how many items a second go into persist-queue's queue in a file.
    """
    from persistqueue import SQLiteAckQueue

    with tempfile.TemporaryDirectory() as folder:
        queue = SQLiteAckQueue(folder, auto_commit=True)
        for number in range(WARM_UP):
            queue.put(number)
        started = time.perf_counter()
        for number in range(jobs):
            queue.put(number)
        rate = _rate(jobs, started)
        queue.close()
        return rate


_FEW = {"arguments": {"jobs": 5_000}, "quick": {"jobs": 1_000}}
_MANY = {"arguments": {"jobs": 20_000}, "quick": {"jobs": 5_000}}
_ONE = Contender("ours, one at a time", oneByOne, **_FEW)
_BARE = Contender("SQLite's commits alone", ceiling, **_FEW)
_HUEY = Contender("huey's SqliteHuey with fsync", hueyRate, **_FEW)
_LABEL = "durable puts a second"

MEASURE = Measure(
    "durable",
    (
        Row(f"{_LABEL}, one at a time", "/s", _ONE, _HUEY, Target(1, isLeast=True)),
        Row(f"{_LABEL}, one at a time", "/s", _ONE, _BARE),
        Row(
            f"{_LABEL}, one at a time",
            "/s",
            _ONE,
            Contender("persist-queue's SQLiteAckQueue", persistQueueRate, **_FEW),
        ),
        Row(
            f"{_LABEL}, 20,000 at once",
            "/s",
            Contender("ours, in a burst", burst, **_MANY),
            _HUEY,
            Target(8, isLeast=True),
        ),
    ),
)
