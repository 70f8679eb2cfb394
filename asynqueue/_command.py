"""
The console command C{asynqueue}.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from asynqueue._version import __version__
from asynqueue.errors import AdminError, ExtraMissing

if TYPE_CHECKING:
    from types import FrameType, ModuleType

    from twisted.python.failure import Failure

    from asynqueue._reactor import IReactor
    from asynqueue._workers.wire.server import RemoteService

EXAMPLES: Final = """\
examples:
  asynqueue key new >key
  asynqueue serve --listen tcp:7411:interface=127.0.0.1 --key key --processes 4
  asynqueue key tls-new certificates --host worker.example.com
  asynqueue top
  asynqueue admin
  asynqueue jobs jobs.db list
  eval "$(asynqueue --print-completion bash)"
"""

ADMIN_EXAMPLES: Final = """\
examples:
  asynqueue admin
  asynqueue admin --port 8200
  asynqueue admin --read-only
  ssh -L 8200:127.0.0.1:8200 server.example asynqueue admin --port 8200

The page can be reached from this machine only. It shows the programs whose queues have called
admin(), or that were started with ASYNQUEUE_ADMIN=1 in their environment. A browser gets in by the
link that is printed, which is good once. The second link is good for looking only.
"""

JOBS_EXAMPLES: Final = """\
examples:
  asynqueue jobs jobs.db list --state dead
  asynqueue jobs jobs.db show 17
  asynqueue jobs jobs.db retry 17 18
  asynqueue jobs jobs.db retry --all
  asynqueue jobs jobs.db cancel 19
  asynqueue jobs jobs.db drop --all
  asynqueue jobs jobs.db export >jobs.jsonl

retry and drop are for dead letters, cancel is for jobs that wait. If a program has the store open,
it is asked over its admin socket, if it has one. It lists arguments only if it may show them.
"""

TOP_EXAMPLES: Final = """\
examples:
  asynqueue top
  asynqueue top --queue mails --interval 0.5
  asynqueue top --once
  asynqueue top --json | jq '.[].queues[].pending'

Programs are seen whose queues have called admin(), or that were started with ASYNQUEUE_ADMIN=1 in
their environment. Without a terminal the queues are shown once. Press ? for the keys.
"""

SERVE_EXAMPLES: Final = """\
examples:
  asynqueue serve --listen tcp:7411:interface=127.0.0.1 --key key
  asynqueue serve --listen unix:/run/me/queue:mode=600 --key key --processes 4 --series gpu
  asynqueue serve --listen tcp:7411:interface=127.0.0.1 --key key --only weblog.parse
  asynqueue serve --listen tcp:7411 --key key --tls certificates/server

SIGTERM and SIGINT let what is underway end. The second one ends it at once.
"""


MOST: Final = 10_000
"""How many processes, threads or clients a server may have."""

WEEK: Final = 604_800
"""How many seconds a week has."""


class UsageError(Exception):
    """
    The command cannot do what was asked. Its text says why in one sentence.
    """


class _PrintCompletion(argparse.Action):
    """
    Prints a script that completes the command's words, and exits.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        try:
            import shtab
        except ImportError as error:
            raise UsageError(str(ExtraMissing("--print-completion", "completions"))) from error
        _markPaths(parser, shtab)
        print(shtab.complete(parser, values))
        parser.exit()


def _markPaths(parser: argparse.ArgumentParser, shtab: ModuleType) -> None:
    """
    Tell where the names of files and folders are completed.
    """
    kinds = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIR, "FOLDER": shtab.DIR}
    for action in parser._actions:
        if action.metavar in kinds:
            action.complete = kinds[action.metavar]  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _markPaths(each, shtab)


class CommandParser(argparse.ArgumentParser):
    """
    A parser that refuses a command line in one sentence.
    """

    def error(self, message: str) -> NoReturn:
        """
        @raise UsageError: always.
        """
        raise UsageError(f"{message}; see {self.prog} --help")


def whole(least: int, most: int) -> Callable[[str], int]:
    """
    @return: what makes a number of an option's text, if that is an integer in these bounds.
    """

    def check(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"must be an integer from {least} to {most}, not {text!r}"
            )
        return number

    return check


def seconds(least: float, most: float) -> Callable[[str], float]:
    """
    @return: what makes a length of time of an option's text, if that is a number in these bounds.
    """

    def check(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"must be from {least:g} to {most:g} seconds, not {text!r}"
            )
        return number

    return check


def named(text: str) -> str:
    """
    @return: an option's text, if it is not empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Do what the command line says, and exit.
    """
    try:
        options = parserOfCommand().parse_args(arguments)
        options.do(options)
    except UsageError as error:
        sys.stderr.write(f"asynqueue: {error}\n")
        sys.exit(2)
    sys.exit(0)


def parserOfCommand() -> CommandParser:
    """
    @return: what understands the command line.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = CommandParser(
        "asynqueue",
        description="Look at queues, and serve the calls of other programs' queues.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"asynqueue {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh"),
        help="print what completes these words in a shell (needs the extra 'completions')",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the calls of RemoteWorkers",
        description="Run the calls of RemoteWorkers, each client's in processes of its own.",
        epilog=SERVE_EXAMPLES,
        formatter_class=raw,
    )
    serve.set_defaults(do=_serve)
    addServerOptions(serve)
    _addPages(commands)
    _addJobs(commands)
    key = commands.add_parser(
        "key",
        help="make keys",
        description="Make keys and certificates.",
        epilog="examples:\n  asynqueue key new -o key\n  asynqueue key tls-new certificates",
        formatter_class=raw,
    )
    keys = key.add_subparsers(title="commands", required=True, metavar="COMMAND")
    new = keys.add_parser(
        "new",
        help="make a key",
        description="Write a new key to standard output, or to a new file that only you can read.",
        epilog="example:\n  asynqueue key new -o key",
        formatter_class=raw,
    )
    new.add_argument("-o", "--output", metavar="FILE", help="the file to make, with mode 0600")
    new.set_defaults(do=_newKey)
    tls = keys.add_parser(
        "tls-new",
        help="make certificates for TLS",
        description="Make a CA and certificates to try TLS with. In the new folder DIR, the folder "
        "server is for the server, the folder client is for its clients, and ca-key.pem can sign "
        "more certificates.",
        epilog="example:\n  asynqueue key tls-new certificates --host worker.example.com",
        formatter_class=raw,
    )
    tls.add_argument("folder", metavar="DIR", help="the folder to make")
    tls.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or IP address of the server (default: localhost, 127.0.0.1 and ::1)",
    )
    tls.add_argument(
        "--days", type=whole(1, 36_500), default=365, metavar="N", help="valid for (365)"
    )
    tls.set_defaults(do=_newCertificates)
    return parser


def addServerOptions(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of C{asynqueue serve} to a parser.
    """
    add = parser.add_argument
    add("--listen", required=True, metavar="ADDRESS", help="a tcp: or unix: address")
    add("--key", required=True, metavar="FILE", help="the file with the key, mode 0600")
    add("--tls", metavar="DIR", help="the folder with ca.pem, cert.pem and key.pem: use TLS 1.3")
    runners = parser.add_mutually_exclusive_group().add_argument
    runners(
        "--processes",
        type=whole(1, MOST),
        default=1,
        metavar="N",
        help="for each client (default: 1)",
    )
    runners("--threads", type=whole(0, MOST), default=0, metavar="N", help="in place of processes")
    add("--series", action="append", type=named, default=[], metavar="NAME", help="offer a series")
    add(
        "--only",
        action="append",
        type=module,
        default=[],
        metavar="MODULE",
        help="run nothing else",
    )
    add("--max-clients", type=whole(1, MOST), default=16, metavar="N", help="at once (default: 16)")
    add(
        "--keep",
        type=seconds(0, WEEK),
        default=60.0,
        metavar="SECONDS",
        help="keep cut sessions (60)",
    )
    add(
        "--grace",
        type=seconds(0, WEEK),
        default=30.0,
        metavar="SECONDS",
        help="let tasks end for so long after SIGTERM (30)",
    )
    add(
        "--admin",
        action="store_true",
        help="let 'asynqueue top' of this user show the sessions (so does ASYNQUEUE_ADMIN=1)",
    )
    add(
        "--state",
        type=named,
        metavar="FOLDER",
        help="note there which calls begin, for the server after a killed one (a temporary folder)",
    )


def _addPages(commands: argparse._SubParsersAction[CommandParser]) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    top = commands.add_parser(
        "top",
        help="show the queues of running programs",
        description="Show the queues of your running programs, and steer them by keys.",
        epilog=TOP_EXAMPLES,
        formatter_class=raw,
    )
    top.set_defaults(do=_top)
    top.add_argument("--socket", metavar="PATH", help="one program's admin socket (all programs)")
    top.add_argument("--queue", metavar="NAME", help="begin with this queue")
    top.add_argument(
        "--interval",
        type=seconds(0.05, 3600),
        default=1.0,
        metavar="SECONDS",
        help="between two looks (1)",
    )
    top.add_argument("--once", action="store_true", help="show everything once, as text")
    top.add_argument("--json", action="store_true", help="show everything once, as JSON")
    admin = commands.add_parser(
        "admin",
        help="show the queues of running programs as a web page",
        description="Serve a web page on which you see and steer the queues of your programs.",
        epilog=ADMIN_EXAMPLES,
        formatter_class=raw,
    )
    admin.set_defaults(do=_admin)
    admin.add_argument("--socket", metavar="PATH", help="one program's admin socket (all programs)")
    admin.add_argument(
        "--port", type=whole(0, 65535), default=0, metavar="N", help="the port (any)"
    )
    admin.add_argument("--read-only", action="store_true", help="nothing can be changed")


def _addJobs(commands: argparse._SubParsersAction[CommandParser]) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    jobs = commands.add_parser(
        "jobs",
        help="look at a store of jobs, and change it",
        description="Look at the jobs in the store of a ResizableDispatchQueue, and change them.",
        epilog=JOBS_EXAMPLES,
        formatter_class=raw,
    )
    jobs.add_argument("file", metavar="FILE", help="the store's file")
    actions = jobs.add_subparsers(title="actions", required=True, dest="action", metavar="ACTION")
    for action, what in [
        ("list", "list the jobs"),
        ("show", "show everything that is known of some jobs"),
        ("retry", "have dead letters wait again, as if they had not been tried yet"),
        ("cancel", "cancel jobs that wait"),
        ("drop", "forget dead letters"),
        ("export", "write all jobs as JSON, one in a line"),
    ]:
        example = f"example:\n  asynqueue jobs jobs.db {action}"
        if action not in ("list", "export"):
            example += " 17 18"
        add = actions.add_parser(
            action,
            help=what,
            description=f"{what.capitalize()}.",
            epilog=example,
            formatter_class=raw,
        )
        if action == "list":
            states = ("waiting", "begun", "dead")
            add.add_argument("--state", choices=states, help="only those in this state")
        elif action != "export":
            isShow = action == "show"
            add.add_argument(
                "ids", type=whole(1, 2**63 - 1), nargs="+" if isShow else "*", metavar="JOB"
            )
            if not isShow:
                add.add_argument("--all", action="store_true", help="all of them")
        if action != "export":
            add.add_argument("--json", action="store_true", help="as JSON")
        add.set_defaults(do=_jobs)


def _jobs(options: argparse.Namespace) -> None:
    from asynqueue._jobs import JobsError, run

    given = vars(options)
    try:
        lines = run(
            options.file,
            options.action,
            given.get("ids", ()),
            given.get("all", False),
            given.get("state"),
            given.get("json", False),
        )
    except JobsError as error:
        raise UsageError(str(error)) from error
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has enough. The interpreter would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _top(options: argparse.Namespace) -> None:
    from asynqueue.admin._top import run

    try:
        run(options.socket, options.queue, options.interval, options.once, options.json)
    except AdminError as error:
        raise UsageError(str(error)) from error


def _admin(options: argparse.Namespace) -> None:
    from asynqueue.admin._serve import run

    try:
        run(options.socket, options.port, options.read_only)
    except AdminError as error:
        raise UsageError(str(error)) from error


def _newKey(options: argparse.Namespace) -> None:
    import stat

    from asynqueue._workers.wire.keys import newKey, writeKey

    if options.output is not None:
        try:
            writeKey(options.output)
        except OSError as error:
            raise UsageError(f"cannot make {options.output}: {error.strerror}") from error
        return
    if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        # With a redirection the shell makes the file, and others could read it.
        os.fchmod(sys.stdout.fileno(), 0o600)
    print(newKey())


def _newCertificates(options: argparse.Namespace) -> None:
    from asynqueue._workers.wire.keys import LOCAL_HOSTS, writeCertificates

    try:
        writeCertificates(options.folder, options.host or LOCAL_HOSTS, options.days)
    except OSError as error:
        raise UsageError(f"cannot make {options.folder}: {error.strerror}") from error
    except (ValueError, ExtraMissing) as error:
        raise UsageError(str(error)) from error


def module(text: str) -> str:
    """
    @return: the name of a module, if Python finds the package that it is in.
    """
    from importlib.util import find_spec

    try:
        found = find_spec(text.partition(".")[0])
    except ValueError:
        found = None
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a module that can be imported, not {text!r}")
    return text


def makeServer(options: argparse.Namespace) -> RemoteService:
    """
    Make the server that C{asynqueue serve} runs.

    @param options: what L{addServerOptions} has the parser find.
    @raise UsageError: if it cannot be made with these.
    """
    from asynqueue._workers.wire.server import RemoteService
    from asynqueue.admin import isSwitchedOn

    if options.state is not None:
        try:
            os.makedirs(options.state, 0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot use {options.state}: {error.strerror}") from error
    if options.threads:
        # What the threads' tasks log is to reach the clients from whatever level they have set.
        logging.getLogger().setLevel(logging.DEBUG)
    try:
        service = RemoteService(
            options.listen,
            _keyFile(options.key),
            tls=options.tls,
            processes=options.processes,
            threads=options.threads,
            series=options.series,
            only=options.only,
            maxClients=options.max_clients,
            keep=options.keep,
            state=options.state,
            drainTimeout=options.grace,
        )
    except (ValueError, ExtraMissing) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    if options.admin or isSwitchedOn():
        from asynqueue.service import administer

        try:
            administer(service)
        except AdminError as error:
            raise UsageError(str(error)) from error
    return service


def _serve(options: argparse.Namespace) -> None:
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from asynqueue._reactor import defaultReactor

    server = _Server(makeServer(options), defaultReactor())
    observer = textFileLogObserver(sys.stderr)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    server.run()
    if server.failure is not None:
        raise UsageError(f"cannot listen at {options.listen}: {server.failure}")


def _keyFile(path: str) -> bytes:
    from asynqueue._workers.wire.keys import readKey

    try:
        return readKey(path)
    except OSError as error:
        raise UsageError(f"cannot read the key file {path}: {error.strerror}") from error


class _Server:
    """
    Runs a service until it is told to end.

    @ivar failure: why it cannot listen, as a text, or C{None}.
    """

    def __init__(self, service: RemoteService, reactor: IReactor) -> None:
        self.failure: str | None = None
        self._service = service
        self._reactor = reactor
        self._signals = 0

    def run(self) -> None:
        self._reactor.callWhenRunning(self._start)
        self._reactor.run()

    def _start(self) -> None:
        # In place of the reactor's own handlers, which would stop it at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        self._service.startService()
        self._service.whenListening.addErrback(self._cannotListen)

    def _cannotListen(self, failure: Failure) -> None:
        self.failure = failure.getErrorMessage()
        self._reactor.stop()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._end)

    def _end(self) -> None:
        from asynqueue._systemd import notifierOf

        self._signals += 1
        if self._signals > 1:
            self._service.abort()
            return
        notifierOf(self._reactor).stopping()
        self._service.stopService().addCallback(lambda _: self._reactor.stop())


if __name__ == "__main__":
    main()
