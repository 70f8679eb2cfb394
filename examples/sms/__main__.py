"""
C{python -m examples.sms}: the server and the pretend gateway, each in a separate process.

If the server is killed it is started again, as a service manager would do. If this process is
killed, the two notice that and end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from examples.sms.options import MOST_IN_A_SECOND, PARENT_SECONDS, Parser, isOrphaned, whole

Runner = subprocess.Popen[str]


def start(module: str, *arguments: object) -> tuple[Runner, str]:
    """
    Start one of the two.

    @return: its process, and the address that it prints when it listens; an empty text if it ends
        instead.
    """
    options = ("--parent", os.getpid(), *arguments)
    process = subprocess.Popen(
        [sys.executable, "-m", f"examples.sms.{module}", *map(str, options)],
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for this process, which ends the server first.
        start_new_session=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    return process, said.split()[-1] if said else ""


class Keeper:
    """
    Runs the server until it is asked to end, and again whenever it was killed.
    """

    def __init__(self, parent: int | None) -> None:
        """
        @param parent: the process with which the server ends; C{None} for no such process.
        """
        self._parent = parent
        self._isEnding = False
        self._server: Runner | None = None

    def end(self) -> None:
        """
        Ask the server to end. Asked twice, it does not wait for what is underway.
        """
        self._isEnding = True
        if self._server is not None:
            self._server.terminate()

    def run(self, serve: Callable[[], tuple[Runner, str]]) -> int:
        """
        @param serve: starts the server.
        @return: its exit status.
        """
        status = 0
        while not self._isEnding:
            self._server, address = serve()
            if self._isEnding:
                self._server.terminate()
            elif address:
                pid = self._server.pid
                print(f"The server is at {address}  Kill it with: kill -9 {pid}", flush=True)
            status = self._wait(self._server)
            if status != -signal.SIGKILL:
                break
            print("The server was killed, and is started again.", flush=True)
        return status

    def _wait(self, server: Runner) -> int:
        while True:
            try:
                return server.wait(PARENT_SECONDS)
            except subprocess.TimeoutExpired:
                if not self._isEnding and isOrphaned(self._parent):
                    self.end()


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run both until Ctrl-C, SIGTERM or the end of the terminal.
    """
    parser = Parser(
        "python -m examples.sms",
        "Serve a form that texts numbers through a gateway that only pretends to send, until "
        "Ctrl-C. A server that is killed is started again.",
    )
    add = parser.add_argument
    add("--folder", type=Path, default=Path("build/sms"), help="for what is kept")
    add("--port", type=whole(0, 65535), default=8100, help="of the server; default: 8100")
    most = MOST_IN_A_SECOND
    add("--limit", type=whole(1, most), default=10, help="messages a second; default: 10")
    command = parser.parse_args(arguments)
    folder: Path = command.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"the folder cannot be made: {error}")
    keeper = Keeper(command.parent)

    def end(number: int, frame: FrameType | None) -> None:
        keeper.end()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    # With nohup, this is to outlive its terminal.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, end)
    limit = ("--limit", command.limit)
    gateway, url = start("gateway", "--port", 0, "--record", folder / "gateway.jsonl", *limit)
    try:
        if not url:
            return gateway.wait()
        print(f"The gateway counts at {url}count", flush=True)
        store = ("--store", folder / "jobs.db")
        options = ("--gateway", url, "--port", command.port, *store, *limit)
        return keeper.run(lambda: start("server", *options))
    finally:
        gateway.terminate()
        gateway.wait()


if __name__ == "__main__":
    sys.exit(main())
