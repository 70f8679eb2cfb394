"""
C{asynqueue top}: the queues of this user's programs, live in a terminal. Standard library alone.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asynqueue._core.states import Table, nextState
from asynqueue.admin._texts import kilobytes, length, progressOf
from asynqueue.admin.client import AdminClient, findSockets
from asynqueue.errors import AdminError

ANSWER_SECONDS: Final = 2.0
"""A program that does not answer within so many seconds is left out until the next look."""

PAGE: Final = 25
"""How many of the tasks that wait are shown at a time."""

MOST_WORKERS: Final = 8
"""How many workers are shown above the tasks."""

MOST_STREAMS: Final = 4
"""How many streams are shown above the tasks."""

LETTERS: Final = 100
"""How many dead letters are shown."""

_BARS: Final = " ▁▂▃▄▅▆▇█"

HELP: Final = """\
Tab          the next queue               q  leave
Up, Down     another task                 ?  this text
n, b         the next page of what waits, the one before
c            cancel the task              C  cancel all that wait
T            terminate the task: kill its process at once
f, l         run the task first, last
p            pause the queue, or resume it
+, -         more or fewer processes, or jobs at once
s            what the task's worker is doing (its Python stack)
r            replace the process of the task's worker when it has ended its tasks
e            what has ended lately, with its errors
d            the dead letters, with their tracebacks
R, D         retry all dead letters, drop them all
"""

if TYPE_CHECKING:
    from asynqueue.interfaces import JSONObject as Row

# The programs -------------------------------------------------------------------------------------


class Found(NamedTuple):
    """
    One queue of one program.

    @ivar client: asks the program.
    @ivar summary: the queue, as the program last described it.
    """

    client: Any
    summary: Row

    @property
    def name(self) -> str:
        """
        The queue's name there.
        """
        return str(self.summary["name"])

    def ask(self, verb: str, **parameters: object) -> Any:
        """
        @raise AdminError: if the program refuses, or is gone.
        """
        return self.client.ask(verb, queue=self.name, **parameters)


class Programs:
    """
    The programs that can be seen.
    """

    def __init__(
        self,
        path: str | None = None,
        find: Callable[[], Sequence[str]] = findSockets,
        connect: Callable[[str], Any] = lambda path: AdminClient(path, ANSWER_SECONDS),
    ) -> None:
        """
        @param path: the socket of the one program to look at. Default: all programs of the user.
        @param find: finds the sockets.
        @param connect: connects to one, or raises C{AdminError}.
        """
        self._path = path
        self._find = find
        self._connect = connect
        self._clients: dict[str, Any] = {}

    def look(self) -> list[Found]:
        """
        @return: the queues of all programs that answer now.
        @raise AdminError: if the one program does not, or the sockets' folder is not the user's.
        """
        paths = self._find() if self._path is None else [self._path]
        for path in [*self._clients]:
            if path not in paths:
                self._clients.pop(path).close()
        found = []
        for path in paths:
            try:
                if path not in self._clients:
                    self._clients[path] = self._connect(path)
                client = self._clients[path]
                found += [Found(client, summary) for summary in client.ask("queues")]
            except AdminError:
                client = self._clients.pop(path, None)
                if client is not None:
                    client.close()
                if self._path is not None:
                    raise
        return found

    def close(self) -> None:
        """
        Leave all programs.
        """
        while self._clients:
            self._clients.popitem()[1].close()


# As text ------------------------------------------------------------------------------------------


def printable(text: object) -> str:
    """
    @return: a text without anything that a terminal obeys, or that changes the order of the text.
    """
    return "".join(each if each.isprintable() else "?" for each in str(text))


def fit(text: str, width: int) -> str:
    """
    @return: a text that takes so many columns: cut off, or filled up with spaces.
    """
    taken, kept = 0, []
    for each in text:
        columns = 2 if unicodedata.east_asian_width(each) in "WF" else 1
        if unicodedata.combining(each):
            columns = 0
        if taken + columns > width:
            break
        taken += columns
        kept.append(each)
    return "".join(kept) + " " * (width - taken)


def bars(counts: Sequence[int]) -> str:
    """
    @return: a line of bars, one for each count.
    """
    most = max(counts, default=0) or 1
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)


def describe(seen: Row) -> Iterator[str]:
    """
    @param seen: a snapshot of a queue.
    @return: its lines above the tasks.
    """
    state = "PAUSED" if seen["paused"] else seen["state"]
    facts = [f"{seen['pending']} pending", f"{seen['underway']} underway"]
    if "width" in seen:
        facts.append(f"width {seen['width']}")
    if seen.get("rate"):
        rate = seen["rate"]
        facts.append(f"rate {rate['rate']} in {rate['per']:g}s")
    facts.append(f"first waits {length(seen['waited'])}")
    yield printable(f"{seen['name']}  {seen['kind']}  {state}  {', '.join(facts)}")
    ended = seen["ended"]
    if ended is not None:
        counts = ", ".join(f"{count} {state}" for state, count in ended["counts"].items())
        yield printable(f"ended: {counts or 'none'} in {length(ended['for'])}  ") + bars(
            ended["rates"]
        )
    workers = seen.get("workers", [])
    if workers:
        yield ""
        yield (
            fit("WORKER", 24)
            + fit("STATE", 10)
            + fit("PID", 9)
            + fit("RSS", 8)
            + fit("RESTARTS", 10)
            + "RUNS"
        )
    for worker in workers[:MOST_WORKERS]:
        runs = ", ".join(f"{task['function']} {length(task['ran'])}" for task in worker["running"])
        lost = [f"lost {length(loss['ago'])} ago: {loss['reason']}" for loss in worker["losses"]]
        yield printable(
            fit(f"{worker['id']} {worker['kind']}", 24)
            + fit(str(worker["state"]), 10)
            + fit(str(worker["pid"] or "-"), 9)
            + fit(kilobytes(worker["residentKilobytes"]), 8)
            + fit(str(worker["restarts"]), 10)
            + (runs or "".join(lost[-1:]))
        )
        about = [f"{name} {value}" for name, value in worker.get("place", {}).items() if value]
        if worker.get("recycled"):
            about.append(f"recycled {worker['recycled']} times")
        if runs and lost:
            about.append(lost[-1])
        if about:
            yield printable(f"  {', '.join(about)}")
    if len(workers) > MOST_WORKERS:
        yield f"... and {seen['workerCount'] - MOST_WORKERS} more"
    yield from describeStreams(seen.get("streams", []))


def describeStreams(streams: Sequence[Row]) -> Iterator[str]:
    """
    @return: a line for each of the first streams.
    """
    if streams:
        yield ""
    for stream in streams[:MOST_STREAMS]:
        facts = [f"{stream['items']} items wait here"]
        if stream["creditItems"] is not None:
            size = f"{stream['creditBytes'] / 1024:.0f}K"
            facts.append(f"{stream['creditItems']} items or {size} more may come")
        facts += [word for word in ("paused", "over") if stream[word]]
        yield printable(f"stream of {stream['task']} {stream['function']}: {', '.join(facts)}")
    if len(streams) > MOST_STREAMS:
        yield f"... and {len(streams) - MOST_STREAMS} more streams"


def describeEnded(ended: Sequence[Row]) -> str:
    """
    @return: what has ended lately, the latest first, with the errors of what has failed.
    """
    lines = []
    for task in ended:
        lines.append(
            fit(str(task["id"]), 9)
            + fit(task["state"], 10)
            + fit(f"{length(task['ago'])} ago", 12)
            + fit(length(task["ran"]), 8)
            + str(task.get("call", task["function"]))
        )
        error = task.get("traceback") or task.get("error")
        lines += [f"    {line}" for line in (error or "").splitlines()]
    return "\n".join(lines) or "Nothing has ended since somebody looks."


def describeLetters(answer: Row) -> str:
    """
    @return: dead letters with their tracebacks.
    """
    lines = [f"{answer['count']} dead letters"]
    for letter in answer["letters"]:
        call = letter.get("call", letter["function"])
        lines.append(f"{fit(str(letter['id']), 9)}{letter['attempts']} attempts  {call}")
        text = letter["traceback"] or letter["error"] or ""
        lines += [f"    {line}" for line in text.splitlines()]
    return "\n".join(lines)


TASKS_HEADER: Final = (
    fit("TASK", 9) + fit("STATE", 10) + fit("WAITED", 8) + fit("RAN", 8) + fit("PRIORITY", 10)
) + (fit("SERIES", 14) + fit("DONE", 6) + "FUNCTION")


def describeTask(task: Row) -> str:
    """
    @return: one task in a line.
    """
    priority = task["priority"]
    series = "-" if task["series"] is None else str(task["series"])
    return printable(
        fit(str(task["id"]), 9)
        + fit(str(task["state"]), 10)
        + fit(length(task["waited"]), 8)
        + fit(length(task["ran"]), 8)
        + fit(f"{priority:g}" if isinstance(priority, int | float) else str(priority), 10)
        + fit(series, 14)
        + fit(printable(progressOf(task)), 6)
        + str(task.get("call", task["function"]))
    )


def describeAll(found: Sequence[Found]) -> str:
    """
    @return: everything as text, for an output that is no terminal.
    """
    lines: list[str] = []
    for each in found:
        greeting, seen = each.client.greeting, each.ask("snapshot", size=PAGE)
        lines += [printable(f"{greeting['program']} (process {greeting['pid']})"), *describe(seen)]
        tasks = [*seen["tasksUnderway"], *seen["tasksPending"]]
        if tasks:
            lines += ["", TASKS_HEADER, *map(describeTask, tasks)]
        lines.append("")
    return "\n".join(line.rstrip() for line in lines)


def asJSON(found: Sequence[Found]) -> str:
    """
    @return: everything as one JSON document: a list of programs, each with its queues.
    """
    programs: dict[int, Row] = {}
    for each in found:
        program = programs.setdefault(id(each.client), {**each.client.greeting, "queues": []})
        program["queues"].append(each.ask("snapshot", size=PAGE))
    return json.dumps([*programs.values()], indent=1)


# The live view ------------------------------------------------------------------------------------

LIST: Final = "LIST"
CONFIRMING: Final = "CONFIRMING"
TEXT: Final = "TEXT"
LEFT: Final = "LEFT"

VIEW: Final[Table] = {
    # The queue and its tasks.
    LIST: {"ask": CONFIRMING, "show": TEXT, "leave": LEFT},
    # It is asked whether something is meant that cannot be undone.
    CONFIRMING: {"back": LIST, "leave": LEFT},
    # A long text covers everything.
    TEXT: {"back": LIST, "leave": LEFT},
    LEFT: {},
}


class Top:
    """
    What is shown, and what the keys do.

    @ivar state: a state of L{VIEW}.
    """

    def __init__(self, programs: Programs, queue: str | None = None) -> None:
        """
        @param queue: the name of the queue to begin with.
        """
        self.state: str = LIST
        self._programs = programs
        self._wanted = queue
        self._found: list[Found] = []
        self._index = 0
        self._selected = 0
        self._page = 0
        self._seen: Row | None = None
        self._message = ""
        self._text: list[str] = []
        # How many of its lines are above the screen.
        self._above = 0
        # What is done if the answer is yes.
        self._confirmed: Callable[[], object] = lambda: None

    def _move(self, event: str) -> None:
        self.state = nextState(VIEW, self.state, event, self)

    # Looking --------------------------------------------------------------------------------------

    def look(self) -> None:
        """
        Ask the programs.

        @raise AdminError: if nothing can be asked at all.
        """
        self._found = self._programs.look()
        if self._wanted is not None:
            names = [each.name for each in self._found]
            if self._wanted in names:
                self._index, self._wanted = names.index(self._wanted), None
        self._index = min(self._index, max(0, len(self._found) - 1))
        self._seen = None
        if self._found:
            try:
                self._seen = self._queue.ask("snapshot", page=self._page, size=PAGE)
            except AdminError as error:
                self._message = str(error)
        self._selected = min(self._selected, max(0, len(self._tasks) - 1))

    @property
    def _queue(self) -> Found:
        return self._found[self._index]

    @property
    def _tasks(self) -> list[Row]:
        seen = self._seen
        return [] if seen is None else [*seen["tasksUnderway"], *seen["tasksPending"]]

    @property
    def _task(self) -> Row | None:
        tasks = self._tasks
        return tasks[self._selected] if tasks else None

    def lines(self, width: int, height: int) -> list[str]:
        """
        @return: what is shown now, in so many columns and at most so many lines.
        """
        if self.state == TEXT:
            shown = self._text[self._above : self._above + height - 1]
            shown.append("-- Up, Down and Space scroll, any other key leaves --")
            return [fit(printable(line), width) for line in shown]
        tabs = "  ".join(
            f"[{each.name}]" if index == self._index else each.name
            for index, each in enumerate(self._found)
        )
        top = [f"asynqueue top   {tabs or 'no program can be seen'}"]
        if self._found:
            greeting = self._queue.client.greeting
            top.append(f"{greeting['program']} (process {greeting['pid']})")
        else:
            top += ["", _HINT]
        lines = [printable(line) for line in top]
        if self._seen is not None:
            lines += ["", *describe(self._seen), "", f" {TASKS_HEADER}"]
            room = max(1, height - len(lines) - 1)
            first = max(0, self._selected - room + 1)
            for index, task in enumerate(self._tasks[first : first + room], first):
                lines.append((">" if index == self._selected else " ") + describeTask(task))
        lines = lines[: height - 1]
        lines += [""] * (height - 1 - len(lines))
        lines.append(printable(self._message) or "q leave  ? keys")
        return [fit(line, width) for line in lines]

    # Keys -----------------------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """
        Do what a key means.

        @param key: a character, or one of C{"up"} and C{"down"}.
        """
        if self.state == TEXT:
            self._scroll(key)
        elif self.state == CONFIRMING:
            self._move("back")
            self._message = ""
            if key == "y":
                self._try(self._confirmed)
        elif key in ("q", "\x03", "\x04"):
            self._move("leave")
        elif key == "?":
            self._show(HELP)
        elif self._found and self._seen is not None:
            self._message = ""
            self._steer(key, self._seen)

    def _steer(self, key: str, seen: Row) -> None:
        task = self._task
        if key in ("up", "k"):
            self._selected = max(0, self._selected - 1)
        elif key in ("down", "j"):
            self._selected = min(max(0, len(self._tasks) - 1), self._selected + 1)
        elif key == "\t":
            self._index = (self._index + 1) % len(self._found)
            self._selected = self._page = 0
        elif key in ("n", "b"):
            following = self._page + (1 if key == "n" else -1)
            self._page = max(0, min(following, (seen["pending"] - 1) // PAGE))
        elif key == "p":
            verb = "resume" if seen["paused"] else "pause"
            self._act(f"{verb}: done", verb)
        elif key in ("+", "-"):
            self._resize(seen, 1 if key == "+" else -1)
        elif key == "C":
            what = f"cancel all {seen['pending']} that wait in {self._queue.name}"
            self._ask(what, "cancelled", "cancel", all=True)
        elif key == "e":
            self._show(describeEnded(seen.get("last", [])))
        elif key in ("d", "R", "D"):
            self._steerLetters(key)
        elif task is None:
            self._message = "there is no task"
        else:
            self._steerTask(key, task)

    def _steerLetters(self, key: str) -> None:
        def show() -> None:
            self._show(describeLetters(self._queue.ask("deadLetters", size=LETTERS)))

        if key == "d":
            self._try(show)
        elif key == "R":
            self._ask(f"retry all dead letters of {self._queue.name}", "done", "retry", all=True)
        else:
            self._ask(f"drop all dead letters of {self._queue.name}", "done", "drop", all=True)

    def _steerTask(self, key: str, task: Row) -> None:
        if key == "c":
            what = f"cancel {task['id']}, {task['function']}, which is {task['state']}"
            self._ask(what, "cancelled", "cancel", tasks=[task["id"]])
        elif key == "T":
            what = f"kill the process of {task['id']}, {task['function']}"
            self._ask(what, "terminated", "terminate", task=task["id"])
        elif key in ("f", "l"):
            where = "first" if key == "f" else "last"
            what = f"task {task['id']} runs {where}"
            self._act(what, "reprioritise", task=task["id"], priority=where)
        elif key == "r":
            what = f"worker {task.get('worker')} gets a new runner soon"
            self._act(what, "recycle", worker=task.get("worker"))
        elif key == "s":
            self._try(lambda: self._show(self._queue.ask("stacks", task=task["id"])["text"]))

    def _resize(self, seen: Row, by: int) -> None:
        if "width" in seen:
            count = max(0, seen["width"] + by)
            self._act(f"width {count}", "width", width=count)
        else:
            count = max(1, seen["workerCount"] + by)
            self._act(f"{count} workers", "processes", count=count)

    def _act(self, done: str, verb: str, **parameters: object) -> None:
        def act() -> None:
            self._queue.ask(verb, **parameters)
            self._message = done

        self._try(act)

    def _ask(self, what: str, done: str, verb: str, **parameters: object) -> None:
        """
        Ask whether something is meant that cannot be undone.

        @param done: the word in the answer to the verb.
        """
        queue = self._queue

        def act() -> None:
            answer = queue.ask(verb, **parameters)
            found = answer[done]
            self._message = f"{len(found) if isinstance(found, list) else found} {done}"

        self._move("ask")
        self._message = f"{what}? (y/n)"
        self._confirmed = act

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except AdminError as error:
            self._message = str(error)

    def _show(self, text: str) -> None:
        self._text = text.splitlines()
        self._above = 0
        self._move("show")

    def _scroll(self, key: str) -> None:
        by = {"up": -1, "k": -1, "down": 1, "j": 1, " ": PAGE}.get(key)
        if by is None:
            self._move("back")
        else:
            self._above = min(max(0, self._above + by), max(0, len(self._text) - 1))


_KEYS: Final = {"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down"}


def keysOf(typed: str) -> list[str]:
    """
    @return: the keys that a terminal has sent, one of C{Top.press} each.
    """
    keys = []
    while typed:
        sequence = next((each for each in _KEYS if typed.startswith(each)), None)
        if sequence is not None:
            keys.append(_KEYS[sequence])
            typed = typed[len(sequence) :]
        else:
            keys.append(typed[0])
            typed = typed[1:]
    return keys


@contextmanager
def screen(terminal: int) -> Iterator[None]:
    """
    Have a terminal give each key at once and show another screen, and leave it as it was.
    """
    import termios
    import tty

    def terminated(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = termios.tcgetattr(terminal)
    handlers = {number: signal.signal(number, terminated) for number in (signal.SIGTERM,)}
    try:
        tty.setcbreak(terminal)
        _write("\x1b[?1049h\x1b[?25l")
        yield
    finally:
        _write("\x1b[?25h\x1b[?1049l")
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    data = text.encode(encoding, "replace")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


def runLive(top: Top, interval: float) -> None:
    """
    Show the queues until the user leaves.

    @param interval: how many seconds there are between two looks.
    @raise AdminError: if nothing can be asked at all.
    """
    terminal = sys.stdin.fileno()
    with screen(terminal), suppress(KeyboardInterrupt):
        while top.state != LEFT:
            if top.state == LIST:
                top.look()
            columns, rows = shutil.get_terminal_size()
            lines = top.lines(columns, rows)
            _write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
            if select.select([terminal], [], [], interval)[0]:
                typed = os.read(terminal, 1024)
                if not typed:
                    return
                for key in keysOf(typed.decode(errors="replace")):
                    if top.state != LEFT:
                        top.press(key)


def run(path: str | None, queue: str | None, interval: float, once: bool, isJSON: bool) -> None:
    """
    Do what C{asynqueue top} does.

    @raise AdminError: if nothing can be asked at all.
    """
    programs = Programs(path)
    try:
        if isJSON or once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            found = [each for each in programs.look() if queue in (None, each.name)]
            if queue is not None and not found:
                raise AdminError(f"no program that can be seen has a queue {queue!r}")
            text = asJSON(found) if isJSON else describeAll(found)
            _write(text + "\n" if text else f"No program can be seen. {_HINT}\n")
        else:
            runLive(Top(programs, queue), interval)
    finally:
        programs.close()


_HINT: Final = "Call queue.admin(), or start it with ASYNQUEUE_ADMIN=1 in its environment."
