"""
The rules that tell an address that misbehaves.
"""

from __future__ import annotations

import pytest

from examples.weblog.rules import BAD_METHOD, NOT_HTTP, findFloods, judgeRequest


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (b"GET /.env HTTP/1.1", "looks for secrets"),
        (b"GET /backup/site.sql.gz HTTP/1.1", "looks for secrets"),
        (b"GET /a/.git/config HTTP/1.1", "looks for secrets"),
        (b"POST /blog/wp-login.php?x=1 HTTP/1.1", "looks for admin pages"),
        (b"GET /PhpMyAdmin/ HTTP/1.1", "looks for admin pages"),
        (b"GET /..%2f..%2fsecret HTTP/1.1", "path traversal"),
        (b"GET /?file=%252e%252e/%252e%252e/etc/passwd HTTP/1.1", "path traversal"),
        (b"GET /?id=1+UNION+ALL+SELECT+NULL HTTP/1.1", "injection"),
        (b"GET /?q=%3Cscript%3E HTTP/1.1", "injection"),
        (b"GET /?x=${jndi:ldap://a} HTTP/1.1", "injection"),
        (b"GET /?id=1%20union/**/select%201 HTTP/1.1", "injection"),
        (b"GET /?id=1)+union+all+(select+1) HTTP/1.1", "injection"),
        (b"GET /?id=1+or+1=1 HTTP/1.1", "injection"),
        (b"GET /?id=1'+and+'1'='1 HTTP/1.1", "injection"),
        (b"GET /?id=1;sleep(5) HTTP/1.1", "injection"),
        (b"GET /a b ${jndi:ldap://a} HTTP/1.1", "injection"),
        (b"GET /%24%7Bjndi:dns://a%7D HTTP/1.1", "injection"),
        (b"GET /?x=${${lower:j}ndi:ldap://a} HTTP/1.1", "injection"),
        (b"GET /?x=${${::-j}ndi:ldap://a} HTTP/1.1", "injection"),
        (b"${jndi:ldap://a}", "injection"),
        (b"GET /?f=file:///etc/passwd HTTP/1.1", "path traversal"),
        (b"PROPFIND / HTTP/1.1", BAD_METHOD),
        (rb"\x16\x03\x01", NOT_HTTP),
        (b"GET /", NOT_HTTP),
    ],
)
def test_refusedRequestBreaksTheRule(request_: bytes, rule: str) -> None:
    assert rule in judgeRequest(request_, True)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1",
        b"GET /environment HTTP/2.0",
        b"GET /articles/select-a-union HTTP/1.1",
        b"GET /shop/western-union/card-select HTTP/1.1",
        b"GET /trade-union-select-committee HTTP/1.1",
        b"GET /union/members/select HTTP/1.1",
        b"GET /how-to-sleep(8-hours) HTTP/1.1",
        b"GET /blog/information_schema-explained HTTP/1.1",
        b"GET /linux/etc/passwd-explained HTTP/1.1",
        b"GET /?size=s+or+10%3D100 HTTP/1.1",
        b"GET /a..b/c HTTP/1.1",
        b"GET /%zz%2 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"-",
        b"",
    ],
)
def test_harmlessRequestBreaksNone(request_: bytes) -> None:
    assert judgeRequest(request_, True) == ()


def test_pagesThatTheSiteHasAreItsOwn() -> None:
    assert judgeRequest(b"POST /wp-login.php HTTP/1.1", False) == ()
    assert judgeRequest(b"GET /../../etc/passwd HTTP/1.1", False) == ("path traversal",)


def test_floodIsMoreThanTheLimit() -> None:
    assert findFloods({b"a": 10, b"b": 11}, 10) == {b"b"}
