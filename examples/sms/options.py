"""
The command lines of the three programs, and how these end with their parent.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn
from urllib.parse import urlsplit

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

MOST_IN_A_SECOND: Final = 1000
"""The highest limit of messages in a second."""

MOST_AT_ONCE: Final = 1000
"""The highest number of requests at once."""

PARENT_SECONDS: Final = 0.5
"""How often a program looks whether its parent lives."""


class Parser(argparse.ArgumentParser):
    """
    Says in one sentence what is wrong with a command line, and exits with the status 2.
    """

    def __init__(self, prog: str, description: str) -> None:
        """
        @param prog: how the program is called.
        @param description: what it does, for C{--help}.
        """
        super().__init__(prog, description=description, allow_abbrev=False)
        self.add_argument(
            "--parent",
            type=whole(1),
            metavar="PID",
            help="end when the process of this number is not the parent any more",
        )

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}.\n")
        sys.exit(2)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """
    @return: what reads a whole number from a command line.
    """

    def read(typed: str) -> int:
        try:
            number = int(typed)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{typed} is not a whole number {_range(least, most)}")
        return number

    return read


def real(least: float, most: float) -> Callable[[str], float]:
    """
    @return: what reads a number from a command line.
    """

    def read(typed: str) -> float:
        try:
            number = float(typed)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{typed} is not a number {_range(least, most)}")
        return number

    return read


def _range(least: float, most: float | None) -> str:
    return f"of at least {least:g}" if most is None else f"from {least:g} to {most:g}"


def webAddress(typed: str) -> str:
    """
    Read the address of a web server from a command line.
    """
    try:
        parts = urlsplit(typed)
        isGood = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        isGood = False
    if not isGood or not typed.isascii() or not typed.isprintable() or " " in typed:
        raise argparse.ArgumentTypeError(
            f"{typed!r} is not an address such as http://127.0.0.1:80/"
        )
    return typed


def isOrphaned(parent: int | None) -> bool:
    """
    @param parent: the process that is to be this one's parent, or C{None}.
    @return: whether another is its parent now, because that one has ended.
    """
    return parent is not None and os.getppid() != parent


def endWithParent(parent: int | None, end: Callable[[], object], reactor: IReactorTime) -> None:
    """
    Look now and then whether the parent has ended. A killed parent can tell nobody.

    @param parent: its number; C{None} if it may end.
    @param end: is called once when it has ended.
    """

    def look() -> None:
        if isOrphaned(parent):
            looks.stop()
            end()

    looks = LoopingCall(look)
    looks.clock = reactor
    if parent is not None:
        looks.start(PARENT_SECONDS)
