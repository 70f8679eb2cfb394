"""
The answers of the server.
"""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.template import Tag, flattenString

from asynqueue.errors import AsynQueueError
from examples.sms.messages import makeMessage
from examples.sms.numbers import complaints, parseNumbers, readText
from examples.sms.operate import NotThere, Operator
from examples.sms.pages import (
    STYLE,
    View,
    acceptedPage,
    formPage,
    notSavedPage,
    sorryPage,
    statusPage,
    surePage,
)
from examples.sms.texting import Texting

_FORM = re.compile(r"[0-9a-f]{32}")


class Answer(NamedTuple):
    """
    @ivar code: the status.
    @ivar page: what is shown; or else C{location} is where to go.
    """

    code: int
    page: Tag | None
    location: str = ""


class Page(Resource):
    """
    A page whose C{get} and C{post} are coroutines.
    """

    isLeaf = True
    log: ClassVar[Logger] = Logger()

    def __init__(self, texting: Texting) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.texting = texting

    async def get(self, fields: dict[str, str]) -> Answer:
        """Show it, as the fields of its address say."""
        raise NotImplementedError

    async def post(self, form: dict[str, str]) -> Answer:
        """Do what a form says."""
        raise NotImplementedError

    def render_GET(self, request: Request) -> int:
        # This answers HEAD, too.
        return self._answer(request)

    def render_POST(self, request: Request) -> int:
        return self._answer(request)

    def _answer(self, request: Request) -> int:
        # A server that stops waits for its answers.
        over: Deferred[None] = self.texting.answers.add(request.notifyFinish())
        # The client may leave before.
        over.addErrback(lambda _: None)
        answered = Deferred.fromCoroutine(self._tryToAnswer(request, over))
        answered.addErrback(self._broken, request, over)
        return NOT_DONE_YET

    async def _tryToAnswer(self, request: Request, over: Deferred[None]) -> None:
        try:
            fields = readForm(request)
            isPost = request.method == b"POST"
            answer = await (self.post(fields) if isPost else self.get(fields))
        except UnicodeDecodeError:
            answer = Answer(400, sorryPage("Not understood", "The form is not in UTF-8."))
        except AsynQueueError as error:
            answer = Answer(503, sorryPage("Not now", str(error)))
        shown = b""
        if answer.page is not None:
            shown = b"<!DOCTYPE html>\n" + await flattenString(request, answer.page)
        if over.called:
            return
        request.setResponseCode(answer.code)
        request.setHeader("Content-Type", "text/html; charset=utf-8")
        if answer.location:
            request.setHeader("Location", answer.location)
        request.write(shown)
        request.finish()

    def _broken(self, failure: Failure, request: Request, over: Deferred[None]) -> None:
        self.log.failure("a request failed", failure)
        if not over.called:
            request.setResponseCode(500)
            request.finish()


class SendPage(Page):
    """
    The form.
    """

    async def get(self, fields: dict[str, str]) -> Answer:
        """An empty form."""
        return Answer(200, formPage())

    async def post(self, form: dict[str, str]) -> Answer:
        """
        Take messages on. They are acknowledged when all of them are saved, and not before.
        """
        typed, text, key = (form.get(name, "") for name in ("numbers", "text", "form"))
        if not _FORM.fullmatch(key):
            return Answer(400, formPage(typed, text, ["This form is not one of ours. Try again."]))
        text = readText(text)
        numbers = parseNumbers(typed)
        wrong = complaints(numbers, text)
        if wrong:
            return Answer(400, formPage(typed, text, wrong, key))
        messages = [makeMessage(key, number, text) for number in numbers.good]
        notSaved = await self.texting.accept(messages)
        if notSaved:
            missing = [message["number"] for message in notSaved]
            return Answer(503, notSavedPage(missing, len(messages)))
        return Answer(202, acceptedPage(len(messages)))


class StatusPage(Page):
    """
    The status page, with the operator's buttons.
    """

    def __init__(self, texting: Texting) -> None:
        super().__init__(texting)
        self._operator = Operator(texting)

    async def get(self, fields: dict[str, str]) -> Answer:
        """The queue as it is now."""
        texting = self.texting
        letters = await texting.queue.deadLetters()
        view = View.read(fields)
        return Answer(200, statusPage(texting.queue, letters, view, texting.sent, texting.failed))

    async def post(self, form: dict[str, str]) -> Answer:
        """An operator's order."""
        view = View.read(form)
        try:
            question = await self._operator.question(form)
            if question is not None:
                return Answer(200, surePage(question, form, view))
            await self._operator.obey(form)
        except NotThere as error:
            return Answer(409, sorryPage("Nothing was done", str(error)))
        return Answer(303, None, view.address())


class Style(Resource):
    """
    The pages' style sheet.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("Content-Type", "text/css; charset=utf-8")
        return STYLE.encode()


class Root(Resource):
    """
    All pages.
    """

    def __init__(self, texting: Texting) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.putChild(b"", SendPage(texting))
        self.putChild(b"status", StatusPage(texting))
        self.putChild(b"style.css", Style())  # type: ignore[no-untyped-call]

    def getChild(self, path: bytes, request: Request) -> IResource:
        return notFound()


def readForm(request: Request) -> dict[str, str]:
    """
    @return: the first value of each field.
    @raise UnicodeDecodeError: if it is not in UTF-8.
    """
    return {name.decode(): values[0].decode() for name, values in request.args.items()}
