"""
C{python -m examples.weblog}, as real processes.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import termios
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from examples.weblog.blocks import BLOCK_SIZE
from examples.weblog.cli import main
from examples.weblog.madeup import makePart
from tests.examples.weblogs import makeLine
from tests.support.processes import areGone

ROOT = Path(__file__).parents[2]
WEBLOG = [sys.executable, "-m", "examples.weblog", "-j", "1"]

#: Seconds that a run may take.
PATIENCE = 50


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Make a log of two blocks, with 24,000 lines.
    """
    path = tmp_path_factory.mktemp("weblog") / "access.log"
    path.write_bytes(makePart(1, 0, 24_000, 24_000))
    assert BLOCK_SIZE < path.stat().st_size < 2 * BLOCK_SIZE
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*arguments: Any, cwd: Path, stdin: Any = subprocess.DEVNULL) -> Any:
    """
    Run the program to its end.
    """
    return subprocess.run(
        [*WEBLOG, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        stdin=stdin,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def waitUntil(isTrue: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not isTrue():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@contextmanager
def running(*arguments: Any, cwd: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """
    Run the program with a pipe as its standard input, and yield the end to write to.
    """
    reading, writing = os.pipe()
    with subprocess.Popen(
        [*WEBLOG, "--json", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        os.close(reading)
        try:
            yield process, writing
        finally:
            os.close(writing)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def workersOf(process: psutil.Process) -> list[psutil.Process]:
    """
    Find the processes that parse: a server's children.
    """
    return [each for each in process.children(recursive=True) if each.ppid() != process.pid]


def isEmpty(pipe: int) -> bool:
    """
    Tell whether everything that was written to a pipe was read.
    """
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return not count[0]


@pytest.fixture(scope="module")
def reported(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """
    Run the program over the log, and note what it left in its folder.
    """
    folder = tmp_path_factory.mktemp("empty")
    done = run("--json", log, cwd=folder)
    done.left = os.listdir(folder)
    return done


def test_jsonIsAllThatIsPrinted(reported: Any) -> None:
    assert (reported.returncode, reported.stderr) == (0, b"")
    found = json.loads(reported.stdout)
    assert found["requests"] + found["malformed"] == 24_000
    assert found["malformed"] > 0
    assert found["bytes"] > 0
    assert found["partial"] is False
    assert found["misbehaving"] > 0
    assert reported.left == []


def test_compressedFileAndPipeTellTheSame(reported: Any, log: Path, tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_bytes(gzip.compress(log.read_bytes(), 1))
    with (tmp_path / "log.gz").open("rb") as file:
        outcomes = [
            json.loads(reported.stdout),
            json.loads(run("--json", "*.gz", cwd=tmp_path).stdout),
            json.loads(run("--json", cwd=tmp_path, stdin=file).stdout),
        ]
    inputs = [outcome.pop("inputs") for outcome in outcomes]
    assert inputs == [[str(log)], ["log.gz"], ["standard input"]]
    malformed = [list(outcome.pop("malformed_by_input")) for outcome in outcomes]
    assert malformed == inputs
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_recordsAreInTheOrderOfTheLines(log: Path, tmp_path: Path) -> None:
    options = ["-j", "2", "--records", "all.jsonl", "--select", "all", "--html", "report.html"]
    done = run(*options, log, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    with (tmp_path / "all.jsonl").open(encoding="utf-8") as file:
        requests = [record["request"].encode() for record in map(json.loads, file)]
    split = [line.split(b'"') for line in log.read_bytes().splitlines()]
    assert requests == [parts[1] for parts in split if len(parts) > 6]
    assert b"Overview" in done.stdout
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert sorted(os.listdir(tmp_path)) == ["all.jsonl", "report.html"]


def test_inputsThatFailAreNamedAndTheStatusIs1(log: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(log.read_bytes(), 1)[:-1000])
    (tmp_path / "program").write_bytes(Path(sys.executable).read_bytes()[:1000])
    (tmp_path / "good").write_bytes(makeLine())
    done = run("--json", "missing", "cut.gz", "program", "good", cwd=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert set(found["failures"]) == {"missing", "cut.gz", "program"}
    assert found["requests"] > 18_000
    for name in found["failures"]:
        assert f"weblog: error: {name}: ".encode() in done.stderr
    assert found["inputs"] == ["cut.gz", "good"]


def test_interruptTellsWhatWasReadAndLeavesNothingRunning(log: Path, tmp_path: Path) -> None:
    records = tmp_path / "all.jsonl"
    options = ["--records", records, "--select", "all", log, log, "-"]
    with running(*options, cwd=tmp_path) as (process, _):
        # A record is longer than its line, so this is more than the first block's.
        size = 2 * BLOCK_SIZE
        waitUntil(lambda: sum(map(os.path.getsize, tmp_path.glob(".*.part"))) >= size, "records")
        assert not records.exists()
        pids = [each.pid for each in psutil.Process(process.pid).children(recursive=True)]
        assert len(pids) >= 2
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, complaint
        found = json.loads(printed)
        assert found["partial"] is True
        assert found["requests"] > 10_000
        waitUntil(lambda: areGone(pids), "the children's end")
    # The records of a block come before its sums.
    written = records.read_bytes().splitlines()
    assert len([json.loads(line) for line in written]) >= found["requests"]
    assert os.listdir(tmp_path) == ["all.jsonl"]


def test_linesAreAllCountedThoughAWorkerWasKilled(log: Path, tmp_path: Path) -> None:
    with running("-j", "2", "-", cwd=tmp_path) as (process, writing):
        os.write(writing, log.read_bytes())
        near = psutil.Process(process.pid)
        waitUntil(lambda: len(workersOf(near)) == 2, "both workers")
        workersOf(near)[0].kill()
        os.write(writing, log.read_bytes())
        # What the reader of the pipe takes for its end.
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), writing)
        printed, complaint = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaint) == (0, b"")
    found = json.loads(printed)
    assert found["requests"] + found["malformed"] == 48_000


def test_progressIsShownOnATerminalOnly(log: Path, tmp_path: Path) -> None:
    near, far = pty.openpty()
    environ = {**environment(), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [*WEBLOG, "--json", log],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=far,
    ) as process:
        os.close(far)
        shown = b""
        try:
            while piece := os.read(near, 1 << 16):
                shown += piece
        except OSError:
            # So Linux says that nobody has the terminal open any more.
            pass
        os.close(near)
        assert process.stdout is not None
        json.loads(process.stdout.read())
    assert b"reading" in shown
    assert b"MB" in shown


def test_readerWhoLeavesIsNoFault(log: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*WEBLOG, log],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(PATIENCE)


def test_helpTellsTheExitStatus(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert b"exit status" in done.stdout


# What is refused before anything is read ----------------------------------------------------------


class Refused(NamedTuple):
    """
    How the command ended, and what it has printed.
    """

    returncode: int | str | None
    stdout: str
    stderr: str


Refuse = Callable[..., Refused]


@pytest.fixture
def refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Refuse:
    """
    Call the command in this process, in the test's folder.
    """
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Refused:
        try:
            status: int | str | None = main([str(each) for each in arguments])
        except SystemExit as end:
            status = end.code
        return Refused(status, *capfd.readouterr())

    return call


@pytest.mark.parametrize(
    "arguments", [["--top", "0", "x"], ["--select", "some", "x"], ["--flood", "x", "x"], ["--none"]]
)
def test_badArgumentsAreRefused(arguments: list[str], refuse: Refuse) -> None:
    done = refuse(*arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_outputThatCannotBeWrittenIsNamed(log: Path, refuse: Refuse) -> None:
    done = refuse("--html", "none/report.html", log)
    assert done.returncode == 1
    assert "none/report.html" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--html", "--records"])
@pytest.mark.parametrize("kind", ["path", "other path", "link", "hard link", "pattern", "stdin"])
def test_inputIsNeverAnOutput(option: str, kind: str, tmp_path: Path, refuse: Refuse) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(makeLine())
    output, name = str(path), "x.log"
    if kind == "other path":
        output = f"../{tmp_path.name}/./x.log"
    elif kind == "link":
        (tmp_path / "link").symlink_to("x.log")
        output = "link"
    elif kind == "hard link":
        os.link(path, tmp_path / "link")
        output = "link"
    elif kind == "pattern":
        name = "*.log"
    if kind == "stdin":
        with path.open("rb") as file:
            ran = run(option, output, "-", cwd=tmp_path, stdin=file)
        done = Refused(ran.returncode, ran.stdout.decode(), ran.stderr.decode())
    else:
        done = refuse(option, output, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"weblog: error: {option} {output} is also an input" in done.stderr
    assert path.read_bytes() == makeLine()


def test_missingInputIsNotMadeByAnOutput(tmp_path: Path, refuse: Refuse) -> None:
    assert refuse("--html", "x.log", "x.log").returncode == 2
    assert os.listdir(tmp_path) == []


def test_reportIsNotPrintedIntoAnInput(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(makeLine())
    with path.open("ab") as file:
        done = subprocess.run(
            [*WEBLOG, "x.log"],
            cwd=tmp_path,
            env=environment(),
            stdout=file,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 2
    assert b"is also an input" in done.stderr
    assert path.read_bytes() == makeLine()


@pytest.mark.parametrize(
    "outputs",
    [["--html", "a", "--records", "./a"], ["--html", "-"], ["--records", "/dev/stdout"]],
)
def test_outputsDoNotShareAFile(outputs: list[str], tmp_path: Path, refuse: Refuse) -> None:
    (tmp_path / "x.log").write_bytes(makeLine())
    done = refuse(*outputs, "x.log")
    assert (done.returncode, done.stdout) == (2, "")
    assert os.listdir(tmp_path) == ["x.log"]


def test_deviceAndPipeAreWrittenToAndNeverReplaced(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(makeLine())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = ["--records", "pipe", "--select", "all", "--html", "/dev/null"]
    with subprocess.Popen(
        [*WEBLOG, *options, "x.log"], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    ) as process:
        assert json.loads(pipe.read_bytes())["status"] == 200
        process.wait(PATIENCE)
    assert process.returncode == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert sorted(os.listdir(tmp_path)) == ["pipe", "x.log"]


def test_failureLeavesTheOlderOutput(tmp_path: Path, refuse: Refuse) -> None:
    (tmp_path / "report.html").write_bytes(b"older")
    assert refuse("--html", "report.html", "--records", "none/x", "missing").returncode == 1
    assert (tmp_path / "report.html").read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["report.html"]


def test_logInWhichNothingIsUnderstoodIsAFailure(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"odd\n" * 3)
    (tmp_path / "good").write_bytes(makeLine() + b"odd\n")
    (tmp_path / "empty").write_bytes(b"\n\n")
    done = run("--json", "odd", "good", "empty", cwd=tmp_path)
    assert done.returncode == 1
    assert b"weblog: error: odd: none of its 3 lines is of a known format" in done.stderr
    found = json.loads(done.stdout)
    assert set(found["failures"]) == {"odd"}
    assert found["malformed_by_input"] == {"odd": 3, "good": 1}
    assert (found["requests"], found["malformed"]) == (1, 4)


@pytest.mark.parametrize("isPipe", [False, True])
def test_formatIsFoundOutForEachLog(isPipe: bool, tmp_path: Path) -> None:
    vhost = tmp_path / "vhost"
    vhost.write_bytes(b"example.org:80 " + makeLine())
    odd = b'{"request": "GET / HTTP/1.1"}\n'
    (tmp_path / "log.gz").write_bytes(gzip.compress(odd + makeLine()))
    with vhost.open("rb") as file:
        name = "-" if isPipe else "vhost"
        done = run("--json", name, "log.gz", cwd=tmp_path, stdin=file)
    found = json.loads(done.stdout)
    assert (done.returncode, found["requests"], found["malformed"]) == (0, 2, 1)
    assert found["addresses"] == [{"name": "192.0.2.1", "requests": 2}]


def test_namedFormatIsTheOnlyOne(tmp_path: Path) -> None:
    (tmp_path / "vhost").write_bytes(b"example.org:80 " + makeLine())
    done = run("--json", "--format", "elb", "vhost", cwd=tmp_path)
    assert done.returncode == 1
    assert b"none of its 1 lines is of the format elb" in done.stderr


@pytest.mark.parametrize("isCompressed", [False, True])
def test_interruptOnAPipeTellsOfEveryLineThatWasRead(isCompressed: bool, tmp_path: Path) -> None:
    with running("-", cwd=tmp_path) as (process, writing):
        lines = makeLine() * 100 + b"a half"
        if isCompressed:
            stream = zlib.compressobj(wbits=31)
            lines = stream.compress(lines) + stream.flush(zlib.Z_SYNC_FLUSH)
        waitUntil(lambda: workersOf(psutil.Process(process.pid)) != [], "the worker")
        os.write(writing, lines)
        waitUntil(lambda: isEmpty(writing), "the program to read the lines")
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, complaint
    found = json.loads(printed)
    assert (found["requests"], found["malformed"], found["partial"]) == (100, 0, True)


def test_interruptOnAFastPipeTellsOfEveryLineThatWasTakenOutOfIt(tmp_path: Path) -> None:
    line = makeLine()
    lines = line * (BLOCK_SIZE // len(line))
    reading, writing = os.pipe()
    left = os.dup(reading)
    os.set_blocking(writing, False)
    os.set_blocking(left, True)
    with subprocess.Popen(
        [*WEBLOG, "--json", "-"],
        cwd=tmp_path,
        env=environment(),
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(reading)
        written, end = 0, time.monotonic() + PATIENCE
        signalled = False
        while process.poll() is None and time.monotonic() < end:
            # The program may end while the pipe is full.
            if select.select([], [writing], [], 0.01)[1]:
                written += os.write(writing, lines[written % len(lines) :][: 1 << 16])
            if written > 6 * BLOCK_SIZE and not signalled:
                process.send_signal(signal.SIGINT)
                signalled = True
        printed, complaint = process.communicate(timeout=PATIENCE)
    os.close(writing)
    with open(left, "rb") as file:
        taken = written - len(file.read())
    assert process.returncode == 130, complaint
    found = json.loads(printed)
    assert (found["malformed"], found["partial"]) == (0, True)
    assert found["requests"] == taken // len(line)


def test_virtualHostsAreToldApartAndPickedOut(tmp_path: Path) -> None:
    hosts = ["a.example:80", "A.example:443", "b.example:80", "[::1]:80", "-"]
    (tmp_path / "log").write_bytes(b"".join(f"{h} ".encode() + makeLine() for h in hosts))
    found = json.loads(run("--json", "log", cwd=tmp_path).stdout)
    assert {row["name"]: row["requests"] for row in found["hosts"]} == {
        "a.example": 2,
        "b.example": 1,
        "[::1]": 1,
    }
    found = json.loads(run("--json", "--vhost", "A.*", "log", cwd=tmp_path).stdout)
    assert (found["requests"], found["malformed"]) == (2, 0)


def test_byteOrderMarkIsNoPartOfAnAddress(tmp_path: Path) -> None:
    line = b"\xef\xbb\xbf" + makeLine()
    (tmp_path / "log").write_bytes(line * 2)
    (tmp_path / "log.gz").write_bytes(gzip.compress(line * 2))
    done = run("--json", "log", "log.gz", cwd=tmp_path)
    assert json.loads(done.stdout)["addresses"] == [{"name": "192.0.2.1", "requests": 4}]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_reportIsPrintedInAnyEncoding(encoding: str, tmp_path: Path) -> None:
    name = b"odd-\xff"
    (tmp_path / os.fsdecode(name)).write_bytes(makeLine(request="GET /\u65e5\u672c HTTP/1.1"))
    done = subprocess.run(
        [*WEBLOG, "--html", "page", os.fsdecode(name), "none-\u65e5"],
        cwd=tmp_path,
        env={**environment(), "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    text = done.stdout.decode(encoding)
    assert ("/\u65e5\u672c" if encoding == "utf-8" else r"/\u65e5\u672c") in text
    assert ("\u2588" if encoding == "utf-8" else "####") in text
    assert "odd-" in (tmp_path / "page").read_text(encoding="utf-8")
