"""
Programs of the how-tos that need more than to be run: a daemon, and a script in a terminal.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from docutils import nodes

from tests.docs.pages import DOCS, ROOT, readPage

PATIENCE = 15
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def writeProgram(page: str, script: Path) -> None:
    """
    Write the Python program of a page to a file.
    """
    blocks = readPage(DOCS / page).findall(nodes.literal_block)
    (program,) = [block.astext() for block in blocks if "python" in block["classes"]]
    script.write_text(program, encoding="utf-8")


def waitUntil(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_theDaemonOfTwistdEndsInOrderAtSigterm(tmp_path: Path) -> None:
    writeProgram("howto-twistd.rst", tmp_path / "disks.tac")
    pidfile, log = tmp_path / "disks.pid", tmp_path / "disks.log"
    twistd = Path(sys.executable).with_name("twistd")
    subprocess.run(
        [twistd, f"--pidfile={pidfile}", f"--logfile={log}", "-y", "disks.tac"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        timeout=PATIENCE,
        check=True,
    )
    pid = int(pidfile.read_text())
    try:
        waitUntil(lambda: "/tmp has" in log.read_text())
        os.kill(pid, signal.SIGTERM)
        waitUntil(lambda: not pidfile.exists())
    finally:
        if pidfile.exists():
            os.kill(pid, signal.SIGKILL)
    text = log.read_text()
    assert text.count("bytes left") == 2
    assert text.index("drains, because") < text.index("Server Shut Down")
    assert "Traceback" not in text


def test_theScriptOverFilesShowsItsProgressInATerminal(tmp_path: Path) -> None:
    writeProgram("howto-files.rst", tmp_path / "digests.py")
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        (data / f"{number}.txt").write_text("the same")
    (data / "unreadable").symlink_to("/proc/self/mem")
    terminal, end = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "digests.py", data],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        shown = os.read(terminal, 65536).decode()
    finally:
        os.close(end)
        os.close(terminal)
    assert (done.returncode, done.stderr) == (1, "")
    assert "\r[#######                       ] 1/4\r" in shown
    assert f"\r[{30 * '#'}] 4/4\r\n" in shown
    assert shown.count("failed: ") == 1
    assert shown.endswith("4 files, 1 of them different\r\n")
