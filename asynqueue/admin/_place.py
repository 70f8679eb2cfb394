"""
The addresses of the pages: which queue, task and part of a table one of them shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, urlencode

from asynqueue.admin.api import DEEPEST

ROWS: Final = 25
"""How many rows of a table are on a page."""

REFRESH_SECONDS: Final = 5
"""How often a page without scripts is shown anew, if that is wanted."""

TABLES: Final[Mapping[str, Sequence[str]]] = {
    "queues": (),
    "queue": ("pending", "underway", "workers", "series", "streams", "ended"),
    "task": (),
    "dead": ("letters", "kinds"),
}
"""The tables of each view that have pages."""

_DEPTHS: Final = {"queues": 0, "queue": 2, "task": 3, "dead": 2}


class NoSuchPage(Exception):
    """
    There is no such address.
    """


@dataclass(frozen=True)
class Place:
    """
    The contents of an address.

    @ivar view: one of L{TABLES}.
    @ivar program: the key of the program.
    @ivar queue: the name of the queue.
    @ivar task: the number of the task.
    @ivar pages: the number of each table's page, beginning with 1, unless it is the first.
    @ivar isRefreshed: whether the page is shown anew every few seconds without scripts.
    """

    view: str = "queues"
    program: str = ""
    queue: str = ""
    task: int = 0
    pages: Mapping[str, int] = field(default_factory=dict)
    isRefreshed: bool = False

    @classmethod
    def read(cls, parts: Sequence[str], fields: Mapping[str, Sequence[str]]) -> Place:
        """
        @param parts: the parts of the address's path.
        @param fields: its fields.
        @raise NoSuchPage: if it is none of ours.
        @raise ValueError: if a number makes no sense.
        """
        view, *rest = parts or ["queues"]
        if view not in TABLES or len(rest) != _DEPTHS[view] or (parts and view == "queues"):
            raise NoSuchPage("There is no such page.")
        task = _whole("the task's number", rest[2], 2**63) if view == "task" else 0
        pages = {}
        for table in TABLES[view]:
            for typed in fields.get(table, ())[:1]:
                pages[table] = _whole(f"the page of {table}", typed, DEEPEST // ROWS)
        program, queue = rest[:2] or ("", "")
        return cls(view, program, queue, task, pages, "refresh" in fields)

    def page(self, table: str) -> int:
        """
        @return: the page of a table, from 1.
        """
        return self.pages.get(table, 1)

    def with_(self, view: str, program: str, queue: str, task: int = 0) -> Place:
        """
        @return: another place, from its beginning.
        """
        return Place(view, program, queue, task, isRefreshed=self.isRefreshed)

    def turned(self, table: str, page: int) -> Place:
        """
        @return: this place with another page of a table.
        """
        return replace(self, pages={**self.pages, table: page})

    def path(self, head: str = "") -> str:
        """
        @param head: what comes before the parts.
        @return: the path, and the fields.
        """
        parts = [] if self.view == "queues" else [self.view, self.program, self.queue]
        if self.view == "task":
            parts.append(str(self.task))
        fields = {table: str(page) for table, page in self.pages.items() if page != 1}
        if self.isRefreshed:
            fields["refresh"] = "1"
        path = "/".join([head, *(quote(part, safe="", errors="surrogatepass") for part in parts)])
        return (path or "/") + (f"?{urlencode(fields)}" if fields else "")


def _whole(what: str, typed: str, most: int) -> int:
    # No more digits are read than the greatest number has.
    isWhole = typed.isascii() and typed.isdigit() and len(typed) <= len(str(most))
    if not isWhole or not 1 <= int(typed) <= most:
        raise ValueError(f"{what} must be an integer from 1 to {most}, not {typed[:40]!r}")
    return int(typed)
