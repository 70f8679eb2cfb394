"""
The same storm over all contenders, one after the other.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.bounded import runTelling
from benchmarks.comparison import Asked, Comparison, Tell
from benchmarks.pools import OURS, POOLS, missingReason
from benchmarks.rounds import BenchmarkBroken
from benchmarks.storms import trial
from benchmarks.table import layOut

USUAL, LARGE, QUICK = (50, 5_000), (1_000, 100_000), (3, 300)
"""How many kills, over how many tasks."""

START = 60.0
"""How many seconds a contender has besides those for the tasks."""

PACE = 50.0
"""How many tasks a second it does at the least."""

COLUMNS: Final = ("done", "wrong", "failed", "failedUnbegun", "twice", "hung")
HEADER: Final = (
    "contender",
    "kills",
    "done",
    "wrong",
    "failed",
    "of these unbegun",
    "run twice",
    "hung",
    "seconds",
    "growth: files, processes, threads",
)

LEGEND: Final = """\
  unbegun    failed before its first line, in which it notes that it began
  hung       neither done nor failed, though nothing else came back for long
  growth     of what the program with the pool has, against before the storm"""


def run(asked: Asked, tell: Tell) -> tuple[dict[str, Any], str]:
    """
    See L{Comparison}.

    @raise BenchmarkBroken: if a contender tells nothing in time.
    """
    kills, tasks = QUICK if asked.isQuick else LARGE if asked.isLarge else USUAL
    names = [OURS] if asked.isLarge else list(POOLS)
    missing = {name: reason for name in names if (reason := missingReason(name))}
    outcomes = {}
    for name in names:
        if name not in missing:
            outcomes[name] = goThrough(name, kills, tasks, asked.seed)
            tell(f"storm: {name}: {outcomes[name]}")
    record = {
        "kills": kills,
        "tasks": tasks,
        "seed": asked.seed,
        "missing": missing,
        "outcomes": outcomes,
    }
    title = (
        f"{kills:,} SIGKILLs over {tasks:,} tasks of {trial.SECONDS * 1000:.0f} ms on "
        f"{trial.PROCESSES} processes, seed {asked.seed}"
    )
    lines = [_cells(name, outcome) for name, outcome in outcomes.items()]
    absent = [f"Without {name}: {reason}" for name, reason in missing.items()]
    return record, "\n".join([title, layOut(lines, HEADER), LEGEND, *absent])


def goThrough(name: str, kills: int, tasks: int, seed: int) -> dict[str, Any]:
    """
    @param name: of a contender.
    @return: what became of everything.
    @raise BenchmarkBroken: if that was not told in time.
    """
    arguments = {"contender": name, "kills": kills, "tasks": tasks, "seed": seed}
    deadline = START + tasks / PACE
    told = runTelling(trial.__name__, "run", arguments, trial.OUTCOME, deadline)
    if trial.OUTCOME not in told.facts:
        ended = f"ended with status {told.status}" if told.isEnded else f"took over {deadline} s"
        raise BenchmarkBroken(f"{name}, {kills} kills over {tasks} tasks {ended}\n{told.complaint}")
    outcome: dict[str, Any] = told.facts[trial.OUTCOME]
    return outcome


def _cells(name: str, outcome: dict[str, Any]) -> tuple[str, ...]:
    figures = [f"{outcome[column]:,}" for column in COLUMNS]
    growth = ", ".join(f"{number:+}" for number in outcome["growth"].values())
    return name, f"{outcome['kills']:,}", *figures, f"{outcome['seconds']:.1f}", growth


COMPARISON = Comparison(
    "storm",
    f"SIGKILLs under short tasks: {USUAL[0]} over {USUAL[1]:,} with {len(POOLS)} contenders; with "
    f"--large {LARGE[0]:,} over {LARGE[1]:,}, ours alone",
    run,
)
