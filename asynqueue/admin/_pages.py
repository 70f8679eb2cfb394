"""
The pages, as templates. All texts in them are escaped: markup by C{twisted.web.template}, and what
cannot be seen by L{visible}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, NoReturn, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.error import MissingRenderMethod
from twisted.web.iweb import IRenderable, IRequest
from twisted.web.template import Flattenable, Tag, tags
from zope.interface import implementer

from asynqueue.admin._acts import asButton
from asynqueue.admin._place import REFRESH_SECONDS, ROWS, Place
from asynqueue.admin._texts import kilobytes, length, progressOf, roughly
from asynqueue.admin._webkit import visible
from asynqueue.interfaces import JSONObject

Row = JSONObject

Part: TypeAlias = Flattenable | partial[Tag]
"""A part of a page, or what makes one in a turn of its own."""

HTMX: Final = json.dumps(
    {
        "history": False,
        "includeIndicatorCSS": False,
        "defaultTimeout": 10_000,
        # What is unfolded stays so.
        "morphIgnore": ["data-htmx-powered", "open"],
        # What was seen last stays when nothing can be seen any more.
        "noSwap": [204, 304, "4xx", "5xx"],
    }
)
"""The settings of htmx. The page's rules let it neither evaluate code nor add styles."""

_BAR_HEIGHT: Final = 24
_BAR_WIDTH: Final = 2
_SECONDS: Final = 60


@implementer(IRenderable)
class Piece:
    """
    A part of a page that is made in a turn of the reactor of its own, so that a long page holds
    nothing up.
    """

    def __init__(self, make: Callable[[], Flattenable], reactor: IReactorTime) -> None:
        """
        @param make: makes the part, a template.
        """
        self._make = make
        self._reactor = reactor

    def lookupRenderMethod(self, name: str) -> NoReturn:
        """
        There is none.
        """
        raise MissingRenderMethod(self, name)

    def render(self, request: IRequest | None) -> Deferred[Flattenable]:
        """
        @return: a Deferred that fires with the part in the next turn.
        """
        made: Deferred[None] = Deferred()
        self._reactor.callLater(0, made.callback, None)
        return made.addCallback(lambda _: makeVisible(self._make()))


class Column(NamedTuple):
    """
    A column of a table.

    @ivar head: its name.
    @ivar isNumber: whether it is aligned at the right.
    """

    head: str
    isNumber: bool = False


def columns(heads: str) -> list[Column]:
    """
    @param heads: the names, with commas between them. One that begins with C{#} has numbers.
    """
    return [Column(each.strip(" #"), "#" in each) for each in heads.split(",")]


def makeVisible(node: Flattenable) -> Flattenable:
    """
    @return: a template in which all texts are visible.
    """
    if isinstance(node, str):
        return visible(node)
    if isinstance(node, Tag):
        node.children = [makeVisible(child) for child in node.children]
        for name, value in node.attributes.items():
            node.attributes[name] = makeVisible(value)
        return node
    return [makeVisible(each) for each in node] if isinstance(node, list | tuple) else node


class Pages:
    """
    Makes the pages for one request.
    """

    def __init__(
        self,
        base: str,
        place: Place,
        who: str,
        acts: Container[str],
        token: str,
        version: str,
        reactor: IReactorTime,
        note: str = "",
    ) -> None:
        """
        @param base: the path at which all pages lie.
        @param place: what is shown.
        @param who: who looks.
        @param acts: the verbs that change something which they may use.
        @param token: proves that a form is ours.
        @param version: tells a browser which files it may keep.
        @param reactor: gives a page its turns.
        @param note: what has just been done.
        """
        self._reactor = reactor
        self._base = base
        self._place = place
        self._who = who
        self._acts = acts
        self._token = token
        self._version = version
        self._note = note

    # Parts of all pages ---------------------------------------------------------------------------

    def page(self, title: str, *body: Part, isLive: bool = False) -> Tag:
        """
        @param body: its parts. A partial makes its part, in a turn of its own.
        @param isLive: whether it changes by itself.
        @return: a whole page.
        """
        place = self._place
        live: dict[str, str] = {}
        if isLive:
            address = place.path(self._base)
            live = {"hx-get": address, "hx-trigger": "refresh", "hx-select": "#live"}
            live |= {"hx-target": "#live", "hx-swap": "outerMorph"}
        head = tags.head(
            tags.meta(charset="utf-8"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.meta(name="color-scheme", content="light dark"),
            tags.meta(name="htmx-config", content=HTMX),
            self._refreshing() if isLive else "",
            tags.title(f"{title} · asynqueue"),
            tags.link(rel="icon", href=self._file("icon.svg"), type="image/svg+xml"),
            tags.link(rel="stylesheet", href=self._file("uPlot.min.css")),
            tags.link(rel="stylesheet", href=self._file("admin.css")),
            [
                tags.script(src=self._file(name), defer="")
                for name in ("htmx.min.js", "uPlot.iife.min.js", "admin.js")
            ],
        )
        note = tags.p(self._note, class_="note", role="status") if self._note else ""
        parts = [Piece(part, self._reactor) if isinstance(part, partial) else part for part in body]
        main = Tag("main")(note, tags.h1(title), parts, id="live", tabindex="-1", **live)
        events = {"data-events": self._eventsAddress()} if isLive else {}
        page = tags.html(head, tags.body(self._banner(isLive), main, **events), lang="en")
        makeVisible(page)
        return page

    def _file(self, name: str) -> str:
        return f"{self._base}/static/{name}?v={self._version}"

    def _eventsAddress(self) -> str:
        place = self._place
        shown = Place("queue", place.program, place.queue) if place.program else Place()
        return shown.path(f"{self._base}/events")

    def _refreshing(self) -> Tag | str:
        if not self._place.isRefreshed:
            return ""
        again = {"http-equiv": "refresh", "content": str(REFRESH_SECONDS)}
        return tags.noscript(tags.meta(**again))

    def _banner(self, isLive: bool) -> Tag:
        place = self._place
        crumbs: list[Flattenable] = [self._link("asynqueue", Place(isRefreshed=place.isRefreshed))]
        if place.view != "queues":
            crumbs += [" / ", self._link(place.queue, self._to("queue"))]
        if place.view == "task":
            crumbs += [" / ", f"task {place.task}"]
        if place.view == "dead":
            crumbs += [" / ", "dead letters"]
        rights = "" if self._acts else " (may only look)"
        return tags.header(
            tags.a("Skip to the content", href="#live", class_="skip"),
            tags.nav(crumbs, **{"aria-label": "Where you are"}),
            tags.span(self._who, rights, class_="who"),
            self._switch() if isLive else "",
        )

    def _switch(self) -> list[Tag]:
        place = self._place
        other = Place(place.view, place.program, place.queue, place.task, place.pages)
        shown = "Stop refreshing"
        if not place.isRefreshed:
            other = Place(**{**vars(other), "isRefreshed": True})
            shown = f"Refresh every {REFRESH_SECONDS} seconds"
        return [
            tags.button(
                "Live",
                type="button",
                id="switch",
                hidden="",
                title="Stop refreshing, or go on",
                **{"aria-pressed": "false"},
            ),
            tags.noscript(self._link(shown, other)),
        ]

    def _to(self, view: str, task: int = 0) -> Place:
        return self._place.with_(view, self._place.program, self._place.queue, task)

    def _link(self, text: Flattenable, place: Place, **attributes: str) -> Tag:
        return tags.a(text, href=place.path(self._base), **attributes)

    def _form(self, *body: Flattenable, **attributes: str) -> Tag:
        # A key that is pressed in a field does not press the first button of a row.
        none = tags.button(type="submit", disabled="", hidden="")
        hidden = tags.input(type="hidden", name="form", value=self._token)
        action = self._place.path(f"{self._base}/act")
        return tags.form(none, hidden, *body, method="post", action=action, **attributes)

    def _button(self, text: str, verb: str, title: str = "", **request: object) -> Tag:
        more = {"title": title, "aria-label": title} if title else {}
        value = asButton(verb, **request)
        return tags.button(text, type="submit", name="act", value=value, **more)

    def _typed(self, label: str, name: str, value: object, least: str, most: str) -> Tag:
        return tags.label(
            label,
            " ",
            tags.input(
                type="number",
                name=name,
                value="" if value is None else f"{value}",
                min=least,
                max=most,
                step="any" if name in ("per", "priority") else "1",
            ),
        )

    def _table(
        self,
        title: str,
        name: str,
        heads: Sequence[Column],
        rows: Iterable[tuple[str, Sequence[Flattenable]]],
        count: int,
        total: int | None = None,
        below: Flattenable = "",
    ) -> Tag:
        """
        @param name: the table's name in addresses, if it has pages.
        @param rows: the name and the cells of each row.
        @param count: how many rows there are on all pages.
        @param total: how many there are in truth, if that is more.
        @param below: what stands below it, if it has rows.
        """
        body = [self._row(id, heads, cells) for id, cells in rows]
        shown = roughly(count if total is None else total)
        head = tags.thead(
            tags.tr(
                [
                    tags.th(each.head, scope="col", class_="number" if each.isNumber else "")
                    for each in heads
                ]
            )
        )
        inside: list[Flattenable] = [tags.p("None.", class_="none")]
        if body:
            inside = [tags.table(head, tags.tbody(body)), below]
        return tags.section(
            tags.h2(title, " ", tags.span(shown, class_="count"), id=f"{name}-title"),
            *inside,
            self._pager(name, count),
            id=name,
            **{"aria-labelledby": f"{name}-title"},
        )

    def _row(self, id: str, heads: Sequence[Column], cells: Sequence[Flattenable]) -> Tag:
        made = [
            tags.td(
                # On a narrow screen the label and what it is for stand side by side.
                tags.div(cell) if isinstance(cell, list) and cell else cell,
                class_="number" if head.isNumber else "",
                **{"data-label": head.head},
            )
            for head, cell in zip(heads, cells, strict=True)
        ]
        return tags.tr(made, id=id)

    def _pager(self, name: str, count: int) -> Tag | str:
        page, last = self._place.page(name), max(1, -(-count // ROWS))
        if last == 1 and page == 1:
            return ""
        places = {"First": 1, "Previous": min(page - 1, last), "Next": page + 1, "Last": last}
        links: list[Flattenable] = [
            self._link(shown, self._place.turned(name, number))
            for shown, number in places.items()
            if 1 <= number <= last and number != page
        ]
        return tags.nav(
            tags.span(f"Page {page:,} of {last:,}"),
            links,
            class_="pager",
            **{"aria-label": f"Pages of {name}"},
        )

    def may(self, queue: Row, verb: str) -> bool:
        """
        @return: whether the one who looks may do something to a queue.
        """
        return verb in queue["verbs"] and not queue["readOnly"] and verb in self._acts

    # All queues -----------------------------------------------------------------------------------

    def queues(self, data: Row) -> Tag:
        """
        @param data: all programs with their queues.
        """
        heads = columns("Queue, State, #Pending, #Underway, #At once, #First waits, #Ended, Rate")
        sections: list[Part] = []
        for program in data["programs"]:
            rows = [
                (f"queue-{number}", self._queueCells(program["key"], queue))
                for number, queue in enumerate(program["queues"])
            ]
            title = f"{program['program']} (process {program['pid']})"
            make = partial(self._table, title, program["key"], heads, rows, len(rows))
            sections.append(make)
        if not sections:
            hint = "No program can be seen. Call queue.admin() in it, or start it with "
            sections.append(tags.p(hint, tags.code("ASYNQUEUE_ADMIN=1"), " in its environment."))
        return self.page("Queues", *sections, isLive=True)

    def _queueCells(self, program: str, queue: Row) -> list[Flattenable]:
        link = self._link(queue["name"], self._place.with_("queue", program, queue["name"]))
        ended = queue["ended"]
        return [
            [link, " ", tags.small(queue["kind"])],
            _state(queue),
            roughly(queue["pending"]),
            roughly(queue["underway"]),
            f"{queue.get('width', queue.get('workers')):,}",
            length(queue["waited"]),
            "-" if ended is None else roughly(sum(ended["counts"].values())),
            "" if ended is None else sparkline(ended["rates"]),
        ]

    # One queue ------------------------------------------------------------------------------------

    def queue(self, data: Row) -> Tag:
        """
        @param data: a snapshot of a queue, of which each list is one page.
        """
        queue = data["queue"]
        parts: list[Part] = [self._tiles(queue), self._steering(queue), self._rates(queue)]
        if "deadLetters" in queue["verbs"]:
            parts.append(tags.p(self._link("Dead letters", self._to("dead")), class_="more"))
        if "workers" in queue:
            parts.append(partial(self._workers, queue))
        for title, name in (("Underway", "underway"), ("Pending", "pending")):
            parts.append(partial(self._tasks, title, name, queue, queue[f"tasks{title}"]))
        if queue.get("series") or self._place.page("series") > 1:
            parts.append(partial(self._series, queue))
        if queue.get("streams"):
            parts.append(partial(self._streams, queue))
        parts.append(partial(self._ended, queue))
        return self.page(queue["name"], *parts, isLive=True)

    def _tiles(self, queue: Row) -> Tag:
        counts = (queue["ended"] or {"counts": {}})["counts"]
        facts: list[tuple[str, Flattenable]] = [
            ("State", _state(queue)),
            ("Kind", queue["kind"]),
            ("Pending", roughly(queue["pending"])),
            ("Underway", roughly(queue["underway"])),
            ("First waits", length(queue["waited"])),
        ]
        if "workerCount" in queue:
            facts.append(("Workers", f"{queue['workerCount']:,}"))
        if "width" in queue:
            rate = queue["rate"]
            told = "none" if rate is None else f"{rate['rate']:,} in {rate['per']:g} s"
            facts += [("Width", f"{queue['width']:,}"), ("Rate", told)]
        if queue.get("store"):
            facts.append(("Store", queue["store"]))
        facts += [(state.capitalize(), roughly(count)) for state, count in counts.items()]
        return tags.dl(
            [tags.div(tags.dt(name), tags.dd(value)) for name, value in facts], class_="tiles"
        )

    def _steering(self, queue: Row) -> Tag | str:
        forms = []
        verb = "resume" if queue["paused"] else "pause"
        if self.may(queue, verb):
            forms.append(self._form(self._button(verb.capitalize(), verb)))
        for name, verb, label, value in (
            ("count", "processes", "Workers", queue.get("workerCount")),
            ("width", "width", "Width", queue.get("width")),
        ):
            if self.may(queue, verb):
                field = self._typed(label, name, value, "0" if name == "width" else "1", "10000")
                forms.append(self._form(field, self._button("Set", verb, typed={name: ""})))
        if self.may(queue, "rate"):
            rate = queue["rate"] or {"rate": None, "per": 1, "burst": None}
            typed = {"rate": None, "per": 1, "burst": None}
            forms.append(
                self._form(
                    self._typed("Rate", "rate", rate["rate"], "1", "1000000000"),
                    self._typed("in seconds", "per", rate["per"], "0", ""),
                    self._typed("burst", "burst", rate["burst"], "1", "1000000000"),
                    self._button("Set", "rate", typed=typed),
                )
            )
        if self.may(queue, "cancel") and queue["pending"]:
            forms.append(self._form(self._button("Cancel all that wait…", "cancel", all=True)))
        return tags.div(forms, class_="steering") if forms else ""

    def _rates(self, queue: Row) -> Tag | str:
        ended = queue["ended"]
        if ended is None:
            return ""
        rates = [0] * (_SECONDS - len(ended["rates"])) + [*ended["rates"]]
        return tags.figure(
            tags.figcaption("Ended in each of the last 60 seconds"),
            sparkline(rates),
            tags.div(id="chart", **{"hx-morph-skip-children": ""}),
            id="rates",
            **{"data-rates": json.dumps(rates)},
        )

    def _workers(self, queue: Row) -> Tag:
        heads = columns("Worker, State, #Process, #Memory, #Processor time, Runs, #Restarts, Lost,")
        rows: list[tuple[str, list[Flattenable]]] = [
            (f"worker-{worker['id']}", self._workerCells(queue, worker))
            for worker in queue["workers"]
        ]
        table = self._table(
            "Workers", "workers", heads, rows, queue["workersSeen"], queue["workerCount"]
        )
        return self._form(table) if self.may(queue, "recycle") else table

    def _workerCells(self, queue: Row, worker: Row) -> list[Flattenable]:
        runs = [
            tags.div(
                self._link(f"{task['id']}", self._to("task", task["id"])),
                f" {task['function']} {length(task['ran'])}",
            )
            for task in worker["running"][:3]
        ]
        more = worker["tasks"] - len(runs)
        losses = [
            f"{length(loss['ago'])} ago: {loss['reason']}" for loss in reversed(worker["losses"])
        ]
        recycle = self._button(
            "Recycle",
            "recycle",
            f"Replace the process or thread of worker {worker['id']} when its tasks have ended",
            worker=worker["id"],
        )
        used = worker["processorSeconds"]
        return [
            [f"{worker['id']} ", tags.small(" ".join([worker["kind"], *_placeOf(worker)]))],
            _badge(str(worker["state"])),
            str(worker["pid"] or "-"),
            kilobytes(worker["residentKilobytes"]),
            "-" if used is None else length(used),
            [runs, tags.small(f"and {more} more") if more > 0 else ""] if runs else "",
            _restarts(worker),
            _unfolding(f"losses-{worker['id']}", losses),
            recycle if self.may(queue, "recycle") and worker["pid"] else "",
        ]

    def _tasks(self, title: str, name: str, queue: Row, tasks: Sequence[Row]) -> Tag:
        mayCancel = self.may(queue, "cancel")
        heads = columns("Task, Call, Series, #Priority, #Waited, #Ran, #Attempts, Progress")
        if mayCancel:
            heads = [*columns("Choose"), *heads, Column("")]
        rows = [(f"task-{task['id']}", self._taskCells(queue, task, mayCancel)) for task in tasks]
        count = queue[name] if name == "pending" else queue["underwaySeen"]
        below: Flattenable = ""
        if mayCancel:
            button = self._button("Cancel the chosen…", "cancel", chosen="tasks")
            below = tags.p(button, class_="chosen")
        # Those further down cannot be paged through.
        reach = min(count, ROWS * 400)
        table = self._table(title, name, heads, rows, reach, queue[name], below)
        return self._form(table) if mayCancel else table

    def _taskCells(self, queue: Row, task: Row, mayCancel: bool) -> list[Flattenable]:
        id, isWaiting = task["id"], task["state"] == "PENDING"
        cells: list[Flattenable] = [
            self._link(str(id), self._to("task", id)),
            tags.code(str(task.get("call", task["function"]))),
            "" if task["series"] is None else str(task["series"]),
            _priority(task["priority"]),
            length(task["waited"]),
            length(task["ran"]) if task["ran"] is not None else "",
            str(task["attempts"] or ""),
            _progress(task),
        ]
        if not mayCancel:
            return cells
        name = f"Choose task {id}"
        choice = tags.input(type="checkbox", name="chosen", value=str(id), **{"aria-label": name})
        buttons = []
        if isWaiting and self.may(queue, "reprioritise"):
            buttons += [
                self._button(
                    where.capitalize(),
                    "reprioritise",
                    f"Run task {id} {where}",
                    task=id,
                    priority=where,
                )
                for where in ("first", "last")
            ]
        buttons.append(self._button("Cancel…", "cancel", f"Cancel task {id}", tasks=[id]))
        return [choice, *cells, tags.span(buttons, class_="buttons")]

    def _series(self, queue: Row) -> Tag:
        mayCancel = self.may(queue, "cancel")
        rows = []
        for number, series in enumerate(queue["series"]):
            name = series["series"]
            button = self._button(
                "Cancel…", "cancel", f"Cancel what waits of series {name}", series=name
            )
            shown = "no series" if name is None else str(name)
            hint = "" if series["served"] else "No worker is qualified for it."
            cells = [shown, roughly(series["pending"]), hint, button if mayCancel else ""]
            rows.append((f"series-{number}", cells))
        heads = columns("Series, #Pending, Workers,")
        table = self._table(
            "Series", "series", heads, rows, queue["seriesSeen"], queue["seriesCount"]
        )
        return self._form(table) if mayCancel else table

    def _streams(self, queue: Row) -> Tag:
        rows: list[tuple[str, list[Flattenable]]] = [
            (
                f"stream-{stream['task']}",
                [
                    self._link(str(stream["task"]), self._to("task", stream["task"])),
                    tags.code(stream["function"]),
                    roughly(stream["items"]),
                    _credit(stream),
                    "all items have come"
                    if stream["over"]
                    else "its consumer has paused"
                    if stream["paused"]
                    else "open",
                ],
            )
            for stream in queue["streams"]
        ]
        heads = columns("Task, Function, #Items not taken, #Credit left, State")
        return self._table("Streams", "streams", heads, rows, queue["streamsSeen"])

    def _ended(self, queue: Row) -> Tag:
        rows: list[tuple[str, list[Flattenable]]] = [
            (
                f"ended-{task['id']}",
                [
                    self._link(str(task["id"]), self._to("task", task["id"])),
                    _badge(task["state"]),
                    tags.code(str(task.get("call", task["function"]))),
                    length(task["ago"]),
                    length(task["ran"]),
                    _outcome(task),
                ],
            )
            for task in queue["last"]
        ]
        heads = columns("Task, State, Call, #Ago, #Ran, Outcome")
        return self._table("Ended lately", "ended", heads, rows, queue["lastSeen"])

    # One task -------------------------------------------------------------------------------------

    def task(self, data: Row) -> Tag:
        """
        @param data: what is known of a task, and perhaps its stack.
        """
        queue, task = data["queue"], data["task"]
        facts: list[tuple[str, Flattenable]] = [
            ("State", _badge(task["state"])),
            ("Call", tags.code(str(task.get("call", task["function"])))),
            ("Series", "-" if task["series"] is None else str(task["series"])),
            ("Priority", _priority(task["priority"])),
            ("Waited", length(task["waited"])),
            ("Ran", length(task["ran"])),
            ("Attempts", str(task["attempts"])),
        ]
        for name in ("niceness", "worker", "dueIn", "durable"):
            if task.get(name) is not None:
                shown = length(task[name]) if name == "dueIn" else str(task[name]).lower()
                facts.append(("Due in" if name == "dueIn" else name.capitalize(), shown))
        if task.get("progress"):
            facts.append(("Progress", _progress(task)))
        for name in ("result", "error"):
            if task.get(name):
                facts.append((name.capitalize(), tags.span(task[name], class_="text")))
        listed = [tags.div(tags.dt(name), tags.dd(value)) for name, value in facts]
        parts: list[Part] = [tags.dl(listed, class_="facts"), self._steerTask(queue, task)]
        for title, text in (("What it is doing", data["stack"]), ("Error", task.get("traceback"))):
            if text:
                parts += [tags.h2(title), tags.pre(text, tabindex="0")]
        return self.page(f"Task {task['id']}", *parts, isLive=True)

    def _steerTask(self, queue: Row, task: Row) -> Tag | str:
        if task["state"] not in ("PENDING", "UNDERWAY"):
            return ""
        forms = []
        id, priority = task["id"], task["priority"]
        if task["state"] == "PENDING" and self.may(queue, "reprioritise"):
            value = priority if isinstance(priority, int | float) else None
            forms.append(
                self._form(
                    self._button("First", "reprioritise", task=id, priority="first"),
                    self._button("Last", "reprioritise", task=id, priority="last"),
                )
            )
            forms.append(
                self._form(
                    self._typed("Priority", "priority", value, "", ""),
                    self._button("Set", "reprioritise", task=id, typed={"priority": ""}),
                )
            )
        if self.may(queue, "cancel"):
            forms.append(self._form(self._button("Cancel…", "cancel", tasks=[id])))
        if task["state"] == "UNDERWAY" and self.may(queue, "terminate"):
            title = "End the task's process at once"
            forms.append(self._form(self._button("Terminate…", "terminate", title, task=id)))
        return tags.div(forms, class_="steering") if forms else ""

    # Dead letters ---------------------------------------------------------------------------------

    def dead(self, data: Row) -> Tag:
        """
        @param data: a page of the dead letters of a queue, and their kinds.
        """
        queue, found = data["queue"], data["dead"]
        mayRetry, mayDrop = self.may(queue, "retry"), self.may(queue, "drop")

        def buttons(what: str, **request: object) -> Tag:
            made = []
            if mayRetry:
                made.append(self._button("Retry", "retry", f"Retry {what}", **request))
            if mayDrop:
                made.append(self._button("Drop…", "drop", f"Drop {what}", **request))
            return tags.span(made, class_="buttons")

        kinds: list[tuple[str, list[Flattenable]]] = [
            (
                f"kind-{kind['kind']}",
                [
                    roughly(kind["count"]),
                    tags.span(kind["error"], class_="text"),
                    buttons("all of this kind", kind=kind["kind"]),
                ],
            )
            for kind in found["kinds"]
        ]
        letters: list[tuple[str, list[Flattenable]]] = [
            (
                f"letter-{letter['id']}",
                [
                    tags.input(
                        type="checkbox",
                        name="chosen",
                        value=str(letter["id"]),
                        **{"aria-label": f"Choose dead letter {letter['id']}"},
                    ),
                    str(letter["id"]),
                    tags.code(str(letter.get("call", letter["function"]))),
                    str(letter["attempts"]),
                    _outcome(letter),
                    buttons(f"dead letter {letter['id']}", jobs=[letter["id"]]),
                ],
            )
            for letter in found["letters"]
        ]
        below = []
        if mayRetry:
            below.append(self._button("Retry the chosen", "retry", chosen="jobs"))
        if mayDrop:
            below.append(self._button("Drop the chosen…", "drop", chosen="jobs"))
            below.append(self._button("Drop all…", "drop", all=True))
        count = found["count"]
        return self.page(
            "Dead letters",
            self._form(
                self._table("Kinds", "kinds", columns("#Count, Error,"), kinds, found["kindsSeen"])
            ),
            self._form(
                self._table(
                    "Letters",
                    "letters",
                    columns("Choose, Job, Call, #Attempts, Error,"),
                    letters,
                    min(count, ROWS * 400),
                    count,
                    tags.p(below, class_="chosen"),
                )
            ),
            isLive=True,
        )

    # Others ---------------------------------------------------------------------------------------

    def sure(self, question: str, request: JSONObject) -> Tag:
        """
        @param question: what would be done.
        @param request: the whole request.
        """
        return self.page(
            "Are you sure?",
            tags.p(question, "? This cannot be undone.", class_="text"),
            self._form(
                tags.input(type="hidden", name="sure", value="yes"),
                tags.button("Yes", type="submit", name="act", value=json.dumps(request)),
                " ",
                self._link("No, go back", self._place, class_="button"),
                class_="steering",
            ),
        )

    def sorry(self, title: str, why: str) -> Tag:
        """
        @param why: what went wrong.
        """
        back = self._link("Go back", self._place)
        return self.page(title, tags.p(why, class_="wrong"), tags.p(back))


# Parts of cells -----------------------------------------------------------------------------------


def _state(queue: Row) -> Tag:
    return _badge("PAUSED" if queue["paused"] else str(queue["state"]))


def _badge(state: str) -> Tag:
    return tags.span(state.lower(), class_=f"badge {state.lower() if state.isalpha() else ''}")


def _priority(priority: object) -> str:
    return f"{priority:g}" if isinstance(priority, float) else str(priority)


def _progress(task: Row) -> Flattenable:
    told = task.get("progress")
    if not told:
        return ""
    done, total = told["done"], told["total"]
    if isinstance(done, int | float) and isinstance(total, int | float) and total > 0:
        bar = tags.progress(value=f"{done}", max=f"{total}", **{"aria-label": "Progress"})
        return [bar, " ", progressOf(task)]
    return progressOf(task)


def _placeOf(worker: Row) -> list[str]:
    """
    @return: where a worker's calls run, if that is elsewhere.
    """
    place = worker["place"].items()
    return [f"{name} {value}" for name, value in place if value is not None]


def _restarts(worker: Row) -> str:
    recycled = worker["recycled"]
    told = f", {recycled:,} of them to recycle" if recycled else ""
    return f"{worker['restarts']:,}{told}"


def _credit(stream: Row) -> str:
    """
    @return: how much more the far side of a stream may send.
    """
    if stream["creditItems"] is None:
        return "-"
    return f"{stream['creditItems']:,} items, {stream['creditBytes'] / 1024:,.0f} KiB"


def _unfolding(id: str, lines: Sequence[str]) -> Flattenable:
    """
    @return: the first of some lines, which unfolds the others.
    """
    if len(lines) < 2:
        return [*lines]
    return tags.details(tags.summary(lines[0]), [tags.div(line) for line in lines[1:]], id=id)


def _outcome(row: Row) -> Flattenable:
    """
    @return: the error or the result of a task, a job or a dead letter. An error unfolds its
        traceback, if there is one.
    """
    text = row.get("error", row.get("result", ""))
    shown = tags.span(text, class_="text") if text else ""
    if not row.get("traceback"):
        return shown
    id = f"traceback-{row['id']}"
    return tags.details(tags.summary(shown), tags.pre(row["traceback"], tabindex="0"), id=id)


def sparkline(rates: Sequence[int]) -> Tag:
    """
    @param rates: how many ended in each second, the last one being now.
    @return: a small picture, and the rate of the last ten whole seconds.
    """
    most = max(rates, default=0) or 1
    bars, start = [], _SECONDS - len(rates)
    for number, count in enumerate(rates, start):
        if count:
            high = max(1, round(_BAR_HEIGHT * count / most))
            bars.append(f"M{number * _BAR_WIDTH} {_BAR_HEIGHT}v-{high}h{_BAR_WIDTH}v{high}z")
    whole = rates[-11:-1]
    each = sum(whole) / len(whole) if whole else 0.0
    width = _SECONDS * _BAR_WIDTH
    path = Tag("path", attributes={"d": "".join(bars)})
    picture = Tag(
        "svg",
        attributes={
            "viewBox": f"0 0 {width} {_BAR_HEIGHT}",
            "width": str(width),
            "height": str(_BAR_HEIGHT),
            "role": "img",
            "aria-label": f"{each:.1f} ended each second lately, {most} at most",
            "preserveAspectRatio": "none",
        },
    )
    return tags.span(picture(path), " ", tags.small(f"{each:.1f}/s"), class_="spark")
