"""
A picture that two servers render, while one of them is killed and started again::

    python -m examples.remote

It renders the picture twice: with processes of this machine, and on two servers that it starts on
the loopback interface. In the middle of the second rendering it kills one server with SIGKILL and
starts it again. Then it compares the two files.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NoReturn

import psutil

from asynqueue.wire import writeKey

VALLEY: Final = ("-0.7453", "0.1127", "6.5e-3", "-N", "5000")
"""Sea horses, which take a while."""

PATIENCE: Final = 120.0
"""How many seconds anything may take."""

LOOK_SECONDS: Final = 0.1
"""How often to look at the servers' processes. That asks for all processes of the machine."""


class DemoFailed(Exception):
    """
    Something did not go as it should. The text is one sentence.
    """


class Server:
    """
    An C{asynqueue serve} on the loopback interface, which can be killed and started again.

    @ivar address: where clients find it.
    @ivar seconds: how much processor time its processes were seen to have used, of all that were
        started.
    """

    def __init__(self, key: Path, processes: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"tcp:127.0.0.1:{port}"
        self._command = [
            str(Path(sysconfig.get_path("scripts"), "asynqueue")),
            "serve",
            *("--listen", f"tcp:{port}:interface=127.0.0.1"),
            *("--key", str(key), "--processes", str(processes)),
        ]
        # A killed server leaves temporary files. They are removed with the key.
        self._environment = {**os.environ, "TMPDIR": str(key.parent)}
        self._times: dict[int, float] = {}
        self.start()

    def start(self) -> None:
        """
        Start it. Ctrl-C reaches this program alone, which then ends the server.
        """
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )

    def kill(self) -> None:
        """
        Kill it, as a machine that runs out of memory does.
        """
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """
        Tell it to end, and wait until it has.
        """
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def look(self) -> None:
        """
        See how much processor time the processes that run its tasks have used.
        """
        try:
            for process in psutil.Process(self._process.pid).children(recursive=True):
                times = process.cpu_times()
                self._times[process.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            # It has ended between two of these lines.
            return

    @property
    def seconds(self) -> float:
        return sum(self._times.values())


@contextmanager
def serving(key: Path, processes: int) -> Iterator[Server]:
    """
    Run a server for the length of a C{with} block.
    """
    server = Server(key, processes)
    try:
        yield server
    finally:
        server.end()


def mcm(width: int, output: Path, *options: str) -> list[str]:
    """
    @return: the command that renders the picture.
    """
    return [sys.executable, "-m", "mcmandelbrot", str(width), *VALLEY, "-o", str(output), *options]


def renderHere(width: int, processes: int, output: Path) -> None:
    """
    Render the picture with processes of this machine.
    """
    command = mcm(width, output, "-j", str(processes))
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise DemoFailed(done.stderr.strip())
    print(f"here:       {done.stderr.strip()}")


def renderThere(
    width: int, output: Path, key: Path, servers: Sequence[Server], killAt: int
) -> None:
    """
    Render the picture on servers. Kill the first one, and start it again, when the file has so many
    bytes.
    """
    remote = [word for server in servers for word in ("--remote", server.address)]
    command = mcm(width, output, *remote, "--key", str(key))
    deadline = time.monotonic() + PATIENCE
    isKilled = False
    looked = -LOOK_SECONDS
    with ExitStack() as cleanup:
        run = cleanup.enter_context(
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        )
        cleanup.callback(run.terminate)
        while run.poll() is None:
            now = time.monotonic()
            if now > deadline:
                raise DemoFailed(f"the picture was not there after {PATIENCE:g} seconds")
            if now - looked >= LOOK_SECONDS:
                looked = now
                for server in servers:
                    server.look()
            # The file has another name until it is whole.
            size = max((file.stat().st_size for file in output.parent.iterdir()), default=0)
            if not isKilled and size >= killAt:
                isKilled = True
                servers[0].look()
                servers[0].kill()
                print(f"killed:     the server at {servers[0].address}, after {size:,} bytes")
                servers[0].start()
            time.sleep(0.005)
        assert run.stderr is not None
        said = run.stderr.read().strip()
    if run.returncode:
        raise DemoFailed(said)
    if not isKilled:
        raise DemoFailed("the picture was ready before a server could be killed: make it wider")
    print(f"on servers: {said}")


def show(width: int, processes: int, output: Path | None) -> None:
    """
    Render the picture here and there, and compare.

    @param processes: how many processes render it here, and on each server.
    @param output: where to put the picture that the servers made; nowhere if it is C{None}.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        key, here, there = folder / "key", folder / "here.png", folder / "there" / "there.png"
        there.parent.mkdir()
        writeKey(str(key))
        renderHere(width, processes, here)
        expected = here.read_bytes()
        with serving(key, processes) as first, serving(key, processes) as second:
            renderThere(width, there, key, [first, second], len(expected) // 3)
            for server in (first, second):
                server.look()
                print(f"server:     {server.address} used {server.seconds:.2g} processor seconds")
        made = there.read_bytes()
        if made != expected:
            raise DemoFailed("the two pictures differ")
        print(f"the same:   all {len(made):,} bytes of the two pictures")
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(made)


def stop(number: int, frame: object) -> NoReturn:
    """
    Handle a signal by ending what was started, then this program.
    """
    # A second signal must not interrupt that.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    """
    @return: the exit status.
    """
    parser = argparse.ArgumentParser("examples.remote", description=__doc__.split("::")[0])
    parser.add_argument("--width", type=int, default=4000, help="pixels (%(default)s)")
    parser.add_argument(
        "-j", type=int, default=2, help="processes here, and of each server (%(default)s)"
    )
    parser.add_argument("-o", type=Path, metavar="FILE", help="where to put the picture")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        show(options.width, options.j, options.o)
    except DemoFailed as reason:
        print(f"examples.remote: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
