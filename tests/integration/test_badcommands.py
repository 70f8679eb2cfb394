"""
Whatever is wrong with a command line is said in one sentence, with exit status 2.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asynqueue._command import CommandParser, main, parserOfCommand
from asynqueue._dispatch.sqlitestore import SQLiteJobStore
from asynqueue.wire import writeKey

LISTEN = "--listen tcp:0:interface=127.0.0.1"
SERVE = f"serve --key KEY {LISTEN}"
NUMBERS = ("-1", "x", "nan", "-inf", "1e400", "''", "1" + "0" * 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A folder with a key, a store, other files, and a folder.
    """
    place = tmp_path_factory.mktemp("commands")
    writeKey(place / "KEY")
    (place / "TEXT").write_text("dear diary " * 20)
    (place / "TEXT").chmod(0o600)
    (place / "EMPTY").write_text("")
    (place / "FOLDER").mkdir()
    with closing(SQLiteJobStore(place / "STORE")) as store:
        store.open()
    return place


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


def commands() -> Iterator[str]:
    yield from ("", "nonsense", "--nonsense", "serve", "jobs", "jobs STORE", "key", "key x")
    yield from ("top x", "jobs STORE x", "jobs STORE export x", "key new x", "key tls-new")
    for option in ("--processes", "--threads", "--max-clients", "--keep", "--grace"):
        yield from (f"{SERVE} {option} {value}" for value in NUMBERS)
    for option in ("--processes", "--threads", "--max-clients"):
        yield f"{SERVE} {option} 0.5"
    yield from (f"{SERVE} --processes 0", f"{SERVE} --max-clients 0")
    yield f"{SERVE} --processes 2 --threads 2"
    for address in (
        *("''", "tcp", "tcp:", "ssl:7411", "systemd:domain=INET:index=0"),
        *("tcp:x:interface=127.0.0.1", "tcp:-1:interface=127.0.0.1", "tcp:7.5"),
        *("tcp:65536:interface=127.0.0.1", "tcp:0", "tcp:0:interface=", "tcp:0:interface=here"),
        *("tcp:0:interface=127.0.0.1:backlog=x", "tcp:0:interface=127.0.0.1:nonsense=1"),
        *("unix", "unix:", "unix:" + "x" * 200, "unix:s:mode=999", "unix:s:mode=600:mode=x"),
    ):
        yield f"serve --key KEY --listen {address}"
    for key in ("''", "NOTHING", "FOLDER", "TEXT/x", "EMPTY"):
        yield f"serve {LISTEN} --key {key}"
    for value in ("''", "NOTHING", "TEXT", "FOLDER"):
        yield f"{SERVE} --tls {value}"
    yield from (f"{SERVE} --state {value}" for value in ("''", "TEXT", "TEXT/x"))
    yield from (f"{SERVE} --only {value}" for value in ("''", "no_such_module", ".x", "a-b"))
    yield f"{SERVE} --series ''"
    yield from (f"top --interval {value}" for value in (*NUMBERS, "0", "0.04", "3601"))
    yield from (f"admin --port {value}" for value in (*NUMBERS, "65536", "0.5"))
    for path in ("''", "NOTHING", "TEXT", "FOLDER", "x" * 300):
        yield f"top --once --socket {path}"
    yield from ("top --once --queue ''", "top --json --queue nobody")
    for path in (
        "''",
        "NOTHING",
        "TEXT",
        "EMPTY",
        "FOLDER",
        "TEXT/x",
        "/dev/zero",
        "/proc/self/mem",
    ):
        yield f"jobs {path} list"
    yield "jobs STORE list --state x"
    for action in ("show", "retry", "cancel", "drop"):
        yield from (f"jobs STORE {action} {value}" for value in (*NUMBERS, "0", "1.5", "1", ""))
    yield "jobs STORE retry 1 --all"
    for path in ("''", "NOTHING/x", "FOLDER", "TEXT", "TEXT/x"):
        yield f"key new -o {path}"
    for path in ("''", "NOTHING/x/y", "FOLDER", "TEXT", "TEXT/x"):
        yield f"key tls-new {path}"
    yield from (f"key tls-new NEW --days {value}" for value in (*NUMBERS, "0", "1.5", "1000000"))
    for host in ("''", "'a b'", "a..b", ".", "*", "a.*.b", "http://a", "a:80", "::zz", "x" * 300):
        yield f"key tls-new NEW --host {host}"


@pytest.mark.parametrize("command", [*commands()])
def test_whatIsWrongIsSaidInOneSentence(command: str, folder: Path, capsys: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(SystemExit) as exit:
        main(shlex.split(command))
    out, err = capsys.readouterr()
    assert (exit.value.code, out) == (2, "")
    assert err.startswith("asynqueue: ")
    assert err.count("\n") == 1
    assert len(err) < 600
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    if not command.startswith("jobs STORE"):
        assert after == before


@pytest.mark.parametrize("address", ["unix:NOTHING/x", "unix:TEXT", "unix:FOLDER"])
def test_whereNobodyCanListenIsSaidInOneSentence(address: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asynqueue._command", "serve", "--key", "KEY", "--listen", address],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"asynqueue: cannot listen at {address}: ")
    assert "Traceback" not in done.stderr


def parsers(parser: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """
    @return: all parsers of the command, each with the words that lead to it.
    """
    yield words, parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            between = ("FILE",) if words == ("jobs",) else ()
            for name, each in action.choices.items():
                yield from parsers(each, (*words, *between, name))


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=" ".join(words)) for words, _ in parsers(parserOfCommand())]
)
def test_eachCommandHasHelpWithExamplesThatItUnderstands(
    words: tuple[str, ...], capsys: Any
) -> None:
    with pytest.raises(SystemExit) as exit:
        main([*words, "--help"])
    out = capsys.readouterr().out
    assert exit.value.code == 0
    examples = [line.strip() for line in out.splitlines() if line.startswith("  asynqueue ")]
    assert examples
    for example in examples:
        arguments = shlex.split(example.partition(" >")[0].partition(" |")[0])[1:]
        arguments = [each.replace("weblog.parse", "asynqueue.wire") for each in arguments]
        parser = parserOfCommand()
        assert isinstance(parser, CommandParser)
        parser.parse_args(arguments)


# Completions --------------------------------------------------------------------------------------


def completion(shell: str, capsys: Any) -> str:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as exit:
        main(["--print-completion", shell])
    assert exit.value.code == 0
    text: str = capsys.readouterr().out
    return text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("asynqueue s", {"serve"}),
        ("asynqueue ''", {"serve", "top", "jobs", "key"}),
        ("asynqueue serve --pro", {"--processes"}),
        ("asynqueue key tls", {"tls-new"}),
        ("asynqueue serve --key K", {"KEY"}),
        ("asynqueue key tls-new F", {"FOLDER"}),
    ],
)
def test_bashCompletesTheWords(words: str, found: set[str], capsys: Any) -> None:
    script = completion("bash", capsys)
    ask = (
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        "$(complete -p asynqueue | sed 's/.*-F \\([^ ]*\\).*/\\1/') asynqueue\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    # Completing within a substitution would be lost, so the function is called by its name.
    ask = ask.replace("$(complete", "f=$(complete", 1).replace(
        ") asynqueue\n", "); $f asynqueue\n", 1
    )
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True, timeout=20
    )
    assert set(done.stdout.split()) >= found


def test_zshGetsAScriptThatItUnderstands(capsys: Any) -> None:
    script = completion("zsh", capsys)
    assert script.startswith("#compdef asynqueue\n")
    for word in ("serve", "tls-new", "--processes", "_files"):
        assert word in script
    zsh = shutil.which("zsh")
    if zsh is not None:
        subprocess.run([zsh, "-n"], input=script, text=True, check=True, timeout=20)


def test_withoutItsExtraItSaysWhatToInstall(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as exit:
        main(["--print-completion", "bash"])
    assert exit.value.code == 2
    assert "pip install 'asynqueue2[completions]'" in capsys.readouterr().err
