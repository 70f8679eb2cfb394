"""
Two queues under mixed load, with the page on which they are seen and steered::

    python -m examples.busy

It prints the address of the page. Ctrl-C ends it. C{asynqueue top} and C{asynqueue admin} find the
queues as well.
"""

# Worker processes import this module, because it is the program's main module. So it has what they
# run, and imports the program itself, which is heavy, only where that begins.

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence

from asynqueue import report


def thumbnail(name: str, seconds: float) -> str:
    """
    Take a moment.
    """
    time.sleep(seconds)
    return f"{name} is small now"


def transcode(name: str, steps: int) -> str:
    """
    Take long, and tell how far it is.
    """
    for done in range(steps):
        report(done, steps)
        time.sleep(0.25)
    return f"{name} is transcoded"


def parse(text: str) -> int:
    """
    Fail unless a text is a number.
    """
    return int(text)


def crash() -> None:
    """
    End the process, as a fault in a library might.
    """
    os._exit(3)


def rows(count: int) -> Iterator[int]:
    """
    Yield items, faster than anybody takes them.
    """
    yield from range(count)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the program until SIGTERM or Ctrl-C.
    """
    parser = argparse.ArgumentParser("python -m examples.busy", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port of the page (any)")
    command = parser.parse_args(arguments)
    if not 0 <= command.port <= 65535:
        parser.error(f"--port must be from 0 to 65535, not {command.port}")
    from examples.busyqueues import run

    run(command.port)


if __name__ == "__main__":
    main()
