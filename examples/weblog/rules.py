"""
The rules that tell an address that misbehaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

FLOOD: Final = "flood"
"""The rule of addresses that send too many requests within a minute."""

NOT_HTTP: Final = "not HTTP"
BAD_METHOD: Final = "bad method"

INJECTION: Final = "injection"

_GAP = rb"(?:\s|/\*.{0,40}?\*/|\()++"

# A look-up of Log4j, also one that hides its name; and a function of a shell.
_LOOKUP = rb"\$\{(?:jndi|lower|upper|env|sys|date|:):"
_INJECTED = re.compile(_LOOKUP + rb"|\(\)\s*\{|<script\b", re.IGNORECASE)

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})

_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S.*) HTTP/\d(?:\.\d)?", re.DOTALL)

# What servers write when a client was gone before it had asked for anything.
_NOTHING = frozenset({b"", b"-"})


@dataclass(frozen=True)
class PathRule:
    """
    A rule on what is asked for.

    @ivar name: what to call it.
    @ivar pattern: what it looks for, in lower case and without percent signs.
    @ivar isRefused: whether it only counts if the server refused the request or had no such page.
        Somebody's own pages may bear such names.
    """

    name: str
    pattern: bytes
    isRefused: bool = True


PATH_RULES: Final = (
    PathRule(
        "looks for secrets",
        rb"/\.(?:env|git|svn|hg|aws|ssh|htpasswd|htaccess|ds_store|npmrc)\b|/id_rsa\b"
        rb"|\.(?:sql|bak|old|swp|pem)(?:\.gz|\.zip)?(?:\?|$)|/wp-config\.",
    ),
    PathRule(
        "looks for admin pages",
        rb"/(?:wp-login|xmlrpc|setup-config|phpinfo|adminer|eval-stdin)\.php"
        rb"|/(?:phpmyadmin|pma|myadmin|administrator|manager/html|solr/admin|actuator)\b"
        rb"|/(?:boaform|hnap1|cgi-bin|owa/auth|vendor/phpunit|_ignition|geoserver)\b",
    ),
    PathRule(
        "path traversal",
        rb"(?:^|[/=\\])\.\.(?:[/\\]|$)|(?:^|=|file:/*)/?etc/(?:passwd|shadow)\b(?!-)|/win\.ini",
        isRefused=False,
    ),
    PathRule(
        INJECTION,
        # In a statement, only spaces, comments and parentheses stand between the words.
        rb"\bunion" + _GAP + rb"(?:(?:all|distinct)" + _GAP + rb")?select\b(?!-)"
        rb"|\b(?:or|and)" + _GAP + rb"'?1'? ?= ?'?1\b|<script\b|[=\s;|(+,]sleep\(\d"
        rb"|information_schema\b(?!-)|" + _LOOKUP,
        isRefused=False,
    ),
)

_PATTERNS: Final = [(rule, re.compile(rule.pattern, re.DOTALL)) for rule in PATH_RULES]

# Most paths break no rule. One search tells so.
_ANY = re.compile(b"|".join(rule.pattern for rule in PATH_RULES), re.DOTALL)


@lru_cache(maxsize=65_536)
def judgeRequest(request: bytes, isRefused: bool) -> tuple[str, ...]:
    """
    Find out which rules a request breaks.

    @param request: the request line.
    @param isRefused: whether the server answered it with a status of 400 or more.
    @return: the rules' names.
    """
    if request in _NOTHING:
        return ()
    match = _REQUEST.fullmatch(request)
    if match is None:
        return (NOT_HTTP, *_judgeTarget(request, isRefused))
    method, target = match.groups()
    broken = () if method in METHODS else (BAD_METHOD,)
    return broken + _judgeTarget(target, isRefused)


def _judgeTarget(target: bytes, isRefused: bool) -> tuple[str, ...]:
    text = target.lower()
    if b"%" in text or b"+" in text:
        # Twice, as those who hide something do.
        text = unquote_to_bytes(unquote_to_bytes(text.replace(b"+", b" "))).lower()
    if _ANY.search(text) is None:
        return ()
    return tuple(
        rule.name
        for rule, pattern in _PATTERNS
        if (isRefused or not rule.isRefused) and pattern.search(text) is not None
    )


def findInjections(texts: set[bytes]) -> set[bytes]:
    """
    @param texts: referrers or agents.
    @return: those that inject commands.
    """
    # Most logs have none, and one search tells so.
    if _INJECTED.search(unquote_to_bytes(b"\n".join(texts))) is None:
        return set()
    return {text for text in texts if _INJECTED.search(unquote_to_bytes(text))}


def findFloods(counts: Mapping[bytes, int], limit: int) -> set[bytes]:
    """
    @param counts: how many requests each address sent within one minute.
    @param limit: how many of them are no flood yet.
    @return: the addresses that sent more.
    """
    return {address for address, count in counts.items() if count > limit}
