"""
The pages. Templates escape all texts that are put into them, so the code here does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from twisted.web.template import Tag, tags

from asynqueue import DeadLetter, Job, ResizableDispatchQueue
from asynqueue.admin.web import visible
from examples.sms.operate import MOST_PRIORITY, kindOf
from examples.sms.options import MOST_IN_A_SECOND

ROWS: Final = 25
"""How many rows of a table are on a page."""

REFRESH_SECONDS: Final = 5
"""How often a page is shown anew that is to follow the queue."""

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


def makePage(title: str, *body: Any, refresh: int = 0) -> Tag:
    """
    @param refresh: after how many seconds the browser gets the page anew; 0 for never.
    @return: a whole page.
    """
    head = tags.head(
        tags.meta(charset="utf-8"),
        tags.meta(name="viewport", content="width=device-width"),
        tags.meta(**{"http-equiv": "refresh"}, content=str(refresh)) if refresh else "",
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
        [tags.p(visible(each), class_="wrong") for each in wrong],
        tags.form(
            tags.input(type="hidden", name="form", value=form or uuid4().hex),
            tags.p(
                tags.label("Numbers, one a line, with country codes", for_="numbers"),
                # A browser drops the first line break of a textarea.
                tags.textarea(
                    "\n", numbers, id="numbers", name="numbers", rows="8", dir="ltr", required=""
                ),
            ),
            tags.p(
                tags.label("Text", for_="text"),
                tags.textarea(
                    "\n", text, id="text", name="text", rows="3", dir="auto", required=""
                ),
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
        tags.pre(visible("\n".join(numbers)), class_="wrong"),
    )


def sorryPage(title: str, why: str) -> Tag:
    """
    @param why: what went wrong.
    """
    return makePage(title, tags.p(visible(why), class_="wrong"))


# The status ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """
    Which part of the status is shown: the number of each table's page, beginning with 1, and after
    how many seconds it is shown anew, or 0.
    """

    underway: int = 1
    pending: int = 1
    kinds: int = 1
    dead: int = 1
    refresh: int = 0

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> View:
        """
        @param fields: the fields of an address. Values that make no sense are left out.
        """
        found = {name: fields[name] for name in asdict(cls()) if name in fields}
        # More digits are no page of any table.
        good = {name: int(typed) for name, typed in found.items() if _isPage(typed)}
        view = cls(**good)
        return replace(view, refresh=REFRESH_SECONDS if view.refresh else 0)

    def address(self, **changes: int) -> str:
        """
        @return: the address that shows this, or with changes.
        """
        usual = asdict(View())
        fields = {**asdict(self), **changes}
        query = urlencode(
            {name: number for name, number in fields.items() if number != usual[name]}
        )
        return f"/status?{query}" if query else "/status"


def _isPage(typed: str) -> bool:
    return typed.isascii() and typed.isdigit() and len(typed) < 10 and int(typed) > 0


def statusPage(
    queue: ResizableDispatchQueue,
    letters: Sequence[DeadLetter],
    view: View = View(),
    sent: int = 0,
    failed: int = 0,
) -> Tag:
    """
    @param letters: the queue's dead letters.
    @param sent: how many messages were sent since the start, and C{failed}, how many attempts were
        in vain.
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
        ("Sent since the start", sent),
        ("Failed attempts since the start", failed),
    ]
    inOrder = sorted(queue.underway(), key=lambda job: job.id)
    kinds = Counter((kindOf(letter), letter.error) for letter in letters).most_common()
    tables = _Tables(view)
    return makePage(
        "Status",
        tags.p(_refreshLink(view)),
        tags.table([tags.tr(tags.th(name), tags.td(str(value))) for name, value in facts]),
        tags.div(
            [tables.button(order) for order in ("narrow", "widen", "pause", "resume")],
            tables.button("rate", None, _number("rate", queue.rate and queue.rate[0], 1)),
            class_="orders",
        ),
        tables.messages("Underway", "underway", inOrder, tables.buttonsOfUnderway),
        tables.messages("Pending", "pending", queue.pending(), tables.buttonsOfPending),
        tables.kinds(kinds),
        tables.messages("Dead letters", "dead", letters, tables.buttonsOfLetter),
        refresh=view.refresh,
    )


def surePage(question: str, form: Mapping[str, str], view: View) -> Tag:
    """
    @param question: whether to do what cannot be undone.
    @param form: the order, which is given again with C{sure}.
    """
    fields = {**form, "sure": "yes"}
    return makePage(
        "Are you sure?",
        tags.p(visible(question)),
        tags.form(
            [tags.input(type="hidden", name=name, value=fields[name]) for name in sorted(fields)],
            tags.button("Yes", type="submit"),
            method="post",
            action=view.address(),
        ),
        tags.p(tags.a("No", href=view.address())),
    )


def _refreshLink(view: View) -> Tag:
    if view.refresh:
        return tags.a("Stop refreshing", href=view.address(refresh=0))
    shown = f"Refresh every {REFRESH_SECONDS} seconds"
    return tags.a(shown, href=view.address(refresh=REFRESH_SECONDS))


def _number(name: str, value: float | None, least: int) -> Tag:
    most = MOST_IN_A_SECOND if name == "rate" else MOST_PRIORITY
    shown = "" if value is None else f"{value:g}"
    return tags.input(type="number", name=name, value=shown, min=str(least), max=str(most))


class _Tables:
    """
    The tables of the status page, a page of each.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def messages(
        self,
        title: str,
        name: str,
        rows: Sequence[Any],
        buttons: Callable[[Any], list[Tag]],
    ) -> list[Tag | str]:
        """
        @param name: how L{View} calls the table.
        @param rows: jobs or dead letters.
        @param buttons: those of a row.
        """
        heads = ["Job", "Number", "Text", "Priority", "Attempts", "Why it failed", ""]

        def cells(row: Any) -> list[str]:
            told = _told(row.jobarg)
            return [str(row.id), *told, f"{row.priority:g}", str(row.attempts), _why(row)]

        return self._table(title, name, heads, rows, cells, buttons)

    def kinds(self, kinds: Sequence[tuple[tuple[str, str], int]]) -> list[Tag | str]:
        """
        @param kinds: what L{kindOf} says of some dead letters, why these failed, and their number.
        """

        def cells(row: tuple[tuple[str, str], int]) -> list[str]:
            (_, error), count = row
            return [str(count), error]

        def buttons(row: tuple[tuple[str, str], int]) -> list[Tag]:
            field = {"kind": row[0][0]}
            return [self.button("retry kind", field), self.button("drop kind", field)]

        heads = ["Dead letters", "Why they failed", ""]
        return self._table("Reasons", "kinds", heads, kinds, cells, buttons)

    def _table(
        self,
        title: str,
        name: str,
        heads: Sequence[str],
        rows: Sequence[Any],
        cells: Callable[[Any], list[str]],
        buttons: Callable[[Any], list[Tag]],
    ) -> list[Tag | str]:
        last = max(1, -(-len(rows) // ROWS))
        page = min(getattr(self._view, name), last)
        shown = [tags.tr([tags.th(each) for each in heads])]
        for row in rows[(page - 1) * ROWS : page * ROWS]:
            texts = [tags.td(visible(each), class_="text") for each in cells(row)]
            shown.append(tags.tr(texts, tags.td(buttons(row))))
        return [
            tags.h2(title),
            tags.table(shown) if rows else tags.p("None."),
            tags.p(self._links(name, page, last)) if last > 1 else "",
        ]

    def _links(self, name: str, page: int, last: int) -> list[Tag | str]:
        places = {"First": 1, "Previous": page - 1, "Next": page + 1, "Last": last}
        return [
            f"Page {page} of {last}",
            *(
                tags.span(" · ", tags.a(shown, href=self._view.address(**{name: number})))
                for shown, number in places.items()
                if 1 <= number <= last and number != page
            ),
        ]

    def buttonsOfUnderway(self, job: Job) -> list[Tag]:
        """
        @return: the buttons of a job that is underway.
        """
        return [self.button("cancel", {"job": str(job.id)})]

    def buttonsOfPending(self, job: Job) -> list[Tag]:
        """
        @return: the buttons of a job that waits.
        """
        priority = _number("priority", job.priority, -MOST_PRIORITY)(title="lower is sooner")
        id = {"job": str(job.id)}
        return [self.button("move", id, priority), self.button("cancel", id)]

    def buttonsOfLetter(self, letter: DeadLetter) -> list[Tag]:
        """
        @return: the buttons of a dead letter.
        """
        id = {"job": str(letter.id)}
        return [self.button("retry", id), self.button("drop", id)]

    def button(self, order: str, hidden: Mapping[str, str] | None = None, *fields: Tag) -> Tag:
        """
        @param hidden: fields that go with the order.
        @param fields: fields that can be changed.
        """
        return tags.form(
            fields,
            [
                tags.input(type="hidden", name=name, value=value)
                for name, value in (hidden or {}).items()
            ],
            tags.button(order.capitalize(), type="submit", name="order", value=order),
            method="post",
            action=self._view.address(),
        )


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
