"""
Files that outlast a server, and tell which calls had begun.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asynqueue._runner.recorder import Recorder
from asynqueue._workers.wire.begun import BegunFiles
from asynqueue.errors import ServerBusy


def test_theNumberCanBeReadWhenTheRunnerIsGone(tmp_path: Path) -> None:
    files = BegunFiles(tmp_path / "state")
    recorder = Recorder(str(files.path("session")))
    recorder.begin(7)
    recorder.close()
    assert files.lastBegun("session") == 7
    assert files.ended() == [files.path("session")]


def test_nothingIsSaidWhileTheRunnerMayBeginAnotherCall(tmp_path: Path) -> None:
    files = BegunFiles(tmp_path / "state")
    recorder = Recorder(str(files.path("session")))
    # As when the server has given the descriptor away, and only the memory is left.
    recorder.sent()
    with pytest.raises(ServerBusy):
        files.lastBegun("session")
    assert files.ended() == []
    recorder.close()
    assert files.lastBegun("session") == 0


def test_whatWasForgottenOrIsDamagedIsNotKnown(tmp_path: Path) -> None:
    files = BegunFiles(tmp_path / "state")
    assert files.lastBegun("never") is None
    Recorder(str(files.path("session"))).close()
    files.forget("session")
    files.forget("session")
    assert files.lastBegun("session") is None
    files.path("empty").touch()
    assert files.lastBegun("empty") is None


def test_namesOfSessionsAreSecret(tmp_path: Path) -> None:
    files = BegunFiles(tmp_path / "state")
    assert "session" not in str(files.path("session").name)
    Recorder(str(files.path("session"))).close()
    assert files.path("session").stat().st_mode & 0o777 == 0o600


def test_foldersThatOthersMayReadAreRefused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "file").touch()
    os.symlink(tmp_path, tmp_path / "link")
    for name in ("open", "file", "link"):
        with pytest.raises(OSError):
            BegunFiles(tmp_path / name)
