"""
The console command C{mcm} in real processes: its pictures, and all ways in which it ends early.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from mcmandelbrot import __version__
from mcmandelbrot.png import PNGAssembler
from mcmandelbrot.stripe import Stripe, drawStripe, renderStripe
from mcmandelbrot.view import View
from tests.mcmandelbrot.references import DecodedPNG, decodePNG

ROOT = Path(__file__).parents[2]
MCM = [sys.executable, "-m", "mcmandelbrot"]

#: Seconds that a run may take. The first one on a machine compiles the kernel.
PATIENCE = 50

#: Arguments of pictures that take one process well over a minute.
LONG = ["100000", "-0.7453", "0.1127", "6.5e-3", "-N", "100000", "-j", "1"]


def environment() -> dict[str, str]:
    """
    Make what the runs have as their environment.
    """
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """
    Run C{mcm} to its end.
    """
    return subprocess.run(
        [*MCM, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run C{mcm} in a process group of its own, of which nothing is left afterwards.
    """
    with subprocess.Popen(
        [*MCM, *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def waitUntil(isTrue: Callable[[], bool], what: str) -> None:
    """
    Wait for what another process does.
    """
    deadline = time.monotonic() + PATIENCE
    while not isTrue():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def groupMembers(group: int) -> list[psutil.Process]:
    """
    Find the living processes of a group.
    """
    members = []
    for process in psutil.process_iter():
        try:
            isMember = os.getpgid(process.pid) == group
            if isMember and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def assertPicture(picture: DecodedPNG, view: View) -> None:
    """
    Assert that a picture has the pixels that one process draws in one go.
    """
    assert (picture.width, picture.height) == (view.width, view.height)
    assert b"".join(picture.rows) == drawStripe(Stripe(view, 0, view.height))


def hasBegun(folder: Path) -> bool:
    """
    Tell whether a file is being written that is more than a PNG's header.
    """
    return any(file.stat().st_size > 1000 for file in folder.iterdir())


def test_fileHasThePixelsOfOneDrawing(tmp_path: Path) -> None:
    done = run("300", "-6.3e-1", "0", "1.4", "1.2", "-j", "2", "-o", "a.png", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    pattern = rb"77,100 pixels in [\d.]+ seconds: [\d,]+ pixels per second \(.*\)\n"
    assert re.fullmatch(pattern, done.stderr), done.stderr
    assert os.listdir(tmp_path) == ["a.png"]
    picture = decodePNG((tmp_path / "a.png").read_bytes())
    assertPicture(picture, View(300, -0.63, 0.0, 1.4, 1.2, 2000))


def test_manyStripesOfUnequalCostMakeOnePicture(tmp_path: Path) -> None:
    arguments = ["300", "-0.7453", "0.1127", "6.5e-3", "-N", "200000", "-j", "2", "-o", "a.png"]
    assert run(*arguments, cwd=tmp_path).returncode == 0
    picture = decodePNG((tmp_path / "a.png").read_bytes())
    assertPicture(picture, View(300, -0.7453, 0.1127, 6.5e-3, 6.5e-3, 200_000))


def test_pictureGoesToAPipe(tmp_path: Path) -> None:
    done = run("200", "-0.5", "-1e-1", "1.5", "-N", "50", "-j", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assertPicture(decodePNG(done.stdout), View(200, -0.5, -0.1, 1.5, 1.5, 50))
    assert os.listdir(tmp_path) == []


def test_smallestPictureIsOne(tmp_path: Path) -> None:
    done = run("1", "0", "0", "1", "1e-13", "-o", "-", cwd=tmp_path)
    assert done.returncode == 0
    assertPicture(decodePNG(done.stdout), View(1, 0.0, 0.0, 1.0, 1e-13, 2000))


@pytest.mark.parametrize(
    "arguments",
    [
        ["0", "0", "0", "1", "-o", "a.png"],
        ["10", "nan", "0", "1", "-o", "a.png"],
        ["10", "0", "0", "-1e-3", "-o", "a.png"],
        ["10", "0", "0", "1e-14", "-o", "a.png"],
        ["10", "0", "0", "1", "-o", "missing/a.png"],
        ["10", "0", "0", "1", "-o", "."],
        ["10"],
    ],
)
def test_badArgumentsAreOneLineAndStatus2(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.fullmatch(rb"mcm: error: [^\n]+\n", done.stderr), done.stderr
    assert os.listdir(tmp_path) == []


def test_versionAndHelpAreTold(tmp_path: Path) -> None:
    version = run("--version", cwd=tmp_path)
    assert (version.returncode, version.stdout.decode()) == (0, f"mcm {__version__}\n")
    told = run("--help", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"\n  mcm 1000 -0.63 0 1.4 1.2 -o " in told.stdout


def test_readerWhoLeavesEndsItQuietly(tmp_path: Path) -> None:
    with running(*LONG, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(8) == b"\x89PNG\r\n\x1a\n"
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == b""
        waitUntil(lambda: not groupMembers(process.pid), "the worker processes to end")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_signalRemovesThePartialFile(number: int, status: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"an older picture")
    with running(*LONG, "-o", "a.png", cwd=tmp_path) as process:
        waitUntil(lambda: len(os.listdir(tmp_path)) == 2, "the partial file")
        waitUntil(lambda: len(groupMembers(process.pid)) > 2, "the worker processes")
        waitUntil(lambda: hasBegun(tmp_path), "the first rows")
        # The terminal sends Ctrl-C to all processes in the foreground.
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output, errors) == (status, b"", b"")
        assert os.listdir(tmp_path) == ["a.png"]
        assert (tmp_path / "a.png").read_bytes() == b"an older picture"
        waitUntil(lambda: not groupMembers(process.pid), "the worker processes to end")


def test_interruptEndsItWhileNobodyReads(tmp_path: Path) -> None:
    with running(*LONG, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.read(1000)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def workersOf(pid: int) -> list[psutil.Process]:
    """
    @return: the worker processes of a program: each leads a process group, as only the reaper does
        besides.
    """
    workers = []
    # Whichever ends in the meantime is none any more.
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                isReaper = any("reaper_main" in word for word in child.cmdline())
                if os.getpgid(child.pid) == child.pid and not isReaper:
                    workers.append(child)
    return workers


def test_killedWorkersLoseNothingOfThePicture(tmp_path: Path) -> None:
    arguments = ["800", "-0.7453", "0.1127", "6.5e-3", "-N", "20000", "-j", "2", "-o", "a.png"]
    with running(*arguments, cwd=tmp_path) as process:
        waitUntil(lambda: bool(os.listdir(tmp_path)) and hasBegun(tmp_path), "the first rows")
        killed = 0
        while process.poll() is None and killed < 2:
            for worker in workersOf(process.pid):
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
                    killed += 1
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, killed >= 2) == (0, True), errors
    # Nor do the bytes depend on how many processes there are, or on what they went through.
    view = View(800, -0.7453, 0.1127, 6.5e-3, 6.5e-3, 20_000)
    assembler = PNGAssembler(view.width, view.height, view.texts)
    drawn = assembler.start() + assembler.add(renderStripe(Stripe(view, 0, view.height)).packed)
    picture = (tmp_path / "a.png").read_bytes()
    assert picture == drawn + assembler.finish()
    texts = decodePNG(picture).texts
    assert texts["Comment"] == "mcm 800 -0.7453 0.1127 0.0065 0.0065 -N 20000"


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """
    Make a terminal: the end that reads what is shown, and the end that programs write to.
    """
    master, slave = pty.openpty()
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


def test_terminalGetsNoPicture(tmp_path: Path) -> None:
    with terminal() as (_, slave):
        done = subprocess.run(
            [*MCM, "10", "0", "0", "1"],
            cwd=tmp_path,
            env=environment(),
            stdout=slave,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 2
    assert re.fullmatch(rb"mcm: error: [^\n]+ is a terminal[^\n]+\n", done.stderr), done.stderr


def test_terminalGetsABarAndAClosingLine(tmp_path: Path) -> None:
    with terminal() as (master, slave):
        done = subprocess.run(
            [*MCM, "300", "-0.63", "0", "1.4", "-j", "1", "-o", "a.png"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=slave,
            timeout=PATIENCE,
            check=False,
        )
        shown = os.read(master, 100_000).decode()
    assert (done.returncode, done.stdout) == (0, b"")
    first, *_, last = shown.split("\r\x1b[K")[1:]
    assert re.fullmatch(r"\[ *\]   0%  0 pixels per second", first)
    assert last.startswith("90,000 pixels in ")
    assert last.endswith(")\r\n")
