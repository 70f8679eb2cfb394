"""
C{python -m examples.sms}: the server and the pretend gateway, each in a separate process.

If the server is killed it is started again, as a service manager would do.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

Runner = subprocess.Popen[str]


def start(module: str, *arguments: object) -> tuple[Runner, str]:
    """
    Start one of the two.

    @return: its process, and the address that it prints when it listens; an empty text if it ends
        instead.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"examples.sms.{module}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for this process, which ends the server first.
        start_new_session=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    return process, said.split()[-1] if said else ""


def keepRunning(serve: Callable[[], tuple[Runner, str]]) -> int:
    """
    Run the server until it is asked to end, and again whenever it was killed.

    @return: its exit status.
    """
    ending = threading.Event()
    server: list[Runner] = []

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()
        for process in server:
            process.terminate()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    status = 0
    while not ending.is_set():
        process, address = serve()
        server[:] = [process]
        if ending.is_set():
            process.terminate()
        elif address:
            print(f"The server is at {address}  Kill it with: kill -9 {process.pid}", flush=True)
        status = process.wait()
        if status != -signal.SIGKILL:
            break
        print("The server was killed, and is started again.", flush=True)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run both until Ctrl-C.
    """
    parser = argparse.ArgumentParser("python -m examples.sms", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/sms"), help="for what is kept")
    parser.add_argument("--port", type=int, default=8100, help="of the server; default: 8100")
    parser.add_argument("--limit", type=int, default=10, help="messages a second; default: 10")
    command = parser.parse_args(arguments)
    folder: Path = command.folder
    folder.mkdir(parents=True, exist_ok=True)
    limit = ("--limit", command.limit)
    gateway, url = start("gateway", "--port", 0, "--record", folder / "gateway.jsonl", *limit)
    try:
        if not url:
            return gateway.wait()
        print(f"The gateway counts at {url}count", flush=True)
        store = ("--store", folder / "jobs.db")
        options = ("--gateway", url, "--port", command.port, *store, *limit)
        return keepRunning(lambda: start("server", *options))
    finally:
        gateway.terminate()
        gateway.wait()


if __name__ == "__main__":
    sys.exit(main())
