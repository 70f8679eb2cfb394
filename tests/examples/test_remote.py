"""
The example of a picture on two servers, and C{mcm} on servers.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from asynqueue.wire import writeKey

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "examples.remote"]
MCM = [sys.executable, "-m", "mcmandelbrot", "10", "0", "0", "1", "-o", "a.png"]
PATIENCE = 50


def begin(folder: Path, *options: str) -> subprocess.Popen[str]:
    """
    Begin the demo, with its temporary files in a folder.
    """
    return subprocess.Popen(
        [*DEMO, *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def waitUntilGone(processes: list[psutil.Process]) -> None:
    """
    Wait until none of some processes is there any more.
    """
    _, alive = psutil.wait_procs(processes, PATIENCE)
    assert not alive


def test_theServersPictureIsWholeAlthoughOneIsKilled(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with begin(
        tmp_path / "tmp", "--width", "700", "-j", "1", "-o", str(tmp_path / "a.png")
    ) as demo:
        said, complaint = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, complaint) == (0, "")
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        *("here", "killed", "on servers", "server", "server", "the same")
    ]
    assert os.listdir(tmp_path / "tmp") == []
    assert (tmp_path / "a.png").stat().st_size > 100_000


def test_interruptingTheExampleEndsItsServersAndRemovesItsFiles(tmp_path: Path) -> None:
    with begin(tmp_path, "--width", "100000") as demo:
        process = psutil.Process(demo.pid)
        deadline = time.monotonic() + PATIENCE
        while not (started := process.children(recursive=True)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        demo.send_signal(signal.SIGINT)
        _, complaint = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, complaint) == (128 + signal.SIGINT, "")
    waitUntilGone(started)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("tcp:127.0.0.1:1", "missing"),
        ("tcp:127.0.0.1", "key"),
        ("udp:127.0.0.1:1", "key"),
    ],
)
def test_badServersAreOneLineAndStatus2(address: str, key: str, tmp_path: Path) -> None:
    writeKey(str(tmp_path / "key"))
    done = subprocess.run(
        [*MCM, "--remote", address, "--key", key],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.fullmatch(rb"mcm: error: [^\n]+\n", done.stderr), done.stderr
    assert os.listdir(tmp_path) == ["key"]
