"""
The command C{python -m examples.weblog}.

Worker processes may import this module, as it is the program's, so it imports what is heavy only
where it is used.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from examples.weblog.filters import Filters, readMinute, readStatus
from examples.weblog.settings import FLOOD, LineOptions, Settings

if TYPE_CHECKING:
    from examples.weblog.report import Report
    from examples.weblog.summary import Summary
    from mcmandelbrot.output import Output

SUCCESS = 0
SOME_FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 130

_TOP = 15
_MOST_PROCESSES = 1024

_EPILOG = """\
exit status:
  0 if all was read; 1 if something could not be read, or not to its end, or if nothing in a log
  was understood, which the report names;
  2 if the command makes no sense; 130 after Ctrl-C, with a report of what was read until then.

examples:
  python -m examples.weblog /var/log/nginx/access.log*
  zcat old.gz | python -m examples.weblog --json - > report.json
  python -m examples.weblog access.log --records errors.jsonl --select errors
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Read logs and report.

    @param arguments: the command's. Default: those of this process.
    @return: the exit status, as C{--help} explains it.
    @raise SystemExit: for C{--help}, and if the arguments make no sense.
    """
    from mcmandelbrot.errors import Interrupted, MandelbrotError
    from mcmandelbrot.signals import handlingSignals, raiseInterrupted

    command = parseArguments(arguments)
    if find_spec("rich") is None:
        from asynqueue.errors import ExtraMissing

        return complain(str(ExtraMissing("the report", "examples")), BAD_USAGE)
    try:
        with handlingSignals(raiseInterrupted):
            return run(command)
    except Interrupted as reason:
        return reason.exitStatus
    except MandelbrotError as reason:
        return complain(str(reason), SOME_FAILED)
    except BrokenPipeError:
        # The reader has left, as head does.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return SOME_FAILED
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}", SOME_FAILED)


def complain(text: str, status: int) -> int:
    """
    Say what is wrong.

    @return: the exit status.
    """
    print(f"weblog: error: {text}", file=sys.stderr)
    return status


@dataclass(frozen=True)
class Command:
    """
    The user's options.

    @ivar names: the inputs.
    @ivar top: how many rows a table may have.
    @ivar isJSON: whether the report is printed as JSON.
    @ivar html: the name of the page to write, or C{None}.
    @ivar records: the name of the file for the records of interest, or C{None}.
    """

    names: list[str]
    settings: Settings
    top: int
    isJSON: bool
    html: str | None
    records: str | None

    def outputs(self) -> list[tuple[str, str]]:
        """
        @return: the files to write, each with the option that names it.
        """
        named = ("--html", self.html), ("--records", self.records)
        return [(option, name) for option, name in named if name is not None]


def run(command: Command) -> int:
    """
    Do what the user wants.

    @return: the exit status.
    @raise MandelbrotError: if an output cannot be written.
    @raise OSError: if the report cannot be printed.
    """
    from examples.weblog.inputs import STDIN, expandNames
    from examples.weblog.summary import Summary
    from mcmandelbrot.errors import BadRequest
    from mcmandelbrot.output import checkOutputs

    names = expandNames(command.names)
    try:
        checkOutputs(command.outputs(), [0 if name == STDIN else name for name in names])
    except BadRequest as reason:
        return complain(str(reason), BAD_USAGE)
    summary = Summary()
    with opening(command.html, "--html") as page, opening(command.records, "--records") as records:
        status = read(command, names, summary, records)
        return finish(command, summary, status, page)


def read(command: Command, names: Sequence[str], summary: Summary, records: Output | None) -> int:
    """
    Read the logs.

    @return: the exit status so far.
    """
    from examples.weblog.progress import ProgressBar
    from examples.weblog.run import readLogs
    from examples.weblog.sinks import OutputSink
    from mcmandelbrot.errors import Interrupted
    from mcmandelbrot.signals import ReactorRun

    sink = None if records is None else OutputSink(records)
    status = SUCCESS
    with ProgressBar(sys.stderr) as bar:
        try:
            ReactorRun(lambda: readLogs(names, command.settings, bar, summary, sink)).run()
        except Interrupted as reason:
            status = reason.exitStatus
    if records is not None:
        records.finish()
    return status


def finish(command: Command, summary: Summary, status: int, page: Output | None) -> int:
    """
    Report.

    @param status: the exit status so far.
    @param page: what the page is written to, or C{None}.
    @return: the exit status.
    """
    from examples.weblog.report import makeReport

    report = makeReport(summary, command.top)
    if page is not None:
        from examples.weblog.report_html import renderHTML

        page.writeAtOnce(renderHTML(report).encode("utf-8", "backslashreplace"))
        page.finish()
    show(report, command.isJSON)
    for name, reason in report.failures.items():
        complain(f"{name}: {reason}", SOME_FAILED)
    return status or (SOME_FAILED if report.failures else SUCCESS)


def show(report: Report, isJSON: bool) -> None:
    """
    Print the report.
    """
    if isJSON:
        from examples.weblog.report_json import renderJSON

        sys.stdout.write(renderJSON(report))
    else:
        from rich.console import Console

        from examples.weblog.report_text import printReport

        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name may have characters that the terminal's encoding lacks.
            sys.stdout.reconfigure(errors="backslashreplace")
        printReport(report, Console(file=sys.stdout))
    sys.stdout.flush()


@contextmanager
def opening(path: str | None, option: str) -> Iterator[Output | None]:
    """
    Open an output, and discard what is not finished.

    @param option: what the user names it with.
    @return: a context manager with the output, or with C{None} if there is no path.
    @raise MandelbrotError: if it cannot be written to.
    """
    if path is None:
        yield None
        return
    from mcmandelbrot.output import openOutput

    with openOutput(path, option) as output:
        yield output


def parseArguments(arguments: Sequence[str] | None) -> Command:
    """
    Find out what the user wants.

    @raise SystemExit: for C{--help}, and if the arguments make no sense.
    """
    parser = _makeParser()
    found = parser.parse_args(arguments)
    if not found.log:
        if sys.stdin is None or sys.stdin.isatty():
            parser.error("name at least one log, or - for the standard input")
        found.log = ["-"]
    filters = Filters(found.since, found.until, found.status, found.path, found.host, found.vhost)
    lines = LineOptions(found.format, found.forwarded, filters)
    settings = Settings(found.processes or _cores(), found.flood, found.select, lines)
    return Command(found.log, settings, found.top, found.json, found.html, found.records)


def _cores() -> int:
    from asynqueue import ProcessQueue

    return ProcessQueue.cores()


def _makeParser() -> argparse.ArgumentParser:
    from examples.weblog.formats import FORMATS
    from examples.weblog.records import SELECTIONS

    parser = argparse.ArgumentParser(
        prog="python -m examples.weblog",
        description="Read access logs of web servers and load balancers on all cores, and report "
        "what they tell.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "log",
        nargs="*",
        help="a file, plain or .gz, .bz2, .xz or .zst; a pattern of such; - for the standard "
        "input, as without any",
    )
    add(
        "--format",
        choices=sorted(FORMATS),
        help="the format of the logs; without it, the first lines of each tell",
    )
    add(
        "--forwarded",
        action="store_true",
        help="an address is that of X-Forwarded-For, the field behind the agent, where it has one",
    )
    add("--since", type=readMinute, metavar="DATE", help="only requests from then on (UTC)")
    add("--until", type=readMinute, metavar="DATE", help="only requests before then (UTC)")
    add("--status", type=readStatus, metavar="404|5xx", help="only requests with this status")
    add("--path", metavar="PATTERN", help="only requests for such paths, as in '/shop/*'")
    add("--host", metavar="PATTERN", help="only requests from such addresses, as in '192.0.2.*'")
    add("--vhost", metavar="PATTERN", help="only requests to such virtual hosts, as in '*.org'")
    add("--json", action="store_true", help="print the report as JSON, and nothing else")
    add("--html", metavar="FILE", help="write the report as a page, too")
    add("--records", metavar="FILE", help="write the records of interest, a JSON object a line")
    add("--select", choices=sorted(SELECTIONS), default="bad", help="which those are (bad)")
    add("--top", type=_positive, default=_TOP, metavar="N", help="rows of a table (%(default)s)")
    add(
        "--flood",
        type=_positive,
        default=FLOOD,
        metavar="N",
        help="an address with more requests within a minute misbehaves (%(default)s)",
    )
    add(
        "--processes",
        "-j",
        type=_processes,
        metavar="N",
        help="how many processes parse; one for each core without it",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _processes(text: str) -> int:
    number = _positive(text)
    if number > _MOST_PROCESSES:
        raise ValueError
    return number
