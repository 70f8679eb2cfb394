"""
What a journal keeps for those that come after the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynqueue._workers.dask.journal import Journal, Left, readJournal, sweep


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def run(folder: str, *batches: str) -> None:
    """
    Keep a journal of some batches in a process of its own, which dies.
    """
    script = ["journal = Journal(folder, 'session')"]
    for batch in batches:
        script += [f"journal.open({batch!r})", "journal.begin(1)"]
        script += [f"journal.add(b'{batch} said this')", "journal.begin(2)"]
    dieAfter(folder, *script)


def dieAfter(folder: str, *script: str) -> None:
    """
    Run the lines of a script in a process, which dies.
    """
    names = f"from asynqueue._workers.dask.journal import SIZE, Journal; folder = {folder!r}"
    code = "\n".join([names, *script, "import os; os._exit(0)"])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


@pytest.fixture
def journal(folder: str) -> Iterator[Journal]:
    journal = Journal(folder, "session")
    yield journal
    journal.close()


def test_whatABatchSaidAndBeganOutlastsItsProcess(folder: str) -> None:
    run(folder, "batch")
    assert readJournal(folder, "session", "batch") == Left(2, [b"batch said this"])


def test_aLaterBatchTakesTheJournalOver(folder: str) -> None:
    run(folder, "long ago", "batch")
    assert readJournal(folder, "session", "long ago") is None
    assert readJournal(folder, "session", "batch") == Left(2, [b"batch said this"])


def test_nothingIsToldOfABatchWhoseProcessLives(folder: str, journal: Journal) -> None:
    journal.open("batch")
    assert readJournal(folder, "session", "batch") is None


def test_nothingIsToldOfOtherSessions(folder: str) -> None:
    run(folder, "batch")
    assert readJournal(folder, "other", "batch") is None


def test_aFileThatIsNoJournalIsPassedOver(folder: str) -> None:
    run(folder, "batch")
    Path(folder, "asynqueue-session-a.journal").write_bytes(b"x" * 7)
    os.symlink("/etc/passwd", os.path.join(folder, "asynqueue-session-b.journal"))
    assert readJournal(folder, "session", "batch") == Left(2, [b"batch said this"])


def test_whatDoesNotFitIsNotKeptAndNothingAfterIt(folder: str) -> None:
    dieAfter(
        folder,
        "journal = Journal(folder, 'session')",
        "journal.open('batch')",
        "for message in b'first', bytes(SIZE), b'last': journal.add(message)",
        "journal.begin(7)",
    )
    assert readJournal(folder, "session", "batch") == Left(7, [b"first"])


def test_aJournalThatIsClosedLeavesNoFile(folder: str) -> None:
    journal = Journal(folder, "session")
    journal.open("batch")
    journal.close()
    assert os.listdir(folder) == []


def test_oldJournalsOfDeadProcessesAreRemoved(folder: str, journal: Journal) -> None:
    run(folder, "batch")
    sweep(folder)
    assert len(os.listdir(folder)) == 2, "it is not old yet"
    for name in os.listdir(folder):
        os.utime(os.path.join(folder, name), (0.0, 0.0))
    sweep(folder)
    assert len(os.listdir(folder)) == 1, "that of this process is left"
