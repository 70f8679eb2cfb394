"""
The admin socket itself: where it lies, who may use it, and when it goes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asynqueue.admin import AdminClient, findSockets
from asynqueue.admin.client import socketFolder
from asynqueue.admin.server import MOST_CLIENTS
from asynqueue.aio import ResizableDispatchQueue, TaskQueue, ThreadQueue
from asynqueue.errors import AdminError
from asynqueue.testing import InlineWorker


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield tmp_path / "asynqueue"


def seen(look: Callable[[str], Any], **options: Any) -> Any:
    """
    @return: what a function in another thread returns, given the path of a queue's socket.
    """

    async def main() -> Any:
        async with TaskQueue(InlineWorker()) as queue:
            admin = queue.admin(**options)
            await queue.call(len, "abc")
            assert admin.path is not None
            found = await asyncio.to_thread(look, admin.path)
        assert admin.path is None
        return found

    return asyncio.run(main())


def test_theSocketIsItsOwnersAlone(folder: Path) -> None:
    def look(path: str) -> tuple[int, int, list[str]]:
        modes = [stat.S_IMODE(os.stat(name).st_mode) for name in (path, os.path.dirname(path))]
        return modes[0], modes[1], findSockets()

    mode, folderMode, sockets = seen(look)
    assert (mode, folderMode) == (0o600, 0o700)
    assert [os.path.dirname(path) for path in sockets] == [str(folder)]


def test_aClientAsksOverTheSocket() -> None:
    def look(path: str) -> Any:
        with AdminClient(path) as client:
            client.ask("pause")
            found = client.ask("snapshot")
            client.ask("resume")
            return client.greeting, found

    greeting, found = seen(look, name="mails")
    assert greeting["pid"] == os.getpid()
    assert greeting["queues"] == ["mails"]
    assert found["paused"] is True
    assert found["ended"] is not None


def test_aRefusalIsRaisedAtTheClient() -> None:
    def look(path: str) -> None:
        with AdminClient(path) as client, pytest.raises(AdminError, match="no verb 'explode'"):
            client.ask("explode")

    seen(look)


def test_theSocketGoesWithTheLastQueue(folder: Path) -> None:
    async def main() -> None:
        async with TaskQueue(InlineWorker()) as queue:
            path = queue.admin().path
            jobs = ResizableDispatchQueue(print)
            assert jobs.admin().path == path
            await jobs.stop()
            assert len(os.listdir(folder)) == 1
        assert os.listdir(folder) == []

    asyncio.run(main())


def test_noMoreClientsThanAllowedAreConnected() -> None:
    def look(path: str) -> None:
        clients = [AdminClient(path) for _ in range(MOST_CLIENTS)]
        with pytest.raises(AdminError):
            AdminClient(path)
        clients.pop().close()
        for client in clients:
            client.ask("queues")
            client.close()

    seen(look)


def test_threadsAreAddedAndTakenAway() -> None:
    async def main() -> list[int]:
        counts = []
        async with ThreadQueue(1) as queue:
            path = queue.admin().path
            assert path is not None
            for count in (3, 1):
                with await asyncio.to_thread(AdminClient, path) as client:
                    await asyncio.to_thread(client.ask, "processes", count=count)
                counts.append(len(queue))
        return counts

    assert asyncio.run(main()) == [3, 1]


def test_aClientThatLeavesInTheMiddleHarmsNobody() -> None:
    def look(path: str) -> Any:
        for data in (b"", b'{"do": "queues"}', b'{"do": "queues"}\n' * 500, b"x" * 100_000):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(data)
        with AdminClient(path) as client:
            return client.ask("queues")

    assert len(seen(look)) == 1


def test_aSocketThatAKilledProgramHasLeftIsRemoved(folder: Path) -> None:
    socketFolder(make=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "1-abcdef.sock"))
    assert findSockets() == []
    assert os.listdir(folder) == []


def test_withoutAFolderThereIsNoSocket() -> None:
    assert findSockets() == []


def test_aFolderThatOthersCanEnterIsRefused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o755)
    with pytest.raises(AdminError, match="0755"):
        findSockets()
    with pytest.raises(AdminError, match="0700"):
        socketFolder(make=True)


def test_aLinkInPlaceOfTheFolderIsRefused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdminError, match="not a folder"):
        findSockets()


def test_withoutARuntimeFolderThereIsOneOfTheUsersOwn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = socketFolder(make=True)
    assert found == str(tmp_path / f"asynqueue-{os.geteuid()}")
    assert stat.S_IMODE(os.stat(found).st_mode) == 0o700


def test_aQueueWorksWhereTheSocketCannotBeMade(folder: Path) -> None:
    folder.parent.joinpath("asynqueue").write_text("in the way")

    async def main() -> int:
        async with TaskQueue(InlineWorker()) as queue:
            admin = queue.admin()
            assert admin.path is None
            found: int = await queue.call(len, "abc")
            return found

    assert asyncio.run(main()) == 3


PROGRAM = """
import asyncio, os, sys
from asynqueue.aio import ThreadQueue

async def main():
    queue = ThreadQueue(1)
    await queue.call(len, "abc")
    print(os.listdir(os.path.join(os.environ["XDG_RUNTIME_DIR"], "asynqueue")), flush=True)
    if "exit" in sys.argv:
        sys.exit(3)
    await queue.shutdown()

asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["shutdown", "exit"])
def test_theEnvironmentOpensTheSocketAndTheEndOfTheProgramRemovesIt(end: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, end],
        env={**os.environ, "ASYNQUEUE_ADMIN": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == (3 if end == "exit" else 0), done.stderr
    assert ".sock" in done.stdout
    assert os.listdir(folder) == []
