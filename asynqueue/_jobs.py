"""
C{asynqueue jobs}: the jobs in the store of a dispatch queue, whether a program has it open or not.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any, Final

from asynqueue._core.description import shortly
from asynqueue._core.states import PENDING
from asynqueue._dispatch.sqlitestore import APPLICATION, SQLiteJobStore
from asynqueue._dispatch.stores import BEGUN, DEAD, END, REQUEUE, WAITING, Change, StoredJob
from asynqueue.admin._texts import length
from asynqueue.admin._top import fit, printable
from asynqueue.admin.api import plainPriority
from asynqueue.admin.client import AdminClient, findSockets
from asynqueue.errors import AdminError, StoreError, StoreLocked
from asynqueue.interfaces import JSONObject

_MAGIC: Final = b"SQLite format 3\0"

_APPLICATION_PLACE: Final = slice(68, 72)

_PAGE: Final = 500

_PAGES: Final = 20

Facts = JSONObject
"""What is told of a job: C{id}, C{state}, C{function}, C{priority}, C{attempts}, and more."""


class JobsError(Exception):
    """
    The command cannot be carried out. The text says why in one sentence.
    """


class FileJobs:
    """
    The jobs in a store that nobody has open.
    """

    def __init__(self, path: str) -> None:
        """
        Open the store.

        @raise JobsError: if there is no store.
        @raise StoreError: if it cannot be opened; C{StoreLocked} if a program has it open.
        """
        # Only a store is opened, because one that is corrupt is set aside under another name.
        try:
            with open(path, "rb") as file:
                head = file.read(100)
        except OSError as error:
            raise JobsError(f"cannot read {path}: {error.strerror}") from error
        isStore = head[_APPLICATION_PLACE] == APPLICATION.to_bytes(4, "big")
        if not (head.startswith(_MAGIC) and isStore):
            raise JobsError(f"{path} is not one of asynqueue's stores")
        self._store = SQLiteJobStore(path)
        self._jobs = {job.id: job for job in self._store.open()}

    def close(self) -> None:
        """
        Close the store.
        """
        self._store.close()

    def all(self) -> list[Facts]:
        """
        @return: all jobs, in the order of putting.
        """
        return [_factsOf(job) for job in self._jobs.values()]

    def export(self) -> list[Facts]:
        """
        @return: all jobs with everything that the store has of them.
        """
        return [{**_factsOf(job), **_encoded(job.arg)} for job in self._jobs.values()]

    def retry(self, ids: list[int] | None) -> list[int]:
        """
        Have dead letters wait again.

        @param ids: their numbers, or C{None} for all of them.
        @return: the numbers of those that wait again.
        @raise JobsError: if one cannot. Then none was changed.
        """
        chosen = self._choose(ids, isDead=True)
        keys = {job.unique for job in self._jobs.values() if job.state != DEAD}
        for job in chosen:
            if job.unique is not None and job.unique in keys:
                raise JobsError(f"job {job.id} cannot wait, because another has its key")
            keys.add(job.unique)
        return self._apply([(REQUEUE, job.id, job.function) for job in chosen])

    def cancel(self, ids: list[int] | None) -> list[int]:
        """
        Forget jobs that wait, as L{retry} does its work.
        """
        return self._apply([(END, job.id) for job in self._choose(ids, isDead=False)])

    def drop(self, ids: list[int] | None) -> list[int]:
        """
        Forget dead letters, as L{retry} does its work.
        """
        return self._apply([(END, job.id) for job in self._choose(ids, isDead=True)])

    def _choose(self, ids: list[int] | None, isDead: bool) -> list[StoredJob]:
        if ids is None:
            return [job for job in self._jobs.values() if (job.state == DEAD) == isDead]
        chosen = {}
        for id in ids:
            job = self._jobs.get(id)
            if job is None:
                raise JobsError(f"there is no job {id}")
            if (job.state == DEAD) != isDead:
                what = "no dead letter" if isDead else "a dead letter, which can be dropped"
                raise JobsError(f"job {id} is {what}")
            chosen[id] = job
        return [*chosen.values()]

    def _apply(self, changes: list[Change]) -> list[int]:
        if changes:
            self._store.apply(changes)
        return [change[1] for change in changes]


def _factsOf(job: StoredJob) -> JSONObject:
    return {
        "id": job.id,
        "state": job.state,
        "function": job.function,
        "priority": plainPriority(job.priority),
        "attempts": job.attempts,
        "queued": job.queued,
        "due": job.due,
        "unique": job.unique,
        "error": job.error,
        "argument": job.arg if isinstance(job.arg, str) else shortly(job.arg),
    }


def _encoded(argument: str | bytes) -> JSONObject:
    if isinstance(argument, str):
        return {"argument": argument}
    return {"argument": None, "argumentBase64": base64.b64encode(argument).decode()}


class OwnersJobs:
    """
    The jobs in a store that a program has open, asked of that program over its admin socket.
    """

    def __init__(self, client: AdminClient, queue: str) -> None:
        self._client = client
        self._queue = queue

    def close(self) -> None:
        """
        Leave the program.
        """
        self._client.close()

    def all(self) -> list[Facts]:
        """
        @return: the jobs that are underway, those that wait and the dead letters: the first ten
            thousand of each.
        """
        now = time.time()
        jobs: list[Facts] = []
        for page in range(_PAGES):
            seen = self._ask("snapshot", page=page, size=_PAGE)
            tasks = [*(seen["tasksUnderway"] if not page else ()), *seen["tasksPending"]]
            jobs += [_seenFacts(task, now) for task in tasks]
            if len(seen["tasksPending"]) < _PAGE:
                break
        for page in range(_PAGES):
            letters = self._ask("deadLetters", page=page, size=_PAGE)["letters"]
            jobs += map(_deadFacts, letters)
            if len(letters) < _PAGE:
                break
        return sorted(jobs, key=lambda job: int(job["id"]))

    def export(self) -> list[Facts]:
        """
        @raise JobsError: always, because a program does not show everything.
        """
        raise JobsError("the store is in use, and only the file itself has everything to export")

    def retry(self, ids: list[int] | None) -> list[int]:
        """
        See L{FileJobs.retry}. Some may have been changed if this raises.
        """
        return self._eachLetter("retry", ids)

    def drop(self, ids: list[int] | None) -> list[int]:
        """
        See L{FileJobs.drop}. Some may have been changed if this raises.
        """
        return self._eachLetter("drop", ids)

    def cancel(self, ids: list[int] | None) -> list[int]:
        """
        See L{FileJobs.cancel}. Jobs that are underway are cancelled if they are named.
        """
        if ids is None:
            ids = [task["id"] for task in self.all() if task["state"] == WAITING]
        known = {job["id"]: job["state"] for job in self.all()}
        for id in ids:
            if known.get(id, DEAD) == DEAD:
                what = "a dead letter, which can be dropped" if id in known else "not there"
                raise JobsError(f"job {id} is {what}")
        if ids:
            self._ask("cancel", tasks=ids)
        return ids

    def _eachLetter(self, verb: str, ids: list[int] | None) -> list[int]:
        which = {"all": True} if ids is None else {"jobs": ids}
        answer = self._ask(verb, **which)
        for id, why in answer["failed"].items():
            raise JobsError(f"job {id}: {why}")
        return list(answer["done"])

    def _ask(self, verb: str, **parameters: object) -> Any:
        return self._client.ask(verb, queue=self._queue, **parameters)


def _deadFacts(letter: Facts) -> JSONObject:
    argument = letter.get("call")
    return {**letter, "state": DEAD, "due": None, "argument": argument}


def _seenFacts(task: Facts, now: float) -> JSONObject:
    ran = task["ran"] or 0.0
    return {
        "id": task["id"],
        "state": WAITING if task["state"] == PENDING else BEGUN,
        "function": task["function"],
        "priority": task["priority"],
        "attempts": task["attempts"],
        "queued": now - task["waited"] - ran,
        "due": None if task["dueIn"] is None else now + task["dueIn"],
        "unique": None,
        "error": None,
        "argument": task.get("call"),
    }


def openJobs(path: str) -> FileJobs | OwnersJobs:
    """
    Open a store, or find the program that has it open.

    @raise JobsError: if neither can be done.
    """
    try:
        return FileJobs(path)
    except StoreLocked as error:
        owner = _owner(path)
        if owner is None:
            raise JobsError(
                f"{path} is in use by a program that cannot be asked: it needs queue.admin()"
            ) from error
        return owner
    except StoreError as error:
        raise JobsError(str(error)) from error


def _owner(path: str) -> OwnersJobs | None:
    try:
        sockets = findSockets()
    except AdminError:
        return None
    for socket in sockets:
        with suppress(AdminError), ExitStack() as opened:
            client = opened.enter_context(AdminClient(socket))
            for queue in client.ask("queues"):
                if _isSame(queue.get("store"), path):
                    opened.pop_all()
                    return OwnersJobs(client, queue["name"])
    return None


def _isSame(store: str | None, path: str) -> bool:
    with suppress(OSError):
        return store is not None and os.path.samefile(store, path)
    return False


# The command --------------------------------------------------------------------------------------


def run(
    path: str,
    action: str,
    ids: Sequence[int] = (),
    isAll: bool = False,
    state: str | None = None,
    isJSON: bool = False,
) -> Iterable[str]:
    """
    Do what C{asynqueue jobs} does.

    @param action: C{"list"}, C{"show"}, C{"export"}, C{"retry"}, C{"cancel"} or C{"drop"}.
    @param ids: the jobs that are meant.
    @param isAll: whether all are meant instead.
    @param state: of which state, for a list. Default: any.
    @return: the lines to print.
    @raise JobsError: if it cannot be done.
    """
    try:
        with closing(openJobs(path)) as jobs:
            if action == "list":
                listed = [job for job in jobs.all() if state in (None, job["state"])]
                return [json.dumps(listed, indent=1)] if isJSON else _table(listed)
            if action == "export":
                return [json.dumps(job) for job in jobs.export()]
            if action == "show":
                byID = {job["id"]: job for job in jobs.all()}
                for id in ids:
                    if id not in byID:
                        raise JobsError(f"there is no job {id}")
                shown = [byID[id] for id in ids]
                if isJSON:
                    return [json.dumps(shown, indent=1)]
                return [line for job in shown for line in _described(job)]
            if isAll == bool(ids):
                raise JobsError(f"say which jobs to {action}: their numbers, or --all")
            act = {"retry": jobs.retry, "cancel": jobs.cancel, "drop": jobs.drop}[action]
            done = act(None if isAll else [*ids])
            return [json.dumps({"done": done})] if isJSON else [f"{action}: {len(done)} jobs"]
    except (AdminError, StoreError) as error:
        raise JobsError(str(error)) from error


def _table(jobs: Sequence[Facts]) -> Iterable[str]:
    if not jobs:
        return ["no jobs"]
    now = time.time()
    header = fit("JOB", 9) + fit("STATE", 10) + fit("PRIORITY", 10) + fit("TRIED", 7)
    lines = [header + fit("AGE", 8) + "CALL"]
    for job in jobs:
        call = f"{job['function']} {shortly(job['argument']) if job['argument'] else ''}"
        line = (
            fit(str(job["id"]), 9)
            + fit(job["state"], 10)
            + fit(str(job["priority"]), 10)
            + fit(str(job["attempts"]), 7)
            + fit(length(now - job["queued"]), 8)
            + call
            + (f"  {job['error']}" if job["error"] else "")
        )
        lines.append(printable(line).rstrip())
    return lines


def _described(job: Facts) -> Iterable[str]:
    for name, value in job.items():
        text = "-" if value is None else str(value)
        if name in ("queued", "due") and value is not None:
            text = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value))
        for number, line in enumerate(text.splitlines() or [""]):
            yield f"{fit('' if number else name, 12)}{printable(line)}".rstrip()
    yield ""
