"""
The web page on which queues are seen and steered.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final, NamedTuple, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.template import Tag, flattenString

from asynqueue._core.description import shortly
from asynqueue._reactor import defaultReactor
from asynqueue.admin._acts import (
    DESTROYING,
    Fields,
    describeAct,
    describeOutcome,
    readAct,
)
from asynqueue.admin._events import EventStreams
from asynqueue.admin._pages import Pages
from asynqueue.admin._place import ROWS, NoSuchPage, Place
from asynqueue.admin._programs import OwnPrograms, Program, Programs
from asynqueue.admin._webkit import HEADERS, Limits, refusalOf
from asynqueue.admin.administrable import Administrable
from asynqueue.admin.api import VERBS, AdminAPI
from asynqueue.admin.login import Access
from asynqueue.errors import AdminError
from asynqueue.interfaces import IAdministered, JSONObject

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The things that pages may load and do. No script and no style within a page is among it."""

STATIC: Final[Mapping[str, str]] = {
    "admin.css": "text/css; charset=utf-8",
    "admin.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
}
"""The files that the pages need, and their types."""

LARGEST_EXACT: Final = 2**53
"""Scripts read greater numbers as others, so these are texts in JSON."""

MOST_NOTES: Final = 100
"""How many notes of what was done are kept until they are shown."""

_HTML: Final = "text/html; charset=utf-8"
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"

_SLICES: Final = {
    "workers": "workers",
    "tasksUnderway": "underway",
    "series": "series",
    "streams": "streams",
    "last": "ended",
}
"""The lists of a snapshot of which a page shows a part, and how its address calls them."""


class Answer(NamedTuple):
    """
    An answer to a browser.

    @ivar code: the status.
    @ivar page: a template, the facts that JSON is made of, or bytes.
    @ivar kind: its type.
    @ivar headers: other headers.
    """

    code: int
    page: object
    kind: str = _HTML
    headers: Mapping[str, str] = {}


class Denied(Exception):
    """
    The answer is known before a page is made.

    @ivar code: the status.
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@cache
def staticFile(name: str) -> bytes:
    """
    @param name: one of L{STATIC}.
    @return: the file's bytes.
    """
    return (files("asynqueue.admin") / "static" / name).read_bytes()


@cache
def staticVersion() -> str:
    """
    @return: a text that is another one if one of the files is.
    """
    return sha256(b"".join(map(staticFile, STATIC))).hexdigest()[:12]


class AdminSite(Resource):
    """
    A web page on which queues of this program are seen and steered. You serve it wherever your
    program serves its pages, behind a login of your own, for example::

        def login(request):
            user = mySessions.userOf(request)
            if user is None:
                return None
            return Access(user.name) if user.isAdmin else Access(user.name, acts=())

        root.putChild(b"queues", AdminSite(queue, login=login))

    The page works without JavaScript. With it, it changes when the queue does. Each page has a twin
    for programs, at the same address with C{?format=json}.

    A request that another site's page makes a browser send is refused with status 403, and so is a
    form that is not the page's own. Bodies, Host and slow clients are the business of the site that
    serves this. L{GuardedSite<asynqueue.admin.web.GuardedSite>} sees to them.
    """

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        *queues: Administrable | IAdministered,
        login: Callable[[Request], Any],
        show: Iterable[str] = (),
        history: int = 0,
        readOnly: bool = False,
        programs: Programs | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param queues: the queues to show, each a C{TaskQueue}, a C{ResizableDispatchQueue} or an
            L{IAdministered<asynqueue.interfaces.IAdministered>}. They are kept.
        @param login: takes a request, and returns an L{Access<asynqueue.admin.Access>}, or C{None}
            if nobody is logged in, which is answered with status 401. It may return a Deferred or a
            coroutine.
        @param show: what else is shown: C{"arguments"} and C{"results"}. Default: neither.
        @param history: how many that ended are remembered even while nobody looks. Default: 0.
        @param readOnly: whether nobody may change anything. Default: C{False}.
        @param programs: the programs to show in place of queues of this one, which is how
            C{asynqueue admin} uses this.
        @param reactor: gives the time. Default: the global reactor.
        @raise AdminError: if C{show} names something else.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        reactor = defaultReactor() if reactor is None else reactor
        if programs is None:
            api = AdminAPI(_aboutThis())
            for queue in queues:
                api.add(_administered(queue, show, history, readOnly))
            programs = OwnPrograms(api, reactor)
        # What is administered does not keep its queue.
        self._queues = queues
        self._login = login
        self._reactor = reactor
        self._programs = programs
        self._events = EventStreams(programs, reactor)
        self._secret = secrets.token_bytes(32)
        self._notes: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def close(self) -> None:
        """
        Observe the queues no more, and end the answers to browsers that listen for changes. A
        later request begins anew.
        """
        self._events.close()
        self._programs.close()

    # Answering ------------------------------------------------------------------------------------

    def render(self, request: Request) -> int:
        """
        Answer a request of any method.
        """
        gone: list[object] = []
        request.notifyFinish().addBoth(gone.append)
        answered = Deferred.fromCoroutine(self._answer(request, gone))
        answered.addErrback(self._broken, request, gone)
        return NOT_DONE_YET

    def _broken(self, failure: Failure, request: Request, gone: list[object]) -> None:
        self.log.failure("a request failed", failure)
        if not gone and not request.startedWriting:
            request.setResponseCode(HTTPStatus.INTERNAL_SERVER_ERROR)
            request.setHeader("Content-Type", _TEXT)
            request.write(b"This failed. The log of the program says why.\n")
        if not gone:
            request.finish()

    async def _answer(self, request: Request, gone: list[object]) -> None:
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        request.setHeader("Content-Security-Policy", POLICY)
        try:
            self._checkRequest(request)
            access = await maybeDeferred(self._login, request)
            if access is None:
                raise Denied(401, "You have to log in. A link of asynqueue admin is good once.")
            parts, fields = _read(request)
            answer = await self._route(request, access, parts, fields)
        except Denied as denied:
            answer = Answer(denied.code, f"{denied}\n".encode(), _TEXT)
            if denied.code == HTTPStatus.UNAUTHORIZED:
                answer = answer._replace(headers={"WWW-Authenticate": "Link"})
        if answer is not None and not gone:
            await self._send(request, answer, gone)

    async def _send(self, request: Request, answer: Answer, gone: list[object]) -> None:
        body = answer.page
        if isinstance(body, Tag):
            body = b"<!DOCTYPE html>\n" + await flattenString(request, body)
        elif not isinstance(body, bytes):
            body = json.dumps(forScripts(body), allow_nan=False, indent=1).encode() + b"\n"
        if gone:
            return
        request.setResponseCode(answer.code)
        request.setHeader("Content-Type", answer.kind)
        request.setHeader("Content-Length", str(len(body)))
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        request.write(body)
        request.finish()

    def _checkRequest(self, request: Request) -> None:
        refusal = refusalOf(None, Limits(), request.requestHeaders, request.method, 0)
        if refusal is not None:
            raise Denied(refusal.code, refusal.why)

    async def _route(
        self, request: Request, access: Access, parts: Sequence[str], fields: Fields
    ) -> Answer | None:
        isPost = request.method == b"POST"
        base = b"/".join([b"", *filter(None, request.prepath or [])]).decode("latin-1")
        if isPost != (parts[:1] == ["act"]):
            raise Denied(405, "Pages are got, and forms are posted.")
        if "token" in fields and not isPost:
            # The address in the browser's history is to have no token, not even a spent one.
            return Answer(303, b"", _TEXT, {"Location": f"{base}/"})
        if parts[:1] == ["static"]:
            return _static(parts)
        if parts[:1] == ["events"]:
            return self._listen(request, access, parts[1:])
        return await self._view(base, access, parts, fields, isPost)

    async def _view(
        self, base: str, access: Access, parts: Sequence[str], fields: Fields, isPost: bool
    ) -> Answer:
        isJSON = fields.get("format") == ["json"]
        pages = self._pages(base, Place(), access)
        try:
            place = Place.read(parts[1:] if isPost else parts, fields)
            note = self._takeNote(access, fields)
            pages = self._pages(base, place, access, note)
            if isPost:
                return await self._post(pages, base, place, access, fields)
            data = await self._data(place, access)
        except NoSuchPage as error:
            return _sorry(pages, isJSON, 404, "There is no such page", str(error))
        except ValueError as error:
            return _sorry(pages, isJSON, 400, "This makes no sense", str(error))
        except AdminError as error:
            return _sorry(pages, isJSON, 409, "Not now", str(error))
        if isJSON:
            return Answer(200, data, _JSON)
        page: Tag = getattr(pages, place.view)(data)
        return Answer(200, page)

    def _pages(self, base: str, place: Place, access: Access, note: str = "") -> Pages:
        token = self._formToken(access)
        return Pages(
            base, place, access.who, access.acts, token, staticVersion(), self._reactor, note
        )

    def _formToken(self, access: Access) -> str:
        who = access.who.encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, who, sha256).hexdigest()

    def _takeNote(self, access: Access, fields: Fields) -> str:
        [id] = fields.get("said", [])[-1:] or [""]
        who, note = self._notes.pop(id, ("", ""))
        return note if who == access.who else ""

    def _listen(self, request: Request, access: Access, parts: Sequence[str]) -> Answer | None:
        if self._events.isFull:
            raise Denied(503, "Too many browsers listen.")
        try:
            place = Place.read(parts, {})
        except (NoSuchPage, ValueError) as error:
            raise Denied(404, str(error)) from error
        if request.method == b"HEAD":
            return Answer(200, b"", "text/event-stream; charset=utf-8")
        self._events.add(request, access, place.program, place.queue)
        return None

    # Looking --------------------------------------------------------------------------------------

    async def _data(self, place: Place, access: Access) -> JSONObject:
        """
        @return: everything that a page shows.
        """
        if place.view == "queues":
            return {"programs": [await _overview(each, access) for each in await self._look()]}
        program, summary = await self._find(place, access)
        about = {name: program.greeting.get(name) for name in ("program", "pid", "asynqueue")}
        data: JSONObject = {"program": {"key": program.key, **about}}
        if place.view == "queue":
            page = {"page": place.page("pending") - 1, "size": ROWS}
            queue = await self._ask(program, access, "snapshot", place.queue, **page)
            data["queue"] = _cut(queue, place)
            return data
        data["queue"] = summary
        if place.view == "dead":
            page = {"page": place.page("letters") - 1, "size": ROWS}
            found = await self._ask(program, access, "deadLetters", place.queue, **page)
            data["dead"] = {
                **found,
                "kinds": _page(found["kinds"], place.page("kinds")),
                "kindsSeen": len(found["kinds"]),
            }
            return data
        task = await self._ask(program, access, "task", place.queue, task=place.task)
        data |= {"task": task, "stack": await self._stack(program, access, summary, task)}
        return data

    async def _stack(
        self, program: Program, access: Access, queue: JSONObject, task: JSONObject
    ) -> str | None:
        """
        @return: what a task is doing, if it is underway and its worker tells.
        """
        if task["state"] != "UNDERWAY" or "stacks" not in queue["verbs"]:
            return None
        try:
            told = await self._ask(program, access, "stacks", queue["name"], task=task["id"])
        except AdminError as error:
            # It may have ended meanwhile.
            return str(error)
        text: str = told["text"]
        return text

    def _look(self) -> Deferred[Sequence[Program]]:
        return maybeDeferred(self._programs.look)

    async def _find(self, place: Place, access: Access) -> tuple[Program, JSONObject]:
        """
        @return: the program and a summary of the queue that an address names.
        """
        for program in await self._look():
            if program.key == place.program:
                for summary in await self._ask(program, access, "queues"):
                    if summary["name"] == place.queue:
                        return program, summary
                raise NoSuchPage(f"There is no queue {shortly(place.queue)}.")
        raise NoSuchPage("There is no such program any more.")

    async def _ask(
        self,
        program: Program,
        access: Access,
        verb: str,
        queue: str | None = None,
        **parameters: object,
    ) -> Any:
        """
        @return: the answer.
        @raise AdminError: if the program refuses.
        """
        named = {} if queue is None else {"queue": queue}
        reply = await program.ask({"do": verb, **named, **parameters}, access)
        if not reply.get("ok"):
            raise AdminError(str(reply.get("error", "the program refused")))
        return reply.get("result")

    # Steering -------------------------------------------------------------------------------------

    async def _post(
        self, pages: Pages, base: str, place: Place, access: Access, fields: Fields
    ) -> Answer:
        """
        Do what a form says, or ask whether it is meant.
        """
        [token] = fields.get("form", [])[-1:] or [""]
        if not hmac.compare_digest(token.encode(), self._formToken(access).encode()):
            raise Denied(403, "This form is not the page's own, so nothing was done. Reload it.")
        request = readAct(fields)
        verb = request["do"]
        if verb not in VERBS or not VERBS[verb].acts:
            raise ValueError(f"there is no act {shortly(verb)}")
        if verb not in access.acts:
            self.log.warn("admin: {who} was refused {verb}", who=access.who, verb=verb)
            raise Denied(403, f"You have no right to {verb}, so nothing was done.")
        if verb in DESTROYING and fields.get("sure") != ["yes"]:
            return Answer(200, pages.sure(describeAct(request, place.queue), request))
        program, _ = await self._find(place, access)
        parameters = {name: value for name, value in request.items() if name != "do"}
        result = await self._ask(program, access, verb, place.queue, **parameters)
        note = describeOutcome(request, place.queue, result)
        location = place.path(base)
        id = secrets.token_urlsafe(6)
        self._notes[id] = (access.who, note)
        if len(self._notes) > MOST_NOTES:
            self._notes.popitem(last=False)
        said = f"{'&' if '?' in location else '?'}said={id}"
        return Answer(303, b"", _TEXT, {"Location": location + said})


async def _overview(program: Program, access: Access) -> JSONObject:
    """
    @return: a program with a summary of each of its queues, of which it may have none any more.
    """
    about = {name: program.greeting.get(name) for name in ("program", "pid", "asynqueue")}
    try:
        reply = await program.ask({"do": "queues"}, access)
    except AdminError:
        reply = {}
    return {"key": program.key, **about, "queues": reply.get("result") or []}


def _aboutThis() -> JSONObject:
    import os
    import sys

    return {"pid": os.getpid(), "program": os.path.basename(sys.argv[0] or "python")}


def _administered(
    queue: Administrable | IAdministered, show: Iterable[str], history: int, readOnly: bool
) -> IAdministered:
    """
    @return: what is seen of a queue.
    """
    make = getattr(queue, "administered", None)
    if make is None:
        return cast(IAdministered, queue)
    seen: IAdministered = make(show=show, history=history, readOnly=readOnly)
    return seen


def _cut(snapshot: JSONObject, place: Place) -> JSONObject:
    """
    @return: a snapshot, of which each list is the page that is shown, and how long each list was.
    """
    cut = dict(snapshot)
    for name, table in _SLICES.items():
        if name in snapshot:
            cut[name] = _page(snapshot[name], place.page(table))
            cut["underwaySeen" if table == "underway" else f"{name}Seen"] = len(snapshot[name])
    return cut


def _page(every: Sequence[object], page: int) -> Sequence[object]:
    return every[(page - 1) * ROWS : page * ROWS]


def _sorry(pages: Pages, isJSON: bool, code: int, title: str, why: str) -> Answer:
    if isJSON:
        return Answer(code, {"error": why}, _JSON)
    return Answer(code, pages.sorry(title, why))


def _static(parts: Sequence[str]) -> Answer:
    if len(parts) != 2 or parts[1] not in STATIC:
        raise Denied(404, "There is no such file.")
    kept = {"Cache-Control": "private, max-age=86400"}
    return Answer(200, staticFile(parts[1]), STATIC[parts[1]], kept)


def _read(request: Request) -> tuple[list[str], dict[str, list[str]]]:
    """
    @return: the parts of a request's path, and its fields.
    @raise Denied: if they are not in UTF-8.
    """
    try:
        parts = [part.decode() for part in request.postpath or [] if part]
        fields = {
            name.decode(): [value.decode() for value in values]
            for name, values in request.args.items()
        }
    except UnicodeDecodeError:
        raise Denied(400, "This is not in UTF-8.") from None
    return parts, fields


def forScripts(value: object) -> object:
    """
    @return: what a program knows, without numbers that a script reads as others: these are texts.
    """
    if type(value) is int and abs(value) > LARGEST_EXACT:
        return str(value)
    if isinstance(value, Mapping):
        return {name: forScripts(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [forScripts(each) for each in value]
    return value
