"""
A program whose main module takes a second to import, and which starts worker processes::

    python -m benchmarks.slowmain STARTS [--preload]

It prints the median of the milliseconds from a worker's start to its first answer.
"""

from __future__ import annotations

import sys
import time

SECONDS = 1.0

time.sleep(SECONDS)


def main(arguments: list[str]) -> None:
    """
    Start workers and print the figure.

    @param arguments: how many are started, and C{"--preload"} to have the fork server load this
        module.
    """
    from benchmarks.measures.start import startTimes
    from benchmarks.parts import runInReactor

    options = {"preload": ["__main__"]} if "--preload" in arguments else {}
    print(runInReactor(lambda: startTimes(int(arguments[0]), **options)))


if __name__ == "__main__":
    main(sys.argv[1:])
