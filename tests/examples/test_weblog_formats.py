"""
The formats of logs: each is found out by itself, and its lines become the same rows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from examples.weblog.errors import InputError
from examples.weblog.formats import BOM, FORMATS, detectFormat, parseAs
from examples.weblog.inputs import openInput, readBlocks
from examples.weblog.parse import dateOf
from tests.examples.weblogs import makeLine

AGENT = "Mozilla/5.0 (X11; Linux)"
REFERRER = "https://example.org/r"

CADDY: dict[str, Any] = {
    "level": "info",
    "ts": 1728561336.25,
    "logger": "http.log.access",
    "msg": "handled request",
    "request": {
        "remote_ip": "192.0.2.1",
        "remote_port": "41342",
        "client_ip": "192.0.2.1",
        "proto": "HTTP/2.0",
        "method": "GET",
        "host": "localhost",
        "uri": "/a?b",
        "headers": {"User-Agent": [AGENT], "Referer": [REFERRER]},
    },
    "size": 512,
    "status": 200,
}
OLD_CADDY = {
    **CADDY,
    "ts": "2024-10-10T11:55:36Z",
    "request": {**CADDY["request"], "remote_addr": "192.0.2.1:41342", "client_ip": ""},
}
OLD_CADDY["request"].pop("remote_ip")
TRAEFIK = {
    "ClientAddr": "192.0.2.1:3333",
    "ClientHost": "192.0.2.1",
    "RequestHost": "a.example",
    "DownstreamContentSize": 512,
    "DownstreamStatus": 200,
    "OriginStatus": 0,
    "RequestMethod": "GET",
    "RequestPath": "/a?b",
    "RequestProtocol": "HTTP/2.0",
    "StartUTC": "2024-10-10T11:55:36.123456789Z",
    "request_User-Agent": AGENT,
    "request_Referer": REFERRER,
    "level": "info",
    "time": "2024-10-10T11:55:37Z",
}
NGINX = {
    "time_local": "10/Oct/2024:13:55:36 +0200",
    "remote_addr": "192.0.2.1",
    "request": "GET /a?b HTTP/2.0",
    "status": "200",
    "body_bytes_sent": "512",
    "http_referer": REFERRER,
    "http_user_agent": AGENT,
}
OTHER_NGINX = {
    "http_host": "Example.org:8080",
    "msec": "1728561336.123",
    "remote_addr": "192.0.2.1",
    "request_method": "GET",
    "request_uri": "/a?b",
    "server_protocol": "HTTP/2.0",
    "status": 200,
    "bytes_sent": 512,
    "http_referrer": REFERRER,
    "http_user_agent": AGENT,
}
IIS = b"""\
#Software: Microsoft Internet Information Services 10.0
#Version: 1.0
#Date: 2024-10-10 11:55:36
#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs-version \
cs(User-Agent) cs(Referer) sc-status sc-substatus sc-win32-status sc-bytes time-taken
2024-10-10 11:55:36 10.0.0.1 GET /a b 80 - 192.0.2.1 HTTP/2.0 Mozilla/5.0+(X11;+Linux) \
https://example.org/r 200 0 0 512 15
"""
CLOUDFRONT = b"""\
#Version: 1.0
#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status \
cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) cs-protocol-version
2024-10-10\t11:55:36\tLAX1\t512\t192.0.2.1\tGET\td1.cloudfront.net\t/a\t200\t\
https://example.org/r\tMozilla/5.0%20(X11;%20Linux)\tb\t-\tHTTP/2.0
"""
ALB = (
    "https 2024-10-10T11:55:36.186641Z app/lb/50dc6c495c0c9188 192.0.2.1:2817 10.0.0.1:80 0.000 "
    '0.001 0.000 200 200 34 512 "GET https://example.com:443/a?b HTTP/2.0" '
    f'"{AGENT}" ECDHE TLSv1.2 arn:aws:x "Root=1-5" "-" "-" 0\n'
).encode()
ELB = (
    "2024-10-10T11:55:36.186641Z lb 192.0.2.1:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 0 512 "
    f'"GET http://example.com:80/a?b HTTP/2.0" "{AGENT}" - -\n'
).encode()
COMBINED = makeLine(request="GET /a?b HTTP/2.0", referrer=REFERRER, agent=AGENT)


def lineOf(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode() + b"\n"


LOGS = {
    "combined": ("combined", COMBINED),
    "vhost": ("vhost", b"example.org:80 " + COMBINED),
    "vhost without a port": ("vhost", b"example.org " + COMBINED),
    "vhost with a user": ("vhost", b"example.org:80 " + COMBINED.replace(b"- -", b"- John S", 1)),
    "nginx": ("json", lineOf(NGINX)),
    "nginx with other keys": ("json", lineOf(OTHER_NGINX)),
    "caddy": ("json", lineOf(CADDY)),
    "older caddy": ("json", lineOf(OLD_CADDY)),
    "traefik": ("json", lineOf(TRAEFIK)),
    "elb": ("elb", ELB),
    "alb": ("elb", ALB),
    "iis": ("w3c", IIS),
    "cloudfront": ("w3c", CLOUDFRONT),
    "cloudfront without a header": (
        "cloudfront",
        b"2024-10-10\t11:55:36\tLAX1\t512\t192.0.2.1\tGET\td1.cloudfront.net\t/a\t200\t"
        b"https://example.org/r\tMozilla/5.0%20(X11;%20Linux)\tb\n",
    ),
}

HOSTS = {
    "vhost": b"example.org",
    "vhost without a port": b"example.org",
    "vhost with a user": b"example.org",
    "nginx with other keys": b"example.org",
    "caddy": b"localhost",
    "older caddy": b"localhost",
    "traefik": b"a.example",
    "elb": b"example.com",
    "alb": b"example.com",
    "cloudfront": b"d1.cloudfront.net",
    "cloudfront without a header": b"d1.cloudfront.net",
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("before", [b"", BOM])
@pytest.mark.parametrize("name", LOGS)
def test_formatIsFoundOutAndItsRowsAreThoseOfTheCombinedFormat(
    name: str, before: bytes, end: bytes
) -> None:
    expected, log = LOGS[name]
    log = before + log.rstrip(b"\n").replace(b"\n", b"\r\n" if end == b"\r\n" else b"\n") + end
    assert detectFormat(log) == expected
    for form in (None, expected):
        found = parseAs(log, form)
        assert found.malformed == []
        (row,) = found.rows
        assert row[0] == b"192.0.2.1"
        assert dateOf(row)[14:19] == "55:36"
        target = b"GET /a?b HTTP/" + (b"1.1" if "without a header" in name else b"2.0")
        assert row[4:7] == (target, b"200", b"512")
        assert row[7] == (b"" if expected == "elb" else REFERRER.encode())
        assert row[8] == AGENT.encode()
        assert row[9] == HOSTS.get(name, b"")


@pytest.mark.parametrize("name", FORMATS)
def test_everyLineIsARowOrMalformed(name: str) -> None:
    lines = [b"", b"broken", b"{", b"[]", b'"x"', b'{"status": 200}', b"- - - -", b"\xff\xfe"]
    lines += [b'{"request": {}}', b'{"request": {"headers": 3}, "ts": {}}', b'{"ts": 1e400}']
    lines += [b"[" * 100_000, b'{"request": "GET / HTTP/1.1", "time": "x", "status": true}']
    found = parseAs(b"\n".join(lines), name)
    assert found.rows == []
    assert found.malformed == [line for line in lines if line]


def test_formatIsThatOfMostLines() -> None:
    broken = [b"broken\n", b"{}\n", COMBINED]
    assert detectFormat(b"".join([*broken, *([LOGS["vhost"][1]] * 3)])) == "vhost"
    assert detectFormat(b"".join([*broken, *([lineOf(CADDY)] * 3)])) == "json"
    assert detectFormat(b"broken\n" * 500) is None
    assert detectFormat(b"") is None


def test_lineCutOffAtTheEndOfTheSampleDoesNotCount() -> None:
    assert detectFormat(COMBINED * 1000) == "combined"


def test_commonFormatLeavesOutWhatFollows() -> None:
    (row,) = parseAs(COMBINED, "common").rows
    assert row[7:9] == (b"", b"")


def test_fieldsOfALaterHeaderCount() -> None:
    log = IIS + b"#Fields: date time c-ip cs-uri-stem sc-status\n2024-10-10 11:55:36 ::1 /z 404\n"
    rows = parseAs(log, None).rows
    assert [(row[0], row[5]) for row in rows] == [(b"192.0.2.1", b"200"), (b"::1", b"404")]


def test_eachBlockKnowsTheFieldsOfTheLinesAbove(tmp_path: Path) -> None:
    other = b"#Fields: date time c-ip cs-uri-stem sc-status\n"
    rows = [b"2024-10-10 11:55:36 ::1 /%d 404\n" % number for number in range(20_000)]
    (tmp_path / "log").write_bytes(IIS + other + b"".join(rows))
    source = openInput(str(tmp_path / "log"))
    assert (source.format, source.isCut) == ("w3c", False)
    blocks = list(readBlocks(str(tmp_path / "log"), 500))
    assert len(blocks) > 1
    found = [row[4] for block in blocks for row in parseAs(block.read(), "w3c").rows]
    assert found[1:] == [b"GET /%d HTTP/1.1" % number for number in range(20_000)]
    assert sum(block.advance for block in blocks) == os.path.getsize(tmp_path / "log")


FORWARDED = {
    "combined": makeLine().rstrip() + b' "203.0.113.7, 10.0.0.1"\n',
    "no address": makeLine("203.0.113.7").rstrip() + b' "-"\n',
    "no field": makeLine("203.0.113.7"),
    "with a port": makeLine().rstrip() + b' "203.0.113.7:1234"\n',
    "nginx": lineOf({**NGINX, "http_x_forwarded_for": "203.0.113.7, 10.0.0.1"}),
    "traefik": lineOf({**TRAEFIK, "request_X-Forwarded-For": "203.0.113.7"}),
    "caddy": lineOf(
        {**CADDY, "request": {**CADDY["request"], "headers": {"X-Forwarded-For": ["203.0.113.7"]}}}
    ),
}


@pytest.mark.parametrize("name", FORWARDED)
def test_addressIsTheForwardedOneOnDemand(name: str) -> None:
    line = FORWARDED[name]
    assert [row[0] for row in parseAs(line, None, isForwarded=True).rows] == [b"203.0.113.7"]
    if "203.0.113.7 - -" not in line.decode():
        assert [row[0] for row in parseAs(line, None).rows] == [b"192.0.2.1"]


def test_malformedLinesAreTheSameWhenForwarded() -> None:
    log = b"broken\n" + makeLine(date="31/Feb/2024:00:00:00 +0000") + makeLine()
    assert parseAs(log, None, isForwarded=True) == parseAs(log, None)


def test_binaryFileIsNoLog(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a" * 10, encoding="utf-16")
    with pytest.raises(InputError, match="binary"):
        openInput(str(tmp_path / "log"))
