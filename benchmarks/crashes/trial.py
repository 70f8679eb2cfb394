"""
One case with one contender.
"""

from __future__ import annotations

import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

from benchmarks.bounded import Teller
from benchmarks.crashes import deeds
from benchmarks.crashes.cases import CASES, Case
from benchmarks.pools import POOLS, AnyFuture, Pool

PATIENCE = 5.0
"""After how many seconds something hangs that nothing is heard of, its timeout not counted. Pebble
takes three to end a task that ignores SIGTERM."""

STANDING = 0.5
"""How many seconds the bystander runs."""

MEETING = 3.0
"""How many seconds each of two tasks waits for the other. One process alone has the first one wait
in vain."""

DEADLINE = 4 * PATIENCE + 10
"""Seconds after which a trial is over in any case, its start included."""

BEGUN, TASK, BYSTANDER, POOL = "begun", "task", "bystander", "pool"
"""The facts, in the order of their telling. The first is that all is well until then."""


def run(contender: str, case: str, folder: str) -> float:
    """
    Submit a bystander, then the terrible task, and two more to see how the pool is; tell what
    becomes of them.

    @param folder: an empty one to use.
    @return: nothing of interest.
    """
    (chosen,) = [each for each in CASES if each.label == case]
    trial = _Trial(chosen, folder)
    POOLS[contender].use(2, trial.script)
    return 0.0


class _Trial:
    def __init__(self, case: Case, folder: str) -> None:
        self._case = case
        self._folder = Path(folder)
        self._teller = Teller(folder)
        self._pool: Any = None

    def script(self, pool: Pool) -> None:
        self._pool = pool
        begin = self._meet("warm")
        if begin[0] != "works":
            raise RuntimeError(f"the pool does not even begin to work: {begin}")
        bystander = self._submit(BYSTANDER, deeds.stand, STANDING)
        self._awaitBegun(BYSTANDER)
        self._teller.tell(BEGUN, True)
        task = self._submit(
            TASK, self._case.deed, *self._case.arguments(), timeout=self._case.timeout
        )
        # The bystander has been running all the time, so it gets no extra patience.
        wait([task], timeout=PATIENCE + (self._case.timeout or 0))
        wait([bystander], timeout=2 * STANDING)
        self._teller.tell(TASK, self._taskOutcome(task))
        self._teller.tell(BYSTANDER, self._bystanderOutcome(bystander))
        self._teller.tell(POOL, self._meet("after"))

    def _submit(self, name: str, *call: Any, timeout: float | None = None) -> AnyFuture:
        path = str(self._folder / name)
        future: AnyFuture = self._pool.submit(deeds.marked, path, *call, timeout=timeout)
        return future

    def _awaitBegun(self, name: str) -> None:
        limit = time.monotonic() + PATIENCE
        while not self._begun(name):
            if time.monotonic() > limit:
                raise RuntimeError(f"the {name} did not begin")
            time.sleep(0.005)

    def _begun(self, name: str) -> int:
        """
        How often a task began.
        """
        path = self._folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    def _taskOutcome(self, task: AnyFuture) -> tuple[str, str]:
        if not task.done():
            return "hangs", ""
        error = _errorOf(task)
        if self._begun(TASK) > 1:
            return "twice", "" if error is None else _textOf(error)
        if error is None:
            return "returns", ""
        word = "own" if type(error).__name__ == self._case.ownError else "fails"
        return word, _textOf(error)

    def _bystanderOutcome(self, bystander: AnyFuture) -> tuple[str, str]:
        if not bystander.done():
            return "hangs", ""
        error = _errorOf(bystander)
        if self._begun(BYSTANDER) > 1:
            return "twice", "" if error is None else _textOf(error)
        if error is not None:
            return "lost", _textOf(error)
        return ("ok" if bystander.result() == "stood" else "wrong"), ""

    def _meet(self, name: str) -> tuple[str, str]:
        paths = [str(self._folder / f"{name}-{side}") for side in "ab"]
        meetings = [
            self._pool.submit(deeds.meet, mine, others, MEETING)
            for mine, others in (paths, paths[::-1])
        ]
        wait(meetings, timeout=PATIENCE)
        if not all(meeting.done() for meeting in meetings):
            return "hangs", ""
        errors = [_errorOf(meeting) for meeting in meetings]
        told = [_textOf(error) for error in errors if error is not None]
        if told:
            return "broken", told[0]
        return ("works" if all(meeting.result() for meeting in meetings) else "halved"), ""


def _errorOf(future: AnyFuture) -> BaseException | None:
    return future.exception(timeout=0)


def _textOf(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
