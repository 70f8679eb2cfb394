"""
What the programs that are asked to end call in their processes, which import this: it is light.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path


def waitFor(path: str) -> None:
    """
    Return when a file is there.
    """
    while not os.path.exists(path):
        time.sleep(0.01)


def beginAndWait(folder: str, name: str) -> str:
    """
    Say that this has begun, and return when the test says so.
    """
    Path(folder, name).touch()
    waitFor(os.path.join(folder, "go"))
    return name


def streamUntil(folder: str) -> Iterator[str]:
    """
    Yield items until the test says so, and one after that.
    """
    while not os.path.exists(os.path.join(folder, "go")):
        yield "more"
        time.sleep(0.01)
    yield "last"


def note(folder: str, what: str, number: int) -> None:
    """
    Write into a diary, whole lines at a time.
    """
    fd = os.open(os.path.join(folder, "diary"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{what} {number}\n".encode())
    finally:
        os.close(fd)


def work(job: list[object]) -> None:
    """
    Do a durable job, of a folder and a number: it begins, and ends when the test says so.
    """
    folder, number = str(job[0]), int(str(job[1]))
    note(folder, "began", number)
    waitFor(os.path.join(folder, "go"))
    note(folder, "ended", number)
