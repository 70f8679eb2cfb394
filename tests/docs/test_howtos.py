"""
Programs of the how-tos that need more than to be run: a daemon, scripts in a terminal, a notebook.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from select import select

import pytest
from docutils import nodes

from tests.docs.pages import DOCS, ROOT, readPage
from tests.docs.test_examples import EXAMPLES

PATIENCE = 15
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def findPrograms(page: str, kind: str = "python") -> list[str]:
    """
    @return: the code blocks of a page that have a class.
    """
    blocks = readPage(DOCS / page).findall(nodes.literal_block)
    return [block.astext() for block in blocks if kind in block["classes"]]


def runInTerminal(script: Path, *arguments: Path) -> tuple[int, str]:
    """
    Run a program whose output is a terminal.

    @return: its exit code, and all that it wrote.
    """
    terminal, end = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    command = [sys.executable, str(script), *map(str, arguments)]
    shown = b""
    with subprocess.Popen(
        command, cwd=script.parent, env=ENVIRONMENT, stdout=end, stderr=end
    ) as running:
        os.close(end)
        try:
            while chunk := readChunk(terminal):
                shown += chunk
        finally:
            running.kill()
            os.close(terminal)
    return running.returncode, shown.decode()


def readChunk(terminal: int) -> bytes:
    """
    @return: what a terminal shows next; nothing when no program has its other end any more.
    """
    ready, _, _ = select([terminal], [], [], PATIENCE)
    try:
        return os.read(terminal, 65536) if ready else b""
    except OSError:
        return b""


def waitUntil(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_theDaemonOfTwistdEndsInOrderAtSigterm(tmp_path: Path) -> None:
    (program,) = findPrograms("howto-twistd.rst")
    (tmp_path / "disks.tac").write_text(program)
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
    script = tmp_path / "digests.py"
    script.write_text(findPrograms("howto-files.rst")[0])
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        (data / f"{number}.txt").write_text("the same")
    (data / "unreadable").symlink_to("/proc/self/mem")
    exitCode, shown = runInTerminal(script, data)
    assert exitCode == 1
    assert "| 0/4 " in shown
    assert "| 4/4 " in shown
    assert shown.count("failed: ") == 1
    assert shown.endswith("4 files, 1 of them different\r\n")


def test_theScriptWithABarForEachTaskShowsThemInATerminal(tmp_path: Path) -> None:
    script = tmp_path / "digests.py"
    script.write_text(findPrograms("howto-files.rst")[1])
    exitCode, shown = runInTerminal(script)
    assert exitCode == 0
    last = shown[shown.rindex("0.bin") :]
    assert [last.count(f"{number}.bin") for number in range(3)] == [1, 1, 1]
    assert last.count("100%") == 3
    assert shown.endswith("3 files\r\n")


RUN_NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=40, kernel_name="python3").execute()
texts = [[output.get("text", repr(output)) for output in cell.outputs] for cell in notebook.cells]
print(json.dumps(["".join(text) for text in texts]))
"""


def test_theNotebookShowsWhatThePageShows() -> None:
    cells: list[str] = []
    expected: list[str] = []
    for block in readPage(DOCS / "howto-notebook.rst").findall(nodes.literal_block):
        if "cell" in block["classes"]:
            cells.append(block.astext())
            expected.append("")
        else:
            expected[-1] = block.astext()
    done = subprocess.run(
        [sys.executable, "-c", RUN_NOTEBOOK],
        input=json.dumps(cells),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=45,
        check=True,
    )
    assert [text.rstrip() for text in json.loads(done.stdout)] == expected


PROGRAMS = {
    "a Scrapy pipeline": "howto-scrapy",
    "a Klein service with status, cancel and progress events": "howto-klein",
    "a FastAPI server, with its test client": "howto-fastapi",
    "a cron script over many files": "howto-files",
    "a notebook": "howto-notebook",
    "tests with pytest": "howto-pytest",
    "a daemon of twistd": "howto-twistd",
    "an exporter for Prometheus": "howto-prometheus",
}
"""Programs that a newcomer writes, and their pages. C{tests/aio/test_frameworks.py} has
FastAPI under uvicorn, and Klein on the asyncio reactor."""

RUN_HERE = {"howto-twistd", "howto-notebook"}
"""The pages whose programs the tests above run, because it takes more than Python to run them."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_theTestsRunTheProgramOf(program: str) -> None:
    page = PROGRAMS[program]
    assert page in RUN_HERE | {example.page.stem for example in EXAMPLES}
