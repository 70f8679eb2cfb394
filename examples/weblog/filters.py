"""
Filters: which requests of a log a report is about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from typing import Final

from examples.weblog.parse import (
    ADDRESS,
    HOST,
    MINUTE,
    REQUEST,
    STATUS,
    ZONE,
    Row,
    minuteOf,
    pathOf,
)


@dataclass(frozen=True)
class Filters:
    """
    A request has to pass all of these. C{None} lets every request pass.

    @ivar since: the first minute, since the beginning of 1970 in UTC.
    @ivar until: the minute after the last one.
    @ivar status: a pattern of statuses, such as C{404} or C{5xx}. An C{x} is any digit.
    @ivar path: a pattern of paths, decoded and without queries, with C{*}, C{?} and C{[...]}.
    @ivar host: such a pattern of addresses.
    @ivar vhost: such a pattern of the names of virtual hosts, in any case and without ports. A
        request whose line does not name one has the name C{""}.
    """

    since: int | None = None
    until: int | None = None
    status: str | None = None
    path: str | None = None
    host: str | None = None
    vhost: str | None = None

    def select(self, rows: list[Row]) -> list[Row]:
        """
        @return: the rows that pass, in their order.
        """
        if self.since is not None or self.until is not None:
            rows = [row for row in rows if self._isInTime(row)]
        if self.status is not None:
            status = re.compile(self.status.lower().replace("x", r"\d").encode())
            rows = [row for row in rows if status.fullmatch(row[STATUS])]
        if self.path is not None:
            path = _patternOf(self.path)
            rows = [row for row in rows if path.match(pathOf(row[REQUEST]))]
        if self.host is not None:
            host = _patternOf(self.host)
            rows = [row for row in rows if host.match(row[ADDRESS])]
        if self.vhost is not None:
            vhost = _patternOf(self.vhost.lower())
            rows = [row for row in rows if vhost.match(row[HOST])]
        return rows

    def _isInTime(self, row: Row) -> bool:
        minute = minuteOf(row[MINUTE], row[ZONE])
        return (
            minute is not None
            and (self.since is None or minute >= self.since)
            and (self.until is None or minute < self.until)
        )


ALL_REQUESTS: Final = Filters()


def readMinute(text: str) -> int:
    """
    @param text: a date, or a date and a time, in ISO 8601. It is in UTC if it names no time zone.
    @return: its minute since the beginning of 1970 in UTC.
    @raise ValueError: if it is no date.
    """
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) // 60


def readStatus(text: str) -> str:
    """
    @return: a pattern of statuses, which is the text.
    @raise ValueError: if it is none.
    """
    if re.fullmatch(r"[0-9xX]{3}", text) is None:
        raise ValueError
    return text


def _patternOf(text: str) -> re.Pattern[bytes]:
    return re.compile(translate(text).encode())
