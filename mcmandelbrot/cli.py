"""
The console command C{mcm}.

Worker processes may import this module, because it is the program's main module. So it imports
heavy modules only where it uses them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NoReturn

from mcmandelbrot import __version__
from mcmandelbrot.errors import BadRequest, Interrupted, MandelbrotError, OutputClosed
from mcmandelbrot.progress import Progress, say
from mcmandelbrot.signals import ReactorRun, handlingSignals, raiseInterrupted
from mcmandelbrot.view import View

_ITERATIONS = 2000
_MOST_PROCESSES = 1024

_EXAMPLE = """\
examples:
  mcm 1000 -0.63 0 1.4 1.2 -o mandelbrot.png     the whole set
  mcm 1000 -0.7453 0.1127 6.5e-3 -o valley.png   its sea horses
  mcm 1000 -0.63 0 1.4 1.2 -o mandelbrot.png --remote tcp:127.0.0.1:7411 --key key
  mcm 1000 -0.63 0 1.4 1.2 -o mandelbrot.png --dask tcp://127.0.0.1:8786
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run C{mcm}.

    @param arguments: the command's arguments. Default: those of this process.
    @return: the exit status: 0 if the picture was written, 2 if the request cannot be met, 1 if an
        error occurred later, and 128 plus the number of the signal if one stopped the command.
    @raise SystemExit: after C{--help} and C{--version}, with the exit status 0.
    """
    try:
        with handlingSignals(raiseInterrupted):
            render(parseArguments(sys.argv[1:] if arguments is None else arguments))
    except (Interrupted, OutputClosed) as reason:
        return reason.exitStatus
    except MandelbrotError as reason:
        say(f"mcm: error: {reason}", sys.stderr)
        return reason.exitStatus
    return 0


@dataclass(frozen=True)
class Request:
    """
    The user's options.

    @ivar view: the view that the picture shows.
    @ivar output: the name of the picture's file, or C{None} for the standard output.
    @ivar processes: the number of worker processes, or C{None} for one for each core.
    @ivar servers: the addresses of the servers that render the picture, instead of processes here.
    @ivar key: the name of the file with the servers' key, or C{None} without servers.
    @ivar scheduler: the address of the Dask scheduler whose cluster renders the picture, or
        C{None}.
    """

    view: View
    output: str | None
    processes: int | None
    servers: tuple[str, ...] = ()
    key: str | None = None
    scheduler: str | None = None


def render(request: Request) -> None:
    """
    Make the picture.

    @raise MandelbrotError: if the picture cannot be made.
    """
    # Only the workers import these modules.
    isHere = not request.servers and request.scheduler is None
    if isHere and (find_spec("numba") is None or find_spec("numpy") is None):
        from asynqueue.errors import ExtraMissing

        raise BadRequest(str(ExtraMissing("computing pictures here", "mcm")))
    from asynqueue import ProcessQueue
    from mcmandelbrot.output import openOutput
    from mcmandelbrot.render import renderOnCluster, renderPicture, renderRemotely

    view, servers, key, scheduler = request.view, request.servers, request.key, request.scheduler
    stream = None if request.output is None else sys.stderr
    progress = Progress(view.width, view.height, stream)
    processes = request.processes or ProcessQueue.cores()
    with openOutput(request.output) as output:
        if servers:
            run = ReactorRun(lambda: renderRemotely(view, servers, key, output, progress))
        elif scheduler is not None:
            run = ReactorRun(lambda: renderOnCluster(view, scheduler, output, progress))
        else:
            run = ReactorRun(lambda: renderPicture(view, processes, output, progress))
        try:
            run.run()
        finally:
            progress.erase()
    progress.close()


def parseArguments(arguments: Sequence[str]) -> Request:
    """
    Parse the command's arguments.

    @raise BadRequest: if they make no sense.
    @raise SystemExit: after C{--help} and C{--version}.
    """
    # Which negative numbers argparse takes for options depends on the release of Python. No release
    # takes a number that begins with a space for one.
    spaced = [f" {text}" if _isNegative(text) else text for text in arguments]
    found = _makeParser().parse_intermixed_args(spaced)
    view = View(
        width=found.Nx,
        real=found.cr,
        imaginary=found.ci,
        realRadius=found.crPM,
        imaginaryRadius=found.crPM if found.ciPM is None else found.ciPM,
        iterations=found.N,
    )
    if found.j is not None and not 1 <= found.j <= _MOST_PROCESSES:
        raise BadRequest(f"-j must be from 1 to {_MOST_PROCESSES:,} processes, not {found.j:,}")
    if found.remote and found.dask is not None:
        raise BadRequest("--remote and --dask are two places to render: leave one of them out")
    elsewhere = "--remote" if found.remote else "--dask" if found.dask is not None else None
    if elsewhere is not None and found.j is not None:
        raise BadRequest(
            f"-j is for processes here, and {elsewhere} has none: leave one of them out"
        )
    if bool(found.remote) != (found.key is not None):
        raise BadRequest("--remote and --key need each other: name a server and its key's file")
    return Request(view, found.o, found.j, tuple(found.remote), found.key, found.dask)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """
        Raise an error whose message is one line, without the usage.
        """
        raise BadRequest(message)


def _makeParser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mcm",
        description="Render the Mandelbrot set around the point cr + ci i, as a PNG file.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("Nx", type=_wholeNumber, help="how many pixels wide; the height follows from the radii")
    add("cr", type=_number, help="real part of the point in the middle")
    add("ci", type=_number, help="imaginary part of the point in the middle")
    add("crPM", type=_number, help="how far to go to the left and right of it")
    add("ciPM", type=_number, nargs="?", help="how far to go up and down; as crPM without it")
    add(
        "-N",
        type=_wholeNumber,
        default=_ITERATIONS,
        metavar="iterations",
        help="how often to iterate a point before it counts as inside (%(default)s)",
    )
    add("-o", type=_fileName, metavar="file", help="where to write; standard output without it")
    add(
        "-j",
        type=_wholeNumber,
        metavar="processes",
        help="how many processes to use; one for each core without it",
    )
    add(
        "--remote",
        action="append",
        default=[],
        metavar="address",
        help="render on the processes of a server, which asynqueue serve is; may be repeated",
    )
    add("--key", type=_fileName, metavar="file", help="the file with the servers' key")
    add(
        "--dask",
        metavar="address",
        help="render on the Dask cluster whose scheduler has this address",
    )
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _isNegative(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.startswith("-")


def _fileName(text: str) -> str:
    return text[1:] if text.startswith(" ") and _isNegative(text[1:]) else text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a number") from None


def _wholeNumber(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a whole number") from None
