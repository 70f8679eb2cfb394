"""
The command line: numbers in every form, and one line about what is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcmandelbrot import __version__, cli
from mcmandelbrot.cli import main, parseArguments
from mcmandelbrot.errors import BadRequest
from mcmandelbrot.view import View


@pytest.mark.parametrize(
    ("line", "real", "imaginary"),
    [
        ("10 -6.3e-1 0 1", -0.63, 0.0),
        ("10 -.5 -5E-1 1", -0.5, -0.5),
        ("10 -1 -1e0 1", -1.0, -1.0),
        ("10 -1_0.5e-1 +2e-1 1", -1.05, 0.2),
        ("10 -0 -0.0 1", 0.0, 0.0),
        ("-- 10 -1e-1 -2 1", -0.1, -2.0),
        ("-N 50 10 -1e-1 -2 1", -0.1, -2.0),
        ("10 -N 50 -1e-1 -o x.png -2 1", -0.1, -2.0),
        ("10 -1e-1 -2 1 -N 50", -0.1, -2.0),
    ],
)
def test_numbersMayBeNegativeInEveryForm(line: str, real: float, imaginary: float) -> None:
    view = parseArguments(line.split()).view
    assert (view.width, view.real, view.imaginary) == (10, real, imaginary)


def test_allArgumentsAreUnderstood() -> None:
    line = "-N 300 -o a.png -j 3 1000 -0.63 1e-2 1.4 1.2"
    request = parseArguments(line.split())
    assert request.view == View(1000, -0.63, 0.01, 1.4, 1.2, 300)
    assert (request.output, request.processes) == ("a.png", 3)


@pytest.mark.parametrize(
    "line",
    [
        "-o a.png 10 -N 5 -1 0 -j 2 1.5 2",
        "10 -1 0 1.5 -o a.png 2 -j 2 -N 5",
        "-j2 -N5 -oa.png 10 -1 0 1.5 2",
        "10 -1 -o a.png -j 2 -N 5 0 1.5 2",
    ],
)
def test_optionsMayStandAnywhere(line: str) -> None:
    request = parseArguments(line.split())
    assert request.view == View(10, -1.0, 0.0, 1.5, 2.0, 5)
    assert (request.output, request.processes) == ("a.png", 2)


def test_serversAreNamedWithTheirKey() -> None:
    line = "10 -1 0 1.5 --remote tcp:127.0.0.1:1 --key key --remote unix:socket"
    request = parseArguments(line.split())
    assert (request.servers, request.key) == (("tcp:127.0.0.1:1", "unix:socket"), "key")


@pytest.mark.parametrize(
    "options", ["--remote tcp:127.0.0.1:1", "--key key", "--remote unix:a --key key -j 2"]
)
def test_serversAndTheirKeyNeedEachOther(options: str) -> None:
    with pytest.raises(BadRequest, match="--remote"):
        parseArguments(f"10 -1 0 1.5 {options}".split())


def test_aClusterIsNamedByItsScheduler() -> None:
    request = parseArguments(["10", "-1", "0", "1.5", "--dask", "tcp://127.0.0.1:8786"])
    assert (request.scheduler, request.servers) == ("tcp://127.0.0.1:8786", ())


@pytest.mark.parametrize("options", ["-j 2", "--remote unix:a --key key", "--key key"])
def test_aClusterIsTheOnlyPlace(options: str) -> None:
    with pytest.raises(BadRequest, match="--"):
        parseArguments(f"10 -1 0 1.5 --dask tcp://127.0.0.1:8786 {options}".split())


def test_whatIsNotSaidHasADefault() -> None:
    request = parseArguments(["1000", "-0.63", "0", "1.4"])
    assert request.view == View(1000, -0.63, 0.0, 1.4, 1.4, 2000)
    assert (request.output, request.processes) == (None, None)


@pytest.mark.parametrize("name", ["-5", "-1e3", "a b.png", "-"])
def test_fileMayHaveAnyName(name: str) -> None:
    assert parseArguments(["10", "0", "0", "1", "-o", name]).output == name


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "required: Nx, cr, ci, crPM"),
        ("10 0 0", "required: crPM"),
        ("ten 0 0 1", "argument Nx: 'ten' is not a whole number"),
        ("10.5 0 0 1", "argument Nx: '10.5' is not a whole number"),
        ("-1e2 0 0 1", "argument Nx: '-1e2' is not a whole number"),
        ("10 zero 0 1", "argument cr: 'zero' is not a number"),
        ("10 0 0 1 1 1", "unrecognized arguments: 1"),
        ("10 0 0 1 --deep", "unrecognized arguments: --deep"),
        ("10 0 0 1 -o", "argument -o: expected one argument"),
        ("10 0 0 1 -N many", "argument -N: 'many' is not a whole number"),
        ("10 0 0 1 -N 0", "-N must be from 1"),
        ("10 0 0 1 -N -5", "-N must be from 1"),
        ("10 0 0 1 -N 1000000001", "-N must be from 1"),
        ("10 0 0 1 -j 0", "-j must be from 1"),
        ("10 0 0 1 -j -1", "-j must be from 1"),
        ("10 0 0 1 -j 1025", "-j must be from 1"),
        ("0 0 0 1", "Nx must be from 1"),
        ("-5 0 0 1", "Nx must be from 1"),
        ("2147483648 0 0 1", "Nx must be from 1"),
        ("10 nan 0 1", "cr must be a finite number"),
        ("10 0 -inf 1", "ci must be a finite number"),
        ("10 0 0 1e400", "crPM must be a finite number"),
        ("10 0 0 0", "crPM must be a finite number above 0"),
        ("10 0 0 1 -1e-3", "ciPM must be a finite number above 0"),
        ("10 0 0 9e-14", "64-bit floating point cannot tell points apart"),
        ("1000 0 0 1e-6 1", "1,000,000 pixels high"),
    ],
)
def test_badArgumentsGetOneLineAndLeaveNoFile(
    line: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = line.split() if line.endswith("-o") else ["-o", "a.png", *line.split()]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mcm: error: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("missing", ["numba", "numpy"])
def test_missingExtraIsNamedWithItsCommand(
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == missing else object())
    assert main(["10", "0", "0", "1", "-o", str(tmp_path / "a.png")]) == 2
    said = capsys.readouterr().err
    assert "pip install 'asynqueue2[mcm]'" in said
    assert said.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_unwritableFileIsRefusedBeforeAnyWork(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["10", "0", "0", "1", "-o", str(tmp_path / "missing" / "a.png")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_errorWithNobodyToTellKeepsItsStatus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert main(["10"]) == 2


def test_versionIsTold(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"mcm {__version__}\n"


def test_helpHasAnExampleThatIsUnderstood(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for name in "Nx", "cr", "ci", "crPM", "ciPM", "-N", "-o", "-j", "--version":
        assert name in said
    examples = [line.split("  ") for line in said.splitlines() if line.startswith("  mcm ")]
    assert len(examples) >= 1
    for _, command, *_ in examples:
        assert parseArguments(command.split()[1:]).output is not None


def test_parsingRaisesWhatIsWrong() -> None:
    with pytest.raises(BadRequest):
        parseArguments(["10"])
