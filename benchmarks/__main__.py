"""
The command: C{python -m benchmarks}.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.measure import Measure
from benchmarks.record import LATEST, describeRounds, describeRun, save
from benchmarks.registry import MEASURES
from benchmarks.rounds import BenchmarkBroken, Rounds
from benchmarks.table import Cells, layOut, rowCells, targetText

_ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the benchmarks and print the table.

    @param arguments: the command's. Default: those of this process.
    @return: the exit status: 0, whatever was measured; 1 if a benchmark broke, or there is none of
        that name.
    """
    chosen = _makeParser().parse_args(arguments)
    measures = [measure for measure in MEASURES if _isWanted(measure, chosen.k)]
    if not measures:
        print(f"No measure's name contains {chosen.k!r}; see --list.", file=sys.stderr)
        return 1
    if chosen.list:
        listMeasures(measures)
        return 0
    return runAll(measures, 1 if chosen.quick else chosen.rounds, chosen.quick)


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


def runAll(measures: Sequence[Measure], rounds: int, isQuick: bool) -> int:
    """
    Run measures, save the record, and print the table.

    @return: the exit status.
    """
    record = {**describeRun(), "rounds": rounds, "isQuick": isQuick, "measures": {}}
    lines: list[Cells] = []
    broken: list[str] = []
    for measure in measures:
        results = Rounds(measure, isQuick, lambda text: print(text, file=sys.stderr))
        try:
            results.run(rounds)
        except BenchmarkBroken as error:
            broken.append(measure.name)
            print(f"{measure.name} broke: {error}", file=sys.stderr)
            continue
        record["measures"][measure.name] = describeRounds(measure, results)
        lines += [rowCells(row, results) for row in measure.rows]
    save({**record, "broken": broken})
    print(layOut(lines))
    print(
        f"\nMedians (least-most), by number of rounds: {rounds}. The ratio is ours to the peer's."
    )
    if isQuick:
        print("A quick run shows that the benchmarks work. Its figures are not to be relied on.")
    print(f"All figures are in {LATEST}")
    if broken:
        print(f"Broken: {', '.join(broken)}")
    return 1 if broken else 0


def _isWanted(measure: Measure, text: str) -> bool:
    return text.lower() in measure.name.lower()


def _makeParser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure asynqueue against its peers, in turn, and print the ratios. "
        "A missed target fails nothing.",
    )
    parser.add_argument("--list", action="store_true", help="say what there is to measure")
    parser.add_argument("-k", metavar="NAME", default="", help="only measures so named, in part")
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=_positive,
        default=_ROUNDS,
        help=f"how often each side has its turn ({_ROUNDS})",
    )
    parser.add_argument("--quick", action="store_true", help="one small round, to see all work")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
