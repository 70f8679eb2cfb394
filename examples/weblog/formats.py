"""
The formats of logs, and how to find out which one a log has.

Worker processes import this module, so it imports nothing heavy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from examples.weblog.parse import (
    COMBINED,
    COMMON,
    VHOST,
    ParsedLines,
    Row,
    hostName,
    keepPossible,
    monthName,
    parseLines,
)

BOM: Final = b"\xef\xbb\xbf"

SAMPLE: Final = 1 << 16
"""How many bytes of a log the format is found out from."""

_SAMPLE_LINES = 100

FIELDS: Final = b"#Fields:"
"""How a line of W3C's extended format begins that says which fields the lines below have."""

# What IIS writes, and what CloudFront writes, without a line that says so.
_IIS_FIELDS = (
    b"date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(user-agent) "
    b"cs(referer) sc-status sc-substatus sc-win32-status time-taken"
).split()
_CLOUDFRONT_FIELDS = (
    b"date time x-edge-location sc-bytes c-ip cs-method cs(host) cs-uri-stem sc-status "
    b"cs(referer) cs(user-agent) cs-uri-query"
).split()

_QUOTED = rb'"([^"\\\n]*(?:\\.[^"\\\n]*)*)"'
_ELB = re.compile(
    rb"(?:(?:https?|h2|grpcs?|wss?) )?(\d{4}-\d\d-\d\dT[\d:.]+Z?) "
    rb"[^ ]+ (\[[^ ]+\]|[^ ]+?)(?::\d+)? [^ ]+ "
    rb"-?[\d.]+ -?[\d.]+ -?[\d.]+ (\d{3}|-) (?:\d{1,3}|-) (?:\d+|-) (\d{1,18}|-) "
    + _QUOTED
    + rb"(?: "
    + _QUOTED
    + rb")?(?: .*)?"
)
_ORIGIN = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*://[^/ ?]*")
_PORT = re.compile(r"^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$")

# The keys of JSON logs, by what they mean. The first one that a line has counts. nginx's are those
# of its variables, which people use as keys.
_NGINX: Final[Mapping[str, Sequence[str]]] = {
    "address": ("remote_addr", "client_ip", "clientip", "client", "remote_ip"),
    "forwarded": ("http_x_forwarded_for", "x_forwarded_for"),
    "time": ("time_iso8601", "time_local", "@timestamp", "timestamp", "msec", "time", "ts"),
    "request": ("request",),
    "method": ("request_method", "method"),
    "target": ("request_uri", "uri", "path", "url"),
    "protocol": ("server_protocol", "protocol", "proto"),
    "status": ("status", "status_code"),
    "size": ("body_bytes_sent", "bytes_sent", "size", "bytes"),
    "referrer": ("http_referer", "http_referrer", "referer", "referrer"),
    "agent": ("http_user_agent", "user_agent", "agent"),
    "host": ("host", "http_host", "server_name", "vhost"),
}
_TRAEFIK: Final[Mapping[str, Sequence[str]]] = {
    "address": ("ClientHost", "ClientAddr"),
    "forwarded": ("request_X-Forwarded-For",),
    "time": ("StartUTC", "time", "StartLocal"),
    "request": (),
    "method": ("RequestMethod",),
    "target": ("RequestPath",),
    "protocol": ("RequestProtocol",),
    "status": ("DownstreamStatus", "OriginStatus"),
    "size": ("DownstreamContentSize", "OriginContentSize"),
    "referrer": ("request_Referer",),
    "agent": ("request_User-Agent",),
    "host": ("RequestHost", "RequestAddr"),
}


def parseAs(data: bytes, name: str | None, isForwarded: bool = False) -> ParsedLines:
    """
    Parse whole lines.

    @param data: lines. The last one may lack its line end.
    @param name: their format: one of L{FORMATS}. C{None}: find out.
    @param isForwarded: whether a request's address is the one that X-Forwarded-For names.
    """
    if BOM in data:
        # Files that were put together have one at the beginning of each.
        data = data.removeprefix(BOM).replace(b"\n" + BOM, b"\n")
    return FORMATS[name or detectFormat(data) or "combined"](data, isForwarded)


def detectFormat(data: bytes) -> str | None:
    """
    Find out which format some lines have.

    @param data: the beginning of a log. A part of it is enough.
    @return: the format that most of its first lines have; C{None} if they have none of L{FORMATS}.
    """
    head = data[:SAMPLE].removeprefix(BOM)
    whole = head.splitlines(keepends=True)
    if len(whole) > 1 and not head.endswith(b"\n"):
        # The sample may end within a line.
        whole.pop()
    sample = b"".join(islice((line for line in whole if line.strip()), _SAMPLE_LINES))
    counts = {name: len(FORMATS[name](sample, False).rows) for name in _DETECTED}
    best = max(counts, key=lambda name: counts[name])
    if counts[best]:
        return best
    # A log that has only its header so far.
    return "w3c" if re.search(rb"^" + FIELDS, sample, re.MULTILINE) else None


def _byLine(
    read: Callable[[bytes, bool], Row | None],
) -> Callable[[bytes, bool], ParsedLines]:
    """
    Make a parser of lines from a reader of one line.

    @param read: returns the row of a line without its end, or C{None} if it is malformed.
    """

    def parse(data: bytes, isForwarded: bool) -> ParsedLines:
        found = ParsedLines([], [])
        for line in _linesOf(data):
            row = read(line, isForwarded)
            if row is None:
                found.malformed.append(line)
            else:
                found.rows.append(row)
        return found

    return parse


def _linesOf(data: bytes) -> Iterator[bytes]:
    for line in data.split(b"\n"):
        if stripped := line.rstrip(b"\r"):
            yield stripped


def _makeRow(
    address: bytes,
    time: bytes,
    request: bytes,
    status: bytes,
    size: bytes,
    referrer: bytes,
    agent: bytes,
    host: bytes,
) -> Row | None:
    """
    @param time: in ISO 8601, or in seconds since 1970.
    @param host: the virtual host, perhaps with a port.
    @return: a row like those of the combined format; C{None} if a field makes no sense.
    """
    moment = _readTime(time)
    isStatus = len(status) == 3 and status.isdigit()
    isSize = size == b"-" or (size.isdigit() and len(size) <= 18)
    if moment is None or not address or not isStatus or not isSize:
        return None
    row = (address, *moment, request, status, size, referrer, agent, hostName(host))
    return row if keepPossible(row) else None


@lru_cache(maxsize=65_536)
def _readTime(time: bytes) -> tuple[bytes, bytes, bytes] | None:
    """
    @return: the minute, the second and the zone as the combined format has them.
    """
    try:
        text = time.decode("ascii")
        try:
            moment = datetime.fromtimestamp(float(text), UTC)
        except ValueError:
            if "/" in text:
                # Such as nginx's time_local: 10/Oct/2024:13:55:36 +0200.
                stamp, zone = text.split(" ")
                return stamp[:17].encode(), stamp[18:].encode(), zone.encode()
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    month = monthName(moment.month)
    zone = f"{moment:%z}"[:5] or "+0000"
    minute = f"{moment.day:02}/{month}/{moment.year:04}:{moment.hour:02}:{moment.minute:02}"
    return minute.encode(), f"{moment.second:02}".encode(), zone.encode()


def _readELB(line: bytes, isForwarded: bool) -> Row | None:
    match = _ELB.fullmatch(line)
    if match is None:
        return None
    time, address, status, size, request, agent = match.groups(b"")
    # A request line has the whole address of the page. A client that asked for nothing has dashes.
    method, space, target = request.partition(b" ")
    request = b"-" if method == b"-" else method + space + _ORIGIN.sub(b"", target, count=1)
    origin = _ORIGIN.match(target)
    host = origin.group().partition(b"://")[2] if origin else b""
    status = b"000" if status == b"-" else status
    return _makeRow(address.strip(b"[]"), time, request, status, size, b"", agent, host)


def _readJSON(line: bytes, isForwarded: bool) -> Row | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if isinstance(found.get("request"), dict):
        return _readCaddy(found, found["request"], isForwarded)
    return _readKeys(found, _TRAEFIK if "RequestMethod" in found else _NGINX, isForwarded)


def _readKeys(
    found: Mapping[str, Any], keys: Mapping[str, Sequence[str]], isForwarded: bool
) -> Row | None:
    values = {
        meaning: next((_bytesOf(found[key]) for key in names if key in found), b"")
        for meaning, names in keys.items()
    }
    request = values["request"]
    if not request and values["target"]:
        protocol = values["protocol"] or b"HTTP/1.1"
        request = b"%b %b %b" % (values["method"] or b"GET", values["target"], protocol)
    address = _withoutPort(values["address"])
    if isForwarded:
        address = firstForwarded(values["forwarded"]) or address
    if not request and "request" not in found:
        return None
    return _makeRow(
        address,
        values["time"],
        request,
        values["status"],
        values["size"] or b"-",
        values["referrer"],
        values["agent"],
        values["host"],
    )


def _readCaddy(
    found: Mapping[str, Any], request: Mapping[str, Any], isForwarded: bool
) -> Row | None:
    headers = request.get("headers")

    def header(name: str) -> bytes:
        value = headers.get(name) if isinstance(headers, dict) else None
        return _bytesOf(value[0] if isinstance(value, list) and value else value)

    flat = {
        "remote_addr": request.get("client_ip")
        or request.get("remote_ip")
        or request.get("remote_addr"),
        "http_x_forwarded_for": header("X-Forwarded-For"),
        "ts": found.get("ts"),
        "request_method": request.get("method"),
        "request_uri": request.get("uri"),
        "server_protocol": request.get("proto"),
        "status": found.get("status"),
        "size": found.get("size"),
        "http_referer": header("Referer"),
        "http_user_agent": header("User-Agent"),
        "host": request.get("host"),
    }
    return _readKeys(flat, _NGINX, isForwarded)


def _bytesOf(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if value is None or isinstance(value, dict | list | bool):
        return b""
    return str(value).encode("utf-8", "backslashreplace")


def _withoutPort(address: bytes) -> bytes:
    match = _PORT.match(address.decode("utf-8", "replace"))
    return (match[1] or match[2]).encode() if match else address


def firstForwarded(field: bytes) -> bytes:
    """
    @param field: the addresses that X-Forwarded-For has, the client's first.
    @return: the client's address; nothing if there is none.
    """
    first = _withoutPort(field.partition(b",")[0].strip())
    return b"" if first in (b"-", b"unknown") else first


def _parseW3C(fields: Sequence[bytes]) -> Callable[[bytes, bool], ParsedLines]:
    """
    @param fields: those of the lines above which no line says so.
    """

    def parse(data: bytes, isForwarded: bool) -> ParsedLines:
        found = ParsedLines([], [])
        names: Sequence[bytes] = fields
        for line in _linesOf(data):
            if line.startswith(FIELDS):
                names = line[len(FIELDS) :].lower().split()
            elif not line.startswith(b"#"):
                row = _readW3C(line, names, isForwarded)
                if row is None:
                    found.malformed.append(line)
                else:
                    found.rows.append(row)
        return found

    return parse


def _readW3C(line: bytes, names: Sequence[bytes], isForwarded: bool) -> Row | None:
    isTabbed = b"\t" in line
    values = line.split(b"\t") if isTabbed else line.split()
    if len(values) != len(names) and not (isTabbed and len(values) > len(names)):
        return None
    found = dict(zip(names, values, strict=False))

    def text(*wanted: bytes) -> bytes:
        value = next((found[name] for name in wanted if name in found), b"-")
        # IIS writes spaces as plus signs. CloudFront escapes them, and sometimes twice.
        return unquote_to_bytes(value) if isTabbed else value.replace(b"+", b" ")

    query = found.get(b"cs-uri-query", b"-")
    target = found.get(b"cs-uri-stem", found.get(b"cs-uri", b"-"))
    target += b"" if query == b"-" else b"?" + query
    version = found.get(b"cs-version", found.get(b"cs-protocol-version", b"HTTP/1.1"))
    address = found.get(b"c-ip", b"")
    if isForwarded:
        address = firstForwarded(text(b"x-forwarded-for")) or address
    return _makeRow(
        address,
        found.get(b"date", b"") + b"T" + found.get(b"time", b"") + b"Z",
        b"%b %b %b" % (found.get(b"cs-method", b"GET"), target, version),
        found.get(b"sc-status", b""),
        found.get(b"sc-bytes", b"-"),
        text(b"cs(referer)"),
        text(b"cs(user-agent)"),
        text(b"x-host-header", b"cs-host", b"cs(host)"),
    )


def _parseText(pattern: re.Pattern[bytes]) -> Callable[[bytes, bool], ParsedLines]:
    def parse(data: bytes, isForwarded: bool) -> ParsedLines:
        return parseLines(data, pattern, firstForwarded if isForwarded else None)

    return parse


FORMATS: Final[Mapping[str, Callable[[bytes, bool], ParsedLines]]] = {
    "combined": _parseText(COMBINED),
    "common": _parseText(COMMON),
    "vhost": _parseText(VHOST),
    "json": _byLine(_readJSON),
    "nginx-json": _byLine(_readJSON),
    "caddy": _byLine(_readJSON),
    "traefik": _byLine(_readJSON),
    "elb": _byLine(_readELB),
    "w3c": _parseW3C(_IIS_FIELDS),
    "iis": _parseW3C(_IIS_FIELDS),
    "cloudfront": _parseW3C(_CLOUDFRONT_FIELDS),
}
"""The formats by name: functions that parse whole lines. Several names may mean one format."""

# The first one of those that fit equally well is taken.
_DETECTED = ("combined", "vhost", "json", "elb", "w3c", "cloudfront")
