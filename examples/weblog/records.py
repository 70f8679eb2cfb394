"""
The records that somebody wants to see each of, as lines of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final

from examples.weblog.aggregate import REFUSED
from examples.weblog.parse import (
    ADDRESS,
    AGENT,
    REFERRER,
    REQUEST,
    SIZE,
    STATUS,
    Row,
    dateOf,
)
from examples.weblog.rules import judgeRequest

BATCH: Final = 500
"""How many records are sent at once. One message for each would cost more than the parsing."""


def _isBad(row: Row) -> bool:
    return bool(judgeRequest(row[REQUEST], row[STATUS] >= REFUSED))


SELECTIONS: Final[dict[str, Callable[[Row], bool]]] = {
    "bad": _isBad,
    "errors": lambda row: row[STATUS] >= b"500",
    "missing": lambda row: row[STATUS] == b"404",
    "all": lambda row: True,
}
"""Which records there are to choose from."""


def batchRecords(rows: list[Row], selection: str) -> Iterator[bytes]:
    """
    @param selection: one of L{SELECTIONS}.
    @return: the records of interest in their order, some at a time: a JSON object a line.
    """
    isWanted = SELECTIONS[selection]
    lines: list[str] = []
    for row in rows:
        if isWanted(row):
            lines.append(_formatRecord(row))
            if len(lines) >= BATCH:
                yield "".join(lines).encode()
                lines.clear()
    if lines:
        yield "".join(lines).encode()


def _formatRecord(row: Row) -> str:
    record = {
        "address": textOf(row[ADDRESS]),
        "date": dateOf(row),
        "request": textOf(row[REQUEST]),
        "status": int(row[STATUS]),
        "bytes": 0 if row[SIZE] == b"-" else int(row[SIZE]),
        "referrer": textOf(row[REFERRER]),
        "agent": textOf(row[AGENT]),
        "rules": judgeRequest(row[REQUEST], row[STATUS] >= REFUSED),
    }
    return json.dumps(record) + "\n"


def textOf(field: bytes) -> str:
    """
    @return: a field as text, whatever is in it.
    """
    return field.decode("utf-8", "backslashreplace")
