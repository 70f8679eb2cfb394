"""
Logins: who may see a page about queues, and what they may do there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container
from hashlib import sha256
from typing import Final, NamedTuple

from twisted.web.server import Request

from asynqueue.admin.api import ACTS

SESSION_SECONDS: Final = 12 * 3600.0
"""How long a session lasts, by default."""


class Access(NamedTuple):
    """
    The rights of a person.

    @ivar who: who it is, for the log.
    @ivar acts: which of the verbs that change something they may use. Default: all. With C{()} they
        may only look.
    """

    who: str
    acts: Container[str] = ACTS


class OneTimeLogin:
    """
    Lets in who brings a token that is good once. A browser gets a cookie for it, by which it is
    known from then on. Give this to L{AdminSite<asynqueue.admin.AdminSite>}::

        login = OneTimeLogin()
        site = AdminSite(queue, login=login)
        print("http://127.0.0.1:8100/?token=" + login.makeToken(Access("ann")))

    Tokens and sessions are kept in memory, and only as their hashes.
    """

    def __init__(
        self,
        seconds: float = SESSION_SECONDS,
        spent: Callable[[Access], object] = lambda access: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param seconds: how long a token or a session is good. Default: 12 hours.
        @param spent: is called with what a token allowed, when it was used.
        @param clock: gives the time in seconds.
        """
        self._seconds = seconds
        self._spent = spent
        self._clock = clock
        self._tokens: dict[bytes, tuple[float, Access]] = {}
        self._sessions: dict[bytes, tuple[float, Access]] = {}

    def makeToken(self, access: Access) -> str:
        """
        Make a token, which is good once.

        @param access: what the one who brings the token may do.
        @return: a new token. Put it into the address of a page as C{?token=}.
        """
        return self._make(self._tokens, access)

    def __call__(self, request: Request) -> Access | None:
        """
        Find who asks.

        @param request: the request for a page.
        @return: what the one who asks may do; C{None} if they bring neither a token nor a session.
        """
        name = b"asynqueue-admin-%d" % request.getHost().port
        tokens = request.args.get(b"token", [])
        if len(tokens) == 1 and request.method == b"GET":
            access = self._find(self._tokens, tokens[0], isSpent=True)
            if access is not None:
                # Cookies know no ports, so the port is part of the name.
                session = self._make(self._sessions, access).encode()
                request.addCookie(
                    name,
                    session,
                    path=b"/",
                    httpOnly=True,
                    sameSite=b"strict",
                    secure=request.isSecure(),
                )
                self._spent(access)
                return access
        cookie = request.getCookie(name)
        return None if cookie is None else self._find(self._sessions, cookie)

    def _make(self, kept: dict[bytes, tuple[float, Access]], access: Access) -> str:
        now = self._clock()
        for every in (self._tokens, self._sessions):
            for old in [each for each, (until, _) in every.items() if until <= now]:
                del every[old]
        secret = secrets.token_urlsafe(32)
        kept[_hash(secret.encode())] = (now + self._seconds, access)
        return secret

    def _find(
        self, kept: dict[bytes, tuple[float, Access]], secret: bytes, isSpent: bool = False
    ) -> Access | None:
        key = _hash(secret)
        found = kept.pop(key, None) if isSpent else kept.get(key)
        if found is None or found[0] <= self._clock():
            return None
        return found[1]


def _hash(secret: bytes) -> bytes:
    # The time that the look-up of a hash takes tells nothing of the secret.
    return sha256(secret).digest()
