"""
From the bytes of a block to its rows, and from a row's date to the minute it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from operator import itemgetter
from typing import Final
from urllib.parse import unquote_to_bytes

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
HOST: Final = 9
"""The virtual host; nothing where the line does not name it."""

# How the paths of files end that pages are made of. What people download is no such file.
_STATIC = tuple(
    b".avif .bmp .css .cur .eot .gif .ico .jpeg .jpg .js .jxl .map .mjs .otf .png .svg .ttf .wasm "
    b".webmanifest .webp .woff .woff2".split()
)

# Unrolled: it takes a run of plain bytes in one step, where an alternation takes one byte.
_QUOTED = rb'[^"\\\n]*(?:\\.[^"\\\n]*)*'
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}
_DATE = re.compile(
    rb"[0-3]\d/(?:" + b"|".join(_MONTHS) + rb")/\d{4}:[0-2]\d:[0-5]\d[0-6]\d[+-]\d{4}"
)
_FORWARDED = re.compile(rb'" "(' + _QUOTED + rb')"')


def _makePattern(before: bytes, after: bytes) -> re.Pattern[bytes]:
    """
    Make the pattern of a format. A single findall() tells of all lines, because the last group has
    each line that is malformed.

    @param before: the pattern of what is before the address. It may have a group for the virtual
        host.
    @param after: the pattern of what follows the size, with the last two fields of a row.
    """
    return re.compile(
        # A list of addresses is that of X-Forwarded-For, and the client's is the first.
        rb"^(?:" + before + rb"([^ ,\n]++)(?: |(?:, ?[^ ,\n]+)++ )"
        # A user's name may have spaces, or be missing. What begins with a dash is no name: that is
        # a line with one more field in front of it.
        rb'[^ \n]++ (?:[^ \n]+|(?!- )[^"\n]*?) '
        rb"\[([0-3]\d/(?:" + b"|".join(_MONTH_NUMBERS) + rb")/\d{4}:[0-2]\d:[0-5]\d):([0-6]\d) "
        rb"([+-]\d{4})\] "
        rb'"(' + _QUOTED + rb')" (\d{3}) (\d{1,18}|-)' + after + rb"\r?$|(.+)$)",
        re.MULTILINE,
    )


# Fields that follow those of a format are ignored. A quoted one that has no end means that the line
# was cut off.
_FIELD_AFTER = rb'(?: "' + _QUOTED + rb'"(?: (?!")[^\n]*)?| (?!")[^\n]*)?'
_NAMES = rb'"(' + _QUOTED + rb')" "(' + _QUOTED + rb')"'
_NAMES_AFTER = rb"(?: " + _NAMES + rb"(?: [^\n]*)?|" + _FIELD_AFTER.removeprefix(rb"(?:")

COMBINED: Final = _makePattern(b"", _NAMES_AFTER)
"""A line of the combined format, or the common format."""

COMMON: Final = _makePattern(b"", rb"()()(?: [^\n]*)?")
"""A line of the common format, whatever follows it."""

VHOST: Final = _makePattern(rb"([^ \n]+) (?!- )", _NAMES_AFTER)
"""A line of either format behind the name of a virtual host."""

# Where findall() has a malformed line: the last group.
_BROKEN = -1

# How many fields a row has, and how many groups the pattern of a format without virtual hosts.
_FIELDS = 10

_dateIn = itemgetter(MINUTE, ZONE)

# The beginning of the year 9999, in minutes: what calendars can still be asked about.
_LATEST = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) // 60


@dataclass
class ParsedLines:
    """
    The lines of a block.

    @ivar rows: the fields of those that are well formed.
    @ivar malformed: those that are not, in their order. Blank lines are neither.
    """

    rows: list[Row]
    malformed: list[bytes]


def parseLines(
    data: bytes,
    pattern: re.Pattern[bytes] = COMBINED,
    readForwarded: Callable[[bytes], bytes] | None = None,
) -> ParsedLines:
    """
    Parse whole lines.

    @param data: lines. The last one may lack its line end.
    @param pattern: their format.
    @param readForwarded: finds the client's address in the X-Forwarded-For field, which follows the
        agent. C{None}: the address is that which the line begins with.
    """
    if readForwarded is not None:
        return _withForwarded(data, pattern, readForwarded)
    found: list[Row] = pattern.findall(data)
    rows = found if pattern.groups == _FIELDS else [_hostLast(row) for row in found]
    malformed: list[bytes] = []
    if not all(row[ADDRESS] for row in rows):
        broken = [row[_BROKEN].rstrip(b"\r") for row in rows if not row[ADDRESS]]
        malformed = [line for line in broken if line]
        rows = [row for row in rows if row[ADDRESS]]
    impossible = {date for date in set(map(_dateIn, rows)) if minuteOf(*date) is None}
    if impossible:
        return _withoutDates(data, pattern, impossible)
    return ParsedLines(rows, malformed)


def _withoutDates(
    data: bytes, pattern: re.Pattern[bytes], impossible: set[tuple[bytes, bytes]]
) -> ParsedLines:
    """
    Parse a block with dates such as the 31st of February again, line by line, because the row of a
    line that matches does not have the line's text.
    """
    found = ParsedLines([], [])
    for match in pattern.finditer(data):
        row = _rowOf(match)
        if row[ADDRESS] and (row[MINUTE], row[ZONE]) not in impossible:
            found.rows.append(row)
        elif line := match.group().rstrip(b"\r"):
            found.malformed.append(line)
    return found


def _withForwarded(
    data: bytes, pattern: re.Pattern[bytes], read: Callable[[bytes], bytes]
) -> ParsedLines:
    found = ParsedLines([], [])
    for match in pattern.finditer(data):
        row = _rowOf(match)
        if row[ADDRESS] and keepPossible(row):
            # The agent's group is the last one but that of malformed lines.
            end = match.end(pattern.groups - 1)
            rest = match.group()[end - match.start() :] if row[AGENT] else b""
            field = _FORWARDED.match(rest)
            client = read(field[1]) if field else b""
            found.rows.append((client or row[ADDRESS], *row[1:]))
        elif line := match.group().rstrip(b"\r"):
            found.malformed.append(line)
    return found


def _rowOf(match: re.Match[bytes]) -> Row:
    row = match.groups(b"")
    return row if len(row) == _FIELDS else _hostLast(row)


def _hostLast(row: Row) -> Row:
    """
    Put the host, which such a line begins with, behind the other fields. A malformed line stays
    there.
    """
    return (*row[1:-1], hostName(row[0]) or row[_BROKEN])


@lru_cache(maxsize=65_536)
def hostName(text: bytes) -> bytes:
    """
    @param text: a virtual host, as C{Example.org:443}; or a dash for none.
    @return: its name, in lower case and without a port.
    """
    name, colon, port = text.rpartition(b":")
    if not colon or not port.isdigit() or (b":" in name and not name.endswith(b"]")):
        # There is no port. The colons are those of an address.
        name = text
    return b"" if name == b"-" else name.lower()


def keepPossible(row: Row) -> bool:
    """
    Tell whether a row's date is possible.
    """
    isDate = _DATE.fullmatch(row[MINUTE] + row[SECOND] + row[ZONE]) is not None
    return isDate and minuteOf(row[MINUTE], row[ZONE]) is not None


def monthName(number: int) -> str:
    """
    @return: the short name of a month, whose number is from 1 to 12.
    """
    return _MONTHS[number - 1].decode("ascii")


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
    @return: what a request line asks for, decoded and without its query; the whole of it if it is
        none.
    """
    parts = request.split(b" ")
    if len(parts) == 3:
        target = parts[1]
    elif len(parts) > 3 and parts[-1].startswith(b"HTTP/"):
        # Servers accept spaces that a client should have escaped.
        target = b" ".join(parts[1:-1])
    else:
        target = request
    path = target.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path else path


def isStatic(path: bytes) -> bool:
    """
    Tell whether a path is that of a file that pages are made of, such as an image or a script.
    """
    return path.lower().endswith(_STATIC)
