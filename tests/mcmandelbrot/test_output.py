"""
Outputs: a file is whole or not there, and what is there already is not touched before.
"""

from __future__ import annotations

import os
import pty
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from mcmandelbrot.errors import BadRequest, OutputClosed, OutputFailed
from mcmandelbrot.output import FileOutput, Output, StreamOutput, checkOutputs, openOutput


def write(output: Output, data: bytes) -> None:
    """
    Write what an output takes at once.
    """
    results: list[Failure | None] = []
    Deferred.fromCoroutine(output.write(data)).addBoth(results.append)
    (result,) = results
    if result is not None:
        result.raiseException()


@pytest.fixture
def umask() -> Iterator[int]:
    previous = os.umask(0o027)
    yield 0o027
    os.umask(previous)


def test_fileAppearsWhenItIsFinished(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with openOutput(str(path)) as output:
        write(output, b"one")
        write(output, b"two")
        assert not path.exists()
        output.finish()
    assert path.read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["picture.png"]


def test_nothingIsLeftOfWhatIsNotFinished(tmp_path: Path) -> None:
    with openOutput(str(tmp_path / "picture.png")) as output:
        write(output, b"one")
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_nothingIsLeftOfWhatFailed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), openOutput(str(tmp_path / "picture.png")):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_presentFileStaysUntilTheNewOneIsFinished(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    with openOutput(str(path)) as output:
        write(output, b"half")
    assert path.read_bytes() == b"old"
    with openOutput(str(path)) as output:
        write(output, b"new")
        output.finish()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["picture.png"]


def test_newFileHasThePermissionsOfTheUmask(tmp_path: Path, umask: int) -> None:
    with openOutput(str(tmp_path / "picture.png")) as output:
        output.finish()
    assert stat.S_IMODE((tmp_path / "picture.png").stat().st_mode) == 0o666 & ~umask


def test_presentFilesPermissionsStay(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "picture.png"
    path.touch()
    path.chmod(0o606)
    with openOutput(str(path)) as output:
        output.finish()
    assert stat.S_IMODE(path.stat().st_mode) == 0o606


def test_linkStaysALink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "picture.png"
    link = tmp_path / "link.png"
    link.symlink_to(target)
    for data in b"new", b"newer":
        with openOutput(str(link)) as output:
            write(output, data)
            output.finish()
        assert link.is_symlink()
        assert target.read_bytes() == data


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "Is a directory"),
        ("missing/picture.png", "No such file or directory"),
        ("file/picture.png", "Not a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_whatCannotBeWrittenIsRefused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadRequest, match=f"cannot write .*{words}"):
        openOutput(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["file"]


def test_emptyNameIsRefused() -> None:
    with pytest.raises(BadRequest, match="name of a file"):
        openOutput("")


def test_fullDeviceIsAFailure() -> None:
    with openOutput("/dev/full") as output, pytest.raises(OutputFailed, match="No space left"):
        write(output, b"data")


def test_partialFileThatVanishesIsAFailure(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    with openOutput(str(tmp_path / "gone" / "picture.png")) as output:
        assert isinstance(output, FileOutput)
        (partial,) = (tmp_path / "gone").iterdir()
        partial.unlink()
        with pytest.raises(OutputFailed, match="cannot write"):
            output.finish()


def test_terminalIsRefused() -> None:
    master, slave = pty.openpty()
    try:
        with pytest.raises(BadRequest, match="is a terminal"):
            openOutput(os.ttyname(slave))
    finally:
        os.close(master)
        os.close(slave)


def test_deviceIsWrittenInPlace() -> None:
    with openOutput("/dev/null") as output:
        assert isinstance(output, StreamOutput)
        write(output, b"data")
        output.finish()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_fileWithoutANameIsWrittenInPlace(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("w+b") as file:
        os.unlink(file.name)
        with openOutput(f"/dev/fd/{file.fileno()}") as output:
            write(output, b"data")
            output.finish()
        assert file.read() == b"data"
    assert os.listdir(tmp_path) == []


def test_pipeIsWrittenToByBothWaysOfWriting(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    size = 300_000
    with ThreadPoolExecutor(1) as pool, os.fdopen(reading, "rb") as file:
        read = pool.submit(file.read)
        with openOutput(f"/dev/fd/{writing}") as output:
            os.close(writing)
            output.writeAtOnce(b"x" * size)
            output.finish()
        assert len(read.result()) == size


def test_sameDeviceMayBeSeveralThings() -> None:
    checkOutputs([("-a", "/dev/null"), ("-b", "/dev/null")], ["/dev/null"])


def test_nulInANameIsRefused() -> None:
    checkOutputs([("-o", "a\0b")], ["a\0b"])
    with pytest.raises(BadRequest, match="cannot write"):
        openOutput("a\0b")


def test_closedStandardOutputIsRefused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(BadRequest, match="standard output is closed"):
        openOutput(None)


@pytest.mark.parametrize("name", [None, "-", "/dev/stdout"])
def test_standardOutputHasThreeNames(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "redirected"
    with path.open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        with openOutput(name) as output:
            write(output, b"data")
            output.finish()
        # It was not mine to close.
        stdout.write(" and more")
    assert path.read_bytes() == b"data and more"


def test_readerWhoLeavesIsNoFailure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mcmandelbrot.output.writeWhenReady", lambda descriptor, data: fail(BrokenPipeError())
    )
    with (
        StreamOutput(os.open(os.devnull, os.O_WRONLY), "the pipe") as output,
        pytest.raises(OutputClosed, match="the pipe"),
    ):
        write(output, b"data")
