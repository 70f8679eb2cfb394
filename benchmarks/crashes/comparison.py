"""
All cases with all contenders, side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from benchmarks.bounded import runTelling
from benchmarks.comparison import Asked, Comparison, Tell
from benchmarks.crashes import trial
from benchmarks.crashes.cases import CASES
from benchmarks.pools import OURS, POOLS, missingReason
from benchmarks.rounds import BenchmarkBroken
from benchmarks.table import layOut

AT_ONCE = 4
"""How many trials run side by side. They mostly sleep."""

QUICK = 2
"""How many cases a quick run has."""

FACTS = (trial.TASK, trial.BYSTANDER, trial.POOL)

LEGEND: Final = """\
Each cell: the task that does it, the bystander in the other process, the pool afterwards.
  task       own: fails with the error that it raised; fails: with another; returns; hangs; twice
  bystander  ok; lost: fails with an error; hangs; twice: is run again
  pool       works; halved: one of two processes works; broken: fails new tasks; hangs
  DEAD       the program that has the pool ended, all else with it"""

TOTALS: Final[tuple[tuple[str, int, set[str]], ...]] = (
    ("tasks hung", 0, {"hangs", "DEAD"}),
    ("bystanders lost", 1, {"lost", "hangs", "twice", "wrong", "DEAD"}),
    ("pools lost or halved", 2, {"broken", "hangs", "halved", "DEAD"}),
)

Words = tuple[str, str, str]
Cell = dict[str, Any]


def run(asked: Asked, tell: Tell) -> tuple[dict[str, Any], str]:
    """
    See L{Comparison}.

    @raise BenchmarkBroken: if a pool does not even begin to work.
    """
    cases = [case.label for case in CASES][: QUICK if asked.isQuick else None]
    missing = {name: reason for name in POOLS if (reason := missingReason(name))}
    names = [name for name in POOLS if name not in missing]
    pairs = [(label, name) for label in cases for name in names]

    def tryPair(pair: tuple[str, str]) -> Cell:
        cell = tryCase(*pair)
        tell(f"{pair[0]}: {pair[1]}: {' '.join(cell['words'])}")
        return cell

    with ThreadPoolExecutor(AT_ONCE) as executor:
        cells = dict(zip(pairs, executor.map(tryPair, pairs), strict=True))
    record = {
        "missing": missing,
        "cases": {label: {name: cells[label, name] for name in names} for label in cases},
        "totals": {name: _totals([cells[label, name] for label in cases]) for name in names},
    }
    return record, _text(record, names)


def tryCase(label: str, name: str) -> Cell:
    """
    @param label: of a case.
    @param name: of a contender.
    @return: the C{words}, and what errors C{said}.
    @raise BenchmarkBroken: if the pool does not even begin to work.
    """
    arguments = {"contender": name, "case": label}
    told = runTelling(trial.__name__, "run", arguments, trial.POOL, trial.DEADLINE)
    if trial.BEGUN not in told.facts:
        raise BenchmarkBroken(f"{name}, {label}: {told.complaint}")
    rest = "DEAD" if told.isEnded else "hangs"
    words, said = zip(*(told.facts.get(fact, (rest, "")) for fact in FACTS), strict=True)
    return {"words": words, "said": said, "status": told.status}


def _totals(cells: list[Cell]) -> dict[str, int]:
    totals = {
        title: sum(cell["words"][place] in wrong for cell in cells)
        for title, place, wrong in TOTALS
    }
    return {**totals, "all well": sum(isWell(cell["words"]) for cell in cells)}


def isWell(words: Words) -> bool:
    """
    @return: whether the fault hurt the task itself only, and the caller heard of the task's end.
    """
    return not any(words[place] in wrong for _, place, wrong in TOTALS) and words[0] != "twice"


def _text(record: Mapping[str, Any], names: list[str]) -> str:
    lines = [
        (label, *(" ".join(cells[name]["words"]) for name in names))
        for label, cells in record["cases"].items()
    ]
    titles = list(record["totals"][OURS])
    of = len(record["cases"])
    lines += [
        (f"{title}, of {of}", *(str(record["totals"][name][title]) for name in names))
        for title in titles
    ]
    absent = [f"Without {name}: {reason}" for name, reason in record["missing"].items()]
    return "\n".join([layOut(lines, ("case", *names)), LEGEND, *absent])


COMPARISON = Comparison(
    "crashes",
    f"{len(CASES)} crashes, each beside a healthy bystander, with {len(POOLS)} contenders",
    run,
)
