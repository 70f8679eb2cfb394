"""
From the bytes of a block to its rows, and from a row's date to the minute it means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from operator import itemgetter
from typing import Final

Row = tuple[bytes, ...]
"""A line's fields, in the order of the constants that follow."""

ADDRESS: Final = 0
MINUTE: Final = 1
SECOND: Final = 2
ZONE: Final = 3
REQUEST: Final = 4
STATUS: Final = 5
SIZE: Final = 6
REFERRER: Final = 7
AGENT: Final = 8

# Unrolled: it takes a run of plain bytes in one step, where an alternation takes one byte.
_QUOTED = rb'[^"\\\n]*(?:\\.[^"\\\n]*)*'
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov")
_MONTH_NUMBERS = {name: number for number, name in enumerate((*_MONTHS, b"Dec"), 1)}

# What is no proper line ends up in the last group, so that a single findall() tells of all lines.
LINE: Final = re.compile(
    rb"^(?:([^ \n]+) [^ \n]+ [^ \n]+ "
    rb"\[([0-3]\d/(?:" + b"|".join(_MONTH_NUMBERS) + rb")/\d{4}:[0-2]\d:[0-5]\d):([0-6]\d) "
    rb"([+-]\d{4})\] "
    rb'"(' + _QUOTED + rb')" (\d{3}) (\d{1,18}|-)'
    rb'(?: "(' + _QUOTED + rb')" "(' + _QUOTED + rb')"(?: [^\n]*)?)?\r?$|(.+)$)',
    re.MULTILINE,
)
"""A line of the combined format, or the common format; what follows those fields is ignored."""

_BROKEN = 9

_dateIn = itemgetter(MINUTE, ZONE)

# The beginning of the year 9999, in minutes: what calendars can still be asked about.
_LATEST = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) // 60


@dataclass(frozen=True)
class ParsedLines:
    """
    The lines of a block.

    @ivar rows: the fields of those that are well formed.
    @ivar malformed: those that are not, in their order. Blank lines are neither.
    """

    rows: list[Row]
    malformed: list[bytes]


def parseLines(data: bytes) -> ParsedLines:
    """
    Parse whole lines.

    @param data: lines. The last one may lack its line end.
    """
    rows = LINE.findall(data)
    malformed: list[bytes] = []
    if not all(row[ADDRESS] for row in rows):
        malformed = [line for row in rows if (line := row[_BROKEN].rstrip(b"\r"))]
        rows = [row for row in rows if row[ADDRESS]]
    impossible = {date for date in set(map(_dateIn, rows)) if minuteOf(*date) is None}
    if impossible:
        return _withoutDates(data, impossible)
    return ParsedLines(rows, malformed)


def _withoutDates(data: bytes, impossible: set[tuple[bytes, bytes]]) -> ParsedLines:
    """
    Parse a block with dates such as the 31st of February again, line by line, because the row of a
    line that matches does not have the line's text.
    """
    found = ParsedLines([], [])
    for match in LINE.finditer(data):
        row = match.groups(b"")
        if row[ADDRESS] and (row[MINUTE], row[ZONE]) not in impossible:
            found.rows.append(row)
        elif line := match.group().rstrip(b"\r"):
            found.malformed.append(line)
    return found


@lru_cache(maxsize=65_536)
def minuteOf(minute: bytes, zone: bytes) -> int | None:
    """
    Find out which minute a date means. The answers are kept, because a few dates come often.

    @param minute: as in C{10/Oct/2000:13:55}.
    @param zone: as in C{-0700}.
    @return: the minutes since the beginning of 1970 in UTC; C{None} if there is no such date,
        or if it cannot be one of a log.
    """
    hours, minutes = int(zone[1:3]), int(zone[3:])
    try:
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[:1] == b"-" else 1)
        moment = datetime(
            int(minute[7:11]),
            _MONTH_NUMBERS[minute[3:6]],
            int(minute[:2]),
            int(minute[12:14]),
            int(minute[15:]),
            tzinfo=timezone(offset),
        )
    except ValueError:
        return None
    number = int(moment.timestamp()) // 60
    return number if 0 <= number < _LATEST else None


def dateOf(row: Row) -> str:
    """
    @return: a row's date, in ISO 8601 and the row's own time zone.
    """
    minute, zone = row[MINUTE].decode("ascii"), row[ZONE].decode("ascii")
    month = _MONTH_NUMBERS[row[MINUTE][3:6]]
    date = f"{minute[7:11]}-{month:02}-{minute[:2]}T{minute[12:]}"
    return f"{date}:{row[SECOND].decode('ascii')}{zone[:3]}:{zone[3:]}"


def pathOf(request: bytes) -> bytes:
    """
    @return: what a request line asks for, without its query; the whole of it if it is none.
    """
    parts = request.split(b" ")
    return (parts[1] if len(parts) == 3 else request).partition(b"?")[0]
