"""
The pages. Templates escape all texts that are put into them, so the code here does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4

from twisted.web.template import Tag, tags

from asynqueue import DeadLetter, Job
from asynqueue._dispatch.rdq import ResizableDispatchQueue

MOST_ROWS = 50
"""How many rows of a table are shown."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
textarea, input[type=text] { width: 100%; box-sizing: border-box; font: inherit }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: 0.2rem 0.6rem; border-bottom: 1px solid #ccc }
td form, .orders form { display: inline }
td input[type=number] { width: 5rem }
.text { overflow-wrap: anywhere }
.wrong { color: #a00 }
"""


def makePage(title: str, *body: Any) -> Tag:
    """
    @return: a whole page.
    """
    head = tags.head(
        tags.meta(charset="utf-8"),
        tags.meta(name="viewport", content="width=device-width"),
        tags.title(title),
        tags.link(rel="stylesheet", href="/style.css"),
    )
    links = tags.nav(tags.a("Send", href="/"), " · ", tags.a("Status", href="/status"))
    return tags.html(head, tags.body(links, tags.h1(title), *body), lang="en")


# The form -----------------------------------------------------------------------------------------


def formPage(numbers: str = "", text: str = "", wrong: Iterable[str] = (), form: str = "") -> Tag:
    """
    @param numbers: what was typed before, and so is C{text}.
    @param wrong: what is wrong with it.
    @param form: what tells this form from others. By default it is a new one.
    """
    return makePage(
        "Send a text",
        [tags.p(each, class_="wrong") for each in wrong],
        tags.form(
            tags.input(type="hidden", name="form", value=form or uuid4().hex),
            tags.p(
                tags.label("Numbers, one a line, with country codes", for_="numbers"),
                # A browser drops the first line break of a textarea.
                tags.textarea("\n", numbers, id="numbers", name="numbers", rows="8", required=""),
            ),
            tags.p(
                tags.label("Text", for_="text"),
                tags.textarea("\n", text, id="text", name="text", rows="3", required=""),
            ),
            tags.p(tags.button("Send", type="submit")),
            method="post",
            action="/",
        ),
    )


def acceptedPage(count: int) -> Tag:
    """
    @param count: how many messages are safe.
    """
    noun = "message is" if count == 1 else "messages are"
    return makePage("Accepted", tags.p(f"{count} {noun} saved, and will be sent."))


def notSavedPage(numbers: Sequence[str], count: int) -> Tag:
    """
    @param numbers: those whose messages could not be saved.
    @param count: how many messages there were in all.
    """
    return makePage(
        "Not all was accepted",
        tags.p(
            f"{count - len(numbers)} of {count} messages are saved, and will be sent. "
            "The messages to these numbers could not be saved; send them again:"
        ),
        tags.pre("\n".join(numbers), class_="wrong"),
    )


def sorryPage(title: str, why: str) -> Tag:
    """
    @param why: what went wrong.
    """
    return makePage(title, tags.p(why, class_="wrong"))


# The status ---------------------------------------------------------------------------------------


def statusPage(queue: ResizableDispatchQueue, letters: Sequence[DeadLetter]) -> Tag:
    """
    @param letters: the queue's dead letters.
    """
    underway, pending = queue.size()
    rate = "none" if queue.rate is None else f"{queue.rate[0]} in {queue.rate[1]:g} s"
    facts = [
        ("State", "stopped" if queue.stopped else "paused" if queue.paused else "running"),
        ("Width", queue.width),
        ("Rate", rate),
        ("Pending", pending),
        ("Underway", underway),
        ("Dead letters", len(letters)),
    ]
    inOrder = sorted(queue.underway(), key=lambda job: job.id)
    return makePage(
        "Status",
        tags.table([tags.tr(tags.th(name), tags.td(str(value))) for name, value in facts]),
        tags.div(
            [_button(order) for order in ("narrow", "widen", "pause", "resume")], class_="orders"
        ),
        _table("Underway", inOrder, lambda job: [_button("cancel", job.id)]),
        _table("Pending", queue.pending(), _buttonsOfPending),
        _table("Dead letters", letters, _buttonsOfLetter),
    )


def _table(
    title: str, rows: Sequence[Any], buttons: Callable[[Any], list[Tag | str]]
) -> list[Tag | str]:
    heads = ["Job", "Number", "Text", "Priority", "Attempts", "Why it failed", ""]
    shown = [tags.tr([tags.th(each) for each in heads])]
    for row in rows[:MOST_ROWS]:
        cells = [str(row.id), *_told(row.jobarg), f"{row.priority:g}", str(row.attempts), _why(row)]
        shown.append(
            tags.tr([tags.td(each, class_="text") for each in cells], tags.td(buttons(row)))
        )
    more = len(rows) - MOST_ROWS
    return [
        tags.h2(title),
        tags.table(shown) if rows else tags.p("None."),
        tags.p(f"… and {more} more") if more > 0 else "",
    ]


def _told(jobarg: Any) -> tuple[str, str]:
    """
    @param jobarg: a message; or, in a dead letter, whatever the store had.
    """
    if isinstance(jobarg, dict):
        return str(jobarg.get("number")), str(jobarg.get("text"))
    return "?", str(jobarg)


def _why(row: Job | DeadLetter) -> str:
    if isinstance(row, DeadLetter):
        return row.error
    return "" if row.failure is None else row.failure.getErrorMessage()


def _buttonsOfPending(job: Job) -> list[Tag | str]:
    priority = tags.input(
        type="number", name="priority", value=f"{job.priority:g}", title="lower is sooner"
    )
    return [_button("move", job.id, priority), _button("cancel", job.id)]


def _buttonsOfLetter(letter: DeadLetter) -> list[Tag | str]:
    return [_button("retry", letter.id), _button("drop", letter.id)]


def _button(order: str, job: int | None = None, *fields: Tag) -> Tag:
    return tags.form(
        fields,
        "" if job is None else tags.input(type="hidden", name="job", value=str(job)),
        tags.button(order.capitalize(), type="submit", name="order", value=order),
        method="post",
        action="/status",
    )
