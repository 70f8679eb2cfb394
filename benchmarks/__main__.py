"""
The command: C{python -m benchmarks}.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from random import SystemRandom
from typing import Any

from benchmarks import page
from benchmarks.comparison import Asked, Comparison
from benchmarks.measure import Measure
from benchmarks.record import (
    LATEST,
    describeRounds,
    describeRun,
    loadLatest,
    save,
    withMeasuredAgain,
)
from benchmarks.registry import COMPARISONS, MEASURES
from benchmarks.rounds import BenchmarkBroken, Rounds
from benchmarks.table import Cells, layOut, rowCells, targetText

_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the benchmarks and print the tables.

    @param arguments: the command's. Default: those of this process.
    @return: the exit status: 0, whatever was measured; 1 if a benchmark broke, or there is none of
        that name.
    """
    chosen = _makeParser().parse_args(arguments)
    measures = [measure for measure in MEASURES if _isWanted(measure.name, chosen.k)]
    comparisons = [each for each in COMPARISONS if _isWanted(each.name, chosen.k)]
    if not measures and not comparisons:
        print(f"Nothing has a name that contains {chosen.k!r}; see --list.", file=sys.stderr)
        return 1
    if chosen.list:
        listMeasures(measures)
        listComparisons(comparisons)
        return 0
    run = Run(Asked(chosen.quick, chosen.large, chosen.seed))
    run.measure(measures, 1 if chosen.quick else chosen.rounds)
    run.compare(comparisons)
    isPart = bool(chosen.k or chosen.quick or chosen.large)
    return run.end(isWhole=not isPart, isAgain=chosen.again)


def listMeasures(measures: Sequence[Measure]) -> None:
    """
    Print the measures' names and rows.
    """
    for measure in measures:
        print(measure.name)
        for row in measure.rows:
            against = "" if row.peer is None else f", against {row.peer.name}"
            target = targetText(row.target, row.unit)
            print(f"    {row.label}{against}{target and f': {target}'}")


def listComparisons(comparisons: Sequence[Comparison]) -> None:
    """
    Print the comparisons' names, and what each is about.
    """
    for comparison in comparisons:
        print(f"{comparison.name}\n    {comparison.about}")


class Run:
    """
    One run of the command: prints what it finds, and keeps it for the record.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._broken: list[str] = []
        self._record: dict[str, Any] = {
            **describeRun(),
            "isQuick": asked.isQuick,
            "measures": {},
            "comparisons": {},
        }

    def measure(self, measures: Sequence[Measure], rounds: int) -> None:
        """
        Make measurements, and print their table.

        @param rounds: how often each contender has its turn.
        """
        self._record["rounds"] = rounds
        lines: list[Cells] = []
        for measure in measures:
            results = Rounds(measure, self._asked.isQuick, _tell)
            try:
                results.run(rounds)
            except BenchmarkBroken as error:
                self._break(measure.name, error)
                continue
            self._record["measures"][measure.name] = describeRounds(measure, results)
            lines += [rowCells(row, results) for row in measure.rows]
        if measures:
            print(layOut(lines))
            print(f"\nMedians (least-most), by number of rounds: {rounds}.", end=" ")
            print("The ratio is ours to the peer's.")

    def compare(self, comparisons: Sequence[Comparison]) -> None:
        """
        Make comparisons, and print their tables.
        """
        for comparison in comparisons:
            try:
                record, text = comparison.run(self._asked, _tell)
            except BenchmarkBroken as error:
                self._break(comparison.name, error)
                continue
            self._record["comparisons"][comparison.name] = record
            print(f"\n{text}")

    def _break(self, name: str, error: BenchmarkBroken) -> None:
        self._broken.append(name)
        print(f"{name} broke: {error}", file=sys.stderr)

    def end(self, isWhole: bool, isAgain: bool) -> int:
        """
        Save the record.

        @param isWhole: whether everything was measured. The documentation then gets the figures.
        @param isAgain: whether the figures replace those in the record of the latest run.
        @return: the exit status.
        """
        record = {**self._record, "broken": self._broken}
        if isAgain:
            record = withMeasuredAgain(loadLatest(), record, [each.name for each in MEASURES])
        save(record)
        if isWhole or isAgain:
            page.write(record)
            print(f"\n{page.FIGURES}, {page.PLOT} and {page.RELIABILITY} have these figures now.")
        if self._asked.isQuick:
            print("A quick run shows that the benchmarks work. It is not to be relied on.")
        print(f"\nAll is in {LATEST}")
        if self._broken:
            print(f"Broken: {', '.join(self._broken)}")
        return 1 if self._broken else 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _isWanted(name: str, text: str) -> bool:
    return text.lower() in name.lower()


def _makeParser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure asynqueue against its peers, in turn, and print the ratios. "
        "A missed target fails nothing.",
    )
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("-k", metavar="NAME", default="", help="only what is so named, in part")
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=_positive,
        default=_ROUNDS,
        help=f"how often each side has its turn ({_ROUNDS})",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="put the figures into the record of the latest run, and into the documentation, "
        "which says so",
    )
    parser.add_argument("--quick", action="store_true", help="one small round, to see all work")
    parser.add_argument("--large", action="store_true", help="the storm at its largest, ours alone")
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=SystemRandom().randrange(1 << 32),
        help="what the storm's chance begins with (any; it is printed)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
