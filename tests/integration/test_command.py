"""
The console command C{asynqueue}.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asynqueue._command import main
from asynqueue.wire import readKey, writeKey
from tests.support.remote import serveCommand, twistCommand
from tests.support.systemd import Systemd

SERVE = ["serve", "--listen", "tcp:0:interface=127.0.0.1"]


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    writeKey(path)
    return str(path)


def fails(capsys: Any, *arguments: str) -> str:
    """
    @return: the one sentence with which the command fails.
    """
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    text: str = capsys.readouterr().err
    assert text.startswith("asynqueue: ")
    assert text.count("\n") == 1
    return text


def test_aNewKeyGoesIntoAFileThatOnlyItsOwnerReads(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "new"
    with pytest.raises(SystemExit) as exit:
        main(["key", "new", "-o", str(path)])
    assert exit.value.code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(readKey(path)) >= 32
    assert "File exists" in fails(capsys, "key", "new", "-o", str(path))


def test_aRedirectedKeyIsItsOwnersAlone(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with open(path, "wb") as file:
        subprocess.run(
            [sys.executable, "-m", "asynqueue._command", "key", "new"], stdout=file, check=True
        )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(readKey(path)) >= 32


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_aKeyThatOthersCanReadIsRefused(key: str, mode: int, capsys: Any) -> None:
    os.chmod(key, mode)
    assert f"{mode:04o}" in fails(capsys, *SERVE, "--key", key)


def test_aKeyThatIsNotThereIsRefused(tmp_path: Path, capsys: Any) -> None:
    assert "No such file" in fails(capsys, *SERVE, "--key", str(tmp_path / "nothing"))


def test_aKeyThatIsTooShortIsRefused(key: str, capsys: Any) -> None:
    Path(key).write_text("secret\n")
    assert "needs at least 32" in fails(capsys, *SERVE, "--key", key)


@pytest.mark.parametrize(
    "address",
    ["tcp:7411", "tcp:7411:interface=0.0.0.0", "tcp:7411:interface=192.0.2.1", "ssl:7411", "what"],
)
def test_anAddressThatOthersReachIsRefused(key: str, address: str, capsys: Any) -> None:
    assert address in fails(capsys, "serve", "--key", key, "--listen", address)


@pytest.mark.parametrize("option", ["--processes", "--threads", "--max-clients", "--keep"])
def test_aNumberOutOfRangeIsRefused(key: str, option: str, capsys: Any) -> None:
    assert "must be" in fails(capsys, *SERVE, "--key", key, option, "-1")


def test_newCertificatesAreForTheServerTheClientsAndTheirOwnersAlone(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with pytest.raises(SystemExit) as exit:
        main(["key", "tls-new", str(folder), "--host", "worker.example.com"])
    assert exit.value.code == 0
    for side in ("server", "client"):
        assert {path.name for path in (folder / side).iterdir()} == {
            "ca.pem",
            "cert.pem",
            "key.pem",
        }
    for key in ("ca-key.pem", "server/key.pem", "client/key.pem"):
        assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600


def test_certificatesThatAreThereAreKept(tmp_path: Path, capsys: Any) -> None:
    assert "File exists" in fails(capsys, "key", "tls-new", str(tmp_path))


@pytest.mark.parametrize("option", [("--host", "x" * 300), ("--host", ""), ("--days", "0")])
def test_certificatesForNobodyAreNotMade(tmp_path: Path, option: Any, capsys: Any) -> None:
    fails(capsys, "key", "tls-new", str(tmp_path / "made"), *option)
    assert not (tmp_path / "made").exists()


def test_aFolderWithoutCertificatesIsRefused(key: str, tmp_path: Path, capsys: Any) -> None:
    text = fails(capsys, *SERVE, "--key", key, "--tls", str(tmp_path))
    assert text.endswith(".pem: No such file or directory\n")


def test_aMissingExtraIsOneSentence(
    key: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    for name in ("tls", "certificates"):
        monkeypatch.delitem(sys.modules, f"asynqueue._workers.wire.{name}", raising=False)
    for arguments in (
        [*SERVE, "--key", key, "--tls", str(tmp_path)],
        ["key", "tls-new", str(tmp_path / "made")],
    ):
        assert "pip install 'asynqueue2[tls]'" in fails(capsys, *arguments)


def test_theHelpShowsExamples(capsys: Any) -> None:
    for arguments in ([], ["serve"], ["key", "new"], ["key", "tls-new"]):
        with pytest.raises(SystemExit) as exit:
            main([*arguments, "--help"])
        assert exit.value.code == 0
        assert "\nexample" in capsys.readouterr().out


@contextmanager
def serving(command: list[str], **environ: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ}
    ) as server:
        try:
            yield server
        finally:
            server.kill()


def test_aPortThatIsTakenIsOneSentence(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        with serving(serveCommand(key, address)) as server:
            text = server.communicate(timeout=20)[1]
    assert server.returncode == 2
    assert text.splitlines()[-1].startswith(f"asynqueue: cannot listen at {address}: ")
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("makeCommand", "number", "code"),
    [
        (serveCommand, signal.SIGTERM, 0),
        (serveCommand, signal.SIGINT, 0),
        (twistCommand, signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_aSignalEndsAnIdleServerAndSystemdHearsOfIt(
    makeCommand: Any, number: int, code: int, key: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    command = makeCommand(key, "tcp:0:interface=127.0.0.1")
    with Systemd(path) as systemd, serving(command, NOTIFY_SOCKET=path) as server:
        assert systemd.wait() == "READY=1"
        server.send_signal(number)
        assert systemd.wait() == "STOPPING=1"
        text = server.communicate(timeout=20)[1]
        assert systemd.heard() == []
    assert server.returncode == code
    assert "serving at" in text
    assert "Traceback" not in text


def test_theWatchdogOfSystemdHearsThatTheServerWorks(key: str, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    command = serveCommand(key, "tcp:0:interface=127.0.0.1")
    with (
        Systemd(path) as systemd,
        serving(command, NOTIFY_SOCKET=path, WATCHDOG_USEC="100000"),
    ):
        assert [systemd.wait() for _ in range(3)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_twistRefusesWhatServeRefuses(key: str, tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    readable = tmp_path / "readable"
    readable.write_bytes(Path(key).read_bytes())
    readable.chmod(0o644)
    for options in (
        ["--key", str(tmp_path / "nothing"), "--listen", "tcp:0:interface=127.0.0.1"],
        ["--key", str(readable), "--listen", "tcp:0:interface=127.0.0.1"],
        ["--listen", "tcp:0"],
        ["--key", key, "--listen", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "twisted", "asynqueue", *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("twist asynqueue: ")
        assert "Traceback" not in done.stderr
    taken.close()


def test_twistShowsTheHelpOfServe() -> None:
    program = [sys.executable, "-m", "twisted"]
    listed = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    assert "Run the calls of asynqueue's RemoteWorkers" in listed.stdout
    shown = subprocess.run(
        [*program, "asynqueue", "--help"], capture_output=True, text=True, check=True
    )
    assert "\n  twist asynqueue --listen" in shown.stdout
